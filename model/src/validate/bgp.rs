//! BGP resources and secrets.

mod filter;

use std::collections::HashSet;
use std::net::IpAddr;

pub(super) use filter::filter;

use super::pool::{selector, unusable};
use super::{Check, is_name};
use crate::bgp::Community;
use crate::kernel::LinkName;
use crate::resources::bgp_peer::BgpPassword;
use crate::resources::{AsNumber, BgpConfigurationSpec, BgpPeerSpec, GoDuration, SecretSpec};
use crate::{Cidr, marks};

/// Longest graceful restart, seconds (RFC 4724 section 3: twelve bits).
const MAX_RESTART: u64 = 4095;
/// Shortest and longest BFD interval, milliseconds.
const BFD_INTERVALS: std::ops::RangeInclusive<u32> = 10..=60_000;
/// Name of the configuration of all nodes.
const DEFAULT: &str = "default";
/// Names of configurations of one node begin so.
const OF_NODE: &str = "node.";

/// Whether this can name a `BGPConfiguration`.
pub(super) fn is_configuration_name(name: &str) -> bool {
    name == DEFAULT || name.strip_prefix(OF_NODE).is_some_and(is_name)
}

fn as_number(check: &mut Check, field: &str, number: Option<AsNumber>) {
    if let Some(number) = number.filter(|n| n.is_reserved()) {
        let mend = "write the real one, or a private one such as 64512";
        check.fault(field, number, "is reserved", mend);
    }
}

fn seconds(
    check: &mut Check,
    field: &str,
    duration: Option<GoDuration>,
    good: impl Fn(u64) -> bool,
    mend: &str,
) {
    if let Some(duration) = duration
        && !duration.whole_seconds().is_some_and(good)
    {
        check.fault(field, duration, "cannot be said in BGP", mend);
    }
}

fn hold_time(check: &mut Check, duration: Option<GoDuration>) {
    // RFC 4271 section 4.2.
    let good = |s| s == 0 || (3..=u64::from(u16::MAX)).contains(&s);
    let mend = "write 3s to 65535s in whole seconds, or 0s for no end";
    seconds(check, "spec.holdTime", duration, good, mend);
}

fn restart_time(check: &mut Check, field: &str, duration: Option<GoDuration>) {
    let mend = "write 0s to 4095s in whole seconds";
    seconds(check, field, duration, |s| s <= MAX_RESTART, mend);
}

fn password(check: &mut Check, field: &str, password: Option<&BgpPassword>) {
    let Some(password) = password else { return };
    let both = "write either secretKeyRef: {name, key} or file: PATH";
    match (&password.secret_key_ref, &password.file) {
        (Some(reference), None) => {
            check.that(
                is_name(&reference.name),
                format!("{field}.secretKeyRef.name"),
                format!("{:?}", reference.name),
                "cannot name a Secret",
                "write the name of a Secret",
            );
            check.that(
                is_secret_key(&reference.key),
                format!("{field}.secretKeyRef.key"),
                format!("{:?}", reference.key),
                "is no key of a Secret",
                KEY,
            );
        }
        (None, Some(file)) => {
            let good = file.starts_with('/') && !file.chars().any(char::is_control);
            let mend = "write an absolute path";
            let place = format!("{field}.file");
            check.that(good, place, format!("{file:?}"), "is no such path", mend);
        }
        (Some(_), Some(_)) => check.fault(field, "", "has two sources", both),
        (None, None) => check.fault(field, "", "has no source", both),
    }
}

/// Communities, or names of communities that `known` has.
fn community(check: &mut Check, field: String, text: &str, known: &HashSet<&str>) {
    if let Err(e) = text.parse::<Community>()
        && !known.contains(text)
    {
        let problem = "is neither a community nor a name in spec.communities";
        check.fault(field, format!("{text:?}"), problem, e.to_string());
    }
}

