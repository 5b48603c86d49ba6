//! The same wire with other implementations at its other end.

use std::os::unix::net::UnixStream;
use std::path::PathBuf;

use crate::net::{Netns, PORT, Plan, Running, Underlay, Wire, eventually, inner, unique};
use crate::transfer::transfer;

const MIB: usize = 1 << 20;

/// Starts another implementation on side 2. Who speaks first needs to know where the other is.
fn other(ns: &Netns, plan: &Plan, program: &str, knows_us: bool) -> Running {
    let name = unique("wgt");
    let mut running = ns.start(&format!("{program} {name}"));
    let uapi = PathBuf::from(format!("/var/run/wireguard/{name}.sock"));
    running.leaves = Some(uapi.clone());
    eventually(&format!("{program} to serve {}", uapi.display()), || {
        assert!(
            !running.has_ended(),
            "{program} ended at once: `make setup` installs it"
        );
        UnixStream::connect(&uapi).is_ok()
    });
    let file = std::env::temp_dir().join(&name);
    let key = plan.key(2).expose_base64();
    let mut config = format!(
        "[Interface]\nPrivateKey = {}\nListenPort = {PORT}\n[Peer]\nPublicKey = {}\nAllowedIPs = 10.9.0.1/32, fd09::1/128\n",
        *key,
        plan.public(1)
    );
    if knows_us {
        config += &format!("Endpoint = {}\n", plan.underlay.endpoint(1));
    }
    std::fs::write(&file, config).unwrap();
    ns.sh(&format!("wg setconf {name} {}", file.display()));
    std::fs::remove_file(file).unwrap();
    plan.address(ns, 2, &name);
    running
}

fn both_ways(program: &str, underlay: Underlay) {
    for they_start in [false, true] {
        let plan = Plan::new(underlay, 1500);
        let wire = Wire::new(1500);
        let _theirs = other(&wire.right, &plan, program, they_start);
        let ours = plan.end(&wire.left, 1, Plan::queues(&wire.left, "wg0", 1));
        let (one, two) = if they_start {
            ((&wire.right, 2), (&wire.left, 1))
        } else {
            ((&wire.left, 1), (&wire.right, 2))
        };
        transfer(one.0, two.0, inner(two.1)[0], 100 * MIB);
        ours.established();
        transfer(two.0, one.0, inner(one.1)[1], 100 * MIB);
        transfer(one.0, two.0, inner(two.1)[1], MIB);
        transfer(two.0, one.0, inner(one.1)[0], MIB);
    }
}

#[test]
fn with_wireguard_go() {
    both_ways("wireguard-go --foreground", Underlay::V4);
    both_ways("wireguard-go --foreground", Underlay::V6);
}

#[test]
fn with_boringtun() {
    both_ways(
        "boringtun-cli --foreground --disable-drop-privileges",
        Underlay::V4,
    );
}
