//! Takes everything of ours out of the kernel.

use std::collections::BTreeMap;

use model::kernel::{KernelState, LinkName, Op};
use netlink::plan::sysctl_link;
use netlink::{Error, Kernel, plan};

/// Deletes every object of ours and puts back the kernel switches that were changed.
///
/// `switches` are the original values by path below `/proc/sys`, as kept by [`super::Host::keep_switch`]; those of
/// links that are gone are left out. All is tried; the errors of what failed are given back.
pub fn cleanup<K: Kernel>(
    kernel: &mut K,
    switches: &BTreeMap<String, String>,
) -> Result<(), Vec<Error>> {
    let observed = kernel.observe().map_err(|e| vec![e])?;
    let mut ops = plan(&KernelState::default(), &observed).ops;
    let deleted: Vec<LinkName> = (ops.iter())
        .filter_map(|op| match op {
            Op::DeleteLink(l) => Some(*l),
            _ => None,
        })
        .collect();
    let remains = |path: &str| match sysctl_link(path) {
        Some(link) => observed.links.contains_key(&link) && !deleted.contains(&link),
        None => true,
    };
    let back = switches.iter().filter(|(path, _)| remains(path));
    ops.extend(back.map(|(path, value)| Op::SetSysctl(path.clone(), value.clone())));
    let errors: Vec<_> = (kernel.apply(&ops).into_iter())
        .filter_map(Result::err)
        .collect();
    if errors.is_empty() {
        Ok(())
    } else {
        Err(errors)
    }
}
