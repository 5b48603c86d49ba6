//! Network namespaces without names: they end with the test, however it ends.

use std::fs::File;
use std::os::fd::AsRawFd as _;
use std::process::Command;
use std::thread;

use nix::sched::{CloneFlags, setns, unshare};

/// A network namespace.
pub struct Namespace(File);

impl Namespace {
    pub fn new() -> Namespace {
        let file = thread::spawn(|| {
            unshare(CloneFlags::CLONE_NEWNET).expect("a network namespace");
            File::open("/proc/thread-self/ns/net").expect("its file")
        });
        let namespace = Namespace(file.join().expect("a thread"));
        namespace.ip("link set lo up");
        namespace
    }

    /// Does something inside, in a thread of its own.
    pub fn run<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        let inside = || {
            setns(&self.0, CloneFlags::CLONE_NEWNET).expect("to enter");
            work()
        };
        thread::scope(|s| s.spawn(inside).join().expect("no panic inside"))
    }

    /// Runs `ip`.
    pub fn ip(&self, arguments: &str) {
        self.command("ip", arguments);
    }

    /// Runs a program.
    pub fn command(&self, name: &str, arguments: &str) {
        let done = self.run(|| {
            let mut command = Command::new(name);
            command.args(arguments.split(' ')).output().expect(name)
        });
        assert!(done.status.success(), "{name} {arguments}: {done:?}");
    }

    /// What `ip` knows it by.
    pub fn path(&self) -> String {
        format!("/proc/{}/fd/{}", std::process::id(), self.0.as_raw_fd())
    }

    pub fn ifindex(&self, interface: &str) -> u32 {
        let name = interface.to_owned();
        self.run(|| nix::net::if_::if_nametoindex(name.as_str()).expect("the interface"))
    }
}
