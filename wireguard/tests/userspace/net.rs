//! Network namespaces without names: each is a thread's, and gone with it.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use nix::sched::{CloneFlags, unshare};
use wireguard::PeerConfig;
use wireguard::device::{DeviceConfig, Event};
use wireguard::keys::{PrivateKey, PublicKey};
use wireguard::userspace::{Queue, Sockets, Tun, TunOptions, Tunnel, TunnelEvent};

pub(crate) const PATIENCE: Duration = Duration::from_secs(20);
pub(crate) const PORT: u16 = 51820;

type Job = Box<dyn FnOnce() + Send>;

/// A namespace: what is run in it is run on its thread, and sockets made there stay there.
pub(crate) struct Netns {
    jobs: Option<Sender<Job>>,
    thread: Option<JoinHandle<()>>,
    tid: i32,
}

impl Netns {
    pub(crate) fn new() -> Netns {
        assert!(
            nix::unistd::geteuid().is_root(),
            "these tests make network namespaces and need root: run them with sudo"
        );
        let (jobs, todo) = channel::<Job>();
        let (ready, is_ready) = channel();
        let thread = std::thread::spawn(move || {
            unshare(CloneFlags::CLONE_NEWNET).unwrap();
            ready.send(nix::unistd::gettid().as_raw()).unwrap();
            todo.into_iter().for_each(|job| job());
        });
        let ns = Netns {
            tid: is_ready.recv().unwrap(),
            jobs: Some(jobs),
            thread: Some(thread),
        };
        ns.ip("link set lo up");
        ns
    }

    pub(crate) fn run<T: Send + 'static>(&self, job: impl FnOnce() -> T + Send + 'static) -> T {
        let (answer, answered) = channel();
        let job = Box::new(move || drop(answer.send(job())));
        self.jobs.as_ref().unwrap().send(job).unwrap();
        answered.recv().expect("it panicked in the namespace")
    }

    /// A program's run inside, which must succeed; arguments are split at spaces.
    pub(crate) fn sh(&self, line: &str) -> String {
        let line = line.to_owned();
        self.run(move || {
            let mut words = line.split_whitespace();
            let out = Command::new(words.next().unwrap()).args(words).output();
            let out = out.unwrap_or_else(|e| panic!("{line}: {e}: `make setup` installs it"));
            let error = String::from_utf8_lossy(&out.stderr);
            assert!(out.status.success(), "{line}: {error}");
            String::from_utf8(out.stdout).unwrap()
        })
    }

    pub(crate) fn ip(&self, line: &str) {
        self.sh(&format!("ip {line}"));
    }

    /// A program that runs inside until the guard is dropped or this namespace's thread ends.
    pub(crate) fn start(&self, line: &str) -> Running {
        let line = line.to_owned();
        let child = self.run(move || {
            let words = format!("--pdeathsig KILL {line}");
            Command::new("setpriv")
                .args(words.split_whitespace())
                .stdin(Stdio::null())
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .spawn()
                .unwrap()
        });
        Running {
            child,
            leaves: None,
        }
    }
}

impl Drop for Netns {
    fn drop(&mut self) {
        drop(self.jobs.take());
        let ended = self.thread.take().map(JoinHandle::join);
        assert!(std::thread::panicking() || ended.is_some_and(|e| e.is_ok()));
    }
}

/// A child that is killed when dropped.
pub(crate) struct Running {
    child: Child,
    /// A file that it would have removed itself.
    pub(crate) leaves: Option<PathBuf>,
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = self.leaves.as_ref().map(std::fs::remove_file);
    }
}

impl Running {
    pub(crate) fn has_ended(&mut self) -> bool {
        self.child.try_wait().unwrap().is_some()
    }
}

/// Tests take turns: they measure memory and fill both directions of a wire.
static TURN: Mutex<()> = Mutex::new(());

/// Two namespaces and a wire between them, with addresses of both families.
pub(crate) struct Wire {
    pub(crate) left: Netns,
    pub(crate) right: Netns,
    _turn: MutexGuard<'static, ()>,
}

/// Which addresses a tunnel's datagrams have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Underlay {
    V4,
    V6,
}

impl Underlay {
    pub(crate) fn endpoint(self, side: u8) -> SocketAddr {
        let ip: IpAddr = match self {
            Underlay::V4 => [172, 30, 0, side].into(),
            Underlay::V6 => format!("fd30::{side}").parse().unwrap(),
        };
        (ip, PORT).into()
    }

    /// Bytes of IP, UDP and WireGuard.
    pub(crate) fn overhead(self) -> u16 {
        match self {
            Underlay::V4 => 60,
            Underlay::V6 => 80,
        }
    }
}

