//! Knocking at doors: who may reach which port of whom.

use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use anyhow::{Context, Result, anyhow};

use super::super::Netns;

/// How long a server waits before it looks whether it should stop.
const TICK: Duration = Duration::from_millis(20);

/// What came of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It was answered.
    Answered,
    /// Nobody is at home there, but what was sent came through.
    Refused,
    /// No answer.
    Silent,
}

/// Echoes by TCP and UDP at some ports of a namespace, at every address, until it is dropped.
#[derive(Debug)]
pub struct Doors {
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    stop: AtomicBool,
    /// Things heard, or said.
    heard: AtomicU64,
}

impl Doors {
    /// Opens them.
    ///
    /// # Errors
    /// When a port is in use.
    pub fn open(ns: &Netns, ports: &[u16]) -> Result<Doors> {
        let shared = Arc::new(Shared::default());
        for port in ports {
            let at = SocketAddr::new(IpAddr::V6(Ipv6Addr::UNSPECIFIED), *port);
            let tcp = ns.run(|| Ok(TcpListener::bind(at)?));
            let tcp = tcp.with_context(|| format!("listen at {at} in {}", ns.name()))?;
            tcp.set_nonblocking(true)?;
            let udp = super::udp(ns, at.ip(), *port)?;
            udp.set_read_timeout(Some(TICK))?;
            let (one, other) = (Arc::clone(&shared), Arc::clone(&shared));
            thread::spawn(move || accept(&one, &tcp));
            thread::spawn(move || echo(&other, &udp));
        }
        Ok(Doors { shared })
    }

    /// Connections and datagrams that came.
    pub fn heard(&self) -> u64 {
        self.shared.heard.load(Ordering::Relaxed)
    }
}

impl Drop for Doors {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
    }
}

fn accept(shared: &Arc<Shared>, listener: &TcpListener) {
    while !shared.stop.load(Ordering::Relaxed) {
        match listener.accept() {
            Ok((stream, _)) => {
                shared.heard.fetch_add(1, Ordering::Relaxed);
                let shared = Arc::clone(shared);
                thread::spawn(move || serve(&shared, stream));
            }
            Err(_) => thread::sleep(TICK / 4),
        }
    }
}

fn serve(shared: &Shared, mut stream: TcpStream) {
    let ready = (stream.set_nonblocking(false)).and_then(|()| stream.set_read_timeout(Some(TICK)));
    if ready.is_err() {
        return;
    }
    let mut buffer = [0; 64];
    while !shared.stop.load(Ordering::Relaxed) {
        match stream.read(&mut buffer) {
            Ok(0) => return,
            Ok(len) => {
                let sent = stream.write_all(buffer.get(..len).unwrap_or_default());
                if sent.is_err() {
                    return;
                }
            }
            Err(e) if matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
            Err(_) => return,
        }
    }
}

fn echo(shared: &Shared, socket: &UdpSocket) {
    let mut buffer = [0; 64];
    while !shared.stop.load(Ordering::Relaxed) {
        if let Ok((len, from)) = socket.recv_from(&mut buffer) {
            shared.heard.fetch_add(1, Ordering::Relaxed);
            // The one who asked may be closed to us; that is what is tested.
            let _ = socket.send_to(buffer.get(..len).unwrap_or_default(), from);
        }
    }
}

/// A connection that is kept open, and says whether it still carries anything.
#[derive(Debug)]
pub struct Line(TcpStream);

impl Line {
    /// Connects, if that is answered in time.
    ///
    /// # Errors
    /// When it is not.
    pub fn open(from: &Netns, to: SocketAddr, patience: Duration) -> Result<Line> {
        let stream = from.run(|| Ok(TcpStream::connect_timeout(&to, patience)?));
        let stream = stream.with_context(|| format!("connect from {} to {to}", from.name()))?;
        stream.set_nodelay(true)?;
        Ok(Line(stream))
    }

    /// Whether a word comes back in time.
    ///
    /// # Errors
    /// When a time-out cannot be set.
    pub fn carries(&mut self, patience: Duration) -> Result<bool> {
        self.0.set_read_timeout(Some(patience))?;
        let mut answer = [0];
        Ok(self.0.write_all(b"?").is_ok() && self.0.read_exact(&mut answer).is_ok())
    }
}

/// Sends datagrams to one place as fast as it can, whether there is a way or not.
#[derive(Debug)]
pub struct Spray {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

impl Spray {
    /// Starts it.
    ///
    /// # Errors
    /// When a socket cannot be made.
    pub fn start(from: &Netns, to: SocketAddr) -> Result<Spray> {
        let socket = super::udp(from, unspecified(to), 0)?;
        let shared = Arc::new(Shared::default());
        let of_thread = Arc::clone(&shared);
        let thread = thread::spawn(move || {
            while !of_thread.stop.load(Ordering::Relaxed) {
                // Without an address or a route there is nothing to send, and that may change.
                if socket.send_to(b"x", to).is_ok() {
                    of_thread.heard.fetch_add(1, Ordering::Relaxed);
                }
            }
        });
        Ok(Spray {
            shared,
            thread: Some(thread),
        })
    }

    /// Datagrams that went out of the socket.
    pub fn sent(&self) -> u64 {
        self.shared.heard.load(Ordering::Relaxed)
    }

    /// Ends it.
    ///
    /// # Errors
    /// When its thread panicked.
    pub fn end(mut self) -> Result<()> {
        self.shared.stop.store(true, Ordering::Relaxed);
        let thread = self.thread.take().context("it was ended already")?;
        (thread.join()).map_err(|_| anyhow!("the thread of a spray panicked"))
    }
}

impl Drop for Spray {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
    }
}

fn unspecified(to: SocketAddr) -> IpAddr {
    match to.is_ipv6() {
        true => Ipv6Addr::UNSPECIFIED.into(),
        false => Ipv4Addr::UNSPECIFIED.into(),
    }
}

/// Knocks by TCP.
///
/// # Errors
/// When the namespace cannot be entered.
pub fn tcp(from: &Netns, to: SocketAddr, patience: Duration) -> Result<Outcome> {
    from.run(|| {
        Ok(match TcpStream::connect_timeout(&to, patience) {
            Ok(stream) => match Line(stream).carries(patience)? {
                true => Outcome::Answered,
                false => Outcome::Silent,
            },
            Err(e) if e.kind() == ErrorKind::ConnectionRefused => Outcome::Refused,
            Err(_) => Outcome::Silent,
        })
    })
}

/// Knocks by UDP, once.
///
/// # Errors
/// When a socket cannot be made.
pub fn udp(from: &Netns, to: SocketAddr, patience: Duration) -> Result<Outcome> {
    let socket = super::udp(from, unspecified(to), 0)?;
    socket.set_read_timeout(Some(patience))?;
    let mut answer = [0; 8];
    let asked = socket.connect(to).and_then(|()| socket.send(b"?"));
    Ok(match asked.and_then(|_| socket.recv(&mut answer)) {
        Ok(_) => Outcome::Answered,
        Err(e) if e.kind() == ErrorKind::ConnectionRefused => Outcome::Refused,
        Err(_) => Outcome::Silent,
    })
}
