//! What holds a program to an interface: a filter of clsact at a workload's, a link of TCX at a host's.
//!
//! Making a link waits for a grace period of RCU while nobody else can change interfaces, 10 to 20 ms: an ADD that
//! waits for two of them, behind those of others, is late. Interfaces of hosts have time, and there a link goes before
//! the programs of others. Where the kernel has but one of the two, that one is taken.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use aya::programs::{ProgramError, SchedClassifier};
use nix::net::if_::if_indextoname;

use super::error::KernelError;
use super::{filters, links};

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
}

/// What holds a program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Holder {
    /// Ends with its name.
    Link,
    /// Ends with its interface; its program has the name that a link would have, so that whoever cleans up finds it.
    Filter,
}

impl Holder {
    const BOTH: [Holder; 2] = [Holder::Link, Holder::Filter];

    /// Behind the name of a link.
    fn suffix(self) -> &'static str {
        match self {
            Holder::Link => "",
            Holder::Filter => "-filter",
        }
    }
}

/// An interface, and where names are.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place<'a> {
    pub(super) directory: &'a Path,
    pub(super) interface: &'a str,
    pub(super) ifindex: u32,
}

impl Place<'_> {
    /// The name of what holds a program.
    fn pin(&self, hook: Hook, holder: Holder) -> PathBuf {
        let (ifindex, program, suffix) = (self.ifindex, hook.program(), holder.suffix());
        (self.directory).join(format!("{ifindex}-{program}{suffix}"))
    }

    fn failed(&self, error: &dyn std::error::Error) -> KernelError {
        let mut message = error.to_string();
        let mut source = error.source();
        while let Some(cause) = source {
            message = format!("{message}: {cause}");
            source = cause.source();
        }
        KernelError::Attach {
            interface: self.interface.to_owned(),
            message,
        }
    }
}

/// What [`Place::pin`] wrote.
fn read_name(name: &str) -> Option<(u32, Hook, Holder)> {
    let (ifindex, rest) = name.split_once('-')?;
    let hook = (Hook::BOTH.into_iter()).find(|h| rest.starts_with(h.program()))?;
    let suffix = rest.strip_prefix(hook.program())?;
    let holder = (Holder::BOTH.into_iter()).find(|h| h.suffix() == suffix)?;
    Some((ifindex.parse().ok()?, hook, holder))
}

/// Puts programs to their hooks, in this order, in the place of ours that are there already.
pub(super) fn attach(
    programs: &mut [(Hook, &mut SchedClassifier)],
    place: &Place<'_>,
    wanted: Holder,
) -> Result<(), KernelError> {
    let taken = match wanted {
        Holder::Filter if attach_filters(programs, place)? => Holder::Filter,
        Holder::Link if !links::are_there() && attach_filters(programs, place)? => Holder::Filter,
        _ => {
            for (hook, program) in programs.iter_mut() {
                let pin = place.pin(*hook, Holder::Link);
                links::attach(program, place, *hook, &pin).map_err(|e| place.failed(&*e))?;
            }
            Holder::Link
        }
    };
    // An earlier process may have held them otherwise; two would both judge.
    let other = match taken {
        Holder::Link => Holder::Filter,
        Holder::Filter => Holder::Link,
    };
    (Hook::BOTH.into_iter()).try_for_each(|hook| release(place, hook, other))
}

/// `false` where the kernel has links, and no filters.
fn attach_filters(
    programs: &mut [(Hook, &mut SchedClassifier)],
    place: &Place<'_>,
) -> Result<bool, KernelError> {
    let fds: Result<Vec<_>, ProgramError> = programs
        .iter()
        .map(|(hook, program)| Ok((*hook, program.fd()?.as_fd())))
        .collect();
    let fds = fds.map_err(|e| place.failed(&e))?;
    match filters::attach(place.ifindex, &fds) {
        Err(e) if e.raw_os_error() == Some(libc::ENOENT) && links::are_there() => return Ok(false),
        result => result.map_err(|e| place.failed(&e))?,
    }
    for (hook, program) in programs {
        let pin = place.pin(*hook, Holder::Filter);
        remove(&pin)?;
        program.pin(&pin).map_err(|e| place.failed(&e))?;
    }
    Ok(true)
}

/// Whether a program is at a hook. A link that somebody ended has its name still, and no interface.
///
/// # Errors
/// The kernel does not say which filters there are.
pub(super) fn is_there(place: &Place<'_>, hook: Hook) -> io::Result<bool> {
    match links::ifindex_of(&place.pin(hook, Holder::Link)) {
        Ok(at) if at == place.ifindex => Ok(true),
        _ => filters::is_there(place.ifindex, hook),
    }
}

/// Takes the programs away from an interface. One that is gone has taken them along.
pub(super) fn detach(place: &Place<'_>) -> Result<(), KernelError> {
    for hook in Hook::BOTH {
        for holder in Holder::BOTH {
            release(place, hook, holder)?;
        }
    }
    Ok(())
}

fn release(place: &Place<'_>, hook: Hook, holder: Holder) -> Result<(), KernelError> {
    let pin = place.pin(hook, holder);
    if holder == Holder::Filter && pin.exists() {
        filters::detach(place.ifindex, hook).map_err(|e| place.failed(&e))?;
    }
    remove(&pin)
}

/// Removes a name, if it is there.
fn remove(pin: &Path) -> Result<(), KernelError> {
    match fs::remove_file(pin) {
        Err(source) if source.kind() != io::ErrorKind::NotFound => Err(KernelError::Pin {
            operation: "remove",
            path: pin.to_owned(),
            source,
        }),
        _ => Ok(()),
    }
}

/// Ends what holds programs at other interfaces than these.
pub(super) fn end_others(
    directory: &Path,
    attached: &BTreeMap<u32, String>,
) -> Result<(), KernelError> {
    let Ok(entries) = fs::read_dir(directory) else {
        return Ok(());
    };
    for entry in entries.flatten() {
        let name = entry.file_name();
        let Some((ifindex, hook, holder)) = name.to_str().and_then(read_name) else {
            continue;
        };
        if !attached.contains_key(&ifindex) {
            let interface = if_indextoname(ifindex).unwrap_or_default();
            let place = Place {
                directory,
                interface: &interface.to_string_lossy(),
                ifindex,
            };
            release(&place, hook, holder)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_as_they_were_written() {
        for hook in Hook::BOTH {
            for holder in Holder::BOTH {
                let place = Place {
                    directory: Path::new("/links"),
                    interface: "w0",
                    ifindex: 17,
                };
                let pin = place.pin(hook, holder);
                let name = pin.file_name().and_then(|n| n.to_str()).unwrap();
                assert_eq!(read_name(name), Some((17, hook, holder)));
            }
        }
        for other in ["from_wire", "7-wire", "7-from_wire-else", "x-to_wire"] {
            assert_eq!(read_name(other), None, "{other}");
        }
    }
}
