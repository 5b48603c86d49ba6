//! Requests: `get=1`, or `set=1` with what to change; an empty line ends either.

use zeroize::Zeroizing;

use super::fields::{Field, put, put_secret};
use super::{MAX_LINES, UapiError};
use crate::control::{AllowedIpChange, PeerChange, PeerRequest, SetRequest};
use crate::keys::{KEY_LEN, PresharedKey, PrivateKey, PublicKey};

/// What a client asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Request {
    /// The state of the device.
    Get,
    /// Changes.
    Set(SetRequest),
}

/// Takes the lines of requests. After an error it is of no more use: where the next request begins is
/// not known.
#[derive(Debug, Default)]
pub struct RequestParser {
    lines: usize,
    reading: Option<Reading>,
}

#[derive(Debug)]
enum Reading {
    Get,
    Set(SetRequest, Option<Draft>),
}

/// The peer whose lines are being read.
#[derive(Debug)]
enum Draft {
    Set(PeerChange),
    Remove(PublicKey),
}

impl RequestParser {
    /// Takes a line without its end; a request when this was its last line.
    ///
    /// # Errors
    /// When the line is not of the protocol, or too many came.
    pub fn line(&mut self, text: &str) -> Result<Option<Request>, UapiError> {
        self.lines += 1;
        if self.lines > MAX_LINES {
            return Err(UapiError::TooLong(self.lines));
        }
        match (&mut self.reading, text) {
            (None, "get=1") => self.reading = Some(Reading::Get),
            (None, "set=1") => self.reading = Some(Reading::Set(SetRequest::default(), None)),
            (None, _) => return Err(UapiError::Operation),
            (Some(_), "") => return Ok(self.finish()),
            (Some(reading), _) => reading.field(&Field::parse(self.lines, text)?)?,
        }
        Ok(None)
    }

    /// Whether a request has begun and not ended.
    pub fn is_within(&self) -> bool {
        self.reading.is_some()
    }

    fn finish(&mut self) -> Option<Request> {
        self.lines = 0;
        match self.reading.take()? {
            Reading::Get => Some(Request::Get),
            Reading::Set(mut request, draft) => {
                request.peers.extend(draft.map(Draft::finish));
                Some(Request::Set(request))
            }
        }
    }
}

impl Draft {
    fn finish(self) -> PeerRequest {
        match self {
            Draft::Set(change) => PeerRequest::Set(change),
            Draft::Remove(key) => PeerRequest::Remove(key),
        }
    }

    fn field(&mut self, field: &Field<'_>) -> Result<(), UapiError> {
        match self {
            // Nothing more can be said of a peer that goes.
            Draft::Remove(_) => Err(field.unknown()),
            Draft::Set(change) if field.key == "remove" => {
                field.on("remove")?;
                // Only what is there can go, so this one may precede.
                change.update_only = false;
                if !change.changes_nothing() {
                    return Err(late(field, "remove"));
                }
                *self = Draft::Remove(change.public_key);
                Ok(())
            }
            Draft::Set(change) => peer_field(change, field),
        }
    }
}

impl Reading {
    fn field(&mut self, field: &Field<'_>) -> Result<(), UapiError> {
        let Reading::Set(request, draft) = self else {
            return Err(field.unknown());
        };
        if field.key == "public_key" {
            let key = PublicKey::new(*field.secret("public_key")?);
            let new = Draft::Set(PeerChange::new(key));
            request.peers.extend(draft.replace(new).map(Draft::finish));
            return Ok(());
        }
        match draft {
            Some(draft) => draft.field(field),
            None => device_field(request, field),
        }
    }
}

fn device_field(request: &mut SetRequest, field: &Field<'_>) -> Result<(), UapiError> {
    match field.key {
        "private_key" => {
            let bytes = field.secret("private_key")?;
            let key = (*bytes != [0; KEY_LEN]).then(|| PrivateKey::new(*bytes));
            once(&mut request.private_key, key, field, "private_key")
        }
        "listen_port" => {
            let port = field.number("listen_port")?;
            once(&mut request.listen_port, port, field, "listen_port")
        }
        "fwmark" => once(
            &mut request.fwmark,
            field.number("fwmark")?,
            field,
            "fwmark",
        ),
        "replace_peers" => {
            field.on("replace_peers")?;
            switch(&mut request.replace_peers, field, "replace_peers")
        }
        _ => Err(field.unknown()),
    }
}

