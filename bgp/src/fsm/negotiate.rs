//! Two OPENs: whether they go together, and what they agree on.

use std::net::Ipv4Addr;
use std::time::Duration;

use bytes::Bytes;

use super::SessionConfig;
use crate::family::PerFamily;
use crate::wire::notification::{self, Notification};
use crate::wire::open::{GracefulRestart, Open};
use crate::wire::{Context, open};

/// What a session agreed on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Negotiated {
    /// The neighbour's AS.
    pub peer_as: u32,
    /// The neighbour's router id.
    pub peer_id: Ipv4Addr,
    /// Silence of this length means death; zero for never.
    pub hold: Duration,
    /// How messages look.
    pub context: Context,
    /// The neighbour sends everything again when asked.
    pub refresh: bool,
    /// It marks where everything begins and ends, and so do we.
    pub enhanced_refresh: bool,
    /// What the neighbour said about restarts, where we offered it too.
    pub graceful_restart: Option<GracefulRestart>,
}

fn refuse(subcode: u8) -> Notification {
    Notification::plain(notification::OPEN, subcode)
}

/// Whether the neighbour's OPEN is acceptable, and what follows from both.
///
/// # Errors
///
/// The NOTIFICATION that refuses it (RFC 4271 §6.2).
pub fn negotiate(config: &SessionConfig, theirs: &Open) -> Result<Negotiated, Notification> {
    let ours = config.open();
    let internal = theirs.asn == config.local_as;
    let wanted = match config.peer_as {
        Some(asn) => theirs.asn == asn,
        None => !internal,
    };
    if !wanted || theirs.asn == 0 || theirs.asn == u32::from(open::AS_TRANS) {
        let said = Bytes::copy_from_slice(&theirs.asn.to_be_bytes());
        let bad_as = notification::BAD_PEER_AS;
        return Err(Notification::new(notification::OPEN, bad_as, said));
    }
    // RFC 6286: not zero, and not ours within an AS.
    if theirs.id.is_unspecified() || internal && theirs.id == config.router_id {
        return Err(refuse(3));
    }
    if matches!(theirs.hold_time, 1 | 2)
        || theirs.hold_time != 0 && theirs.hold_time < config.hold.least
    {
        return Err(refuse(6));
    }
    let (mine, peers) = (&ours.capabilities, &theirs.capabilities);
    if !internal && let Some(role) = mine.role {
        let right = match peers.role {
            Some(theirs) => theirs == role.opposite(),
            None => !config.strict_role,
        };
        if !right {
            return Err(refuse(11));
        }
    }
    let both = |pick: fn(&open::Capabilities) -> bool| pick(mine) && pick(peers);
    let families = PerFamily::from_fn(|f| *mine.families.get(f) && *peers.families.get(f));
    if families.enabled().next().is_none() {
        // RFC 5492 §3: says which we would have needed.
        let needed = mine.families.enabled().map(|f| {
            let [high, low] = crate::family::afi(f).to_be_bytes();
            [1, 4, high, low, 0, crate::family::UNICAST]
        });
        let data: Vec<u8> = needed.flatten().collect();
        return Err(Notification::new(notification::OPEN, 7, Bytes::from(data)));
    }
    let add_path = |receive: &open::Capabilities, send: &open::Capabilities| {
        PerFamily::from_fn(|f| {
            *families.get(f) && receive.add_path.get(f).receive && send.add_path.get(f).send
        })
    };
    let hold = match (ours.hold_time, theirs.hold_time) {
        (0, _) | (_, 0) => 0,
        (a, b) => a.min(b),
    };
    Ok(Negotiated {
        peer_as: theirs.asn,
        peer_id: theirs.id,
        hold: Duration::from_secs(u64::from(hold)),
        context: Context {
            ibgp: internal,
            as4: peers.as4.is_some(),
            families,
            add_path_in: add_path(mine, peers),
            add_path_out: add_path(peers, mine),
            extended_next_hop: both(|c| c.extended_next_hop),
            extended_message: both(|c| c.extended_message),
        },
        refresh: peers.refresh,
        enhanced_refresh: both(|c| c.refresh && c.enhanced_refresh),
        graceful_restart: mine.graceful_restart.and(peers.graceful_restart),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::open::{AddPath, Role};

    fn config() -> SessionConfig {
        SessionConfig::new(64512, Ipv4Addr::new(1, 1, 1, 1), Some(65001))
    }

    fn peer() -> Open {
        SessionConfig::new(65001, Ipv4Addr::new(2, 2, 2, 2), Some(64512)).open()
    }

    #[test]
    fn what_one_side_lacks_is_not_used() {
        let full = negotiate(&config(), &peer()).unwrap();
        assert_eq!((full.hold, full.peer_as), (Duration::from_secs(9), 65001));
        assert!(full.context.extended_message && full.enhanced_refresh && full.context.as4);
        let mut old = peer();
        old.capabilities = open::Capabilities {
            families: PerFamily {
                v4: true,
                v6: false,
            },
            ..open::Capabilities::default()
        };
        old.hold_time = 0;
        let poor = negotiate(&config(), &old).unwrap();
        let context = Context {
            as4: false,
            families: PerFamily {
                v4: true,
                v6: false,
            },
            ..Context::default()
        };
        assert_eq!(poor.context, context);
        assert_eq!((poor.hold, poor.refresh), (Duration::ZERO, false));
        assert_eq!(poor.graceful_restart, None);
    }

    #[test]
    fn add_path_needs_a_sender_and_a_receiver() {
        let mut config = config();
        config.add_path.v4 = AddPath {
            receive: true,
            send: false,
        };
        let mut peer = peer();
        peer.capabilities.add_path.v4 = AddPath {
            receive: true,
            send: true,
        };
        let agreed = negotiate(&config, &peer).unwrap().context;
        assert_eq!(
            agreed.add_path_in,
            PerFamily {
                v4: true,
                v6: false
            }
        );
        assert_eq!(
            agreed.add_path_out,
            PerFamily {
                v4: false,
                v6: false
            }
        );
    }

    #[test]
    fn what_does_not_go_together_is_refused_with_its_subcode() {
        type Change = fn(&mut SessionConfig, &mut Open);
        let cases: [(&str, u8, Change); 11] = [
            ("another AS", 2, |_, o| o.asn = 65002),
            ("AS 0", 2, |c, o| (c.peer_as, o.asn) = (None, 0)),
            ("AS_TRANS", 2, |c, o| (c.peer_as, o.asn) = (None, 23456)),
            ("any AS but ours", 2, |c, o| {
                (c.peer_as, o.asn) = (None, 64512);
            }),
            ("router id 0", 3, |_, o| o.id = Ipv4Addr::UNSPECIFIED),
            ("our router id inside our AS", 3, |c, o| {
                (c.peer_as, o.asn, o.id) = (Some(64512), 64512, c.router_id);
            }),
            ("hold time 2", 6, |_, o| o.hold_time = 2),
            ("hold time below ours", 6, |c, o| {
                (c.hold.least, o.hold_time) = (6, 5);
            }),
            ("roles", 11, |c, o| {
                (c.role, o.capabilities.role) = (Some(Role::Customer), Some(Role::Peer));
            }),
            ("strict role", 11, |c, _| {
                (c.role, c.strict_role) = (Some(Role::Peer), true);
            }),
            ("no family", 7, |_, o| {
                o.capabilities.families = PerFamily::default();
            }),
        ];
        for (what, subcode, change) in cases {
            let (mut config, mut open) = (config(), peer());
            change(&mut config, &mut open);
            let error = negotiate(&config, &open).unwrap_err();
            assert_eq!((error.code, error.subcode), (2, subcode), "{what}");
        }
    }
}
