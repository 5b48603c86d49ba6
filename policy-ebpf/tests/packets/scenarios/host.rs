//! The host: at the end of a workload, and as an endpoint of its own.

use crate::frame::{ACK, Path, SYN, TCP};
use crate::world::{HOST, Judge, OWN4, OWN6, close, into, out};
use policy_common::endpoint::{FailsafeKey, setting};
use policy_common::reason::Reason;

use super::https;

pub fn the_host_reaches_its_workload(j: &mut impl Judge) {
    j.change(close);
    for (own, host) in [(OWN4, "10.1.1.1"), (OWN6, "fd00:1::1")] {
        let path = Path::new(host, 40_000, own, 8080);
        j.passes(&into(&path.tcp(SYN)).of_host());
        j.passes(&out(&path.back().tcp(SYN | ACK)).for_the_host());
        j.passes(&into(&Path::new(host, 0, own, 0).echo(true, 1)).of_host());
        j.passes(&out(&Path::new(own, 0, host, 0).echo(false, 1)).for_the_host());
        // Under way already, and nothing of IP's business.
        j.passes(&into(&Path::new(host, 1, own, 2).tcp(ACK)).of_host());
        j.drops(
            Reason::Policy,
            &into(&Path::new(host, 3, own, 8080).tcp(SYN)),
        );
    }
    j.change(close);
    j.passes(&out(&Path::new(OWN4, 8080, "10.1.1.1", 40_000).tcp(ACK)).for_the_host());
}

pub fn the_host_is_reached_by_setting(j: &mut impl Judge) {
    let path = https(OWN4, "10.1.1.1");
    j.drops(Reason::EndpointToHost, &out(&path.tcp(SYN)).for_the_host());
    j.change(|m| m.settings.flags |= setting::ENDPOINT_TO_HOST);
    j.passes(&out(&path.tcp(SYN)).for_the_host());
    j.passes(&into(&path.back().tcp(SYN | ACK)).of_host());
    j.drops(
        Reason::Policy,
        &out(&Path::new(OWN4, 1, "10.1.1.1", 22).tcp(SYN)).for_the_host(),
    );
    j.change(|m| {
        m.settings.flags = 0;
        m.settings.world += 1;
    });
    j.drops(Reason::Policy, &out(&path.tcp(ACK)).for_the_host());
}

pub fn failsafe_ports_stay_open(j: &mut impl Judge) {
    let host = "10.1.1.1";
    let arrives = |packet: &[u8]| into(packet).turned().on(HOST).for_the_host();
    let leaves = |packet: &[u8]| out(packet).turned().on(HOST).of_host();
    let ssh = Path::new("10.2.2.2", 40_000, host, 22);
    j.drops(Reason::Policy, &arrives(&ssh.tcp(SYN)));
    j.change(|m| {
        let key = |outbound, protocol, port| FailsafeKey {
            outbound,
            protocol,
            port,
        };
        m.failsafe = vec![key(0, TCP, 22), key(1, TCP, 2379)];
    });
    j.passes(&arrives(&ssh.tcp(SYN)));
    j.passes(&leaves(&ssh.back().tcp(SYN | ACK)));
    // One that is older than all policy, and speaks first.
    let old = Path::new("10.2.2.3", 40_000, host, 22);
    j.passes(&leaves(&old.back().tcp(ACK)));
    j.passes(&arrives(&old.tcp(ACK)));
    let store = Path::new(host, 40_000, "10.2.2.4", 2379);
    j.passes(&leaves(&store.tcp(SYN)));
    j.passes(&arrives(&store.back().tcp(SYN | ACK)));
    // Not the other way round.
    j.drops(
        Reason::Policy,
        &leaves(&Path::new(host, 40_000, "10.2.2.4", 22).tcp(SYN)),
    );
    j.drops(
        Reason::Policy,
        &arrives(&Path::new("10.2.2.4", 22, host, 2379).tcp(SYN)),
    );
    // A closed port is cut, an open one is not, whatever policy says.
    j.change(|m| {
        m.failsafe.remove(0);
        m.settings.world += 1;
    });
    j.drops(Reason::Policy, &arrives(&ssh.tcp(ACK)));
    j.passes(&leaves(&store.tcp(ACK)));
}

pub fn what_is_forwarded_is_no_business_of_the_host(j: &mut impl Judge) {
    let path = Path::new("10.2.2.2", 40_000, OWN4, 22);
    let mut arrives = into(&path.tcp(ACK)).turned().on(HOST);
    j.passes(&arrives);
    arrives.for_host = true;
    j.drops(Reason::OutOfState, &arrives);
    let mut leaves = out(&path.back().tcp(ACK)).turned().on(HOST);
    j.passes(&leaves);
    leaves.came_from = 0;
    j.drops(Reason::OutOfState, &leaves);
    assert_eq!(j.connections(), 0);
}
