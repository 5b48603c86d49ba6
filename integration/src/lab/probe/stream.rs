//! A steady stream of numbered packets between two workloads, echoed, with every loss counted.

use std::fmt;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Result, anyhow};

use super::super::{Netns, Workload};

const PORT: u16 = 7008;
/// How long a receiver waits before it looks whether it should stop.
const TICK: Duration = Duration::from_millis(20);
/// How long stragglers are waited for after the last packet was sent.
const DRAIN: Duration = Duration::from_secs(1);

/// A running stream.
#[derive(Debug)]
pub struct Stream {
    shared: Arc<Shared>,
    name: String,
    sender: Option<JoinHandle<u64>>,
    echo: Option<JoinHandle<u64>>,
    back: Option<JoinHandle<(u64, Duration)>>,
}

#[derive(Debug, Default)]
struct Shared {
    stop_sending: AtomicBool,
    stop: AtomicBool,
    sent: AtomicU64,
    returned: AtomicU64,
}

/// What a stream measured.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// Between whom.
    pub name: String,
    /// Packets sent.
    pub sent: u64,
    /// Of these, never seen at the far end.
    pub lost_there: u64,
    /// Echoes that did not come back.
    pub lost_back: u64,
    /// Longest time without an echo.
    pub longest_gap: Duration,
}

impl Report {
    /// Packets lost in either direction.
    pub fn lost(&self) -> u64 {
        self.lost_there + self.lost_back
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}: {} packets sent, {} lost there, {} lost on the way back, longest gap {:.1} ms",
            self.name,
            self.sent,
            self.lost_there,
            self.lost_back,
            self.longest_gap.as_secs_f64() * 1e3
        )
    }
}

impl Stream {
    /// Starts `rate` packets a second from `a` to `b`, in one family.
    ///
    /// # Errors
    /// When a workload has no such address or a socket cannot be made.
    pub fn start(a: &Workload, b: &Workload, v6: bool, rate: u32) -> Result<Stream> {
        let name = format!(
            "{} -> {} ({})",
            a.name,
            b.name,
            if v6 { "IPv6" } else { "IPv4" }
        );
        Stream::between(&name, (&a.ns, a.ip(v6)?), (&b.ns, b.ip(v6)?), rate)
    }

    /// The same between any two hosts, each by its namespace and its address.
    ///
    /// # Errors
    /// When a socket cannot be made.
    pub fn between(
        name: &str,
        (ns_a, ip_a): (&Netns, IpAddr),
        (ns_b, ip_b): (&Netns, IpAddr),
        rate: u32,
    ) -> Result<Stream> {
        let near = super::udp(ns_a, ip_a, PORT)?;
        let far = super::udp(ns_b, ip_b, PORT)?;
        near.set_read_timeout(Some(TICK))?;
        far.set_read_timeout(Some(TICK))?;
        let shared = Arc::new(Shared::default());
        let to = SocketAddr::new(ip_b, PORT);
        let out = near.try_clone()?;
        Ok(Stream {
            name: name.to_owned(),
            sender: Some(spawn(&shared, move |s| send(s, &out, to, rate))),
            echo: Some(spawn(&shared, move |s| echo(s, &far))),
            back: Some(spawn(&shared, move |s| count_back(s, &near))),
            shared,
        })
    }

    /// Echoes that came back so far.
    pub fn returned(&self) -> u64 {
        self.shared.returned.load(Ordering::Relaxed)
    }

    /// Counts while the stream runs: packets sent, and echoes that came back.
    pub fn counter(&self) -> impl Fn() -> (u64, u64) + Send + Sync + use<> {
        let shared = Arc::clone(&self.shared);
        move || {
            let returned = shared.returned.load(Ordering::Relaxed);
            (shared.sent.load(Ordering::Relaxed), returned)
        }
    }

    /// Ends the stream after the last packet had time to come back.
    ///
    /// # Errors
    /// When a thread of it panicked.
    pub fn stop(mut self) -> Result<Report> {
        self.shared.stop_sending.store(true, Ordering::Relaxed);
        let sent = joined(self.sender.take())?;
        // Out of patience is no error here: what is still out is what is counted as lost.
        let _ = super::super::wait_until("the last echo", DRAIN, || Ok(self.returned() >= sent));
        self.shared.stop.store(true, Ordering::Relaxed);
        let arrived = joined(self.echo.take())?;
        let (returned, longest_gap) = joined(self.back.take())?;
        Ok(Report {
            name: std::mem::take(&mut self.name),
            sent,
            lost_there: sent.saturating_sub(arrived),
            lost_back: arrived.saturating_sub(returned),
            longest_gap,
        })
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        self.shared.stop_sending.store(true, Ordering::Relaxed);
        self.shared.stop.store(true, Ordering::Relaxed);
    }
}

