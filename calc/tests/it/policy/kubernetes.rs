//! Every pair of pods × port × protocol under random Kubernetes policies, against an evaluator that reads the
//! Kubernetes objects themselves and knows nothing of Calico's.

mod oracle;

use calc::policy::{Mode, World};
use model::resources::PolicyType;
use serde_json::{Value, json};

use super::{packet, snapshot};

const PROTOCOLS: [(&str, u8); 3] = [("TCP", 6), ("UDP", 17), ("SCTP", 132)];
const PORTS: [u16; 4] = [80, 81, 443, 8080];

struct Pod {
    namespace: &'static str,
    /// Of its namespace, its name among them.
    namespace_labels: Value,
    ip: String,
    labels: Value,
    /// Name, protocol, number.
    ports: Vec<(&'static str, &'static str, u16)>,
}

fn namespaces() -> [(&'static str, Value); 3] {
    [
        ("x", json!({"env": "prod", "team": "a"})),
        ("y", json!({"env": "prod"})),
        ("z", json!({"env": "test", "team": "b"})),
    ]
}

fn pods() -> Vec<Pod> {
    let mut pods = Vec::new();
    for (n, (namespace, mut namespace_labels)) in namespaces().into_iter().enumerate() {
        namespace_labels["kubernetes.io/metadata.name"] = namespace.into();
        for (p, labels) in [
            json!({"app": "web", "tier": "front"}),
            json!({"app": "db"}),
            json!({"tier": "front", "app": "job"}),
        ]
        .into_iter()
        .enumerate()
        {
            // The same name is another number, or of another protocol, in another namespace.
            let ports = match (n, p) {
                (0, 0) => vec![("http", "TCP", 80), ("dns", "UDP", 443)],
                (1, 0) => vec![("http", "TCP", 8080), ("dns", "TCP", 81)],
                (_, 1) => vec![("http", "UDP", 80)],
                _ => vec![],
            };
            let ip = format!("10.{n}.0.{}", 10 + p);
            pods.push(Pod {
                namespace,
                namespace_labels: namespace_labels.clone(),
                ip,
                labels,
                ports,
            });
        }
    }
    pods
}

/// Addresses that are no pod's, on both sides of the prefixes that policies name.
const STRANGERS: [&str; 3] = ["10.0.0.77", "10.1.0.200", "192.0.2.1"];

/// A small generator: the same policies in every run.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        // Numerical Recipes' constants; the high bits are the good ones.
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % sides
    }

    fn one_in(&mut self, n: u64) -> bool {
        self.roll(n) == 0
    }

    fn pick<T: Clone>(&mut self, from: &[T]) -> T {
        from[usize::try_from(self.roll(from.len() as u64)).unwrap()].clone()
    }

    fn many(&mut self, most: u64, mut make: impl FnMut(&mut Dice) -> Value) -> Value {
        (0..self.roll(most + 1)).map(|_| make(self)).collect()
    }

    fn selector(&mut self, keys: &[(&str, [&str; 3])]) -> Value {
        let mut selector = json!({});
        if self.one_in(4) {
            return selector;
        }
        if self.one_in(2) {
            let (key, values) = self.pick(keys);
            selector["matchLabels"] = json!({key: self.pick(&values)});
        }
        if self.one_in(2) {
            selector["matchExpressions"] = self.many(2, |dice| {
                let (key, values) = dice.pick(keys);
                let operator = dice.pick(&["In", "NotIn", "Exists", "DoesNotExist"]);
                let mut e = json!({"key": key, "operator": operator});
                if operator.ends_with("In") {
                    e["values"] = match dice.one_in(2) {
                        true => json!([dice.pick(&values)]),
                        false => json!([values[0], values[1]]),
                    };
                }
                e
            });
        }
        selector
    }

    fn pods(&mut self) -> Value {
        self.selector(&[
            ("app", ["web", "db", "none"]),
            ("tier", ["front", "back", "none"]),
        ])
    }

    fn namespaces(&mut self) -> Value {
        self.selector(&[
            ("env", ["prod", "test", "none"]),
            ("team", ["a", "b", "none"]),
            ("kubernetes.io/metadata.name", ["x", "y", "z"]),
        ])
    }

    fn peer(&mut self) -> Value {
        match self.roll(4) {
            0 => json!({"podSelector": self.pods()}),
            1 => json!({"namespaceSelector": self.namespaces()}),
            2 => json!({"namespaceSelector": self.namespaces(), "podSelector": self.pods()}),
            _ => {
                let cidr = self.pick(&["10.0.0.0/8", "10.1.0.0/16", "0.0.0.0/0", "10.0.0.8/29"]);
                let mut block = json!({"cidr": cidr});
                if self.one_in(2) && cidr != "10.0.0.8/29" && cidr != "10.1.0.0/16" {
                    block["except"] = json!(["10.1.0.0/24", "10.0.0.10/32"]);
                }
                json!({"ipBlock": block})
            }
        }
    }

    fn port(&mut self) -> Value {
        let mut port = json!({});
        if !self.one_in(3) {
            port["protocol"] = self.pick(&["TCP", "UDP", "SCTP"]).into();
        }
        match self.roll(5) {
            0 => {}
            1 => port["port"] = self.pick(&["http", "dns"]).into(),
            2 => {
                port["port"] = 80.into();
                port["endPort"] = self.pick(&[80, 81, 1000]).into();
            }
            _ => port["port"] = self.pick(&PORTS).into(),
        }
        port
    }

    fn rules(&mut self, peers: &str) -> Value {
        self.many(2, |dice| {
            let mut rule = json!({});
            if !dice.one_in(4) {
                rule[peers] = dice.many(2, Dice::peer);
            }
            if !dice.one_in(3) {
                rule["ports"] = dice.many(2, Dice::port);
            }
            rule
        })
    }

    fn policy(&mut self, name: usize) -> Value {
        let mut spec = json!({"podSelector": self.pods()});
        match self.roll(4) {
            0 => {}
            1 => spec["policyTypes"] = json!(["Ingress"]),
            2 => spec["policyTypes"] = json!(["Egress"]),
            _ => spec["policyTypes"] = json!(["Ingress", "Egress"]),
        }
        if !self.one_in(3) {
            spec["ingress"] = self.rules("from");
        }
        if !self.one_in(3) {
            spec["egress"] = self.rules("to");
        }
        let namespace = self.pick(&["x", "y", "z"]);
        json!({
            "apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy",
            "metadata": {"name": format!("p{name}"), "namespace": namespace}, "spec": spec,
        })
    }
}

