//! BFD beside BGP: a path that is dead in one direction is left at once.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use bgp::speaker::{Bfd, Goodbye};
use integration::lab::{self, wait};

use crate::rig::{LIMIT, Link, Us, shows};
use crate::{bird, frr};

const FAST: Bfd = Bfd {
    transmit: Duration::from_millis(100),
    receive: Duration::from_millis(100),
    multiplier: 3,
};

/// Nothing that they send gets out any more, and our session ends by BFD and in time.
fn fails_over(with: &str, link: &Link, us: &mut Us) -> Result<()> {
    us.them().bfd = Some(FAST);
    us.start()?;
    us.installs("10.2.0.0/24", &["10.99.0.2"])?;
    wait("BFD to be up", LIMIT, || {
        let state = us.status()?.bfd;
        ensure!(state == Some(bgp::bfd::State::Up), "{state:?}");
        Ok(())
    })?;
    // Up is said before the intervals are fast: until then the neighbour may send once a second.
    std::thread::sleep(Duration::from_secs(2));
    link.theirs.output("nft", "add table inet cut")?;
    link.theirs.output(
        "nft",
        "add chain inet cut out { type filter hook output priority 0 ; policy drop ; }",
    )?;
    let cut = Instant::now();
    let took = loop {
        if us.table.get("10.2.0.0/24").is_empty() {
            break cut.elapsed();
        }
        ensure!(cut.elapsed() < LIMIT, "the route stays");
        std::thread::sleep(Duration::from_millis(1));
    };
    println!("BFD with {with}, 3 x 100 ms: the route is gone after {took:?}");
    ensure!(us.words()?.contains("BFD session down"), "{}", us.words()?);
    // Three of their intervals, and what a busy machine adds.
    ensure!(took < Duration::from_millis(400), "it took {took:?}");
    // And back.
    link.theirs.output("nft", "delete table inet cut")?;
    us.installs("10.2.0.0/24", &["10.99.0.2"])
}

/// Our restart ends our BFD packets, and that must not look like a dead path (RFC 5882): we say that we take the session
/// down. BIRD heeds it when its operator wrote `bfd graceful`.
fn restarts(us: &mut Us, asks: impl Fn() -> Result<String>) -> Result<()> {
    let has_ours = || shows("10.1.0.0/24 there", &asks, &["64512"]);
    us.them().bfd = Some(FAST);
    us.start()?;
    us.is_up()?;
    has_ours()?;
    wait("BFD to be up", LIMIT, || {
        ensure!(us.status()?.bfd == Some(bgp::bfd::State::Up));
        Ok(())
    })?;
    us.take().stop(Goodbye::Restart);
    // All the time, and longer than BFD would take.
    let until = Instant::now() + Duration::from_secs(1);
    while Instant::now() < until {
        let shown = asks()?;
        ensure!(shown.contains("64512"), "{shown}");
    }
    us.config.restarted = true;
    us.start()?;
    us.is_up()?;
    us.installs("10.2.0.0/24", &["10.99.0.2"])?;
    has_ours()?;
    Ok(())
}

#[test]
fn our_restart_is_no_dead_path_to_bird() -> Result<()> {
    lab::run("bird-bfd-restart", |lab| {
        let bfd = "protocol bfd { interface \"eth0\" { interval 100 ms; multiplier 3; }; }\n";
        let config = format!(
            "{bfd}{}",
            bird::config("bfd graceful; graceful restart on;", "")
        );
        let (_link, mut us, bird) = bird::start(lab, &config)?;
        restarts(&mut us, || bird.ask("show route all 10.1.0.0/24"))
    })
}

#[test]
fn our_restart_is_no_dead_path_to_frr() -> Result<()> {
    lab::run("frr-bfd-restart", |lab| {
        let (_link, mut us, frr) = frr::start(lab, "neighbor 10.99.0.1 bfd 3 100 100")?;
        restarts(&mut us, || frr.ask("show bgp ipv4 unicast 10.1.0.0/24"))
    })
}

#[test]
fn a_path_that_dies_is_left_with_bird() -> Result<()> {
    lab::run("bird-bfd", |lab| {
        let bfd = "protocol bfd { interface \"eth0\" { interval 100 ms; multiplier 3; }; }\n";
        let config = format!("{bfd}{}", bird::config("bfd on;", ""));
        let (link, mut us, _bird) = bird::start(lab, &config)?;
        fails_over("BIRD", &link, &mut us)
    })
}

#[test]
fn a_path_that_dies_is_left_with_frr() -> Result<()> {
    lab::run("frr-bfd", |lab| {
        let (link, mut us, _frr) = frr::start(lab, "neighbor 10.99.0.1 bfd 3 100 100")?;
        fails_over("FRR", &link, &mut us)
    })
}