fn peer_field(change: &mut PeerChange, field: &Field<'_>) -> Result<(), UapiError> {
    match field.key {
        "preshared_key" => {
            let bytes = field.secret("preshared_key")?;
            let key = (*bytes != [0; KEY_LEN]).then(|| PresharedKey::new(*bytes));
            once(&mut change.preshared_key, key, field, "preshared_key")
        }
        "endpoint" => once(&mut change.endpoint, field.endpoint()?, field, "endpoint"),
        "persistent_keepalive_interval" => {
            let key = "persistent_keepalive_interval";
            once(
                &mut change.persistent_keepalive,
                field.number(key)?,
                field,
                key,
            )
        }
        "update_only" => {
            field.on("update_only")?;
            switch(&mut change.update_only, field, "update_only")
        }
        "replace_allowed_ips" => {
            field.on("replace_allowed_ips")?;
            if !change.allowed_ips.is_empty() {
                return Err(late(field, "replace_allowed_ips"));
            }
            switch(
                &mut change.replace_allowed_ips,
                field,
                "replace_allowed_ips",
            )
        }
        "allowed_ip" => {
            change.allowed_ips.push(field.allowed_ip()?);
            Ok(())
        }
        "protocol_version" => field.version(),
        _ => Err(field.unknown()),
    }
}

fn once<T>(
    slot: &mut Option<T>,
    value: T,
    field: &Field<'_>,
    key: &'static str,
) -> Result<(), UapiError> {
    match slot.replace(value) {
        None => Ok(()),
        Some(_) => Err(late(field, key)),
    }
}

fn switch(slot: &mut bool, field: &Field<'_>, key: &'static str) -> Result<(), UapiError> {
    match std::mem::replace(slot, true) {
        false => Ok(()),
        true => Err(late(field, key)),
    }
}

fn late(field: &Field<'_>, key: &'static str) -> UapiError {
    let line = field.line;
    UapiError::Order { line, key }
}

/// The text of a request.
pub fn render_request(request: &Request) -> Zeroizing<String> {
    let Request::Set(request) = request else {
        return Zeroizing::new("get=1\n\n".to_owned());
    };
    // With enough room from the start, nothing is copied to another place and left behind.
    let room: usize = request.peers.iter().map(room_for).sum();
    let mut out = Zeroizing::new(String::with_capacity(256 + room));
    put(&mut out, "set", 1);
    if let Some(key) = &request.private_key {
        let none = [0; KEY_LEN];
        put_secret(
            &mut out,
            "private_key",
            key.as_ref().map_or(&none, PrivateKey::expose),
        );
    }
    if let Some(port) = request.listen_port {
        put(&mut out, "listen_port", port);
    }
    if let Some(fwmark) = request.fwmark {
        put(&mut out, "fwmark", fwmark);
    }
    if request.replace_peers {
        put(&mut out, "replace_peers", true);
    }
    for peer in &request.peers {
        match peer {
            PeerRequest::Set(change) => render_peer(&mut out, change),
            PeerRequest::Remove(key) => {
                put_secret(&mut out, "public_key", key.as_bytes());
                put(&mut out, "remove", true);
            }
        }
    }
    out.push('\n');
    out
}

fn room_for(peer: &PeerRequest) -> usize {
    match peer {
        PeerRequest::Set(change) => 512 + 64 * change.allowed_ips.len(),
        PeerRequest::Remove(_) => 128,
    }
}

