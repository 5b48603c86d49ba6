//! What is written, refused and kept, on the embedded store.

use super::*;
use datastore::Embedded;
use model::Metadata;

fn store() -> Embedded {
    Embedded::in_memory().unwrap()
}

fn object(yaml: &str) -> Object {
    manifest::parse(yaml).unwrap().remove(0)
}

fn pool(name: &str, cidr: &str) -> Object {
    object(&format!(
        "apiVersion: projectcalico.org/v3\nkind: IPPool\nmetadata: {{name: {name}}}\nspec: {{cidr: {cidr}}}"
    ))
}

#[tokio::test]
async fn what_is_applied_again_is_unchanged_and_keeps_its_identity() {
    let store = store();
    let first = apply(&store, pool("a", "10.0.0.0/16"), false)
        .await
        .unwrap();
    assert_eq!(
        (first.object.as_str(), first.action),
        ("IPPool/a", Action::Created)
    );
    let before = get(&store, &pool("a", "10.0.0.0/16").id()).await.unwrap();
    assert!(before.metadata().uid.is_some() && before.metadata().creation_timestamp.is_some());
    let again = apply(&store, pool("a", "10.0.0.0/16"), false)
        .await
        .unwrap();
    assert_eq!(
        (again.action, again.revision),
        (Action::Unchanged, first.revision)
    );
    assert_eq!(get(&store, &before.id()).await.unwrap(), before);
}

#[tokio::test]
async fn a_dry_run_shows_both_sides_and_changes_nothing() {
    let store = store();
    apply(&store, pool("a", "10.0.0.0/16"), false)
        .await
        .unwrap();
    let dry = apply(&store, pool("a", "10.1.0.0/16"), true).await.unwrap();
    assert_eq!(dry.action, Action::Configured);
    assert_eq!(dry.before.unwrap()["spec"]["cidr"], "10.0.0.0/16");
    assert_eq!(dry.after.unwrap()["spec"]["cidr"], "10.1.0.0/16");
    let stored = get(&store, &pool("a", "10.0.0.0/16").id()).await.unwrap();
    assert_eq!(manifest::to_value(&stored)["spec"]["cidr"], "10.0.0.0/16");
}

#[tokio::test]
async fn a_peer_needs_its_secret_and_a_dry_run_of_a_secret_shows_no_value() {
    let store = store();
    let peer = "apiVersion: projectcalico.org/v3\nkind: BGPPeer\nmetadata: {name: p}\nspec: {peerIP: 192.0.2.1, \
                asNumber: 65001, password: {secretKeyRef: {name: s, key: k}}}";
    let e = apply(&store, object(peer), false).await.unwrap_err();
    assert!(
        e.to_string()
            .contains("there is no Secret/s with the key k"),
        "{e}"
    );
    let secret = |value: &str| {
        object(&format!(
            "apiVersion: v1\nkind: Secret\nmetadata: {{name: s}}\nstringData: {{k: {value}}}"
        ))
    };
    apply(&store, secret("one"), false).await.unwrap();
    apply(&store, object(peer), false).await.unwrap();
    let dry = apply(&store, secret("two"), true).await.unwrap();
    assert_eq!(dry.action, Action::Configured);
    assert_eq!(dry.before.unwrap()["spec"]["data"]["k"], "***");
    assert_eq!(dry.after.unwrap()["spec"]["data"]["k"], "*** (changed)");
    let same = apply(&store, secret("one"), true).await.unwrap();
    assert_eq!(same.action, Action::Unchanged);
}

#[tokio::test]
async fn a_policy_needs_its_tier_and_keeps_it() {
    let store = store();
    let policy = object(
        "apiVersion: projectcalico.org/v3\nkind: NetworkPolicy\nmetadata: {name: p, namespace: a}\nspec: {tier: t}",
    );
    let e = apply(&store, policy.clone(), false).await.unwrap_err();
    assert!(e.to_string().contains("there is no Tier/t"), "{e}");
    let tier = object("apiVersion: projectcalico.org/v3\nkind: Tier\nmetadata: {name: t}");
    apply(&store, tier.clone(), false).await.unwrap();
    apply(&store, policy.clone(), false).await.unwrap();
    let e = delete(&store, tier.id()).await.unwrap_err();
    let wanted = "Tier/t: NetworkPolicy/a/p belongs to it";
    assert!(e.to_string().starts_with(wanted), "{e}");
    delete(&store, policy.id()).await.unwrap();
    delete(&store, tier.id()).await.unwrap();
}

