//! The two implementations of the device, and which one this host has.

use std::path::PathBuf;

use model::marks;
use serde::Deserialize;
use wireguard::control::{DeviceState, SetRequest};
use wireguard::kernel::{Kernel, KernelError};
use wireguard::uapi::{self, UapiError};

use super::{TunnelBackend, TunnelError};

/// Which implementation.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Choice {
    /// The kernel's where it is there, else a process that serves the device at the start.
    #[default]
    Auto,
    /// The kernel's.
    Kernel,
    /// A process that serves the device.
    Userspace,
}

/// The backend that is chosen and there.
///
/// # Errors
/// When the kernel cannot be asked.
pub fn choose(choice: Choice) -> Result<Option<Box<dyn TunnelBackend>>, TunnelError> {
    let userspace = UserspaceBackend::default();
    if choice == Choice::Userspace {
        return Ok(Some(Box::new(userspace)));
    }
    if let Some(kernel) = Kernel::open()? {
        return Ok(Some(Box::new(KernelBackend(kernel))));
    }
    let served = choice == Choice::Auto && uapi::client::get(&userspace.socket).is_ok();
    Ok(served.then(|| Box::new(userspace) as Box<dyn TunnelBackend>))
}

/// The kernel's device.
struct KernelBackend(Kernel);

/// The link is none of WireGuard, as when a process served it before.
fn is_another(e: &KernelError) -> bool {
    e.errno() == Some(libc::EOPNOTSUPP)
}

impl TunnelBackend for KernelBackend {
    fn observe(&mut self) -> Result<Option<DeviceState>, TunnelError> {
        match self.0.get(marks::WIREGUARD) {
            Ok(state) => Ok(Some(state)),
            Err(e) if e.errno() == Some(libc::ENODEV) || is_another(&e) => Ok(None),
            Err(e) => Err(e.into()),
        }
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

/// A process in userspace, which makes the device when it starts.
#[derive(Debug)]
pub struct UserspaceBackend {
    /// Where it is configured.
    pub socket: PathBuf,
}

impl Default for UserspaceBackend {
    fn default() -> Self {
        UserspaceBackend {
            socket: PathBuf::from(uapi::RUN_DIR).join(format!("{}.sock", marks::WIREGUARD)),
        }
    }
}

impl TunnelBackend for UserspaceBackend {
    fn observe(&mut self) -> Result<Option<DeviceState>, TunnelError> {
        match uapi::client::get(&self.socket) {
            Ok(state) => Ok(Some(state)),
            // Nobody listens there: it is `apply` that says so, when something is wanted.
            Err(UapiError::Io { source, .. })
                if matches!(
                    source.kind(),
                    std::io::ErrorKind::NotFound | std::io::ErrorKind::ConnectionRefused
                ) =>
            {
                Ok(None)
            }
            Err(e) => Err(e.into()),
        }
    }

    fn apply(&mut self, request: &SetRequest) -> Result<(), TunnelError> {
        Ok(uapi::client::set(&self.socket, request.clone())?)
    }
}
