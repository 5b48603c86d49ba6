//! Releases, housekeeping, garbage, and the end of a node.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "helpers of tests"
)]

mod common;

use std::collections::BTreeSet;

use common::{Lab, c, ip, node_key, pool, small, workload};
use ipam::{AllocError, Allocator, Assign, Cleanup, Extra, IpamView, Release, Request, RequestId};
use model::kv::Op;
use model::{Cidr, keys};

fn reclaim(node: &str) -> Request {
    Request::ReclaimNode(node.into(), Cleanup::default())
}

/// Lets time pass in the steps that the allocator asks for.
fn pass(lab: &mut Lab, a: &mut Allocator, ms: u64) {
    let end = lab.now + ms;
    while let Some(next) = a.poll_timeout().filter(|t| *t <= end) {
        lab.now = lab.now.max(next);
        lab.run(a);
        lab.now += 1;
    }
    lab.now = end;
}

fn owner(lab: &mut Lab, cidr: Cidr) -> Option<String> {
    lab.block(&cidr.to_string())?.node
}

#[test]
fn an_empty_block_goes_back_after_the_grace_but_one_stays_warm() {
    let mut lab = Lab::new();
    let mut n1 = lab.node("n1", &small());
    for i in 0..9 {
        lab.add(&mut n1, &format!("h{i}")).unwrap();
    }
    assert_eq!(lab.count(keys::AFFINITY), 3);
    for i in 0..9 {
        lab.del(&mut n1, &format!("h{i}"));
    }
    pass(&mut lab, &mut n1, 290_000);
    assert_eq!(lab.count(keys::BLOCKS), 3);
    pass(&mut lab, &mut n1, 30_000);
    assert_eq!((lab.count(keys::BLOCKS), lab.count(keys::AFFINITY)), (1, 1));
    // A pool that serves this node no more keeps nothing warm.
    n1.set_view(IpamView::default());
    pass(&mut lab, &mut n1, 30_000);
    assert_eq!((lab.count(keys::BLOCKS), lab.count(keys::AFFINITY)), (0, 0));
    assert!(n1.is_idle());
}

#[test]
fn a_deleted_node_is_reclaimed_and_what_others_borrowed_stays() {
    let mut lab = Lab::new();
    let mut view = small();
    let (mut n1, mut n2) = (lab.node("n1", &view), lab.node("n2", &view));
    let dead = lab.add_ip(&mut n1, "dead", "10.0.0.4").unwrap()[0];
    lab.put("resources/workloadendpoints/default/dead", "x");
    lab.tell(&mut n2);
    lab.add_ip(&mut n2, "borrower", "10.0.0.5").unwrap();
    lab.add_ip(&mut n2, "own", "10.0.0.8").unwrap();
    lab.tell(&mut n1);
    lab.add_ip(&mut n1, "dead2", "10.0.0.9").unwrap();
    lab.tell(&mut n2);
    let error = lab.release(&mut n2, reclaim("n1")).unwrap_err();
    assert!(matches!(error, AllocError::NodeExists { .. }), "{error}");
    assert_eq!(lab.held("dead"), [dead]);
    lab.delete(&node_key("n1"));
    let cleanup = Cleanup::new(|holder| Extra {
        compares: Vec::new(),
        ops: vec![Op::Delete(format!(
            "resources/workloadendpoints/{}",
            holder.workload.as_deref().unwrap_or_default()
        ))],
    });
    let released = lab
        .release(&mut n2, Request::ReclaimNode("n1".into(), cleanup))
        .unwrap();
    let holders: Vec<&str> = released.holders.iter().map(|h| &*h.handle).collect();
    assert_eq!(holders, ["dead", "dead2"]);
    assert_eq!(released.addresses, [dead, ip("10.0.0.9")]);
    assert_eq!(released.blocks, [c("10.0.0.4/30")]);
    assert_eq!(lab.count("resources/workloadendpoints/"), 0);
    assert_eq!(lab.count(&keys::affinities_of("n1")), 0);
    assert_eq!(lab.count(&keys::fence("n1")), 0);
    let block = lab.block("10.0.0.4/30").unwrap();
    assert_eq!((block.node, block.used.len()), (None, 1));
    // The ownerless block goes when its last borrower does, after rest and grace.
    lab.del(&mut n2, "borrower");
    view.config.strict_affinity = true;
    n2.set_view(view);
    pass(&mut lab, &mut n2, 400_000);
    assert_eq!(lab.block("10.0.0.4/30"), None);
    // Nothing to do is done at once.
    let again = lab.release(&mut n2, reclaim("n1")).unwrap();
    assert!(again.holders.is_empty() && again.addresses.is_empty() && again.blocks.is_empty());
}

