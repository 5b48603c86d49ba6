//! Group commit, and what becomes of requests when transactions fail.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "helpers of tests"
)]

mod common;

use common::{Lab, c, ip, pool, release, small, workload};
use ipam::testing::TestStore;
use ipam::{
    AllocError, Allocator, Assign, Attach, Extra, Failure, IpamView, Release, Reply, Request,
    RequestId,
};
use model::keys;
use model::kv::{Compare, Op, Txn};

fn large() -> IpamView {
    IpamView {
        pools: vec![pool("a", "10.0.0.0/16", 26), pool("b", "fd00::/48", 122)],
        ..IpamView::default()
    }
}

/// A request that writes its endpoint along, on a condition or none.
fn with_endpoint(handle: &str, condition: Option<Compare>) -> Assign {
    let key = format!("resources/workloadendpoints/default/{handle}");
    let extra = Attach::new(move |assigned| Extra {
        compares: condition.clone().into_iter().collect(),
        ops: vec![Op::put(key.clone(), format!("{:?}", assigned.addresses))],
    });
    Assign {
        extra,
        ..workload(handle)
    }
}

fn replies(a: &mut Allocator) -> Vec<(u64, Result<Reply, AllocError>)> {
    std::iter::from_fn(|| a.poll_reply())
        .map(|(id, r)| (id.0, r))
        .collect()
}

#[test]
fn waiting_requests_share_transactions() {
    let mut lab = Lab::new();
    let mut n1 = lab.node("n1", &large());
    lab.add(&mut n1, "warm").unwrap();
    lab.txns.clear();
    for i in 0..300 {
        let wanted = with_endpoint(&format!("h{i}"), None);
        n1.submit(lab.now, RequestId(i), Request::Assign(wanted));
    }
    lab.run(&mut n1);
    let replies = replies(&mut n1);
    assert_eq!(replies.len(), 300);
    assert!(replies.iter().all(|(_, r)| r.is_ok()));
    // Requests of one write each, their blocks and a few more fit 128 operations.
    assert_eq!(lab.txns.len(), 3);
    for txn in &lab.txns {
        let longest = txn
            .compares
            .len()
            .max(txn.success.len())
            .max(txn.failure.len());
        assert!(longest <= Txn::MAX_OPS);
    }
    lab.txns.clear();
    for i in 0..300 {
        n1.submit(lab.now, RequestId(i), release(&format!("h{i}")));
    }
    lab.run(&mut n1);
    // These write nothing but the blocks.
    assert_eq!(lab.txns.len(), 1);
    assert_eq!(lab.used(), 2, "one of each family");
}

#[test]
fn a_condition_that_fails_fails_its_request_alone() {
    let mut lab = Lab::new();
    let mut n1 = lab.node("n1", &small());
    for (i, handle) in ["a", "b", "c"].into_iter().enumerate() {
        let absent = Compare::Present("resources/missing".into());
        let condition = (handle == "b").then_some(absent);
        let wanted = with_endpoint(handle, condition);
        n1.submit(lab.now, RequestId(i as u64), Request::Assign(wanted));
    }
    lab.run(&mut n1);
    let mut replies = replies(&mut n1);
    replies.sort_by_key(|(id, _)| *id);
    assert!(replies[0].1.is_ok() && replies[2].1.is_ok());
    let error = replies[1].1.clone().unwrap_err();
    assert_eq!(error.to_string(), "b: resources/missing is not as expected");
    assert_eq!(lab.used(), 2);
}

#[test]
fn a_request_that_the_store_refuses_fails_alone() {
    let mut lab = Lab::new();
    lab.refuses = Some("default/bad");
    let mut n1 = lab.node("n1", &small());
    for (i, handle) in ["a", "bad", "c"].into_iter().enumerate() {
        let wanted = Request::Assign(with_endpoint(handle, None));
        n1.submit(lab.now, RequestId(i as u64), wanted);
    }
    lab.run(&mut n1);
    let replies = replies(&mut n1);
    assert_eq!(replies.len(), 3);
    for (id, result) in replies {
        assert_eq!(result.is_err(), id == 1, "{result:?}");
    }
}

