//! What cannot be put in force is said, and what stood before stands.

use model::Kind;
use model::object::ObjectId;
use model::resources::workload_endpoint::Protocol;
use model::resources::{Action, EntityRule, PolicyPort, PolicySpec, Rule, TierSpec};
use policy_common::tables::{Chain, MAX_STAGES};
use policy_ebpf::mirror::Mirror;
use policy_ebpf::{Change, Engine, Op, Party, PolicyError, Role, Settings};

fn id(kind: Kind, name: &str) -> ObjectId {
    ObjectId {
        kind,
        namespace: (kind == Kind::WorkloadEndpoint).then(|| "red".to_owned()),
        name: name.to_owned(),
    }
}

fn global(name: &str) -> ObjectId {
    id(Kind::GlobalNetworkPolicy, name)
}

fn pod(name: &str, address: &str) -> Change {
    let party = Party {
        labels: Default::default(),
        namespace: Some("red".into()),
        nets: vec![address.parse().unwrap()],
        ports: [].into(),
        role: Role::Workload,
    };
    Change::Party(id(Kind::WorkloadEndpoint, name), Some(party))
}

fn tcp(net: &str, port: u16) -> Rule {
    Rule {
        protocol: Some(Protocol::Name("TCP".to_owned())),
        source: EntityRule {
            nets: vec![net.parse().unwrap()],
            ..EntityRule::default()
        },
        destination: EntityRule {
            ports: vec![PolicyPort::single(port)],
            ..EntityRule::default()
        },
        ..Rule::any(Action::Allow)
    }
}

fn policy(name: &str, ingress: Vec<Rule>) -> Change {
    let spec = PolicySpec {
        ingress,
        ..PolicySpec::default()
    };
    Change::Policy(global(name), Some(spec))
}

struct Node {
    engine: Engine,
    tables: Mirror,
}

impl Node {
    fn new(cells: usize) -> Node {
        let settings = Settings {
            cells,
            ..Settings::default()
        };
        Node {
            engine: Engine::new(settings),
            tables: Mirror::default(),
        }
    }

    fn apply(&mut self, changes: impl IntoIterator<Item = Change>) {
        let update = self.engine.apply(changes);
        self.tables.update(&update);
    }

    fn ingress(&self, name: &str) -> Option<&Chain> {
        let chains = self
            .tables
            .endpoints
            .get(&id(Kind::WorkloadEndpoint, name))?;
        self.tables.chains.get(&chains.ingress)
    }

    fn problems(&self) -> Vec<String> {
        self.engine.problems().map(|(_, e)| e.to_string()).collect()
    }
}

/// Rules that all differ, in `n` nets that all overlap.
fn many(n: u16) -> Vec<Rule> {
    (0..n)
        .map(|k| tcp(&format!("10.0.0.0/{}", 8 + k % 20), 1 + k))
        .collect()
}

#[test]
fn too_many_cells_name_the_policy_and_what_stood_stays() {
    let mut node = Node::new(100);
    node.apply([
        pod("w", "10.9.9.1"),
        policy("small", vec![tcp("10.0.0.0/8", 80)]),
    ]);
    let before = *node.ingress("w").unwrap();
    assert_eq!(node.problems(), [""; 0]);
    let size = node.engine.size();
    node.apply([policy("big", many(40))]);
    let problems: Vec<_> = node.engine.problems().map(|(_, e)| e.clone()).collect();
    let [
        PolicyError::TooManyCells {
            policy: at,
            tier,
            limit: 100,
            ..
        },
    ] = &problems[..]
    else {
        panic!("{problems:?}");
    };
    assert_eq!((&**at, tier.as_str()), (&global("big"), "default"));
    assert!(!problems[0].is_retryable() && *problems[0].policy() == global("big"));
    assert_eq!(*node.ingress("w").unwrap(), before);
    assert_eq!(node.engine.size(), size);
    // A new endpoint gets nothing, and so is closed; others that the policy does not select are not touched.
    node.apply([pod("late", "10.9.9.2")]);
    assert_eq!(node.ingress("late"), None);
    assert_eq!(node.problems().len(), 2);
    // Mended, it is in force for both.
    node.apply([policy("big", many(3))]);
    assert_eq!(node.problems(), [""; 0]);
    assert_ne!(*node.ingress("w").unwrap(), before);
    assert_eq!(node.ingress("late"), node.ingress("w"));
    // And taken away it leaves what was there.
    node.apply([policy("big", many(40))]);
    assert_eq!(node.problems().len(), 2);
    node.apply([Change::Policy(global("big"), None)]);
    assert_eq!(
        (node.problems(), node.engine.size().cells),
        (vec![], size.cells)
    );
}

