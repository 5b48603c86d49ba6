//! The programs at real interfaces: a workload and a peer, with a host between them that forwards.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use model::kernel::Mac;
use model::kind::Kind;
use model::object::ObjectId;
use policy_common::reason::Reason;
use policy_common::tables::{Chain, MAX_STAGES, Stage, rule};
use policy_ebpf::kernel::{Enforcer, First, Interface, Loaded, Options, Programs, Sizes};
use policy_ebpf::{Chains, Op, Update};

use crate::namespace::Namespace;

/// What is waited for something that does not come, and for something that comes in any case.
const SHORT: Duration = Duration::from_millis(300);
const LONG: Duration = Duration::from_secs(20);

const OPEN: u32 = 1;
const CLOSED: u32 = 2;

struct Lab {
    host: Namespace,
    workload: Namespace,
    peer: Namespace,
    directory: PathBuf,
}

impl Lab {
    fn new(name: &str) -> Lab {
        let lab = Lab {
            host: Namespace::new(),
            workload: Namespace::new(),
            peer: Namespace::new(),
            directory: PathBuf::from(format!(
                "/sys/fs/bpf/routerd-test-{}-{name}",
                std::process::id()
            )),
        };
        lab.host.run(|| {
            std::fs::write("/proc/sys/net/ipv4/ip_forward", "1").expect("forwarding");
        });
        for (far, near, address, gateway) in [
            (&lab.workload, "w0", "10.0.7.7/24", "10.0.7.1"),
            (&lab.peer, "p0", "10.0.9.9/24", "10.0.9.1"),
        ] {
            let mac = if near == "w0" {
                "02:00:00:00:00:07"
            } else {
                "02:00:00:00:00:09"
            };
            let path = far.path();
            lab.host.ip(&format!(
                "link add {near} type veth peer name eth0 address {mac} netns {path}"
            ));
            lab.host.ip(&format!("addr add {gateway}/24 dev {near}"));
            lab.host.ip(&format!("link set {near} up"));
            far.ip(&format!("addr add {address} dev eth0"));
            far.ip("link set eth0 up");
            far.ip(&format!("route add default via {gateway}"));
        }
        lab
    }

    fn enforcer(&self) -> Enforcer {
        let options = Options {
            directory: self.directory.clone(),
            sizes: Sizes {
                endpoints: 64,
                prefixes: 64,
                rows: 64,
                connections: 1024,
            },
        };
        let load = || {
            let programs = Programs::load(&options).expect("programs");
            Enforcer::new(programs).expect("settings")
        };
        self.host.run(load)
    }

    fn interface(&self) -> Interface {
        Interface {
            name: "w0".to_owned(),
            ifindex: self.host.ifindex("w0"),
            mac: Mac([2, 0, 0, 0, 0, 7]),
            own: vec![model::Cidr::host("10.0.7.7".parse().expect("an address"))],
            host: false,
            mtu: 0,
        }
    }

    /// Inside of the host's namespace.
    fn attach(&self, enforcer: &mut Enforcer) {
        let interface = self.interface();
        self.host
            .run(|| enforcer.attach(&id(), &interface).expect("to attach"));
    }

    fn connect(&self, patience: Duration) -> std::io::Result<TcpStream> {
        let server: SocketAddr = SERVER.parse().expect("an address");
        self.peer
            .run(|| TcpStream::connect_timeout(&server, patience))
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        let _ = (self.host).run(|| Programs::clean_up(&self.directory));
    }
}

const SERVER: &str = "10.0.7.7:80";

fn id() -> ObjectId {
    ObjectId {
        kind: Kind::WorkloadEndpoint,
        namespace: Some("default".to_owned()),
        name: "w".to_owned(),
    }
}

/// A chain that lets everything pass or nothing, under a new generation.
fn switch(number: u32, generation: u32) -> Update {
    let profile = match number {
        OPEN => rule::PROFILE_ALLOW,
        _ => rule::PROFILE_DENY,
    };
    let chain = Chain {
        length: 0,
        profile,
        stages: [Stage::default(); MAX_STAGES],
    };
    let chains = Chains {
        ingress: number,
        egress: number,
        generation,
        ..Chains::default()
    };
    Update {
        puts: vec![
            Op::World(1),
            Op::Chain(number, Some(Box::new(chain))),
            Op::Endpoint(id(), Some(chains)),
        ],
        ..Update::default()
    }
}

/// Two ends of a connection.
struct Talk {
    client: TcpStream,
    server: TcpStream,
    said: u8,
}

