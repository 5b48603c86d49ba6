//! Which policies are asked, in which order, and what becomes of what none decides.

use super::*;

const TIERS: &str = "
  V3 Tier
metadata: {name: late}
spec: {order: 2000000}
  V3 Tier
metadata: {name: early}
spec: {order: 5}
  V3 Tier
metadata: {name: lax}
spec: {order: 5.5, defaultAction: Pass}";

#[test]
fn what_no_policy_is_about_is_the_profiles() {
    let snapshot = with("");
    let world = World::new(&snapshot, Mode::Enforced);
    let verdict = web(&world, Ingress, &tcp(STRANGER, WEB, 80));
    assert_eq!(told(&verdict), ["Allow profile"]);
    let host = |name: &str, direction, packet: &Packet| {
        told(&world.evaluate(world.host(name).unwrap(), direction, packet))
    };
    assert_eq!(
        host("host", Ingress, &tcp(STRANGER, HOST, 80)),
        ["Deny profile"]
    );
    assert_eq!(
        host("open", Ingress, &tcp(STRANGER, HOST, 80)),
        ["Allow profile"]
    );
    assert_eq!(
        host("host", Ingress, &tcp(STRANGER, HOST, 22)),
        ["Allow failsafe"]
    );
    assert_eq!(
        host("host", Egress, &packet(HOST, STRANGER, 17, 53)),
        ["Allow failsafe"]
    );
    assert_eq!(
        host("host", Egress, &tcp(HOST, STRANGER, 22)),
        ["Deny profile"]
    );
}

#[test]
fn a_policy_that_applies_closes_its_direction_and_no_other() {
    let snapshot = of_shop("ingress: [{action: Allow, source: {nets: [10.0.0.2]}}]");
    let world = World::new(&snapshot, Mode::Enforced);
    let verdict = |d, p: &Packet| told(&web(&world, d, p));
    assert_eq!(verdict(Ingress, &tcp(DB, WEB, 1)), ["Allow default/p[0]"]);
    assert_eq!(
        verdict(Ingress, &tcp(BANK, WEB, 1)),
        ["Deny default after p"]
    );
    assert_eq!(verdict(Egress, &tcp(WEB, BANK, 1)), ["Allow profile"]);
    // Others are not selected, in this namespace or in another.
    let others = [("shop", "db"), ("bank", "web")];
    for (namespace, name) in others {
        let other = world.workload(namespace, name).unwrap();
        assert_eq!(world.policies(other, Ingress).count(), 0);
        assert!(
            world
                .evaluate(other, Ingress, &tcp(STRANGER, DB, 1))
                .allowed
        );
    }
}

#[test]
fn types_follow_from_the_rules_that_are_there() {
    let deny = |spec: &str| {
        let snapshot = of_shop(spec);
        let world = World::new(&snapshot, Mode::Enforced);
        let closed = |d| !web(&world, d, &tcp(WEB, WEB, 1)).allowed;
        [closed(Ingress), closed(Egress)]
    };
    assert_eq!(deny("order: 1"), [true, false]);
    assert_eq!(deny("ingress: [{action: Deny}]"), [true, false]);
    assert_eq!(deny("egress: [{action: Deny}]"), [false, true]);
    assert_eq!(
        deny("ingress: [{action: Deny}], egress: [{action: Deny}]"),
        [true, true]
    );
    assert_eq!(deny("types: [Egress]"), [false, true]);
    assert_eq!(deny("types: [Ingress, Egress]"), [true, true]);
    // Rules of a type that is not named are not asked.
    assert_eq!(
        deny("types: [Egress], ingress: [{action: Deny}]"),
        [false, true]
    );
}

#[test]
fn order_decides_then_the_name_and_what_has_no_order_is_last() {
    let policy = |name: &str, order: &str, action: &str| {
        format!(
            "\n  V3 GlobalNetworkPolicy\nmetadata: {{name: {name}}}\nspec: {{{order}ingress: [{{action: {action}}}]}}"
        )
    };
    let text = [
        policy("a", "", "Deny"),
        policy("d", "order: 10, ", "Log"),
        policy("c", "order: 10, ", "Log"),
        policy("z", "order: -0.5, ", "Log"),
        policy("b", "", "Allow"),
    ];
    let snapshot = with(&text.concat());
    let world = World::new(&snapshot, Mode::Enforced);
    let verdict = web(&world, Ingress, &tcp(DB, WEB, 1));
    assert_eq!(
        told(&verdict),
        [
            "Log default/z[0]",
            "Log default/c[0]",
            "Log default/d[0]",
            "Deny default/a[0]"
        ]
    );
    let endpoint = world.workload("shop", "web").unwrap();
    let policies: Vec<_> = world.policies(endpoint, Ingress).collect();
    assert_eq!(policies.len(), 1);
    let names: Vec<_> = policies[0].1.iter().map(|id| id.name.as_str()).collect();
    assert_eq!(names, ["z", "c", "d", "a", "b"]);
}

