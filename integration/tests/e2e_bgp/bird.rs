//! BIRD 2: routes, refresh, restarts, limits, several paths, collisions.

use anyhow::{Result, ensure};
use bgp::speaker::{Goodbye, RouteQuery, View};
use bgp::wire::open::AddPath;
use integration::lab::{self, Lab, wait};
use model::Family;

use crate::rig::{Bird, LIMIT, Link, THEIR_AS, US, Us, cidr, shows};

/// A session with IPv4 and IPv6. `session` goes into it, `ipv4` into its IPv4 channel.
pub(crate) fn config(session: &str, ipv4: &str) -> String {
    format!(
        "protocol static s4 {{ ipv4; route 10.2.0.0/24 unreachable; route 10.2.1.0/24 unreachable; }}
         protocol static s6 {{ ipv6; route fd02::/64 unreachable; }}
         protocol bgp ours {{
           local 10.99.0.2 as {THEIR_AS};
           neighbor {US} as 64512;
           connect delay time 0;
           connect retry time 1;
           error wait time 1, 1;
           ipv4 {{ import all; export where source = RTS_STATIC; {ipv4} }};
           ipv6 {{ import all; export where source = RTS_STATIC; next hop address fd99::2; }};
           {session}
         }}
"
    )
}

pub(crate) fn start(lab: &Lab, config: &str) -> Result<(Link, Us, Bird)> {
    let link = Link::new(lab, "bird")?;
    let us = Us::new(&link);
    let bird = Bird::start(lab, &link.theirs, "bird", config)?;
    Ok((link, us, bird))
}

#[test]
fn bird_and_we_exchange_routes_of_both_families() -> Result<()> {
    lab::run("bird-routes", |lab| {
        let (_link, mut us, bird) = start(lab, &config("", ""))?;
        us.start()?;
        us.is_up()?;
        us.installs("10.2.0.0/24", &["10.99.0.2"])?;
        us.installs("fd02::/64", &["fd99::2"])?;
        bird.has(
            "10.1.0.0/24",
            &["BGP.next_hop: 10.99.0.1", "BGP.as_path: 64512"],
        )?;
        bird.has("fd01::/64", &["fd99::1", "BGP.as_path: 64512"])?;
        // Communities on the way there, and a withdrawal.
        us.announce(&[("10.1.0.0/24", &[64512 << 16 | 7])])?;
        bird.has("10.1.0.0/24", &["(64512,7)"])?;
        let gone = ["1 of 1 routes for 1 networks in table master6"];
        shows("the withdrawal", || bird.ask("show route count"), &gone)?;
        Ok(())
    })
}

#[test]
fn communities_of_bird_arrive() -> Result<()> {
    lab::run("bird-communities", |lab| {
        let export = "export filter { bgp_community.add((65001,9)); \
                      bgp_large_community.add((65001,1,2)); accept; };";
        let (_link, mut us, _bird) = start(lab, &config("", export))?;
        us.start()?;
        let route = us.learns("10.2.0.0/24")?;
        ensure!(
            route.attributes.communities == [65001 << 16 | 9],
            "{route:?}"
        );
        let large = route.attributes.large_communities.first();
        ensure!(large.map(|l| (l.global, l.local1, l.local2)) == Some((65001, 1, 2)));
        ensure!(route.attributes.as_path == [THEIR_AS], "{route:?}");
        Ok(())
    })
}

#[test]
fn both_sides_send_everything_again_when_asked() -> Result<()> {
    lab::run("bird-refresh", |lab| {
        let (_link, mut us, bird) = start(lab, &config("", ""))?;
        us.start()?;
        us.learns("10.2.0.0/24")?;
        bird.has("10.1.0.0/24", &["64512"])?;
        let before = us.is_up()?.traffic;
        ensure!(us.speaker().refresh("them", Family::V4)?);
        wait("BIRD to send again", LIMIT, || {
            let now = us.status()?.traffic.updates_in;
            ensure!(now > before.updates_in, "{now} UPDATEs");
            Ok(())
        })?;
        let before = us.status()?.traffic.messages_out;
        bird.ask("reload in ours")?;
        wait("us to send again", LIMIT, || {
            // The begin mark, the route and the end mark, for each family; KEEPALIVEs alone would take 12 s.
            let now = us.status()?.traffic.messages_out;
            ensure!(now >= before + 6, "{now} messages after {before}");
            Ok(())
        })?;
        bird.has("10.1.0.0/24", &["64512"])?;
        ensure!(us.status()?.flaps == 0);
        Ok(())
    })
}