pub(super) fn configuration(check: &mut Check, spec: &BgpConfigurationSpec) {
    let name = check.object.name.clone();
    let named = name
        .strip_prefix(OF_NODE)
        .map(|node| format!("of Node/{node}"));
    if let Some(of) = named {
        let only = [
            (
                "nodeToNodeMeshEnabled",
                spec.node_to_node_mesh_enabled.is_some(),
            ),
            ("asNumber", spec.as_number.is_some()),
            ("nodeASNumbers", !spec.node_as_numbers.is_empty()),
            ("serviceClusterIPs", !spec.service_cluster_ips.is_empty()),
            ("serviceExternalIPs", !spec.service_external_ips.is_empty()),
            (
                "serviceLoadBalancerIPs",
                !spec.service_load_balancer_ips.is_empty(),
            ),
            ("nodeMeshPassword", spec.node_mesh_password.is_some()),
            (
                "nodeMeshMaxRestartTime",
                spec.node_mesh_max_restart_time.is_some(),
            ),
        ];
        for (field, _) in only.into_iter().filter(|(_, is)| *is) {
            let mend = match field {
                "asNumber" => "write spec.bgp.asNumber in the Node",
                _ => "write it in BGPConfiguration/default",
            };
            let problem = format!("is the same for all nodes, so it cannot be {of}");
            check.fault(format!("spec.{field}"), "", problem, mend);
        }
    }
    as_number(check, "spec.asNumber", spec.as_number);
    for (i, of) in spec.node_as_numbers.iter().enumerate() {
        let field = format!("spec.nodeASNumbers[{i}]");
        selector(
            check,
            &format!("{field}.nodeSelector"),
            Some(&of.node_selector),
        );
        as_number(check, &format!("{field}.asNumber"), Some(of.as_number));
    }
    for (field, blocks) in [
        ("spec.serviceClusterIPs", &spec.service_cluster_ips),
        ("spec.serviceExternalIPs", &spec.service_external_ips),
        (
            "spec.serviceLoadBalancerIPs",
            &spec.service_load_balancer_ips,
        ),
    ] {
        check.unique(field, blocks);
        for (i, block) in blocks.iter().enumerate() {
            if let Some((range, what)) = unusable(&block.cidr) {
                let problem = format!("shares addresses with {range}, which is {what}");
                let mend = "write a unicast prefix";
                check.fault(format!("{field}[{i}].cidr"), block.cidr, problem, mend);
            }
        }
    }
    let port = spec.listen_port == Some(0);
    check.that(
        !port,
        "spec.listenPort",
        0,
        "is no port",
        "write 1 to 65535",
    );
    let names: Vec<&str> = spec.communities.iter().map(|c| c.name.as_str()).collect();
    check.unique("spec.communities", &names);
    for (i, named) in spec.communities.iter().enumerate() {
        let field = format!("spec.communities[{i}]");
        let good = is_name(&named.name) && named.name.parse::<Community>().is_err();
        check.that(
            good,
            format!("{field}.name"),
            format!("{:?}", named.name),
            "cannot name a community",
            "write lower-case letters, digits, '-' and '.'",
        );
        community(
            check,
            format!("{field}.value"),
            &named.value,
            &HashSet::new(),
        );
    }
    let known: HashSet<&str> = match name.as_str() {
        DEFAULT => names.into_iter().collect(),
        // Those of `default` are known too; what is nowhere is reported when it is used.
        _ => (spec.prefix_advertisements.iter())
            .flat_map(|a| a.communities.iter().map(String::as_str))
            .filter(|text| is_name(text))
            .collect(),
    };
    for (i, advertisement) in spec.prefix_advertisements.iter().enumerate() {
        let field = format!("spec.prefixAdvertisements[{i}].communities");
        check.that(
            !advertisement.communities.is_empty(),
            &field,
            "[]",
            "says nothing",
            "write communities, or remove the prefix",
        );
        for (j, text) in advertisement.communities.iter().enumerate() {
            community(check, format!("{field}[{j}]"), text, &known);
        }
    }
    password(
        check,
        "spec.nodeMeshPassword",
        spec.node_mesh_password.as_ref(),
    );
    let off = spec.node_to_node_mesh_enabled == Some(false);
    for (field, is) in [
        ("spec.nodeMeshPassword", spec.node_mesh_password.is_some()),
        (
            "spec.nodeMeshMaxRestartTime",
            spec.node_mesh_max_restart_time.is_some(),
        ),
    ] {
        let mend = "remove it, or set spec.nodeToNodeMeshEnabled to true";
        check.that(
            !(off && is),
            field,
            "",
            "has no effect without the mesh",
            mend,
        );
    }
    let field = "spec.nodeMeshMaxRestartTime";
    restart_time(check, field, spec.node_mesh_max_restart_time);
    hold_time(check, spec.hold_time);
}

pub(super) fn peer(check: &mut Check, spec: &BgpPeerSpec) {
    who(check, spec);
    whom(check, spec);
    as_number(check, "spec.asNumber", spec.as_number);
    as_number(check, "spec.localASNumber", spec.local_as_number);
    password(check, "spec.password", spec.password.as_ref());
    restart_time(check, "spec.maxRestartTime", spec.max_restart_time);
    hold_time(check, spec.hold_time);
    how_far(check, spec);
    check.unique("spec.filters", &spec.filters);
    for (i, filter) in spec.filters.iter().enumerate() {
        check.that(
            is_name(filter),
            format!("spec.filters[{i}]"),
            format!("{filter:?}"),
            "cannot name a BGPFilter",
            "write the name of a BGPFilter",
        );
    }
    check.that(
        spec.reverse_peering.is_none() || spec.peer_selector.is_some(),
        "spec.reversePeering",
        format!("{:?}", spec.reverse_peering.unwrap_or_default()),
        "is for peers that peerSelector selects",
        "remove it",
    );
    if let Some(bfd) = &spec.bfd {
        for (field, ms) in [
            ("spec.bfd.transmitIntervalMs", bfd.transmit_interval_ms),
            ("spec.bfd.receiveIntervalMs", bfd.receive_interval_ms),
        ] {
            let mend = "write 10 to 60000";
            let good = BFD_INTERVALS.contains(&ms);
            check.that(good, field, ms, "is no interval of BFD", mend);
        }
        check.that(
            bfd.multiplier != 0,
            "spec.bfd.multiplier",
            0,
            "would never be down",
            "write 1 to 255; 3 is usual",
        );
    }
    check.that(
        spec.max_prefixes != Some(0),
        "spec.maxPrefixes",
        0,
        "lets no route in",
        "write the most that are expected, or reject all with a BGPFilter",
    );
}