#[test]
fn a_policy_that_is_gone_stays_in_force_when_what_is_left_cannot_be() {
    let mut node = Node::new(100);
    node.apply([
        pod("w", "10.9.9.1"),
        policy("small", vec![tcp("10.0.0.0/8", 80)]),
    ]);
    let before = *node.ingress("w").unwrap();
    node.apply([
        policy("big", many(40)),
        Change::Policy(global("small"), None),
    ]);
    assert_eq!(*node.ingress("w").unwrap(), before);
    // Its rules still have their numbers, and a policy of the same name is another one.
    let cell = node.tables.cells.values().next().unwrap();
    assert!(node.engine.describe(cell.rule >> 2).is_some());
    node.apply([
        policy("small", vec![tcp("10.0.0.0/8", 81)]),
        Change::Policy(global("big"), None),
    ]);
    assert_eq!(node.problems(), [""; 0]);
    assert_ne!(*node.ingress("w").unwrap(), before);
    node.apply([Change::Policy(global("small"), None)]);
    assert_eq!(node.engine.size().programs, 0);
    assert_eq!(node.engine.size().atoms, 0);
}

#[test]
fn one_tier_more_than_there_is_room_for() {
    let mut node = Node::new(1 << 20);
    node.apply([pod("w", "10.9.9.1")]);
    for n in 0..=MAX_STAGES {
        assert_eq!(node.problems(), [""; 0], "{n}");
        let spec = PolicySpec {
            tier: Some(format!("t{n:02}")),
            ..PolicySpec::default()
        };
        let tier = Change::Tier(format!("t{n:02}"), Some(TierSpec::default()));
        node.apply([
            tier,
            Change::Policy(global(&format!("p{n:02}")), Some(spec)),
        ]);
    }
    let text = node.problems().join("\n");
    assert!(
        text.contains("GlobalNetworkPolicy/p16: its tier t16"),
        "{text}"
    );
    assert_eq!(node.ingress("w").unwrap().length, 16);
}

#[test]
fn ports_without_a_protocol_are_an_error_of_their_rule() {
    let mut node = Node::new(1 << 20);
    let mut bad = tcp("10.0.0.0/8", 80);
    bad.protocol = None;
    node.apply([
        pod("w", "10.9.9.1"),
        policy("bad", vec![tcp("10.0.0.0/8", 1), bad]),
    ]);
    let text = node.problems().join("\n");
    assert!(
        text.starts_with("GlobalNetworkPolicy/bad: spec.ingress[1] has ports"),
        "{text}"
    );
    assert_eq!(node.ingress("w"), None);
    assert_eq!(node.engine.size().atoms, 0);
}

#[test]
fn with_a_policy_that_nobody_can_read_nothing_opens() {
    let mut node = Node::new(1 << 20);
    node.apply([pod("w", "10.9.9.1"), policy("p", vec![])]);
    let before = *node.ingress("w").unwrap();
    node.apply([
        Change::Unknown(true),
        Change::Policy(global("p"), None),
        pod("late", "10.9.9.2"),
    ]);
    assert_eq!(*node.ingress("w").unwrap(), before);
    assert_eq!(node.ingress("late"), None);
    // It can go all the same.
    node.apply([Change::Party(id(Kind::WorkloadEndpoint, "w"), None)]);
    assert_eq!(node.ingress("w"), None);
    node.apply([Change::Unknown(false)]);
    assert_eq!(node.ingress("late").unwrap().length, 0);
}

#[test]
fn rules_keep_their_numbers_while_they_exist() {
    let mut node = Node::new(1 << 20);
    let rules = || vec![tcp("10.0.0.0/8", 80), tcp("10.0.0.0/8", 81)];
    node.apply([pod("w", "10.9.9.1"), policy("b", rules())]);
    let words = |node: &Node| {
        let mut words: Vec<u32> = node.tables.cells.values().map(|c| c.rule).collect();
        words.sort_unstable();
        words
    };
    let before = words(&node);
    assert_eq!(before.len(), 2);
    // Another policy before it, and a rule more: order changes, numbers do not.
    let mut more = rules();
    more.push(tcp("10.0.0.0/8", 82));
    node.apply([policy("a", vec![]), policy("b", more)]);
    let after = words(&node);
    assert!(
        before.iter().all(|w| after.contains(w)),
        "{before:?} {after:?}"
    );
    let update = node.engine.apply([policy("b", rules())]);
    let forgotten: Vec<_> = update
        .deletes
        .iter()
        .filter(|op| matches!(op, Op::Forget(_)))
        .collect();
    assert_eq!(forgotten.len(), 1);
    let gone = node.engine.apply([Change::Policy(global("b"), None)]);
    let gone = gone.deletes.iter().filter(|op| matches!(op, Op::Forget(_)));
    assert_eq!(gone.count(), 2);
}
