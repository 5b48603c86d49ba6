//! The WireGuard of the kernel, over generic netlink.
//!
//! ```text
//!   SetRequest ─► without_removals ─► split ─► encode ─► Socket ─► kernel      (all but Socket: pure)
//!   DeviceState ◄────────────────────────────── decode ◄─ Socket ◄─
//! ```
//!
//! Kernels before 6.16 cannot take one allowed IP from a peer, only all of them, which would leave those
//! that stay without an owner for a moment. So a prefix that nobody should own moves to a peer made for
//! that, which is then removed: one step each, on every kernel.
//!
//! Everything here works in the network namespace of the thread that opened it, blocks for as long as
//! the kernel works, and needs `CAP_NET_ADMIN`.

mod attr;
mod decode;
mod encode;
mod lower;
mod socket;

use nix::libc;

pub use decode::StateDecoder;
pub use lower::PARTING;
pub use socket::Refusal;
use socket::Socket;

use crate::control::{DeviceState, SetRequest};

/// Why the kernel's WireGuard could not be asked or told.
#[derive(Debug, thiserror::Error)]
pub enum KernelError {
    /// The kernel said no.
    #[error("{operation} {object}: {refusal}")]
    Refused {
        /// What was tried.
        operation: &'static str,
        /// On which device.
        object: String,
        /// Its error number and words.
        refusal: Refusal,
    },
    /// The kernel's answer makes no sense to us.
    #[error("{operation} {object}: the kernel's answer has a wrong {field}")]
    Answer {
        /// What was tried.
        operation: &'static str,
        /// On which device.
        object: String,
        /// Where.
        field: &'static str,
    },
    /// No device can have such a name; nothing was done.
    #[error("device {0:?}: its name must have 1 to 15 bytes and none of them zero")]
    Name(String),
}

impl KernelError {
    /// Whether the same may succeed later, with nothing changed by the caller.
    pub fn is_retryable(&self) -> bool {
        match self {
            KernelError::Refused { refusal, .. } => !matches!(
                refusal.errno,
                libc::EPERM | libc::EACCES | libc::EINVAL | libc::EOPNOTSUPP | libc::EAFNOSUPPORT
            ),
            KernelError::Answer { .. } => true,
            KernelError::Name(_) => false,
        }
    }

    /// The kernel's error number, where it gave one.
    pub fn errno(&self) -> Option<i32> {
        match self {
            KernelError::Refused { refusal, .. } => Some(refusal.errno),
            _ => None,
        }
    }
}

const NLM_F_ACK: u16 = 0x4;
const NLM_F_DUMP: u16 = 0x300;
const NLM_F_EXCL: u16 = 0x200;
const NLM_F_CREATE: u16 = 0x400;
/// `GENL_ID_CTRL`: whom to ask for the numbers of families.
const GENL_ID_CTRL: u16 = 16;

/// A kernel that has WireGuard.
pub struct Kernel {
    route: Socket,
    generic: Socket,
    /// The number by which this kernel knows the family `wireguard`.
    family: u16,
}

impl Kernel {
    /// `None`: this kernel has no WireGuard, nor a module of it that it could load.
    ///
    /// # Errors
    /// When it cannot even be asked.
    pub fn open() -> Result<Option<Kernel>, KernelError> {
        let during = |refusal| refused("ask for", "the kernel's WireGuard", refusal);
        let route = Socket::open(netlink_sys::protocols::NETLINK_ROUTE).map_err(during)?;
        let mut generic = Socket::open(netlink_sys::protocols::NETLINK_GENERIC).map_err(during)?;
        // The question loads the module.
        let mut family = None;
        let asked = generic.request(GENL_ID_CTRL, NLM_F_ACK, &encode::get_family(), |answer| {
            family = decode::family(answer);
        });
        match (asked, family) {
            (Ok(()), Some(family)) => Ok(Some(Kernel {
                route,
                generic,
                family,
            })),
            (Ok(()), None) => Err(KernelError::Answer {
                operation: "ask for",
                object: "the kernel's WireGuard".to_owned(),
                field: "family",
            }),
            (Err(refusal), _) if refusal.errno == libc::ENOENT => Ok(None),
            (Err(refusal), _) => Err(during(refusal)),
        }
    }

    /// Makes the device `name`, which is down and has nothing.
    ///
    /// # Errors
    /// Also when there is a link of that name (`EEXIST`).
    pub fn create(&mut self, name: &str) -> Result<(), KernelError> {
        let link = encode::link(checked(name)?, true);
        let flags = NLM_F_ACK | NLM_F_CREATE | NLM_F_EXCL;
        let done = self.route.request(libc::RTM_NEWLINK, flags, &link, |_| {});
        done.map_err(|refusal| refused("create WireGuard device", name, refusal))
    }

    /// Removes the link `name`.
    ///
    /// # Errors
    /// Also when there is none (`ENODEV`).
    pub fn delete(&mut self, name: &str) -> Result<(), KernelError> {
        let link = encode::link(checked(name)?, false);
        let done = self
            .route
            .request(libc::RTM_DELLINK, NLM_F_ACK, &link, |_| {});
        done.map_err(|refusal| refused("delete WireGuard device", name, refusal))
    }

    /// What the device is now.
    ///
    /// # Errors
    /// Also when there is no such device (`ENODEV`), or the link is none of WireGuard (`EOPNOTSUPP`).
    pub fn get(&mut self, name: &str) -> Result<DeviceState, KernelError> {
        const OPERATION: &str = "read WireGuard device";
        let request = encode::get_device(checked(name)?);
        let flags = NLM_F_ACK | NLM_F_DUMP;
        let decoder = self
            .generic
            .dump(self.family, flags, &request, StateDecoder::message);
        decoder
            .map_err(|refusal| refused(OPERATION, name, refusal))?
            .finish()
            .map_err(|field| KernelError::Answer {
                operation: OPERATION,
                object: name.to_owned(),
                field,
            })
    }

    /// Carries out a request. Allowed IPs that it takes away must be owned by the peer it names, as
    /// those of a plan are.
    ///
    /// # Errors
    /// The kernel works through a long request in parts: those before the one it refuses are done.
    pub fn set(&mut self, name: &str, request: &SetRequest) -> Result<(), KernelError> {
        let name = checked(name)?;
        for part in lower::split(&lower::without_removals(request)) {
            let message = encode::set_device(name, &part);
            let done = self
                .generic
                .request(self.family, NLM_F_ACK, &message, |_| {});
            done.map_err(|refusal| refused("configure WireGuard device", name, refusal))?;
        }
        Ok(())
    }
}

impl std::fmt::Debug for Kernel {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Kernel")
            .field("family", &self.family)
            .finish_non_exhaustive()
    }
}

fn checked(name: &str) -> Result<&str, KernelError> {
    match name.len() {
        1..=15 if !name.contains('\0') => Ok(name),
        _ => Err(KernelError::Name(name.to_owned())),
    }
}

fn refused(operation: &'static str, object: &str, refusal: Refusal) -> KernelError {
    KernelError::Refused {
        operation,
        object: object.to_owned(),
        refusal,
    }
}
