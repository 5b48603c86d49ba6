//! The same neighbours say the same to us and to BIRD, at random: both choose the same path of every prefix.
//!
//! ```text
//!  feeder 0, 1: AS 65001   2: AS 65002   3, 4: our AS     each with a session to us, and one to BIRD
//! ```

mod feeder;

use std::collections::BTreeMap;

use anyhow::{Context, Result, ensure};
use bgp::fsm::SessionConfig;
use bgp::speaker::{Peer, RouteQuery, View};
use bgp::{Attributes, attributes::Origin};
use integration::lab::{self, Lab, Netns, wait};

use crate::rig::{Bird, LIMIT, Link, OUR_AS, THEM, US, Us, cidr};
use feeder::{FEEDERS, Feeder};

const PREFIXES: u8 = 120;
const ROUNDS: u32 = 4;

/// Numbers that are the same in every run (xorshift).
struct Dice(u64);

impl Dice {
    fn below(&mut self, n: u32) -> u32 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        u32::try_from((self.0 >> 33) % u64::from(n)).unwrap_or(0)
    }

    fn one_in(&mut self, n: u32) -> bool {
        self.below(n) == 0
    }

    /// Few values each, so that many paths tie at each step.
    fn attributes(&mut self, feeder: &Feeder, med: Med) -> Attributes {
        let external = feeder.asn != OUR_AS;
        let first = match med {
            Med::Everywhere => external.then_some(feeder.asn),
            Med::WithinAs => Some(feeder.neighbour),
        };
        let more = (0..self.below(3)).map(|_| 65001 + self.below(3));
        let mut as_path: Vec<u32> = more.collect();
        as_path.splice(0..0, first);
        let origins = [Origin::Igp, Origin::Igp, Origin::Egp, Origin::Incomplete];
        let reflected = !external && self.one_in(2);
        Attributes {
            as_path,
            origin: origins[self.below(4) as usize],
            med: (!self.one_in(3)).then(|| self.below(3) * 10),
            // One of the same neighbour is worth more, mostly it is as usual.
            local_pref: (!external).then(|| if self.one_in(5) { 110 } else { 100 }),
            originator: reflected.then(|| [10, 7, 0, u8::try_from(self.below(3)).unwrap()].into()),
            clusters: match reflected {
                true => (0..=self.below(2)).map(|n| 0x0a08_0001 + n).collect(),
                false => Vec::new(),
            },
            ..Attributes::default()
        }
    }
}

/// Among which paths MED is compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Med {
    /// All.
    Everywhere,
    /// Those with the same first AS. BIRD 2.0.12 loses its way when a path of a neighbour gets another one, so each
    /// feeder keeps to one.
    WithinAs,
}

/// Prefix to the feeder whose path is used.
type Choice = BTreeMap<String, String>;

fn ours(us: &Us) -> Result<Choice> {
    let query = RouteQuery {
        limit: usize::MAX,
        ..RouteQuery::new(View::Best)
    };
    let best = us.speaker().routes(query)?.routes.into_iter();
    let learnt = best.filter_map(|r| Some((r.prefix.to_string(), r.from?)));
    Ok(learnt.collect())
}

/// Lines such as `10.5.0.0/24 unicast [f1 12:00:00.000] * (100) [AS65001i]`.
fn birds(bird: &Bird) -> Result<Choice> {
    let text = bird.ask("show route primary")?;
    let choice = |line: &str| {
        let prefix = line.split_whitespace().next()?;
        let (_, rest) = line.split_once('[')?;
        let feeder = rest.split_whitespace().next()?;
        Some((prefix.to_owned(), feeder.to_owned()))
    };
    let routes = text.lines().filter(|l| l.starts_with("10."));
    Ok(routes.filter_map(choice).collect())
}

/// What came last from a feeder is there, so all that it said before is.
fn has_heard(us: &Us, bird: &Bird, feeder: &Feeder, round: u32) -> Result<()> {
    let marker = feeder.marker();
    wait(&format!("{marker} of round {round}"), LIMIT, || {
        let query = RouteQuery {
            prefix: Some(cidr(&marker)),
            ..RouteQuery::new(View::Best)
        };
        let heard = us.speaker().routes(query)?.routes;
        let med = heard.first().and_then(|r| r.attributes.med);
        ensure!(med == Some(round), "{heard:?}");
        let shown = bird.ask(&format!("show route all {marker}"))?;
        ensure!(shown.contains(&format!("BGP.med: {round}\n")), "{shown}");
        Ok(())
    })
}