fn manifest(pods: &[Pod], policies: &[Value]) -> String {
    let mut objects: Vec<Value> = Vec::new();
    for (name, labels) in namespaces() {
        objects.push(json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}}));
    }
    for (n, pod) in pods.iter().enumerate() {
        let ports = pod.ports.iter().map(
            |(name, protocol, port)| json!({"name": name, "protocol": protocol, "port": port}),
        );
        let node = ["here", "there"][n % 2];
        objects.push(json!({
            "apiVersion": "projectcalico.org/v3", "kind": "WorkloadEndpoint",
            "metadata": {"name": format!("pod{n}"), "namespace": pod.namespace, "labels": pod.labels},
            "spec": {"node": node, "orchestrator": "k8s", "interfaceName": format!("tap{n}"),
                "ipNetworks": [pod.ip], "ports": ports.collect::<Vec<_>>()},
        }));
    }
    // A set with a pod's labels is no pod.
    objects.push(json!({
        "apiVersion": "projectcalico.org/v3", "kind": "NetworkSet",
        "metadata": {"name": "set", "namespace": "x", "labels": {"app": "web"}},
        "spec": {"nets": ["10.0.0.77"]},
    }));
    objects.extend_from_slice(policies);
    json!({"apiVersion": "v1", "kind": "List", "items": objects}).to_string()
}

