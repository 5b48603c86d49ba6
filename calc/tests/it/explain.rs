//! Every decision that an explanation tells.

mod ends;
mod policy;
mod way;

use std::sync::Arc;

use calc::Inputs;
use calc::explain::{Ends, ExplainError, Explained, Known, Question, explain};
use model::api::{AddressShow, ExplainAt, ExplainPath};
use model::keys;
use model::kv::Event;
use model::manifest;
use model::resources::VxlanMode;
use model::snapshot::{EndpointKey, RemoteEndpoint, Snapshot};

use crate::world::*;

use model::api::ExplainVerdict::Allow;

/// `a` is here, `b` on the same subnet, `c` beyond a router.
fn mesh() -> Store {
    let mut four = pool("10.0.0.0/16", VxlanMode::CrossSubnet);
    four.nat_outgoing = true;
    Store::default()
        .node("a", keyed(1, "192.0.2.1/24", "2001:db8:2::1/64"))
        .node("b", keyed(2, "192.0.2.2/24", "2001:db8:2::2/64"))
        .node("c", keyed(3, "198.51.100.3/24", ""))
        .pool("four", four)
        .pool("six", pool("fd00::/64", VxlanMode::Never))
        .block("10.0.0.0/26", block("a", 1, &[]))
        .block("10.0.1.0/26", block("b", 1, &[]))
        .block("10.0.2.0/26", block("c", 1, &[]))
        .block("10.0.3.0/26", block("c", 1, &[("10.0.3.9", "b")]))
        .endpoint("web", endpoint("rtdweb", &["10.0.0.1/32", "fd00::1/128"]))
        .endpoint("db", endpoint("rtddb", &["10.0.0.2/32"]))
}

fn remote(s: &mut Snapshot, name: &str, node: &str, ip: &str) {
    let key = EndpointKey {
        namespace: "shop".into(),
        name: format!("{node}-cni-{name}-eth0").into(),
    };
    let labels = [("app".to_owned(), name.to_owned())];
    let remote = RemoteEndpoint {
        node: node.into(),
        ips: [ip.parse().unwrap()].into(),
        labels: Arc::new(labels.into()),
        ports: [].into(),
        workload: name.into(),
    };
    s.remote_endpoints.insert(key, remote);
}

/// The mesh with workloads elsewhere and these policies; each begins with its kind.
fn snapshot(store: &Store, policies: &[&str]) -> Snapshot {
    let mut s = store.snapshot();
    remote(&mut s, "api", "b", "10.0.1.1");
    remote(&mut s, "far", "c", "10.0.2.1");
    remote(&mut s, "lent", "b", "10.0.3.9");
    for (revision, text) in (100..).zip(policies) {
        let text = format!("apiVersion: projectcalico.org/v3\nkind: {text}");
        let objects = manifest::parse(&text).unwrap();
        let object = &objects[0];
        model::validate::validate(object).unwrap();
        let event = Event {
            key: keys::resource(&object.id()),
            value: Some(manifest::encode_stored(object)),
            revision,
        };
        s.apply("a", &event);
        assert!(s.rejected.is_empty(), "{:?}", s.rejected);
    }
    s
}

fn question(source: &str, destination: &str, port: Option<u16>) -> Question {
    Question {
        source: source.to_owned(),
        destination: destination.to_owned(),
        protocol: 6,
        port,
        source_port: None,
        icmp_type: None,
        icmp_code: None,
        all: false,
    }
}

fn ask(s: &Snapshot, question: &Question) -> Result<Explained, ExplainError> {
    asked(s, question, &[])
}

fn asked(
    s: &Snapshot,
    question: &Question,
    records: &[AddressShow],
) -> Result<Explained, ExplainError> {
    let underlay = underlay_of(&s.nodes["a"].spec);
    let inputs = Inputs {
        node: "a",
        snapshot: s,
        underlay: &underlay,
        accepts_ra: false,
    };
    let state = calc::desired_state(&inputs);
    let ends = Ends::find(&inputs, question)?;
    let known = Known {
        inputs,
        state: &state,
        needs: &[(6, 12_379)],
    };
    explain(&known, question, &ends, records)
}

fn told(s: &Snapshot, source: &str, destination: &str) -> Explained {
    ask(s, &question(source, destination, Some(80))).unwrap()
}

/// The steps that have a say, in short.
fn steps(explained: &Explained) -> Vec<String> {
    let steps = explained.explanation.steps.iter();
    let steps = steps.map(|s| {
        let of = s.policy.as_deref().or(s.tier.as_deref()).unwrap_or("-");
        let rule = s.rule.map(|r| format!("[{r}]")).unwrap_or_default();
        format!("{:?} {:?} {of}{rule}", s.at, s.decision)
    });
    steps.collect()
}

fn reason(explained: &Explained, at: ExplainAt) -> &str {
    let mut steps = explained.explanation.steps.iter();
    steps.rfind(|s| s.at == at).map_or("", |s| &s.reason)
}

#[test]
fn neighbours_on_a_node_reach_each_other() {
    let s = snapshot(&mesh(), &[]);
    let x = told(&s, "default/web", "db");
    let e = &x.explanation;
    assert_eq!((e.verdict, e.route.path), (Allow, ExplainPath::Local));
    assert_eq!(
        steps(&x),
        ["Egress Allow -", "Route Forward -", "Ingress Allow -"]
    );
    assert_eq!(
        reason(&x, ExplainAt::Route),
        "delivered on node a, by interface rtddb"
    );
    assert_eq!((e.mtu, e.route.device.as_deref()), (1450, Some("rtddb")));
    assert_eq!(e.source.labels["projectcalico.org/namespace"], "default");
    assert_eq!(
        (e.source.pool.as_deref(), e.source.block),
        (Some("four"), Some(cidr("10.0.0.0/26")))
    );
    assert_eq!(x.source_interface.as_deref(), Some("rtdweb"));
    assert_eq!(e.staged, None);
    // IPv6 where the destination has no other.
    let x = told(&s, "default/web", "2001:db8:2::2");
    assert_eq!(x.explanation.source.ip.to_string(), "fd00::1");
}
