//! Network namespaces for tests: nameless, so that nothing is left behind whatever happens.

use std::fs::File;
use std::panic::resume_unwind;
use std::process::Command;

use nix::sched::{CloneFlags, setns, unshare};

/// A network namespace that lives as long as this value, or as something in it.
#[derive(Debug)]
pub struct Netns {
    file: File,
}

impl Netns {
    /// A new, empty one.
    ///
    /// # Panics
    /// Without root: a test that needs a namespace and has none must not pass.
    pub fn new() -> Netns {
        on_thread(|| {
            if let Err(e) = unshare(CloneFlags::CLONE_NEWNET) {
                panic!("cannot make a network namespace ({e}): run this test as root");
            }
            match File::open("/proc/thread-self/ns/net") {
                Ok(file) => Netns { file },
                Err(e) => panic!("/proc/thread-self/ns/net: {e}"),
            }
        })
    }

    /// A path by which this process opens it.
    pub fn path(&self) -> String {
        use std::os::fd::AsRawFd;
        format!("/proc/{}/fd/{}", std::process::id(), self.file.as_raw_fd())
    }

    /// Runs `f` in it, on a thread of its own.
    ///
    /// # Panics
    /// With whatever `f` panics with.
    pub fn run<T: Send>(&self, f: impl FnOnce() -> T + Send) -> T {
        on_thread(|| {
            if let Err(e) = setns(&self.file, CloneFlags::CLONE_NEWNET) {
                panic!("cannot enter the network namespace: {e}");
            }
            f()
        })
    }

    /// Runs a command line in it; standard output.
    ///
    /// # Panics
    /// When it fails, with what it said.
    pub fn sh(&self, line: &str) -> String {
        self.run(|| sh(line))
    }

    /// Waits until packets pass: the kernel sees the carriers of veths and makes the local routes of
    /// IPv6 addresses in its own time, and until then it drops what is sent.
    ///
    /// # Panics
    /// When it takes more than 10 s.
    pub fn await_ready(&self) {
        let waiting = || -> Vec<String> {
            let veths = self.sh("ip -o link show up type veth");
            let down = veths.lines().filter(|l| !l.contains("state UP"));
            let mut waiting: Vec<String> = down.map(str::to_owned).collect();
            let routes = self.sh("ip -6 route show table local");
            for line in self.sh("ip -6 -o addr show").lines() {
                let address = line.split_whitespace().nth(3).unwrap_or_default();
                let ip = address.split('/').next().unwrap_or_default();
                if !routes.contains(&format!("local {ip} ")) {
                    waiting.push(line.to_owned());
                }
            }
            waiting
        };
        for _ in 0..1000 {
            if waiting().is_empty() {
                return;
            }
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
        panic!("not ready: {:?}", waiting());
    }
}

impl Default for Netns {
    fn default() -> Netns {
        Netns::new()
    }
}

/// Runs a command line in the namespace of this thread; standard output.
///
/// # Panics
/// When it fails, with what it said.
pub fn sh(line: &str) -> String {
    match Command::new("sh").args(["-ec", line]).output() {
        Ok(o) if o.status.success() => String::from_utf8_lossy(&o.stdout).into_owned(),
        Ok(o) => panic!("{line}: {}", String::from_utf8_lossy(&o.stderr)),
        Err(e) => panic!("{line}: {e}"),
    }
}

fn on_thread<T: Send>(f: impl FnOnce() -> T + Send) -> T {
    std::thread::scope(|s| match s.spawn(f).join() {
        Ok(value) => value,
        Err(panic) => resume_unwind(panic),
    })
}
