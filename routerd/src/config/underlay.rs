//! `[underlay]`: how other nodes reach this host.

use std::net::IpAddr;

use calc::underlay::Choice;
use model::kernel::LinkName;
use serde::Deserialize;

use super::Checked;

/// `[underlay]`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct UnderlayConfig {
    /// IPv4 address that other nodes use.
    pub ipv4: UnderlayAddress,
    /// IPv6 address that other nodes use.
    pub ipv6: UnderlayAddress,
    /// Look at this interface only.
    pub interface: Option<LinkName>,
}

/// An underlay address: `"auto"`, or an address with or without prefix length.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct UnderlayAddress(pub Choice);

impl TryFrom<String> for UnderlayAddress {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        match text.as_str() {
            "auto" => Ok(UnderlayAddress(Choice::Auto)),
            _ => text
                .parse()
                .map(|a| UnderlayAddress(Choice::Address(a)))
                .map_err(|_| {
                    format!(
                        "{text:?} is not an underlay address: write \"auto\" or an address \
                     such as \"192.0.2.10/24\""
                    )
                }),
        }
    }
}

impl UnderlayConfig {
    /// As calculation wants it.
    pub fn choice(&self) -> calc::underlay::Config {
        calc::underlay::Config {
            ipv4: self.ipv4.0,
            ipv6: self.ipv6.0,
            interface: self.interface,
        }
    }

    pub(super) fn check(&self) -> Checked {
        for (field, address, v4) in [
            ("underlay.ipv4", self.ipv4, true),
            ("underlay.ipv6", self.ipv6, false),
        ] {
            let Choice::Address(a) = address.0 else {
                continue;
            };
            if a.ip.is_ipv4() != v4 {
                return Err((
                    field,
                    a.to_string(),
                    "write an address of this family".into(),
                ));
            }
            if a.ip.is_loopback()
                || a.ip.is_multicast()
                || a.ip.is_unspecified()
                || link_local(a.ip)
            {
                return Err((
                    field,
                    a.to_string(),
                    "write an address that other nodes can reach".into(),
                ));
            }
        }
        Ok(())
    }
}

fn link_local(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(a) => a.is_link_local(),
        IpAddr::V6(a) => a.is_unicast_link_local(),
    }
}
