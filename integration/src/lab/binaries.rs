//! Where the programs under test are.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

/// Finds a binary of the workspace beside the running test, or in `ROUTERD_BIN_DIR`.
///
/// # Errors
/// When it was not built.
pub fn find(name: &str) -> Result<PathBuf> {
    if let Some(dir) = std::env::var_os("ROUTERD_BIN_DIR") {
        let path = Path::new(&dir).join(name);
        if path.is_file() {
            return Ok(path);
        }
        bail!(
            "{} is missing: ROUTERD_BIN_DIR must hold the binaries",
            path.display()
        );
    }
    let me = std::env::current_exe().context("find my own path")?;
    // A test is target/PROFILE/deps/NAME-HASH, a binary target/PROFILE/NAME.
    me.ancestors()
        .skip(1)
        .take(2)
        .map(|dir| dir.join(name))
        .find(|path| path.is_file())
        .with_context(|| {
            format!(
                "{name} is not beside {}: run `cargo build --workspace` first",
                me.display()
            )
        })
}

/// Finds a program of the system.
///
/// # Errors
/// When it is not installed.
pub fn system(name: &str) -> Result<PathBuf> {
    std::env::var("PATH")
        .unwrap_or_default()
        .split(':')
        .chain(["/usr/sbin", "/sbin"])
        .map(|dir| Path::new(dir).join(name))
        .find(|path| path.is_file())
        .with_context(|| format!("{name} is not installed: run `make setup`"))
}

/// Where Debian and Ubuntu put the reference CNI plugins.
pub const REFERENCE_PLUGINS: &str = "/usr/lib/cni";

/// Finds a reference CNI plugin: never on the `PATH`, where `bridge` is another program.
///
/// # Errors
/// When it is not installed.
pub fn reference_plugin(name: &str) -> Result<PathBuf> {
    let path = Path::new(REFERENCE_PLUGINS).join(name);
    if !path.is_file() {
        bail!("{} is not installed: run `make setup`", path.display());
    }
    Ok(path)
}
