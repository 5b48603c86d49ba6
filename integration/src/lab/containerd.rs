//! Workloads through a real container runtime: containerd, and `ctr run --cni` as its user.
//!
//! `ctr` looks for plugins in `/opt/cni/bin` and for networks in `/etc/cni/net.d`. It runs in a mount
//! namespace in which both are the lab's own, so nothing of the machine is read or changed.

use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use super::{Lab, Netns, Process, Workload, binaries};

const PATIENCE: Duration = Duration::from_secs(20);
/// Fixed paths of runtime and client: shown as the lab's own directories.
const SHADOWED: [&str; 3] = ["/etc/cni/net.d", "/opt/cni/bin", "/run/containerd"];

/// Directories of a container's root.
pub(super) const ROOTFS: [&str; 4] = ["rootfs/bin", "rootfs/proc", "rootfs/sys", "rootfs/dev"];

/// A containerd of the lab's own.
#[derive(Debug)]
pub struct Containerd {
    dir: PathBuf,
    tag: String,
    home: Netns,
    /// Held for its end.
    _process: Option<Process>,
}

/// A container in the foreground of its `ctr`.
#[derive(Debug)]
pub struct Container {
    /// The workload, with its namespace.
    pub workload: Workload,
    namespace: String,
    ctr: Process,
}

impl Containerd {
    /// Starts containerd with its own root, state and socket.
    ///
    /// # Errors
    /// When it does not answer in time.
    pub fn start(lab: &Lab) -> Result<Containerd> {
        for path in SHADOWED {
            // An empty directory to show the lab's own on; only in the lab's mount namespaces.
            std::fs::create_dir_all(path).with_context(|| format!("make {path}"))?;
        }
        let dir = lab.subdir("containerd")?;
        let home = lab.netns("containerd")?;
        for sub in ROOTFS.iter().chain(&["run", "fifo"]) {
            std::fs::create_dir_all(dir.join(sub))?;
        }
        let busybox = dir.join("rootfs/bin/busybox");
        std::fs::copy(binaries::system("busybox")?, &busybox).context("copy busybox-static")?;
        for name in ["sh", "sleep"] {
            symlink("busybox", dir.join("rootfs/bin").join(name))?;
        }
        let config = dir.join("config.toml");
        std::fs::write(&config, config_text(&dir))?;
        let binds = [(dir.join("run"), PathBuf::from("/run/containerd"))];
        let mut command = home.command_with_binds(binaries::system("containerd")?, &binds);
        command.arg("--config").arg(&config);
        let mut process = Process::start("containerd", command, &dir.join("containerd.log"))?;
        let containerd = Containerd {
            tag: lab.tag().to_owned(),
            home,
            dir,
            _process: None,
        };
        super::wait_for(&mut process, "containerd to answer", PATIENCE, || {
            containerd.ctr_output("default", &["version"]).map(drop)
        })?;
        Ok(Containerd {
            _process: Some(process),
            ..containerd
        })
    }

    /// Runs a container that sleeps, on a host, in the network that `conflist` describes.
    ///
    /// # Errors
    /// When the runtime or the plugin refuses.
    pub fn run(
        &self,
        host: &Netns,
        name: &str,
        plugin_dirs: &[&Path],
        conflist: &Value,
    ) -> Result<Container> {
        let own = self.dir.join(format!("cni-{name}"));
        let (net_d, bin) = (own.join("net.d"), own.join("bin"));
        std::fs::create_dir_all(&net_d)?;
        std::fs::create_dir_all(&bin)?;
        std::fs::write(
            net_d.join("10-lab.conflist"),
            serde_json::to_vec_pretty(conflist)?,
        )?;
        for dir in plugin_dirs {
            for entry in std::fs::read_dir(dir)? {
                let path = entry?.path();
                if let (true, Some(file)) = (path.is_file(), path.file_name())
                    && names_plugin(conflist, file)
                {
                    symlink(&path, bin.join(file))?;
                }
            }
        }
        let namespace = format!("{}-{}", self.tag, host.inode()?);
        let binds = [
            (net_d, PathBuf::from("/etc/cni/net.d")),
            (bin, PathBuf::from("/opt/cni/bin")),
        ];
        let mut command = host.command_with_binds(binaries::system("ctr")?, &binds);
        self.arguments(&mut command, &namespace);
        command
            .args(["run", "--rm", "--cni", "--null-io", "--fifo-dir"])
            .arg(self.dir.join("fifo"))
            .arg("--rootfs")
            .arg(self.dir.join("rootfs"))
            .args([name, "/bin/sleep", "1000000"]);
        let mut ctr = Process::start(&format!("ctr run {name}"), command, &own.join("ctr.log"))?;
        let (ns, ips) = super::wait_for(
            &mut ctr,
            &format!("container {name} to run"),
            PATIENCE,
            || {
                let ns = self.netns_of(&namespace, name)?;
                let ips = global_addresses(&ns)?;
                ensure!(!ips.is_empty(), "no address yet");
                Ok((ns, ips))
            },
        )?;
        let workload = Workload {
            name: name.to_owned(),
            // As go-cni tells it to the plugin.
            id: format!("{namespace}-{name}"),
            ns,
            ips,
            result: Value::Null,
        };
        Ok(Container {
            workload,
            namespace,
            ctr,
        })
    }

