//! The schemas of flows, and of rules with what they counted.

use model::api::{
    Flow, FlowBy, FlowChange, FlowEnd, FlowStaged, FlowVerdict, FlowsMissed, PolicyImpact,
    PolicyRuleShow, PolicyShow, Reporter, RuleCount,
};
use model::resources::PolicyType;

use crate::schemas::{Schemas, text};

pub(crate) fn compare(s: &mut Schemas) {
    s.words("FlowVerdict", &[FlowVerdict::Allow, FlowVerdict::Deny]);
    s.words("Reporter", &[Reporter::Source, Reporter::Destination]);
    let end = FlowEnd {
        ip: [10, 0, 0, 1].into(),
        kind: text("WorkloadEndpoint"),
        namespace: text("default"),
        name: text("a"),
        endpoint: text("a"),
        labels: [(text("app"), text("web"))].into(),
    };
    let by = FlowBy {
        by: text("Rule"),
        tier: Some(text("default")),
        kind: Some(text("NetworkPolicy")),
        policy: Some(text("default/web")),
        rule: Some(0),
    };
    let staged = FlowStaged {
        verdict: FlowVerdict::Deny,
        by: by.clone(),
    };
    let flow = Flow {
        id: 1,
        start: text("x"),
        end: Some(text("x")),
        last_seen: text("x"),
        source: end.clone(),
        destination: end.clone(),
        protocol: text("TCP"),
        port: Some(80),
        source_port: Some(40_000),
        icmp: Some([8, 0]),
        verdict: FlowVerdict::Allow,
        by: by.clone(),
        reason: Some(text("Policy")),
        kept: true,
        bytes: 1,
        packets: 1,
        reply_bytes: 1,
        reply_packets: 1,
        reporter: Reporter::Source,
        node: text("a"),
        staged: Some(staged.clone()),
        logged: vec![by.clone()],
    };
    s.object("FlowEnd", &end);
    s.object("FlowBy", &by);
    s.object("FlowStaged", &staged);
    s.object("Flow", &flow);
    s.object("FlowsMissed", &FlowsMissed { missed: 1 });
    let change = FlowChange {
        flow,
        would: staged,
    };
    s.object("FlowChange", &change);
    s.object(
        "PolicyImpact",
        &PolicyImpact {
            connections: 1,
            cut: 1,
            flows: 1,
            changed: 1,
            samples: vec![change],
        },
    );
    let counted = RuleCount {
        packets: 1,
        bytes: 1,
        connections: 1,
    };
    let rule = PolicyRuleShow {
        direction: PolicyType::Ingress,
        by,
        action: model::resources::Action::Allow,
        matches: text("x"),
        staged: true,
        counted: Some(counted),
    };
    s.object("RuleCount", &counted);
    s.object("PolicyRuleShow", &rule);
    s.object(
        "PolicyShow",
        &PolicyShow {
            kind: text("WorkloadEndpoint"),
            namespace: text("default"),
            name: text("a"),
            interface: Some(text("rtr1")),
            problem: Some(text("x")),
            rules: vec![rule],
        },
    );
}
