//! Nanoseconds a packet and bytes a second of both engines: `cargo bench -p wireguard --bench aead`.
//!
//! Engines alternate inside one round, so a machine that slows down slows both. Medians are printed.

use std::hint::black_box;
use std::time::Instant;

use wireguard::aead::{Engine, EngineChoice, Job, Key, TAG_LEN, open_batch, seal_batch};

const ROUNDS: usize = 41;

fn main() {
    let engines = [
        ("ring", Engine::ring()),
        ("auto", Engine::select(EngineChoice::Auto)),
    ];
    println!("engine {} beside ring", engines[1].1.name());
    println!(
        "{:>6} {:>8} {:>6} {:>10} {:>10} {:>7}",
        "op", "bytes", "batch", "engine", "ns/packet", "GB/s"
    );
    for len in [64, 512, 1420] {
        for batch in [1, 4, 8, 10, 16, 47, 64] {
            report("seal", len, batch, &engines, seal_batch);
            report("open", len, batch, &engines, open_batch);
        }
    }
}

fn report(
    op: &str,
    len: usize,
    batch: usize,
    engines: &[(&str, Engine)],
    run: fn(Engine, &mut [Job<'_>]),
) {
    let key = Key::new([7; 32]);
    let mut sealed = vec![0x5a; batch * (len + TAG_LEN)];
    let mut jobs: Vec<_> = jobs(&key, len, &mut sealed);
    seal_batch(Engine::ring(), &mut jobs);
    drop(jobs);

    let repeat = 400_000 / (batch * (len + 200)) + 1;
    let mut times = vec![Vec::new(); engines.len()];
    let mut copies = vec![sealed.clone(); repeat];
    for _ in 0..ROUNDS {
        for ((_, engine), times) in engines.iter().zip(&mut times) {
            // Opening consumes its input: renew it outside the measured part.
            for copy in &mut copies {
                copy.copy_from_slice(&sealed);
            }
            let mut work: Vec<Vec<Job<'_>>> = copies
                .iter_mut()
                .map(|copy| self::jobs(&key, len, copy))
                .collect();
            let start = Instant::now();
            for jobs in &mut work {
                run(*engine, black_box(jobs));
            }
            let nanos = start.elapsed().as_nanos() as f64;
            assert!(work.iter().flatten().all(Job::is_done));
            times.push(nanos / (repeat * batch) as f64);
        }
    }
    for ((name, _), times) in engines.iter().zip(&mut times) {
        times.sort_by(f64::total_cmp);
        let median = times[times.len() / 2];
        println!(
            "{op:>6} {len:>8} {batch:>6} {name:>10} {median:>10.0} {:>7.2}",
            len as f64 / median
        );
    }
}

fn jobs<'a>(key: &'a Key, len: usize, data: &'a mut [u8]) -> Vec<Job<'a>> {
    data.chunks_exact_mut(len + TAG_LEN)
        .zip(0..)
        .map(|(packet, counter)| Job::new(key, counter, packet))
        .collect()
}
