//! Which implementation seals and opens, and the check that it may.

use std::sync::OnceLock;

use super::{Job, Key, TAG_LEN, open_batch, seal_batch};

/// What an operator asks for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum EngineChoice {
    /// The fastest that this CPU has and that passes its self-test.
    #[default]
    Auto,
    /// Always ring.
    Ring,
}

/// An implementation that was found to work on this machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Engine(pub(super) Kind);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Ring,
    #[cfg(target_arch = "x86_64")]
    Lanes(super::lanes::Supported),
}

impl Engine {
    /// The engine for `choice`. The self-test runs once per process; when the vector engine differs
    /// from ring in one byte, a warning is logged and ring is used.
    pub fn select(choice: EngineChoice) -> Engine {
        static BEST: OnceLock<Engine> = OnceLock::new();
        match choice {
            EngineChoice::Ring => Engine::ring(),
            EngineChoice::Auto => *BEST.get_or_init(detect),
        }
    }

    /// ring, one packet at a time: right on every CPU.
    pub const fn ring() -> Engine {
        Engine(Kind::Ring)
    }

    /// A name for logs and status.
    pub fn name(self) -> &'static str {
        match self.0 {
            Kind::Ring => "ring",
            #[cfg(target_arch = "x86_64")]
            Kind::Lanes(_) => "avx512-ifma",
        }
    }
}

#[cfg(target_arch = "x86_64")]
fn detect() -> Engine {
    let Some(supported) = super::lanes::Supported::detect() else {
        return Engine::ring();
    };
    let lanes = Engine(Kind::Lanes(supported));
    if agrees_with_ring(lanes) {
        lanes
    } else {
        tracing::warn!("the AVX-512 cipher fails its self-test on this CPU; using ring instead");
        Engine::ring()
    }
}

#[cfg(not(target_arch = "x86_64"))]
fn detect() -> Engine {
    Engine::ring()
}

/// Seals and opens full groups of several lengths with `engine` and compares every byte with ring.
#[cfg_attr(not(target_arch = "x86_64"), allow(dead_code))]
fn agrees_with_ring(engine: Engine) -> bool {
    // One key per lane, so that a mix-up between lanes shows.
    let keys: [Key; 16] =
        std::array::from_fn(|lane| Key::new(std::array::from_fn(|i| fill(lane * 37 + i))));
    [0, 1, 15, 16, 63, 64, 65, 300, 1424].iter().all(|&len| {
        let clear: [Vec<u8>; 16] = std::array::from_fn(|lane| {
            // The shortest ends one block early: masks are exercised as well.
            let len = len - usize::min(len, lane % 3);
            (0..len)
                .map(|i| fill(lane + i))
                .chain([0; TAG_LEN])
                .collect()
        });
        let (mut ours, mut theirs) = (clear.clone(), clear.clone());
        let sealed = batch(&keys, &mut ours, |jobs| seal_batch(engine, jobs))
            && batch(&keys, &mut theirs, |jobs| seal_batch(Engine::ring(), jobs))
            && ours == theirs;
        let opened = sealed
            && batch(&keys, &mut ours, |jobs| open_batch(engine, jobs))
            && ours.iter().zip(&clear).all(|(o, c)| {
                let text = c.len() - TAG_LEN;
                o.get(..text) == c.get(..text)
            });
        // A forgery in one lane must be refused there and nowhere else.
        opened && refuses_one_forgery(engine, &keys, theirs)
    })
}

fn refuses_one_forgery(engine: Engine, keys: &[Key; 16], mut sealed: [Vec<u8>; 16]) -> bool {
    if let Some(byte) = sealed[5].last_mut() {
        *byte ^= 0x80;
    }
    let mut jobs = jobs(keys, &mut sealed);
    open_batch(engine, &mut jobs);
    jobs.iter()
        .enumerate()
        .all(|(lane, j)| j.is_done() == (lane != 5))
        && sealed[5].iter().all(|b| *b == 0)
}

fn jobs<'a>(keys: &'a [Key; 16], data: &'a mut [Vec<u8>; 16]) -> Vec<Job<'a>> {
    keys.iter()
        .zip(data)
        .zip(0u64..)
        .map(|((key, data), n)| Job::new(key, n << 33 | n, data))
        .collect()
}

fn batch(keys: &[Key; 16], data: &mut [Vec<u8>; 16], run: impl Fn(&mut [Job<'_>])) -> bool {
    let mut jobs = jobs(keys, data);
    run(&mut jobs);
    jobs.iter().all(Job::is_done)
}

fn fill(i: usize) -> u8 {
    i.wrapping_mul(167).wrapping_add(i >> 3).to_le_bytes()[0]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_self_test_passes_here_and_ring_can_be_forced() {
        assert!(agrees_with_ring(Engine::ring()));
        assert!(agrees_with_ring(Engine::select(EngineChoice::Auto)));
        assert_eq!(Engine::select(EngineChoice::Ring).name(), "ring");
    }

    #[test]
    #[cfg(target_arch = "x86_64")]
    fn a_cpu_with_the_features_gets_the_vector_engine() {
        let has = ["avx512f", "avx512bw", "avx512vl", "avx512ifma"];
        let has = has.len()
            == usize::from(is_x86_feature_detected!("avx512f"))
                + usize::from(is_x86_feature_detected!("avx512bw"))
                + usize::from(is_x86_feature_detected!("avx512vl"))
                + usize::from(is_x86_feature_detected!("avx512ifma"));
        let name = Engine::select(EngineChoice::Auto).name();
        assert_eq!(name == "avx512-ifma", has);
    }
}
