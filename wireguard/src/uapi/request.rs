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
#[allow(clippy::large_enum_variant)] // one for each client
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
        "other_private_key" => {
            let bytes = field.secret("other_private_key")?;
            let key = (*bytes != [0; KEY_LEN]).then(|| PrivateKey::new(*bytes));
            let slot = &mut request.other_private_key;
            once(slot, key, field, "other_private_key")
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
        "other_preshared_key" => {
            let key = field.optional_secret("other_preshared_key")?;
            let key = key.map(|bytes| PresharedKey::new(*bytes));
            let slot = &mut change.other_preshared_key;
            once(slot, key, field, "other_preshared_key")
        }
        "other_public_key" => {
            let bytes = field.secret("other_public_key")?;
            let key = (*bytes != [0; KEY_LEN]).then(|| PublicKey::new(*bytes));
            once(&mut change.other_public_key, key, field, "other_public_key")
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
    let mut out = Zeroizing::new(String::with_capacity(384 + room));
    put(&mut out, "set", 1);
    if let Some(key) = &request.private_key {
        let none = [0; KEY_LEN];
        put_secret(
            &mut out,
            "private_key",
            key.as_ref().map_or(&none, PrivateKey::expose),
        );
    }
    if let Some(key) = &request.other_private_key {
        let key = key.as_ref().map_or(&[0; KEY_LEN], PrivateKey::expose);
        put_secret(&mut out, "other_private_key", key);
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
    match &change.other_preshared_key {
        Some(Some(key)) => put_secret(out, "other_preshared_key", key.expose()),
        Some(None) => put(out, "other_preshared_key", ""),
        None => {}
    }
    if let Some(key) = &change.other_public_key {
        let key = key.as_ref().map_or(&[0; KEY_LEN], PublicKey::as_bytes);
        put_secret(out, "other_public_key", key);
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
mod tests;
