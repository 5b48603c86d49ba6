//! OPEN: who a speaker is and what it can do (RFC 4271 §4.2, RFC 5492).

use std::net::Ipv4Addr;

use bytes::Bytes;
use model::Family;
use rustbgpd_wire as codec;

use super::{Notification, notification};
use crate::family::{self, PerFamily};

/// The AS number that stands in a 2-byte field for one that does not fit (RFC 6793).
pub const AS_TRANS: u16 = 23456;

/// The relation of two neighbours (RFC 9234). Ours, towards the peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Role {
    /// We carry the peer's traffic.
    Provider,
    /// We are a route server.
    RouteServer,
    /// The peer is a route server.
    RouteServerClient,
    /// The peer carries our traffic.
    Customer,
    /// We exchange routes of our own and of our customers.
    Peer,
}

impl Role {
    /// What the other side has to be.
    pub fn opposite(self) -> Role {
        match self {
            Role::Provider => Role::Customer,
            Role::Customer => Role::Provider,
            Role::RouteServer => Role::RouteServerClient,
            Role::RouteServerClient => Role::RouteServer,
            Role::Peer => Role::Peer,
        }
    }
}

/// Which way path identifiers go in a family (RFC 7911), seen from the speaker of the OPEN.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct AddPath {
    /// Can receive several paths.
    pub receive: bool,
    /// Wants to send several paths.
    pub send: bool,
}

/// Graceful restart of a family.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct RestartFamily {
    /// Whether the family is covered at all.
    pub covered: bool,
    /// Whether packets were forwarded all through the restart.
    pub forwarding: bool,
}

/// The graceful restart capability (RFC 4724, RFC 8538).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct GracefulRestart {
    /// The speaker has just restarted.
    pub restarted: bool,
    /// NOTIFICATIONs other than hard resets keep the routes too.
    pub notification: bool,
    /// Seconds for which routes should be kept.
    pub time: u16,
    /// By family.
    pub families: PerFamily<RestartFamily>,
}

/// What a speaker can do.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Capabilities {
    /// Families (RFC 4760).
    pub families: PerFamily<bool>,
    /// The 4-byte AS number (RFC 6793).
    pub as4: Option<u32>,
    /// Sends everything again when asked (RFC 2918).
    pub refresh: bool,
    /// Marks where everything begins and ends (RFC 7313).
    pub enhanced_refresh: bool,
    /// Long messages (RFC 8654).
    pub extended_message: bool,
    /// IPv6 next hops for IPv4 prefixes (RFC 8950).
    pub extended_next_hop: bool,
    /// Several paths of a prefix (RFC 7911).
    pub add_path: PerFamily<AddPath>,
    /// Routes survive a restart.
    pub graceful_restart: Option<GracefulRestart>,
    /// Relation of the two (RFC 9234).
    pub role: Option<Role>,
}

/// An OPEN.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Open {
    /// The AS number, 4 bytes where the speaker has them.
    pub asn: u32,
    /// Seconds after which silence means death; 0 for never.
    pub hold_time: u16,
    /// Router id.
    pub id: Ipv4Addr,
    /// What it can do.
    pub capabilities: Capabilities,
}

fn of_family(family: Family) -> (codec::Afi, codec::Safi) {
    match family {
        Family::V4 => (codec::Afi::Ipv4, codec::Safi::Unicast),
        Family::V6 => (codec::Afi::Ipv6, codec::Safi::Unicast),
    }
}

fn our_family(afi: codec::Afi, safi: codec::Safi) -> Option<Family> {
    family::from_wire(afi as u16, safi as u8)
}

fn of_role(role: Role) -> codec::BgpRole {
    match role {
        Role::Provider => codec::BgpRole::Provider,
        Role::RouteServer => codec::BgpRole::RouteServer,
        Role::RouteServerClient => codec::BgpRole::RouteServerClient,
        Role::Customer => codec::BgpRole::Customer,
        Role::Peer => codec::BgpRole::Peer,
    }
}

/// A role that the registry does not have is not one that we can match, so it is none.
fn our_role(role: codec::BgpRole) -> Option<Role> {
    Some(match role {
        codec::BgpRole::Provider => Role::Provider,
        codec::BgpRole::RouteServer => Role::RouteServer,
        codec::BgpRole::RouteServerClient => Role::RouteServerClient,
        codec::BgpRole::Customer => Role::Customer,
        codec::BgpRole::Peer => Role::Peer,
        _ => return None,
    })
}

