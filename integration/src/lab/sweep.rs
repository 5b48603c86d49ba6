//! Taking away what a lab made: at its end, and for runs that were killed before theirs.
//!
//! Everything is found by name, so it does not matter how the run ended: namespaces and the
//! directory carry the tag, processes are inside such a namespace or name the directory, and mounts
//! are below it.

use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use nix::mount::{MntFlags, umount2};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::{PREFIX, netns};

/// The tag of lab `n` of this process: prefix, pid and start time, so that a reused pid is no match.
pub(super) fn tag(n: u32) -> Result<String> {
    let pid = std::process::id();
    let born = start_time(pid).context("read /proc/self/stat")?;
    Ok(format!("{PREFIX}-{pid}-{born}-{n}"))
}

/// Removes what labs of dead processes left. Returns their tags.
///
/// # Errors
/// When something could not be removed.
pub fn dead() -> Result<Vec<String>> {
    let mut tags = BTreeSet::new();
    for dir in [Path::new(netns::DIR).to_owned(), std::env::temp_dir()] {
        for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
            if let Some(tag) = tag_of(&entry.file_name().to_string_lossy())
                && !alive(&tag)
            {
                tags.insert(tag);
            }
        }
    }
    for tag in &tags {
        remove(tag)?;
    }
    Ok(tags.into_iter().collect())
}

/// Removes everything of one lab.
///
/// # Errors
/// When something is still there afterwards.
pub fn remove(tag: &str) -> Result<()> {
    let dir = std::env::temp_dir().join(tag);
    let spaces = namespaces(tag);
    super::wait_until(
        "the lab's processes to end",
        Duration::from_secs(10),
        || {
            let left = processes(tag, &spaces);
            for pid in &left {
                // It may be gone by now.
                let _ = kill(Pid::from_raw(*pid), Signal::SIGKILL);
            }
            Ok(left.is_empty())
        },
    )?;
    for mount in mounts_below(&dir) {
        umount2(mount.as_str(), MntFlags::MNT_DETACH)
            .with_context(|| format!("unmount {mount}"))?;
    }
    for name in spaces.values() {
        netns::remove(name)?;
    }
    // Busy while the kernel takes leave of what was killed just now.
    super::wait_until(
        "the lab's control groups to go",
        Duration::from_secs(10),
        || Ok(remove_cgroups(tag)),
    )?;
    match std::fs::remove_dir_all(&dir) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
            bail!("remove {}: {e}", dir.display())
        }
        _ => Ok(()),
    }
}

/// Namespaces of a lab: inode to name.
fn namespaces(tag: &str) -> BTreeMap<u64, String> {
    std::fs::read_dir(netns::DIR)
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| {
            let name = entry.file_name().to_string_lossy().into_owned();
            let inode = std::fs::metadata(entry.path()).ok()?.ino();
            name.starts_with(&format!("{tag}-"))
                .then_some((inode, name))
        })
        .collect()
}

/// Processes of a lab and what descends from them, never this process.
fn processes(tag: &str, spaces: &BTreeMap<u64, String>) -> BTreeSet<i32> {
    let me = std::process::id();
    let mut parents = BTreeMap::new();
    let mut found = BTreeSet::new();
    for entry in std::fs::read_dir("/proc").into_iter().flatten().flatten() {
        let Some(pid) = entry
            .file_name()
            .to_str()
            .and_then(|n| n.parse::<i32>().ok())
        else {
            continue;
        };
        if u32::try_from(pid) == Ok(me) {
            continue;
        }
        let Some(stat) = stat(pid.unsigned_abs()) else {
            continue;
        };
        // A zombie has ended; whoever its parent is will collect it.
        if stat.state == 'Z' {
            continue;
        }
        parents.insert(pid, stat.parent);
        let inside = std::fs::metadata(entry.path().join("ns/net"))
            .is_ok_and(|ns| spaces.contains_key(&ns.ino()));
        let names = std::fs::read(entry.path().join("cmdline"))
            .is_ok_and(|line| names_tag(&String::from_utf8_lossy(&line), tag));
        if inside || names {
            found.insert(pid);
        }
    }
    loop {
        let more: Vec<i32> = parents
            .iter()
            .filter(|(pid, parent)| !found.contains(pid) && found.contains(parent))
            .map(|(pid, _)| *pid)
            .collect();
        if more.is_empty() {
            return found;
        }
        found.extend(more);
    }
}

