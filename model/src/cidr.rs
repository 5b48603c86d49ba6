//! An IP prefix without host bits.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use ipnetwork::IpNetwork;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// An address family.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Family {
    /// IPv4.
    #[serde(rename = "ipv4")]
    V4,
    /// IPv6.
    #[serde(rename = "ipv6")]
    V6,
}

impl Family {
    /// Both families, IPv4 first.
    pub const ALL: [Family; 2] = [Family::V4, Family::V6];

    /// The family of an address.
    pub fn of(ip: IpAddr) -> Family {
        if ip.is_ipv4() { Family::V4 } else { Family::V6 }
    }

    /// Address width in bits: 32 or 128.
    pub const fn bits(self) -> u8 {
        match self {
            Family::V4 => 32,
            Family::V6 => 128,
        }
    }
}

impl fmt::Display for Family {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Family::V4 => "IPv4",
            Family::V6 => "IPv6",
        })
    }
}

/// An IP prefix whose host bits are all zero, so equal prefixes are equal values.
///
/// Ordered by family, then address, then length: a covering prefix sorts before what it covers.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Cidr {
    network: IpAddr,
    prefix: u8,
}

/// Why a text is not a [`Cidr`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CidrError {
    /// Not an address with a prefix length at all.
    #[error("{0:?} is not an IP prefix: write ADDRESS/LENGTH, such as 10.0.0.0/16")]
    Syntax(String),
    /// An address inside the prefix where its first address was wanted.
    #[error("{given} has host bits set: write {canonical}")]
    HostBits {
        /// What was written.
        given: String,
        /// The prefix that was probably meant.
        canonical: Cidr,
    },
}

impl Cidr {
    /// The prefix of `len` bits that contains `ip`; `None` when `len` is too long for the family.
    pub fn containing(ip: IpAddr, len: u8) -> Option<Cidr> {
        let net = IpNetwork::new(ip, len).ok()?;
        Some(Cidr {
            network: net.network(),
            prefix: len,
        })
    }

    /// The single-address prefix (/32 or /128) of `ip`.
    pub fn host(ip: IpAddr) -> Cidr {
        Cidr {
            network: ip,
            prefix: Family::of(ip).bits(),
        }
    }

    /// First address.
    pub fn network(&self) -> IpAddr {
        self.network
    }

    /// Prefix length in bits.
    pub fn prefix_len(&self) -> u8 {
        self.prefix
    }

    /// Address family.
    pub fn family(&self) -> Family {
        Family::of(self.network)
    }

    /// Whether this is a /32 or /128.
    pub fn is_host(&self) -> bool {
        self.prefix == self.family().bits()
    }

    /// Whether `ip` lies inside.
    pub fn contains(&self, ip: IpAddr) -> bool {
        Cidr::containing(ip, self.prefix).is_some_and(|c| c == *self)
    }

    /// Whether every address of `other` lies inside.
    pub fn covers(&self, other: &Cidr) -> bool {
        self.prefix <= other.prefix && self.contains(other.network)
    }

    /// Whether the two share an address.
    pub fn overlaps(&self, other: &Cidr) -> bool {
        self.covers(other) || other.covers(self)
    }

    /// Number of addresses, saturating at `u128::MAX` for `::/0`.
    pub fn size(&self) -> u128 {
        1u128
            .checked_shl(u32::from(self.family().bits() - self.prefix))
            .unwrap_or(u128::MAX)
    }

    /// The address `index` places after the first; `None` past the end.
    pub fn nth(&self, index: u128) -> Option<IpAddr> {
        if index >= self.size() {
            return None;
        }
        Some(match self.network {
            IpAddr::V4(a) => Ipv4Addr::from_bits(a.to_bits() + u32::try_from(index).ok()?).into(),
            IpAddr::V6(a) => Ipv6Addr::from_bits(a.to_bits() + index).into(),
        })
    }

    /// How many places after the first address `ip` lies; `None` outside.
    pub fn index_of(&self, ip: IpAddr) -> Option<u128> {
        if !self.contains(ip) {
            return None;
        }
        match (self.network, ip) {
            (IpAddr::V4(a), IpAddr::V4(b)) => Some(u128::from(b.to_bits() - a.to_bits())),
            (IpAddr::V6(a), IpAddr::V6(b)) => Some(b.to_bits() - a.to_bits()),
            _ => None,
        }
    }
}

impl FromStr for Cidr {
    type Err = CidrError;

    fn from_str(s: &str) -> Result<Cidr, CidrError> {
        // `IpNetwork` takes a bare address as a host prefix; so do we, as Calico does for nets.
        let net: IpNetwork = s.parse().map_err(|_| CidrError::Syntax(s.to_owned()))?;
        let canonical = Cidr {
            network: net.network(),
            prefix: net.prefix(),
        };
        if net.ip() == net.network() {
            Ok(canonical)
        } else {
            Err(CidrError::HostBits {
                given: s.to_owned(),
                canonical,
            })
        }
    }
}

impl fmt::Display for Cidr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.network, self.prefix)
    }
}

impl fmt::Debug for Cidr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Serialize for Cidr {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Cidr {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Cidr, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(d)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn c(s: &str) -> Cidr {
        s.parse().unwrap()
    }

    #[test]
    fn host_bits_are_refused_with_the_prefix_meant() {
        let e = "10.0.0.5/24".parse::<Cidr>().unwrap_err();
        assert_eq!(
            e.to_string(),
            "10.0.0.5/24 has host bits set: write 10.0.0.0/24"
        );
        assert!(matches!(
            "10.0.0.0/33".parse::<Cidr>(),
            Err(CidrError::Syntax(_))
        ));
    }

    #[test]
    fn order_puts_covering_prefixes_first() {
        let mut v = [c("fd00::/64"), c("10.0.0.0/26"), c("10.0.0.0/8")];
        v.sort();
        assert_eq!(v, [c("10.0.0.0/8"), c("10.0.0.0/26"), c("fd00::/64")]);
    }

    #[test]
    fn index_and_nth_are_inverse() {
        for (net, ip, i) in [
            ("10.0.0.64/26", "10.0.0.70", 6),
            ("fd00::/122", "fd00::3f", 63),
        ] {
            let (net, ip): (Cidr, IpAddr) = (c(net), ip.parse().unwrap());
            assert_eq!(net.index_of(ip), Some(i));
            assert_eq!(net.nth(i), Some(ip));
            assert_eq!(net.nth(64), None);
        }
        assert_eq!(c("::/0").size(), u128::MAX);
        assert_eq!(c("0.0.0.0/0").nth(1 << 32), None);
    }

    #[test]
    fn overlap_is_symmetric() {
        assert!(c("10.0.0.0/8").overlaps(&c("10.1.0.0/16")));
        assert!(c("10.1.0.0/16").overlaps(&c("10.0.0.0/8")));
        assert!(!c("10.1.0.0/16").overlaps(&c("10.2.0.0/16")));
        assert!(!c("0.0.0.0/0").overlaps(&c("::/0")));
    }
}