impl Talk {
    fn begin(lab: &Lab, listener: &TcpListener) -> Talk {
        let client = lab.connect(LONG).expect("a connection");
        let (server, _) = listener.accept().expect("a client");
        Talk {
            client,
            server,
            said: 0,
        }
    }

    /// Whether a byte gets to the server and back in time.
    fn goes_on(&mut self, patience: Duration) -> bool {
        self.said += 1;
        self.client.write_all(&[self.said]).expect("room to send");
        hears(&mut self.server, self.said, patience) && {
            self.server.write_all(&[self.said]).expect("room to send");
            hears(&mut self.client, self.said, patience)
        }
    }
}

/// Reads up to a byte.
fn hears(stream: &mut TcpStream, wanted: u8, patience: Duration) -> bool {
    let end = Instant::now() + patience;
    let mut byte = [0];
    while let Some(left) = end
        .checked_duration_since(Instant::now())
        .filter(|d| !d.is_zero())
    {
        stream.set_read_timeout(Some(left)).expect("a patience");
        match stream.read(&mut byte) {
            Ok(1) if byte == [wanted] => return true,
            Ok(1) => {}
            Err(e) if matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
            other => panic!("{other:?}"),
        }
    }
    false
}

fn listen(lab: &Lab) -> TcpListener {
    lab.workload
        .run(|| TcpListener::bind(SERVER).expect("a port"))
}

fn drops(enforcer: &mut Enforcer, reason: Reason) -> u64 {
    enforcer.programs().maps.drops(reason).expect("a counter")
}

/// Closed from the moment of attaching, opened by policy, cut by another, opened again.
#[test]
fn policy_opens_and_cuts() {
    let lab = Lab::new("cut");
    let listener = listen(&lab);
    // There is a way as long as nothing is enforced.
    drop(Talk::begin(&lab, &listener));
    let mut enforcer = lab.enforcer();
    lab.attach(&mut enforcer);
    assert!(lab.connect(SHORT).is_err());
    assert!(drops(&mut enforcer, Reason::NotProgrammed) > 0);

    enforcer.apply(&switch(OPEN, 1)).expect("to write");
    let mut talk = Talk::begin(&lab, &listener);
    assert!(talk.goes_on(LONG));

    enforcer.apply(&switch(CLOSED, 2)).expect("to write");
    assert!(!talk.goes_on(SHORT));
    assert!(lab.connect(SHORT).is_err());
    assert!(drops(&mut enforcer, Reason::Policy) > 1);

    enforcer.apply(&switch(OPEN, 3)).expect("to write");
    assert!(talk.goes_on(LONG));
}

/// What is not known does not pass; what is detached has no policy.
#[test]
fn what_is_not_known_does_not_pass() {
    let lab = Lab::new("unknown");
    let listener = listen(&lab);
    let mut enforcer = lab.enforcer();
    enforcer.apply(&switch(OPEN, 1)).expect("to write");
    lab.attach(&mut enforcer);
    drop(Talk::begin(&lab, &listener));
    let ifindex = lab.interface().ifindex;
    let programs = enforcer.programs();
    programs.maps.endpoints.remove(&ifindex).expect("to remove");
    assert!(lab.connect(SHORT).is_err());
    assert!(drops(&mut enforcer, Reason::UnknownEndpoint) > 0);
    lab.host.run(|| enforcer.detach(&id()).expect("to detach"));
    drop(Talk::begin(&lab, &listener));
}

/// A filter holds what is at a workload's interface, a link what is at a host's where the kernel has such, and never
/// both; somebody who takes it away is found out.
#[test]
fn one_holder_at_a_time() {
    let lab = Lab::new("holder");
    let listener = listen(&lab);
    let mut enforcer = lab.enforcer();
    enforcer.apply(&switch(CLOSED, 1)).expect("to write");
    let names = |lab: &Lab| {
        let entries = std::fs::read_dir(lab.directory.join("links")).expect("names");
        entries.flatten().count()
    };
    let first = First {
        source: "10.0.9.9".parse().expect("an address"),
        destination: "10.0.7.7".parse().expect("an address"),
        protocol: 6,
        source_port: 40_000,
        destination_port: 80,
        icmp: None,
    };
    let judged = |lab: &Lab, enforcer: &Enforcer| {
        let judge = || enforcer.judge(&id(), false, &first).expect("to look");
        lab.host.run(judge)
    };
    for host in [false, true, false] {
        lab.attach(&mut enforcer);
        let ifindex = lab.interface().ifindex;
        let again = || (enforcer.programs()).attach("w0", ifindex, host);
        lab.host.run(again).expect("to attach");
        assert_eq!(names(&lab), 2, "host: {host}");
        assert_eq!(
            judged(&lab, &enforcer),
            Loaded::Decided(rule::PROFILE_DENY),
            "host: {host}"
        );
        assert!(lab.connect(SHORT).is_err());
    }

    // The hook of what the workload gets.
    lab.host.command("tc", "filter del dev w0 egress pref 82");
    assert_eq!(judged(&lab, &enforcer), Loaded::Detached);
    lab.host.run(|| enforcer.detach(&id()).expect("to detach"));
    assert_eq!(names(&lab), 0);
    drop(Talk::begin(&lab, &listener));
}

