//! Answers: the state of a device, and always an error number; an empty line ends them.

use std::time::Duration;

use zeroize::Zeroizing;

use super::fields::{Field, put, put_secret};
use super::{MAX_LINES, UapiError};
use crate::control::{AllowedIpChange, DeviceState, PeerState};
use crate::keys::{KEY_LEN, PresharedKey, PrivateKey, PublicKey};

/// What a device answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Response {
    /// Its state, when that was asked for.
    pub state: DeviceState,
    /// 0, or why not.
    pub errno: i32,
}

/// Takes the lines of one answer.
#[derive(Debug, Default)]
pub struct ResponseParser {
    lines: usize,
    state: DeviceState,
    peer: Option<(PublicKey, PeerState)>,
    errno: Option<i32>,
}

impl ResponseParser {
    /// Takes a line without its end; the answer when this was its last line.
    ///
    /// # Errors
    /// When the line is not of the protocol, or too many came.
    pub fn line(&mut self, text: &str) -> Result<Option<Response>, UapiError> {
        self.lines += 1;
        if self.lines > MAX_LINES {
            return Err(UapiError::TooLong(self.lines));
        }
        if text.is_empty() {
            let errno = self.errno.take().ok_or(UapiError::Syntax(self.lines))?;
            self.end_peer();
            let state = std::mem::take(self).state;
            return Ok(Some(Response { state, errno }));
        }
        let field = Field::parse(self.lines, text)?;
        if self.errno.is_some() {
            return Err(field.unknown());
        }
        match field.key {
            "errno" => self.errno = Some(field.errno()?),
            "public_key" => {
                self.end_peer();
                let key = PublicKey::new(*field.secret("public_key")?);
                if self.state.peers.contains_key(&key) {
                    let (line, key) = (self.lines, "public_key");
                    return Err(UapiError::Order { line, key });
                }
                self.peer = Some((key, PeerState::default()));
            }
            _ => match &mut self.peer {
                Some((_, peer)) => peer_field(peer, &field)?,
                None => device_field(&mut self.state, &field)?,
            },
        }
        Ok(None)
    }

    fn end_peer(&mut self) {
        self.state.peers.extend(self.peer.take());
    }
}

fn device_field(state: &mut DeviceState, field: &Field<'_>) -> Result<(), UapiError> {
    match field.key {
        "private_key" => {
            let bytes = field.secret("private_key")?;
            state.private_key = (*bytes != [0; KEY_LEN]).then(|| PrivateKey::new(*bytes));
        }
        "other_private_key" => {
            state.other_private_key = Some(PrivateKey::new(*field.secret("other_private_key")?));
        }
        "listen_port" => state.listen_port = field.number("listen_port")?,
        "fwmark" => state.fwmark = field.number("fwmark")?,
        _ => return Err(field.unknown()),
    }
    Ok(())
}

fn peer_field(peer: &mut PeerState, field: &Field<'_>) -> Result<(), UapiError> {
    match field.key {
        "preshared_key" => {
            let bytes = field.secret("preshared_key")?;
            peer.preshared_key = (*bytes != [0; KEY_LEN]).then(|| PresharedKey::new(*bytes));
        }
        "other_preshared_key" => {
            let bytes = field.secret("other_preshared_key")?;
            peer.other_preshared_key = Some(PresharedKey::new(*bytes));
        }
        "other_public_key" => {
            peer.other_public_key = Some(PublicKey::new(*field.secret("other_public_key")?));
        }
        "protocol_version" => field.version()?,
        "endpoint" => peer.endpoint = Some(field.endpoint()?),
        "last_handshake_time_sec" => {
            let nanos = peer.last_handshake.unwrap_or_default().subsec_nanos();
            set_time(
                peer,
                Duration::new(field.number("last_handshake_time_sec")?, nanos),
            );
        }
        "last_handshake_time_nsec" => {
            let key = "last_handshake_time_nsec";
            let nanos: u32 = field.number(key)?;
            if nanos >= 1_000_000_000 {
                return Err(field.wrong(key, "less than a second"));
            }
            let secs = peer.last_handshake.unwrap_or_default().as_secs();
            set_time(peer, Duration::new(secs, nanos));
        }
        "rx_bytes" => peer.received_bytes = field.number("rx_bytes")?,
        "tx_bytes" => peer.sent_bytes = field.number("tx_bytes")?,
        "persistent_keepalive_interval" => {
            peer.persistent_keepalive = field.number("persistent_keepalive_interval")?;
        }
        "allowed_ip" => match field.allowed_ip()? {
            AllowedIpChange::Add(prefix) => {
                peer.allowed_ips.insert(prefix);
            }
            AllowedIpChange::Remove(_) => return Err(field.wrong("allowed_ip", "ADDRESS/LENGTH")),
        },
        _ => return Err(field.unknown()),
    }
    Ok(())
}

