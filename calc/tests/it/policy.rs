//! What Calico documents about policy, case by case.

mod kubernetes;
mod order;
mod rules;

use calc::policy::{By, Mode, Packet, Verdict, World};
use model::keys;
use model::kv::Event;
use model::manifest;
use model::resources::{Action, PolicyType};
use model::snapshot::Snapshot;

use PolicyType::{Egress, Ingress};

/// What a daemon on `here` has read after such manifests were applied.
fn snapshot(text: &str) -> Snapshot {
    let mut snapshot = Snapshot::default();
    for (revision, object) in (1..).zip(manifest::parse(text).unwrap()) {
        model::validate::validate(&object).unwrap();
        let event = Event {
            key: keys::resource(&object.id()),
            value: Some(manifest::encode_stored(&object)),
            revision,
        };
        snapshot.apply("here", &event);
    }
    assert!(snapshot.rejected.is_empty(), "{:?}", snapshot.rejected);
    snapshot
}

/// Two namespaces, workloads on this node and on another, a host, and network sets.
const MESH: &str = "
apiVersion: v1
kind: Namespace
metadata: {name: shop, labels: {team: red}}
---
apiVersion: v1
kind: Namespace
metadata: {name: bank, labels: {team: blue}}
---
apiVersion: projectcalico.org/v3
kind: WorkloadEndpoint
metadata: {name: web, namespace: shop, labels: {app: web}}
spec:
  node: here
  interfaceName: tap0
  ipNetworks: [10.0.0.1, 'fd00::1']
  ports: [{name: http, protocol: TCP, port: 8080}, {name: dns, protocol: UDP, port: 53}]
---
apiVersion: projectcalico.org/v3
kind: WorkloadEndpoint
metadata: {name: db, namespace: shop, labels: {app: db}}
spec:
  node: there
  interfaceName: tap0
  serviceAccountName: keeper
  ipNetworks: [10.0.0.2]
  ports: [{name: http, protocol: TCP, port: 9090}]
---
apiVersion: projectcalico.org/v3
kind: WorkloadEndpoint
metadata: {name: web, namespace: bank, labels: {app: web}}
spec: {node: there, interfaceName: tap1, ipNetworks: [10.0.1.1], orchestrator: k8s}
---
apiVersion: projectcalico.org/v3
kind: HostEndpoint
metadata: {name: host, labels: {role: host}}
spec: {node: here, interfaceName: eth0, expectedIPs: [192.0.2.1]}
---
apiVersion: projectcalico.org/v3
kind: HostEndpoint
metadata: {name: open, labels: {role: open}}
spec: {node: there, interfaceName: eth0, expectedIPs: [192.0.2.2], profiles: [projectcalico-default-allow]}
---
apiVersion: projectcalico.org/v3
kind: GlobalNetworkSet
metadata: {name: feed, labels: {kind: feed, projectcalico.org/namespace: shop, projectcalico.org/orchestrator: k8s}}
spec: {nets: [198.51.100.0/24]}
---
apiVersion: projectcalico.org/v3
kind: NetworkSet
metadata: {name: feed, namespace: shop, labels: {kind: partner}}
spec: {nets: [203.0.113.0/24]}
";

const WEB: &str = "10.0.0.1";
const DB: &str = "10.0.0.2";
const BANK: &str = "10.0.1.1";
const HOST: &str = "192.0.2.1";
const FEED: &str = "198.51.100.7";
const PARTNER: &str = "203.0.113.7";
const STRANGER: &str = "9.9.9.9";

fn packet(source: &str, destination: &str, protocol: u8, port: u16) -> Packet {
    Packet {
        source: source.parse().unwrap(),
        destination: destination.parse().unwrap(),
        protocol,
        source_port: 40_000,
        destination_port: port,
        icmp: None,
    }
}

fn tcp(source: &str, destination: &str, port: u16) -> Packet {
    packet(source, destination, 6, port)
}

fn with(policies: &str) -> Snapshot {
    let policies = policies.replace("\n  V3 ", "\n---\napiVersion: projectcalico.org/v3\nkind: ");
    snapshot(&format!("{MESH}{policies}"))
}

/// One policy for `web` of `shop`.
fn of_shop(spec: &str) -> Snapshot {
    with(&format!(
        "\n  V3 NetworkPolicy\nmetadata: {{name: p, namespace: shop}}\nspec: {{selector: app == 'web', {spec}}}"
    ))
}

fn web<'a>(world: &World<'a>, direction: PolicyType, packet: &Packet) -> Verdict<'a> {
    world.evaluate(world.workload("shop", "web").unwrap(), direction, packet)
}

/// Of these peers of `web`, those that it hears on a TCP port.
fn heard<'p>(snapshot: &Snapshot, port: u16, peers: &[&'p str]) -> Vec<&'p str> {
    let world = World::new(snapshot, Mode::Enforced);
    let hears = |peer: &&&str| web(&world, Ingress, &tcp(peer, WEB, port)).allowed;
    peers.iter().filter(hears).copied().collect()
}

const ALL: [&str; 6] = [DB, BANK, HOST, FEED, PARTNER, STRANGER];

/// How a verdict came about, in short.
fn told(verdict: &Verdict<'_>) -> Vec<String> {
    let by = |by: &By<'_>| match by {
        By::Rule { tier, policy, rule } => format!("{tier}/{}[{rule}]", policy.name),
        By::EndOfTier { tier, policy } => format!("{tier} after {}", policy.name),
        By::Profile => "profile".to_owned(),
        By::Failsafe => "failsafe".to_owned(),
    };
    let told: Vec<_> = verdict
        .steps
        .iter()
        .map(|s| format!("{:?} {}", s.action, by(&s.by)))
        .collect();
    let last = verdict.steps.last().unwrap();
    assert_eq!(
        (last.by, last.action == Action::Allow),
        (verdict.by, verdict.allowed)
    );
    told
}

fn in_tier(tier: &str, name: &str, rules: &str) -> String {
    format!(
        "\n  V3 GlobalNetworkPolicy\nmetadata: {{name: {name}}}\nspec: {{tier: {tier}, selector: app == 'web', ingress: [{rules}]}}"
    )
}
