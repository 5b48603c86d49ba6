//! Routing daemons of others, as the switches of racks run them; without systemd.

use std::fs;
use std::os::unix::fs::chown;
use std::path::PathBuf;
use std::time::Duration;

use super::{Lab, Netns, Process, wait};
use anyhow::{Context, Result, ensure};

/// Long enough for a busy machine.
const LIMIT: Duration = Duration::from_secs(45);

/// Waits until the output of a daemon's client has all of `wanted` in it; the output.
///
/// # Errors
/// When it never has.
pub fn shows(
    what: &str,
    mut output: impl FnMut() -> Result<String>,
    wanted: &[&str],
) -> Result<String> {
    wait(what, LIMIT, || {
        let text = output()?;
        for word in wanted {
            ensure!(text.contains(word), "no {word:?} in: {text}");
        }
        Ok(text)
    })
}

/// BIRD 2.
pub struct Bird {
    ns: Netns,
    dir: PathBuf,
    /// The daemon.
    pub process: Process,
}

impl Bird {
    /// With what follows the parts that every configuration has.
    ///
    /// # Errors
    /// When it does not start.
    pub fn start(lab: &Lab, ns: &Netns, name: &str, config: &str) -> Result<Bird> {
        Bird::spawn(lab, ns, name, config, false)
    }

    /// As one that ran before and kept its routes.
    ///
    /// # Errors
    /// When it does not start.
    pub fn restart(lab: &Lab, ns: &Netns, name: &str, config: &str) -> Result<Bird> {
        Bird::spawn(lab, ns, name, config, true)
    }

    fn spawn(lab: &Lab, ns: &Netns, name: &str, config: &str, again: bool) -> Result<Bird> {
        let dir = lab.subdir(name)?;
        let common = "log stderr all;\nrouter id 10.99.0.2;\ndebug protocols { states, events };\n\
                      protocol device { scan time 1; }\n";
        fs::write(dir.join("bird.conf"), format!("{common}{config}"))?;
        let mut command = ns.command("bird");
        command.arg("-f").current_dir(&dir);
        command.args(["-c", "bird.conf", "-s", "bird.ctl", "-P", "bird.pid"]);
        command.args(again.then_some("-R"));
        let process = Process::start(name, command, &dir.join("bird.log"))?;
        let bird = Bird {
            ns: ns.clone(),
            dir,
            process,
        };
        shows(
            "BIRD to start",
            || bird.ask("show status"),
            &["up and running"],
        )?;
        Ok(bird)
    }

    /// What `birdc` prints.
    ///
    /// # Errors
    /// When it fails.
    pub fn ask(&self, command: &str) -> Result<String> {
        let socket = self.dir.join("bird.ctl");
        self.ns
            .output("birdc", &format!("-s {} {command}", socket.display()))
    }

    /// Waits until a prefix is shown with all of this.
    ///
    /// # Errors
    /// When it never is.
    pub fn has(&self, prefix: &str, wanted: &[&str]) -> Result<String> {
        shows(
            &format!("{prefix} at BIRD"),
            || self.ask(&format!("show route all {prefix}")),
            wanted,
        )
    }
}

/// FRR: zebra, bgpd and bfdd.
pub struct Frr {
    ns: Netns,
    dir: PathBuf,
    /// In the order in which they were started.
    pub processes: Vec<Process>,
}

impl Frr {
    /// With a configuration of bgpd.
    ///
    /// # Errors
    /// When one does not start.
    pub fn start(lab: &Lab, ns: &Netns, name: &str, config: &str) -> Result<Frr> {
        let dir = lab.subdir(name)?;
        let user = |kind: &str| -> Result<u32> {
            let text = ns.output("id", &format!("{kind} frr"))?;
            Ok(text.trim().parse()?)
        };
        let (uid, gid) = (user("-u")?, user("-g")?);
        let own = |path: &PathBuf| chown(path, Some(uid), Some(gid));
        own(&dir).context("chown")?;
        let mut frr = Frr {
            ns: ns.clone(),
            dir,
            processes: Vec::new(),
        };
        for daemon in ["zebra", "bgpd", "bfdd"] {
            let file = frr.dir.join(format!("{daemon}.conf"));
            fs::write(&file, if daemon == "bgpd" { config } else { "" })?;
            own(&file)?;
            let mut command = ns.command(format!("/usr/lib/frr/{daemon}"));
            command.current_dir(&frr.dir).arg("-f").arg(&file);
            command.arg("-i").arg(frr.dir.join(format!("{daemon}.pid")));
            command.arg("-z").arg(frr.dir.join("zserv.api"));
            command.arg("--vty_socket").arg(&frr.dir);
            if daemon == "bfdd" {
                command.arg("--bfdctl").arg(frr.dir.join("bfdd.sock"));
            }
            command.args(["--log", "stdout", "-A", "127.0.0.1", "-P", "0"]);
            let log = frr.dir.join(format!("{daemon}.log"));
            frr.processes.push(Process::start(daemon, command, &log)?);
            let socket = frr.dir.join(format!("{daemon}.vty"));
            wait(&format!("{daemon} to start"), LIMIT, || {
                fs::metadata(&socket).context("no vty")
            })?;
        }
        Ok(frr)
    }

    /// What `vtysh` prints.
    ///
    /// # Errors
    /// When it cannot be run.
    pub fn ask(&self, command: &str) -> Result<String> {
        let out = self
            .ns
            .command("vtysh")
            .arg("--vty_socket")
            .arg(&self.dir)
            .args(["-c", command])
            .output()
            .context("run vtysh: `make setup` installs it")?;
        Ok(String::from_utf8_lossy(&out.stdout).into_owned())
    }

    /// Waits until a prefix is shown with all of this.
    ///
    /// # Errors
    /// When it never is.
    pub fn has(&self, prefix: &str, wanted: &[&str]) -> Result<String> {
        let family = if prefix.contains(':') { "ipv6" } else { "ipv4" };
        shows(
            &format!("{prefix} at FRR"),
            || self.ask(&format!("show bgp {family} unicast {prefix}")),
            wanted,
        )
    }
}

/// GoBGP.
pub struct Gobgp {
    ns: Netns,
    socket: PathBuf,
    _process: Process,
}

impl Gobgp {
    /// With a configuration in TOML.
    ///
    /// # Errors
    /// When it does not start.
    pub fn start(lab: &Lab, ns: &Netns, name: &str, config: &str) -> Result<Gobgp> {
        let dir = lab.subdir(name)?;
        fs::write(dir.join("gobgpd.toml"), config)?;
        let socket = dir.join("api.sock");
        let mut command = ns.command("gobgpd");
        command
            .current_dir(&dir)
            .args(["-f", "gobgpd.toml", "-l", "debug"]);
        command.arg(format!("--api-hosts=unix://{}", socket.display()));
        let process = Process::start(name, command, &dir.join("gobgpd.log"))?;
        let gobgp = Gobgp {
            ns: ns.clone(),
            socket,
            _process: process,
        };
        shows("GoBGP to start", || gobgp.ask("global"), &["Router-ID"])?;
        Ok(gobgp)
    }

    /// What `gobgp` prints.
    ///
    /// # Errors
    /// When it fails.
    pub fn ask(&self, command: &str) -> Result<String> {
        let target = format!("--target unix://{} {command}", self.socket.display());
        self.ns.output("gobgp", &target)
    }
}
