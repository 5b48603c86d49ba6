//! The kernel's own WireGuard. Needs root and a kernel that has it: `make test-kernels` runs this in
//! virtual machines, and nothing else does.

#![allow(clippy::unwrap_used, clippy::panic)] // a failed test panics

mod configuration;
mod interop;
mod moves;

use std::process::Command;
use std::time::{Duration, SystemTime};

use nix::sched::{CloneFlags, unshare};
use wireguard::control::{DeviceState, SetRequest};
use wireguard::kernel::Kernel;
use wireguard::keys::{PrivateKey, PublicKey};
use wireguard::plan::{DeviceSpec, plan};

/// `f` on a thread in a fresh network namespace, with a device `wg0` in it.
fn with_device(f: impl FnOnce(&mut Kernel) + Send) {
    let run = || {
        unshare(CloneFlags::CLONE_NEWNET).unwrap();
        let Some(mut kernel) = Kernel::open().unwrap() else {
            panic!("this kernel has no WireGuard")
        };
        kernel.create("wg0").unwrap();
        ip("link set lo up");
        f(&mut kernel);
    };
    std::thread::scope(|s| {
        if let Err(panic) = s.spawn(run).join() {
            std::panic::resume_unwind(panic);
        }
    });
}

fn ip(args: &str) {
    let status = Command::new("ip").args(args.split(' ')).status().unwrap();
    assert!(status.success(), "ip {args}");
}

fn private(n: u16) -> PrivateKey {
    let mut bytes = [9; 32];
    bytes[..2].copy_from_slice(&n.to_be_bytes());
    PrivateKey::new(bytes)
}

/// A key of which nobody has the private half.
fn public(n: u16) -> PublicKey {
    PublicKey::new(*private(n).expose())
}

fn now() -> Duration {
    SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap()
}

/// Makes `wg0` what `spec` says; what had to be done, and what it is then.
fn reconcile(kernel: &mut Kernel, spec: &DeviceSpec) -> (SetRequest, DeviceState) {
    let request = plan(spec, &kernel.get("wg0").unwrap(), now()).unwrap();
    kernel.set("wg0", &request).unwrap();
    let state = kernel.get("wg0").unwrap();
    let rest = plan(spec, &state, now()).unwrap();
    assert!(rest.is_empty(), "still to do:\n{rest}");
    (request, state)
}
