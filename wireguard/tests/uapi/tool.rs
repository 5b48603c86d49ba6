//! The real `wg`, in a mount namespace with a `/run` of its own. Needs root and wireguard-tools.

use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use wireguard::keys::PublicKey;
use wireguard::uapi::{DeviceControl, RUN_DIR, Server};

use crate::Fake;

/// Runs `wg`; standard output, or what it said when it failed.
fn wg(args: &str, input: &str) -> Result<String, String> {
    let mut command = Command::new("wg");
    command.args(args.split_whitespace()).stdin(Stdio::piped());
    let mut child = command
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child
        .stdin
        .take()
        .unwrap()
        .write_all(input.as_bytes())
        .unwrap();
    let output = child.wait_with_output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    match output.status.success() {
        true => Ok(text(&output.stdout)),
        false => Err(text(&output.stderr)),
    }
}

/// `f` on a thread that sees an empty `/run`.
fn with_own_run(f: impl FnOnce() + Send) {
    let run = || {
        if let Err(e) = unshare(CloneFlags::CLONE_NEWNS) {
            panic!("cannot make a mount namespace ({e}): run this test as root");
        }
        let none = None::<&str>;
        mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none).unwrap();
        mount(Some("tmpfs"), "/run", Some("tmpfs"), MsFlags::empty(), none).unwrap();
        f();
    };
    std::thread::scope(|s| s.spawn(run).join()).unwrap();
}

#[test]
fn wg_sets_and_shows() {
    with_own_run(|| {
        let fake = Fake::new();
        let _server = Server::start(Path::new(RUN_DIR), "kwg0", fake.clone()).unwrap();
        assert_eq!(wg("show interfaces", "").unwrap(), "kwg0\n");

        let (a, b) = (PublicKey::new([2; 32]), PublicKey::new([3; 32]));
        let secret = PublicKey::new([9; 32]).to_string();
        wg("set kwg0 listen-port 51820 fwmark 0x10", "").unwrap();
        let peer = format!(
            "set kwg0 peer {a} preshared-key /dev/stdin endpoint 192.0.2.7:4000 \
             persistent-keepalive 25 allowed-ips 10.0.0.0/26,fd00::/122"
        );
        wg(&peer, &secret).unwrap();
        let other = format!("set kwg0 peer {b} endpoint [2001:db8::1]:5 allowed-ips 10.0.0.64/26");
        wg(&other, "").unwrap();
        // A move is seen as one.
        wg(&format!("set kwg0 peer {b} allowed-ips 10.0.0.0/26"), "").unwrap();

        let own = fake.get().unwrap().private_key.unwrap();
        let (private, public) = (own.expose_base64(), own.public());
        let dump = wg("show kwg0 dump", "").unwrap();
        let mut lines: Vec<&str> = dump.lines().collect();
        lines.sort_unstable();
        let mut expected = [
            format!("{}\t{public}\t51820\t0x10", *private),
            format!("{a}\t{secret}\t192.0.2.7:4000\tfd00::/122\t0\t0\t148\t25"),
            format!("{b}\t(none)\t[2001:db8::1]:5\t10.0.0.0/26\t0\t0\t0\toff"),
        ];
        expected.sort_unstable();
        assert_eq!(lines, expected);

        // What it saves it can load again.
        let config = wg("showconf kwg0", "").unwrap();
        let before = fake.get().unwrap();
        wg("setconf kwg0 /dev/stdin", &config).unwrap();
        let mut after = fake.get().unwrap();
        for (key, peer) in &mut after.peers {
            peer.sent_bytes = before.peers[key].sent_bytes;
        }
        assert_eq!(after, before);

        wg(&format!("set kwg0 peer {a} remove"), "").unwrap();
        assert_eq!(wg("show kwg0 peers", "").unwrap(), format!("{b}\n"));
        let refusal = wg("set kwg0 listen-port 666", "").unwrap_err();
        assert!(refusal.contains("Address already in use"), "{refusal}");
    });
}