impl Wire {
    pub(crate) fn new(mtu: u16) -> Wire {
        let wire = Wire {
            left: Netns::new(),
            right: Netns::new(),
            _turn: TURN.lock().unwrap_or_else(PoisonError::into_inner),
        };
        let peer = format!(
            "type veth peer name eth0 mtu {mtu} netns {}",
            wire.right.tid
        );
        wire.left.ip(&format!("link add eth0 mtu {mtu} {peer}"));
        for (side, ns) in [(1, &wire.left), (2, &wire.right)] {
            ns.ip(&format!("address add 172.30.0.{side}/24 dev eth0"));
            ns.ip(&format!("address add fd30::{side}/64 dev eth0 nodad"));
            ns.ip("link set eth0 up");
        }
        wire
    }
}

/// A tunnel with one peer: side 1 has 10.9.0.1 and fd09::1, side 2 the others.
pub(crate) struct End {
    pub(crate) tunnel: Tunnel,
    pub(crate) events: Receiver<TunnelEvent>,
}

/// What both ends of a test must agree on.
#[derive(Clone)]
pub(crate) struct Plan {
    pub(crate) keys: [PrivateKey; 2],
    pub(crate) underlay: Underlay,
    pub(crate) wire_mtu: u16,
}

impl Plan {
    pub(crate) fn new(underlay: Underlay, wire_mtu: u16) -> Plan {
        Plan {
            keys: [PrivateKey::new([11; 32]), PrivateKey::new([22; 32])],
            underlay,
            wire_mtu,
        }
    }

    pub(crate) fn mtu(&self) -> u16 {
        self.wire_mtu - self.underlay.overhead()
    }

    pub(crate) fn key(&self, side: u8) -> &PrivateKey {
        &self.keys[usize::from(side) - 1]
    }

    pub(crate) fn public(&self, side: u8) -> PublicKey {
        self.key(side).public()
    }

    pub(crate) fn queues(ns: &Netns, name: &str, count: usize) -> Vec<Queue> {
        let options = TunOptions {
            name: name.to_owned(),
            persistent: false,
            multi_queue: count > 1,
        };
        ns.run(move || {
            let sockets = Sockets::open(PORT, count).unwrap().into_iter();
            let tun = || Tun::open(&options).unwrap();
            sockets
                .map(|sockets| Queue {
                    tun: tun(),
                    sockets,
                })
                .collect()
        })
    }

    /// Our end of a tunnel on `side`.
    pub(crate) fn end(&self, ns: &Netns, side: u8, queues: Vec<Queue>) -> End {
        let name = queues[0].tun.name().to_owned();
        let (tell, events) = channel();
        let config = DeviceConfig::new(self.key(side).clone());
        let tunnel = Tunnel::start(config, queues, move |event| drop(tell.send(event))).unwrap();
        let other = 3 - side;
        let mut peer = PeerConfig::new(self.public(other));
        peer.endpoint = Some(self.underlay.endpoint(other));
        peer.mtu = self.mtu();
        let id = tunnel.set_peer(peer).unwrap();
        let prefixes = [format!("10.9.0.{other}/32"), format!("fd09::{other}/128")];
        let prefixes = prefixes.iter().map(|p| (p.parse().unwrap(), Some(id)));
        tunnel.set_allowed_ips(prefixes.collect()).unwrap();
        self.address(ns, side, &name);
        End { tunnel, events }
    }

    /// Gives an interface its addresses and brings it up.
    pub(crate) fn address(&self, ns: &Netns, side: u8, name: &str) {
        ns.ip(&format!("address add 10.9.0.{side}/24 dev {name}"));
        ns.ip(&format!("address add fd09::{side}/64 dev {name} nodad"));
        ns.ip(&format!("link set {name} mtu {} up", self.mtu()));
    }
}

impl End {
    /// Waits for a session.
    pub(crate) fn established(&self) {
        self.event("a session", |e| {
            matches!(e, TunnelEvent::Device(Event::Established(_)))
        });
    }

    pub(crate) fn event(&self, what: &str, is_it: impl Fn(&TunnelEvent) -> bool) {
        let end = Instant::now() + PATIENCE;
        loop {
            let left = end.saturating_duration_since(Instant::now());
            let event = self.events.recv_timeout(left);
            if is_it(&event.unwrap_or_else(|e| panic!("waited in vain for {what}: {e}"))) {
                return;
            }
        }
    }
}

/// Inner addresses of a side.
pub(crate) fn inner(side: u8) -> [IpAddr; 2] {
    [
        [10, 9, 0, side].into(),
        format!("fd09::{side}").parse().unwrap(),
    ]
}

/// Waits until `holds`: for what other programs do.
pub(crate) fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let end = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < end, "waited in vain for {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// A name for an interface and its socket, in a directory that all namespaces share.
pub(crate) fn unique(prefix: &str) -> String {
    format!("{prefix}{}", nix::unistd::gettid())
}
