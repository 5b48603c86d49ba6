//! A real etcd in a namespace, with the faults that a store has.

use std::net::{IpAddr, SocketAddr, TcpStream};
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use nix::sys::signal::Signal;
use serde_json::{Value, json};

use super::{Lab, Netns, Process, binaries, http};

/// Operations that etcd takes in one transaction.
const TXN_OPS: usize = 128;
const PATIENCE: Duration = Duration::from_secs(15);
/// Longest wait for one answer while etcd starts.
const ATTEMPT: Duration = Duration::from_secs(1);

/// One etcd member, started.
#[derive(Debug)]
pub struct Etcd {
    ns: Netns,
    ip: IpAddr,
    dir: PathBuf,
    process: Option<Process>,
}

impl Etcd {
    /// Starts etcd inside a namespace, listening on one of its addresses, port 2379.
    ///
    /// # Errors
    /// When it does not answer in time.
    pub fn start(lab: &Lab, ns: &Netns, ip: IpAddr) -> Result<Etcd> {
        let mut etcd = Etcd {
            ns: ns.clone(),
            ip,
            dir: lab.subdir("etcd")?,
            process: None,
        };
        etcd.up()?;
        Ok(etcd)
    }

    /// What goes into `datastore.endpoints`.
    pub fn url(&self) -> String {
        format!("http://{}", SocketAddr::new(self.ip, 2379))
    }

    /// Starts it again with the data it had.
    ///
    /// # Errors
    /// When it runs already or does not answer in time.
    pub fn up(&mut self) -> Result<()> {
        if self.process.is_some() {
            bail!("etcd runs already");
        }
        let peer = format!("http://{}", SocketAddr::new(self.ip, 2380));
        let mut command = self.ns.command(binaries::system("etcd")?);
        command
            .args(["--name", "lab", "--data-dir"])
            .arg(self.dir.join("data"))
            .args(["--listen-client-urls", &self.url()])
            .args(["--advertise-client-urls", &self.url()])
            .args(["--listen-peer-urls", &peer])
            .args(["--initial-advertise-peer-urls", &peer])
            .args(["--initial-cluster", &format!("lab={peer}")])
            .args(["--logger", "zap", "--log-level", "warn"])
            .args(["--quota-backend-bytes", "2147483648"])
            // Watchers learn often that nothing happened, so that silence is noticed in a test's time.
            .args(["--experimental-watch-progress-notify-interval", "2s"]);
        if cfg!(not(target_arch = "x86_64")) {
            // etcd 3.4 starts elsewhere only when told that this is meant.
            command.env("ETCD_UNSUPPORTED_ARCH", std::env::consts::ARCH);
        }
        let mut process = Process::start("etcd", command, &self.dir.join("etcd.log"))?;
        super::wait_for(&mut process, "etcd to answer", PATIENCE, || {
            // Short attempts, so that one slow answer does not use up the patience.
            let body = json!({ "key": b64("lab/ready") });
            self.call_within("kv/range", &body, ATTEMPT).map(drop)
        })?;
        self.process = Some(process);
        Ok(())
    }

    /// Stops it in order.
    ///
    /// # Errors
    /// When it is not running or does not stop.
    pub fn stop(&mut self) -> Result<()> {
        let mut process = self.process.take().context("etcd does not run")?;
        process.terminate(PATIENCE).map(drop)
    }

    /// Kills it.
    ///
    /// # Errors
    /// When it is not running.
    pub fn kill(&mut self) -> Result<()> {
        self.process
            .take()
            .context("etcd does not run")?
            .kill()
            .map(drop)
    }

    /// Freezes it: connections stay open and nothing answers.
    ///
    /// # Errors
    /// When it is not running.
    pub fn freeze(&self) -> Result<()> {
        self.process
            .as_ref()
            .context("etcd does not run")?
            .signal(Signal::SIGSTOP)
    }

    /// Ends [`Etcd::freeze`].
    ///
    /// # Errors
    /// When it is not running.
    pub fn thaw(&self) -> Result<()> {
        self.process
            .as_ref()
            .context("etcd does not run")?
            .signal(Signal::SIGCONT)
    }

    /// Removes its data; it must be stopped. It comes back empty.
    ///
    /// # Errors
    /// When it runs.
    pub fn wipe(&self) -> Result<()> {
        if self.process.is_some() {
            bail!("stop etcd before its data is removed");
        }
        Ok(std::fs::remove_dir_all(self.dir.join("data"))?)
    }

