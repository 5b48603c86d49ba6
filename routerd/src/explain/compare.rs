//! What was expected beside what was found: policy, and peers of the encrypted tunnel.

use calc::explain::{ECHO, Explained, Judged, SOURCE_PORT};
use model::api::{ExplainCheck, Explanation};
use model::resources::PolicyType;
use wireguard::control::DeviceState;
use wireguard::keys::PublicKey;

use crate::flows::protocol;
use crate::policy::feed::TCP;
use crate::policy::judge::Ruled;

/// Policy of the endpoints here: each once, and every packet of which something else was found.
pub(super) fn policies<'j>(all: impl Iterator<Item = (&'j Judged, Ruled)>) -> Vec<ExplainCheck> {
    let mut checks: Vec<ExplainCheck> = Vec::new();
    for (judged, ruled) in all {
        let direction = match judged.direction {
            PolicyType::Egress => "egress",
            PolicyType::Ingress => "ingress",
        };
        let object = format!("{direction} policy of {}", judged.endpoint);
        let expected = judged.decided.to_string();
        let (agrees, found) = match ruled {
            Ruled::Decided(decided) => (decided == judged.decided, decided.to_string()),
            Ruled::Otherwise { allowed, why } => (allowed && judged.decided.allowed, why),
            Ruled::Unread(why) => (false, format!("cannot be read: {why}")),
        };
        let is_first = !checks.iter().any(|c| c.object == object);
        let object = match is_first || agrees {
            true => object,
            false => format!("{object}, port {}", judged.packet.destination_port),
        };
        if is_first || !agrees {
            checks.push(ExplainCheck {
                object,
                agrees,
                expected,
                found,
            });
        }
    }
    checks
}

/// The peer that the encrypted tunnel sends to.
pub(super) fn peer(
    explained: &Explained,
    device: Option<&DeviceState>,
    now_millis: u64,
) -> Option<ExplainCheck> {
    let way = &explained.way;
    let key = way.peer.filter(|_| way.is_here)?;
    let ip = explained.packet.destination;
    let node = way.next.as_deref().unwrap_or_default();
    let known = device.map(|d| d.peers.get(&PublicKey::new(*key.as_bytes())));
    let (agrees, found) = match known {
        None => (
            false,
            "there is no device, or it cannot be asked".to_owned(),
        ),
        Some(None) => (false, "the device has no such peer".to_owned()),
        Some(Some(peer)) if !peer.allowed_ips.iter().any(|c| c.contains(ip)) => {
            (false, format!("the peer does not own {ip}"))
        }
        Some(Some(peer)) => {
            let age = peer.last_handshake.map(|at| {
                let now = std::time::Duration::from_millis(now_millis);
                format!("last handshake {} s ago", now.saturating_sub(at).as_secs())
            });
            let age = age.unwrap_or_else(|| "no handshake yet".to_owned());
            (true, format!("it is there, {age}"))
        }
    };
    Some(ExplainCheck {
        object: "peer of the encrypted tunnel".to_owned(),
        agrees,
        expected: format!("{key} of node {node}, which owns {ip}"),
        found,
    })
}

/// What other nodes have to be asked about.
pub(super) fn elsewhere(explained: &Explained, here: &str, far: &[&Judged]) -> Vec<String> {
    let e = &explained.explanation;
    let command = command(e);
    let mut lines = Vec::new();
    let way = &explained.way;
    if !way.is_here {
        lines.push(format!(
            "the way is decided on node {}, not on {here}: run `{command}` there",
            way.node
        ));
    }
    for judged in far {
        let direction = match judged.direction {
            PolicyType::Egress => "egress",
            PolicyType::Ingress => "ingress",
        };
        let line = format!(
            "{direction} policy of {} is enforced on node {}: run `{command}` there",
            judged.endpoint, judged.node
        );
        if !lines.contains(&line) {
            lines.push(line);
        }
    }
    lines
}

/// What asks the same on another node.
fn command(e: &Explanation) -> String {
    let mut command = format!("routerctl explain {} {}", e.source.ip, e.destination.ip);
    let packet = &e.packet;
    if packet.protocol != TCP {
        command += &format!(" --proto {}", protocol(packet.protocol).to_lowercase());
    }
    let usual = packet.icmp_type.is_some_and(|t| ECHO.contains(&t)) && packet.icmp_code == Some(0);
    let icmp = |value: Option<u8>| value.filter(|_| !usual).map(u16::from);
    for (option, value) in [
        ("port", packet.port),
        (
            "source-port",
            packet.source_port.filter(|p| *p != SOURCE_PORT),
        ),
        ("icmp-type", icmp(packet.icmp_type)),
        ("icmp-code", icmp(packet.icmp_code)),
    ] {
        if let Some(value) = value {
            command += &format!(" --{option} {value}");
        }
    }
    command
}

