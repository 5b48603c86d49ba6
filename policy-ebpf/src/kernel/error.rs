//! What can go wrong with programs and maps.

use std::io;
use std::path::PathBuf;

use aya::EbpfError;
use aya::maps::MapError;
use aya::programs::ProgramError;

/// Why the kernel does not have what it was to have.
#[derive(Debug, thiserror::Error)]
pub enum KernelError {
    /// The programs were not there when this was built.
    #[error("built without the policy programs: run `make bpf`, then build again")]
    NoObject,
    /// Nothing can be pinned in that directory.
    #[error("{} is not on a BPF file system: set bpf_dir to a directory below /sys/fs/bpf", .0.display())]
    NotBpf(PathBuf),
    /// The object does not have what the loader looks for.
    #[error("the policy programs have no `{0}`: run `make bpf`, then build again")]
    NoSuchPart(&'static str),
    /// The maps were not created.
    #[error("load the policy programs: {0}")]
    Load(#[from] EbpfError),
    /// A program was not accepted.
    #[error("load the policy program `{program}`: {source}")]
    Program {
        /// Which one.
        program: &'static str,
        /// What the kernel or the library says.
        source: Box<ProgramError>,
    },
    /// A program was not put to an interface, or taken away.
    #[error("attach policy to interface {interface}: {message}")]
    Attach {
        /// Its name.
        interface: String,
        /// What the kernel or the library says.
        message: String,
    },
    /// The kernel did not say which filters there are.
    #[error("look for the policy programs at an interface: {0}")]
    Filters(#[source] io::Error),
    /// A map is full.
    #[error("the policy map {map} is full: raise its size")]
    Full {
        /// Which one.
        map: &'static str,
    },
    /// A map was not read or written.
    #[error("{operation} the policy map {map}: {source}")]
    Map {
        /// What was tried.
        operation: &'static str,
        /// Which one.
        map: &'static str,
        /// What the kernel says.
        source: io::Error,
    },
    /// The ring of events is not one.
    #[error("open the policy map EVENTS: {0}")]
    Events(#[from] MapError),
    /// A file below the BPF file system.
    #[error("{operation} {path}: {source}")]
    Pin {
        /// What was tried.
        operation: &'static str,
        /// On what.
        path: PathBuf,
        /// What the kernel says.
        source: io::Error,
    },
    /// A test run of a program.
    #[error("run a policy program on a test frame: {0}")]
    Run(io::Error),
}

impl KernelError {
    /// Whether the same may work later without anybody doing something.
    pub fn is_retryable(&self) -> bool {
        match self {
            KernelError::Map { source, .. }
            | KernelError::Pin { source, .. }
            | KernelError::Filters(source)
            | KernelError::Run(source) => matches!(
                source.raw_os_error(),
                Some(libc::EAGAIN | libc::EBUSY | libc::EINTR | libc::ENOMEM)
            ),
            _ => false,
        }
    }
}