#[test]
fn a_reclaimed_identity_waits_for_its_next_workload() {
    let sticky = |handle: &str| Assign {
        identity: Some("sticky.default.db".into()),
        ..workload(handle)
    };
    let mut lab = Lab::new();
    let (mut n1, mut n2) = (lab.node("n1", &small()), lab.node("n2", &small()));
    let had = lab.assign(&mut n1, sticky("old")).unwrap().addresses;
    lab.delete(&node_key("n1"));
    lab.tell(&mut n2);
    lab.release(&mut n2, reclaim("n1")).unwrap();
    assert!(lab.held("old").is_empty());
    assert_eq!(lab.assign(&mut n2, sticky("new")).unwrap().addresses, had);
}

#[test]
fn a_full_pool_makes_nodes_adopt_ownerless_blocks() {
    let view = IpamView {
        pools: vec![pool("a", "10.0.0.0/30", 30)],
        ..IpamView::default()
    };
    let mut lab = Lab::new();
    let (mut n1, mut n2) = (lab.node("n1", &view), lab.node("n2", &view));
    lab.add(&mut n1, "h").unwrap();
    lab.tell(&mut n2);
    lab.add(&mut n2, "g").unwrap();
    lab.delete(&node_key("n1"));
    lab.tell(&mut n2);
    lab.release(&mut n2, reclaim("n1")).unwrap();
    assert_eq!(owner(&mut lab, c("10.0.0.0/30")), None);
    lab.add(&mut n2, "f").unwrap();
    assert_eq!(owner(&mut lab, c("10.0.0.0/30")).as_deref(), Some("n2"));
    assert_eq!(lab.count(&keys::affinities_of("n2")), 1);
}

#[test]
fn garbage_is_this_nodes_and_this_networks_alone() {
    let mut lab = Lab::new();
    let mut n1 = lab.node("n1", &small());
    let mut n2 = lab.node("n2", &small());
    let sticky = Assign {
        identity: Some("sticky.default.db".into()),
        ..workload("cni.net.3.eth0")
    };
    lab.assign(&mut n1, sticky).unwrap();
    lab.tell(&mut n2);
    for handle in [
        "cni.net.1.eth0",
        "cni.net.2.eth0",
        "cni.other.1.eth0",
        "tunnel.n1",
    ] {
        lab.add(&mut n1, handle).unwrap();
    }
    lab.tell(&mut n2);
    lab.add(&mut n2, "cni.net.9.eth0").unwrap();
    lab.tell(&mut n1);
    n1.submit(
        lab.now,
        RequestId(1),
        Request::Assign(workload("cni.net.4.eth0")),
    );
    let valid = BTreeSet::from(["cni.net.1.eth0".to_owned()]);
    let stale = n1.stale("cni.net.", &valid);
    let handles: Vec<&str> = stale.iter().map(|s| s.handle.as_str()).collect();
    assert_eq!(handles, ["cni.net.2.eth0", "cni.net.3.eth0"]);
    assert_eq!(stale[0].addresses, lab.held("cni.net.2.eth0"));
}

#[test]
fn an_operator_frees_one_address_of_two() {
    let view = IpamView {
        pools: vec![pool("a", "10.0.0.0/28", 30), pool("b", "fd00::/120", 122)],
        ..IpamView::default()
    };
    let mut lab = Lab::new();
    let (mut n1, mut n2) = (lab.node("n1", &view), lab.node("n2", &view));
    let both = lab.add(&mut n1, "h").unwrap();
    lab.tell(&mut n2);
    let freed = lab
        .release(&mut n2, Request::ReleaseAddress(both[0]))
        .unwrap();
    assert_eq!(freed.addresses, [both[0]]);
    assert_eq!(lab.held("h"), [both[1]]);
    // Its own daemon answers with what is left, also where it has not seen that.
    assert_eq!(lab.add(&mut n1, "h").unwrap(), [both[1]]);
    let freed = lab
        .release(&mut n2, Request::ReleaseAddress(both[1]))
        .unwrap();
    assert_eq!(freed.addresses, [both[1]]);
    let none = lab
        .release(&mut n2, Request::ReleaseAddress(both[1]))
        .unwrap();
    assert_eq!(none.addresses, [] as [std::net::IpAddr; 0]);
    assert_eq!(lab.used(), 0);
}

