//! A tunnel in userspace from the command line, for trying things out and for measuring.
//!
//! ```text
//! tunnel INTERFACE PORT PRIVATE-KEY-FILE [PEER-KEY ENDPOINT|- PREFIX[,PREFIX…]]…
//! ```
//! Makes the interface if it is not there; addresses, routes and bringing it up are for `ip`. Runs until
//! it is killed. `WG_QUEUES`: queues, one by default; `WG_MTU`: longest inner packet, 1420 by
//! default; `WG_ENGINE=ring`: the portable cipher.

use anyhow::{Context, Result};
use wireguard::PeerConfig;
use wireguard::aead::EngineChoice;
use wireguard::device::DeviceConfig;
use wireguard::userspace::{Queue, Sockets, Tun, TunOptions, Tunnel};

fn main() -> Result<()> {
    let mut args = std::env::args().skip(1);
    let mut next = |what: &str| args.next().with_context(|| format!("missing: {what}"));
    let (name, port, file) = (next("INTERFACE")?, next("PORT")?, next("PRIVATE-KEY-FILE")?);
    let key = std::fs::read_to_string(&file).with_context(|| format!("read {file}"))?;
    let queues: usize = setting("WG_QUEUES")?.unwrap_or(1);
    let mtu: u16 = setting("WG_MTU")?.unwrap_or(1420);

    let options = TunOptions {
        name,
        persistent: false,
        multi_queue: queues > 1,
    };
    let sockets = Sockets::open(port.parse().context("PORT")?, queues)?;
    let queues = sockets.into_iter().map(|sockets| {
        let tun = Tun::open(&options).with_context(|| format!("open {}", options.name))?;
        Ok(Queue { tun, sockets })
    });
    let mut config = DeviceConfig::new(key.trim().parse()?);
    if std::env::var("WG_ENGINE").is_ok_and(|engine| engine == "ring") {
        config.engine = EngineChoice::Ring;
    }
    let queues = queues.collect::<Result<Vec<Queue>>>()?;
    let tunnel = Tunnel::start(config, queues, |event| println!("{event:?}"))?;
    while let Ok(key) = next("PEER-KEY") {
        let (endpoint, prefixes) = (next("ENDPOINT")?, next("PREFIX")?);
        let mut peer = PeerConfig::new(key.parse()?);
        peer.mtu = mtu;
        if endpoint != "-" {
            peer.endpoint = Some(endpoint.parse().context("ENDPOINT")?);
        }
        let id = tunnel.set_peer(peer)?;
        let prefixes = prefixes.split(',').map(|p| Ok((p.parse()?, Some(id))));
        tunnel.set_allowed_ips(prefixes.collect::<Result<_>>()?)?;
    }
    println!("ready");
    loop {
        std::thread::park();
    }
}

fn setting<T: std::str::FromStr>(name: &str) -> Result<Option<T>>
where
    T::Err: std::error::Error + Send + Sync + 'static,
{
    let value = std::env::var(name).ok();
    value
        .map(|v| v.parse().with_context(|| name.to_owned()))
        .transpose()
}
