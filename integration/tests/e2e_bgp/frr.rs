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