impl Capabilities {
    /// Takes one capability into account. An error is a contradiction.
    fn add(&mut self, capability: codec::Capability) -> Result<(), Notification> {
        use codec::Capability as C;
        match capability {
            C::MultiProtocol { afi, safi } => {
                if let Some(family) = our_family(afi, safi) {
                    *self.families.get_mut(family) = true;
                }
            }
            C::FourOctetAs { asn } => self.as4 = Some(asn),
            C::RouteRefresh => self.refresh = true,
            C::EnhancedRouteRefresh => self.enhanced_refresh = true,
            C::ExtendedMessage => self.extended_message = true,
            C::ExtendedNextHop(list) => {
                self.extended_next_hop |= list.iter().any(|e| {
                    our_family(e.nlri_afi, e.nlri_safi) == Some(Family::V4)
                        && e.next_hop_afi == codec::Afi::Ipv6
                });
            }
            C::AddPath(list) => {
                for entry in list {
                    let mode = AddPath {
                        receive: entry.send_receive != codec::AddPathMode::Send,
                        send: entry.send_receive != codec::AddPathMode::Receive,
                    };
                    if let Some(family) = our_family(entry.afi, entry.safi) {
                        *self.add_path.get_mut(family) = mode;
                    }
                }
            }
            C::GracefulRestart {
                restart_state,
                notification,
                restart_time,
                families,
            } => {
                let mut restart = GracefulRestart {
                    restarted: restart_state,
                    notification,
                    time: restart_time,
                    families: PerFamily::default(),
                };
                for entry in families {
                    if let Some(family) = our_family(entry.afi, entry.safi) {
                        *restart.families.get_mut(family) = RestartFamily {
                            covered: true,
                            forwarding: entry.forwarding_preserved,
                        };
                    }
                }
                self.graceful_restart = Some(restart);
            }
            C::Role { role } => {
                let role = our_role(role);
                if self.role.is_some() && self.role != role {
                    // RFC 9234 §4.2: several roles that differ.
                    return Err(Notification::plain(notification::OPEN, 11));
                }
                self.role = role;
            }
            _ => {}
        }
        Ok(())
    }

    fn encode(&self) -> Vec<codec::Capability> {
        use codec::Capability as C;
        let mut list = Vec::new();
        let families: Vec<Family> = self.families.enabled().collect();
        for family in &families {
            let (afi, safi) = of_family(*family);
            list.push(C::MultiProtocol { afi, safi });
        }
        list.extend(self.refresh.then_some(C::RouteRefresh));
        list.extend(self.enhanced_refresh.then_some(C::EnhancedRouteRefresh));
        list.extend(self.extended_message.then_some(C::ExtendedMessage));
        if self.extended_next_hop {
            let entry = codec::ExtendedNextHopFamily {
                nlri_afi: codec::Afi::Ipv4,
                nlri_safi: codec::Safi::Unicast,
                next_hop_afi: codec::Afi::Ipv6,
            };
            list.push(C::ExtendedNextHop(vec![entry]));
        }
        list.extend(self.role.map(|r| C::Role { role: of_role(r) }));
        list.extend(self.graceful_restart.map(|restart| {
            let covered = families
                .iter()
                .filter(|f| restart.families.get(**f).covered);
            C::GracefulRestart {
                restart_state: restart.restarted,
                notification: restart.notification,
                restart_time: restart.time.min(4095),
                families: covered
                    .map(|family| {
                        let (afi, safi) = of_family(*family);
                        codec::GracefulRestartFamily {
                            afi,
                            safi,
                            forwarding_preserved: restart.families.get(*family).forwarding,
                        }
                    })
                    .collect(),
            }
        }));
        list.extend(self.as4.map(|asn| C::FourOctetAs { asn }));
        let add_path: Vec<_> = families
            .iter()
            .filter_map(|family| {
                let mode = self.add_path.get(*family);
                let send_receive = match (mode.receive, mode.send) {
                    (true, true) => codec::AddPathMode::Both,
                    (true, false) => codec::AddPathMode::Receive,
                    (false, true) => codec::AddPathMode::Send,
                    (false, false) => return None,
                };
                let (afi, safi) = of_family(*family);
                Some(codec::AddPathFamily {
                    afi,
                    safi,
                    send_receive,
                })
            })
            .collect();
        list.extend((!add_path.is_empty()).then_some(C::AddPath(add_path)));
        list
    }
}

