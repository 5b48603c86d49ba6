//! A BPF file system of its own for each host, as `/sys/fs/bpf` is on a real one.

use std::path::PathBuf;

use anyhow::{Context, Result};
use nix::mount::{MntFlags, MsFlags, mount, umount2};

/// Mounted as long as this lives; what is pinned there ends with it.
#[derive(Debug)]
pub(super) struct BpfFs {
    path: PathBuf,
}

impl BpfFs {
    /// Mounts one at a directory.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub(super) fn mount(path: PathBuf) -> Result<BpfFs> {
        let bpf = Some(c"bpf");
        mount(bpf, &path, bpf, MsFlags::empty(), None::<&str>)
            .with_context(|| format!("mount a BPF file system at {}", path.display()))?;
        Ok(BpfFs { path })
    }
}

impl Drop for BpfFs {
    fn drop(&mut self) {
        // The sweep finds what is left here.
        let _ = umount2(&self.path, MntFlags::MNT_DETACH);
    }
}