#[test]
fn a_block_in_use_is_not_released() {
    let mut lab = Lab::new();
    let mut n1 = lab.node("n1", &small());
    lab.add_ip(&mut n1, "h", "10.0.0.4").unwrap();
    let request = Request::ReleaseBlock(c("10.0.0.4/30"));
    let error = lab.release(&mut n1, request.clone()).unwrap_err();
    assert!(
        error
            .to_string()
            .contains("its node uses 1 of its addresses"),
        "{error}"
    );
    lab.del(&mut n1, "h");
    // Resting addresses keep the block, as nobody's, so that they are not handed out at once.
    assert_eq!(
        lab.release(&mut n1, request.clone()).unwrap().blocks,
        [c("10.0.0.4/30")]
    );
    assert_eq!(lab.block("10.0.0.4/30").unwrap().cooldown.len(), 1);
    assert_eq!(lab.count(keys::AFFINITY), 0);
    lab.now += 30_000;
    assert_eq!(
        lab.release(&mut n1, request).unwrap().blocks,
        [c("10.0.0.4/30")]
    );
    assert_eq!(lab.count(keys::BLOCKS), 0);
}

#[test]
fn what_lay_in_a_block_that_is_gone_can_be_released() {
    let mut lab = Lab::new();
    let mut n1 = lab.node("n1", &small());
    lab.add_ip(&mut n1, "h", "10.0.0.4").unwrap();
    let kept = Assign {
        identity: Some("sticky.db".into()),
        addresses: vec![ip("10.0.0.5")],
        ..workload("db")
    };
    lab.assign(&mut n1, kept).unwrap();
    lab.delete(&keys::block(&c("10.0.0.4/30")));
    let released = lab.del(&mut n1, "h");
    assert_eq!((released.holders.len(), released.addresses.len()), (0, 0));
    let released = lab.del(&mut n1, "sticky.db");
    assert_eq!((released.holders.len(), released.addresses.len()), (1, 0));
    assert_eq!(lab.count(keys::IDENTITIES), 0);
}

#[test]
fn a_handle_of_the_same_name_on_another_node_keeps_what_it_has() {
    let mut lab = Lab::new();
    let (mut n1, mut n2) = (lab.node("n1", &small()), lab.node("n2", &small()));
    let own = lab.add_ip(&mut n1, "h", "10.0.0.4").unwrap();
    lab.tell(&mut n2);
    let borrowed = lab.add_ip(&mut n2, "h", "10.0.0.5").unwrap();
    lab.tell(&mut n1);
    let of = |node: &str| Release {
        handle: "h".to_owned(),
        node: Some(node.to_owned()),
        blocks: vec![c("10.0.0.4/30")],
        ..Release::default()
    };
    let released = lab.release(&mut n1, Request::Release(of("n1"))).unwrap();
    assert_eq!(released.addresses, own);
    assert_eq!(lab.held("h"), borrowed);
    lab.tell(&mut n2);
    let released = lab.release(&mut n1, Request::Release(of("n2"))).unwrap();
    assert_eq!(released.addresses, borrowed);
    assert_eq!(lab.used(), 0);
}

#[test]
fn a_handle_of_another_node_is_released_where_it_is_seen() {
    let mut lab = Lab::new();
    let (mut n1, mut n2) = (lab.node("n1", &small()), lab.node("n2", &small()));
    let had = lab.add(&mut n1, "h").unwrap();
    lab.tell(&mut n2);
    let block = Cidr::containing(had[0], 30).unwrap();
    let mut at = |blocks: &[Cidr]| {
        let wanted = Release {
            handle: "h".to_owned(),
            blocks: blocks.to_vec(),
            ..Release::default()
        };
        lab.release(&mut n2, Request::Release(wanted)).unwrap()
    };
    let elsewhere = at(&[c("10.0.9.0/30")]);
    assert_eq!((elsewhere.holders.len(), elsewhere.addresses.len()), (0, 0));
    let released = at(&[block]);
    assert_eq!(released.addresses, had);
    assert_eq!(released.holders[0].workload.as_deref(), Some("default/h"));
    assert_eq!(lab.used(), 0);
}
