//! The schemas of explanations.

use model::api::{
    ExplainAt, ExplainCheck, ExplainDecision, ExplainEnd, ExplainKind, ExplainPacket, ExplainPath,
    ExplainPorts, ExplainRoute, ExplainStaged, ExplainStep, ExplainVerdict, Explanation,
};
use model::resources::Encryption;

use crate::schemas::{Schemas, text};

fn words(s: &mut Schemas) {
    use ExplainAt::{Destination, Egress, Ingress, Nat, Route, Source};
    use ExplainDecision::{Allow, Deny, Forward, Log, Masquerade, NoMatch, NotSelected, Pass};
    use ExplainKind::{Host, Node, Outside, Unassigned, Workload};
    use ExplainPath::{Direct, Local, Vxlan, WireGuard};
    s.words(
        "ExplainVerdict",
        &[ExplainVerdict::Allow, ExplainVerdict::Deny],
    );
    s.words("ExplainKind", &[Workload, Node, Host, Unassigned, Outside]);
    let encryption = ExplainAt::Encryption;
    s.words(
        "ExplainAt",
        &[Source, Egress, Route, encryption, Nat, Ingress, Destination],
    );
    let decisions = [
        Allow,
        Deny,
        Pass,
        Log,
        NoMatch,
        NotSelected,
        Forward,
        Masquerade,
    ];
    s.words("ExplainDecision", &decisions);
    let (host, none) = (ExplainPath::Host, ExplainPath::None);
    s.words(
        "ExplainPath",
        &[Local, Direct, Vxlan, WireGuard, host, none],
    );
}

pub(crate) fn compare(s: &mut Schemas) {
    words(s);
    let packet = ExplainPacket {
        protocol: 6,
        port: Some(80),
        source_port: Some(40_000),
        icmp_type: Some(8),
        icmp_code: None,
    };
    let end = ExplainEnd {
        ip: [10, 0, 0, 1].into(),
        kind: ExplainKind::Workload,
        node: text("a"),
        namespace: text("shop"),
        name: text("web"),
        endpoint: text("a-cni-1-eth0"),
        labels: [(text("app"), text("web"))].into(),
        sets: vec![text("feed")],
        pool: Some(text("four")),
        block: "10.0.0.0/26".parse().ok(),
        block_node: Some(text("a")),
        text: text("workload shop/web on node a"),
    };
    let step = ExplainStep {
        at: ExplainAt::Egress,
        decision: ExplainDecision::Allow,
        tier: Some(text("default")),
        policy: Some(text("shop/out")),
        policy_kind: Some(text("NetworkPolicy")),
        rule: Some(0),
        by_port: true,
        reason: text("the first rule that matches"),
    };
    let ports = ExplainPorts {
        ports: vec![text("80")],
        verdict: ExplainVerdict::Deny,
        by: text("egress"),
    };
    let route = ExplainRoute {
        node: text("a"),
        path: ExplainPath::Vxlan,
        next_node: Some(text("b")),
        prefix: "10.0.1.0/26".parse().ok(),
        via: Some([10, 0, 1, 0].into()),
        device: Some(text("rtd.vxlan4")),
        tunnel_endpoint: Some([192, 0, 2, 2].into()),
        encrypted: false,
        encryption: Encryption::Off,
        masquerade: None,
        mtu_reason: text("VXLAN"),
    };
    let staged = ExplainStaged {
        verdict: ExplainVerdict::Deny,
        summary: text("denied"),
        steps: vec![step.clone()],
    };
    let check = ExplainCheck {
        object: text("route"),
        agrees: true,
        expected: text("route"),
        found: text("route"),
    };
    s.object("ExplainPacket", &packet);
    s.object("ExplainEnd", &end);
    s.object("ExplainStep", &step);
    s.object("ExplainPorts", &ports);
    s.object("ExplainRoute", &route);
    s.object("ExplainStaged", &staged);
    s.object("ExplainCheck", &check);
    let explanation = Explanation {
        verdict: ExplainVerdict::Allow,
        summary: text("allowed"),
        packet,
        source: end.clone(),
        destination: end,
        steps: vec![step],
        ports: vec![ports],
        route,
        mtu: 1450,
        staged: Some(staged),
        kernel_agrees: true,
        kernel: vec![check],
        not_checked: vec![text("ask node b")],
    };
    s.object("Explanation", &explanation);
}
