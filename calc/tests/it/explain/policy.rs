//! What policy says on the way, rule by rule.

use model::api::ExplainVerdict::{Allow, Deny};
use model::api::{ExplainDecision, ExplainPath};

use super::{ask, mesh, question, snapshot, steps, told};
use calc::explain::Question;

const EGRESS: &str = "NetworkPolicy\nmetadata: {name: out, namespace: default}\nspec: {types: [Egress], egress: [\
    {action: Log}, \
    {action: Deny, protocol: TCP, destination: {ports: [443]}}, \
    {action: Deny, destination: {selector: app == 'nobody'}}, \
    {action: Pass, protocol: TCP, destination: {ports: ['8000:8999']}}, \
    {action: Allow, protocol: TCP, destination: {ports: [80], selector: app == 'api', namespaceSelector: all()}}]}";

#[test]
fn policy_is_told_rule_by_rule() {
    let s = snapshot(&mesh(), &[EGRESS]);
    let x = told(&s, "default/web", "shop/api");
    assert_eq!(
        steps(&x)[..5],
        [
            "Egress Log default/out[0]",
            "Egress NoMatch default/out[1]",
            "Egress NoMatch default/out[2]",
            "Egress NoMatch default/out[3]",
            "Egress Allow default/out[4]"
        ]
    );
    let steps_of = &x.explanation.steps;
    assert_eq!(steps_of[1].reason, "destination.ports: 443");
    assert_eq!(steps_of[2].reason, "destination.selector: app == 'nobody'");
    assert_eq!(steps_of[4].tier.as_deref(), Some("default"));
    assert_eq!(steps_of[4].policy_kind.as_deref(), Some("NetworkPolicy"));
    assert!(!steps_of.iter().any(|s| s.by_port));

    // Dropped at the end of the tier, and the rest of the way is told all the same.
    let x = told(&s, "default/web", "shop/far");
    let e = &x.explanation;
    assert_eq!((e.verdict, e.route.path), (Deny, ExplainPath::Vxlan));
    assert_eq!(
        e.summary,
        "denied by egress policy of the source: the end of tier default, no rule of which matches"
    );
    let end = e
        .steps
        .iter()
        .find(|s| s.decision == ExplainDecision::Deny)
        .unwrap();
    assert_eq!(
        (end.tier.as_deref(), &end.policy, end.rule),
        (Some("default"), &None, None)
    );

    let deny = ask(&s, &question("default/web", "shop/api", Some(443))).unwrap();
    assert_eq!(
        deny.explanation.summary,
        "denied by egress policy of the source: egress[1] of NetworkPolicy default/out (tier default)"
    );
    let pass = ask(&s, &question("default/web", "shop/far", Some(8080))).unwrap();
    assert_eq!(pass.explanation.verdict, Allow);
    assert!(steps(&pass).contains(&"Egress Pass default/out[3]".to_owned()));
}

#[test]
fn without_a_port_all_ports_are_told() {
    let s = snapshot(&mesh(), &[EGRESS]);
    let x = ask(&s, &question("default/web", "shop/api", None)).unwrap();
    let e = &x.explanation;
    assert_eq!((e.verdict, e.packet.port), (Deny, None));
    let ports: Vec<_> = e
        .ports
        .iter()
        .map(|p| (p.ports.join(","), p.verdict, p.by.as_str()))
        .collect();
    let rule = |n: u8| format!("egress by egress[{n}] of NetworkPolicy default/out (tier default)");
    assert_eq!(
        ports,
        [
            (
                "80".to_owned(),
                Allow,
                &*format!("{}; ingress by the profile", rule(4))
            ),
            ("443".to_owned(), Deny, &*rule(1)),
            (
                "8000:8999".to_owned(),
                Allow,
                "egress by the profile; ingress by the profile"
            ),
        ]
    );
    let marked: Vec<_> = e
        .steps
        .iter()
        .filter(|s| s.by_port)
        .map(|s| s.rule)
        .collect();
    assert_eq!(marked, [Some(1), Some(3), Some(4)]);
    // What stands for all ports is judged, and one of each sort.
    assert_eq!(x.judged.len(), 8);
    let many: Vec<String> = (0..200).map(|n| format!("{}", 1000 + 2 * n)).collect();
    let many = format!(
        "NetworkPolicy\nmetadata: {{name: many, namespace: default}}\nspec: {{egress: [{{action: Allow, protocol: TCP, destination: {{ports: [{}]}}}}]}}",
        many.join(", ")
    );
    let x = ask(
        &snapshot(&mesh(), &[&many]),
        &question("default/web", "shop/api", None),
    )
    .unwrap();
    assert_eq!(x.explanation.not_checked.len(), 1);
    // ICMP has none.
    let ping = Question {
        protocol: 1,
        ..question("default/web", "shop/api", None)
    };
    let x = ask(&s, &ping).unwrap();
    assert_eq!(
        (x.packet.icmp, x.explanation.ports.len()),
        (Some((8, 0)), 0)
    );
    assert!(!x.explanation.steps.iter().any(|s| s.by_port));
}

#[test]
fn staged_policies_say_what_they_would_do() {
    let staged =
        "StagedNetworkPolicy\nmetadata: {name: none, namespace: default}\nspec: {types: [Ingress]}";
    let s = snapshot(&mesh(), &[staged]);
    let x = told(&s, "default/web", "default/db");
    assert_eq!(x.explanation.verdict, Allow);
    let would = x.explanation.staged.unwrap();
    assert_eq!(would.verdict, Deny);
    assert!(
        would.summary.contains("end of tier default"),
        "{}",
        would.summary
    );
    assert_eq!(told(&s, "default/web", "shop/api").explanation.staged, None);
}

#[test]
fn policies_that_do_not_select_are_told_on_demand() {
    let other = "NetworkPolicy\nmetadata: {name: other, namespace: shop}\nspec: {}";
    let global =
        "GlobalNetworkPolicy\nmetadata: {name: g}\nspec: {selector: app == 'x', types: [Egress]}";
    let s = snapshot(&mesh(), &[other, global]);
    assert!(
        !steps(&told(&s, "web", "db"))
            .iter()
            .any(|s| s.contains("NotSelected"))
    );
    let all = Question {
        all: true,
        ..question("web", "db", Some(80))
    };
    let x = ask(&s, &all).unwrap();
    let why: Vec<_> = (x.explanation.steps.iter())
        .filter(|s| s.decision == ExplainDecision::NotSelected)
        .map(|s| format!("{:?}: {}", s.at, s.reason))
        .collect();
    assert_eq!(
        why,
        [
            "Egress: app == 'x' does not select it",
            "Egress: it is not for Egress",
            "Ingress: it is not for Ingress",
            "Ingress: it is for workloads of namespace shop"
        ]
    );
}
