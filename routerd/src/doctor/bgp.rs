//! BGP: why a session is not up, and what to do.

use model::api::{BgpPeerShow, BgpPeersShow, BgpState, DoctorCheck, Health};

use super::{check, ok};

const NAME: &str = "bgp";

/// What is said of a failure, and what to do about it. The first that fits counts.
const MENDS: [(&str, &str); 23] = [
    (
        "password file",
        "make a file of that name with the password in its first line, readable for routerd alone",
    ),
    (
        "Secret/",
        "apply a Secret of that name whose value is 1 to 80 bytes long",
    ),
    (
        "no route to",
        "add a route to the peer, or mend peerIP in its BGPPeer; see `ip route get ADDRESS`",
    ),
    (
        "TCP connection refused",
        "start BGP there, and give it this node as a neighbour: the peer listens on another port, or for others only",
    ),
    (
        "MD5",
        "give both sides the same password: BGPPeer.spec.password here, that of the neighbour there",
    ),
    (
        "same password",
        "give both sides the same password: BGPPeer.spec.password here, that of the neighbour there",
    ),
    (
        "AS number is not",
        "give BGPPeer.spec.asNumber the AS of the peer, and its neighbour statement this node's AS: see `routerctl get nodes`",
    ),
    (
        "bad router id",
        "give the two speakers different router ids",
    ),
    (
        "unacceptable hold time",
        "set BGPPeer.spec.holdTime to what the peer accepts",
    ),
    ("BGP roles", "give the two sides roles that go together"),
    (
        "more prefixes than allowed",
        "have the peer announce less, or filter there; it is tried again by itself",
    ),
    (
        "TTL security",
        "set TTL security on both sides or on none: BGPPeer.spec.ttlSecurity is how many hops away the peer is, 1 on a link; without it, a peer that is more than one hop away needs multihop there, too",
    ),
    (
        "no router advertised itself",
        "see that the link is up and that the peer sends router advertisements there, or write its link-local address as peerIP",
    ),
    (
        "is on no interface",
        "give the node that address, or write sourceAddress: None in the BGPPeer",
    ),
    (
        "connection rejected",
        "give the peer this node as a neighbour, with the address that it connects from",
    ),
    (
        "closed without a word",
        "see the log of the peer: it may know this node by another address or AS, or have just restarted",
    ),
    (
        "within the hold time",
        "see the log of the peer, and whether the path to it loses packets: `ping` it for a minute",
    ),
    (
        "unsupported capability",
        "give both sides an address family in common",
    ),
    (
        "shut down by an operator",
        "have the peer's operators take the session up again",
    ),
    (
        "removed from the configuration",
        "have the peer's operators give it this node as a neighbour again",
    ),
    (
        "prefixes that cannot be read",
        "see the log of this node with debug for `bgp`, have the peer mended, and reset the session there",
    ),
    (
        "BFD",
        "see that BFD runs at the peer, and that UDP 3784 and 4784 pass",
    ),
    (
        "no answer from",
        "see that the peer runs, and that no firewall on the way drops TCP port 179",
    ),
];

fn mend(words: &str) -> &'static str {
    let mut mends = MENDS.into_iter();
    let found = mends.find(|(said, _)| words.contains(said));
    found.map_or("see the log of the peer", |(_, mend)| mend)
}

/// One line when all is well, else one for each session that is not up, and for each peer that announces what it
/// should not. Nothing where nobody is to be spoken to. `netstat` is `/proc/net/netstat`.
pub(super) fn checks(shown: &BgpPeersShow, netstat: &str) -> Vec<DoctorCheck> {
    let is_up = |p: &BgpPeerShow| p.state == BgpState::Established;
    let (up, down): (Vec<_>, Vec<_>) = shown.peers.iter().partition(|p| is_up(p));
    let mut checks: Vec<DoctorCheck> = down.iter().map(|p| absent(p, netstat)).collect();
    checks.extend(up.iter().filter(|p| p.guarded > 0).map(|p| {
        check(
            NAME,
            Health::Degraded,
            format!(
                "{} ({}) announces {} prefixes inside our pools that no other node has; they are not used",
                p.name, p.peer, p.guarded
            ),
            format!(
                "see `routerctl bgp routes --peer {}`, and stop whoever announces them",
                p.peer
            ),
        )
    }));
    checks.extend(up.iter().filter_map(|p| {
        let fault = p.fault.as_ref()?;
        let message = format!("{} ({}): {fault}", p.name, p.peer);
        Some(check(NAME, Health::Degraded, message, mend(fault)))
    }));
    if checks.is_empty() && !shown.peers.is_empty() {
        checks.push(ok(NAME, format!("{} sessions established", up.len())));
    }
    checks
}

