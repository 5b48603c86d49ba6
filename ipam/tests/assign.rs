//! Who gets which address, and what those who get none are told.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "helpers of tests"
)]

mod common;

use common::{Lab, c, ip, node_key, pool, small, workload};
use ipam::{AllocError, Assign, Families, IpamView, NamespaceMatch, Request};
use model::resources::{AllowedUse, AssignmentMode};
use model::{Cidr, Family, keys};

#[test]
fn the_same_handle_gets_the_same_address() {
    let mut lab = Lab::new();
    let mut n1 = lab.node("n1", &small());
    let first = lab.add(&mut n1, "h").unwrap();
    assert_eq!(lab.add(&mut n1, "h").unwrap(), first);
    let mut restarted = lab.daemon("n1", &small());
    let again = lab.assign(&mut restarted, workload("h")).unwrap();
    assert_eq!((again.addresses, again.existing), (first.clone(), true));
    // A handle is its node's: another may have one that is called the same.
    let mut n2 = lab.node("n2", &small());
    assert_ne!(lab.add(&mut n2, "h").unwrap(), first);
}

#[test]
fn a_cordoned_node_keeps_what_it_has_and_gets_no_more() {
    let mut lab = Lab::new();
    let mut n1 = lab.node("n1", &small());
    let first = lab.add(&mut n1, "h").unwrap();
    let cordoned = IpamView {
        cordoned: true,
        ..small()
    };
    n1.set_view(cordoned);
    assert_eq!(lab.add(&mut n1, "h").unwrap(), first);
    let error = lab.add(&mut n1, "other").unwrap_err();
    assert!(
        error
            .to_string()
            .contains("Node/n1 is cordoned: unset spec.unschedulable"),
        "{error}"
    );
    let tunnel = Assign::tunnel("tunnel.n1.ipv4", Family::V4);
    lab.assign(&mut n1, tunnel).unwrap();
}

#[test]
fn both_families_or_none() {
    let view = IpamView {
        pools: vec![
            pool("four", "10.0.0.0/28", 30),
            pool("six", "fd00::/128", 128),
        ],
        ..IpamView::default()
    };
    let mut lab = Lab::new();
    let mut n1 = lab.node("n1", &view);
    let first = lab.add(&mut n1, "h").unwrap();
    assert_eq!((first[0].is_ipv4(), first[1]), (true, ip("fd00::")));
    let error = lab.add(&mut n1, "g").unwrap_err();
    let text = error.to_string();
    assert!(
        text.starts_with("g: no IPv6 address: IPPool/six: full, 1 of 1 blocks claimed"),
        "{text}"
    );
    let used: usize = lab.block(&c4(&first[0])).unwrap().used.len();
    assert_eq!(used, 1, "no IPv4 address is kept for the one refused");
    let families = Families::Exactly(vec![Family::V4]);
    let four = Assign {
        families,
        ..workload("g")
    };
    assert_eq!(lab.assign(&mut n1, four).unwrap().addresses.len(), 1);
}

fn c4(ip: &std::net::IpAddr) -> String {
    model::Cidr::containing(*ip, 30).unwrap().to_string()
}

#[test]
fn every_pool_that_does_not_serve_is_named_with_its_reason() {
    let mut disabled = pool("a", "10.0.0.0/28", 30);
    disabled.spec.disabled = true;
    let mut other_rack = pool("b", "10.0.1.0/28", 30);
    other_rack.spec.node_selector = Some("rack == 'x'".into());
    other_rack.selects_node = false;
    let mut other_namespace = pool("c", "10.0.2.0/28", 30);
    other_namespace.spec.namespace_selector = Some("team == 'db'".into());
    other_namespace.namespaces = NamespaceMatch::new(|name| name == "db");
    let mut manual = pool("d", "10.0.3.0/28", 30);
    manual.spec.assignment_mode = AssignmentMode::Manual;
    let mut tunnels = pool("e", "10.0.4.0/28", 30);
    tunnels.spec.allowed_uses = vec![AllowedUse::Tunnel];
    let pools = vec![disabled, other_rack, other_namespace, manual, tunnels];
    let view = IpamView {
        pools,
        ..IpamView::default()
    };
    let mut lab = Lab::new();
    let mut n1 = lab.node("n1", &view);
    let text = lab.add(&mut n1, "h").unwrap_err().to_string();
    assert_eq!(
        text,
        "h: no IP address: IPPool/a: disabled; \
         IPPool/b: nodeSelector rack == 'x' does not match Node/n1; \
         IPPool/c: namespaceSelector team == 'db' does not match Namespace/default; \
         IPPool/d: assignmentMode Manual: only for requests that name it; \
         IPPool/e: allowedUses [Tunnel] lacks Workload; \
         add or enlarge a pool, or change what stands in the way"
    );
    // Naming a pool overrides its selectors and Manual, not `disabled`.
    for (name, served) in [
        ("d", true),
        ("b", true),
        ("10.0.2.0/28", true),
        ("a", false),
        ("x", false),
    ] {
        let pools = vec![(Family::V4, name.to_owned())];
        let wanted = Assign {
            pools,
            ..workload(&format!("named-{name}"))
        };
        assert_eq!(lab.assign(&mut n1, wanted).is_ok(), served, "{name}");
    }
    let tunnel = lab
        .assign(&mut n1, Assign::tunnel("t", Family::V4))
        .unwrap();
    // A tunnel has no namespace: the first pool that takes tunnels serves.
    assert!(c("10.0.2.0/28").contains(tunnel.addresses[0]));
    let db = Assign::workload("in-db", "db", "x");
    let db = lab.assign(&mut n1, db).unwrap();
    assert!(c("10.0.2.0/28").contains(db.addresses[0]));
}

