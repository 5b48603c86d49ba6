//! The functions in this process and the program in the kernel, asked the same.

use nix::time::{ClockId, clock_gettime};
use policy_common::classify::Trail;
use policy_common::connection::Connection;
use policy_common::event::Event;
use policy_common::packet::{Bytes, HEAD, forward};
use policy_common::reason::Reason;
use policy_common::verdict::GATEWAY_MAC;
use policy_ebpf::kernel::{Answer, Programs, Sizes};
use policy_ebpf::memory::Memory;
use std::sync::{LazyLock, Mutex, MutexGuard, PoisonError};

use crate::tables::{clear_and_put, test, write};
use crate::world::{Functions, Judge, SECOND, Sent, Slice, Went};

/// Both, and what the kernel's tables have.
pub struct Both {
    functions: Functions,
    programs: MutexGuard<'static, Programs>,
    drops: Vec<u64>,
    /// Frames between two looks at all connections.
    pub every: usize,
    frames: usize,
    told: usize,
    /// Seconds that passed.
    ahead: u32,
}

impl Judge for Both {
    fn new() -> Both {
        let mut both = Both {
            functions: Functions::new(),
            programs: programs(),
            drops: Vec::new(),
            every: 1,
            frames: 0,
            told: 0,
            ahead: 0,
        };
        both.reset();
        both.write();
        both
    }

    fn judge(&mut self, sent: &Sent) -> Result<Went, Reason> {
        self.functions.memory.now = now() + u64::from(self.ahead) * SECOND;
        let before = self.functions.memory.events.borrow().len();
        let wanted = self.functions.judge(sent);
        if !is_runnable(&sent.bytes) {
            let mut events = self.functions.memory.events.borrow_mut();
            events.truncate(before);
            return wanted;
        }
        let test = test(sent, self.ahead, 1);
        let ran = self.programs.run(&test).expect("a run");
        let found = match (ran.answer, wanted) {
            (Answer::Dropped, _) => Err(self.reason()),
            (Answer::Routed, _) => Ok(Went::Routed),
            // The kernel does not say where to; it shows in the address that the frame has now.
            (Answer::Straight, Ok(Went::Straight(to))) => {
                let mac = self.memory().endpoints[&to].mac;
                assert_eq!(ran.frame, one_hop_further(&sent.bytes, mac), "{sent:?}");
                Ok(Went::Straight(to))
            }
            (Answer::Straight, _) => panic!("straight, and not {wanted:?}: {sent:?}"),
        };
        assert_eq!(found, wanted, "kernel and functions: {sent:?}");
        self.frames += 1;
        if self.frames.is_multiple_of(self.every) {
            self.compare();
        }
        found
    }

    fn change(&mut self, change: impl FnOnce(&mut Memory)) {
        self.functions.change(change);
        self.write();
    }

    fn pass(&mut self, seconds: u64) {
        self.ahead += u32::try_from(seconds).expect("a short while");
    }

    fn memory(&self) -> &Memory {
        self.functions.memory()
    }
}

/// Loaded once in a process: a kernel that is emulated takes its time to verify them.
fn programs() -> MutexGuard<'static, Programs> {
    static PROGRAMS: LazyLock<Mutex<Programs>> = LazyLock::new(|| {
        let sizes = Sizes {
            endpoints: 64,
            prefixes: 4096,
            rows: 4096,
            connections: 1 << 16,
        };
        let programs = Programs::load_for_tests(&sizes);
        Mutex::new(programs.expect("programs that the kernel takes"))
    });
    // One that failed leaves nothing that the next does not reset.
    PROGRAMS.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Whether the kernel runs a program on it in a test: not without the header that the frame says it has.
fn is_runnable(frame: &[u8]) -> bool {
    let enough = match frame.get(12..14) {
        Some([0x08, 0x00]) => 14 + 20,
        Some([0x86, 0xdd]) => 14 + 40,
        _ => 15,
    };
    frame.len() >= enough
}