fn absent(peer: &BgpPeerShow, netstat: &str) -> DoctorCheck {
    let why = peer.last_down.as_deref().unwrap_or("no answer from it yet");
    let mut message = format!("{} ({}) is {:?}: {why}", peer.name, peer.peer, peer.state);
    let mut fix = mend(why).to_owned();
    let silent = why.contains("no answer") || why.contains("MD5");
    if let Some((count, said, mend)) = signatures(netstat).filter(|_| silent) {
        message.push_str(&format!(
            "; {count} TCP segments {said} came since the host started"
        ));
        fix = format!("{mend}, if they are of this peer; else {fix}");
    }
    check(NAME, Health::Degraded, message, fix)
}

/// What the kernel counted of signatures (RFC 2385) that are not as they should be.
fn signatures(netstat: &str) -> Option<(u64, &'static str, &'static str)> {
    const KINDS: [(&str, &str, &str); 3] = [
        (
            "TCPMD5Failure",
            "with a wrong MD5 signature",
            "make the two passwords the same",
        ),
        (
            "TCPMD5NotFound",
            "without the MD5 signature that is asked for",
            "set the password at the peer, too",
        ),
        (
            "TCPMD5Unexpected",
            "with an MD5 signature that nobody asks for",
            "set BGPPeer.spec.password, too",
        ),
    ];
    let mut kinds = KINDS.into_iter();
    kinds.find_map(|(name, said, mend)| {
        let count = counter(netstat, name).filter(|n| *n > 0)?;
        Some((count, said, mend))
    })
}

/// A counter: a line of names is followed by one of values.
fn counter(netstat: &str, name: &str) -> Option<u64> {
    let mut lines = netstat.lines();
    while let (Some(names), Some(values)) = (lines.next(), lines.next()) {
        let at = names.split_whitespace().position(|n| n == name);
        if let Some(at) = at {
            return values.split_whitespace().nth(at)?.parse().ok();
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peers(words: &[Option<&str>]) -> BgpPeersShow {
        let mut shown = crate::bgp::metrics::sample();
        let up = BgpPeerShow {
            guarded: 0,
            ..shown.peers.remove(0)
        };
        let peer = |why: &Option<&str>| BgpPeerShow {
            state: match why {
                Some(_) => BgpState::Active,
                None => BgpState::Established,
            },
            last_down: why.map(str::to_owned),
            ..up.clone()
        };
        BgpPeersShow {
            peers: words.iter().map(peer).collect(),
        }
    }

    const NETSTAT: &str = "TcpExt: SyncookiesSent TCPMD5NotFound TCPMD5Unexpected TCPMD5Failure\n\
                           TcpExt: 0 0 7 0\nIpExt: InNoRoutes\nIpExt: 3\n";

    #[test]
    fn every_reason_has_its_mend() {
        for (words, mend) in [
            (
                "no route to 10.0.0.1 port 179: Network is unreachable",
                "ip route get",
            ),
            (
                "TCP connection refused by 10.0.0.1 port 179",
                "start BGP there",
            ),
            (
                "the neighbour ended it: AS number is not the one configured for this neighbour",
                "asNumber",
            ),
            (
                "no answer from 10.0.0.1 port 179: both sides have to have the same password",
                "same password",
            ),
            (
                "no answer from 10.0.0.1 port 179; does the peer send with a TTL of 255 (TTL security)?",
                "TTL security on both",
            ),
            ("no answer from 10.0.0.1 port 179", "firewall"),
            (
                "password file /x: No such file or directory",
                "readable for routerd",
            ),
            ("we ended it: BFD session down", "UDP 3784"),
            (
                "no router advertised itself on swp1 yet",
                "link-local address as peerIP",
            ),
            (
                "we ended it: nothing heard within the hold time",
                "loses packets",
            ),
            (
                "the neighbour ended it: shut down by an operator: \"rack 7 moves\"",
                "take the session up",
            ),
        ] {
            let checks = checks(&peers(&[Some(words)]), "");
            assert_eq!((checks.len(), checks[0].state), (1, Health::Degraded));
            assert!(checks[0].message.contains(words), "{checks:?}");
            assert!(checks[0].fix.contains(mend), "{checks:?}");
        }
    }

    #[test]
    fn the_kernels_counters_tell_which_side_lacks_the_password() {
        let words = "no answer from 10.0.0.1 port 179";
        let checks = checks(&peers(&[Some(words), None]), NETSTAT);
        assert_eq!(checks.len(), 1);
        assert!(
            checks[0].message.contains("7 TCP segments with"),
            "{checks:?}"
        );
        assert!(
            checks[0].fix.contains("BGPPeer.spec.password"),
            "{checks:?}"
        );
    }

    #[test]
    fn all_up_is_one_line_and_nobody_is_none() {
        let all_up = checks(&peers(&[None, None]), NETSTAT);
        assert_eq!((all_up.len(), all_up[0].state), (1, Health::Ok));
        assert_eq!(checks(&peers(&[]), NETSTAT), []);
    }
}
