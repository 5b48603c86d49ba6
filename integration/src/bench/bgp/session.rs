//! A speaker that does nothing but say what was prepared and count what it hears: its own speed is not what is
//! measured.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::sync::mpsc::{self, Receiver};
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use crate::lab::Netns;

/// Who is measured.
pub(super) const SUBJECT: Ipv4Addr = Ipv4Addr::new(10, 99, 0, 1);
const OPEN: u8 = 1;
const UPDATE: u8 = 2;
const KEEPALIVE: u8 = 4;
const HEADER: usize = 19;
/// Whoever announces says nothing more once all is said.
const HOLD_SECONDS: u16 = 240;
/// Who listens lets itself be heard this often.
const KEEPALIVE_EVERY: Duration = Duration::from_secs(10);

/// A message.
pub(super) fn message(kind: u8, body: &[u8]) -> Vec<u8> {
    let len = u16::try_from(HEADER + body.len()).unwrap_or(u16::MAX);
    let mut out = vec![0xff; 16];
    out.extend(len.to_be_bytes());
    out.push(kind);
    out.extend(body);
    out
}

/// An UPDATE.
pub(super) fn update(body: &[u8]) -> Vec<u8> {
    message(UPDATE, body)
}

/// A session that is Established.
///
/// # Errors
/// When the other side does not listen yet, or does not want it.
pub(super) fn open(ns: &Netns, us: Ipv4Addr, asn: u32) -> Result<TcpStream> {
    let to = SocketAddr::from((SUBJECT, 179));
    let connect = || {
        use socket2::{Domain, Socket, Type};
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
        socket.bind(&SocketAddr::from((us, 0)).into())?;
        socket.connect_timeout(&to.into(), Duration::from_secs(1))?;
        Ok(TcpStream::from(socket))
    };
    let mut stream = ns.run(connect)?;
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    // Version, AS, hold time, router id; IPv4 unicast (RFC 4760) and four-byte AS numbers (RFC 6793).
    let mut body = vec![4];
    body.extend(u16::try_from(asn)?.to_be_bytes());
    body.extend(HOLD_SECONDS.to_be_bytes());
    body.extend(us.octets());
    body.extend([14, 2, 12, 1, 4, 0, 1, 0, 1, 65, 4]);
    body.extend(asn.to_be_bytes());
    stream.write_all(&message(OPEN, &body))?;
    stream.write_all(&message(KEEPALIVE, &[]))?;
    // Until its KEEPALIVE.
    loop {
        let mut head = [0; HEADER];
        stream.read_exact(&mut head).context("no OPEN")?;
        let len = usize::from(u16::from_be_bytes([head[16], head[17]]));
        let mut body = vec![0; len.saturating_sub(HEADER)];
        stream.read_exact(&mut body)?;
        ensure!(matches!(head[18], OPEN | KEEPALIVE), "it says {body:?}");
        if head[18] == KEEPALIVE {
            stream.set_read_timeout(None)?;
            return Ok(stream);
        }
    }
}

/// Prefixes heard so far.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Heard {
    pub(super) announced: usize,
    pub(super) withdrawn: usize,
}

/// Counts what a session is told, on a thread of its own that says so after each read.
///
/// # Errors
/// When there are no descriptors left.
pub(super) fn listen(mut stream: TcpStream) -> Result<Receiver<Heard>> {
    let mut alive = stream.try_clone()?;
    std::thread::spawn(move || {
        // Ends with the session.
        while alive.write_all(&message(KEEPALIVE, &[])).is_ok() {
            std::thread::sleep(KEEPALIVE_EVERY);
        }
    });
    let (sender, heard) = mpsc::channel();
    std::thread::spawn(move || {
        let mut count = Heard::default();
        let mut buffer = vec![0; 1 << 20];
        let mut filled = 0;
        // Ends with the session, or with who wants to know.
        while let Ok(got @ 1..) = stream.read(buffer.get_mut(filled..).unwrap_or_default()) {
            filled += got;
            let used = count.take(buffer.get(..filled).unwrap_or_default());
            buffer.copy_within(used..filled, 0);
            filled -= used;
            if sender.send(count).is_err() {
                return;
            }
        }
    });
    Ok(heard)
}

impl Heard {
    /// Counts whole messages; the bytes that they take.
    fn take(&mut self, stream: &[u8]) -> usize {
        let mut used = 0;
        while let Some((message, kind)) = first(stream.get(used..).unwrap_or_default()) {
            used += HEADER + message.len();
            if kind == UPDATE {
                let (withdrawn, rest) = field(message);
                let (_, announced) = field(rest);
                self.withdrawn += prefixes(withdrawn);
                self.announced += prefixes(announced);
            }
        }
        used
    }
}

/// Body and type of the first message, when it is there whole.
fn first(stream: &[u8]) -> Option<(&[u8], u8)> {
    let (head, rest) = stream.split_first_chunk::<HEADER>()?;
    let len = usize::from(u16::from_be_bytes([head[16], head[17]]));
    Some((rest.get(..len.checked_sub(HEADER)?)?, head[18]))
}

/// A field with its length before it, and what follows.
fn field(bytes: &[u8]) -> (&[u8], &[u8]) {
    let Some((len, rest)) = bytes.split_first_chunk::<2>() else {
        return (&[], &[]);
    };
    rest.split_at_checked(usize::from(u16::from_be_bytes(*len)))
        .unwrap_or_default()
}

fn prefixes(mut bytes: &[u8]) -> usize {
    let mut count = 0;
    while let Some((len, rest)) = bytes.split_first() {
        count += 1;
        bytes = rest.get(usize::from(len.div_ceil(8))..).unwrap_or_default();
    }
    count
}
