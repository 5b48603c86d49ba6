//! A host of the mesh: its namespace, its daemon and the operator's tool on it.

use std::io::Write;
use std::net::IpAddr;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use nix::sys::socket::{getsockopt, sockopt};
use nix::unistd::Pid;
use serde_json::Value;

use super::bpffs::BpfFs;
use super::{Lab, Netns, Process, binaries, http};

/// A daemon that is not ready after this long never will be.
const READY: Duration = Duration::from_secs(20);
const STOP: Duration = Duration::from_secs(10);
/// Where `wg` looks for devices in userspace. Nodes share the machine's file system, so each has its own.
const WIREGUARD_RUN: &str = "/run/wireguard";

/// A host. Its daemon dies with it.
#[derive(Debug)]
pub struct Node {
    /// Its name, also in the mesh.
    pub name: String,
    /// Its namespace.
    pub ns: Netns,
    /// Its underlay addresses, IPv4 first.
    pub ips: Vec<IpAddr>,
    dir: PathBuf,
    /// Where its own copies of the programs are, if it has any.
    programs: Option<PathBuf>,
    daemon: Option<Process>,
    /// Where its policy is pinned. After the daemon, which ends first.
    _bpf: BpfFs,
}

/// What a run of `routerctl` gave.
#[derive(Clone, Debug)]
pub struct Output {
    /// Exit status; `None` when killed.
    pub code: Option<i32>,
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
}

impl Node {
    /// A host whose daemon uses etcd at `etcd`, or the embedded store when there is none.
    ///
    /// # Errors
    /// When its directories cannot be made.
    pub fn new(
        lab: &Lab,
        name: &str,
        ns: &Netns,
        ips: Vec<IpAddr>,
        etcd: Option<&str>,
    ) -> Result<Node> {
        let dir = lab.subdir(name)?;
        lab.subdir(&format!("{name}/wireguard"))?;
        // Shown as another directory to the programs of each node.
        std::fs::create_dir_all(WIREGUARD_RUN).with_context(|| format!("make {WIREGUARD_RUN}"))?;
        let node = Node {
            name: name.to_owned(),
            ns: ns.clone(),
            ips,
            dir,
            programs: None,
            daemon: None,
            _bpf: BpfFs::mount(lab.subdir(&format!("{name}/bpf"))?)?,
        };
        node.write_config(&node.config_text(etcd))?;
        Ok(node)
    }

    fn config_text(&self, etcd: Option<&str>) -> String {
        let dir = self.dir.display();
        let store = match etcd {
            Some(url) => format!("kind = \"etcd\"\nendpoints = [\"{url}\"]"),
            None => "kind = \"embedded\"".to_owned(),
        };
        let level = std::env::var("ROUTERD_LAB_LOG").unwrap_or_else(|_| "info".to_owned());
        format!(
            "node = \"{}\"\nstate_dir = \"{dir}/state\"\nrun_dir = \"{dir}/run\"\n\
             bpf_dir = \"{dir}/bpf/routerd\"\n\n[datastore]\n{store}\n\n[log]\nlevel = \"{level}\"\n",
            self.name
        )
    }

