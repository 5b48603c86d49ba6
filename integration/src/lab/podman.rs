//! Workloads through podman with its CNI back end.
//!
//! Everything that podman reads or writes is told to it, so it needs no mount namespace of its own;
//! it could not have one either, for the network namespaces that it mounts are the plugin's to see.

use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use super::containerd::{ROOTFS, global_addresses};
use super::{Lab, Netns, Workload, binaries};

/// Podman on one host, with its own storage. Its containers are removed with it.
#[derive(Debug)]
pub struct Podman {
    dir: PathBuf,
    host: Netns,
    tag: String,
    names: Vec<String>,
}

impl Podman {
    /// Podman on a host, with the networks that `conflist` describes.
    ///
    /// # Errors
    /// When its directories cannot be made.
    pub fn new(lab: &Lab, host: &Netns, plugins: &[&Path], conflist: &Value) -> Result<Podman> {
        let dir = lab.subdir(&format!("podman-{}", host.name()))?;
        for sub in ROOTFS.iter().chain(&["net.d", "root", "runroot", "tmp"]) {
            std::fs::create_dir_all(dir.join(sub))?;
        }
        let busybox = dir.join("rootfs/bin/busybox");
        std::fs::copy(binaries::system("busybox")?, busybox).context("copy busybox-static")?;
        symlink("busybox", dir.join("rootfs/bin/sleep"))?;
        let write = |name: &str, text: String| std::fs::write(dir.join(name), text);
        write(
            "net.d/10-lab.conflist",
            serde_json::to_string_pretty(conflist)?,
        )?;
        write("storage.conf", storage_text(&dir))?;
        write("containers.conf", config_text(&dir, plugins))?;
        Ok(Podman {
            tag: lab.tag().to_owned(),
            host: host.clone(),
            dir,
            names: Vec::new(),
        })
    }

    /// Runs a container that sleeps, in a network.
    ///
    /// # Errors
    /// When podman or the plugin refuses.
    pub fn run(&mut self, name: &str, network: &str) -> Result<Workload> {
        let full = format!("{}-{name}", self.tag);
        self.names.push(full.clone());
        let rootfs = self.dir.join("rootfs").display().to_string();
        let id = self.podman(&[
            "run",
            "--detach",
            "--name",
            &full,
            "--network",
            network,
            "--rootfs",
            &rootfs,
            "/bin/sleep",
            "1000000",
        ])?;
        let key = self.podman(&[
            "inspect",
            &full,
            "--format",
            "{{.NetworkSettings.SandboxKey}}",
        ])?;
        let ns = Netns::open(name, Path::new(key.trim()))?;
        let ips = global_addresses(&ns)?;
        ensure!(!ips.is_empty(), "{name} has no address");
        Ok(Workload {
            name: name.to_owned(),
            id: id.trim().to_owned(),
            ns,
            ips,
            result: Value::Null,
        })
    }

    /// Ends a container; podman calls the plugin's DEL.
    ///
    /// # Errors
    /// When podman or the plugin refuses.
    pub fn stop(&mut self, workload: &Workload) -> Result<()> {
        let full = format!("{}-{}", self.tag, workload.name);
        self.podman(&["rm", "--force", "--time", "0", &full])?;
        self.names.retain(|name| *name != full);
        Ok(())
    }

    fn podman(&self, args: &[&str]) -> Result<String> {
        let out = self
            .host
            .command(binaries::system("podman")?)
            .env("CONTAINERS_CONF", self.dir.join("containers.conf"))
            .env("CONTAINERS_STORAGE_CONF", self.dir.join("storage.conf"))
            .arg("--tmpdir")
            .arg(self.dir.join("tmp"))
            .args(args)
            .stdin(Stdio::null())
            .output()?;
        let said = String::from_utf8_lossy(&out.stderr);
        ensure!(
            out.status.success(),
            "podman {}: {}",
            args.join(" "),
            said.trim()
        );
        Ok(String::from_utf8_lossy(&out.stdout).into_owned())
    }
}

impl Drop for Podman {
    fn drop(&mut self) {
        for name in std::mem::take(&mut self.names) {
            if let Err(e) = self.podman(&["rm", "--force", "--time", "0", &name]) {
                eprintln!("lab: {name} stays behind: {e:#}");
            }
        }
    }
}

fn storage_text(dir: &Path) -> String {
    let dir = dir.display();
    format!(
        "[storage]\ndriver = \"vfs\"\nrunroot = \"{dir}/runroot\"\ngraphroot = \"{dir}/root\"\n"
    )
}

fn config_text(dir: &Path, plugins: &[&Path]) -> String {
    let dir = dir.display();
    let plugins: Vec<String> = plugins
        .iter()
        .map(|p| format!("{:?}", p.display().to_string()))
        .collect();
    let plugins = plugins.join(", ");
    // Limits below those of the machine, which a container of a container may not raise.
    format!(
        "[containers]\ndefault_sysctls = []\nlog_driver = \"none\"\n\
         default_ulimits = [\"nofile=1024:1024\", \"nproc=1024:1024\"]\n\
         [engine]\ncgroup_manager = \"cgroupfs\"\nevents_logger = \"none\"\nruntime = \"runc\"\n\
         [network]\nnetwork_backend = \"cni\"\nnetwork_config_dir = \"{dir}/net.d\"\n\
         cni_plugin_dirs = [{plugins}]\n"
    )
}
