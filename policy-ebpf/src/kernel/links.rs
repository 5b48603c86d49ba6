//! Links of TCX (Linux 6.6): named by the number of their interface, and ended with their name.

use std::fs;
use std::io;
use std::os::fd::AsFd;
use std::path::Path;

use aya::programs::links::{FdLink, PinnedLink};
use aya::programs::tc::{SchedClassifierLink, TcAttachOptions};
use aya::programs::{LinkOrder, SchedClassifier, TcAttachType};
use aya::util::KernelVersion;

use super::hooks::{Hook, Place};
use super::sys;

/// Whether the kernel has them.
pub(super) fn are_there() -> bool {
    KernelVersion::current().is_ok_and(|v| v.code() >= KernelVersion::new(6, 6, 0).code())
}

/// Puts a program to a hook, before those of others, or in the place of the one of a link of ours.
pub(super) fn attach(
    program: &mut SchedClassifier,
    place: &Place<'_>,
    hook: Hook,
    pin: &Path,
) -> Result<(), Box<dyn std::error::Error>> {
    if let Ok(old) = PinnedLink::from_pin(pin) {
        // The number may have been another interface's before.
        if ifindex_of(pin)? == place.ifindex {
            let link = SchedClassifierLink::try_from(FdLink::from(old))?;
            let id = program.attach_to_link(link)?;
            // The pin keeps it.
            drop(FdLink::try_from(program.take_link(id)?)?);
            return Ok(());
        }
        fs::remove_file(pin)?;
    }
    let order = TcAttachOptions::TcxOrder(LinkOrder::first());
    let id = program.attach_with_options(place.interface, attach_type(hook), order)?;
    FdLink::try_from(program.take_link(id)?)?.pin(pin)?;
    Ok(())
}

/// The interface of a link that has a name.
///
/// # Errors
/// There is no such link.
pub(super) fn ifindex_of(pin: &Path) -> io::Result<u32> {
    Ok(sys::link_info(sys::open(pin)?.as_fd())?.ifindex)
}

fn attach_type(hook: Hook) -> TcAttachType {
    match hook {
        Hook::FromWire => TcAttachType::Ingress,
        Hook::ToWire => TcAttachType::Egress,
    }
}
