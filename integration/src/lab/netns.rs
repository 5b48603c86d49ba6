//! A network namespace with a name below `/run/netns`, as `ip netns` makes them.

use std::fs::File;
use std::io::Write;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;

use anyhow::{Context, Result, anyhow, bail};
use nix::errno::Errno;
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, setns, unshare};
use serde_json::Value;

use super::sys::{self, Bind};

/// Where named namespaces are.
pub const DIR: &str = "/run/netns";

/// A handle of a network namespace; clones name the same one. The lab that made it removes it.
#[derive(Clone, Debug)]
pub struct Netns {
    name: String,
    path: PathBuf,
    file: Arc<File>,
}

/// Lets daemons with mounts of their own see what is mounted in a directory after they have started, as `ip netns`
/// does where the system has not done it for all directories.
fn share(directory: &Path) -> nix::Result<()> {
    let none: Option<&str> = None;
    let share = || mount(none, directory, none, MsFlags::MS_SHARED, none);
    match share() {
        // It is no mount point yet.
        Err(Errno::EINVAL) => {
            let with_all = MsFlags::MS_BIND | MsFlags::MS_REC;
            mount(Some(directory), directory, none, with_all, none)?;
            share()
        }
        done => done,
    }
}

impl Netns {
    /// Makes a namespace.
    pub(super) fn create(name: &str) -> Result<Netns> {
        std::fs::create_dir_all(DIR).with_context(|| format!("make {DIR}"))?;
        share(Path::new(DIR)).with_context(|| format!("share {DIR}"))?;
        let path = Path::new(DIR).join(name);
        File::create_new(&path).with_context(|| format!("make {}", path.display()))?;
        let bind = || -> Result<()> {
            unshare(CloneFlags::CLONE_NEWNET)?;
            mount(
                Some("/proc/thread-self/ns/net"),
                &path,
                None::<&str>,
                MsFlags::MS_BIND,
                None::<&str>,
            )?;
            Ok(())
        };
        // A thread of its own, as unshare moves the thread that calls it.
        join(std::thread::scope(|s| s.spawn(bind).join()))
            .and_then(|r| r)
            .with_context(|| format!("make network namespace {name}"))?;
        Netns::open(name, &path)
    }

    /// The namespace at a path, such as `/proc/PID/ns/net`.
    ///
    /// # Errors
    /// When there is none.
    pub fn open(name: &str, path: &Path) -> Result<Netns> {
        let file = File::open(path).with_context(|| format!("open {}", path.display()))?;
        Ok(Netns {
            name: name.to_owned(),
            path: path.to_owned(),
            file: Arc::new(file),
        })
    }

    /// Its name, as `ip netns` shows it.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What tells it from every other namespace that exists.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn inode(&self) -> Result<u64> {
        Ok(self.file.metadata()?.ino())
    }

    /// Runs a closure inside, on a thread of its own; sockets made there stay there.
    ///
    /// # Errors
    /// The closure's, or when the namespace cannot be entered.
    pub fn run<T: Send>(&self, body: impl FnOnce() -> Result<T> + Send) -> Result<T> {
        let inside = || -> Result<T> {
            setns(&self.file, CloneFlags::CLONE_NEWNET)
                .with_context(|| format!("enter namespace {}", self.name))?;
            body()
        };
        join(std::thread::scope(|s| s.spawn(inside).join()))?
    }

    /// A command that starts inside and dies with the thread that starts it.
    pub fn command(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        self.command_with_binds(program, &[])
    }

    /// As [`Netns::command`], with directories shown elsewhere: pairs of source and target.
    pub fn command_with_binds(
        &self,
        program: impl AsRef<std::ffi::OsStr>,
        binds: &[(PathBuf, PathBuf)],
    ) -> Command {
        let c = |p: &Path| std::ffi::CString::new(p.as_os_str().as_encoded_bytes());
        let binds = binds
            .iter()
            .filter_map(|(s, t)| {
                Some(Bind {
                    source: c(s).ok()?,
                    target: c(t).ok()?,
                })
            })
            .collect();
        let mut command = Command::new(program);
        sys::enter(&mut command, Some(Arc::clone(&self.file)), binds);
        command
    }

    /// Runs lines of `ip` inside, all or up to the first that fails.
    ///
    /// # Errors
    /// With what `ip` said.
    pub fn ip(&self, batch: &str) -> Result<()> {
        let mut child = self
            .command("ip")
            .args(["-batch", "-"])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .context("run ip: is iproute2 installed?")?;
        if let Some(mut stdin) = child.stdin.take() {
            stdin.write_all(batch.as_bytes())?;
        }
        let out = child.wait_with_output()?;
        if !out.status.success() {
            bail!(
                "in {}: ip {batch}: {}",
                self.name,
                String::from_utf8_lossy(&out.stderr).trim()
            );
        }
        Ok(())
    }

    /// The JSON that an `ip -j` command prints.
    ///
    /// # Errors
    /// With what `ip` said.
    pub fn ip_json(&self, args: &str) -> Result<Value> {
        let text = self.output("ip", &format!("-j {args}"))?;
        // Nothing to show is no JSON at all.
        if text.trim().is_empty() {
            return Ok(Value::Array(Vec::new()));
        }
        serde_json::from_str(&text).with_context(|| format!("ip -j {args} printed {text:?}"))
    }

    /// Standard output of a program run inside; arguments are split at spaces.
    ///
    /// # Errors
    /// When it fails, with its standard error.
    pub fn output(&self, program: &str, args: &str) -> Result<String> {
        let out = self
            .command(program)
            .args(args.split_whitespace())
            .stdin(Stdio::null())
            .output()
            .with_context(|| format!("run {program}: is it installed? `make setup` installs it"))?;
        if !out.status.success() {
            bail!(
                "in {}: {program} {args}: {}: {}",
                self.name,
                out.status,
                String::from_utf8_lossy(&out.stderr).trim()
            );
        }
        Ok(String::from_utf8_lossy(&out.stdout).into_owned())
    }

    /// Sets a kernel switch below `/proc/sys`.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn sysctl(&self, path: &str, value: &str) -> Result<()> {
        let file = Path::new("/proc/sys").join(path);
        self.run(|| {
            std::fs::write(&file, value)
                .with_context(|| format!("write {value} to {}", file.display()))
        })
    }

    /// Reads a kernel switch below `/proc/sys`.
    ///
    /// # Errors
    /// When there is none.
    pub fn read_sysctl(&self, path: &str) -> Result<String> {
        let file = Path::new("/proc/sys").join(path);
        let text = self.run(|| Ok(std::fs::read_to_string(&file)?))?;
        Ok(text.trim().to_owned())
    }
}

/// Removes a named namespace; one that is gone already is fine.
pub(super) fn remove(name: &str) -> Result<()> {
    let path = Path::new(DIR).join(name);
    // Not mounted when its maker died half-way.
    let _ = umount2(&path, MntFlags::MNT_DETACH);
    match std::fs::remove_file(&path) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
            Err(e).with_context(|| format!("remove {}", path.display()))
        }
        _ => Ok(()),
    }
}

fn join<T>(joined: std::thread::Result<T>) -> Result<T> {
    joined.map_err(|_| anyhow!("the thread inside the namespace panicked"))
}
