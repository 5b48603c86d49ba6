//! Real etcd servers for tests: started, stopped, hung, wiped and killed on drop.
//!
//! Every member gets a loopback address of its own, so the standard ports never collide between
//! tests that run at once. Nothing here is part of the daemon.

mod tls;

use std::fs::File;
use std::net::{IpAddr, Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tempfile::TempDir;

pub use tls::Certificates;

use crate::config::EtcdConfig;

const CLIENT_PORT: u16 = 2379;
const PEER_PORT: u16 = 2380;
/// Longest that a server may take to become healthy.
const READY_WITHIN: Duration = Duration::from_secs(60);

/// How to start etcd; the default is one member on loopback without TLS.
#[derive(Clone, Debug, Default)]
pub struct EtcdOptions {
    /// Members' addresses; as many members as addresses. Empty: one member on loopback.
    pub addresses: Vec<IpAddr>,
    /// Put before the command line of `etcd` and `etcdctl`, as `ip netns exec NAME`.
    pub wrap: Vec<String>,
    /// Serve clients over TLS, with certificates made for the occasion.
    pub tls: bool,
    /// More arguments for `etcd`.
    pub args: Vec<String>,
}

impl EtcdOptions {
    /// `members` members on loopback addresses of their own.
    pub fn members(members: usize) -> EtcdOptions {
        EtcdOptions {
            addresses: (0..members).map(|_| free_loopback()).collect(),
            ..EtcdOptions::default()
        }
    }
}

/// A running etcd cluster; all of it is gone when dropped.
#[derive(Debug)]
pub struct EtcdCluster {
    members: Vec<Member>,
    wrap: Vec<String>,
    certificates: Option<Certificates>,
    /// `user:password` for `etcdctl`.
    login: Option<String>,
    dir: TempDir,
}

#[derive(Debug)]
struct Member {
    name: String,
    url: String,
    data: PathBuf,
    log: PathBuf,
    command: Vec<String>,
    process: Option<Child>,
}

impl EtcdCluster {
    /// Starts one member on loopback and waits until it is healthy.
    pub fn single() -> Result<EtcdCluster, String> {
        EtcdCluster::start(EtcdOptions::members(1))
    }

    /// Starts a cluster and waits until every member is healthy.
    pub fn start(options: EtcdOptions) -> Result<EtcdCluster, String> {
        let dir = TempDir::new().map_err(|e| format!("cannot make a directory for etcd: {e}"))?;
        let mut addresses = options.addresses;
        if addresses.is_empty() {
            addresses.push(free_loopback());
        }
        let certificates = match options.tls {
            true => Some(Certificates::make(dir.path(), &addresses)?),
            false => None,
        };
        let peers: Vec<String> = addresses
            .iter()
            .enumerate()
            .map(|(i, ip)| format!("m{i}=http://{}", socket(*ip, PEER_PORT)))
            .collect();
        let peers = peers.join(",");
        let mut members = Vec::new();
        for (i, ip) in addresses.iter().enumerate() {
            let data = dir.path().join(format!("m{i}"));
            let scheme = if options.tls { "https" } else { "http" };
            let url = format!("{scheme}://{}", socket(*ip, CLIENT_PORT));
            let peer = format!("http://{}", socket(*ip, PEER_PORT));
            let mut command = options.wrap.clone();
            command.push("etcd".into());
            for (flag, value) in [
                ("--name", format!("m{i}")),
                ("--data-dir", data.display().to_string()),
                ("--listen-client-urls", url.clone()),
                ("--advertise-client-urls", url.clone()),
                ("--listen-peer-urls", peer.clone()),
                ("--initial-advertise-peer-urls", peer),
                ("--initial-cluster", peers.clone()),
                ("--initial-cluster-token", dir.path().display().to_string()),
                ("--logger", "zap".into()),
                ("--log-level", "warn".into()),
            ] {
                command.extend([flag.to_owned(), value]);
            }
            if let Some(c) = &certificates {
                command.extend(c.server_args());
            }
            command.extend(options.args.iter().cloned());
            members.push(Member {
                name: format!("m{i}"),
                url,
                data,
                log: dir.path().join(format!("m{i}.log")),
                command,
                process: None,
            });
        }
        let mut cluster = EtcdCluster {
            members,
            wrap: options.wrap,
            certificates,
            login: None,
            dir,
        };
        for member in &mut cluster.members {
            member.start()?;
        }
        for i in 0..cluster.members.len() {
            cluster.wait_healthy(i)?;
        }
        Ok(cluster)
    }

    /// Client URLs of all members.
    pub fn endpoints(&self) -> Vec<String> {
        self.members.iter().map(|m| m.url.clone()).collect()
    }

    /// A config that reaches this cluster, without a user.
    pub fn config(&self, prefix: &str) -> EtcdConfig {
        let c = self.certificates.as_ref();
        EtcdConfig {
            endpoints: self.endpoints(),
            prefix: prefix.to_owned(),
            ca: c.map(|c| c.ca.clone()),
            cert: c.map(|c| c.client_cert.clone()),
            key: c.map(|c| c.client_key.clone()),
            username: None,
            password: None,
        }
    }

    /// From now on `etcdctl`, and so the health checks, log in as this `user:password`.
    pub fn log_in_as(&mut self, login: impl Into<String>) {
        self.login = Some(login.into());
    }

    /// The directory that everything of this cluster is in.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// Hangs a member: it keeps its connections and answers nothing.
    pub fn pause(&self, member: usize) -> Result<(), String> {
        self.signal(member, Signal::SIGSTOP)
    }

    /// Lets a hung member go on.
    pub fn resume(&self, member: usize) -> Result<(), String> {
        self.signal(member, Signal::SIGCONT)
    }

    /// Ends a member as a crash would.
    pub fn kill(&mut self, member: usize) -> Result<(), String> {
        self.member_mut(member)?.stop();
        Ok(())
    }

    /// Starts a member that was killed and waits until it is healthy.
    pub fn restart(&mut self, member: usize) -> Result<(), String> {
        self.member_mut(member)?.start()?;
        self.wait_healthy(member)
    }

    /// Deletes what a killed member stored, so that it comes back empty.
    pub fn wipe(&self, member: usize) -> Result<(), String> {
        let m = self.member(member)?;
        if m.process.is_some() {
            return Err(format!("kill etcd member {} before wiping it", m.name));
        }
        std::fs::remove_dir_all(&m.data).map_err(|e| format!("cannot wipe {}: {e}", m.name))
    }

    /// Runs `etcdctl` against one member; the answer is what it printed.
    pub fn etcdctl(&self, member: usize, args: &[&str]) -> Result<String, String> {
        let mut line = self.wrap.clone();
        line.extend(["etcdctl".to_owned(), "--endpoints".into()]);
        line.push(self.member(member)?.url.clone());
        if let Some(c) = &self.certificates {
            line.extend(c.client_args());
        }
        if let Some(login) = &self.login {
            line.extend(["--user".to_owned(), login.clone()]);
        }
        line.extend(args.iter().map(|a| (*a).to_owned()));
        let output = command(&line)?
            .env("ETCDCTL_API", "3")
            .stdin(Stdio::null())
            .output()
            .map_err(|e| not_installed("etcdctl", &e))?;
        if !output.status.success() {
            let said = String::from_utf8_lossy(&output.stderr);
            return Err(format!("etcdctl {args:?}: {}", said.trim()));
        }
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// Index of the member that leads.
    pub fn leader(&self) -> Result<usize, String> {
        for i in 0..self.members.len() {
            // Killed members do not answer.
            if let Ok(status) = self.status(i)
                && status.0 == status.1
            {
                return Ok(i);
            }
        }
        Err("etcd has no leader".into())
    }

    /// Makes another member the leader.
    pub fn move_leader(&self, to: usize) -> Result<(), String> {
        let (id, _) = self.status(to)?;
        self.etcdctl(self.leader()?, &["move-leader", &format!("{id:x}")])?;
        Ok(())
    }

    /// Ids of a member and of its leader.
    fn status(&self, member: usize) -> Result<(u64, u64), String> {
        let args = ["--command-timeout=5s", "endpoint", "status", "-w", "json"];
        let json = self.etcdctl(member, &args)?;
        let json: serde_json::Value =
            serde_json::from_str(&json).map_err(|e| format!("etcdctl endpoint status: {e}"))?;
        let number = |pointer| json.pointer(pointer).and_then(serde_json::Value::as_u64);
        number("/0/Status/header/member_id")
            .zip(number("/0/Status/leader"))
            .ok_or_else(|| format!("etcdctl endpoint status: unexpected {json}"))
    }

    fn wait_healthy(&mut self, member: usize) -> Result<(), String> {
        let begin = Instant::now();
        loop {
            let args = ["--command-timeout=2s", "endpoint", "health"];
            let Err(problem) = self.etcdctl(member, &args) else {
                return Ok(());
            };
            let m = self.member_mut(member)?;
            let ended = match &mut m.process {
                Some(p) => p.try_wait().map_err(|e| e.to_string())?.is_some(),
                None => true,
            };
            if ended || begin.elapsed() > READY_WITHIN {
                let log = std::fs::read_to_string(&m.log).unwrap_or_default();
                let tail: Vec<&str> = log.lines().rev().take(5).collect();
                return Err(format!(
                    "etcd {} is not healthy: {problem}: {tail:?}",
                    m.name
                ));
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    fn signal(&self, member: usize, signal: Signal) -> Result<(), String> {
        let m = self.member(member)?;
        let process = m.process.as_ref();
        let pid = process.and_then(|p| i32::try_from(p.id()).ok());
        let pid = pid.ok_or_else(|| format!("etcd {} is not running", m.name))?;
        kill(Pid::from_raw(pid), signal).map_err(|e| format!("cannot signal {}: {e}", m.name))
    }

    fn member(&self, index: usize) -> Result<&Member, String> {
        let m = self.members.get(index);
        m.ok_or_else(|| format!("etcd has no member {index}"))
    }

    fn member_mut(&mut self, index: usize) -> Result<&mut Member, String> {
        let m = self.members.get_mut(index);
        m.ok_or_else(|| format!("etcd has no member {index}"))
    }
}

impl Member {
    fn start(&mut self) -> Result<(), String> {
        let log = File::options().create(true).append(true).open(&self.log);
        let log = log.map_err(|e| format!("cannot write {}: {e}", self.log.display()))?;
        let copy = log.try_clone().map_err(|e| e.to_string())?;
        let child = command(&self.command)?
            .stdin(Stdio::null())
            .stdout(copy)
            .stderr(log)
            .spawn()
            .map_err(|e| not_installed("etcd", &e))?;
        self.process = Some(child);
        Ok(())
    }

    fn stop(&mut self) {
        if let Some(mut process) = self.process.take() {
            let _ = process.kill();
            let _ = process.wait();
        }
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        self.stop();
    }
}

fn command(line: &[String]) -> Result<Command, String> {
    let (program, args) = line.split_first().ok_or("an empty command line")?;
    let mut command = Command::new(program);
    command.args(args);
    Ok(command)
}

fn not_installed(program: &str, e: &std::io::Error) -> String {
    format!("cannot run {program}: {e}; install it: apt-get install etcd-server etcd-client")
}

fn socket(ip: IpAddr, port: u16) -> String {
    std::net::SocketAddr::new(ip, port).to_string()
}

/// A loopback address on which nobody listens at etcd's ports.
pub fn free_loopback() -> IpAddr {
    use std::hash::{BuildHasher, RandomState};
    loop {
        let random = RandomState::new().hash_one(std::process::id());
        let [a, b, c, ..] = random.to_ne_bytes();
        // Not 127.0/16, where people keep their own things.
        let ip = IpAddr::V4(Ipv4Addr::new(127, a.max(1), b, c.clamp(1, 254)));
        let free = |port| TcpListener::bind((ip, port)).is_ok();
        if free(CLIENT_PORT) && free(PEER_PORT) {
            return ip;
        }
    }
}
