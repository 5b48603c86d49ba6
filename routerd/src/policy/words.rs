//! What a rule is about, in words.

use model::resources::{EntityRule, IcmpFields, Rule};

/// Such as `TCP from app == 'web' to port 80`; `everything` where it asks for nothing.
pub(super) fn in_words(rule: &Rule) -> String {
    let mut words: Vec<String> = Vec::new();
    words.extend(rule.ip_version.map(|v| format!("IPv{v}")));
    words.extend(rule.protocol.as_ref().map(ToString::to_string));
    words.extend(rule.not_protocol.as_ref().map(|p| format!("not {p}")));
    words.extend(rule.icmp.map(icmp));
    words.extend(rule.not_icmp.map(|i| format!("not {}", icmp(i))));
    words.extend(end("from", &rule.source));
    words.extend(end("to", &rule.destination));
    match words.is_empty() {
        true => "everything".to_owned(),
        false => words.join(" "),
    }
}

fn icmp(fields: IcmpFields) -> String {
    match (fields.icmp_type, fields.code) {
        (Some(t), Some(code)) => format!("type {t} code {code}"),
        (Some(t), None) => format!("type {t}"),
        (None, Some(code)) => format!("code {code}"),
        (None, None) => "any type".to_owned(),
    }
}

fn end(which: &str, entity: &EntityRule) -> Option<String> {
    let mut parts: Vec<String> = Vec::new();
    let all = |list: &[String]| list.join(", ");
    let nets =
        |list: &[model::Cidr]| all(&list.iter().map(ToString::to_string).collect::<Vec<_>>());
    let ports = |list: &[model::resources::PolicyPort]| {
        all(&list.iter().map(ToString::to_string).collect::<Vec<_>>())
    };
    if !entity.nets.is_empty() {
        parts.push(nets(&entity.nets));
    }
    if !entity.not_nets.is_empty() {
        parts.push(format!("outside {}", nets(&entity.not_nets)));
    }
    parts.extend(entity.selector.clone());
    parts.extend(entity.not_selector.as_ref().map(|s| format!("not {s}")));
    let namespaces = entity.namespace_selector.as_ref();
    parts.extend(namespaces.map(|s| format!("in namespaces {s}")));
    if !entity.ports.is_empty() {
        parts.push(format!("port {}", ports(&entity.ports)));
    }
    if !entity.not_ports.is_empty() {
        parts.push(format!("not port {}", ports(&entity.not_ports)));
    }
    (!parts.is_empty()).then(|| format!("{which} {}", parts.join(" ")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_read_as_sentences() {
        for (spec, words) in [
            (r#"{"action":"Allow"}"#, "everything"),
            (
                r#"{"action":"Allow","protocol":"TCP","source":{"selector":"app == 'shop'"},"destination":{"ports":[80,"8000:8999","web"]}}"#,
                "TCP from app == 'shop' to port 80, 8000:8999, web",
            ),
            (
                r#"{"action":"Deny","ipVersion":4,"notProtocol":"UDP","source":{"nets":["10.0.0.0/8"],"notNets":["10.1.0.0/16","10.2.0.0/16"]}}"#,
                "IPv4 not UDP from 10.0.0.0/8 outside 10.1.0.0/16, 10.2.0.0/16",
            ),
            (
                r#"{"action":"Deny","protocol":"ICMP","icmp":{"type":8},"destination":{"notSelector":"has(a)","namespaceSelector":"all()"}}"#,
                "ICMP type 8 to not has(a) in namespaces all()",
            ),
        ] {
            let rule: Rule = serde_json::from_str(spec).unwrap();
            assert_eq!(in_words(&rule), words);
        }
    }
}