/// Which nodes peer.
fn who(check: &mut Check, spec: &BgpPeerSpec) {
    if let Some(node) = &spec.node {
        check.that(
            is_name(node),
            "spec.node",
            format!("{node:?}"),
            "cannot name a node",
            "write the name of a Node",
        );
        check.that(
            spec.node_selector.is_none(),
            "spec.nodeSelector",
            format!("{:?}", spec.node_selector.as_deref().unwrap_or_default()),
            "cannot stand beside spec.node",
            "remove one of the two",
        );
    }
    selector(check, "spec.nodeSelector", spec.node_selector.as_deref());
}

/// Whom they peer with.
fn whom(check: &mut Check, spec: &BgpPeerSpec) {
    selector(check, "spec.peerSelector", spec.peer_selector.as_deref());
    if let Some(selector) = &spec.peer_selector {
        let beside = [
            ("spec.peerIP", spec.peer_ip.map(|ip| ip.to_string())),
            ("spec.peerInterface", spec.peer_interface.clone()),
            ("spec.asNumber", spec.as_number.map(|n| n.to_string())),
        ];
        for (field, value) in beside {
            let problem = format!("cannot stand beside spec.peerSelector ({selector})");
            let mend =
                "remove one of the two: the nodes that are selected have addresses and AS numbers";
            let is = value.is_some();
            check.that(!is, field, value.unwrap_or_default(), problem, mend);
        }
        return;
    }
    if let Some(interface) = &spec.peer_interface {
        let good = interface.parse::<LinkName>().is_ok()
            && interface != "lo"
            && !marks::is_our_link(interface);
        let mend = "write the name of an interface of the node towards the peer";
        let shown = format!("{interface:?}");
        check.that(good, "spec.peerInterface", shown, "leads to no peer", mend);
    }
    let Some(peer) = spec.peer_ip else {
        if spec.peer_interface.is_none() {
            let mend = "write peerIP and asNumber, peerInterface, or peerSelector";
            check.fault("spec", "", "names no peer", mend);
        } else if spec.password.is_some() {
            let mend = "write the peer's link-local address in spec.peerIP too";
            let problem = "needs a peer with an address";
            check.fault("spec.password", "", problem, mend);
        }
        return;
    };
    let link_local = is_link_local(peer.ip);
    if let Some((range, what)) = unusable(&Cidr::host(peer.ip)).filter(|_| !link_local) {
        let problem = format!("lies in {range}, which is {what}");
        check.fault("spec.peerIP", peer, problem, "write a unicast address");
    }
    check.that(
        peer.port != Some(0),
        "spec.peerIP",
        peer,
        "has no port",
        "write 1 to 65535, or no port for 179",
    );
    check.that(
        link_local == spec.peer_interface.is_some(),
        "spec.peerInterface",
        spec.peer_interface.as_deref().unwrap_or_default(),
        "goes with a link-local peerIP, or with none",
        "name it where peerIP is in fe80::/10, and only there",
    );
    let missing = spec.as_number.is_none();
    let mend = "write the AS number of the peer";
    check.that(!missing, "spec.asNumber", "", "is required", mend);
}

fn is_link_local(ip: IpAddr) -> bool {
    matches!(ip, IpAddr::V6(ip) if ip.is_unicast_link_local())
}

fn how_far(check: &mut Check, spec: &BgpPeerSpec) {
    let Some(hops) = spec.ttl_security else {
        return;
    };
    let field = "spec.ttlSecurity";
    let on_a_link = spec.peer_interface.is_some();
    let mend = "write 1 for a neighbour on a link, or how many hops it is away";
    check.that(hops != 0, field, 0, "is no number of hops", mend);
    check.that(
        hops <= 1 || !on_a_link,
        field,
        hops,
        "asks for several hops to a peer on a link",
        "write 1",
    );
}

const KEY: &str = "write up to 253 letters, digits, '-', '_' and '.'";

fn is_secret_key(key: &str) -> bool {
    let good = |c: u8| c.is_ascii_alphanumeric() || b"-_.".contains(&c);
    !key.is_empty() && key.len() <= 253 && key.bytes().all(good)
}

pub(super) fn secret(check: &mut Check, spec: &SecretSpec) {
    for key in spec.data.keys().filter(|key| !is_secret_key(key)) {
        // A key that is none may be the value.
        let problem = "a key is none";
        check.fault(
            "spec.data",
            "",
            problem,
            format!("{KEY} ({} bytes here)", key.len()),
        );
    }
}