/// Reads a message's body.
///
/// # Errors
///
/// The NOTIFICATION to answer with.
pub fn decode(body: &[u8]) -> Result<Open, Notification> {
    let mut bytes = Bytes::copy_from_slice(body);
    let open = codec::OpenMessage::decode(&mut bytes, body.len()).map_err(|error| {
        let (code, subcode, data) = error.to_notification();
        Notification::new(code.as_u8(), subcode, data)
    })?;
    let mut capabilities = Capabilities::default();
    let spoke_of_families = open
        .capabilities
        .iter()
        .any(|c| matches!(c, codec::Capability::MultiProtocol { .. }));
    for capability in open.capabilities {
        capabilities.add(capability)?;
    }
    // A speaker that does not know RFC 4760 means IPv4 unicast.
    capabilities.families.v4 |= !spoke_of_families;
    Ok(Open {
        asn: capabilities.as4.unwrap_or(u32::from(open.my_as)),
        hold_time: open.hold_time,
        id: open.bgp_identifier,
        capabilities,
    })
}

/// The whole message.
pub fn encode(open: &Open) -> Bytes {
    let message = codec::OpenMessage {
        version: 4,
        my_as: u16::try_from(open.asn).unwrap_or(AS_TRANS),
        hold_time: open.hold_time,
        bgp_identifier: open.id,
        capabilities: open.capabilities.encode(),
    };
    let mut out = Vec::with_capacity(96);
    // Our capabilities take less than 100 bytes: the codec's length errors cannot come.
    if message.encode(&mut out).is_err() {
        out.clear();
    }
    out.into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::HEADER_LEN;

    fn full() -> Open {
        let both = PerFamily { v4: true, v6: true };
        Open {
            asn: 4_200_000_001,
            hold_time: 9,
            id: Ipv4Addr::new(192, 0, 2, 1),
            capabilities: Capabilities {
                families: both,
                as4: Some(4_200_000_001),
                refresh: true,
                enhanced_refresh: true,
                extended_message: true,
                extended_next_hop: true,
                add_path: PerFamily::from_fn(|f| AddPath {
                    receive: true,
                    send: f == Family::V4,
                }),
                graceful_restart: Some(GracefulRestart {
                    restarted: true,
                    notification: true,
                    time: 120,
                    families: PerFamily::from_fn(|f| RestartFamily {
                        covered: true,
                        forwarding: f == Family::V6,
                    }),
                }),
                role: Some(Role::Customer),
            },
        }
    }

    #[test]
    fn an_open_survives_the_wire() {
        let bare = Open {
            asn: 64512,
            hold_time: 0,
            id: Ipv4Addr::new(1, 1, 1, 1),
            capabilities: Capabilities {
                families: PerFamily {
                    v4: true,
                    v6: false,
                },
                ..Capabilities::default()
            },
        };
        for open in [full(), bare] {
            let message = encode(&open);
            assert_eq!(decode(&message[HEADER_LEN..]), Ok(open));
        }
    }

    #[test]
    fn a_speaker_without_capabilities_means_ipv4() {
        let body = [4, 0xfc, 0, 0, 90, 10, 0, 0, 1, 0];
        let open = decode(&body).unwrap();
        assert_eq!((open.asn, open.hold_time), (64512, 90));
        assert_eq!(
            open.capabilities.families,
            PerFamily {
                v4: true,
                v6: false
            }
        );
    }

    #[test]
    fn broken_opens_have_their_subcodes() {
        let cases: [(&[u8], u8); 5] = [
            (&[3, 0, 1, 0, 90, 10, 0, 0, 1, 0], 1),
            (&[4, 0, 1, 0, 90, 10, 0, 0, 1, 2, 1, 0], 4),
            (&[4, 0, 1, 0, 90, 10, 0, 0, 1, 9, 2, 4], 0),
            (&[4, 0, 1, 0, 90, 10, 0, 0, 1, 0, 1], 0),
            // Two roles that differ.
            (
                &[4, 0, 1, 0, 90, 10, 0, 0, 1, 8, 2, 6, 9, 1, 0, 9, 1, 3],
                11,
            ),
        ];
        for (body, subcode) in cases {
            let error = decode(body).unwrap_err();
            assert_eq!((error.code, error.subcode), (2, subcode), "{body:?}");
        }
    }
}
