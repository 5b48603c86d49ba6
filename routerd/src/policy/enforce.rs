//! What enforces policy: the kernel, behind a trait, so that the owner can be tested without.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use model::kernel::LinkName;
use model::object::ObjectId;
use nix::net::if_::if_nametoindex;
use nix::time::{ClockId, clock_gettime};
use policy_ebpf::Update;
use policy_ebpf::common::event::{Counter, CounterKey};
use policy_ebpf::kernel::{
    Counted, Enforcer, First, Interface, KernelError, Loaded, Options, Programs, Sizes,
    route_everything,
};

use super::feed::{Place, Wanted};
use super::links;
use crate::flows;

/// How long TCP may go on that is older than policy on this host.
const GRACE: Duration = Duration::from_secs(3600);
/// Events that a CPU may tell in a second.
const EVENTS: u32 = 1000;

/// What enforces policy. Errors are messages for an operator.
pub trait Enforce: Send {
    /// Writes what the compiler says.
    ///
    /// # Errors
    /// What stood before is in force then.
    fn apply(&mut self, update: &Update) -> Result<(), String>;

    /// Enforces an endpoint's policy at an interface, beside others that it has, or tells more about it. Another
    /// endpoint that was there gives way.
    ///
    /// # Errors
    /// There is no such interface, or the kernel refuses.
    fn attach(&mut self, id: &ObjectId, interface: &Interface) -> Result<(), String>;

    /// Says who is at an interface, for programs at other interfaces: nothing is enforced there yet.
    ///
    /// # Errors
    /// The kernel refuses.
    fn announce(&mut self, id: &ObjectId, interface: &Interface) -> Result<(), String>;

    /// Ends that, if the endpoint is there still. The interface may be gone.
    ///
    /// # Errors
    /// The kernel refuses.
    fn detach(&mut self, id: &ObjectId, ifindex: u32) -> Result<(), String>;

    /// Ends what a process before enforced where nothing is attached now.
    ///
    /// # Errors
    /// The kernel refuses.
    fn take_over(&mut self) -> Result<(), String>;

    /// Sets what holds for all endpoints.
    ///
    /// # Errors
    /// The kernel refuses.
    fn configure(&mut self, wanted: &Wanted) -> Result<(), String>;

    /// What is in force says about the first packet of a connection; `outbound`: the endpoint sends it.
    ///
    /// # Errors
    /// The kernel refuses to be read.
    fn judge(&self, id: &ObjectId, outbound: bool, packet: &First) -> Result<Loaded, String>;

    /// What each rule has counted, since the programs were loaded.
    ///
    /// # Errors
    /// The kernel refuses to be read.
    fn counters(&self) -> Result<BTreeMap<Counted, Counter>, String>;

    /// The words of all rules that a counter is for.
    ///
    /// # Errors
    /// The kernel refuses to be read.
    fn counted_by(&self, key: &CounterKey) -> Result<Vec<u32>, String>;

    /// The interface of a place, if there is one now.
    fn find(&self, place: &Place) -> Option<Interface>;

    /// The interfaces of the host that carry Ethernet, without the loopback one, as its own.
    fn interfaces(&self) -> Vec<Interface>;
}

/// Loads the programs, beside those of a process before, and lets flows read what they see.
///
/// # Errors
/// Why policy cannot be enforced here.
pub fn load(directory: &Path, flows: &flows::Handle) -> Result<Box<dyn Enforce>, String> {
    let options = Options {
        directory: directory.to_owned(),
        sizes: Sizes::default(),
    };
    // Who is cut off in the place of policy is so by a table that sees only what is routed.
    let programs = Programs::load(&options)
        .inspect_err(|_| route_everything(directory))
        .map_err(|e| told(&e))?;
    let is_first = programs.before.is_none();
    let mut enforcer = Enforcer::new(programs).map_err(|e| told(&e))?;
    let grace = match is_first {
        true => Duration::from(clock_gettime(ClockId::CLOCK_MONOTONIC).map_err(|e| e.to_string())?)
            .saturating_add(GRACE),
        false => Duration::ZERO,
    };
    let until = u64::try_from(grace.as_nanos()).unwrap_or(u64::MAX);
    enforcer.configure(until, EVENTS).map_err(|e| told(&e))?;
    flows.read_by(enforcer.reader().map_err(|e| told(&e))?);
    Ok(Box::new(enforcer))
}

fn told(error: &KernelError) -> String {
    error.to_string()
}

impl Enforce for Enforcer {
    fn apply(&mut self, update: &Update) -> Result<(), String> {
        Enforcer::apply(self, update).map_err(|e| told(&e))
    }

    fn attach(&mut self, id: &ObjectId, interface: &Interface) -> Result<(), String> {
        Enforcer::attach(self, id, interface).map_err(|e| told(&e))
    }

    fn announce(&mut self, id: &ObjectId, interface: &Interface) -> Result<(), String> {
        Enforcer::announce(self, id, interface).map_err(|e| told(&e))
    }

    fn detach(&mut self, id: &ObjectId, ifindex: u32) -> Result<(), String> {
        Enforcer::detach_from(self, id, ifindex).map_err(|e| told(&e))
    }

    fn take_over(&mut self) -> Result<(), String> {
        self.programs().take_over().map_err(|e| told(&e))
    }

    fn configure(&mut self, wanted: &Wanted) -> Result<(), String> {
        let [inbound, outbound] = &wanted.failsafe;
        (self.set_failsafe(inbound, outbound))
            .and_then(|()| self.allow_endpoint_to_host(wanted.endpoint_to_host))
            .and_then(|()| self.keep_connections(wanted.keep_connections))
            .and_then(|()| self.go_straight(wanted.straight))
            .map_err(|e| told(&e))
    }

    fn judge(&self, id: &ObjectId, outbound: bool, packet: &First) -> Result<Loaded, String> {
        Enforcer::judge(self, id, outbound, packet).map_err(|e| told(&e))
    }

    fn counters(&self) -> Result<BTreeMap<Counted, Counter>, String> {
        Enforcer::counters(self).map_err(|e| told(&e))
    }

    fn counted_by(&self, key: &CounterKey) -> Result<Vec<u32>, String> {
        Enforcer::counted_by(self, key).map_err(|e| told(&e))
    }

    fn find(&self, place: &Place) -> Option<Interface> {
        let name = match place.interface.as_str() {
            "" => links::with_address(&place.addresses)?,
            name => name.to_owned(),
        };
        name.parse::<LinkName>().ok()?;
        if place.host {
            return links::all().into_iter().find(|i| i.name == name);
        }
        let ifindex = if_nametoindex(name.as_str()).ok()?;
        let mtu = match place.goes_straight {
            true => policy_ebpf::kernel::mtu(ifindex).unwrap_or_default(),
            false => 0,
        };
        Some(Interface {
            name,
            ifindex,
            mac: place.mac,
            own: place.own.clone(),
            host: false,
            mtu,
        })
    }

    fn interfaces(&self) -> Vec<Interface> {
        links::of_ethernet()
    }
}
