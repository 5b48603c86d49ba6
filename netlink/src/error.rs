//! What can go wrong, with the operation, the object and the kernel's own words.

use std::io;

use nix::errno::Errno;

/// Why something could not be read from or written to the kernel.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The kernel said no.
    #[error("{operation} {object}: {refusal}")]
    Kernel {
        /// What was tried, such as `add`.
        operation: &'static str,
        /// On what, such as `route 10.0.0.0/26 via 192.0.2.7 dev eth0`.
        object: String,
        /// Its answer.
        refusal: Refusal,
    },
    /// The kernel's answer makes no sense to us.
    #[error("{operation} {object}: {message}")]
    Reply {
        /// What was tried.
        operation: &'static str,
        /// On what.
        object: String,
        /// What is odd about the answer.
        message: String,
    },
    /// The caller asked for something that cannot be; nothing was changed.
    #[error("{object}: {message}")]
    Invalid {
        /// The object and field.
        object: String,
        /// What is wrong and the mend.
        message: String,
    },
}

/// An error number with the text the kernel added to it, if any.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// `errno`, positive.
    pub errno: i32,
    /// The kernel's explanation (`NLMSGERR_ATTR_MSG`).
    pub text: Option<String>,
}

impl std::fmt::Display for Refusal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let errno = Errno::from_raw(self.errno);
        write!(f, "{} ({errno:?})", errno.desc())?;
        match &self.text {
            Some(text) => write!(f, ": {text}"),
            None => Ok(()),
        }
    }
}

impl Refusal {
    /// An error number without explanation.
    pub fn errno(errno: i32) -> Refusal {
        Refusal { errno, text: None }
    }

    /// Says what was tried and on what.
    pub fn during(self, operation: &'static str, object: impl Into<String>) -> Error {
        Error::Kernel {
            operation,
            object: object.into(),
            refusal: self,
        }
    }
}

impl From<io::Error> for Refusal {
    fn from(e: io::Error) -> Refusal {
        match e.raw_os_error() {
            Some(errno) => Refusal::errno(errno),
            None => Refusal {
                errno: libc::EIO,
                text: Some(e.to_string()),
            },
        }
    }
}

impl From<Errno> for Refusal {
    fn from(e: Errno) -> Refusal {
        Refusal::errno(e as i32)
    }
}

impl Error {
    /// The kernel's error number, where it gave one.
    pub fn errno(&self) -> Option<i32> {
        match self {
            Error::Kernel { refusal, .. } => Some(refusal.errno),
            _ => None,
        }
    }

    /// Whether the same operation may succeed later, with nothing changed by the caller.
    ///
    /// False for what the kernel cannot or may not do at all.
    pub fn is_retryable(&self) -> bool {
        match self {
            Error::Kernel { refusal, .. } => !matches!(
                refusal.errno,
                libc::EPERM
                    | libc::EACCES
                    | libc::EINVAL
                    | libc::EOPNOTSUPP
                    | libc::EAFNOSUPPORT
                    | libc::EPROTONOSUPPORT
                    | libc::ERANGE
                    | libc::ENAMETOOLONG
            ),
            Error::Reply { .. } => true,
            Error::Invalid { .. } => false,
        }
    }
}
