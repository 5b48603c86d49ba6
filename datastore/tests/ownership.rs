//! Who is a node, over the embedded store with a clock that tests move.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[allow(dead_code)]
#[path = "support/faulty.rs"]
mod faulty;

use std::sync::Arc;
use std::time::Duration;

use datastore::embedded::ManualClock;
use datastore::{ClaimError, Datastore, Embedded, Owner, Ownership, OwnershipState, claim};
use faulty::{Faults, Faulty};
use model::keys;
use model::kv::{Op, Txn};

/// The daemon renews every third of it, in real time.
const TTL: Duration = Duration::from_millis(30);
/// What the lease gets, on the clock that the test moves.
const LEASE: Duration = Duration::from_secs(1);

struct Lab {
    clock: Arc<ManualClock>,
    store: Arc<Embedded>,
    faulty: Faulty,
}

impl Lab {
    fn new() -> Lab {
        let clock = Arc::new(ManualClock::default());
        let store = Arc::new(Embedded::in_memory_with(clock.clone(), 100).unwrap());
        let faulty = Faulty::new(store.clone(), Faults::default());
        Lab {
            clock,
            store,
            faulty,
        }
    }

    async fn claim(&self, instance: &str) -> Result<Ownership, ClaimError> {
        let owner = Owner::new(instance, format!("host-of-{instance}"));
        claim(Arc::new(self.faulty.clone()), "rack1-a", owner, TTL).await
    }

    async fn stored(&self) -> Option<Owner> {
        let pair = self.store.get(&keys::owner("rack1-a")).await.unwrap()?;
        assert!(pair.lease.is_some());
        Some(serde_json::from_slice(&pair.value).unwrap())
    }

    /// Time passes for leases, as it does when a daemon is suspended.
    async fn pass(&self, by: Duration) {
        self.clock.advance(by);
        self.store.expire().await.unwrap();
    }

    async fn write(&self, op: Op) {
        self.store.txn(Txn::new().then(op)).await.unwrap();
    }
}

/// Waits for a state.
async fn until(ownership: &Ownership, wanted: impl Fn(&OwnershipState) -> bool) -> OwnershipState {
    let mut state = ownership.state();
    let found = tokio::time::timeout(Duration::from_secs(60), state.wait_for(|s| wanted(s)));
    found.await.expect("never came").unwrap().clone()
}

#[tokio::test]
async fn the_second_daemon_is_refused_with_names() {
    let lab = Lab::new();
    let first = lab.claim("one").await.unwrap();
    let e = lab.claim("two").await.unwrap_err();
    assert!(matches!(&e, ClaimError::TakenBy { node, owner }
        if node == "rack1-a" && owner.instance == "one" && owner.hostname == "host-of-one"));
    assert!(!e.is_retryable());
    for part in ["rack1-a", "host-of-one", "routerd.toml"] {
        assert!(e.to_string().contains(part), "{e}");
    }
    assert_eq!(*first.state().borrow(), OwnershipState::Held);
    assert_eq!(lab.stored().await.unwrap().instance, "one");
}

#[tokio::test]
async fn a_restart_claims_at_once_and_keeps_the_time() {
    let lab = Lab::new();
    drop(lab.claim("one").await.unwrap());
    let since = lab.stored().await.unwrap().since;
    let mut later = Owner::new("one", "new-name");
    later.since = since + 1000;
    let again = claim(lab.store.clone(), "rack1-a", later, TTL)
        .await
        .unwrap();
    let stored = lab.stored().await.unwrap();
    assert_eq!(
        (stored.since, stored.hostname.as_str()),
        (since, "new-name")
    );
    // The first life's lease runs out; the second's key stays.
    again.release().await.unwrap();
    assert_eq!(lab.stored().await, None);
}

#[tokio::test]
async fn a_node_is_free_after_release_or_expiry() {
    let lab = Lab::new();
    lab.claim("one").await.unwrap().release().await.unwrap();
    drop(lab.claim("two").await.unwrap());
    assert!(lab.claim("three").await.is_err());
    lab.pass(LEASE).await;
    lab.claim("three").await.unwrap();
}

