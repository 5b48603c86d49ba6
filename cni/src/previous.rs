//! `prevResult`: what the chain made at ADD, handed back at CHECK.

use std::net::IpAddr;

use model::Cidr;
use model::api::cni::AddResult;
use model::kernel::Mac;
use serde::Deserialize;
use serde_json::Value;

use crate::config::address;
use crate::failure::Failure;

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Previous {
    interfaces: Vec<Interface>,
    ips: Vec<Ip>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Interface {
    name: String,
    /// Empty for an interface that has none.
    mac: String,
    mtu: u32,
    sandbox: String,
}

impl Interface {
    fn mac(&self) -> Result<Option<Mac>, Failure> {
        if self.mac.is_empty() {
            return Ok(None);
        }
        self.mac.parse().map(Some).map_err(|e| {
            Failure::config(format!("prevResult.interfaces: mac of {}: {e}", self.name))
        })
    }
}

#[derive(Debug, Deserialize)]
struct Ip {
    address: String,
    gateway: Option<IpAddr>,
    interface: Option<usize>,
}

/// Our part of the chain's result: the pair of interfaces and the addresses of the inner one.
///
/// Plugins after us may have added interfaces and addresses, and changed the MAC address.
pub(crate) fn parse(value: &Value, ifname: &str) -> Result<AddResult, Failure> {
    let previous: Previous = serde_path_to_error::deserialize(value)
        .map_err(|e| Failure::config(format!("prevResult.{}: {}", e.path(), e.inner())))?;
    let (index, inner) = previous
        .interfaces
        .iter()
        .enumerate()
        .find(|(_, i)| i.name == ifname && !i.sandbox.is_empty())
        .ok_or_else(|| {
            Failure::config(format!(
                "prevResult.interfaces: {ifname} of a container is not among them"
            ))
        })?;
    let host = previous.interfaces.iter().find(|i| i.sandbox.is_empty());
    let mut result = AddResult {
        host_interface: host.map(|i| i.name.clone()).unwrap_or_default(),
        host_mac: host.map(Interface::mac).transpose()?.flatten(),
        interface: inner.name.clone(),
        mac: inner.mac()?,
        sandbox: inner.sandbox.clone(),
        mtu: inner.mtu,
        ips: Vec::new(),
        gateways: Vec::new(),
    };
    for ip in &previous.ips {
        if ip.interface.is_some_and(|i| i != index) {
            continue;
        }
        let at = address(&ip.address).map_err(|e| {
            Failure::config(format!("prevResult.ips.address: {:?}: {e}", ip.address))
        })?;
        result.ips.push(Cidr::host(at));
        if let Some(gateway) = ip.gateway.filter(|g| !result.gateways.contains(g)) {
            result.gateways.push(gateway);
        }
    }
    Ok(result)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn our_part_is_found_among_others() {
        let value = json!({
            "cniVersion": "1.1.0",
            "interfaces": [
                {"name": "cni0", "mac": "", "sandbox": "/run/netns/other"},
                {"name": "rtr1", "mac": "02:00:00:00:00:01"},
                {"name": "eth0", "mac": "02:00:00:00:00:02", "mtu": 1450, "sandbox": "/run/netns/a"},
            ],
            "ips": [
                {"address": "10.0.0.5/32", "gateway": "169.254.1.1", "interface": 2},
                {"address": "fd00::5/128", "gateway": "fe80::1"},
                {"address": "192.0.2.1/24", "interface": 0},
            ],
            "routes": [{"dst": "0.0.0.0/0"}],
        });
        let r = parse(&value, "eth0").unwrap();
        assert_eq!(r.host_interface, "rtr1");
        assert_eq!(r.interface, "eth0");
        assert_eq!(r.mac, Some(Mac([2, 0, 0, 0, 0, 2])));
        assert_eq!(r.mtu, 1450);
        assert_eq!(r.sandbox, "/run/netns/a");
        assert_eq!(
            r.ips,
            ["10.0.0.5/32", "fd00::5/128"].map(|c| c.parse::<Cidr>().unwrap())
        );
        assert_eq!(r.gateways.len(), 2);
    }

    #[test]
    fn an_interface_that_is_not_there_is_named() {
        let e = parse(&json!({"interfaces": [{"name": "eth0"}]}), "eth0").unwrap_err();
        assert!(e.details.contains("eth0"), "{}", e.details);
        let bad = json!({"interfaces": [{"name": "eth0", "mac": "x", "sandbox": "/n"}]});
        let e = parse(&bad, "eth0").unwrap_err();
        assert!(e.details.contains("mac of eth0"), "{}", e.details);
    }
}
