//! Traffic between two workloads, by threads that stay on processors that are said: what is measured is the way
//! between them, and not where the scheduler puts them.

use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::available_parallelism;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail};
use nix::libc;
use nix::sched::{CpuSet, sched_setaffinity};
use nix::sys::socket::{setsockopt, sockopt};
use nix::sys::time::TimeVal;
use nix::unistd::Pid;

use crate::lab::Netns;

const PORT: u16 = 7010;
/// Windows and the sizes of segments have grown by then.
const WARM: Duration = Duration::from_millis(100);
/// Nothing here takes so long.
const PATIENCE: Duration = Duration::from_secs(2);

/// Who sends, and who answers at which address.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ends<'a> {
    pub(super) from: &'a Netns,
    pub(super) to: &'a Netns,
    pub(super) ip: IpAddr,
}

/// Where both ends are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Processors {
    /// Together on the first.
    One,
    /// Each on its own.
    Two,
}

impl Processors {
    fn of_server(self) -> usize {
        let last = available_parallelism().map_or(0, |n| n.get() - 1);
        match self {
            Processors::One => 0,
            Processors::Two => last.min(1),
        }
    }
}

fn stay_on(processor: usize) -> Result<()> {
    let mut set = CpuSet::new();
    set.set(processor)?;
    sched_setaffinity(Pid::from_raw(0), &set).context("stay on a processor")
}

impl Ends<'_> {
    fn place(&self) -> SocketAddr {
        SocketAddr::new(self.ip, PORT)
    }

    /// Runs both ends, each in its namespace and on its processor. The server ends by itself, at the latest when
    /// nothing has come for [`PATIENCE`].
    fn run<T: Send>(
        &self,
        processors: Processors,
        server: impl FnOnce() -> Result<()> + Send,
        client: impl FnOnce() -> Result<T> + Send,
    ) -> Result<T> {
        std::thread::scope(|scope| {
            let serving = scope.spawn(|| {
                stay_on(processors.of_server())?;
                server()
            });
            let measured = self.from.run(|| {
                stay_on(0)?;
                client()
            });
            let served = serving.join().map_err(|_| anyhow!("the server panicked"))?;
            let measured = measured?;
            served.context("the server")?;
            Ok(measured)
        })
    }

    fn listener(&self) -> Result<TcpListener> {
        let any = SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), PORT);
        let listener = self.to.run(|| Ok(TcpListener::bind(any)?))?;
        let patience = TimeVal::new(PATIENCE.as_secs().try_into()?, 0);
        // Of a listener it is how long it waits for the next.
        setsockopt(&listener, sockopt::ReceiveTimeout, &patience)?;
        Ok(listener)
    }

    /// Bits a second of one TCP connection.
    pub(super) fn stream(&self, processors: Processors, time: Duration) -> Result<f64> {
        let listener = self.listener()?;
        let received = AtomicU64::new(0);
        let server = || -> Result<()> {
            let (mut stream, _) = listener.accept()?;
            stream.set_read_timeout(Some(PATIENCE))?;
            let mut buffer = vec![0; 1 << 18];
            loop {
                match stream.read(&mut buffer)? {
                    0 => return Ok(()),
                    length => received.fetch_add(length as u64, Ordering::Relaxed),
                };
            }
        };
        self.run(processors, server, || {
            let mut stream = TcpStream::connect_timeout(&self.place(), PATIENCE)?;
            stream.set_write_timeout(Some(PATIENCE))?;
            let buffer = vec![0; 1 << 17];
            let mut send_for = |time| -> Result<f64> {
                let (start, before) = (Instant::now(), received.load(Ordering::Relaxed));
                while start.elapsed() < time {
                    stream.write_all(&buffer)?;
                }
                let bytes = received.load(Ordering::Relaxed) - before;
                Ok(number(bytes) * 8.0 / start.elapsed().as_secs_f64())
            };
            send_for(WARM)?;
            send_for(time)
        })
    }

    /// Round trips of UDP a second, one after the other.
    pub(super) fn round_trips(&self, processors: Processors, time: Duration) -> Result<f64> {
        let far = (self.to).run(|| Ok(UdpSocket::bind(self.place())?))?;
        far.set_read_timeout(Some(PATIENCE))?;
        let server = || -> Result<()> {
            let mut buffer = [0; 64];
            loop {
                let (length, back) = far.recv_from(&mut buffer)?;
                if length == 0 {
                    return Ok(());
                }
                far.send_to(buffer.get(..length).unwrap_or_default(), back)?;
            }
        };
        self.run(processors, server, || {
            let near = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
            near.connect(self.place())?;
            near.set_read_timeout(Some(PATIENCE))?;
            let mut buffer = [0; 64];
            let mut trip = || -> Result<()> {
                near.send(&[0; 56])?;
                near.recv(&mut buffer).context("no answer")?;
                Ok(())
            };
            let counted = count_for(time, &mut trip);
            near.send(&[])?;
            counted
        })
    }

    /// Connections of TCP a second, one after the other: made, a byte there and a byte back, reset.
    ///
    /// Without the byte nothing holds the client back: it fills the queue of connections that wait to be accepted,
    /// and what the kernel drops then is sent again after a second.
    pub(super) fn connections(&self, time: Duration) -> Result<f64> {
        let listener = self.listener()?;
        let stop = AtomicBool::new(false);
        let server = || -> Result<()> {
            loop {
                let (mut stream, _) = listener.accept()?;
                if stop.load(Ordering::Relaxed) {
                    return Ok(());
                }
                let mut byte = [0];
                stream.read_exact(&mut byte)?;
                stream.write_all(&byte)?;
                // The client resets it.
                match stream.read(&mut byte) {
                    Err(e) if e.kind() == ErrorKind::ConnectionReset => {}
                    other => bail!("a connection ended by {other:?}"),
                }
            }
        };
        self.run(Processors::Two, server, || {
            let mut dial = || -> Result<()> {
                let mut stream = TcpStream::connect_timeout(&self.place(), PATIENCE)?;
                // Reset: a port that waits cannot be used again for a minute.
                let reset = libc::linger {
                    l_onoff: 1,
                    l_linger: 0,
                };
                setsockopt(&stream, sockopt::Linger, &reset)?;
                stream.write_all(&[0])?;
                stream.read_exact(&mut [0])?;
                Ok(())
            };
            let counted = count_for(time, &mut dial);
            stop.store(true, Ordering::Relaxed);
            TcpStream::connect_timeout(&self.place(), PATIENCE).context("the last connection")?;
            counted
        })
    }
}

/// How often a second it can be done.
fn count_for(time: Duration, action: &mut impl FnMut() -> Result<()>) -> Result<f64> {
    let (start, mut count) = (Instant::now(), 0);
    while start.elapsed() < time {
        action()?;
        count += 1;
    }
    Ok(number(count) / start.elapsed().as_secs_f64())
}

#[expect(
    clippy::cast_precision_loss,
    reason = "billions, of which nobody misses one"
)]
fn number(count: u64) -> f64 {
    count as f64
}
