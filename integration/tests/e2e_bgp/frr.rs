//! FRR.

use anyhow::{Result, ensure};
use bgp::speaker::Goodbye;
use integration::lab::{self, Lab};

use crate::rig::{Frr, Link, THEIR_AS, Us, shows};

/// A session with IPv4 and IPv6, and `more` about the neighbour.
pub(crate) fn start(lab: &Lab, more: &str) -> Result<(Link, Us, Frr)> {
    let link = Link::new(lab, "frr")?;
    let us = Us::new(&link);
    let config = format!(
        "router bgp {THEIR_AS}
 bgp router-id 10.99.0.2
 no bgp ebgp-requires-policy
 no bgp network import-check
 bgp graceful-restart
 neighbor 10.99.0.1 remote-as 64512
 neighbor 10.99.0.1 timers 3 9
 neighbor 10.99.0.1 timers connect 1
 {more}
 address-family ipv4 unicast
  network 10.2.0.0/24
  network 10.2.1.0/24
 exit-address-family
 address-family ipv6 unicast
  neighbor 10.99.0.1 activate
  network fd02::/64
 exit-address-family
"
    );
    let frr = Frr::start(lab, &link.theirs, "frr", &config)?;
    Ok((link, us, frr))
}

#[test]
fn frr_and_we_exchange_routes_of_both_families() -> Result<()> {
    lab::run("frr-routes", |lab| {
        let (_link, mut us, frr) = start(lab, "")?;
        us.start()?;
        us.is_up()?;
        us.installs("10.2.0.0/24", &["10.99.0.2"])?;
        us.learns("fd02::/64")?;
        frr.has("10.1.0.0/24", &["64512", "10.99.0.1"])?;
        frr.has("fd01::/64", &["64512", "fd99::1"])?;
        us.announce(&[("10.1.0.0/24", &[64512 << 16 | 7])])?;
        frr.has("10.1.0.0/24", &["Community: 64512:7"])?;
        shows(
            "the withdrawal",
            || frr.ask("show bgp ipv6 unicast fd01::/64"),
            &["Network not in table"],
        )?;
        Ok(())
    })
}

/// Neither side knows an address of the other: both find it by router advertisements, and IPv4 prefixes have IPv6 next
/// hops.
#[test]
fn an_unnumbered_session_with_frr_carries_both_families() -> Result<()> {
    lab::run("frr-unnumbered", |lab| {
        let link = Link::bare(lab, "frr")?;
        let config = format!(
            "router bgp {THEIR_AS}
 bgp router-id 10.99.0.2
 no bgp ebgp-requires-policy
 no bgp network import-check
 neighbor eth0 interface remote-as external
 neighbor eth0 timers 3 9
 address-family ipv4 unicast
  network 10.2.0.0/24
 exit-address-family
 address-family ipv6 unicast
  neighbor eth0 activate
  network fd02::/64
 exit-address-family
"
        );
        let frr = Frr::start(lab, &link.theirs, "frr", &config)?;
        let mut us = Us::new(&link);
        let peer = us.them();
        peer.address = "::".parse()?;
        peer.interface = Some("eth0".to_owned());
        peer.session.peer_as = None;
        peer.session.extended_next_hop = true;
        us.start()?;
        let agreed = us.is_up()?.agreed.map(|n| n.context);
        ensure!(agreed.is_some_and(|c| c.extended_next_hop));
        for prefix in ["10.2.0.0/24", "fd02::/64"] {
            us.learns(prefix)?;
            let ways = us.table.get(prefix);
            let link_local = ways.first().is_some_and(|v| {
                v.gateway.to_string().starts_with("fe80::")
                    && v.interface.as_deref() == Some("eth0")
            });
            ensure!(link_local, "{prefix}: {ways:?}");
        }
        frr.has("10.1.0.0/24", &["64512", "fe80::"])?;
        frr.has("fd01::/64", &["64512", "fe80::"])?;
        Ok(())
    })
}

#[test]
fn our_routes_stay_at_frr_while_we_restart() -> Result<()> {
    lab::run("frr-restart", |lab| {
        let (_link, mut us, frr) = start(lab, "")?;
        us.start()?;
        us.is_up()?;
        frr.has("10.1.0.0/24", &["64512"])?;
        us.take().stop(Goodbye::Restart);
        frr.has("10.1.0.0/24", &["stale"])?;
        us.config.restarted = true;
        us.start()?;
        us.is_up()?;
        let fresh = frr.has("10.1.0.0/24", &["64512", "valid"])?;
        ensure!(fresh.contains("best"), "{fresh}");
        us.installs("10.2.0.0/24", &["10.99.0.2"])?;
        Ok(())
    })
}

#[test]
fn a_shutdown_of_either_side_says_why() -> Result<()> {
    lab::run("frr-shutdown", |lab| {
        let (_link, mut us, frr) = start(lab, "")?;
        us.start()?;
        us.is_up()?;
        us.them().shutdown = Some("rack 7 moves".to_owned());
        us.configure()?;
        let neighbour = || frr.ask("show bgp neighbors 10.99.0.1");
        shows("FRR to hear of the end", neighbour, &["Last reset"])?;
        us.them().shutdown = None;
        us.configure()?;
        us.is_up()?;
        let down =
            "configure terminal\nrouter bgp 65001\nneighbor 10.99.0.1 shutdown message ToR goes";
        frr.ask(down)?;
        us.said("ToR goes")
    })
}
