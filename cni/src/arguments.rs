//! `CNI_ARGS`: `KEY=VALUE` pairs between semicolons.

use std::net::IpAddr;

use model::kernel::Mac;

use crate::config::{address, unicast};
use crate::failure::Failure;

/// What we understand of `CNI_ARGS`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Arguments {
    /// `K8S_POD_NAMESPACE`.
    pub(crate) pod_namespace: Option<String>,
    /// `K8S_POD_NAME`.
    pub(crate) pod_name: Option<String>,
    /// `IP`: addresses, separated by commas.
    pub(crate) ips: Vec<IpAddr>,
    /// `MAC`.
    pub(crate) mac: Option<Mac>,
}

const KNOWN: &str = "IgnoreUnknown, K8S_POD_NAMESPACE, K8S_POD_NAME, K8S_POD_INFRA_CONTAINER_ID, K8S_POD_UID, IP, MAC";

impl Arguments {
    /// An unknown key is an error unless `IgnoreUnknown` is true.
    pub(crate) fn parse(text: &str) -> Result<Arguments, Failure> {
        let bad = |details: String| Failure::environment("CNI_ARGS", details);
        let mut arguments = Arguments::default();
        let mut ignore_unknown = false;
        let mut unknown = Vec::new();
        for pair in text.split(';').filter(|p| !p.is_empty()) {
            let (key, value) = pair
                .split_once('=')
                .ok_or_else(|| bad(format!("CNI_ARGS: {pair:?} is no KEY=VALUE")))?;
            let given = |details: String| bad(format!("CNI_ARGS: {key}={value}: {details}"));
            match key {
                "IgnoreUnknown" => {
                    ignore_unknown = match value.to_ascii_lowercase().as_str() {
                        "1" | "true" => true,
                        "0" | "false" => false,
                        _ => return Err(given("use true or false".to_owned())),
                    }
                }
                "K8S_POD_NAMESPACE" => arguments.pod_namespace = some(value),
                "K8S_POD_NAME" => arguments.pod_name = some(value),
                // The container id and our own endpoint name say as much.
                "K8S_POD_INFRA_CONTAINER_ID" | "K8S_POD_UID" => {}
                "IP" => {
                    for ip in value.split(',').filter(|v| !v.is_empty()) {
                        arguments.ips.push(address(ip.trim()).map_err(given)?);
                    }
                }
                "MAC" if value.is_empty() => {}
                "MAC" => arguments.mac = Some(unicast(value).map_err(given)?),
                _ => unknown.push(key),
            }
        }
        if unknown.is_empty() || ignore_unknown {
            return Ok(arguments);
        }
        Err(bad(format!(
            "CNI_ARGS: unknown {}: known are {KNOWN}; IgnoreUnknown=true lets others pass",
            unknown.join(", ")
        )))
    }
}

fn some(value: &str) -> Option<String> {
    (!value.is_empty()).then(|| value.to_owned())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::failure::Code;

    #[test]
    fn a_pod_is_read() {
        let a = Arguments::parse(
            "IgnoreUnknown=1;K8S_POD_NAMESPACE=shop;K8S_POD_NAME=web-0;K8S_POD_INFRA_CONTAINER_ID=x;FOO=a=b;IP=10.0.0.5/24,fd00::5;MAC=02:00:00:00:00:01;",
        )
        .unwrap();
        assert_eq!(a.pod_namespace.as_deref(), Some("shop"));
        assert_eq!(a.pod_name.as_deref(), Some("web-0"));
        assert_eq!(
            a.ips,
            ["10.0.0.5", "fd00::5"].map(|i| i.parse::<IpAddr>().unwrap())
        );
        assert_eq!(a.mac, Some(Mac([2, 0, 0, 0, 0, 1])));
        assert_eq!(Arguments::parse("").unwrap(), Arguments::default());
    }

    #[test]
    fn ignore_unknown_counts_wherever_it_stands() {
        assert!(Arguments::parse("FOO=1;IgnoreUnknown=true").is_ok());
        for text in [
            "FOO=1",
            "IgnoreUnknown=0;FOO=1",
            "IgnoreUnknown=1;IgnoreUnknown=0;FOO=1",
        ] {
            let e = Arguments::parse(text).unwrap_err();
            assert_eq!(e.code, Code::Environment);
            assert!(e.details.contains("unknown FOO"), "{}", e.details);
        }
    }

    #[test]
    fn what_cannot_be_read_is_named() {
        for (text, part) in [
            ("FOO", "\"FOO\" is no KEY=VALUE"),
            ("IgnoreUnknown=maybe", "IgnoreUnknown=maybe"),
            ("IP=10.0.0.256", "IP=10.0.0.256"),
            ("IP=10.0.0.1/33", "IP=10.0.0.1/33"),
            ("MAC=1:2", "MAC=1:2"),
            ("MAC=01:00:00:00:00:00", "unicast"),
        ] {
            let e = Arguments::parse(text).unwrap_err();
            assert!(e.details.contains(part), "{}", e.details);
            assert!(e.msg.contains("CNI_ARGS"));
        }
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic(text in "[A-Za-z0-9_=;,.:/ ]{0,60}") {
            let _ = Arguments::parse(&text);
        }
    }
}