#[test]
fn a_malformed_request_fails_at_once() {
    let mut lab = Lab::new();
    let mut n1 = lab.node("n1", &small());
    let twice = Attach::new(|_| Extra {
        compares: Vec::new(),
        ops: vec![
            Op::put("resources/x", "1"),
            Op::Delete("resources/x".into()),
        ],
    });
    let wanted = Assign {
        extra: twice,
        ..workload("h")
    };
    let error = lab.assign(&mut n1, wanted).unwrap_err();
    assert_eq!(error.to_string(), "h: writes resources/x twice");
    let many = Attach::new(|_| Extra {
        compares: Vec::new(),
        ops: (0..200)
            .map(|i| Op::put(format!("resources/{i}"), "1"))
            .collect(),
    });
    let wanted = Assign {
        extra: many,
        ..workload("h")
    };
    let error = lab.assign(&mut n1, wanted).unwrap_err();
    assert!(
        error
            .to_string()
            .contains("more operations than one transaction"),
        "{error}"
    );
    let theirs = Attach::new(|_| Extra {
        compares: Vec::new(),
        ops: vec![Op::Delete(keys::block(&c("10.0.0.0/30")))],
    });
    let wanted = Assign {
        extra: theirs,
        ..workload("h")
    };
    let error = lab.assign(&mut n1, wanted).unwrap_err();
    assert!(error.to_string().contains("the allocator's"), "{error}");
}

#[test]
fn two_requests_of_one_handle_are_served_in_order() {
    let mut lab = Lab::new();
    let mut n1 = lab.node("n1", &small());
    n1.submit(lab.now, RequestId(1), Request::Assign(workload("h")));
    n1.submit(lab.now, RequestId(2), Request::Assign(workload("h")));
    n1.submit(lab.now, RequestId(3), release("h"));
    n1.submit(lab.now, RequestId(4), Request::Assign(workload("h")));
    n1.submit(lab.now, RequestId(5), release("h"));
    lab.run(&mut n1);
    let replies = replies(&mut n1);
    assert_eq!(
        replies.iter().map(|(id, _)| *id).collect::<Vec<_>>(),
        [1, 2, 3, 4, 5]
    );
    let first = replies[0].1.clone().unwrap();
    let again = replies[1].1.clone().unwrap();
    let (Reply::Assigned(first), Reply::Assigned(again)) = (first, again) else {
        panic!("not assigned");
    };
    assert_eq!(first.addresses, again.addresses);
    assert_eq!(lab.used(), 0);
}

/// Sends the next transaction that puts a block; carries out what comes before.
fn send(lab: &mut Lab, a: &mut Allocator) -> (ipam::TxnId, Txn) {
    loop {
        let (id, txn) = a.poll_txn(lab.now).expect("a transaction");
        if txn
            .success
            .iter()
            .any(|op| matches!(op, Op::Put { key, .. } if key.starts_with(keys::BLOCKS)))
        {
            return (id, txn);
        }
        let outcome = lab.store.txn(&txn);
        a.handle_outcome(lab.now, id, outcome);
    }
}

#[test]
fn a_lost_answer_is_found_out_and_nothing_is_done_twice() {
    for applied in [true, false] {
        let mut lab = Lab::new();
        let mut n1 = lab.node("n1", &small());
        let key = "resources/workloadendpoints/default/h".to_owned();
        // Done twice, this condition would not hold the second time.
        let wanted = with_endpoint("h", Some(Compare::Absent(key)));
        n1.submit(lab.now, RequestId(1), Request::Assign(wanted));
        let (id, txn) = send(&mut lab, &mut n1);
        if applied {
            assert!(lab.store.txn(&txn).unwrap().succeeded);
        }
        n1.handle_outcome(lab.now, id, Err(Failure::Ambiguous("reset".into())));
        assert_eq!(n1.poll_reply(), None);
        assert_eq!(n1.poll_txn(lab.now), None, "after a pause");
        lab.now = n1.poll_timeout().unwrap();
        lab.run(&mut n1);
        assert!(n1.poll_reply().unwrap().1.is_ok(), "applied: {applied}");
        // However late it arrives, it is no longer taken.
        assert!(!lab.store.txn(&txn).unwrap().succeeded);
        assert_eq!(lab.used(), 1);
    }
}

#[test]
fn what_a_dead_daemon_sent_is_not_taken_once_its_successor_serves() {
    let mut lab = Lab::new();
    let mut dead = lab.node("n1", &small());
    lab.add(&mut dead, "h").unwrap();
    dead.submit(lab.now, RequestId(2), Request::Assign(workload("late")));
    let (_, late) = send(&mut lab, &mut dead);
    let mut n1 = lab.daemon("n1", &small());
    assert_eq!(lab.del(&mut n1, "late").holders, []);
    assert!(!lab.store.txn(&late).unwrap().succeeded);
}

