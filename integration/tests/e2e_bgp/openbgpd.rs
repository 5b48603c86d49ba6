//! OpenBGPD.

use anyhow::{Result, ensure};
use bgp::speaker::{Password, Ttl};
use bgp::wire::open::AddPath;
use integration::lab::{self, wait};

use crate::rig::{LIMIT, Link, Openbgpd, THEIR_AS, THEM, THEM6, US, US6, Us, shows};

#[test]
fn openbgpd_and_we_exchange_routes_with_password_ttl_security_and_paths() -> Result<()> {
    lab::run("openbgpd-routes", |lab| {
        let link = Link::new(lab, "openbgpd")?;
        let config = format!(
            "AS {THEIR_AS}
listen on {THEM}
network 10.2.0.0/24 set community 65001:9
network fd02::/64
neighbor {US} {{
  remote-as 64512
  holdtime 9
  announce IPv4 unicast
  announce IPv6 unicast
  announce add-path recv yes
  announce add-path send all
  tcp md5sig password \"between us\"
  ttl-security yes
}}
allow from any
allow to any
"
        );
        let openbgpd = Openbgpd::start(lab, &link.theirs, "openbgpd", &config)?;
        let mut us = Us::new(&link);
        let them = us.them();
        them.password = Some(Password::new(b"between us")?);
        them.ttl = Ttl::Security(1);
        them.session.add_path.v4 = AddPath {
            receive: true,
            send: true,
        };
        us.start()?;
        let agreed = us.is_up()?.agreed.map(|n| n.context);
        ensure!(agreed.is_some_and(|c| c.add_path_in.v4 && c.add_path_out.v4));
        us.installs("10.2.0.0/24", &["10.99.0.2"])?;
        // Over IPv4 it says ::1 as its own next hop for IPv6, which is nobody's: the route counts as withdrawn, and the
        // session goes on.
        wait("the route with a next hop of nobody's", LIMIT, || {
            let faults = us.status()?.traffic.faults;
            ensure!(faults > 0, "no fault was counted");
            Ok(())
        })?;
        us.installs("fd02::/64", &[])?;
        ensure!(us.status()?.flaps == 0, "{:?}", us.status()?);
        let route = us.learns("10.2.0.0/24")?;
        ensure!(
            route.attributes.communities == [65001 << 16 | 9],
            "{route:?}"
        );
        for (prefix, next_hop) in [("10.1.0.0/24", "10.99.0.1"), ("fd01::/64", "fd99::1")] {
            let ask = || openbgpd.ask(&format!("show rib detail {prefix}"));
            shows(
                &format!("{prefix} at OpenBGPD"),
                ask,
                &[prefix, next_hop, "64512"],
            )?;
        }
        openbgpd.ask("network delete 10.2.0.0/24")?;
        us.installs("10.2.0.0/24", &[])?;
        us.announce(&[("10.4.0.0/24", &[])])?;
        shows(
            "10.4.0.0/24 at OpenBGPD",
            || openbgpd.ask("show rib"),
            &["10.4.0.0/24"],
        )?;
        let rib = openbgpd.ask("show rib")?;
        ensure!(!rib.contains("10.1.0.0/24"), "{rib}");
        Ok(())
    })
}

#[test]
fn openbgpd_and_we_speak_over_ipv6() -> Result<()> {
    lab::run("openbgpd-ipv6", |lab| {
        let link = Link::new(lab, "openbgpd")?;
        let config = format!(
            "AS {THEIR_AS}
listen on {THEM6}
network fd02::/64 set large-community 65001:2:3
neighbor {US6} {{
  remote-as 64512
  announce IPv6 unicast
}}
allow from any
allow to any
"
        );
        let openbgpd = Openbgpd::start(lab, &link.theirs, "openbgpd", &config)?;
        let mut us = Us::new(&link);
        us.them().address = THEM6.parse()?;
        us.start()?;
        us.is_up()?;
        us.installs("fd02::/64", &["fd99::2"])?;
        let large = us.learns("fd02::/64")?.attributes.large_communities;
        ensure!(large.len() == 1, "{large:?}");
        shows(
            "fd01::/64 at OpenBGPD",
            || openbgpd.ask("show rib detail fd01::/64"),
            &["fd01::/64", "fd99::1", "64512"],
        )?;
        Ok(())
    })
}