/// All flows under some policies; returns how many were let through and how many were not.
fn compare(policies: &[Value]) -> (u32, u32) {
    let pods = pods();
    let snapshot = snapshot(&manifest(&pods, policies));
    let world = World::new(&snapshot, Mode::Enforced);
    let known = pods.iter().map(|pod| (Some(pod), pod.ip.as_str()));
    let ends: Vec<_> = known.chain(STRANGERS.map(|ip| (None, ip))).collect();
    let (mut allowed, mut denied) = (0, 0);
    for from in &ends {
        for to in &ends {
            for (protocol, number) in PROTOCOLS {
                for port in PORTS {
                    let packet = packet(from.1, to.1, number, port);
                    for direction in [PolicyType::Egress, PolicyType::Ingress] {
                        let ingress = direction == PolicyType::Ingress;
                        let (end, peer) = if ingress { (to, from) } else { (from, to) };
                        let Some(pod) = end.0 else { continue };
                        let flow = oracle::Flow {
                            peer: *peer,
                            to: to.0,
                            protocol,
                            port,
                        };
                        let wanted = oracle::allows(policies, pod, ingress, &flow);
                        let endpoint = world.workload_at(end.1.parse().unwrap()).unwrap();
                        let verdict = world.evaluate(endpoint, direction, &packet);
                        assert_eq!(
                            verdict.allowed,
                            wanted,
                            "{direction:?} {} to {} {protocol} {port}: {verdict:?}\n{}",
                            from.1,
                            to.1,
                            serde_json::to_string_pretty(policies).unwrap()
                        );
                        if wanted { allowed += 1 } else { denied += 1 }
                    }
                }
            }
        }
    }
    (allowed, denied)
}

#[test]
fn random_policies_agree_with_kubernetes() {
    let (mut allowed, mut denied, mut policies) = (0, 0, 0);
    for seed in 0..120 {
        let mut dice = Dice(seed);
        let set: Vec<_> = (0..=dice.roll(4))
            .map(|n| dice.policy(usize::try_from(n).unwrap()))
            .collect();
        policies += set.len();
        let (a, d) = compare(&set);
        allowed += a;
        denied += d;
    }
    assert!(policies >= 250, "{policies}");
    // Neither answer is the one that is always right.
    let share = f64::from(denied) / f64::from(allowed + denied);
    assert!((0.1..0.9).contains(&share), "{share}");
}

#[test]
fn the_recipes_that_everybody_knows() {
    let policy = |namespace: &str, spec: Value| {
        json!({"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy",
            "metadata": {"name": "p", "namespace": namespace}, "spec": spec})
    };
    let open = compare(&[]).0;
    for (spec, fewer) in [
        (json!({"podSelector": {}}), true),
        (
            json!({"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}),
            true,
        ),
        (json!({"podSelector": {}, "ingress": [{}]}), false),
        (json!({"podSelector": {}, "ingress": [{"from": []}]}), false),
        (
            json!({"podSelector": {}, "policyTypes": ["Egress"], "egress": [{}]}),
            false,
        ),
        (
            json!({"podSelector": {}, "ingress": [{"from": [{"podSelector": {}}]}]}),
            true,
        ),
        (
            json!({"podSelector": {}, "ingress": [{"from": [{"namespaceSelector": {}}]}]}),
            true,
        ),
        (
            json!({"podSelector": {"matchLabels": {"app": "db"}}, "egress": [{"ports": [{"port": 443, "protocol": "UDP"}]}]}),
            true,
        ),
        (
            json!({"podSelector": {"matchLabels": {"app": "nobody"}}}),
            false,
        ),
    ] {
        let (allowed, denied) = compare(&[policy("x", spec.clone())]);
        assert_eq!(denied > 0, fewer, "{spec}");
        assert_eq!(allowed < open, fewer, "{spec}");
    }
}