#[test]
fn what_a_dead_daemon_sent_is_known_to_its_successor_before_it_serves() {
    let mut lab = Lab::new();
    let mut dead = lab.node("n1", &small());
    lab.add(&mut dead, "h").unwrap();
    dead.submit(lab.now, RequestId(2), Request::Assign(workload("late")));
    let (_, late) = send(&mut lab, &mut dead);
    let mut n1 = lab.daemon("n1", &small());
    // It lands when the successor has listed the blocks and not yet taken the fence.
    assert!(lab.store.txn(&late).unwrap().succeeded);
    let had = lab.held("late");
    let (id, take) = n1.poll_txn(lab.now).unwrap();
    let taken = lab.store.txn(&take);
    n1.handle_outcome(lab.now, id, taken);
    n1.submit(lab.now, RequestId(1), Request::Assign(workload("late")));
    while !n1.wants_listing() {
        assert!(lab.step(&mut n1), "serves without looking again");
    }
    assert_eq!(n1.poll_txn(lab.now), None, "blind");
    assert_eq!(
        n1.poll_timeout(),
        Some(lab.now + 10_000),
        "woken for nothing"
    );
    lab.run(&mut n1);
    match n1.poll_reply().unwrap().1.unwrap() {
        Reply::Assigned(again) => assert_eq!(again.addresses, had),
        Reply::Released(_) => panic!("released"),
    }
    assert_eq!(lab.used(), 2);
}

#[test]
fn a_store_that_is_away_fails_requests_at_once_and_serves_after() {
    let mut lab = Lab::new();
    let mut n1 = lab.node("n1", &small());
    n1.submit(lab.now, RequestId(1), Request::Assign(workload("h")));
    n1.submit(lab.now, RequestId(2), release("g"));
    let (id, _) = n1.poll_txn(lab.now).unwrap();
    let away = Failure::Unavailable("connection refused".into());
    n1.handle_outcome(lab.now, id, Err(away));
    for (_, result) in replies(&mut n1) {
        let error = result.unwrap_err();
        assert!(error.is_retryable(), "{error}");
        assert!(
            error.to_string().contains("datastore: connection refused"),
            "{error}"
        );
    }
    assert!(n1.is_idle());
    lab.now += 60_000;
    lab.add(&mut n1, "h").unwrap();
}

#[test]
fn a_request_that_is_not_served_in_time_says_what_it_waited_for() {
    let mut lab = Lab::new();
    let mut n1 = lab.node("n1", &small());
    n1.submit(lab.now, RequestId(1), Request::Assign(workload("h")));
    let (id, _) = n1.poll_txn(lab.now).unwrap();
    n1.handle_outcome(lab.now, id, Err(Failure::Ambiguous("timed out".into())));
    lab.now += 10_000;
    n1.poll_txn(lab.now);
    let error = n1.poll_reply().unwrap().1.unwrap_err();
    assert!(
        error
            .to_string()
            .starts_with("h: not served within 10000 ms"),
        "{error}"
    );
}

#[test]
fn two_nodes_that_claim_one_block_both_end_well() {
    // One node's claim lands while the other's, of the same block by number, is planned.
    let mut lab = Lab::new();
    let (mut n1, mut n2) = (lab.node("n1", &small()), lab.node("n2", &small()));
    let want = |handle: &str, s: &str| Assign {
        addresses: vec![ip(s)],
        ..workload(handle)
    };
    n1.submit(
        lab.now,
        RequestId(1),
        Request::Assign(want("h", "10.0.0.4")),
    );
    n2.submit(
        lab.now,
        RequestId(1),
        Request::Assign(want("g", "10.0.0.5")),
    );
    let (id1, txn1) = send(&mut lab, &mut n1);
    let (id2, txn2) = send(&mut lab, &mut n2);
    let (one, two) = (lab.store.txn(&txn1), lab.store.txn(&txn2));
    assert!(!two.as_ref().unwrap().succeeded);
    n1.handle_outcome(lab.now, id1, one);
    n2.handle_outcome(lab.now, id2, two);
    lab.run(&mut n2);
    assert!(n1.poll_reply().unwrap().1.is_ok());
    assert!(n2.poll_reply().unwrap().1.is_ok(), "borrowed");
    let block = lab.block("10.0.0.4/30").unwrap();
    assert_eq!(block.summary().borrowed, [(ip("10.0.0.5"), "n2".into())]);
    assert_eq!(lab.count(keys::AFFINITY), 1);
}

