//! What the kernel says of a device, in as many messages as it takes.

use std::net::{IpAddr, Ipv6Addr, SocketAddr, SocketAddrV6};
use std::time::Duration;

use model::Cidr;

use super::attr::{Attrs, array};
use super::encode::{AF_INET, AF_INET6, GENERIC_HEADER, allowed_ip, device, peer};
use crate::control::{DeviceState, PeerState};
use crate::keys::{KEY_LEN, PresharedKey, PrivateKey, PublicKey};

/// The number of a family, from the answer to the question for it.
pub(super) fn family(message: &[u8]) -> Option<u16> {
    const CTRL_ATTR_FAMILY_ID: u16 = 1;
    let mut attrs = Attrs(message.get(GENERIC_HEADER..)?);
    let id = attrs.find(|(kind, _)| *kind == CTRL_ATTR_FAMILY_ID)?.1;
    array(id).map(u16::from_ne_bytes)
}

/// Takes the messages of one dump, without their netlink headers. A peer whose allowed IPs do not fit
/// into a message goes on in the next one. What is newer than this is passed over.
#[derive(Debug, Default)]
pub struct StateDecoder {
    state: DeviceState,
    wrong: Option<&'static str>,
}

impl StateDecoder {
    /// Takes a message.
    pub fn message(&mut self, message: &[u8]) {
        let attrs = Attrs(message.get(GENERIC_HEADER..).unwrap_or_default());
        if let Err(field) = device(&mut self.state, attrs) {
            self.wrong.get_or_insert(field);
        }
    }

    /// The device.
    ///
    /// # Errors
    /// The name of a field that was wrong in some message.
    pub fn finish(self) -> Result<DeviceState, &'static str> {
        match self.wrong {
            None => Ok(self.state),
            Some(field) => Err(field),
        }
    }
}