    /// Replaces `routerd.toml`; the daemon reads it at its next start.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn write_config(&self, text: &str) -> Result<()> {
        Ok(std::fs::write(self.config(), text)?)
    }

    /// Adds lines to the end of `routerd.toml`; the daemon reads it at its next start.
    ///
    /// # Errors
    /// When it cannot be read or written.
    pub fn configure(&self, lines: &str) -> Result<()> {
        let text = std::fs::read_to_string(self.config())?;
        self.write_config(&format!("{text}\n{lines}\n"))
    }

    /// Leaves the daemon no BPF file system, from its next start on: it enforces no policy. What one before has put to
    /// interfaces stays there.
    ///
    /// # Errors
    /// When its configuration cannot be read or written.
    pub fn lacks_bpf(&self) -> Result<()> {
        let text = std::fs::read_to_string(self.config())?;
        self.write_config(&text.replace("/bpf/routerd", "/state/bpf"))
    }

    /// Gives it back, from the daemon's next start on.
    ///
    /// # Errors
    /// When its configuration cannot be read or written.
    pub fn has_bpf(&self) -> Result<()> {
        let text = std::fs::read_to_string(self.config())?;
        self.write_config(&text.replace("/state/bpf", "/bpf/routerd"))
    }

    /// Path of `routerd.toml`.
    pub fn config(&self) -> PathBuf {
        self.dir.join("routerd.toml")
    }

    /// The node's directory: `state`, `run`, `routerd.toml` and `routerd.log` are below it.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Path of the daemon's socket.
    pub fn socket(&self) -> PathBuf {
        self.dir.join("run/routerd.sock")
    }

    /// The daemon, while it was not stopped.
    pub fn daemon(&mut self) -> Option<&mut Process> {
        self.daemon.as_mut()
    }

    /// Puts new copies of the programs in place of the older ones, as a package manager does. The daemon
    /// runs from them from its next start on.
    ///
    /// # Errors
    /// When they cannot be written.
    pub fn install(&mut self) -> Result<()> {
        let dir = self.dir.join("programs");
        std::fs::create_dir_all(&dir)?;
        for name in ["routerd", "routerd-tunnel"] {
            let new = dir.join(format!("{name}.new"));
            std::fs::copy(binaries::find(name)?, &new)?;
            std::fs::rename(&new, dir.join(name))?;
        }
        self.programs = Some(dir);
        Ok(())
    }

    /// A program on this host: in its namespace, and with its own sockets of WireGuard devices.
    pub fn command(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let own = (self.dir.join("wireguard"), WIREGUARD_RUN.into());
        self.ns.command_with_binds(program, &[own])
    }

    /// Starts the daemon; does not wait for it.
    ///
    /// # Errors
    /// When it runs already or cannot be started.
    pub fn start(&mut self) -> Result<()> {
        ensure!(
            self.daemon.is_none(),
            "the daemon of {} runs already",
            self.name
        );
        let program = match &self.programs {
            Some(dir) => dir.join("routerd"),
            None => binaries::find("routerd")?,
        };
        let mut command = self.command(program);
        command
            .arg("run")
            .arg("--config")
            .arg(self.config())
            .env_remove("RUST_LOG");
        let log = self.dir.join("routerd.log");
        self.daemon = Some(Process::start(
            &format!("routerd on {}", self.name),
            command,
            &log,
        )?);
        Ok(())
    }

    /// Starts the daemon and waits until it is ready.
    ///
    /// # Errors
    /// As [`Node::start`] and [`Node::wait_ready`].
    pub fn start_ready(&mut self) -> Result<()> {
        self.start()?;
        self.wait_ready()
    }

    /// Waits until `status` says ready and in sync.
    ///
    /// # Errors
    /// When the daemon ends or is not ready in time.
    pub fn wait_ready(&mut self) -> Result<()> {
        let what = format!("{} to be ready and in sync", self.name);
        let mut daemon = self.daemon.take().context("the daemon was not started")?;
        let outcome = super::wait_for(&mut daemon, &what, READY, || {
            let status = self.status()?;
            let yes = |field: &str| status.get(field).and_then(Value::as_bool) == Some(true);
            ensure!(yes("ready") && yes("inSync"), "status: {status}");
            Ok(())
        });
        self.daemon = Some(daemon);
        outcome
    }

    /// SIGTERM, and waits for the daemon's end.
    ///
    /// # Errors
    /// When it does not run or does not end.
    pub fn stop(&mut self) -> Result<ExitStatus> {
        self.daemon
            .take()
            .context("the daemon does not run")?
            .terminate(STOP)
    }

    /// SIGKILL.
    ///
    /// # Errors
    /// When it does not run.
    pub fn kill(&mut self) -> Result<()> {
        self.daemon
            .take()
            .context("the daemon does not run")?
            .kill()
            .map(drop)
    }

    /// Runs `routerd` with other arguments than `run`, to its end.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn routerd(&self, args: &[&str]) -> Result<Output> {
        let out = self
            .command(binaries::find("routerd")?)
            .args(args)
            .arg("--config")
            .arg(self.config())
            .stdin(Stdio::null())
            .output()?;
        Ok(output(&out))
    }

    /// What `wg show rtd.wg` prints of something, such as `latest-handshakes`.
    ///
    /// # Errors
    /// When there is no such device, or it does not answer.
    pub fn wg_show(&self, what: &str) -> Result<String> {
        let mut command = self.command(binaries::system("wg")?);
        command.args(["show", model::marks::WIREGUARD, what]);
        let out = output(&command.output()?);
        ensure!(out.code == Some(0), "wg show {what}: {}", out.stderr);
        Ok(out.stdout)
    }

    /// The process that serves the tunnel in userspace.
    ///
    /// # Errors
    /// When there is none.
    pub fn holder(&self) -> Result<Pid> {
        let socket = self.dir.join("wireguard/rtd.wg.sock");
        let stream = UnixStream::connect(&socket);
        let stream = stream.with_context(|| format!("connect {}", socket.display()))?;
        let who = getsockopt(&stream, sockopt::PeerCredentials)?;
        Ok(Pid::from_raw(who.pid()))
    }

    /// Runs `routerctl`.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn ctl(&self, args: &[&str]) -> Result<Output> {
        self.ctl_stdin(args, "")
    }

    /// Runs `routerctl` with text on its standard input.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn ctl_stdin(&self, args: &[&str], stdin: &str) -> Result<Output> {
        let mut child = self
            .ns
            .command(binaries::find("routerctl")?)
            .args(args)
            .env("ROUTERD_SOCKET", self.socket())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()?;
        if let Some(mut pipe) = child.stdin.take() {
            // A refusal may come before all was read.
            let _ = pipe.write_all(stdin.as_bytes());
        }
        Ok(output(&child.wait_with_output()?))
    }

    /// Runs `routerctl … -o json` and reads what it prints; it must succeed.
    ///
    /// # Errors
    /// When it fails or prints no JSON.
    pub fn json(&self, args: &[&str]) -> Result<Value> {
        let mut all = args.to_vec();
        all.extend(["-o", "json"]);
        self.ctl(&all)?.must_succeed(&all)?.json()
    }

    /// `routerctl status -o json`.
    ///
    /// # Errors
    /// When the daemon does not answer.
    pub fn status(&self) -> Result<Value> {
        self.json(&["status"])
    }

    /// `routerctl apply` of a manifest; it must succeed.
    ///
    /// # Errors
    /// When it is refused.
    pub fn apply(&self, manifest: &str) -> Result<()> {
        let args = ["apply", "-f", "-"];
        self.ctl_stdin(&args, manifest)?
            .must_succeed(&args)
            .map(drop)
    }

    /// A plain request to the socket, as `curl --unix-socket` makes it.
    ///
    /// # Errors
    /// When the daemon does not answer.
    pub fn http(&self, method: &str, path: &str, body: &[u8]) -> Result<http::Answer> {
        let socket = self.socket();
        let stream = UnixStream::connect(&socket)
            .with_context(|| format!("connect {}", socket.display()))?;
        stream.set_read_timeout(Some(STOP))?;
        http::request(stream, method, path, body)
    }
}

impl Output {
    /// Fails unless the exit status was 0.
    ///
    /// # Errors
    /// With what was printed.
    pub fn must_succeed(self, args: &[&str]) -> Result<Output> {
        if self.code != Some(0) {
            bail!(
                "routerctl {}: exit {:?}\n{}{}",
                args.join(" "),
                self.code,
                self.stdout,
                self.stderr
            );
        }
        Ok(self)
    }

    /// Reads standard output as JSON.
    ///
    /// # Errors
    /// When it is none.
    pub fn json(&self) -> Result<Value> {
        serde_json::from_str(&self.stdout).with_context(|| format!("not JSON: {}", self.stdout))
    }
}

fn output(out: &std::process::Output) -> Output {
    Output {
        code: out.status.code(),
        stdout: String::from_utf8_lossy(&out.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&out.stderr).into_owned(),
    }
}
