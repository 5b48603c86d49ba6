//! Work in another network namespace, on a thread that ends there: nothing has to be put back, and
//! no thread of the caller is ever in the wrong one.

use std::fs::File;
use std::os::unix::fs::MetadataExt;

use nix::sched::{CloneFlags, setns};
use nix::sys::statfs::{NSFS_MAGIC, fstatfs};

use crate::{Error, Refusal};

/// Opens the namespace at a path that another process chose.
///
/// # Errors
/// When there is none, or when it is the one this thread is in: nothing of a workload belongs there.
pub(crate) fn open(path: &str) -> Result<File, Error> {
    let object = || format!("network namespace {path}");
    let file = File::open(path).map_err(|e| Refusal::from(e).during("open", object()))?;
    let filesystem = fstatfs(&file).map_err(|e| Refusal::from(e).during("stat", object()))?;
    if filesystem.filesystem_type() != NSFS_MAGIC {
        return Err(Error::Invalid {
            object: object(),
            message: "it is no network namespace here: it may be mounted where this process \
                      cannot see it (mount propagation must be shared or slave)"
                .to_owned(),
        });
    }
    let identity = |file: &File| file.metadata().map(|m| (m.dev(), m.ino()));
    let host = File::open("/proc/thread-self/ns/net").and_then(|f| identity(&f));
    match (identity(&file), host) {
        (Ok(given), Ok(host)) if given == host => Err(Error::Invalid {
            object: object(),
            message: "it is the host's own: give the workload one of its own".to_owned(),
        }),
        (Err(e), _) | (_, Err(e)) => Err(Refusal::from(e).during("stat", object())),
        _ => Ok(file),
    }
}

/// Runs `f` in a namespace.
///
/// # Errors
/// When it cannot be entered, or what `f` gives.
pub(crate) fn within<T: Send>(
    namespace: &File,
    f: impl FnOnce() -> Result<T, Error> + Send,
) -> Result<T, Error> {
    let enter = || {
        setns(namespace, CloneFlags::CLONE_NEWNET)
            .map_err(|e| Refusal::from(e).during("enter", "the network namespace"))?;
        f()
    };
    let lost = |text: &str| Error::Reply {
        operation: "work in",
        object: "the network namespace".to_owned(),
        message: text.to_owned(),
    };
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().name("netns".to_owned());
        match thread.spawn_scoped(scope, enter) {
            Ok(handle) => handle
                .join()
                .unwrap_or_else(|_| Err(lost("its thread panicked"))),
            Err(e) => Err(lost(&e.to_string())),
        }
    })
}