fn spawn<T: Send + 'static>(
    shared: &Arc<Shared>,
    body: impl FnOnce(&Shared) -> T + Send + 'static,
) -> JoinHandle<T> {
    let shared = Arc::clone(shared);
    std::thread::spawn(move || body(&shared))
}

fn joined<T>(handle: Option<JoinHandle<T>>) -> Result<T> {
    let handle = handle.ok_or_else(|| anyhow!("the stream was stopped already"))?;
    handle
        .join()
        .map_err(|_| anyhow!("a thread of the stream panicked"))
}

fn send(shared: &Shared, socket: &UdpSocket, to: SocketAddr, rate: u32) -> u64 {
    let interval = Duration::from_secs(1) / rate.max(1);
    let mut due = Instant::now();
    let mut seq = 0u64;
    while !shared.stop_sending.load(Ordering::Relaxed) {
        // A send that fails is a packet lost; it is counted by not arriving.
        let _ = socket.send_to(&seq.to_be_bytes(), to);
        seq += 1;
        shared.sent.store(seq, Ordering::Relaxed);
        due += interval;
        std::thread::sleep(due.saturating_duration_since(Instant::now()));
    }
    seq
}

fn echo(shared: &Shared, socket: &UdpSocket) -> u64 {
    let mut seen = Seen::default();
    let mut buffer = [0; 64];
    while !shared.stop.load(Ordering::Relaxed) {
        let Ok((len, from)) = socket.recv_from(&mut buffer) else {
            continue;
        };
        if let Some(message) = buffer.get(..len)
            && seen.first_time(message)
        {
            let _ = socket.send_to(message, from);
        }
    }
    seen.count
}

fn count_back(shared: &Shared, socket: &UdpSocket) -> (u64, Duration) {
    let mut seen = Seen::default();
    let mut buffer = [0; 64];
    let mut last: Option<Instant> = None;
    let mut longest = Duration::ZERO;
    while !shared.stop.load(Ordering::Relaxed) {
        let Ok((len, _)) = socket.recv_from(&mut buffer) else {
            // Silence after the last packet is no gap, also while stragglers are waited for.
            if let Some(last) = last
                && !shared.stop_sending.load(Ordering::Relaxed)
                && seen.count < shared.sent.load(Ordering::Relaxed)
            {
                longest = longest.max(last.elapsed());
            }
            continue;
        };
        let now = Instant::now();
        if let Some(last) = last {
            longest = longest.max(now - last);
        }
        last = Some(now);
        if buffer.get(..len).is_some_and(|m| seen.first_time(m)) {
            shared.returned.store(seen.count, Ordering::Relaxed);
        }
    }
    (seen.count, longest)
}

/// Which numbers came; a packet doubled on the way must not hide one that was lost.
#[derive(Default)]
struct Seen {
    words: Vec<u64>,
    count: u64,
}

impl Seen {
    fn first_time(&mut self, message: &[u8]) -> bool {
        let Ok(bytes) = message.try_into() else {
            return false;
        };
        let seq = u64::from_be_bytes(bytes);
        let Ok(word) = usize::try_from(seq / 64) else {
            return false;
        };
        if word >= self.words.len() {
            self.words.resize(word + 1, 0);
        }
        let Some(slot) = self.words.get_mut(word) else {
            return false;
        };
        let bit = 1u64 << (seq % 64);
        let new = *slot & bit == 0;
        *slot |= bit;
        self.count += u64::from(new);
        new
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_doubled_packet_counts_once() {
        let mut seen = Seen::default();
        assert!(seen.first_time(&7u64.to_be_bytes()));
        assert!(!seen.first_time(&7u64.to_be_bytes()));
        assert!(seen.first_time(&700u64.to_be_bytes()));
        assert!(!seen.first_time(b"short"));
        assert_eq!(seen.count, 2);
    }
}