#[tokio::test]
async fn it_is_renewed_for_as_long_as_the_daemon_lives() {
    let lab = Lab::new();
    let first = lab.claim("one").await.unwrap();
    let mut renewals = lab.faulty.renewals();
    for _ in 0..20 {
        // The second one began after the clock was moved.
        renewals.changed().await.unwrap();
        renewals.changed().await.unwrap();
        lab.pass(LEASE * 2 / 3).await;
    }
    assert_eq!(lab.stored().await.unwrap().instance, "one");
    assert_eq!(*first.state().borrow(), OwnershipState::Held);
}

#[tokio::test]
async fn a_lost_lease_is_claimed_again_when_nobody_took_the_node() {
    let lab = Lab::new();
    let first = lab.claim("one").await.unwrap();
    let mut watch = lab.store.watch(keys::OWNERS, 1).await.unwrap();
    let lease = lab
        .store
        .get(&keys::owner("rack1-a"))
        .await
        .unwrap()
        .unwrap()
        .lease;
    for lost in ["expired", "deleted"] {
        match lost {
            "expired" => lab.pass(LEASE).await,
            _ => lab.write(Op::Delete(keys::owner("rack1-a"))).await,
        }
        assert_eq!(lab.stored().await, None);
        while lab.stored().await.is_none() {
            watch.next().await.unwrap();
        }
        assert_eq!(lab.stored().await.unwrap().instance, "one", "{lost}");
    }
    let new = lab
        .store
        .get(&keys::owner("rack1-a"))
        .await
        .unwrap()
        .unwrap()
        .lease;
    assert_ne!(new, lease);
    assert_eq!(*first.state().borrow(), OwnershipState::Held);
}

#[tokio::test]
async fn a_suspended_daemon_learns_that_another_took_over() {
    let lab = Lab::new();
    let first = lab.claim("one").await.unwrap();
    lab.faulty.cut(true);
    until(&first, |s| matches!(s, OwnershipState::Unconfirmed(_))).await;
    lab.pass(LEASE).await;
    let owner = Owner::new("two", "other-host");
    let second = claim(lab.store.clone(), "rack1-a", owner, TTL).await;
    lab.faulty.cut(false);
    until_lost(&first, "two").await;
    assert_eq!(*second.unwrap().state().borrow(), OwnershipState::Held);
}

/// A copied state_dir: the instance is the same, but there are two of it.
#[tokio::test]
async fn the_older_of_two_copies_gives_way() {
    let lab = Lab::new();
    let first = lab.claim("one").await.unwrap();
    let second = lab.claim("one").await.unwrap();
    until_lost(&first, "one").await;
    assert_eq!(*second.state().borrow(), OwnershipState::Held);
}

async fn until_lost(ownership: &Ownership, to: &str) {
    let lost = until(ownership, |s| matches!(s, OwnershipState::Lost(_))).await;
    assert!(
        matches!(&lost, OwnershipState::Lost(ClaimError::TakenBy { owner, .. })
            if owner.instance == to),
        "{lost:?}"
    );
}

#[tokio::test]
async fn an_outage_is_no_loss() {
    let lab = Lab::new();
    let first = lab.claim("one").await.unwrap();
    lab.faulty.cut(true);
    let e = lab.claim("one").await.unwrap_err();
    assert!(e.is_retryable(), "{e}");
    until(&first, |s| matches!(s, OwnershipState::Unconfirmed(_))).await;
    lab.pass(LEASE).await;
    assert_eq!(lab.stored().await, None);
    lab.faulty.cut(false);
    until(&first, |s| *s == OwnershipState::Held).await;
    assert_eq!(lab.stored().await.unwrap().instance, "one");
}

#[tokio::test]
async fn what_is_no_owner_is_refused_not_overwritten() {
    let lab = Lab::new();
    for garbage in [&b"{"[..], b"\xff\xfe", b"[]", b"{\"instance\": 3}", b""] {
        lab.write(Op::put(keys::owner("rack1-a"), garbage)).await;
        let e = lab.claim("one").await.unwrap_err();
        assert!(matches!(&e, ClaimError::Unreadable { key, .. } if key == "owners/rack1-a"));
        assert!(e.to_string().contains("delete it"), "{e}");
    }
}
