//! Finding messages in a stream (RFC 4271 §4.1, §6.1).

use bytes::Bytes;

use super::{HEADER_LEN, MAX_LEN, Notification, Reader, notification};

/// What a message is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum MessageType {
    /// OPEN.
    Open,
    /// UPDATE.
    Update,
    /// NOTIFICATION.
    Notification,
    /// KEEPALIVE.
    Keepalive,
    /// ROUTE-REFRESH.
    RouteRefresh,
}

impl MessageType {
    /// Its number.
    pub fn to_u8(self) -> u8 {
        match self {
            MessageType::Open => 1,
            MessageType::Update => 2,
            MessageType::Notification => 3,
            MessageType::Keepalive => 4,
            MessageType::RouteRefresh => 5,
        }
    }

    fn from_u8(value: u8) -> Option<MessageType> {
        Some(match value {
            1 => MessageType::Open,
            2 => MessageType::Update,
            3 => MessageType::Notification,
            4 => MessageType::Keepalive,
            5 => MessageType::RouteRefresh,
            _ => return None,
        })
    }

    /// Shortest message of this type, header included.
    fn min_len(self) -> usize {
        match self {
            MessageType::Open => 29,
            MessageType::Update | MessageType::RouteRefresh => 23,
            MessageType::Notification => 21,
            MessageType::Keepalive => HEADER_LEN,
        }
    }
}

/// One message of a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Frame<'a> {
    /// What it is.
    pub kind: MessageType,
    /// What follows the header.
    pub body: &'a [u8],
    /// Bytes of the stream that it takes, header included.
    pub len: usize,
}

fn header_error(subcode: u8, data: &[u8]) -> Notification {
    Notification::new(notification::HEADER, subcode, Bytes::copy_from_slice(data))
}

/// The first message of `stream`, or `None` when more bytes are needed. `max_len` is
/// [`super::Context::max_len`].
///
/// # Errors
///
/// The NOTIFICATION that ends the session: what follows a broken header cannot be found.
pub fn next(stream: &[u8], max_len: usize) -> Result<Option<Frame<'_>>, Notification> {
    let mut reader = Reader(stream);
    let Some(marker) = reader.array::<16>() else {
        // A stranger is told early: sixteen bytes may never come.
        return match stream.iter().all(|b| *b == 0xff) {
            true => Ok(None),
            false => Err(header_error(1, &[])),
        };
    };
    if marker != [0xff; 16] {
        return Err(header_error(1, &[]));
    }
    let (Some(len_field), Some(kind)) = (reader.u16(), reader.u8()) else {
        return Ok(None);
    };
    let len = usize::from(len_field);
    let bad_len = || header_error(2, &len_field.to_be_bytes());
    if len < HEADER_LEN || len > max_len {
        return Err(bad_len());
    }
    let kind = MessageType::from_u8(kind).ok_or_else(|| header_error(3, &[kind]))?;
    let max_len = match kind {
        MessageType::Open => MAX_LEN,
        MessageType::Keepalive => HEADER_LEN,
        _ => max_len,
    };
    if len < kind.min_len() || len > max_len {
        return Err(bad_len());
    }
    let body = reader.take(len - HEADER_LEN);
    Ok(body.map(|body| Frame { kind, body, len }))
}

/// Appends a message. The caller keeps `body` within the session's limit.
pub fn put(out: &mut Vec<u8>, kind: MessageType, body: &[u8]) {
    let len = u16::try_from(HEADER_LEN + body.len()).unwrap_or(u16::MAX);
    out.extend([0xff; 16]);
    out.extend(len.to_be_bytes());
    out.push(kind.to_u8());
    out.extend_from_slice(body);
}

/// A KEEPALIVE.
pub fn keepalive() -> Bytes {
    let mut out = Vec::with_capacity(HEADER_LEN);
    put(&mut out, MessageType::Keepalive, &[]);
    out.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(kind: u8, len: u16, body: usize) -> Vec<u8> {
        let mut out = vec![0xff; 16];
        out.extend(len.to_be_bytes());
        out.push(kind);
        out.extend(vec![0; body]);
        out
    }

    #[test]
    fn a_message_is_found_once_it_is_whole() {
        let keepalive = keepalive();
        for cut in 0..keepalive.len() {
            assert_eq!(next(&keepalive[..cut], MAX_LEN), Ok(None));
        }
        let frame = next(&keepalive, MAX_LEN).unwrap().unwrap();
        assert_eq!((frame.kind, frame.len), (MessageType::Keepalive, 19));
    }

    #[test]
    fn broken_headers_have_their_subcodes() {
        let cases = [
            (vec![0xff, 0xff, 0], 1),
            (message(4, 18, 0), 2),
            (message(4, 20, 1), 2),
            (message(1, 28, 9), 2),
            (message(2, 22, 3), 2),
            (message(3, 20, 1), 2),
            (message(5, 22, 3), 2),
            (message(2, 4097, 0), 2),
            (message(0, 19, 0), 3),
            (message(6, 19, 0), 3),
        ];
        for (bytes, subcode) in cases {
            let error = next(&bytes, MAX_LEN).unwrap_err();
            assert_eq!((error.code, error.subcode), (1, subcode), "{bytes:?}");
        }
    }

    #[test]
    fn long_messages_need_their_capability_and_never_an_open() {
        let long = message(2, 5000, 4981);
        assert!(next(&long, MAX_LEN).is_err());
        assert!(
            next(&long, super::super::MAX_EXTENDED_LEN)
                .unwrap()
                .is_some()
        );
        let open = message(1, 5000, 4981);
        assert!(next(&open, super::super::MAX_EXTENDED_LEN).is_err());
    }
}