/// Whether a command line names this lab's directory: lab 1 must not match lab 10.
fn names_tag(line: &str, tag: &str) -> bool {
    line.match_indices(tag).any(|(at, _)| {
        line.get(at + tag.len()..)
            .and_then(|rest| rest.chars().next())
            .is_none_or(|next| !next.is_ascii_digit())
    })
}

fn mounts_below(dir: &Path) -> Vec<String> {
    let info = std::fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let below = format!("{}/", dir.display());
    let mut found: Vec<String> = info
        .lines()
        .filter_map(|line| line.split(' ').nth(4))
        .filter(|path| path.starts_with(&below))
        .map(str::to_owned)
        .collect();
    // Innermost first.
    found.reverse();
    found
}

/// A killed runtime leaves its containers' empty control groups. Whether all are gone.
fn remove_cgroups(tag: &str) -> bool {
    let mut gone = true;
    let root = Path::new("/sys/fs/cgroup");
    let hierarchies = std::fs::read_dir(root)
        .into_iter()
        .flatten()
        .flatten()
        .map(|e| e.path());
    for hierarchy in std::iter::once(root.to_owned()).chain(hierarchies) {
        for entry in std::fs::read_dir(hierarchy).into_iter().flatten().flatten() {
            if entry
                .file_name()
                .to_string_lossy()
                .starts_with(&format!("{tag}-"))
            {
                gone &= remove_cgroup(&entry.path());
            }
        }
    }
    gone
}

fn remove_cgroup(dir: &Path) -> bool {
    for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|t| t.is_dir()) {
            remove_cgroup(&entry.path());
        }
    }
    match std::fs::remove_dir(dir) {
        Err(e) => e.kind() == std::io::ErrorKind::NotFound,
        Ok(()) => true,
    }
}

/// The tag at the start of a name.
fn tag_of(name: &str) -> Option<String> {
    let parts: Vec<&str> = name.splitn(5, '-').collect();
    match parts.as_slice() {
        [prefix, pid, born, n, ..] if *prefix == PREFIX => {
            let numbers = [pid, born, n].iter().all(|p| p.parse::<u64>().is_ok());
            numbers.then(|| format!("{PREFIX}-{pid}-{born}-{n}"))
        }
        _ => None,
    }
}

/// Whether the process that made a tag still runs.
fn alive(tag: &str) -> bool {
    let mut parts = tag.split('-').skip(1);
    let pid = parts.next().and_then(|p| p.parse::<u32>().ok());
    let born = parts.next().and_then(|p| p.parse::<u64>().ok());
    match (pid, born) {
        (Some(pid), Some(born)) => start_time(pid) == Some(born),
        _ => false,
    }
}

fn start_time(pid: u32) -> Option<u64> {
    stat(pid).map(|s| s.born)
}

struct Stat {
    state: char,
    parent: i32,
    born: u64,
}

/// The parts of `/proc/PID/stat` that are needed; the name before them may hold spaces and brackets.
fn stat(pid: u32) -> Option<Stat> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (_, rest) = text.rsplit_once(')')?;
    let fields: Vec<&str> = rest.split_whitespace().collect();
    Some(Stat {
        state: fields.first()?.chars().next()?,
        parent: fields.get(1)?.parse().ok()?,
        born: fields.get(19)?.parse().ok()?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tag_is_found_in_the_names_made_from_it() {
        let tag = tag(3).unwrap();
        assert_eq!(tag_of(&tag), Some(tag.clone()));
        assert_eq!(tag_of(&format!("{tag}-7-node-a")), Some(tag.clone()));
        assert_eq!(tag_of("rtlab-x-1-2"), None);
        assert_eq!(tag_of("other-1-1-2"), None);
        assert!(alive(&tag));
        assert!(!alive("rtlab-1-999999999999-0"));
    }

    #[test]
    fn lab_one_is_not_lab_ten() {
        assert!(names_tag("x\0/tmp/rtlab-5-6-1/sock\0", "rtlab-5-6-1"));
        assert!(!names_tag("x\0/tmp/rtlab-5-6-10/sock\0", "rtlab-5-6-1"));
    }
}
