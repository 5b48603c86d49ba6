//! The result of ADD in the shape of each version.

use std::net::IpAddr;

use model::api::cni::AddResult;
use model::kernel::Mac;
use model::{Cidr, Family};
use serde::Serialize;

use crate::config::Dns;
use crate::version::Version;

/// The result since 0.3.0.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Current<'a> {
    cni_version: &'a str,
    interfaces: Vec<Interface<'a>>,
    ips: Vec<Ip>,
    routes: Vec<Route>,
    #[serde(skip_serializing_if = "Dns::is_empty")]
    dns: &'a Dns,
}

#[derive(Serialize)]
struct Interface<'a> {
    name: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    mac: Option<Mac>,
    /// Since 1.1.0.
    #[serde(skip_serializing_if = "Option::is_none")]
    mtu: Option<u32>,
    #[serde(skip_serializing_if = "str::is_empty")]
    sandbox: &'a str,
}

#[derive(Serialize)]
struct Ip {
    /// Until 0.4.0.
    #[serde(skip_serializing_if = "Option::is_none")]
    version: Option<&'static str>,
    address: Cidr,
    #[serde(skip_serializing_if = "Option::is_none")]
    gateway: Option<IpAddr>,
    interface: usize,
}

#[derive(Serialize)]
struct Route {
    dst: Cidr,
    #[serde(skip_serializing_if = "Option::is_none")]
    gw: Option<IpAddr>,
}

/// The result until 0.2.0: one address a family.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Legacy<'a> {
    cni_version: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    ip4: Option<LegacyIp>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ip6: Option<LegacyIp>,
    #[serde(skip_serializing_if = "Dns::is_empty")]
    dns: &'a Dns,
}

#[derive(Serialize)]
struct LegacyIp {
    ip: Cidr,
    #[serde(skip_serializing_if = "Option::is_none")]
    gateway: Option<IpAddr>,
    routes: Vec<Route>,
}

/// What ADD made, as `version` writes it.
pub(crate) fn to_json(
    made: &AddResult,
    dns: &Dns,
    version: Version,
) -> Result<String, serde_json::Error> {
    if version < Version::V0_3_0 {
        return serde_json::to_string(&Legacy {
            cni_version: version.as_str(),
            ip4: legacy_ip(made, Family::V4),
            ip6: legacy_ip(made, Family::V6),
            dns,
        });
    }
    let interface = |name, mac, sandbox| Interface {
        name,
        mac,
        mtu: (version >= Version::V1_1_0 && made.mtu > 0).then_some(made.mtu),
        sandbox,
    };
    let ips = made.ips.iter().map(|address| Ip {
        version: (version < Version::V1_0_0).then(|| match address.family() {
            Family::V4 => "4",
            Family::V6 => "6",
        }),
        address: *address,
        gateway: gateway(made, address.family()),
        // The inner interface stands second.
        interface: 1,
    });
    serde_json::to_string(&Current {
        cni_version: version.as_str(),
        interfaces: vec![
            interface(&made.host_interface, made.host_mac, ""),
            interface(&made.interface, made.mac, &made.sandbox),
        ],
        ips: ips.collect(),
        routes: Family::ALL
            .into_iter()
            .filter_map(|f| default_route(made, f))
            .collect(),
        dns,
    })
}

fn gateway(made: &AddResult, family: Family) -> Option<IpAddr> {
    made.gateways
        .iter()
        .copied()
        .find(|g| Family::of(*g) == family)
}

fn default_route(made: &AddResult, family: Family) -> Option<Route> {
    let gw = gateway(made, family)?;
    let any = match family {
        Family::V4 => IpAddr::from([0; 4]),
        Family::V6 => IpAddr::from([0; 16]),
    };
    Some(Route {
        dst: Cidr::containing(any, 0)?,
        gw: Some(gw),
    })
}

fn legacy_ip(made: &AddResult, family: Family) -> Option<LegacyIp> {
    let ip = made.ips.iter().copied().find(|c| c.family() == family)?;
    Some(LegacyIp {
        ip,
        gateway: gateway(made, family),
        routes: default_route(made, family).into_iter().collect(),
    })
}
