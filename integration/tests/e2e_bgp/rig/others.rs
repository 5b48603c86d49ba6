//! OpenBGPD and ExaBGP, without systemd.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use anyhow::{Context, Result};
use integration::lab::{Lab, Netns, Process};

use super::shows;

/// OpenBGPD.
pub(crate) struct Openbgpd {
    ns: Netns,
    socket: PathBuf,
    _process: Process,
}

impl Openbgpd {
    pub(crate) fn start(lab: &Lab, ns: &Netns, name: &str, config: &str) -> Result<Openbgpd> {
        let dir = lab.subdir(name)?;
        let (file, socket) = (dir.join("bgpd.conf"), dir.join("ctl"));
        let common = format!(
            "router-id 10.99.0.2\nfib-update no\nsocket \"{}\"\n",
            socket.display()
        );
        fs::write(&file, format!("{common}{config}"))?;
        // It keeps secrets, and is not read otherwise.
        fs::set_permissions(&file, Permissions::from_mode(0o600))?;
        // Its other socket has a fixed place.
        fs::create_dir_all("/run/openbgpd").context("make /run/openbgpd")?;
        let mut command = ns.command("/usr/sbin/bgpd");
        command.arg("-d").arg("-f").arg(&file);
        let process = Process::start(name, command, &dir.join("bgpd.log"))?;
        let daemon = Openbgpd {
            ns: ns.clone(),
            socket,
            _process: process,
        };
        shows("OpenBGPD to start", || daemon.ask("show"), &["Neighbor"])?;
        Ok(daemon)
    }

    /// What `bgpctl` prints.
    pub(crate) fn ask(&self, command: &str) -> Result<String> {
        let socket = self.socket.display();
        self.ns.output("bgpctl", &format!("-s {socket} {command}"))
    }
}

/// ExaBGP: says what it is told to, right or wrong, and keeps nothing.
pub(crate) struct Exabgp {
    _process: Process,
}

impl Exabgp {
    pub(crate) fn start(lab: &Lab, ns: &Netns, name: &str, config: &str) -> Result<Exabgp> {
        let dir = lab.subdir(name)?;
        let file = dir.join("exabgp.conf");
        fs::write(&file, config)?;
        let mut command = ns.command("exabgp");
        command.arg(&file).current_dir(&dir);
        for setting in ["user=root", "drop=false"] {
            let (key, value) = setting.split_once('=').context("a setting")?;
            command.env(format!("exabgp.daemon.{key}"), value);
        }
        command.env("exabgp.api.cli", "false");
        let process = Process::start(name, command, &dir.join("exabgp.log"))?;
        Ok(Exabgp { _process: process })
    }
}