/// No handshake yet is written as one in 1970.
fn set_time(peer: &mut PeerState, time: Duration) {
    peer.last_handshake = (!time.is_zero()).then_some(time);
}

/// The answer to `get`.
pub fn render_state(state: &DeviceState) -> Zeroizing<String> {
    // With enough room from the start, nothing is copied to another place and left behind.
    let prefixes: usize = state.peers.values().map(|p| p.allowed_ips.len()).sum();
    let room = 384 + 768 * state.peers.len() + 64 * prefixes;
    let mut out = Zeroizing::new(String::with_capacity(room));
    if let Some(key) = &state.private_key {
        put_secret(&mut out, "private_key", key.expose());
    }
    // wg(8) passes over what it does not know.
    if let Some(key) = &state.other_private_key {
        put_secret(&mut out, "other_private_key", key.expose());
    }
    if state.listen_port != 0 {
        put(&mut out, "listen_port", state.listen_port);
    }
    if state.fwmark != 0 {
        put(&mut out, "fwmark", state.fwmark);
    }
    for (key, peer) in &state.peers {
        render_peer(&mut out, key, peer);
    }
    out.push_str("errno=0\n\n");
    debug_assert!(out.len() <= room);
    out
}

fn render_peer(out: &mut String, key: &PublicKey, peer: &PeerState) {
    put_secret(out, "public_key", key.as_bytes());
    let none = [0; KEY_LEN];
    let preshared_key = peer
        .preshared_key
        .as_ref()
        .map_or(&none, PresharedKey::expose);
    put_secret(out, "preshared_key", preshared_key);
    if let Some(other) = &peer.other_preshared_key {
        put_secret(out, "other_preshared_key", other.expose());
    }
    if let Some(other) = &peer.other_public_key {
        put_secret(out, "other_public_key", other.as_bytes());
    }
    put(out, "protocol_version", 1);
    if let Some(endpoint) = peer.endpoint {
        put(out, "endpoint", endpoint);
    }
    let last = peer.last_handshake.unwrap_or_default();
    put(out, "last_handshake_time_sec", last.as_secs());
    put(out, "last_handshake_time_nsec", last.subsec_nanos());
    put(out, "tx_bytes", peer.sent_bytes);
    put(out, "rx_bytes", peer.received_bytes);
    put(
        out,
        "persistent_keepalive_interval",
        peer.persistent_keepalive,
    );
    for prefix in &peer.allowed_ips {
        put(out, "allowed_ip", prefix);
    }
}

/// The answer to `set`, or to a `get` that failed. `errno`: 0 or positive; it is written negative, as
/// `wg` wants it.
pub fn render_status(errno: i32) -> String {
    format!("errno={}\n\n", -errno.saturating_abs())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::testing::{naive, requests};

    fn parse(text: &str) -> Result<Option<Response>, UapiError> {
        let mut parser = ResponseParser::default();
        for line in text.lines() {
            if let Some(response) = parser.line(line)? {
                return Ok(Some(response));
            }
        }
        Ok(None)
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(
            request in requests::request(), bytes: u64, time in (0u64..1 << 40, 0u32..1_000_000_000),
        ) {
            let mut state = DeviceState::default();
            naive::apply(&mut state, &request, &mut |_| {});
            for peer in state.peers.values_mut() {
                (peer.received_bytes, peer.sent_bytes) = (bytes, !bytes);
                set_time(peer, Duration::new(time.0, time.1));
            }
            let response = parse(&render_state(&state)).unwrap();
            prop_assert_eq!(response, Some(Response { state, errno: 0 }));
        }

        #[test]
        fn any_text_is_read_or_refused(text in "(errno|public_key|allowed_ip|[a-z_]{1,9})=[0-9a-f/.:]{0,66}\n|\n") {
            let _ = parse(&text);
        }
    }

    #[test]
    fn an_answer_has_an_error_number_and_nothing_behind_it() {
        let answer = |text: &str| parse(text).map(|r| r.map(|r| r.errno));
        assert_eq!(answer("errno=0\n\n").unwrap(), Some(0));
        // As `wg` expects it, and as others write it.
        assert_eq!(answer(&render_status(22)).unwrap(), Some(22));
        assert_eq!(answer("errno=22\n\n").unwrap(), Some(22));
        assert_eq!(answer("fwmark=1\n").unwrap(), None);
        for bad in [
            "\n",
            "errno=0\nfwmark=1\n\n",
            "errno=--1\n\n",
            "fwmark=1\n\n",
            "rx_bytes=1\n",
        ] {
            assert!(parse(bad).is_err(), "{bad:?}");
        }
    }
}