/// We, BIRD and a host of all feeders on one segment.
fn segment(lab: &Lab) -> Result<(Link, Netns)> {
    let (ours, theirs) = (lab.netns("us")?, lab.netns("bird")?);
    let feeders = lab.netns("feeders")?;
    feeders.ip("link add br0 type bridge\nlink set br0 up")?;
    for (ns, port, ip) in [(&ours, "us", US), (&theirs, "bird", THEM)] {
        lab.veth((ns, "eth0"), (&feeders, port), 1500)?;
        feeders.ip(&format!("link set {port} master br0"))?;
        ns.ip(&format!("addr add {ip}/24 dev eth0"))?;
    }
    Ok((Link { ours, theirs }, feeders))
}

fn compare(seed: u64, med: Med) -> Result<()> {
    lab::run("bird-decisions", |lab| {
        let (link, feeders) = segment(lab)?;
        let mut us = Us::new(&link);
        us.config.peers.clear();
        us.config.decision.always_compare_med = med == Med::Everywhere;
        let how = match med {
            Med::Everywhere => "med metric on",
            Med::WithinAs => "deterministic med on",
        };
        let mut config = String::new();
        for feeder in FEEDERS {
            let ip = feeder.address();
            feeders.ip(&format!("addr add {ip}/24 dev br0"))?;
            let mut session = SessionConfig::new(OUR_AS, US, Some(feeder.asn));
            session.passive = true;
            let peer = Peer::new(session, ip.into());
            us.config.peers.insert(feeder.name(), peer);
            config += &format!(
                "protocol bgp {} {{ local {THEM} as {OUR_AS}; neighbor {ip} as {}; passive on; direct;\n\
                 {how}; ipv4 {{ import all; export none; }}; }}\n",
                feeder.name(),
                feeder.asn
            );
        }
        let bird = Bird::start(lab, &link.theirs, "bird", &config)?;
        us.start()?;
        let mut sessions = Vec::new();
        for feeder in FEEDERS {
            sessions.push((feeder, feeder.connect(&feeders, US)?));
            sessions.push((feeder, feeder.connect(&feeders, THEM)?));
        }
        let mut dice = Dice(seed);
        for round in 1..=ROUNDS {
            for pair in sessions.chunks_mut(2) {
                let [(feeder, to_us), (_, to_bird)] = pair else {
                    continue;
                };
                for n in 0..PREFIXES {
                    // Most have several paths; some change, some go, some stay.
                    let prefix = [10, 5, n, 0];
                    let said = match dice.below(6) {
                        0 => None,
                        1 if round > 1 => continue,
                        _ => Some(dice.attributes(feeder, med)),
                    };
                    for session in [&mut *to_us, &mut *to_bird] {
                        session.say(prefix, said.as_ref())?;
                    }
                }
                let marker = Attributes {
                    med: Some(round),
                    as_path: Vec::from_iter((feeder.asn != OUR_AS).then_some(feeder.asn)),
                    local_pref: Some(100).filter(|_| feeder.asn == OUR_AS),
                    ..Attributes::default()
                };
                for session in [to_us, to_bird] {
                    session.say([10, 6, feeder.n, 0], Some(&marker))?;
                }
            }
            for feeder in FEEDERS {
                has_heard(&us, &bird, &feeder, round)?;
            }
            let (ours, birds) = (ours(&us)?, birds(&bird)?);
            ensure!(ours.len() > usize::from(PREFIXES) / 2, "{ours:?}");
            let differs = ours.iter().find(|(p, f)| birds.get(*p) != Some(*f));
            if let Some((prefix, ours)) = differs {
                let all = bird.ask(&format!("show route all {prefix}"))?;
                anyhow::bail!("round {round}, {prefix}: ours is {ours}, BIRD has {all}");
            }
            ensure!(ours.len() == birds.len(), "{ours:?} {birds:?}");
            let by: Vec<_> = FEEDERS
                .iter()
                .map(|f| ours.values().filter(|o| **o == f.name()).count())
                .collect();
            println!("{med:?}, seed {seed:x}, round {round}: best paths by feeder {by:?}");
            // Each is the best of some, or the test says little.
            by.iter()
                .all(|n| *n > 1)
                .then_some(())
                .context("one-sided")?;
        }
        Ok(())
    })
}

#[test]
fn bird_and_we_choose_the_same_paths() -> Result<()> {
    for seed in [0x9e37_79b9_7f4a_7c15, 0x3c6e_f372_fe94_f82b] {
        compare(seed, Med::Everywhere)?;
        compare(seed, Med::WithinAs)?;
    }
    Ok(())
}