#[test]
fn a_release_of_nothing_still_does_its_extra_writes() {
    let mut lab = Lab::new();
    let mut n1 = lab.node("n1", &small());
    lab.put("resources/workloadendpoints/default/h", "left over");
    let extra = Extra {
        compares: Vec::new(),
        ops: vec![Op::Delete("resources/workloadendpoints/default/h".into())],
    };
    let wanted = Release {
        handle: "h".into(),
        cleanup: extra.into(),
        ..Release::default()
    };
    lab.release(&mut n1, Request::Release(wanted)).unwrap();
    assert_eq!(lab.count("resources/workloadendpoints/"), 0);
}

/// A driver sleeps until `poll_timeout`: it must never be woken for nothing, or it would spin.
#[test]
fn waiting_costs_nothing() {
    let mut lab = Lab::new();
    let mut n1 = lab.node("n1", &small());
    lab.put(keys::POOLS_GUARD, "1");
    n1.submit(lab.now, RequestId(1), Request::Assign(workload("h")));
    lab.run(&mut n1);
    assert_eq!(
        n1.poll_timeout(),
        Some(lab.now + 10_000),
        "until the request's time is up"
    );
    n1.submit(lab.now, RequestId(2), release("g"));
    let (id, _) = n1.poll_txn(lab.now).unwrap();
    assert_eq!(
        n1.poll_timeout(),
        Some(lab.now + 10_000),
        "while a transaction is under way"
    );
    n1.handle_outcome(lab.now, id, Err(Failure::Ambiguous("timed out".into())));
    assert_eq!(n1.poll_timeout(), Some(lab.now + 50));
    lab.now += 50;
    lab.run(&mut n1);
    assert_eq!(n1.poll_reply().unwrap().0, RequestId(2));
    assert!(n1.poll_timeout().unwrap() > lab.now);
}

#[test]
fn a_store_restored_from_a_copy_is_believed_though_its_revisions_are_lower() {
    let mut lab = Lab::new();
    let mut n1 = lab.node("n1", &small());
    for i in 0..6 {
        lab.add(&mut n1, &format!("h{i}")).unwrap();
    }
    // The same node again, over a store whose revisions begin anew.
    let mut restored = Lab::new();
    restored.now = lab.now;
    drop(restored.node("n1", &small()));
    n1.rewound();
    restored.tell(&mut n1);
    let first = restored.add(&mut n1, "fresh").unwrap();
    assert_eq!(restored.held("fresh"), first);
    // What the old store knew is not taken for known.
    assert_eq!(restored.held("h0"), [] as [std::net::IpAddr; 0]);
    restored.add(&mut n1, "h0").unwrap();
}

#[test]
fn who_lost_the_nodes_name_gets_nothing_more() {
    let mut lab = Lab::new();
    let owner = keys::owner("n1");
    lab.put(&owner, "first");
    let claim = |lab: &mut Lab| lab.store.list(&owner)[0].mod_revision;
    let mut first = lab.node("n1", &small());
    first.claimed(claim(&mut lab));
    lab.add(&mut first, "before").unwrap();
    // Claimed anew by the same daemon: it goes on.
    lab.put(&owner, "first again");
    first.claimed(claim(&mut lab));
    lab.add(&mut first, "renewed").unwrap();

    lab.put(&owner, "second");
    let mut second = lab.daemon("n1", &small());
    second.claimed(claim(&mut lab));
    lab.add(&mut second, "of-the-second").unwrap();
    let before = lab.store.list("");
    let request = Request::Assign(workload("too-late"));
    first.submit(lab.now, RequestId(99), request);
    let sent = lab.txns.len();
    lab.run(&mut first);
    let asked = lab.txns.len() - sent;
    assert!(
        (1..5).contains(&asked),
        "{asked} transactions without a pause"
    );
    for _ in 0..40 {
        lab.now = first.poll_timeout().unwrap_or(lab.now).max(lab.now);
        lab.step(&mut first);
    }
    assert_eq!(lab.store.list(""), before);
    let (_, answer) = first.poll_reply().expect("an answer within its patience");
    assert!(answer.unwrap_err().is_retryable());
    lab.add(&mut second, "goes-on").unwrap();
}
