//! Which packets of a batch go through the lanes together and which through ring.

use super::Job;
use super::engine::{Engine, Kind};

/// Packets that the vector engine takes at once.
#[cfg(target_arch = "x86_64")]
pub(super) const LANES: usize = 16;

/// Seals (or opens) every job with the cheaper engine for it.
pub(super) fn run<const SEAL: bool>(engine: Engine, jobs: &mut [Job<'_>]) {
    match engine.0 {
        Kind::Ring => by_ring::<SEAL>(jobs),
        #[cfg(target_arch = "x86_64")]
        Kind::Lanes(supported) => by_lanes::<SEAL>(supported, jobs),
    }
}

fn by_ring<const SEAL: bool>(jobs: &mut [Job<'_>]) {
    for job in jobs {
        one_by_ring::<SEAL>(job);
    }
}

fn one_by_ring<const SEAL: bool>(job: &mut Job<'_>) {
    if SEAL {
        job.seal_by_ring();
    } else {
        job.open_by_ring();
    }
}

/// Jobs that are planned together; also what `UDP_SEGMENT` takes in one call.
#[cfg(target_arch = "x86_64")]
const WINDOW: usize = 64;

#[cfg(target_arch = "x86_64")]
fn by_lanes<const SEAL: bool>(supported: super::lanes::Supported, jobs: &mut [Job<'_>]) {
    for jobs in jobs.chunks_mut(WINDOW) {
        let mut order: [u8; WINDOW] = IN_ORDER;
        let order = &mut order[..jobs.len()];
        // Longest first, so that neighbours are alike; a unit cut into segments is already so.
        if !jobs.is_sorted_by(|a, b| a.data.len() >= b.data.len()) {
            order.sort_unstable_by_key(|at| std::cmp::Reverse(jobs[usize::from(*at)].data.len()));
        }
        let mut rest = &*order;
        while let Some(longest) = rest.first() {
            // Lanes all take the time of the longest; ring takes the sum.
            let (group, _) = rest.split_at(usize::min(rest.len(), LANES));
            let wide = cost::lanes(&jobs[usize::from(*longest)]);
            let one_by_one: u64 = group
                .iter()
                .map(|at| cost::ring(&jobs[usize::from(*at)]))
                .sum();
            if wide < one_by_one {
                super::lanes::run::<SEAL>(supported, jobs, group);
                rest = &rest[group.len()..];
            } else {
                one_by_ring::<SEAL>(&mut jobs[usize::from(*longest)]);
                rest = &rest[1..];
            }
        }
    }
}

#[cfg(target_arch = "x86_64")]
const IN_ORDER: [u8; WINDOW] = {
    let mut order = [0; WINDOW];
    let mut at = 0;
    while at < WINDOW {
        order[at] = order[at - (at > 0) as usize] + (at > 0) as u8;
        at += 1;
    }
    order
};

/// Nanoseconds, from `benches/aead.rs` on a Zen 4; only their ratio matters.
#[cfg(target_arch = "x86_64")]
mod cost {
    use super::Job;

    pub(super) fn ring(job: &Job<'_>) -> u64 {
        140 + job.data.len() as u64 * 13 / 32
    }

    pub(super) fn lanes(longest: &Job<'_>) -> u64 {
        300 + longest.data.len() as u64 * 9 / 2
    }
}