#[test]
fn our_routes_stay_at_bird_while_we_restart() -> Result<()> {
    lab::run("bird-our-restart", |lab| {
        let (_link, mut us, bird) = start(lab, &config("graceful restart on;", ""))?;
        us.start()?;
        us.is_up()?;
        bird.has("10.1.0.0/24", &["64512"])?;
        bird.has("fd01::/64", &["64512"])?;
        us.take().stop(Goodbye::Restart);
        shows(
            "BIRD to notice",
            || bird.ask("show protocols ours"),
            &["Connect"],
        )
        .or_else(|_| {
            shows(
                "BIRD to notice",
                || bird.ask("show protocols ours"),
                &["Active"],
            )
        })?;
        for prefix in ["10.1.0.0/24", "fd01::/64"] {
            let kept = bird.ask(&format!("show route {prefix}"))?;
            ensure!(kept.contains(prefix), "{prefix} is gone: {kept}");
        }
        us.config.restarted = true;
        us.start()?;
        us.announce(&[("10.1.0.0/24", &[])])?;
        us.is_up()?;
        us.installs("10.2.0.0/24", &["10.99.0.2"])?;
        bird.has("10.1.0.0/24", &["64512"])?;
        // What we did not announce again is swept by the end of our routes.
        let swept = ["1 of 1 routes for 1 networks in table master6"];
        shows("the sweep", || bird.ask("show route count"), &swept)?;
        Ok(())
    })
}

#[test]
fn routes_of_bird_stay_while_it_restarts() -> Result<()> {
    lab::run("bird-its-restart", |lab| {
        let (link, mut us, mut bird) = start(lab, &config("graceful restart on;", ""))?;
        us.start()?;
        us.installs("10.2.0.0/24", &["10.99.0.2"])?;
        bird.process.kill()?;
        wait("us to notice", LIMIT, || {
            ensure!(us.status()?.flaps == 1);
            Ok(())
        })?;
        us.installs("10.2.0.0/24", &["10.99.0.2"])?;
        ensure!(us.learns("10.2.0.0/24")?.stale);
        drop(bird);
        let _bird = Bird::restart(
            lab,
            &link.theirs,
            "bird",
            &config("graceful restart on;", ""),
        )?;
        wait("the route to be fresh", LIMIT, || {
            ensure!(!us.table.get("10.2.0.0/24").is_empty(), "the route went");
            ensure!(!us.learns("10.2.0.0/24")?.stale, "it is stale");
            Ok(())
        })
    })
}

#[test]
fn more_prefixes_than_allowed_end_the_session() -> Result<()> {
    lab::run("bird-max-prefix", |lab| {
        let (_link, mut us, bird) = start(lab, &config("", ""))?;
        us.them().import.max_prefixes.v4 = Some(1);
        us.start()?;
        us.said("more prefixes than allowed")?;
        ensure!(us.status()?.held_back.is_some());
        let received = ["Received:"];
        shows(
            "BIRD to hear why",
            || bird.ask("show protocols all ours"),
            &received,
        )?;
        us.installs("10.2.0.0/24", &[])?;
        Ok(())
    })
}

#[test]
fn several_paths_of_a_prefix_arrive() -> Result<()> {
    lab::run("bird-add-path", |lab| {
        let more =
            "protocol static more4 { ipv4 { preference 150; }; route 10.2.0.0/24 blackhole; }\n";
        let config = format!("{}{more}", config("", "add paths on;"));
        let (_link, mut us, bird) = start(lab, &config)?;
        us.them().session.add_path.v4 = AddPath {
            receive: true,
            send: true,
        };
        us.start()?;
        let agreed = us.is_up()?.agreed.map(|n| n.context);
        ensure!(agreed.is_some_and(|c| c.add_path_in.v4 && c.add_path_out.v4 && !c.add_path_in.v6));
        wait("both paths", LIMIT, || {
            let query = RouteQuery {
                prefix: Some(cidr("10.2.0.0/24")),
                ..RouteQuery::new(View::Received("them".to_owned()))
            };
            let paths = us.speaker().routes(query)?.routes;
            ensure!(paths.len() == 2, "{paths:?}");
            ensure!(paths.iter().filter(|p| p.best).count() == 1, "{paths:?}");
            Ok(())
        })?;
        bird.has("10.1.0.0/24", &["BGP.as_path: 64512"])?;
        Ok(())
    })
}

/// Both sides connect at once, again and again: one session stays each time.
#[test]
fn connections_that_collide_leave_one_session() -> Result<()> {
    lab::run("bird-collision", |lab| {
        let (_link, mut us, bird) = start(lab, &config("", ""))?;
        us.start()?;
        for round in 0..5 {
            us.is_up()?;
            us.learns("10.2.0.0/24")?;
            bird.has("10.1.0.0/24", &["64512"])?;
            let flaps = us.status()?.flaps;
            ensure!(flaps == round, "round {round}: {flaps} sessions ended");
            us.speaker().reset("them", "again")?;
        }
        Ok(())
    })
}
