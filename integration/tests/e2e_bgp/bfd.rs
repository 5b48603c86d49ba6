//! BFD beside BGP: a path that is dead in one direction is left at once.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use bgp::speaker::Bfd;
use integration::lab::{self, wait};

use crate::rig::{LIMIT, Link, Us};
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
