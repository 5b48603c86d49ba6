//! What a large mesh costs the compiler, and the kernel that holds its tables.

#[expect(
    dead_code,
    clippy::unwrap_used,
    reason = "the bench of the compiler has more of it"
)]
#[path = "../../../../policy-ebpf/benches/engine/world.rs"]
mod world;

use std::fs;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use nix::time::{ClockId, clock_gettime};
use policy_ebpf::kernel::{Enforcer, Programs, Sizes};
use policy_ebpf::{Change, Engine, Role, Settings};
use serde::{Deserialize, Serialize};

use crate::bench::{Row, median_f64, spread};

/// The word on the command line that makes the bench this.
pub const WORD: &str = "--policy-compiler";
const RUNS: u32 = 200;

/// What a process of its own found.
#[derive(Serialize, Deserialize)]
struct Found {
    /// Milliseconds of CPU for each pod that comes or goes.
    known: Vec<f64>,
    novel: Vec<f64>,
    /// Seconds for all of it.
    start: f64,
    /// Bytes.
    resident: f64,
    /// Bytes.
    maps: f64,
}

pub(super) fn rows() -> Result<Vec<Row>> {
    let program = std::env::current_exe()?;
    let out = Command::new(program).arg(WORD).output()?;
    ensure!(
        out.status.success(),
        "{}",
        String::from_utf8_lossy(&out.stderr)
    );
    let mut found: Found = serde_json::from_slice(&out.stdout).context("what it printed")?;
    let size = format!(
        "{} workloads elsewhere, {} policies",
        world::REMOTE,
        world::POLICIES
    );
    let event = |what: &str, times: &mut Vec<f64>| {
        let shown = spread(times, |t| format!("{t:.3} ms"));
        let met = median_f64(times) <= 1.0;
        Row::goal(format!("{what}: CPU, {size}"), shown, "≤ 1 ms", met)
    };
    let mib = |bytes: f64| format!("{:.0} MiB", bytes / f64::from(1 << 20));
    Ok(vec![
        event(
            "a pod elsewhere, with labels that others have",
            &mut found.known,
        ),
        event(
            "a pod elsewhere, with labels that nobody had",
            &mut found.novel,
        ),
        Row::shown(
            format!("all compiled and written: CPU, {size}"),
            format!("{:.2} s", found.start),
        ),
        Row::shown(
            format!("memory of the compiler, {size}"),
            mib(found.resident),
        ),
        Row::shown(format!("memory of the maps, {size}"), mib(found.maps)),
    ])
}

/// Measures in this process, and prints what it found.
///
/// # Errors
/// When the kernel refuses the programs or a write.
pub fn run() -> Result<()> {
    let programs = Programs::load_for_tests(&Sizes::default())?;
    let mut enforcer = Enforcer::new(programs)?;
    let before = resident()?;
    let mut engine = Engine::new(Settings::default());
    let begun = cpu()?;
    let update = engine.apply(world::everything());
    enforcer.apply(&update)?;
    let start = cpu()? - begun;
    drop(update);
    let mut event = |change: Change| -> Result<f64> {
        let begun = cpu()?;
        let update = engine.apply([change]);
        enforcer.apply(&update)?;
        Ok((cpu()? - begun).as_secs_f64() * 1e3)
    };
    let (mut known, mut novel) = (Vec::new(), Vec::new());
    for n in 0..RUNS {
        let comes = world::pod(world::REMOTE + n, Role::Elsewhere);
        let goes = world::gone(&comes);
        known.push(event(comes)?);
        known.push(event(goes)?);
        let comes = world::novel(n);
        let goes = world::gone(&comes);
        novel.push(event(comes)?);
        novel.push(event(goes)?);
    }
    let found = Found {
        known,
        novel,
        start: start.as_secs_f64(),
        resident: resident()? - before,
        maps: maps()?,
    };
    println!("{}", serde_json::to_string(&found)?);
    Ok(())
}

/// CPU time of this process.
fn cpu() -> Result<Duration> {
    Ok(Duration::from(clock_gettime(
        ClockId::CLOCK_PROCESS_CPUTIME_ID,
    )?))
}

fn resident() -> Result<f64> {
    let status = fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|l| l.strip_prefix("VmRSS:"));
    let kib = line.and_then(|l| l.split_whitespace().next());
    Ok(kib.context("no VmRSS")?.parse::<f64>()? * 1024.0)
}

/// What the kernel says that the maps of this process take.
fn maps() -> Result<f64> {
    let mut sum = 0.0;
    for entry in fs::read_dir("/proc/self/fdinfo")? {
        let Ok(info) = fs::read_to_string(entry?.path()) else {
            continue;
        };
        let of = |name: &str| {
            info.lines()
                .find_map(|l| l.strip_prefix(name)?.trim().parse::<f64>().ok())
        };
        if let (Some(_), Some(bytes)) = (of("map_id:"), of("memlock:")) {
            sum += bytes;
        }
    }
    Ok(sum)
}
