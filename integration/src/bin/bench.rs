//! `make bench`: measures with real daemons; prints the page, and writes it with `--write FILE`.

use anyhow::{Context, Result, bail};
use integration::bench::{
    Section, addresses, attach, bgp, overlay, page, policy, restart, scale, wireguard,
};

/// As the daemon has it, whose parts are measured here.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// One of the benches and its word on the command line.
type Bench = (&'static str, fn() -> Result<Section>);

const ALL: [Bench; 10] = [
    ("ipam", addresses::run),
    ("cni", attach::run),
    ("vxlan", overlay::run),
    ("scale", scale::run),
    ("wireguard", wireguard::run),
    ("peers", wireguard::peers::run),
    ("restart", restart::run),
    ("bgp", bgp::table::run),
    ("fib", bgp::kernel::run),
    ("policy", policy::run),
];

fn main() -> Result<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    if let Some((bgp::speaker::WORD, rest)) = args.split_first().map(|(w, r)| (w.as_str(), r)) {
        return bgp::speaker::run(rest);
    }
    if args == [policy::compiler::WORD] {
        return policy::compiler::run();
    }
    let (mut file, mut only) = (None, Vec::new());
    let mut rest = args.iter();
    while let Some(arg) = rest.next() {
        match arg.as_str() {
            "--write" => file = Some(rest.next().context("--write needs a file")?),
            name if ALL.iter().any(|(known, _)| *known == name) => only.push(name),
            _ => bail!(
                "usage: bench [--write FILE] [ipam] [cni] [vxlan] [scale] [wireguard] [peers] [restart] [bgp] [fib] [policy]"
            ),
        }
    }
    let mut sections = Vec::new();
    for (name, run) in ALL {
        if only.is_empty() || only.contains(&name) {
            eprintln!("measuring: {name}");
            sections.push(run().with_context(|| format!("bench {name}"))?);
        }
    }
    let page = page(&machine(), &sections);
    println!("{page}");
    if let Some(file) = file {
        std::fs::write(file, page).with_context(|| format!("write {file}"))?;
    }
    Ok(())
}

/// What the numbers were taken on.
fn machine() -> String {
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let cores = std::thread::available_parallelism().map_or(0, std::num::NonZero::get);
    let cpu = read("/proc/cpuinfo");
    let cpu = cpu
        .lines()
        .find_map(|l| l.strip_prefix("model name")?.split_once(':'));
    format!(
        "Taken on {cores} cores ({}), Linux {}.",
        cpu.map_or("unknown", |(_, name)| name.trim()),
        read("/proc/sys/kernel/osrelease").trim()
    )
}
