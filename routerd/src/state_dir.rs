//! What the daemon keeps on its own disk: a lock, and who it is.

use std::fs::{File, OpenOptions};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use nix::fcntl::{Flock, FlockArg};

use crate::tunnel::rotation::KeyFiles;

/// The state directory, held by this process alone.
#[derive(Debug)]
pub struct StateDir {
    path: PathBuf,
    /// Released by the kernel when the process ends, however it ends.
    _lock: Flock<File>,
}

/// Why the state directory cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum StateDirError {
    /// Another daemon has it.
    #[error("state_dir {}: another routerd runs with it: stop that one, or give this one its own state_dir", .0.display())]
    Busy(PathBuf),
    /// It cannot be made, read or written.
    #[error("state_dir {}: {source}", path.display())]
    Io {
        /// The file or directory.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
}

impl StateDir {
    /// Makes the directory (mode 0700) and locks it.
    pub fn open(path: &Path) -> Result<StateDir, StateDirError> {
        use std::os::unix::fs::DirBuilderExt;
        let io = |source| StateDirError::Io {
            path: path.to_owned(),
            source,
        };
        std::fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(path)
            .map_err(io)?;
        let file = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .open(path.join("lock"))
            .map_err(io)?;
        match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            Ok(lock) => Ok(StateDir {
                path: path.to_owned(),
                _lock: lock,
            }),
            Err((_, nix::errno::Errno::EWOULDBLOCK)) => Err(StateDirError::Busy(path.to_owned())),
            Err((_, e)) => Err(io(e.into())),
        }
    }

    /// The embedded store.
    pub fn store(&self) -> PathBuf {
        self.path.join("store.redb")
    }

    /// The private keys of the encrypted tunnel.
    pub fn wireguard_keys(&self) -> KeyFiles {
        KeyFiles {
            current: self.path.join("wireguard.key"),
            next: self.path.join("wireguard.next"),
            old: self.path.join("wireguard.old"),
            seed: self.path.join("wireguard.seed"),
        }
    }

    /// What the kernel switches were before we changed them.
    pub fn switches(&self) -> PathBuf {
        self.path.join("switches.json")
    }

    /// In which boot of the host BGP ran last.
    pub fn bgp(&self) -> PathBuf {
        self.path.join("bgp")
    }

    /// How many nodes and blocks were known when the daemon ran last.
    pub fn guarded(&self) -> Guarded {
        Guarded {
            path: self.path.join("guarded"),
            last: 0,
        }
    }

    /// An id that this state directory keeps for ever: a restarted daemon is the same node, another
    /// host with the same name is not.
    pub fn instance_id(&self) -> Result<String, StateDirError> {
        let path = self.path.join("instance");
        let io = |source| StateDirError::Io {
            path: path.clone(),
            source,
        };
        match std::fs::read_to_string(&path) {
            Ok(id) if !id.trim().is_empty() => return Ok(id.trim().to_owned()),
            Ok(_) => {}
            Err(e) if e.kind() == ErrorKind::NotFound => {}
            Err(e) => return Err(io(e)),
        }
        let id = crate::random::token();
        write_durably(&path, id.as_bytes()).map_err(io)?;
        Ok(id)
    }
}

/// Remembers how many nodes and blocks were known, so that a store found empty after a restart is
/// noticed.
#[derive(Debug)]
pub struct Guarded {
    path: PathBuf,
    last: usize,
}

impl Guarded {
    /// The number last written; 0 when none was.
    pub fn read(&self) -> usize {
        std::fs::read_to_string(&self.path)
            .ok()
            .and_then(|n| n.trim().parse().ok())
            .unwrap_or(0)
    }

    /// Writes the number when it differs by a tenth: it is compared by shares.
    pub fn write(&mut self, number: usize) {
        if number.abs_diff(self.last) <= self.last / 10 && self.last > 0 {
            return;
        }
        match write_durably(&self.path, number.to_string().as_bytes()) {
            Ok(()) => self.last = number,
            Err(e) => tracing::warn!(file = %self.path.display(), error = %e, "not written"),
        }
    }
}

/// Writes a file so that after a crash it holds the old content or the new, never half of one. Only
/// root reads it, also while it is written: it may be a key.
pub fn write_durably(path: &Path, content: &[u8]) -> std::io::Result<()> {
    use std::io::Write;
    use std::os::unix::fs::OpenOptionsExt;
    let temporary = path.with_extension("tmp");
    // Of a daemon that died; it may have another mode.
    match std::fs::remove_file(&temporary) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => return Err(e),
        _ => {}
    }
    let mut file = File::options()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&temporary)?;
    file.write_all(content)?;
    file.sync_all()?;
    std::fs::rename(&temporary, path)?;
    sync_dir(path)
}

/// Makes a change of the directory that a file is in last.
pub fn sync_dir(path: &Path) -> std::io::Result<()> {
    match path.parent() {
        Some(dir) => File::open(dir)?.sync_all(),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_daemon_a_directory_and_one_id_for_ever() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("state");
        let first = StateDir::open(&path).unwrap();
        let id = first.instance_id().unwrap();
        assert!(matches!(StateDir::open(&path), Err(StateDirError::Busy(_))));
        drop(first);
        assert_eq!(StateDir::open(&path).unwrap().instance_id().unwrap(), id);
    }
}
