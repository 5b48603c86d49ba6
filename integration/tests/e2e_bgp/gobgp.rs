//! GoBGP.

use anyhow::{Result, ensure};
use bgp::wire::open::AddPath;
use integration::lab;

use crate::rig::{Gobgp, Link, THEIR_AS, US, Us, shows};

#[test]
fn gobgp_and_we_exchange_routes_of_both_families() -> Result<()> {
    lab::run("gobgp-routes", |lab| {
        let link = Link::new(lab, "gobgp")?;
        let config = format!(
            "[global.config]
as = {THEIR_AS}
router-id = \"10.99.0.2\"
[[neighbors]]
[neighbors.config]
neighbor-address = \"{US}\"
peer-as = 64512
[neighbors.timers.config]
connect-retry = 1
hold-time = 9
keepalive-interval = 3
idle-hold-time-after-reset = 1
[[neighbors.afi-safis]]
[neighbors.afi-safis.config]
afi-safi-name = \"ipv4-unicast\"
[neighbors.afi-safis.add-paths.config]
receive = true
send-max = 4
[[neighbors.afi-safis]]
[neighbors.afi-safis.config]
afi-safi-name = \"ipv6-unicast\"
"
        );
        let gobgp = Gobgp::start(lab, &link.theirs, "gobgp", &config)?;
        gobgp.ask("global rib add 10.2.0.0/24 nexthop 10.99.0.2 community 65001:9")?;
        gobgp.ask("global rib -a ipv6 add fd02::/64 nexthop fd99::2")?;
        let mut us = Us::new(&link);
        us.them().session.add_path.v4 = AddPath {
            receive: true,
            send: true,
        };
        us.start()?;
        let agreed = us.is_up()?.agreed.map(|n| n.context);
        ensure!(agreed.is_some_and(|c| c.add_path_in.v4 && c.add_path_out.v4));
        us.installs("10.2.0.0/24", &["10.99.0.2"])?;
        us.installs("fd02::/64", &["fd99::2"])?;
        let route = us.learns("10.2.0.0/24")?;
        ensure!(
            route.attributes.communities == [65001 << 16 | 9],
            "{route:?}"
        );
        let wanted = ["10.1.0.0/24", "10.99.0.1", "64512"];
        shows("10.1.0.0/24 at GoBGP", || gobgp.ask("global rib"), &wanted)?;
        let wanted = ["fd01::/64", "fd99::1", "64512"];
        shows(
            "fd01::/64 at GoBGP",
            || gobgp.ask("global rib -a ipv6"),
            &wanted,
        )?;
        gobgp.ask("global rib del 10.2.0.0/24")?;
        us.installs("10.2.0.0/24", &[])?;
        Ok(())
    })
}
