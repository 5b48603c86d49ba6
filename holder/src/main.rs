//! The process that holds the encrypted tunnel in userspace: interface, sockets and sessions.
//!
//! ```text
//!   routerd ── starts when nobody serves the device ──► routerd-tunnel
//!      │                                                 │ opens rtd.wg, UDP sockets, the socket of `wg`
//!      │                                                 │ gives up root, and all system calls but a few
//!      │                                                 ▼
//!      └── asks and tells, as `wg` does ──► uapi::Server ─► userspace::Tunnel ◄──► network
//! ```
//!
//! It is a process of its own so that sessions outlive the daemon: restarted or upgraded, the daemon finds
//! the socket and goes on. Nothing here knows of nodes, stores or routes.
//!
//! Invariants:
//! * nothing from outside is read before the privileges are gone;
//! * the interface lives as long as this process, and this process as long as the interface: who
//!   removes `rtd.wg` ends it;
//! * a thread that panics ends the process, and so the interface: packets then have nowhere to go until the
//!   daemon has started another.

mod arguments;
mod filter;
mod privileges;

use std::io::Write;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::{Context, Result};
use model::marks;
use wireguard::device::DeviceConfig;
use wireguard::uapi::{self, Listener, Server};
use wireguard::userspace::{Queue, Sockets, Tun, TunOptions, Tunnel, TunnelEvent, random_key};

use arguments::Arguments;

/// More queues than this carry no more on any machine seen.
const MOST_QUEUES: usize = 8;

fn main() -> ExitCode {
    match start() {
        Ok(_server) => loop {
            std::thread::park();
        },
        Err(e) => {
            // Whoever started it waits for a word on standard output.
            println!("{e:#}");
            ExitCode::FAILURE
        }
    }
}

fn start() -> Result<Server> {
    privileges::close_inherited().context("close what was inherited")?;
    let arguments = Arguments::parse(std::env::args().skip(1))?;
    arguments::init_log(arguments.json)?;
    // Half a tunnel would not be missed: the daemon starts another when all of it ends.
    std::panic::set_hook(Box::new(|panic| {
        tracing::error!(%panic, "a defect: ending");
        std::process::exit(101);
    }));
    // Fails only for the first process of a session, which nobody's terminal ends either.
    let _ = nix::unistd::setsid();
    std::env::set_current_dir("/").context("change to /")?;

    // First: no two processes serve one device.
    let listener = Listener::bind(Path::new(uapi::RUN_DIR), marks::WIREGUARD)?;
    let queues = open(&arguments)?;
    let key = random_key().context("make a key to begin with")?;
    let quiet = std::fs::File::options().write(true).open("/dev/null");
    let quiet = quiet.context("open /dev/null")?;

    privileges::go_first();
    privileges::give_up()?;

    let tunnel = Tunnel::start(DeviceConfig::new(key), queues, on_event)?;
    let server = listener.serve(Arc::new(tunnel))?;
    tracing::info!(
        device = marks::WIREGUARD,
        port = arguments.port,
        "tunnel started"
    );
    println!("ready");
    std::io::stdout().flush().context("say that it is ready")?;
    nix::unistd::dup2_stdout(&quiet).context("close standard output")?;
    Ok(server)
}

/// Interface and sockets. Half of the processors: each queue has a thread for either direction.
fn open(arguments: &Arguments) -> Result<Vec<Queue>> {
    let processors = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let count = (processors / 2).clamp(1, MOST_QUEUES);
    let options = TunOptions {
        name: marks::WIREGUARD.to_owned(),
        persistent: false,
        multi_queue: count > 1,
    };
    let sockets = Sockets::open(arguments.port, count)
        .with_context(|| format!("bind UDP port {}", arguments.port))?;
    let queues = sockets.into_iter().map(|sockets| {
        if arguments.fwmark != 0 {
            let marked = sockets.set_mark(arguments.fwmark);
            marked.with_context(|| format!("set fwmark {:#x}", arguments.fwmark))?;
        }
        let tun = Tun::open(&options);
        let tun = tun.with_context(|| format!("make interface {}", marks::WIREGUARD))?;
        Ok(Queue { tun, sockets })
    });
    queues.collect()
}

fn on_event(event: TunnelEvent) {
    match event {
        TunnelEvent::Device(event) => tracing::debug!(?event, "peer"),
        TunnelEvent::InterfaceLost(e) => {
            tracing::info!(device = marks::WIREGUARD, reason = %e, "interface removed: ending");
            std::process::exit(0);
        }
    }
}
