//! A process that does not answer its socket: does it still carry packets?
//!
//! ```text
//!   no answer ──► Silence ──► packets passed ──────────────────► Carries: told to the operator
//!                    │   └──► none did in LONG, with one to take ─► Hangs: replaced
//!   answer ──► over ◄┘
//! ```
//!
//! So that there is one to take, a packet is put into the interface. It is for nobody: whoever reads it
//! finds no peer that owns its destination.

use std::io;
use std::net::{Ipv4Addr, UdpSocket};
use std::time::{Duration, Instant};

use model::marks;
use nix::sys::socket::{setsockopt, sockopt};

/// Without an answer and without a packet for this long, nothing more is expected: whole machines that stand
/// still stand still with us, and the process goes before workloads.
const LONG: Duration = Duration::from_secs(8);
/// The port of `discard` (RFC 863).
const DISCARD: u16 = 9;

/// Packets that passed an interface, counted by the kernel when the process reads or writes one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Passed {
    /// Taken from it and given to it by the process.
    carried: u64,
    /// That the process left lying until there was no room.
    refused: u64,
}

impl Passed {
    /// Those of the tunnel; `None`: it has no interface.
    pub(super) fn now() -> Option<Passed> {
        let text = std::fs::read_to_string("/proc/thread-self/net/dev").ok()?;
        Passed::parse(&text, marks::WIREGUARD)
    }

    fn parse(text: &str, interface: &str) -> Option<Passed> {
        let of = |line: &'_ str| {
            line.trim_start()
                .strip_prefix(interface)?
                .strip_prefix(':')
                .map(str::to_owned)
        };
        let line = text.lines().find_map(of)?;
        let numbers = line.split_whitespace().map(|n| n.parse::<u64>().ok());
        let numbers: Vec<u64> = numbers.collect::<Option<_>>()?;
        // Eight of what was received, then eight of what was sent, each: bytes, packets, errors, drops, …
        let (received, sent, refused) = (numbers.get(1)?, numbers.get(9)?, numbers.get(11)?);
        Some(Passed {
            carried: received.wrapping_add(*sent),
            refused: *refused,
        })
    }
}

/// What to think of a process that does not answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Nothing yet.
    Waiting,
    /// It still does what it is for.
    Carries,
    /// It does nothing any more.
    Hangs,
}

/// Since when there was no answer, and no packet.
#[derive(Debug)]
pub(super) struct Silence {
    began: Instant,
    /// When packets passed last, as far as is known, and how many had by then.
    still_since: Instant,
    passed: Option<Passed>,
    /// A packet was put there for the process to take.
    offered: bool,
    verdict: Verdict,
}

impl Silence {
    /// From now on. `offer` puts a packet into the interface, and says whether it could.
    pub(super) fn begin(
        now: Instant,
        passed: Option<Passed>,
        offer: impl FnOnce() -> bool,
    ) -> Silence {
        Silence {
            began: now,
            still_since: now,
            passed,
            offered: offer(),
            verdict: Verdict::Waiting,
        }
    }

    /// For how long.
    pub(super) fn lasts(&self, now: Instant) -> Duration {
        now.saturating_duration_since(self.began)
    }

    /// What is thought by now.
    pub(super) fn verdict(&self) -> Verdict {
        self.verdict
    }

    /// There was no answer again.
    pub(super) fn judge(
        &mut self,
        now: Instant,
        passed: Option<Passed>,
        offer: impl FnOnce() -> bool,
    ) {
        let both = self.passed.zip(passed);
        // Without its interface it has nothing to carry, whatever it did before.
        let still_since = passed.map_or(self.began, |_| self.still_since);
        if both.is_some_and(|(before, now)| before.carried != now.carried) {
            (self.still_since, self.passed) = (now, passed);
            // The one before may have been taken.
            self.offered = offer();
            self.verdict = Verdict::Carries;
        } else if now.saturating_duration_since(still_since) >= LONG {
            let overflows = both.is_some_and(|(before, now)| before.refused != now.refused);
            if passed.is_none() || self.offered || overflows {
                self.verdict = Verdict::Hangs;
            }
        }
    }
}

/// Puts a packet into the tunnel's interface, whatever addresses and routes there are.
pub(super) fn offer() -> bool {
    let send = || -> io::Result<usize> {
        let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
        setsockopt(&socket, sockopt::BindToDevice, &marks::WIREGUARD.into())?;
        socket.set_broadcast(true)?;
        socket.send_to(&[], (Ipv4Addr::BROADCAST, DISCARD))
    };
    send().is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "Inter-|   Receive                                                |  Transmit
 face |bytes    packets errs drop fifo frame compressed multicast|bytes    packets errs drop fifo colls carrier compressed
    lo: 5 1 0 0 0 0 0 0 5 1 0 0 0 0 0 0
rtd.wg2: 9 9 9 9 9 9 9 9 9 9 9 9 9 9 9 9
rtd.wg: 9120 70 0 0 0 0 0 0 1024 8 0 3 0 0 0 0
";

    #[test]
    fn packets_are_those_of_the_interface() {
        let passed = Passed::parse(TEXT, "rtd.wg").unwrap();
        assert_eq!((passed.carried, passed.refused), (78, 3));
        assert_eq!(Passed::parse(TEXT, "rtd.vx"), None);
        assert_eq!(Passed::parse("rtd.wg: 1 2 x", "rtd.wg"), None);
    }

    fn passed(carried: u64, refused: u64) -> Option<Passed> {
        Some(Passed { carried, refused })
    }

    /// What is thought at these seconds after the first time without an answer.
    fn verdicts(offers: bool, seen: &[(u64, Option<Passed>)]) -> Vec<Verdict> {
        let start = Instant::now();
        let mut silence = Silence::begin(start, passed(7, 0), || offers);
        let mut judge = |(seconds, passed): &(u64, Option<Passed>)| {
            let now = start + Duration::from_secs(*seconds);
            silence.judge(now, *passed, || offers);
            silence.verdict()
        };
        seen.iter().map(&mut judge).collect()
    }

    #[test]
    fn one_that_takes_no_packet_hangs_after_a_while() {
        use Verdict::{Carries, Hangs, Waiting};
        let same = passed(7, 0);
        assert_eq!(
            verdicts(true, &[(1, same), (7, same), (8, same)]),
            [Waiting, Waiting, Hangs]
        );
        // Nobody knows that there was one to take, until there is no room for more.
        assert_eq!(
            verdicts(false, &[(60, same), (61, passed(7, 1))]),
            [Waiting, Hangs]
        );
        // It goes on carrying, and then no longer.
        let (some, more) = (passed(8, 0), passed(9, 5));
        let seen = [(1, some), (8, some), (60, more), (67, more), (68, more)];
        assert_eq!(
            verdicts(true, &seen),
            [Carries, Carries, Carries, Carries, Hangs]
        );
        // Its interface is gone, and so is what it was for.
        assert_eq!(verdicts(false, &[(1, None), (8, None)]), [Waiting, Hangs]);
        assert_eq!(verdicts(true, &[(9, some), (10, None)]), [Carries, Hangs]);
    }
}