#[test]
fn without_a_pool_the_error_says_so() {
    let mut lab = Lab::new();
    let mut n1 = lab.node("n1", &IpamView::default());
    let text = lab.add(&mut n1, "h").unwrap_err().to_string();
    assert!(text.contains("no IP address: there is no IPPool"), "{text}");
}

#[test]
fn an_address_asked_for_by_number() {
    let mut lab = Lab::new();
    let view = IpamView {
        reservations: vec![c("10.0.0.4/30")],
        ..small()
    };
    let mut n1 = lab.node("n1", &view);
    // In no block yet, and reserved: the block is claimed.
    assert_eq!(
        lab.add_ip(&mut n1, "h", "10.0.0.5").unwrap(),
        [ip("10.0.0.5")]
    );
    assert_eq!(
        lab.block("10.0.0.4/30").unwrap().node.as_deref(),
        Some("n1")
    );
    let text = lab
        .add_ip(&mut n1, "g", "10.0.0.5")
        .unwrap_err()
        .to_string();
    assert!(text.contains("10.0.0.5 is held by h"), "{text}");
    let text = lab
        .add_ip(&mut n1, "g", "10.9.0.5")
        .unwrap_err()
        .to_string();
    assert!(
        text.contains("IPPool/a: 10.0.0.0/28 does not contain it"),
        "{text}"
    );
    // In another node's block: borrowed, unless affinity is strict.
    let mut n2 = lab.node("n2", &view);
    assert_eq!(
        lab.add_ip(&mut n2, "g", "10.0.0.6").unwrap(),
        [ip("10.0.0.6")]
    );
    let summary = lab.block("10.0.0.4/30").unwrap().summary();
    assert_eq!(summary.borrowed, [(ip("10.0.0.6"), "n2".into())]);
    let mut strict = view.clone();
    strict.config.strict_affinity = true;
    n2.set_view(strict);
    let error = lab.add_ip(&mut n2, "f", "10.0.0.7").unwrap_err();
    assert!(
        error.to_string().contains("block 10.0.0.4/30 of Node/n1"),
        "{error}"
    );
    // A released address rests, but not from who asks for it by number.
    lab.del(&mut n2, "g");
    lab.tell(&mut n1);
    assert_eq!(
        lab.add_ip(&mut n1, "e", "10.0.0.6").unwrap(),
        [ip("10.0.0.6")]
    );
}

#[test]
fn an_address_just_freed_elsewhere_is_not_refused_on_stale_knowledge() {
    let mut lab = Lab::new();
    let mut n1 = lab.node("n1", &small());
    lab.add_ip(&mut n1, "h", "10.0.0.5").unwrap();
    let mut n2 = lab.node("n2", &small());
    assert!(lab.add_ip(&mut n2, "g", "10.0.0.5").is_err());
    lab.del(&mut n1, "h");
    // n2 is not told: its watch lags.
    assert_eq!(
        lab.add_ip(&mut n2, "g", "10.0.0.5").unwrap(),
        [ip("10.0.0.5")]
    );
}

#[test]
fn reservations_are_honoured_for_automatic_addresses() {
    let reservations = vec![c("10.0.0.0/29"), c("10.0.0.8/32"), c("10.0.0.12/30")];
    let view = IpamView {
        reservations,
        ..small()
    };
    let mut lab = Lab::new();
    let mut n1 = lab.node("n1", &view);
    let mut got: Vec<_> = (0..3)
        .map(|i| lab.add(&mut n1, &format!("h{i}")).unwrap()[0])
        .collect();
    got.sort();
    assert_eq!(got, [ip("10.0.0.9"), ip("10.0.0.10"), ip("10.0.0.11")]);
    let text = lab.add(&mut n1, "more").unwrap_err().to_string();
    assert!(text.contains("full, 1 of 4 blocks"), "{text}");
}

