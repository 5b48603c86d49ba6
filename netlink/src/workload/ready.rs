//! What the kernel does in its own time after it said yes. Until then it drops packets, so a
//! workload is attached only when it is done: under load that can be later than its first packet.

use std::net::{IpAddr, Ipv6Addr};
use std::thread::sleep;
use std::time::Duration;

use model::kernel::LinkName;

use super::wanted::{Object, Side};
use crate::observe;
use crate::socket::Socket;
use crate::{Error, Refusal, describe};

/// The first pause: mostly the kernel is done by then.
const PAUSE: Duration = Duration::from_micros(50);
const LONGEST_PAUSE: Duration = Duration::from_millis(2);
/// Some 5 s.
const ATTEMPTS: u32 = 2500;

/// The end that was up first passes packets: link watch has seen its carrier and activated it.
/// Since Linux 6.8 the question itself makes the kernel do that.
pub(super) fn carrier(socket: &mut Socket, name: LinkName) -> Result<(), Error> {
    await_true(format!("carrier of {}", describe::link(&name)), || {
        let found = observe::link_by_name(socket, name.as_str())?;
        Ok(found.is_some_and(|f| f.operational))
    })
}

/// The namespace of a socket takes packets to the IPv6 addresses of a side. A work queue makes
/// their local routes, also where there is no duplicate address detection to wait for.
pub(super) fn addresses(socket: &mut Socket, side: &Side) -> Result<(), Error> {
    for ip in side.objects.iter().filter_map(global_v6) {
        await_true(format!("local route of {ip} dev {}", side.link), || {
            observe::is_local(socket, ip)
        })?;
    }
    Ok(())
}

fn global_v6(object: &Object) -> Option<Ipv6Addr> {
    match object {
        Object::Address(a) => match a.ip {
            IpAddr::V6(ip) => (!ip.is_unicast_link_local()).then_some(ip),
            IpAddr::V4(_) => None,
        },
        _ => None,
    }
}

fn await_true(what: String, mut done: impl FnMut() -> Result<bool, Error>) -> Result<(), Error> {
    let mut pause = PAUSE;
    for _ in 0..ATTEMPTS {
        if done()? {
            return Ok(());
        }
        sleep(pause);
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
    Err(Refusal::errno(libc::ETIMEDOUT).during("await", what))
}
