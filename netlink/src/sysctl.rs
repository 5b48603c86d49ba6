//! Kernel switches: files under `/proc/sys`.
//!
//! Those under `net` belong to the network namespace of the thread that opens them.

use std::fs;
use std::path::PathBuf;

use crate::{Error, Refusal};

fn file(path: &str) -> Result<PathBuf, Error> {
    if path.split('/').any(|part| matches!(part, "" | "." | "..")) {
        return Err(Error::Invalid {
            object: format!("sysctl {path}"),
            message: "write a path below /proc/sys, such as net/ipv4/ip_forward".to_owned(),
        });
    }
    Ok(PathBuf::from("/proc/sys").join(path))
}

/// The value, without the line's end; `None` when there is no such switch.
pub(crate) fn read(path: &str) -> Result<Option<String>, Error> {
    match fs::read_to_string(file(path)?) {
        Ok(text) => Ok(Some(text.trim().to_owned())),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(Refusal::from(e).during("read", format!("sysctl {path}"))),
    }
}

/// Writes a value where it differs: for some switches the kernel takes its routing lock to write
/// even what is there.
pub(crate) fn ensure(path: &str, value: &str) -> Result<(), Error> {
    if read(path)?.as_deref() == Some(value) {
        return Ok(());
    }
    write(path, value)
}

/// Writes a value.
pub(crate) fn write(path: &str, value: &str) -> Result<(), Error> {
    fs::write(file(path)?, value)
        .map_err(|e| Refusal::from(e).during("set", format!("sysctl {path} = {value}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_cannot_leave_the_tree() {
        for path in [
            "net/../../../etc/passwd",
            "/etc/passwd",
            "net//x",
            "net/ipv4/conf/./x",
        ] {
            assert!(matches!(read(path), Err(Error::Invalid { .. })), "{path}");
        }
        assert_eq!(read("net/ipv4/no_such_switch"), Ok(None));
    }
}