#[test]
fn a_freed_address_rests_and_the_error_says_for_how_long() {
    let view = IpamView {
        pools: vec![pool("a", "10.0.0.0/30", 30)],
        ..IpamView::default()
    };
    let mut lab = Lab::new();
    let mut n1 = lab.node("n1", &view);
    for i in 0..4 {
        lab.add(&mut n1, &format!("h{i}")).unwrap();
    }
    lab.del(&mut n1, "h2");
    lab.now += 5_000;
    lab.del(&mut n1, "h1");
    let error = lab.add(&mut n1, "g").unwrap_err();
    assert!(
        error
            .to_string()
            .contains("a freed address is ready in 25 s"),
        "{error}"
    );
    assert!(error.is_retryable());
    lab.now += 30_000;
    let both = [
        lab.add(&mut n1, "g").unwrap()[0],
        lab.add(&mut n1, "f").unwrap()[0],
    ];
    assert_eq!(both, [ip("10.0.0.2"), ip("10.0.0.1")], "oldest freed first");
}

#[test]
fn a_node_that_may_claim_no_more_borrows() {
    let mut view = small();
    view.config.max_blocks_per_host = 1;
    let mut lab = Lab::new();
    let mut n1 = lab.node("n1", &view);
    lab.add(&mut n1, "lender").unwrap();
    let mut n2 = lab.node("n2", &view);
    for i in 0..5 {
        lab.add(&mut n2, &format!("h{i}")).unwrap();
    }
    assert_eq!(lab.count(&keys::affinities_of("n2")), 1);
    let borrowed = Cidr::containing(lab.held("h4")[0], 30).unwrap();
    let lender = lab.block(&borrowed.to_string()).unwrap().node;
    assert_eq!(lender.as_deref(), Some("n1"));
    view.config.strict_affinity = true;
    n2.set_view(view);
    let text = lab.add(&mut n2, "h5").unwrap_err().to_string();
    assert!(text.contains("maxBlocksPerHost 1 is reached"), "{text}");
    assert!(text.contains("strictAffinity forbids borrowing"), "{text}");
}

#[test]
fn a_full_pool_is_borrowed_from_and_then_full() {
    let view = IpamView {
        pools: vec![pool("a", "10.0.0.0/30", 31)],
        ..IpamView::default()
    };
    let mut lab = Lab::new();
    let (mut n1, mut n2) = (lab.node("n1", &view), lab.node("n2", &view));
    lab.add_ip(&mut n1, "h0", "10.0.0.0").unwrap();
    lab.add_ip(&mut n1, "h1", "10.0.0.2").unwrap();
    lab.tell(&mut n2);
    lab.add(&mut n2, "g0").unwrap();
    lab.add(&mut n2, "g1").unwrap();
    let text = lab.add(&mut n2, "g2").unwrap_err().to_string();
    assert!(
        text.contains("IPPool/a: full, 2 of 2 blocks claimed"),
        "{text}"
    );
}

#[test]
fn an_identity_keeps_its_address_across_workloads_and_nodes() {
    let sticky = |handle: &str| Assign {
        identity: Some("sticky.default.db".into()),
        ..workload(handle)
    };
    let mut lab = Lab::new();
    let (mut n1, mut n2) = (lab.node("n1", &small()), lab.node("n2", &small()));
    let first = lab.assign(&mut n1, sticky("old")).unwrap();
    let error = lab.assign(&mut n2, sticky("new")).unwrap_err();
    let text =
        "new: identity sticky.default.db is in use by old on Node/n1: stop that workload first";
    assert_eq!(error.to_string(), text);
    assert_eq!(
        lab.del(&mut n1, "old").addresses,
        [] as [std::net::IpAddr; 0]
    );
    lab.now += 3_600_000;
    lab.run(&mut n1);
    let moved = lab.assign(&mut n2, sticky("new")).unwrap();
    assert_eq!(
        (moved.addresses.clone(), moved.existing),
        (first.addresses.clone(), true)
    );
    let block = lab.block(&first.blocks[0].to_string()).unwrap();
    assert_eq!(
        block.summary().borrowed,
        [(first.addresses[0], "n2".into())]
    );
    // The same container asks again.
    assert_eq!(
        lab.assign(&mut n2, sticky("new")).unwrap().addresses,
        first.addresses
    );
    let other = Assign {
        addresses: vec![ip("10.0.0.15")],
        ..sticky("third")
    };
    lab.del(&mut n2, "new");
    let error = lab.assign(&mut n2, other).unwrap_err();
    assert!(
        matches!(error, AllocError::IdentityDiffers { .. }),
        "{error}"
    );
    let freed = lab.del(&mut n1, "sticky.default.db");
    assert_eq!(freed.addresses, first.addresses);
    assert_eq!((lab.used(), lab.count(keys::IDENTITIES)), (0, 0));
}