#[tokio::test]
async fn overlapping_pools_are_refused_also_when_written_at_once() {
    let store = std::sync::Arc::new(store());
    let writes = (0..8u8).map(|i| {
        let store = std::sync::Arc::clone(&store);
        // All overlap: /9 to /16 of the same network.
        let pool = pool(&format!("p{i}"), &format!("10.0.0.0/{}", 9 + i));
        tokio::spawn(async move { apply(&*store, pool, false).await.is_ok() })
    });
    let written: Vec<bool> = futures::future::join_all(writes)
        .await
        .into_iter()
        .map(Result::unwrap)
        .collect();
    assert_eq!(written.iter().filter(|ok| **ok).count(), 1, "{written:?}");
    let stored = store.list(&keys::resources_of(Kind::IPPool)).await.unwrap();
    assert_eq!(stored.items.len(), 1);
}

#[tokio::test]
async fn a_pool_with_blocks_keeps_its_range() {
    let store = store();
    apply(&store, pool("a", "10.0.0.0/16"), false)
        .await
        .unwrap();
    let block = r#"{"version":1,"cidr":"10.0.3.0/26","node":"n1"}"#;
    let key = keys::block(&"10.0.3.0/26".parse().unwrap());
    store
        .txn(Txn::new().then(Op::put(key, block)))
        .await
        .unwrap();
    let e = apply(&store, pool("a", "10.0.0.0/17"), false)
        .await
        .unwrap_err();
    assert!(e.to_string().contains("spec.cidr"), "{e}");
}

#[tokio::test]
async fn a_version_makes_the_write_conditional() {
    let store = store();
    apply(&store, pool("a", "10.0.0.0/16"), false)
        .await
        .unwrap();
    let mut read = get(&store, &pool("a", "10.0.0.0/16").id()).await.unwrap();
    let Object::IPPool(p) = &mut read else {
        panic!("not a pool")
    };
    p.spec.nat_outgoing = true;
    apply(&store, read.clone(), false).await.unwrap();
    let e = apply(&store, read, false).await.unwrap_err();
    assert!(matches!(e, ResourceError::Conflict { .. }), "{e}");
}

#[tokio::test]
async fn a_running_node_is_not_deleted_and_keeps_what_its_daemon_published() {
    let store = store();
    let published = object(
        "apiVersion: routerd/v1\nkind: Node\nmetadata: {name: n1}\nspec: {bgp: {ipv4Address: 192.0.2.1/24}}",
    );
    apply(&store, published, false).await.unwrap();
    let mut labels = Metadata::named("n1");
    labels.labels.insert("rack".into(), "a".into());
    let edit = Object::Node(Resource {
        metadata: labels,
        spec: NodeSpec::default(),
    });
    apply(&store, edit, false).await.unwrap();
    let id = ObjectId {
        kind: Kind::Node,
        namespace: None,
        name: "n1".into(),
    };
    let stored = manifest::to_value(&get(&store, &id).await.unwrap());
    assert_eq!(stored["metadata"]["labels"]["rack"], "a");
    assert_eq!(stored["spec"]["bgp"]["ipv4Address"], "192.0.2.1/24");

    store
        .txn(Txn::new().then(Op::put(keys::owner("n1"), "{}")))
        .await
        .unwrap();
    let e = delete(&store, id.clone()).await.unwrap_err();
    assert!(e.to_string().contains("stop it there first"), "{e}");
    store
        .txn(Txn::new().then(Op::Delete(keys::owner("n1"))))
        .await
        .unwrap();
    assert_eq!(
        delete(&store, id.clone()).await.unwrap().action,
        Action::Deleted
    );
    assert!(matches!(
        delete(&store, id).await,
        Err(ResourceError::NotFound(_))
    ));
}
