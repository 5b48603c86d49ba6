//! Names for maps below a BPF file system, by which the next process finds them.

use std::fs;
use std::io;
use std::os::fd::AsFd;
use std::path::Path;

use aya::maps::MapData;
use nix::mount::{MsFlags, mount};
use nix::sys::statfs::{BPF_FS_MAGIC, statfs};
use policy_common::endpoint::Settings;

use super::error::KernelError;
use super::maps::Sizes;
use super::sys::{self, Plain};

fn failed(operation: &'static str, path: &Path, source: impl Into<io::Error>) -> KernelError {
    KernelError::Pin {
        operation,
        path: path.to_owned(),
        source: source.into(),
    }
}

/// Where a BPF file system is, by custom.
const BPF: &str = "/sys/fs/bpf";

/// Makes a directory below a BPF file system, and mounts that if nobody has.
pub(super) fn make_directory(path: &Path) -> Result<(), KernelError> {
    if path.starts_with(BPF) && !is_bpf(Path::new(BPF)) {
        let none: Option<&str> = None;
        mount(Some("bpf"), BPF, Some("bpf"), MsFlags::empty(), none)
            .map_err(|e| failed("mount", Path::new(BPF), e))?;
    }
    fs::create_dir_all(path).map_err(|e| failed("create", path, e))?;
    match is_bpf(path) {
        true => Ok(()),
        false => Err(KernelError::NotBpf(path.to_owned())),
    }
}

fn is_bpf(path: &Path) -> bool {
    statfs(path).is_ok_and(|s| s.filesystem_type() == BPF_FS_MAGIC)
}

/// The settings in a pinned map of them.
pub(super) fn settings(pin: &Path) -> Option<Settings> {
    let map = MapData::from_pin(pin).ok()?;
    let mut settings = [Settings::default()];
    let fd = map.fd().as_fd();
    sys::look_up(fd, &0u32, &mut settings).ok()?.then_some(())?;
    let [settings] = settings;
    Some(settings)
}

/// Clears one of [`policy_common::endpoint::setting`] in a pinned map of settings.
pub(super) fn clear_setting(pin: &Path, setting: u32) -> Result<(), KernelError> {
    let mut settings = settings(pin).ok_or_else(|| failed("read", pin, io::ErrorKind::NotFound))?;
    settings.flags &= !setting;
    let map = MapData::from_pin(pin).map_err(|e| failed("open", pin, io::Error::other(e)))?;
    sys::update(map.fd().as_fd(), &0u32, &settings).map_err(|e| failed("write", pin, e))
}

/// Forgets a pinned map that has another shape or size than what is to go on with it.
pub(super) fn drop_if_other(pin: &Path, name: &str, sizes: &Sizes) -> Result<(), KernelError> {
    let Ok(map) = MapData::from_pin(pin) else {
        return Ok(());
    };
    let wanted = sizes.each().into_iter().find(|(n, _)| *n == name);
    let same = map.info().is_ok_and(|i| {
        let (key, value) = shape(name);
        (i.key_size() as usize, i.value_size() as usize) == (key, value)
            && wanted.is_some_and(|(_, size)| size == i.max_entries())
    });
    match same {
        true => Ok(()),
        false => fs::remove_file(pin).map_err(|e| failed("remove", pin, e)),
    }
}

fn shape(name: &str) -> (usize, usize) {
    use policy_common::connection::{Connection, Fragment, FragmentKey, Key};
    fn of<K: Plain, V: Plain>() -> (usize, usize) {
        (size_of::<K>(), size_of::<V>())
    }
    match name {
        "CONNECTIONS" => of::<Key, Connection>(),
        _ => of::<FragmentKey, Fragment>(),
    }
}

/// Gives a map a name that another one may have.
pub(super) fn replace(map: &MapData, pin: &Path) -> Result<(), KernelError> {
    match fs::remove_file(pin) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            return Err(failed("remove", pin, error));
        }
        _ => {}
    }
    map.pin(pin)
        .map_err(|e| failed("pin", pin, io::Error::other(e)))
}

/// Forgets the maps of other versions.
pub(super) fn end_other_layouts(directory: &Path, layout: u32) -> Result<(), KernelError> {
    let Ok(entries) = fs::read_dir(directory) else {
        return Ok(());
    };
    for entry in entries.flatten() {
        let name = entry.file_name();
        let is_layout = name.to_str().is_some_and(|n| n.starts_with('v'));
        if is_layout && name.to_str() != Some(&format!("v{layout}")) {
            remove_all(&entry.path())?;
        }
    }
    Ok(())
}

/// Removes a directory of names.
pub(super) fn remove_all(directory: &Path) -> Result<(), KernelError> {
    match fs::remove_dir_all(directory) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(failed("remove", directory, error))
        }
        _ => Ok(()),
    }
}
