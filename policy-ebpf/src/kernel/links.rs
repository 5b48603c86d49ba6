//! What holds a program to an interface: a link of TCX, or before Linux 6.6 a filter of clsact.
//!
//! A link is pinned by the number of its interface and ends with its name. A filter is found by priority
//! and handle, which are always the same; its program has the name that a link would have.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use aya::programs::links::{FdLink, Link, PinnedLink};
use aya::programs::tc::{self, NlOptions, SchedClassifierLink, TcAttachOptions, TcError, TcHandle};
use aya::programs::{LinkOrder, ProgramError, SchedClassifier, TcAttachType};
use aya::util::KernelVersion;
use model::marks::TC_PRIORITY;
use nix::net::if_::if_indextoname;

use super::error::KernelError;
use super::sys;

/// Which way frames go at an interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Hook {
    /// What the host gets.
    FromWire,
    /// What the host puts there.
    ToWire,
}

impl Hook {
    /// Both.
    pub const BOTH: [Hook; 2] = [Hook::FromWire, Hook::ToWire];

    /// Name of the program.
    pub(super) fn program(self) -> &'static str {
        match self {
            Hook::FromWire => "from_wire",
            Hook::ToWire => "to_wire",
        }
    }

    fn attach_type(self) -> TcAttachType {
        match self {
            Hook::FromWire => TcAttachType::Ingress,
            Hook::ToWire => TcAttachType::Egress,
        }
    }
}

/// Handle of our filter.
const HANDLE: TcHandle = TcHandle::new(0, TC_PRIORITY);

/// Where a link is pinned.
pub(super) fn pin(directory: &Path, ifindex: u32, hook: Hook) -> PathBuf {
    directory.join(format!("{ifindex}-{}", hook.program()))
}

/// What [`pin`] wrote.
fn read_name(name: &str) -> Option<(u32, Hook)> {
    let (ifindex, program) = name.split_once('-')?;
    let hook = Hook::BOTH.into_iter().find(|h| h.program() == program)?;
    Some((ifindex.parse().ok()?, hook))
}

/// Puts a program to a hook, in the place of ours that is there already.
pub(super) fn attach(
    program: &mut SchedClassifier,
    interface: &str,
    ifindex: u32,
    hook: Hook,
    pin: &Path,
) -> Result<(), KernelError> {
    let result = match has_tcx() {
        true => attach_link(program, interface, ifindex, hook, pin),
        false => attach_filter(program, interface, hook, pin),
    };
    result.map_err(|e| failed(interface, &*e))
}

fn failed(interface: &str, error: &dyn std::error::Error) -> KernelError {
    let mut message = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        message = format!("{message}: {cause}");
        source = cause.source();
    }
    KernelError::Attach {
        interface: interface.to_owned(),
        message,
    }
}

type Attempt<T> = Result<T, Box<dyn std::error::Error>>;

fn has_tcx() -> bool {
    KernelVersion::current().is_ok_and(|v| v.code() >= KernelVersion::new(6, 6, 0).code())
}

fn attach_link(
    program: &mut SchedClassifier,
    interface: &str,
    ifindex: u32,
    hook: Hook,
    pin: &Path,
) -> Attempt<()> {
    if let Ok(old) = PinnedLink::from_pin(pin) {
        // The number may have been another interface's before.
        if ifindex_of(pin)? == ifindex {
            let link = SchedClassifierLink::try_from(FdLink::from(old))?;
            let id = program.attach_to_link(link)?;
            // The pin keeps it.
            drop(FdLink::try_from(program.take_link(id)?)?);
            return Ok(());
        }
        fs::remove_file(pin)?;
    }
    let order = TcAttachOptions::TcxOrder(LinkOrder::first());
    let id = program.attach_with_options(interface, hook.attach_type(), order)?;
    FdLink::try_from(program.take_link(id)?)?.pin(pin)?;
    Ok(())
}

fn ifindex_of(pin: &Path) -> io::Result<u32> {
    Ok(sys::link_info(sys::open(pin)?.as_fd())?.ifindex)
}

/// Whether a program is at a hook. A link that somebody ended has its name still, and no interface; filters of
/// clsact cannot be told from those of others, and are taken to be there.
pub(super) fn is_there(directory: &Path, ifindex: u32, hook: Hook) -> bool {
    !has_tcx() || ifindex_of(&pin(directory, ifindex, hook)).is_ok_and(|at| at == ifindex)
}

fn attach_filter(
    program: &mut SchedClassifier,
    interface: &str,
    hook: Hook,
    pin: &Path,
) -> Attempt<()> {
    match tc::qdisc_add_clsact(interface) {
        Err(TcError::NetlinkError(e)) if e.raw_os_error() == Some(libc::EEXIST) => {}
        other => other?,
    }
    let old = filter(interface, hook)?;
    let id = match program.attach_to_link(old) {
        Err(ProgramError::TcError(_)) => {
            let options = TcAttachOptions::Netlink(NlOptions {
                priority: TC_PRIORITY,
                handle: HANDLE,
                classid: None,
            });
            program.attach_with_options(interface, hook.attach_type(), options)?
        }
        other => other?,
    };
    // Otherwise it would end with this process.
    std::mem::forget(program.take_link(id)?);
    // Nothing needs this name, but who cleans up looks for it.
    let _ = fs::remove_file(pin);
    program.pin(pin)?;
    Ok(())
}

fn filter(interface: &str, hook: Hook) -> io::Result<SchedClassifierLink> {
    SchedClassifierLink::attached(interface, hook.attach_type(), TC_PRIORITY, HANDLE, None)
}

/// Takes a program away from a hook. An interface that is gone has taken it along.
pub(super) fn detach(interface: &str, hook: Hook, pin: &Path) -> Result<(), KernelError> {
    if !has_tcx()
        && let Ok(filter) = filter(interface, hook)
    {
        match Link::detach(filter) {
            Err(ProgramError::NetlinkError(e))
                if matches!(
                    e.raw_os_error(),
                    Some(libc::ENOENT | libc::ENODEV | libc::EINVAL)
                ) => {}
            other => other.map_err(|e| failed(interface, &e))?,
        }
    }
    unpin(pin)
}

fn unpin(pin: &Path) -> Result<(), KernelError> {
    match fs::remove_file(pin) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(KernelError::Pin {
            operation: "remove",
            path: pin.to_owned(),
            source: error,
        }),
        _ => Ok(()),
    }
}

/// Ends the pinned links that are not of these interfaces.
pub(super) fn end_others(
    directory: &Path,
    attached: &BTreeMap<u32, String>,
) -> Result<(), KernelError> {
    let Ok(entries) = fs::read_dir(directory) else {
        return Ok(());
    };
    for entry in entries.flatten() {
        let name = entry.file_name();
        let Some((ifindex, hook)) = name.to_str().and_then(read_name) else {
            continue;
        };
        if !attached.contains_key(&ifindex) {
            let interface = if_indextoname(ifindex).unwrap_or_default();
            detach(&interface.to_string_lossy(), hook, &entry.path())?;
        }
    }
    Ok(())
}