/// What one process left stays in force, and the next goes on with its connections.
#[test]
fn the_next_process_takes_over() {
    let lab = Lab::new("next");
    let listener = listen(&lab);
    let mut first = lab.enforcer();
    first.apply(&switch(OPEN, 5)).expect("to write");
    lab.attach(&mut first);
    lab.host
        .run(|| first.programs().take_over().expect("to take over"));
    let mut talk = Talk::begin(&lab, &listener);
    assert!(talk.goes_on(LONG));
    drop(first);
    assert!(talk.goes_on(LONG));

    // It attaches before it knows anything, which closes, and then knows: the connection is the old one.
    let mut second = lab.enforcer();
    let before = second.programs().before.expect("settings of the first");
    lab.attach(&mut second);
    assert!(!talk.goes_on(SHORT));
    second.apply(&switch(OPEN, 5)).expect("to write");
    lab.host
        .run(|| second.programs().take_over().expect("to take over"));
    assert!(talk.goes_on(LONG));
    let maps = &second.programs().maps;
    let settings = maps.global.get(&0).expect("settings").expect("settings");
    assert!(settings.world > before.world);
    let old = maps.connections.entries().expect("connections").into_iter();
    let old = old.filter(|(key, _)| key.local_port == 80);
    assert_eq!(old.count(), 1);

    // A closed door stays closed without anybody there.
    second.apply(&switch(CLOSED, 6)).expect("to write");
    drop(second);
    assert!(!talk.goes_on(SHORT));
    assert!(lab.connect(SHORT).is_err());
    // Nothing left, nothing enforced.
    let clean = || Programs::clean_up(&lab.directory);
    lab.host.run(clean).expect("to clean up");
    assert!(talk.goes_on(LONG));
}

/// The host reaches its workload whatever policy says, and is reached by setting only. Routing says what is the host.
#[test]
fn the_host_is_told_from_what_is_behind_it() {
    let lab = Lab::new("host");
    let listener = listen(&lab);
    let mut enforcer = lab.enforcer();
    enforcer.apply(&switch(CLOSED, 1)).expect("to write");
    lab.attach(&mut enforcer);
    let server: SocketAddr = SERVER.parse().expect("an address");
    let of_host = || TcpStream::connect_timeout(&server, LONG).expect("a connection");
    let client = lab.host.run(of_host);
    let (server, _) = listener.accept().expect("a client");
    let mut talk = Talk {
        client,
        server,
        said: 0,
    };
    assert!(talk.goes_on(LONG));

    enforcer.apply(&switch(OPEN, 2)).expect("to write");
    let host: SocketAddr = "10.0.7.1:80".parse().expect("an address");
    let peer: SocketAddr = "10.0.9.9:80".parse().expect("an address");
    let at_host = lab.host.run(|| TcpListener::bind(host).expect("a port"));
    let at_peer = lab.peer.run(|| TcpListener::bind(peer).expect("a port"));
    let connect = |to: SocketAddr, patience| {
        let client = lab
            .workload
            .run(|| TcpStream::connect_timeout(&to, patience));
        client.is_ok()
    };
    assert!(connect(peer, LONG));
    assert!(!connect(host, SHORT));
    assert!(drops(&mut enforcer, Reason::EndpointToHost) > 0);
    // The old one is the host's own.
    assert!(talk.goes_on(LONG));
    enforcer.allow_endpoint_to_host(true).expect("to write");
    assert!(connect(host, LONG));
    drop((at_host, at_peer));
}

/// A path that is no BPF file system is said to be none.
#[test]
fn a_place_that_keeps_no_names_is_an_error() {
    let options = Options {
        directory: Path::new("/proc/routerd-test").to_owned(),
        sizes: Sizes::default(),
    };
    let error = Programs::load(&options).expect_err("no directory");
    assert!(error.to_string().contains("/proc/routerd-test"), "{error}");
}