    /// Writes a key.
    ///
    /// # Errors
    /// When etcd refuses.
    pub fn put(&self, key: &str, value: impl AsRef<[u8]>) -> Result<()> {
        self.call(
            "kv/put",
            &json!({ "key": b64(key), "value": http::base64(value.as_ref()) }),
        )
        .map(drop)
    }

    /// Writes many keys, as many as possible in a transaction.
    ///
    /// # Errors
    /// When etcd refuses.
    pub fn put_all(&self, pairs: &[(String, String)]) -> Result<()> {
        for chunk in pairs.chunks(TXN_OPS) {
            let ops: Vec<Value> = chunk
                .iter()
                .map(|(k, v)| json!({ "requestPut": { "key": b64(k), "value": b64(v) } }))
                .collect();
            self.call("kv/txn", &json!({ "success": ops }))?;
        }
        Ok(())
    }

    /// Reads a key.
    ///
    /// # Errors
    /// When etcd does not answer.
    pub fn get(&self, key: &str) -> Result<Option<String>> {
        let answer = self.call("kv/range", &json!({ "key": b64(key) }))?;
        Ok(pairs(&answer)?.into_iter().next().map(|(_, v)| v))
    }

    /// Reads all keys that start with a prefix.
    ///
    /// # Errors
    /// When etcd does not answer.
    pub fn list(&self, prefix: &str) -> Result<Vec<(String, String)>> {
        let end = past(prefix);
        let answer = self.call(
            "kv/range",
            &json!({ "key": b64(prefix), "range_end": http::base64(&end) }),
        )?;
        pairs(&answer)
    }

    /// Deletes a key.
    ///
    /// # Errors
    /// When etcd refuses.
    pub fn delete(&self, key: &str) -> Result<()> {
        self.call("kv/deleterange", &json!({ "key": b64(key) }))
            .map(drop)
    }

    /// Ends the lease that a key hangs on, as time does.
    ///
    /// # Errors
    /// When there is no such key, or it hangs on none.
    pub fn revoke_lease_of(&self, key: &str) -> Result<()> {
        let answer = self.call("kv/range", &json!({ "key": b64(key) }))?;
        let lease = answer.pointer("/kvs/0/lease");
        let lease = lease.with_context(|| format!("{key} has no lease: {answer}"))?;
        self.call("lease/revoke", &json!({ "ID": lease })).map(drop)
    }

    /// Forgets all history before now, so that old watches cannot be resumed.
    ///
    /// # Errors
    /// When etcd refuses.
    pub fn compact(&self) -> Result<()> {
        let answer = self.call("kv/range", &json!({ "key": b64("lab/ready") }))?;
        let revision = answer
            .pointer("/header/revision")
            .cloned()
            .context("no revision")?;
        self.call(
            "kv/compaction",
            &json!({ "revision": revision, "physical": true }),
        )
        .map(drop)
    }

    fn call(&self, method: &str, body: &Value) -> Result<Value> {
        self.call_within(method, body, PATIENCE)
    }

    fn call_within(&self, method: &str, body: &Value, limit: Duration) -> Result<Value> {
        let body = serde_json::to_vec(body)?;
        let path = format!("/v3/{method}");
        let to = SocketAddr::new(self.ip, 2379);
        let answer = self.ns.run(|| {
            let stream = TcpStream::connect_timeout(&to, Duration::from_secs(2))
                .with_context(|| format!("connect to etcd at {to}"))?;
            stream.set_read_timeout(Some(limit))?;
            http::request(stream, "POST", &path, &body)
        })?;
        if answer.status != 200 {
            bail!(
                "etcd {method}: {}: {}",
                answer.status,
                String::from_utf8_lossy(&answer.body)
            );
        }
        Ok(serde_json::from_slice(&answer.body)?)
    }
}

fn b64(text: &str) -> String {
    http::base64(text.as_bytes())
}

/// The end of the range of keys that start with `prefix`.
fn past(prefix: &str) -> Vec<u8> {
    let mut end = prefix.as_bytes().to_vec();
    while let Some(last) = end.pop() {
        if last < u8::MAX {
            end.push(last + 1);
            return end;
        }
    }
    vec![0]
}

fn pairs(answer: &Value) -> Result<Vec<(String, String)>> {
    let decode = |v: &Value, field: &str| -> Result<String> {
        let text = v.get(field).and_then(Value::as_str).unwrap_or_default();
        Ok(String::from_utf8_lossy(&http::unbase64(text)?).into_owned())
    };
    answer
        .get("kvs")
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
        .map(|kv| Ok((decode(kv, "key")?, decode(kv, "value")?)))
        .collect()
}
