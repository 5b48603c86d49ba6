//! Whether there is WireGuard in the kernel, on any kernel. Needs root.

#![allow(clippy::unwrap_used, clippy::panic)] // a failed test panics

use std::process::Command;

use nix::sched::{CloneFlags, unshare};
use wireguard::kernel::Kernel;

/// The daemon chooses by it, so it must not say yes where no device can be made, nor the opposite.
#[test]
fn the_probe_says_whether_a_device_can_be_made() {
    let probe = || {
        if let Err(e) = unshare(CloneFlags::CLONE_NEWNET) {
            panic!("cannot make a network namespace ({e}): run this test as root");
        }
        let mut add = Command::new("ip");
        add.args(["link", "add", "wg0", "type", "wireguard"]);
        let can_be_made = add.output().unwrap().status.success();
        let mut kernel = Kernel::open().unwrap();
        assert_eq!(kernel.is_some(), can_be_made);
        if let Some(kernel) = &mut kernel {
            assert!(kernel.get("wg0").unwrap().peers.is_empty());
        }
    };
    std::thread::scope(|s| s.spawn(probe).join()).unwrap();
}