#[test]
fn pass_goes_to_the_next_tier_and_an_unmatched_packet_to_the_default_action() {
    let from_db = "{action: Pass, source: {selector: app == 'db'}}";
    let text = [
        TIERS.to_owned(),
        in_tier(
            "early",
            "e1",
            &format!("{from_db}, {{action: Deny, source: {{nets: [9.9.9.9]}}}}"),
        ),
        in_tier(
            "early",
            "e2",
            "{action: Log}, {action: Pass, source: {nets: [10.0.1.1]}}",
        ),
        in_tier("lax", "l", "{action: Deny, source: {nets: [10.9.9.9]}}"),
        in_tier(
            "late",
            "z",
            "{action: Allow, source: {nets: [10.0.1.1]}}, {action: Pass}",
        ),
    ];
    let snapshot = with(&text.concat());
    let world = World::new(&snapshot, Mode::Enforced);
    let from = |source: &str| told(&web(&world, Ingress, &tcp(source, WEB, 1)));
    assert_eq!(from(STRANGER), ["Deny early/e1[1]"]);
    // The rest of the tier is left out, and so is a tier without a policy for the endpoint.
    assert_eq!(
        from(DB),
        [
            "Pass early/e1[0]",
            "Pass lax after l",
            "Pass late/z[1]",
            "Allow profile"
        ]
    );
    assert_eq!(
        from(BANK),
        [
            "Log early/e2[0]",
            "Pass early/e2[1]",
            "Pass lax after l",
            "Allow late/z[0]"
        ]
    );
    assert_eq!(from(FEED), ["Log early/e2[0]", "Deny early after e2"]);
}

#[test]
fn a_tier_that_nobody_wrote_comes_last_and_denies() {
    let text = [
        in_tier("gone", "a", "{action: Allow, source: {nets: [10.0.0.2]}}"),
        in_tier("default", "b", "{action: Pass}"),
    ];
    let snapshot = with(&text.concat());
    let world = World::new(&snapshot, Mode::Enforced);
    let from = |source: &str| told(&web(&world, Ingress, &tcp(source, WEB, 1)));
    assert_eq!(from(DB), ["Pass default/b[0]", "Allow gone/a[0]"]);
    assert_eq!(from(BANK), ["Pass default/b[0]", "Deny gone after a"]);
}

#[test]
fn global_policies_apply_to_workloads_and_hosts_those_of_a_namespace_to_its_workloads() {
    let applies = |spec: &str| {
        let snapshot = with(&format!(
            "\n  V3 GlobalNetworkPolicy\nmetadata: {{name: p}}\nspec: {{{spec}}}"
        ));
        let world = World::new(&snapshot, Mode::Enforced);
        let parties = [
            world.workload("shop", "web"),
            world.workload("shop", "db"),
            world.workload("bank", "web"),
            world.host("host"),
        ];
        parties.map(|p| world.policies(p.unwrap(), Ingress).count() == 1)
    };
    assert_eq!(applies(""), [true, true, true, true]);
    assert_eq!(applies("selector: has(role)"), [false, false, false, true]);
    assert_eq!(
        applies("namespaceSelector: all()"),
        [true, true, true, false]
    );
    assert_eq!(
        applies("namespaceSelector: team == 'red'"),
        [true, true, false, false]
    );
    assert_eq!(
        applies("selector: app == 'web', namespaceSelector: has(team)"),
        [true, false, true, false]
    );
    let own = with("\n  V3 NetworkPolicy\nmetadata: {name: p, namespace: shop}\nspec: {}");
    let world = World::new(&own, Mode::Enforced);
    assert_eq!(
        world.policies(world.host("host").unwrap(), Ingress).count(),
        0
    );
    assert_eq!(
        world
            .policies(world.workload("bank", "web").unwrap(), Ingress)
            .count(),
        0
    );
    assert_eq!(
        world
            .policies(world.workload("shop", "db").unwrap(), Ingress)
            .count(),
        1
    );
}

#[test]
fn staged_policies_count_only_where_they_are_asked_for() {
    let text = "
  V3 NetworkPolicy
metadata: {name: p, namespace: shop}
spec: {order: 1, ingress: [{action: Deny}]}
  V3 NetworkPolicy
metadata: {name: q, namespace: shop}
spec: {order: 2, ingress: [{action: Deny}]}
  V3 NetworkPolicy
metadata: {name: r, namespace: shop}
spec: {order: 3, ingress: [{action: Log}]}
  V3 StagedNetworkPolicy
metadata: {name: p, namespace: shop}
spec: {order: 1, ingress: [{action: Log}]}
  V3 StagedNetworkPolicy
metadata: {name: q, namespace: shop}
spec: {stagedAction: Delete}
  V3 StagedNetworkPolicy
metadata: {name: r, namespace: shop}
spec: {stagedAction: Ignore, ingress: [{action: Deny}]}
  V3 StagedGlobalNetworkPolicy
metadata: {name: new}
spec: {order: 4, ingress: [{action: Allow}]}";
    let snapshot = with(text);
    let told = |mode| {
        let world = World::new(&snapshot, mode);
        told(&web(&world, Ingress, &tcp(DB, WEB, 1)))
    };
    assert_eq!(told(Mode::Enforced), ["Deny default/p[0]"]);
    assert_eq!(
        told(Mode::Staged),
        [
            "Log default/p[0]",
            "Log default/r[0]",
            "Allow default/new[0]"
        ]
    );
}

#[test]
fn between_workloads_both_ends_are_asked() {
    let snapshot =
        of_shop("egress: [{action: Deny, destination: {nets: [10.0.1.1]}}, {action: Allow}]");
    let world = World::new(&snapshot, Mode::Enforced);
    let between = |s: &str, d: &str| {
        let [egress, ingress] = world.between(&tcp(s, d, 1));
        [egress.map(|v| v.allowed), ingress.map(|v| v.allowed)]
    };
    assert_eq!(between(WEB, BANK), [Some(false), Some(true)]);
    assert_eq!(between(WEB, DB), [Some(true), Some(true)]);
    assert_eq!(between(WEB, STRANGER), [Some(true), None]);
    assert_eq!(between(HOST, WEB), [None, Some(true)]);
}
