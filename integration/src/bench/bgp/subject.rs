//! Who is measured: a speaker that has a table and writes nothing into the kernel.

use std::fmt::Write;
use std::net::Ipv4Addr;
use std::os::unix::fs::chown;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result};

use super::session::SUBJECT;
use super::speaker;
use crate::lab::{Lab, Netns, Process, wait};

/// Programs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Program {
    Routerd,
    Bird,
    Frr,
    Gobgp,
}

impl Program {
    pub(super) fn name(self) -> &'static str {
        match self {
            Program::Routerd => "routerd",
            Program::Bird => "BIRD",
            Program::Frr => "FRR",
            Program::Gobgp => "GoBGP",
        }
    }
}

/// One peer of the subject.
#[derive(Clone, Copy, Debug)]
pub(super) struct Neighbour {
    pub(super) address: Ipv4Addr,
    pub(super) asn: u32,
    /// Whether it hears what others announce.
    pub(super) hears: bool,
}

/// A program that runs.
pub(super) struct Subject {
    program: Program,
    ns: Netns,
    dir: PathBuf,
    process: Process,
}

impl Subject {
    pub(super) fn start(
        lab: &Lab,
        ns: &Netns,
        program: Program,
        neighbours: &[Neighbour],
    ) -> Result<Subject> {
        let dir = lab.subdir(program.name())?;
        let write = |name: &str, text: String| std::fs::write(dir.join(name), text);
        let mut command = match program {
            Program::Routerd => {
                let mut command = ns.command(std::env::current_exe()?);
                command.args(speaker::arguments(&dir.join("counts"), neighbours));
                command
            }
            Program::Bird => {
                write("bird.conf", bird(neighbours)?)?;
                let mut command = ns.command("bird");
                command.args(["-f", "-c", "bird.conf", "-s", "bird.ctl", "-P", "bird.pid"]);
                command
            }
            Program::Frr => {
                write("bgpd.conf", frr(neighbours)?)?;
                chown(&dir, Some(id(ns, "-u")?), Some(id(ns, "-g")?))?;
                let mut command = ns.command("/usr/lib/frr/bgpd");
                command.args(["-n", "-Z", "-S", "-f", "bgpd.conf", "-A", "127.0.0.1"]);
                command.args(["-P", "0", "-i", "bgpd.pid", "--vty_socket"]);
                command.arg(&dir);
                command
            }
            Program::Gobgp => {
                write("gobgpd.toml", gobgp(neighbours)?)?;
                let mut command = ns.command("gobgpd");
                command.args(["-f", "gobgpd.toml", "-l", "error", "--pprof-disable"]);
                command.arg(format!("--api-hosts=unix://{}/api", dir.display()));
                command
            }
        };
        command.current_dir(&dir);
        let process = start(program, command, &dir)?;
        Ok(Subject {
            program,
            ns: ns.clone(),
            dir,
            process,
        })
    }

    /// Paths held; known of routerd and BIRD.
    pub(super) fn held(&self) -> Result<usize> {
        if self.program == Program::Routerd {
            return speaker::ask(&self.dir.join("counts"));
        }
        let ask = format!(
            "-s {} show protocols all",
            self.dir.join("bird.ctl").display()
        );
        let text = self.ns.output("birdc", &ask)?;
        // "Routes:         10000 imported, 0 exported, …"
        let counts = text
            .lines()
            .filter_map(|l| l.trim().strip_prefix("Routes:"))
            .filter_map(|l| l.split_once(" imported"));
        let counts = counts.map(|(n, _)| n.trim().parse::<usize>());
        Ok(counts.sum::<Result<usize, _>>()?)
    }

    /// Processor time once it has nothing left to do, and the most memory that it ever had, bytes.
    pub(super) fn spent(&self) -> Result<(Duration, u64)> {
        let mut before = self.process.cpu_time()?;
        let cpu = wait("it to have nothing to do", Duration::from_secs(60), || {
            std::thread::sleep(Duration::from_millis(100));
            let now = self.process.cpu_time()?;
            let idle = now.saturating_sub(before) < Duration::from_millis(20);
            before = now;
            idle.then_some(now).context("it is busy")
        })?;
        Ok((cpu, self.process.peak()?))
    }
}

fn start(program: Program, command: Command, dir: &std::path::Path) -> Result<Process> {
    Process::start(program.name(), command, &dir.join("log"))
}

/// Of FRR's user.
fn id(ns: &Netns, kind: &str) -> Result<u32> {
    Ok(ns.output("id", &format!("{kind} frr"))?.trim().parse()?)
}

fn bird(neighbours: &[Neighbour]) -> Result<String> {
    let mut text = format!("log stderr all;\nrouter id {SUBJECT};\nprotocol device {{ }}\n");
    for n in neighbours {
        let export = if n.hears { "all" } else { "none" };
        writeln!(
            text,
            "protocol bgp {{ local {SUBJECT} as {}; neighbor {} as {}; passive on; ipv4 {{ import all; export {export}; }}; }}",
            speaker::AS,
            n.address,
            n.asn
        )?;
    }
    Ok(text)
}

fn frr(neighbours: &[Neighbour]) -> Result<String> {
    let mut text = format!(
        "router bgp {}\n bgp router-id {SUBJECT}\n no bgp ebgp-requires-policy\n",
        speaker::AS
    );
    for n in neighbours {
        writeln!(text, " neighbor {} remote-as {}", n.address, n.asn)?;
        writeln!(text, " neighbor {} passive", n.address)?;
    }
    Ok(text)
}

fn gobgp(neighbours: &[Neighbour]) -> Result<String> {
    let mut text = format!(
        "[global.config]\nas = {}\nrouter-id = \"{SUBJECT}\"\n",
        speaker::AS
    );
    for n in neighbours {
        writeln!(
            text,
            "[[neighbors]]\n[neighbors.config]\nneighbor-address = \"{}\"\npeer-as = {}\n\
             [neighbors.transport.config]\npassive-mode = true",
            n.address, n.asn
        )?;
    }
    Ok(text)
}
