//! ROUTE-REFRESH (RFC 2918, RFC 7313).

use bytes::Bytes;
use model::Family;

use super::{MessageType, Notification, Reader, frame, notification};
use crate::family;

/// What a ROUTE-REFRESH asks for or marks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Refresh {
    /// "Send everything again."
    Request,
    /// What follows, up to the end mark, is everything.
    Begin,
    /// Everything was sent; what was not in it is gone.
    End,
}

/// Reads a message's body. `None` for a family or subtype that we do not speak, which is ignored.
///
/// # Errors
///
/// A wrong length ends the session where enhanced refresh was agreed (RFC 7313 §5).
pub fn decode(body: &[u8], enhanced: bool) -> Result<Option<(Family, Refresh)>, Notification> {
    let mut reader = Reader(body);
    let (Some(afi), Some(subtype), Some(safi)) = (reader.u16(), reader.u8(), reader.u8()) else {
        return Err(Notification::plain(notification::ROUTE_REFRESH, 1));
    };
    let refresh = match subtype {
        0 => Refresh::Request,
        1 if enhanced => Refresh::Begin,
        2 if enhanced => Refresh::End,
        _ => return Ok(None),
    };
    if !reader.0.is_empty() {
        // Longer ones carry filters (RFC 5291) that were not agreed on.
        return match refresh {
            Refresh::Request => Ok(None),
            _ => Err(Notification::plain(notification::ROUTE_REFRESH, 1)),
        };
    }
    Ok(family::from_wire(afi, safi).map(|f| (f, refresh)))
}

/// The whole message.
pub fn encode(of: Family, refresh: Refresh) -> Bytes {
    let [high, low] = family::afi(of).to_be_bytes();
    let mut out = Vec::with_capacity(23);
    let body = [high, low, refresh as u8, family::UNICAST];
    frame::put(&mut out, MessageType::RouteRefresh, &body);
    out.into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::HEADER_LEN;

    #[test]
    fn every_refresh_survives_the_wire() {
        for of in Family::ALL {
            for refresh in [Refresh::Request, Refresh::Begin, Refresh::End] {
                let message = encode(of, refresh);
                let read = decode(&message[HEADER_LEN..], true);
                assert_eq!(read, Ok(Some((of, refresh))));
            }
        }
    }

    #[test]
    fn strangers_are_ignored_and_wrong_lengths_are_errors() {
        assert_eq!(decode(&[0, 25, 0, 70], true), Ok(None), "another family");
        assert_eq!(decode(&[0, 1, 9, 1], true), Ok(None), "another subtype");
        assert_eq!(decode(&[0, 1, 1, 1], false), Ok(None), "not agreed");
        assert_eq!(decode(&[0, 1, 1, 1, 0], true).unwrap_err().code, 7);
        assert_eq!(decode(&[0, 1, 0], true).unwrap_err().code, 7);
    }
}
