//! TCP throughput by iperf3, and the round trip by a ball of our own.

use std::net::{IpAddr, SocketAddr};
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use super::super::{Netns, wait};

const PORT: u16 = 5201;
const PING_PORT: u16 = 7009;

/// TCP throughput from one namespace to an address in another, bits a second.
///
/// # Errors
/// When iperf3 fails.
pub fn throughput(from: &Netns, to: &Netns, ip: IpAddr, time: Duration) -> Result<f64> {
    let report = iperf(from, to, ip, &format!("-t {} -O 1", time.as_secs().max(1)))?;
    received(&report, "bits_per_second")
}

/// What a transfer came to.
#[derive(Clone, Copy, Debug)]
pub struct Transfer {
    /// Bits a second.
    pub rate: f64,
    /// Bytes received, from the first on.
    pub bytes: f64,
}

/// TCP by CUBIC over some streams at once, from one namespace to an address in another.
///
/// # Errors
/// When iperf3 fails.
pub fn transfer(
    from: &Netns,
    to: &Netns,
    ip: IpAddr,
    streams: usize,
    time: Duration,
) -> Result<Transfer> {
    let args = format!("-C cubic -P {streams} -t {}", time.as_secs().max(1));
    let report = iperf(from, to, ip, &args)?;
    Ok(Transfer {
        rate: received(&report, "bits_per_second")?,
        bytes: received(&report, "bytes")?,
    })
}

fn iperf(from: &Netns, to: &Netns, ip: IpAddr, args: &str) -> Result<Value> {
    let mut server = to
        .command("iperf3")
        .args(["--server", "--one-off", "--bind", &ip.to_string()])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .context("run iperf3: `make setup` installs it")?;
    let outcome = listening(to).and_then(|()| {
        let out = from.output("iperf3", &format!("-c {ip} -J {args}"))?;
        serde_json::from_str(&out).with_context(|| format!("iperf3 printed {out}"))
    });
    // It has ended by itself unless the client failed.
    let _ = server.kill();
    let _ = server.wait();
    outcome
}

fn received(report: &Value, what: &str) -> Result<f64> {
    let number = report
        .pointer("/end/sum_received")
        .and_then(|s| s.get(what));
    let number = number.and_then(Value::as_f64);
    number.with_context(|| format!("iperf3 gave no {what}: {report}"))
}

fn listening(ns: &Netns) -> Result<()> {
    wait("iperf3 to listen", Duration::from_secs(5), || {
        let sockets = ns.output("ss", &format!("-Hltn sport = {PORT}"))?;
        ensure!(!sockets.trim().is_empty(), "nothing listens on port {PORT}");
        Ok(())
    })
}

/// Round-trip times of `count` UDP packets, one after the other, sorted.
///
/// # Errors
/// When a packet does not come back within a second.
pub fn round_trips(
    from: (&Netns, IpAddr),
    to: (&Netns, IpAddr),
    count: usize,
) -> Result<Vec<Duration>> {
    let near = super::udp(from.0, from.1, PING_PORT)?;
    let far = super::udp(to.0, to.1, PING_PORT)?;
    let second = Some(Duration::from_secs(1));
    near.set_read_timeout(second)?;
    far.set_read_timeout(second)?;
    std::thread::scope(|scope| {
        let echo = scope.spawn(move || -> Result<()> {
            let mut buffer = [0; 64];
            for _ in 0..count {
                let (len, back) = far.recv_from(&mut buffer)?;
                far.send_to(buffer.get(..len).unwrap_or_default(), back)?;
            }
            Ok(())
        });
        let mut times = Vec::with_capacity(count);
        let mut buffer = [0; 64];
        for _ in 0..count {
            let start = Instant::now();
            near.send_to(&[0; 56], SocketAddr::new(to.1, PING_PORT))?;
            near.recv_from(&mut buffer)
                .context("a packet did not come back")?;
            times.push(start.elapsed());
        }
        echo.join()
            .map_err(|_| anyhow::anyhow!("the echo thread panicked"))??;
        times.sort_unstable();
        Ok(times)
    })
}