#[test]
fn a_node_that_does_not_exist_gets_nothing() {
    let mut lab = Lab::new();
    let mut n1 = lab.node("n1", &small());
    lab.add(&mut n1, "h").unwrap();
    lab.delete(&node_key("n1"));
    let error = lab.add(&mut n1, "g").unwrap_err();
    assert!(matches!(error, AllocError::NodeUnknown { .. }), "{error}");
    assert!(lab.add(&mut n1, "h").is_err(), "not even what it had");
    lab.del(&mut n1, "h");
    assert_eq!((lab.used(), lab.count(keys::IDENTITIES)), (0, 0));
}

#[test]
fn a_block_that_cannot_be_read_is_left_alone_and_reported() {
    let view = IpamView {
        pools: vec![pool("a", "10.0.0.0/29", 30)],
        ..IpamView::default()
    };
    let mut lab = Lab::new();
    lab.put(
        &keys::block(&c("10.0.0.0/30")),
        r#"{"version":1,"cidr":"10.0."#,
    );
    let mut n1 = lab.node("n1", &view);
    for i in 0..4 {
        let got = lab.add(&mut n1, &format!("h{i}")).unwrap();
        assert!(c("10.0.0.4/30").contains(got[0]));
    }
    assert!(lab.add(&mut n1, "h4").is_err());
    let error = lab.add_ip(&mut n1, "g", "10.0.0.1").unwrap_err();
    assert!(
        matches!(&error, AllocError::Unreadable { key, .. } if key.ends_with("10.0.0.0/30")),
        "{error}"
    );
}

#[test]
fn blocks_of_an_earlier_size_are_neither_overlapped_nor_lost() {
    let mut lab = Lab::new();
    let mut n1 = lab.node("n1", &small());
    let old = lab.add(&mut n1, "h").unwrap();
    let view = IpamView {
        pools: vec![pool("a", "10.0.0.0/28", 29)],
        ..IpamView::default()
    };
    let mut n2 = lab.node("n2", &view);
    for i in 0..8 {
        lab.add(&mut n2, &format!("g{i}")).unwrap();
    }
    let wide: Vec<_> = lab
        .store_blocks()
        .into_iter()
        .filter(|b| b.prefix_len() == 29)
        .collect();
    assert_eq!(wide.len(), 1);
    assert!(!wide[0].contains(old[0]));
    let beside = Cidr::containing(old[0], 30).unwrap();
    n1.set_view(view);
    let more = lab.add(&mut n1, "h2").unwrap();
    assert!(beside.contains(more[0]), "the old block serves on");
}

#[test]
fn a_claim_waits_for_the_pools_that_it_rests_on() {
    let mut lab = Lab::new();
    let mut n1 = lab.node("n1", &small());
    lab.put(keys::POOLS_GUARD, "1");
    let revision = lab.store_revision(keys::POOLS_GUARD);
    n1.submit(lab.now, ipam::RequestId(1), Request::Assign(workload("h")));
    lab.run(&mut n1);
    assert_eq!((n1.poll_reply(), lab.count(keys::BLOCKS)), (None, 0));
    let pools = vec![pool("b", "10.1.0.0/28", 30)];
    let pools_guard = Some(revision);
    n1.set_view(IpamView {
        pools,
        pools_guard,
        ..IpamView::default()
    });
    lab.run(&mut n1);
    assert!(n1.poll_reply().unwrap().1.is_ok());
    assert!(c("10.1.0.0/28").covers(&lab.store_blocks()[0]));
}

impl Lab {
    fn store_blocks(&mut self) -> Vec<model::Cidr> {
        use ipam::testing::TestStore;
        let all = self.store.list(keys::BLOCKS);
        all.iter()
            .filter_map(|kv| keys::parse_block(&kv.key))
            .collect()
    }

    fn store_revision(&mut self, key: &str) -> i64 {
        use ipam::testing::TestStore;
        self.store.list(key)[0].mod_revision
    }
}