fn one_hop_further(frame: &[u8], to: [u8; 6]) -> Vec<u8> {
    let head = Slice(frame).load(0).expect("a header of IP");
    let head = forward(head, GATEWAY_MAC, to).expect("a hop");
    [&head, &frame[HEAD..]].concat()
}

fn now() -> u64 {
    let time = clock_gettime(ClockId::CLOCK_MONOTONIC).expect("a clock");
    u64::try_from(time.tv_sec()).expect("after boot") * SECOND
        + u64::try_from(time.tv_nsec()).expect("a fraction")
}

impl Both {
    /// Forgets what another test left.
    fn reset(&mut self) {
        let maps = &mut self.programs.maps;
        clear_and_put(&maps.connections, std::iter::empty());
        clear_and_put(&maps.fragments, std::iter::empty());
        for key in maps.counted().expect("counters") {
            maps.forget(key).expect("a removal");
        }
        while maps.next_event().is_some() {}
        let drops = Reason::ALL.map(|reason| maps.drops(reason).expect("a counter"));
        self.drops = drops.to_vec();
    }

    /// What was dropped since the last look has one reason.
    fn reason(&mut self) -> Reason {
        let mut reasons = Vec::new();
        for (reason, before) in Reason::ALL.into_iter().zip(&mut self.drops) {
            let after = self.programs.maps.drops(reason).expect("a counter");
            if after != *before {
                assert_eq!(after, *before + 1, "{reason:?}");
                reasons.push(reason);
                *before = after;
            }
        }
        assert_eq!(reasons.len(), 1, "{reasons:?}");
        reasons[0]
    }

    /// The same connections, counters and events.
    pub fn compare(&mut self) {
        let mine = self.functions.memory.connections.borrow();
        let entries = self.programs.maps.connections.entries();
        let theirs = entries.expect("connections");
        assert_eq!(
            mine.len(),
            theirs.len(),
            "connections: {mine:?} and {theirs:?}"
        );
        for (key, connection) in theirs {
            let own = mine
                .get(&key)
                .unwrap_or_else(|| panic!("{key:?} is in the kernel only"));
            assert_eq!(timeless(own), timeless(&connection), "{key:?}");
        }
        for (key, counter) in self.functions.memory.counters.borrow().iter() {
            let theirs = self.programs.maps.counter(*key).expect("a counter");
            assert_eq!(theirs, *counter, "{key:?}");
        }
        let steps = |trail: &Trail| trail.steps[..trail.length as usize].to_vec();
        for (key, trail) in self.functions.memory.trails.borrow().iter() {
            let theirs = self.programs.maps.trail(*key).expect("a trail");
            assert_eq!(theirs.as_ref().map(steps), Some(steps(trail)), "{key:?}");
        }
        drop(mine);
        let mine = self.functions.memory.events.borrow();
        let new = mine.iter().skip(self.told).copied();
        let wanted: Vec<Event> = new.map(|e| Event { at: 0, ..e }).collect();
        self.told = mine.len();
        let maps = &mut self.programs.maps;
        let told = std::iter::from_fn(|| maps.next_event());
        let told: Vec<Event> = told.map(|e| Event { at: 0, ..e }).collect();
        for (told, wanted) in told.iter().zip(&wanted) {
            assert_eq!(told, wanted);
        }
        assert_eq!(told.len(), wanted.len());
    }

    /// Everything that is in memory into the maps.
    fn write(&self) {
        write(&self.programs, &self.functions.memory);
    }
}

/// What has to be the same of a connection, whenever it was.
fn timeless(connection: &Connection) -> impl PartialEq + std::fmt::Debug + use<> {
    let [first, second] = &connection.sides;
    let side =
        |s: &policy_common::connection::Side| (s.packets.get(), s.bytes.get(), s.flags.get());
    (
        connection.judged.get(),
        connection.decided(),
        connection.flags.get(),
        connection.other_end.get(),
        connection.icmp,
        (connection.first_packets, connection.first_bytes),
        side(first),
        side(second),
    )
}