fn render_peer(out: &mut String, change: &PeerChange) {
    put_secret(out, "public_key", change.public_key.as_bytes());
    if change.update_only {
        put(out, "update_only", true);
    }
    if let Some(key) = &change.preshared_key {
        let none = [0; KEY_LEN];
        put_secret(
            out,
            "preshared_key",
            key.as_ref().map_or(&none, PresharedKey::expose),
        );
    }
    if let Some(endpoint) = change.endpoint {
        put(out, "endpoint", endpoint);
    }
    if let Some(seconds) = change.persistent_keepalive {
        put(out, "persistent_keepalive_interval", seconds);
    }
    if change.replace_allowed_ips {
        put(out, "replace_allowed_ips", true);
    }
    for change in &change.allowed_ips {
        match change {
            AllowedIpChange::Add(prefix) => put(out, "allowed_ip", prefix),
            AllowedIpChange::Remove(prefix) => put(out, "allowed_ip", format_args!("-{prefix}")),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::testing::{Seeded, requests};

    fn parse(text: &str) -> Result<Option<Request>, UapiError> {
        let mut parser = RequestParser::default();
        for line in text.lines() {
            if let Some(request) = parser.line(line)? {
                return Ok(Some(request));
            }
        }
        Ok(None)
    }

    fn hex(n: u8) -> String {
        format!("{n:02x}").repeat(32)
    }

    /// The example of the public page, with a peer that goes.
    #[test]
    fn what_wg_writes_is_read() {
        let (own, a, b, psk) = (hex(1), hex(2), hex(3), hex(4));
        let text = format!(
            "set=1\nprivate_key={own}\nfwmark=0\nlisten_port=12912\nreplace_peers=true\n\
             public_key={a}\npreshared_key={psk}\nreplace_allowed_ips=true\n\
             allowed_ip=192.168.4.4/32\nendpoint=[abcd:23::33%2]:51820\nprotocol_version=1\n\
             public_key={b}\nremove=true\n\n"
        );
        let Ok(Some(Request::Set(request))) = parse(&text) else {
            panic!("not read")
        };
        let key = |n| PublicKey::new([n; 32]);
        assert_eq!(
            (request.fwmark, request.listen_port),
            (Some(0), Some(12912))
        );
        assert!(request.replace_peers);
        let [PeerRequest::Set(change), PeerRequest::Remove(gone)] = &request.peers[..] else {
            panic!("{request:?}")
        };
        assert_eq!((change.public_key, *gone), (key(2), key(3)));
        assert_eq!(
            change.endpoint,
            Some("[abcd:23::33%2]:51820".parse().unwrap())
        );
        assert_eq!(change.preshared_key, Some(Some(PresharedKey::new([4; 32]))));
        assert_eq!(
            change.allowed_ips,
            [AllowedIpChange::Add("192.168.4.4/32".parse().unwrap())]
        );
    }

    #[test]
    fn what_is_not_the_protocol_is_refused_without_showing_secrets() {
        let (a, secret) = (hex(2), hex(0xab));
        let long = format!("{secret}0");
        for (bad, part) in [
            ("get=2\n\n".to_owned(), "get=1 or set=1"),
            ("get=1\nfwmark=1\n\n".to_owned(), "\"fwmark\" is not known"),
            (format!("set=1\n{secret}\n\n"), "line 2: write key=value"),
            (format!("set=1\n{secret}=\n\n"), "line 2: write key=value"),
            (
                format!("set=1\nprivate_key={long}\n\n"),
                "line 2: the value of private_key",
            ),
            (
                format!("set=1\nprivate_key={secret}\nprivate_key={secret}\n"),
                "line 3: private_key",
            ),
            ("set=1\nfwmark=0x10\n".to_owned(), "the value of fwmark"),
            (
                "set=1\nendpoint=1.2.3.4:5\n".to_owned(),
                "\"endpoint\" is not known",
            ),
            (
                format!("set=1\npublic_key={a}\nlisten_port=1\n"),
                "\"listen_port\"",
            ),
            (
                format!("set=1\npublic_key={a}\nremove=false\n"),
                "the value of remove",
            ),
            (
                format!("set=1\npublic_key={a}\nremove=true\nendpoint=1.2.3.4:5\n"),
                "\"endpoint\"",
            ),
            (
                format!("set=1\npublic_key={a}\nendpoint=1.2.3.4:5\nremove=true\n"),
                "remove",
            ),
            (
                format!("set=1\npublic_key={a}\nallowed_ip=::/0\nreplace_allowed_ips=true\n"),
                "late",
            ),
            (
                format!("set=1\npublic_key={a}\nprotocol_version=2\n"),
                "write 1",
            ),
            (
                format!("set=1\npublic_key={a}\npreshared_key={}\n", &secret[1..]),
                "preshared_key",
            ),
        ] {
            let error = parse(&bad).expect_err(&bad).to_string();
            assert!(error.contains(part), "{bad}: {error}");
            assert!(!error.contains("abab"), "{error}");
        }
    }

    #[test]
    fn a_request_is_bounded() {
        let mut parser = RequestParser::default();
        parser.line("set=1").unwrap();
        parser.line(&format!("public_key={}", hex(2))).unwrap();
        let error = (0..=MAX_LINES).find_map(|_| parser.line("allowed_ip=::/0").err());
        assert!(matches!(error, Some(UapiError::TooLong(n)) if n == MAX_LINES + 1));
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(requests in prop::collection::vec(requests::request(), 1..4)) {
            let mut parser = RequestParser::default();
            for request in requests {
                let request = Request::Set(request);
                let text = render_request(&request);
                let (mut lines, mut read) = (text.lines(), None);
                while let (None, Some(line)) = (&read, lines.next()) {
                    read = parser.line(line).unwrap();
                }
                prop_assert_eq!(read, Some(request));
                prop_assert_eq!(lines.next(), None);
                prop_assert!(!parser.is_within());
            }
        }
    }

    /// Cut, flipped, doubled and swapped text: no panic, and what is accepted survives being written.
    #[test]
    #[allow(clippy::cast_possible_truncation)] // smaller than a length
    fn mutations_are_survived() {
        let mut rng = Seeded::new(7);
        let key = PublicKey::new([2; 32]);
        let mut change = PeerChange::new(key);
        change.endpoint = Some("[fe80::1%3]:51820".parse().unwrap());
        change.preshared_key = Some(Some(PresharedKey::new([4; 32])));
        change.persistent_keepalive = Some(25);
        change.allowed_ips = vec![
            AllowedIpChange::Add("10.0.0.0/26".parse().unwrap()),
            AllowedIpChange::Remove("fd00::/122".parse().unwrap()),
        ];
        let request = SetRequest {
            private_key: Some(Some(PrivateKey::new([1; 32]))),
            listen_port: Some(51820),
            fwmark: Some(7),
            replace_peers: true,
            peers: vec![PeerRequest::Set(change), PeerRequest::Remove(key)],
        };
        let specimen = render_request(&Request::Set(request)).as_bytes().to_vec();
        let mut accepted = 0;
        for _ in 0..20_000 {
            let mut bytes = specimen.clone();
            for _ in 0..=rng.next() % 3 {
                let pick = |rng: &mut Seeded, n: usize| (rng.next() % n.max(1) as u64) as usize;
                let at = pick(&mut rng, bytes.len());
                match rng.next() % 4 {
                    0 => bytes.truncate(at),
                    1 => bytes[at] ^= 1 << pick(&mut rng, 7),
                    2 => bytes.insert(at, b"=\n-/:0atrue"[pick(&mut rng, 11)]),
                    _ => {
                        // A line in another place.
                        let mut lines: Vec<&[u8]> = bytes.split(|b| *b == b'\n').collect();
                        let (a, b) = (pick(&mut rng, lines.len()), pick(&mut rng, lines.len()));
                        lines.swap(a, b);
                        bytes = lines.join(&b'\n');
                    }
                }
                if bytes.is_empty() {
                    break;
                }
            }
            let text = String::from_utf8_lossy(&bytes);
            if let Ok(Some(request)) = parse(&text) {
                accepted += 1;
                assert_eq!(
                    parse(&render_request(&request)).unwrap(),
                    Some(request),
                    "{text}"
                );
            }
        }
        assert!(
            accepted > 100,
            "{accepted}: the mutations are too wild to test anything"
        );
    }
}
