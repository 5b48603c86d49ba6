//! This node's key pair: made here, kept in one file that only root reads, and never shown.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use wireguard::keys::{KeyError, PrivateKey};
use wireguard::postquantum::kem::{KemKey, SEED_LEN};
use wireguard::userspace::{KernelEntropy, random_key};
use zeroize::Zeroizing;

use crate::state_dir::write_durably;

/// Why there is no key.
#[derive(Debug, thiserror::Error)]
pub enum KeyFileError {
    /// The file holds something else. What it holds is not shown.
    #[error("{}: {source}, or delete the file and start routerd: it makes a new one", path.display())]
    Content {
        /// The file.
        path: PathBuf,
        /// What it should hold.
        source: KeyError,
    },
    /// The file holds no seed.
    #[error("{}: it has not {SEED_LEN} bytes: put the right file back, or delete it and start routerd: it makes a new one", .0.display())]
    Seed(PathBuf),
    /// It cannot be read or written.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
}

impl KeyFileError {
    pub(super) fn io(path: &Path, source: std::io::Error) -> KeyFileError {
        let path = path.to_owned();
        KeyFileError::Io { path, source }
    }
}

/// The key in the file at `path`, which is made with a fresh one when it does not exist.
///
/// # Errors
/// A file that holds no key is left as it is: peers may still know the key that it should hold.
pub fn load_or_make(path: &Path) -> Result<PrivateKey, KeyFileError> {
    match load(path)? {
        Some(key) => Ok(key),
        None => {
            let key = make_at(path)?;
            tracing::info!(file = %path.display(), public = %key.public(), "made a WireGuard key");
            Ok(key)
        }
    }
}

/// The key in the file at `path`; `None`: there is no such file.
///
/// # Errors
/// When it cannot be read or holds no key.
pub fn load(path: &Path) -> Result<Option<PrivateKey>, KeyFileError> {
    match std::fs::read_to_string(path).map(Zeroizing::new) {
        Ok(text) => match text.trim().parse() {
            Ok(key) => Ok(Some(key)),
            Err(source) => Err(KeyFileError::Content {
                path: path.to_owned(),
                source,
            }),
        },
        Err(e) if e.kind() == ErrorKind::NotFound => Ok(None),
        Err(e) => Err(KeyFileError::io(path, e)),
    }
}

/// Makes a key and keeps it in the file at `path`.
///
/// # Errors
/// When it cannot be written.
pub fn make_at(path: &Path) -> Result<PrivateKey, KeyFileError> {
    let make = || -> std::io::Result<PrivateKey> {
        let key = random_key()?;
        write_durably(path, key.expose_base64().as_bytes())?;
        Ok(key)
    };
    make().map_err(|e| KeyFileError::io(path, e))
}

/// What an ML-KEM key pair follows from.
pub type Seed = Zeroizing<[u8; SEED_LEN]>;

/// The seed in the file at `path`, which is made with a fresh one when it does not exist.
///
/// # Errors
/// A file that holds no seed is left as it is.
pub fn load_or_make_seed(path: &Path) -> Result<Seed, KeyFileError> {
    match std::fs::read(path).map(Zeroizing::new) {
        Ok(bytes) => match <[u8; SEED_LEN]>::try_from(&bytes[..]) {
            Ok(seed) => Ok(Zeroizing::new(seed)),
            Err(_) => Err(KeyFileError::Seed(path.to_owned())),
        },
        Err(e) if e.kind() == ErrorKind::NotFound => make_seed_at(path),
        Err(e) => Err(KeyFileError::io(path, e)),
    }
}

/// Makes a seed and keeps it in the file at `path`, in the place of one that may be there.
///
/// # Errors
/// When it cannot be written.
pub fn make_seed_at(path: &Path) -> Result<Seed, KeyFileError> {
    let make = || -> std::io::Result<Seed> {
        let seed = KemKey::seed(&mut KernelEntropy::new()?);
        write_durably(path, &*seed)?;
        Ok(seed)
    };
    make().map_err(|e| KeyFileError::io(path, e))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use wireguard::keys::KEY_LEN;

    use super::*;

    #[test]
    fn a_key_is_made_once_and_only_root_reads_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("wireguard.key");
        // A half-written one of a daemon that died.
        std::fs::write(path.with_extension("tmp"), "x").unwrap();
        let key = load_or_make(&path).unwrap();
        assert_ne!(key, PrivateKey::new([0; KEY_LEN]));
        let mode = std::fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
        assert_eq!(load_or_make(&path).unwrap(), key);

        let path = dir.path().join("wireguard.seed");
        let seed = load_or_make_seed(&path).unwrap();
        let mode = std::fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        assert_eq!(load_or_make_seed(&path).unwrap(), seed);
        assert_ne!(make_seed_at(&path).unwrap(), seed);
        std::fs::write(&path, [1; 63]).unwrap();
        let e = load_or_make_seed(&path).unwrap_err().to_string();
        assert!(
            e.contains("wireguard.seed") && e.contains("64 bytes"),
            "{e}"
        );

        let other = dir.path().join("other.key");
        assert_ne!(load_or_make(&other).unwrap(), key);
        std::fs::write(&other, "not a key of mine\n").unwrap();
        let e = load_or_make(&other).unwrap_err().to_string();
        assert!(
            e.contains("other.key") && e.contains("delete the file"),
            "{e}"
        );
        assert!(!e.contains("of mine"), "{e}");
        assert_eq!(
            std::fs::read_to_string(&other).unwrap(),
            "not a key of mine\n"
        );
    }
}
