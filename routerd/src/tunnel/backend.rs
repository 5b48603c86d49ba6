//! The two implementations of the device, and which one this host has.

use model::marks;
use serde::Deserialize;
use wireguard::control::{DeviceState, SetRequest};
use wireguard::kernel::{Kernel, KernelError};

use super::holder::Holder;
use super::{TunnelBackend, TunnelError};

/// Which implementation.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Choice {
    /// The kernel's where it is there, else our own in userspace.
    #[default]
    Auto,
    /// The kernel's.
    Kernel,
    /// Our own, a process that serves the device.
    Userspace,
}

/// The backend that is chosen and there. `json`: how a process that it starts logs.
///
/// # Errors
/// When the kernel cannot be asked.
pub fn choose(choice: Choice, json: bool) -> Result<Option<Box<dyn TunnelBackend>>, TunnelError> {
    if choice != Choice::Userspace
        && let Some(kernel) = Kernel::open()?
    {
        return Ok(Some(Box::new(KernelBackend(kernel))));
    }
    let holder = Holder::new(json);
    let ours = choice != Choice::Kernel && holder.is_possible();
    Ok(ours.then(|| Box::new(holder) as Box<dyn TunnelBackend>))
}

/// The kernel's device.
struct KernelBackend(Kernel);

/// The link is none of WireGuard, as when a process served it before.
fn is_another(e: &KernelError) -> bool {
    e.errno() == Some(libc::EOPNOTSUPP)
}

impl TunnelBackend for KernelBackend {
    fn prepare(&mut self, _port: u16, _fwmark: u32) -> Result<Option<DeviceState>, TunnelError> {
        self.observe()
    }

    fn observe(&mut self) -> Result<Option<DeviceState>, TunnelError> {
        match self.0.get(marks::WIREGUARD) {
            Ok(state) => Ok(Some(state)),
            Err(e) if e.errno() == Some(libc::ENODEV) || is_another(&e) => Ok(None),
            Err(e) => Err(e.into()),
        }
    }

    fn has_single_keys(&self) -> bool {
        true
    }

    fn apply(&mut self, request: &SetRequest) -> Result<(), TunnelError> {
        let kernel = &mut self.0;
        match kernel.set(marks::WIREGUARD, request) {
            Err(e) if is_another(&e) => kernel.delete(marks::WIREGUARD)?,
            Err(e) if e.errno() == Some(libc::ENODEV) => {}
            done => return Ok(done?),
        }
        kernel.create(marks::WIREGUARD)?;
        Ok(kernel.set(marks::WIREGUARD, request)?)
    }
}