fn device(state: &mut DeviceState, attrs: Attrs<'_>) -> Result<(), &'static str> {
    for (kind, value) in attrs {
        match kind {
            device::PRIVATE_KEY => {
                let bytes = array::<KEY_LEN>(value).ok_or("private key")?;
                state.private_key = Some(PrivateKey::new(bytes)).filter(|_| bytes != [0; KEY_LEN]);
            }
            device::LISTEN_PORT => state.listen_port = number(value).ok_or("listen port")?,
            device::FWMARK => {
                state.fwmark = array(value).map(u32::from_ne_bytes).ok_or("fwmark")?;
            }
            device::PEERS => {
                Attrs(value).try_for_each(|(_, value)| peer(state, Attrs(value)))?;
            }
            _ => {}
        }
    }
    Ok(())
}

fn peer(state: &mut DeviceState, mut attrs: Attrs<'_>) -> Result<(), &'static str> {
    let key = attrs.clone().find(|(kind, _)| *kind == peer::PUBLIC_KEY);
    let key = key
        .and_then(|(_, value)| array(value))
        .ok_or("public key")?;
    let peer = state.peers.entry(PublicKey::new(key)).or_default();
    attrs.try_for_each(|(kind, value)| peer_field(peer, kind, value))
}

fn peer_field(peer: &mut PeerState, kind: u16, value: &[u8]) -> Result<(), &'static str> {
    let bytes = |value| array(value).map(u64::from_ne_bytes).ok_or("byte count");
    match kind {
        peer::PRESHARED_KEY => {
            let bytes = array::<KEY_LEN>(value).ok_or("preshared key")?;
            peer.preshared_key = Some(PresharedKey::new(bytes)).filter(|_| bytes != [0; KEY_LEN]);
        }
        peer::ENDPOINT => peer.endpoint = Some(endpoint(value).ok_or("endpoint")?),
        peer::KEEPALIVE => peer.persistent_keepalive = number(value).ok_or("keepalive")?,
        peer::LAST_HANDSHAKE => peer.last_handshake = time(value).ok_or("time of a handshake")?,
        peer::RX_BYTES => peer.received_bytes = bytes(value)?,
        peer::TX_BYTES => peer.sent_bytes = bytes(value)?,
        peer::ALLOWED_IPS => {
            for (_, value) in Attrs(value) {
                peer.allowed_ips
                    .insert(allowed_ip(Attrs(value)).ok_or("allowed IP")?);
            }
        }
        _ => {}
    }
    Ok(())
}

fn number(value: &[u8]) -> Option<u16> {
    array(value).map(u16::from_ne_bytes)
}

/// `struct __kernel_timespec`; zero: never.
fn time(value: &[u8]) -> Option<Option<Duration>> {
    let secs = u64::try_from(i64::from_ne_bytes(array(value)?)).ok()?;
    let nanos = i64::from_ne_bytes(array(value.get(8..)?)?);
    let nanos = u32::try_from(nanos).ok().filter(|n| *n < 1_000_000_000)?;
    let time = Duration::new(secs, nanos);
    Some((!time.is_zero()).then_some(time))
}

/// `struct sockaddr_in` or `struct sockaddr_in6`, without the flow label.
fn endpoint(value: &[u8]) -> Option<SocketAddr> {
    let port = u16::from_be_bytes(array(value.get(2..)?)?);
    match u16::from_ne_bytes(array(value)?) {
        AF_INET => Some((array::<4>(value.get(4..)?)?, port).into()),
        AF_INET6 => {
            let ip = Ipv6Addr::from(array::<16>(value.get(8..)?)?);
            let scope = u32::from_ne_bytes(array(value.get(24..)?)?);
            Some(SocketAddrV6::new(ip, port, 0, scope).into())
        }
        _ => None,
    }
}

fn allowed_ip(attrs: Attrs<'_>) -> Option<Cidr> {
    let (mut family, mut address, mut length) = (None, None, None);
    for (kind, value) in attrs {
        match kind {
            allowed_ip::FAMILY => family = number(value),
            allowed_ip::ADDRESS => address = Some(value),
            allowed_ip::LENGTH => length = value.first().copied(),
            _ => {}
        }
    }
    let ip: IpAddr = match family? {
        AF_INET => array::<4>(address?)?.into(),
        AF_INET6 => array::<16>(address?)?.into(),
        _ => return None,
    };
    Cidr::containing(ip, length?)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use proptest::strategy::ValueTree;
    use proptest::test_runner::TestRunner;

    use super::super::encode::set_device;
    use super::super::lower::{split, without_removals};
    use super::*;
    use crate::control::{AllowedIpChange, PeerRequest};
    use crate::testing::{Seeded, naive, requests};

    fn decode<'a>(
        messages: impl IntoIterator<Item = &'a [u8]>,
    ) -> Result<DeviceState, &'static str> {
        let mut decoder = StateDecoder::default();
        messages.into_iter().for_each(|m| decoder.message(m));
        decoder.finish()
    }

    proptest! {
        /// What the kernel says has the form of what it is told. So a request that only adds is read
        /// back as the device that it makes, over all messages.
        #[test]
        fn what_is_told_is_read(mut request in requests::request()) {
            request.replace_peers = false;
            let mut given = Vec::new();
            let own = request.private_key.iter().flatten().next().map(PrivateKey::public);
            request.peers.retain_mut(|peer| match peer {
                PeerRequest::Set(change) => {
                    change.update_only = false;
                    // A prefix that is given twice would be a move, which bytes do not resolve.
                    change.allowed_ips.retain(|ip| {
                        let is_new = matches!(ip, AllowedIpChange::Add(_)) && !given.contains(ip);
                        given.push(*ip);
                        is_new
                    });
                    change.replace_allowed_ips = false;
                    own != Some(change.public_key)
                }
                PeerRequest::Remove(_) => false,
            });
            let messages: Vec<_> = split(&request).iter().map(|part| set_device("wg0", part)).collect();
            let mut state = DeviceState::default();
            naive::apply(&mut state, &request, &mut |_| {});
            // There is no room for another.
            state.peers.values_mut().for_each(|peer| peer.other_preshared_key = None);
            prop_assert_eq!(decode(messages.iter().map(|m| &m[..])), Ok(state));
        }

        #[test]
        fn any_bytes_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            let _ = decode([&bytes[..]]);
            family(&bytes);
        }
    }

    #[test]
    fn mutations_are_survived() {
        let mut rng = Seeded::new(3);
        let mut runner = TestRunner::deterministic();
        let mut refused = 0;
        for _ in 0..200 {
            let request = requests::request().new_tree(&mut runner).unwrap().current();
            let specimen = set_device("wg0", &without_removals(&request));
            for _ in 0..100 {
                let mut bytes = specimen.to_vec();
                for _ in 0..=rng.next() % 4 {
                    let at = usize::try_from(rng.next() % bytes.len() as u64).unwrap();
                    bytes[at] ^= 1 << (rng.next() % 8);
                }
                refused += u32::from(decode([&bytes[..]]).is_err());
            }
        }
        assert!(refused > 10, "{refused}: the mutations hit nothing");
    }

    #[test]
    fn times_and_addresses_of_the_kernel() {
        let spec = |secs: i64, nanos: i64| [secs.to_ne_bytes(), nanos.to_ne_bytes()].concat();
        assert_eq!(time(&spec(0, 0)), Some(None));
        assert_eq!(time(&spec(5, 7)), Some(Some(Duration::new(5, 7))));
        for bad in [
            spec(-1, 0),
            spec(0, -1),
            spec(0, 1_000_000_000),
            vec![0; 15],
        ] {
            assert_eq!(time(&bad), None);
        }
        for text in ["192.0.2.1:51820", "[fe80::1%3]:1", "[::1]:65535"] {
            let at = text.parse().unwrap();
            let bytes = super::super::encode::socket_address(at);
            assert_eq!(endpoint(&bytes), Some(at));
            assert!((0..bytes.len().min(8)).all(|len| endpoint(&bytes[..len]).is_none()));
        }
        assert_eq!(endpoint(&[1; 28]), None);
    }
}
