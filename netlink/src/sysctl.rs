//! Kernel switches: files under `/proc/sys`.
//!
//! Those under `net` belong to the network namespace of the thread that opens them.

use std::cell::RefCell;
use std::collections::HashMap;
use std::fs::File;
use std::io::{self, ErrorKind};
use std::os::unix::fs::FileExt;
use std::path::PathBuf;

use nix::fcntl::{OFlag, openat};
use nix::sys::stat::Mode;

use crate::{Error, Refusal};

/// Longest value read, bytes; the switches in use are numbers.
const LONGEST: usize = 4096;

thread_local! {
    /// Directories of switches, kept open: from the root, every namespace has a directory of the same
    /// name in one place, and the kernel compares with all of them. No thread changes its namespace
    /// after it has read a switch: [`netns::within`](crate::netns::within) takes a new one.
    static DIRECTORIES: RefCell<HashMap<String, File>> = RefCell::default();
}

/// Opens a switch.
fn open(path: &str, flags: OFlag) -> Result<io::Result<File>, Error> {
    let bad = |part: &str| matches!(part, "" | "." | "..");
    let split = path.match_indices('/').nth(2).map(|(at, _)| at);
    let (directory, rest) = path.split_at(split.map_or(0, |at| at + 1));
    if path.split('/').any(bad) {
        return Err(Error::Invalid {
            object: format!("sysctl {path}"),
            message: "write a path below /proc/sys, such as net/ipv4/ip_forward".to_owned(),
        });
    }
    Ok(DIRECTORIES.with_borrow_mut(|open| {
        if !open.contains_key(directory) {
            let found = File::open(PathBuf::from("/proc/sys").join(directory))?;
            open.insert(directory.to_owned(), found);
        }
        let directory = open.get(directory).ok_or(ErrorKind::NotFound)?;
        let file = openat(directory, rest, flags | OFlag::O_CLOEXEC, Mode::empty())?;
        Ok(File::from(file))
    }))
}

/// Its value, without the line's end.
fn value(file: &File) -> io::Result<String> {
    let mut buffer = [0; LONGEST];
    let read = file.read_at(&mut buffer, 0)?;
    let text = String::from_utf8_lossy(buffer.get(..read).unwrap_or_default());
    Ok(text.trim().to_owned())
}

/// The value, without the line's end; `None` when there is no such switch.
pub(crate) fn read(path: &str) -> Result<Option<String>, Error> {
    match open(path, OFlag::O_RDONLY)?.and_then(|file| value(&file)) {
        Ok(text) => Ok(Some(text)),
        Err(e) if e.kind() == ErrorKind::NotFound => Ok(None),
        Err(e) => Err(Refusal::from(e).during("read", format!("sysctl {path}"))),
    }
}

/// Writes a value where it differs: for some switches the kernel takes its routing lock to write
/// even what is there.
pub(crate) fn ensure(path: &str, wanted: &str) -> Result<(), Error> {
    let set = |file: File| {
        if value(&file)? != wanted {
            file.write_at(wanted.as_bytes(), 0)?;
        }
        Ok(())
    };
    match open(path, OFlag::O_RDWR)?.and_then(set) {
        // Where nothing can be written, what is right already is right.
        Err(_) if read(path)?.as_deref() == Some(wanted) => Ok(()),
        done => done.map_err(|e| cannot(e, path, wanted)),
    }
}

fn cannot(e: io::Error, path: &str, value: &str) -> Error {
    Refusal::from(e).during("set", format!("sysctl {path} = {value}"))
}

/// Writes a value.
pub(crate) fn write(path: &str, value: &str) -> Result<(), Error> {
    let file = open(path, OFlag::O_WRONLY)?;
    let written = file.and_then(|file| file.write_at(value.as_bytes(), 0));
    written.map(drop).map_err(|e| cannot(e, path, value))
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
