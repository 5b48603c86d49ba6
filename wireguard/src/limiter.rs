//! How many handshakes are worth an answer: is this node busy, and has this source had its share?

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::time::Duration;

use crate::time::Time;

/// Handshakes a second of one source once the node is busy, and how many may come at once.
const PER_SECOND: u32 = 20;
const BURST: u32 = 5;
const REFILL: Duration = Duration::from_millis(1000 / PER_SECOND as u64);
const FULL: Duration = Duration::from_millis(1000 / PER_SECOND as u64 * BURST as u64);
/// Sources that are remembered. An attacker has to receive cookies at each of them.
const SOURCES: usize = 8192;
/// How long a node stays busy after its last peak.
const CALM: Duration = Duration::from_secs(1);

/// Token buckets by source: IPv4 address, or /64 of IPv6, which one host usually has to itself.
#[derive(Debug, Default)]
pub(crate) struct Limiter {
    /// When each bucket is full again: all that a token bucket needs.
    full_at: HashMap<IpAddr, Time>,
}

impl Limiter {
    /// Takes a token of `source`; false when it has none left.
    pub(crate) fn admit(&mut self, source: IpAddr, now: Time) -> bool {
        let source = match source {
            IpAddr::V4(_) => source,
            IpAddr::V6(a) => Ipv6Addr::from_bits(a.to_bits() & (u128::MAX << 64)).into(),
        };
        if self.full_at.len() >= SOURCES && !self.full_at.contains_key(&source) {
            self.full_at.retain(|_, full| *full > now);
            if self.full_at.len() >= SOURCES {
                return false;
            }
        }
        let full = self.full_at.entry(source).or_insert(now);
        let next = Time::max(*full, now) + REFILL;
        let admitted = next.since(now) <= FULL;
        if admitted {
            *full = next;
        }
        admitted
    }
}

/// Counts handshake messages in windows of a second and says when they are too many.
#[derive(Debug)]
pub(crate) struct Load {
    threshold: u32,
    window: Time,
    count: u32,
    busy_until: Option<Time>,
}

impl Load {
    /// Busy above `threshold` handshake messages a second.
    pub(crate) fn new(threshold: u32) -> Load {
        Load {
            threshold,
            window: Time::ZERO,
            count: 0,
            busy_until: None,
        }
    }

    /// Counts one message and says whether the node is busy. `backlogged`: the driver's queue of
    /// handshake messages is filling up, which counts as busy whatever the rate.
    pub(crate) fn note(&mut self, now: Time, backlogged: bool) -> bool {
        if now.since(self.window) >= Duration::from_secs(1) {
            self.window = now;
            self.count = 0;
        }
        self.count = self.count.saturating_add(1);
        if backlogged || self.count > self.threshold {
            self.busy_until = Some(now + CALM);
        }
        self.is_busy(now)
    }

    pub(crate) fn is_busy(&self, now: Time) -> bool {
        self.busy_until.is_some_and(|until| now < until)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn t(ms: u64) -> Time {
        Time::from_nanos(ms * 1_000_000)
    }

    #[test]
    fn a_source_gets_its_burst_and_then_its_rate() {
        let mut limiter = Limiter::default();
        let source = "192.0.2.1".parse().unwrap();
        let at_once = (0..100).filter(|_| limiter.admit(source, t(1000))).count();
        assert_eq!(at_once, 5);
        let in_a_second = (1..=1000)
            .filter(|ms| limiter.admit(source, t(1000 + ms)))
            .count();
        assert_eq!(in_a_second, 20);
        assert!(limiter.admit("192.0.2.2".parse().unwrap(), t(2000)));
    }

    #[test]
    fn addresses_of_one_ipv6_network_share_a_bucket() {
        let mut limiter = Limiter::default();
        let admitted = (0..100u32)
            .filter(|n| limiter.admit(format!("2001:db8::{n:x}").parse().unwrap(), t(0)))
            .count();
        assert_eq!(admitted, 5);
        assert!(limiter.admit("2001:db8:0:1::1".parse().unwrap(), t(0)));
    }

    #[test]
    fn memory_is_bounded_and_comes_back() {
        let mut limiter = Limiter::default();
        for n in 0..20_000u32 {
            limiter.admit(std::net::Ipv4Addr::from_bits(n).into(), t(0));
        }
        assert_eq!(limiter.full_at.len(), SOURCES);
        assert!(limiter.admit("198.51.100.1".parse().unwrap(), t(300)));
        assert_eq!(limiter.full_at.len(), 1);
    }

    #[test]
    fn busy_starts_above_the_threshold_and_ends_after_a_calm_second() {
        let mut load = Load::new(3);
        assert!(!(0..3).any(|_| load.note(t(5000), false)));
        assert!(load.note(t(5001), false));
        assert!(load.is_busy(t(6000)));
        assert!(!load.is_busy(t(6001)));
        assert!(!load.note(t(7000), false));
        assert!(load.note(t(7001), true));
    }
}