#[cfg(test)]
mod tests {
    use calc::explain::{Decided, Decider};
    use calc::policy::Packet;
    use model::Kind;
    use model::object::ObjectId;

    use super::*;

    fn judged(port: u16, allowed: bool) -> Judged {
        Judged {
            endpoint: ObjectId {
                kind: Kind::WorkloadEndpoint,
                namespace: Some("shop".to_owned()),
                name: "web".to_owned(),
            },
            node: "a".to_owned(),
            direction: PolicyType::Egress,
            packet: Packet {
                source: [10, 0, 0, 1].into(),
                destination: [10, 0, 0, 2].into(),
                protocol: 6,
                source_port: 49_152,
                destination_port: port,
                icmp: None,
            },
            decided: Decided {
                allowed,
                by: Decider::Profile,
            },
        }
    }

    fn told(all: &[(Judged, Ruled)]) -> Vec<String> {
        let all = all.iter().map(|(j, r)| (j, r.clone()));
        let checks = policies(all);
        let text = |c: &ExplainCheck| format!("{}: {} {}", c.object, c.agrees, c.found);
        checks.iter().map(text).collect()
    }

    #[test]
    fn each_endpoint_is_told_once_and_every_difference() {
        let decided = |allowed, by| Ruled::Decided(Decided { allowed, by });
        let same = || decided(true, Decider::Profile);
        let tier = || Decider::EndOfTier {
            tier: "t".to_owned(),
        };
        let all = [
            (judged(0, true), same()),
            (judged(80, true), same()),
            (judged(443, true), decided(false, tier())),
            // The same verdict by another rule is another thing, too.
            (judged(444, true), decided(true, tier())),
        ];
        let object = "egress policy of WorkloadEndpoint/shop/web";
        assert_eq!(
            told(&all),
            [
                format!("{object}: true Allow by the profile"),
                format!("{object}, port 443: false Deny by the end of tier t"),
                format!("{object}, port 444: false Allow by the end of tier t"),
            ]
        );
    }

    #[test]
    fn what_passes_anyway_agrees_with_what_may_pass() {
        let open = || Ruled::Otherwise {
            allowed: true,
            why: "nobody enforces".to_owned(),
        };
        let closed = || Ruled::Otherwise {
            allowed: false,
            why: "closed".to_owned(),
        };
        let agrees = |allowed, ruled| {
            let judged = judged(80, allowed);
            policies([(&judged, ruled)].into_iter())[0].agrees
        };
        assert!(agrees(true, open()));
        assert!(!agrees(false, open()));
        assert!(!agrees(true, closed()));
        // What is dropped for want of its policy is not denied by it.
        assert!(!agrees(false, closed()));
        assert!(!agrees(true, Ruled::Unread("refused".to_owned())));
    }

    #[test]
    fn the_same_is_asked_elsewhere() {
        let asked = |packet: &str| {
            let end = |ip: &str| serde_json::json!({"ip": ip, "kind": "Workload", "text": ""});
            let e = serde_json::json!({
                "verdict": "Allow", "summary": "", "source": end("10.0.0.1"), "destination": end("10.0.0.2"),
                "packet": serde_json::from_str::<serde_json::Value>(packet).unwrap(), "steps": [], "mtu": 0,
                "route": {"node": "a", "path": "Local", "encrypted": false, "encryption": "Off", "mtuReason": ""},
                "kernelAgrees": true, "kernel": [], "notChecked": [],
            });
            let command = command(&serde_json::from_value(e).unwrap());
            let options = command.strip_prefix("routerctl explain 10.0.0.1 10.0.0.2");
            options.unwrap().to_owned()
        };
        assert_eq!(asked(r#"{"protocol": 6, "sourcePort": 49152}"#), "");
        assert_eq!(
            asked(r#"{"protocol": 17, "port": 53, "sourcePort": 1000}"#),
            " --proto udp --port 53 --source-port 1000"
        );
        assert_eq!(
            asked(r#"{"protocol": 58, "icmpType": 128, "icmpCode": 0}"#),
            " --proto icmpv6"
        );
        assert_eq!(
            asked(r#"{"protocol": 1, "icmpType": 3, "icmpCode": 1}"#),
            " --proto icmp --icmp-type 3 --icmp-code 1"
        );
        assert_eq!(asked(r#"{"protocol": 47}"#), " --proto 47");
    }
}
