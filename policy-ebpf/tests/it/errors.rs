//! What cannot be put in force is said, and what stood before stands.

use model::Kind;
use model::object::ObjectId;
use model::resources::workload_endpoint::Protocol;
use model::resources::{Action, EntityRule, PolicyPort, PolicySpec, Rule, TierSpec};
use policy_common::tables::{Chain, MAX_STAGES};
use policy_ebpf::mirror::Mirror;
use policy_ebpf::{Change, Engine, Labels, Op, Party, PolicyError, Role, Settings, Update};

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
    labelled(name, address, Labels::new())
}

fn labelled(name: &str, address: &str, labels: Labels) -> Change {
    let party = Party {
        labels: labels.into(),
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
        Node::with(Settings {
            cells,
            ..Settings::default()
        })
    }

    fn with(settings: Settings) -> Node {
        Node {
            engine: Engine::new(settings),
            tables: Mirror::default(),
        }
    }

    fn apply(&mut self, changes: impl IntoIterator<Item = Change>) -> Update {
        let update = self.engine.apply(changes);
        self.tables.update(&update);
        update
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

/// Rules of as many ports, each with a row of its own.
fn ports(n: u16) -> Vec<Rule> {
    let rule = |port| Rule {
        protocol: Some(Protocol::Name("TCP".to_owned())),
        destination: EntityRule {
            ports: vec![PolicyPort::single(port)],
            ..EntityRule::default()
        },
        ..Rule::any(Action::Allow)
    };
    (1..=n).map(rule).collect()
}

fn of_tier(name: &str, tier: &str, ingress: Vec<Rule>) -> Change {
    let spec = PolicySpec {
        tier: Some(tier.to_owned()),
        ingress,
        ..PolicySpec::default()
    };
    Change::Policy(global(name), Some(spec))
}

#[test]
fn policies_that_do_not_fit_the_maps_together_are_an_error_of_the_one_that_comes() {
    let mut node = Node::with(Settings {
        rows: 100,
        ..Settings::default()
    });
    node.apply([pod("w", "10.9.9.1"), of_tier("one", "a", ports(60))]);
    assert_eq!(node.problems(), [""; 0]);
    let (before, size) = (*node.ingress("w").unwrap(), node.engine.size());
    let update = node.apply([of_tier("two", "b", ports(60))]);
    let problems: Vec<_> = node.engine.problems().map(|(_, e)| e.clone()).collect();
    let [
        PolicyError::NoRoom {
            policy,
            tier,
            limit: 100,
            ..
        },
    ] = &problems[..]
    else {
        panic!("{problems:?}");
    };
    assert_eq!((&**policy, tier.as_str()), (&global("two"), "b"));
    // Nothing of it was written.
    let forgets = |op: &Op| matches!(op, Op::Forget(_));
    assert!(update.ops().all(forgets), "{update:?}");
    assert_eq!(*node.ingress("w").unwrap(), before);
    assert_eq!(node.engine.size(), size);
    // As before, for a moment it needs room for both.
    node.apply([of_tier("two", "b", ports(30))]);
    assert_eq!(node.problems(), [""; 0]);
    assert_eq!(node.tables.cells.len(), 90);
    node.apply([of_tier("two", "b", ports(31))]);
    assert_eq!(node.problems().len(), 1);
    assert_eq!(node.tables.cells.len(), 90);
}

#[test]
fn what_waits_for_room_has_it_when_others_have_left_the_maps() {
    let mut node = Node::with(Settings {
        rows: 100,
        ..Settings::default()
    });
    let policy = |name: &str| {
        let spec = PolicySpec {
            selector: Some(format!("has({name})")),
            ingress: ports(60),
            ..PolicySpec::default()
        };
        Change::Policy(global(name), Some(spec))
    };
    let of = |label: &str| Labels::from([(label.to_owned(), String::new())]);
    node.apply([
        policy("one"),
        policy("two"),
        labelled("v", "10.9.9.1", of("one")),
    ]);
    node.apply([labelled("w", "10.9.9.2", of("two"))]);
    assert_eq!(node.problems().len(), 1);
    assert_eq!(node.ingress("w"), None);
    // They leave at the end of an update, and what waited comes behind it.
    let gone = Change::Party(id(Kind::WorkloadEndpoint, "v"), None);
    let update = node.apply([gone]);
    let next = update.next.expect("another one");
    assert!(!next.puts.is_empty() && next.next.is_none());
    assert_eq!(node.problems(), [""; 0]);
    assert_eq!(node.ingress("w").unwrap().length, 1);
    assert_eq!(node.tables.cells.len(), 60);
}

#[test]
fn the_rows_in_the_maps_never_pass_the_limit_while_policies_change() {
    let mut node = Node::with(Settings {
        rows: 120,
        ..Settings::default()
    });
    node.apply([pod("w", "10.9.9.1"), pod("v", "10.9.9.2")]);
    let (mut refused, mut most) = (0, 0);
    for step in 0..200u16 {
        let tier = ["a", "b", "c"][usize::from(step) % 3];
        let change = match step * 7 % 5 {
            0 => Change::Policy(global(tier), None),
            n => of_tier(tier, tier, ports(n * (step % 17))),
        };
        let update = node.engine.apply([change]);
        for op in update.ops() {
            node.tables.apply(op);
            most = most.max(node.tables.cells.len().max(node.tables.ports.len()));
        }
        refused += usize::from(!node.problems().is_empty());
    }
    assert!(most <= 120 && most > 60, "{most}");
    assert!(refused > 10, "{refused}");
}

#[test]
fn what_others_who_come_take_beyond_a_limit_is_said() {
    let mut node = Node::new(20);
    let rules = |n: u16| -> Vec<Rule> {
        let rule = |n: u16| {
            let mut rule = tcp("10.0.0.0/8", 1 + n);
            rule.source.selector = Some(format!("has(l{n})"));
            rule
        };
        (0..n).map(rule).collect()
    };
    node.apply([pod("w", "10.9.9.1"), policy("big", rules(6))]);
    assert_eq!(node.problems(), [""; 0]);
    // Each has other labels of those that the rules name, so each is a class of its own.
    for number in 0..30u8 {
        let labels = (0..6).filter(|bit| number & (1 << bit) != 0);
        let labels = labels
            .map(|bit| (format!("l{bit}"), String::new()))
            .collect();
        node.apply([labelled(
            &format!("late{number}"),
            &format!("10.9.8.{number}"),
            labels,
        )]);
    }
    let problems: Vec<_> = node.engine.problems().map(|(_, e)| e.clone()).collect();
    let [
        PolicyError::Outgrown {
            policy: at,
            tier,
            rows,
            limit: 20,
            ..
        },
    ] = &problems[..]
    else {
        panic!("{problems:?}");
    };
    assert_eq!((&**at, tier.as_str()), (&global("big"), "default"));
    assert!(*rows > 20 && *rows == node.tables.cells.len(), "{rows}");
    // It is in force all the same, for those that came as well.
    assert_eq!(node.ingress("late9"), node.ingress("w"));
    node.apply([policy("big", rules(2))]);
    assert_eq!(node.problems(), [""; 0]);
}

#[test]
fn an_endpoint_whose_policy_cannot_be_put_in_force_is_said_to_be_closed() {
    let mut node = Node::new(10);
    node.apply([policy("big", many(40)), pod("w", "10.9.9.1")]);
    assert_eq!(node.problems().len(), 1);
    assert_eq!(node.engine.chains(&id(Kind::WorkloadEndpoint, "w")), None);
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