    /// Ends a container; the runtime calls the plugin's DEL.
    ///
    /// # Errors
    /// When it does not end in time, or DEL failed.
    pub fn stop(&self, mut container: Container) -> Result<()> {
        let name = container.workload.name.clone();
        self.ctr_output(
            &container.namespace,
            &["task", "kill", "-s", "SIGKILL", &name],
        )?;
        container.ctr.wait(PATIENCE)?;
        let said = container.ctr.last_lines(5);
        ensure!(!said.contains("failed to"), "the end of {name}: {said}");
        Ok(())
    }

    fn netns_of(&self, namespace: &str, name: &str) -> Result<Netns> {
        let text = self.ctr_output(namespace, &["task", "ls"])?;
        let pid = text
            .lines()
            .map(|l| l.split_whitespace().collect::<Vec<_>>())
            .find_map(|f| match f.as_slice() {
                [n, pid, "RUNNING"] if *n == name => Some((*pid).to_owned()),
                _ => None,
            })
            .with_context(|| format!("{name} does not run: {text}"))?;
        Netns::open(name, Path::new(&format!("/proc/{pid}/ns/net")))
    }

    fn ctr_output(&self, namespace: &str, args: &[&str]) -> Result<String> {
        let mut command = self.home.command(binaries::system("ctr")?);
        self.arguments(&mut command, namespace);
        let out = command.args(args).output()?;
        ensure!(
            out.status.success(),
            "ctr {}: {}",
            args.join(" "),
            String::from_utf8_lossy(&out.stderr).trim()
        );
        Ok(String::from_utf8_lossy(&out.stdout).into_owned())
    }

    fn arguments(&self, command: &mut Command, namespace: &str) {
        command
            .arg("-a")
            .arg(self.dir.join("containerd.sock"))
            .args(["-n", namespace]);
    }
}

fn config_text(dir: &Path) -> String {
    let dir = dir.display();
    let off = [
        "grpc.v1.cri",
        "snapshotter.v1.aufs",
        "snapshotter.v1.btrfs",
        "snapshotter.v1.devmapper",
        "snapshotter.v1.zfs",
    ]
    .map(|p| format!("\"io.containerd.{p}\""))
    .join(", ");
    format!(
        "version = 2\nroot = \"{dir}/root\"\nstate = \"{dir}/state\"\ndisabled_plugins = [{off}]\n\
         [grpc]\naddress = \"{dir}/containerd.sock\"\n[debug]\nlevel = \"warn\"\n"
    )
}

/// Whether the network needs a plugin of this file name, as main plugin or for its addresses.
fn names_plugin(conflist: &Value, file: &std::ffi::OsStr) -> bool {
    let plugins = conflist.get("plugins").and_then(Value::as_array);
    plugins.into_iter().flatten().any(|p| {
        [p.get("type"), p.pointer("/ipam/type")]
            .into_iter()
            .flatten()
            .any(|t| t.as_str().is_some_and(|t| file == t))
    })
}

/// Addresses of `eth0` that reach further than its link.
pub(super) fn global_addresses(ns: &Netns) -> Result<Vec<std::net::IpAddr>> {
    let links = ns.ip_json("addr show dev eth0 scope global")?;
    let infos = links.pointer("/0/addr_info").and_then(Value::as_array);
    infos
        .into_iter()
        .flatten()
        .filter_map(|a| a.get("local")?.as_str())
        .map(|ip| Ok(ip.parse()?))
        .collect()
}
