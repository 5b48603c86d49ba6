//! One lab: a directory, its namespaces, its processes, and their end.

pub mod binaries;
mod bpffs;
pub mod capture;
pub mod cni;
pub mod containerd;
pub mod dice;
pub mod etcd;
#[cfg(feature = "bench")]
pub mod flood;
pub mod http;
pub mod mesh;
pub mod netns;
pub mod node;
pub mod podman;
pub mod probe;
pub mod process;
pub mod supervise;
pub mod sweep;
pub mod switches;
mod sys;

use std::cell::Cell;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail};

pub use capture::Capture;
pub use cni::{Cni, Workload};
pub use containerd::Containerd;
pub use dice::Dice;
pub use etcd::Etcd;
pub use mesh::{Families, Mesh, MeshSpec};
pub use netns::Netns;
pub use node::Node;
pub use podman::Podman;
pub use process::Process;

/// Every namespace and directory of a lab starts with this.
pub const PREFIX: &str = "rtlab";

/// How often a condition is looked at.
const POLL: Duration = Duration::from_millis(25);
/// Lines of each log shown after a failure.
const TAIL: usize = 40;

/// A lab. Make one with [`run`]; everything in it ends with it.
#[derive(Debug)]
pub struct Lab {
    tag: String,
    dir: PathBuf,
    namespaces: Cell<u32>,
}

/// Runs a test body in a new lab; on failure shows the tail of every log.
///
/// # Errors
/// What the body returned, or why there is no lab.
pub fn run(name: &str, body: impl FnOnce(&Lab) -> Result<()>) -> Result<()> {
    let lab = Lab::new()?;
    let outcome = body(&lab).with_context(|| format!("lab test {name}"));
    if outcome.is_err() {
        lab.show_logs();
    }
    outcome
}

impl Lab {
    /// A new, empty lab; sweeps what dead processes left first.
    ///
    /// # Errors
    /// Without root, or when the directory cannot be made.
    pub fn new() -> Result<Lab> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        if !nix::unistd::geteuid().is_root() {
            bail!("the lab makes network namespaces and needs root: run it with sudo");
        }
        sweep::dead()?;
        let tag = sweep::tag(NEXT.fetch_add(1, Ordering::Relaxed))?;
        let dir = std::env::temp_dir().join(&tag);
        std::fs::create_dir(&dir).with_context(|| format!("make {}", dir.display()))?;
        Ok(Lab {
            tag,
            dir,
            namespaces: Cell::new(0),
        })
    }

    /// What every name of this lab starts with.
    pub fn tag(&self) -> &str {
        &self.tag
    }

    /// The lab's directory.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// A directory below the lab's.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn subdir(&self, name: &str) -> Result<PathBuf> {
        let dir = self.dir.join(name);
        std::fs::create_dir_all(&dir).with_context(|| format!("make {}", dir.display()))?;
        Ok(dir)
    }

    /// A new network namespace with `lo` up and duplicate address detection off.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn netns(&self, name: &str) -> Result<Netns> {
        let n = self.namespaces.replace(self.namespaces.get() + 1);
        let ns = Netns::create(&format!("{}-{n}-{name}", self.tag))?;
        // Detection would hold every address back for a second or two.
        ns.sysctl("net/ipv6/conf/default/accept_dad", "0")?;
        ns.sysctl("net/ipv6/conf/all/accept_dad", "0")?;
        ns.ip("link set lo up")?;
        Ok(ns)
    }

    /// A bare network namespace, as a runtime makes it for a workload: `lo` down, defaults.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn workload_netns(&self, name: &str) -> Result<Netns> {
        let n = self.namespaces.replace(self.namespaces.get() + 1);
        Netns::create(&format!("{}-{n}-{name}", self.tag))
    }

    /// A veth pair between two namespaces, both ends up.
    ///
    /// # Errors
    /// When a name is taken or the kernel refuses.
    pub fn veth(&self, a: (&Netns, &str), b: (&Netns, &str), mtu: u32) -> Result<()> {
        a.0.ip(&format!(
            "link add {} mtu {mtu} type veth peer name {} mtu {mtu} netns {}",
            a.1,
            b.1,
            b.0.name()
        ))?;
        a.0.ip(&format!("link set {} up", a.1))?;
        b.0.ip(&format!("link set {} up", b.1))
    }

    /// The last lines of every log in the lab, on standard error.
    pub fn show_logs(&self) {
        for path in logs_below(&self.dir) {
            let text = std::fs::read(&path).unwrap_or_default();
            let text = String::from_utf8_lossy(&text);
            let lines: Vec<&str> = text.lines().collect();
            let shown = lines
                .get(lines.len().saturating_sub(TAIL)..)
                .unwrap_or_default();
            eprintln!("--- {} ({} lines)", path.display(), lines.len());
            for line in shown {
                eprintln!("{line}");
            }
        }
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.show_logs();
        }
        if let Err(e) = sweep::remove(&self.tag) {
            eprintln!("lab {}: not everything could be removed: {e:#}", self.tag);
        }
    }
}

/// How many times longer than elsewhere all may take: in an emulated machine, by `ROUTERD_LAB_PATIENCE`.
fn patience() -> u32 {
    let given = std::env::var("ROUTERD_LAB_PATIENCE").ok();
    given.and_then(|n| n.parse().ok()).unwrap_or(1)
}

/// Polls until `probe` gives a value; its last error says what was still missing.
///
/// # Errors
/// At the deadline, with `what` and the last answer.
pub fn wait<T>(what: &str, limit: Duration, mut probe: impl FnMut() -> Result<T>) -> Result<T> {
    let (start, limit) = (Instant::now(), limit * patience());
    loop {
        match probe() {
            Ok(value) => return Ok(value),
            Err(e) if start.elapsed() >= limit => {
                return Err(e).with_context(|| format!("waited {limit:?} in vain for: {what}"));
            }
            Err(_) => std::thread::sleep(POLL),
        }
    }
}

/// As [`wait`], for something that a process does: ends at once when the process has ended.
///
/// # Errors
/// At the deadline, or with the end of the process's log.
pub fn wait_for<T>(
    process: &mut Process,
    what: &str,
    limit: Duration,
    mut probe: impl FnMut() -> Result<T>,
) -> Result<T> {
    wait(what, limit, || match process.must_run() {
        Ok(()) => probe().map(Ok),
        Err(ended) => Ok(Err(ended)),
    })?
}

/// Polls until `holds` says yes.
///
/// # Errors
/// At the deadline, or the first error of `holds`.
pub fn wait_until(
    what: &str,
    limit: Duration,
    mut holds: impl FnMut() -> Result<bool>,
) -> Result<()> {
    wait(what, limit, || match holds() {
        Ok(true) => Ok(()),
        Ok(false) => Err(anyhow!("not yet")),
        Err(e) => Err(e),
    })
}

fn logs_below(dir: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut todo = vec![dir.to_owned()];
    while let Some(dir) = todo.pop() {
        for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
            let path = entry.path();
            if entry.file_type().is_ok_and(|t| t.is_dir()) {
                todo.push(path);
            } else if path.extension().is_some_and(|e| e == "log") {
                found.push(path);
            }
        }
    }
    found.sort();
    found
}
