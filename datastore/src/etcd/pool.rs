//! The endpoints: one client each, one of them in use until it fails.

use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use etcd_client::{Certificate, Client, ConnectOptions, Identity, TlsOptions};
use tokio::sync::OnceCell;
use tokio::time::Instant;

use super::status::{Context, worth_another_endpoint};
use crate::config::EtcdConfig;
use crate::error::{Error, Operation};

/// Where the authorities of the system are found when no `ca` is configured.
const SYSTEM_CA: &str = "/etc/ssl/certs/ca-certificates.crt";
/// etcd refuses clients that ping more often than every 5 s.
const PING_EVERY: Duration = Duration::from_secs(7);
const PING_ANSWER: Duration = Duration::from_secs(5);

struct Endpoint {
    url: String,
    /// Made at first use; it reconnects by itself.
    client: OnceCell<Client>,
}

pub(super) struct Pool {
    endpoints: Vec<Endpoint>,
    options: ConnectOptions,
    /// Index of the endpoint in use.
    current: AtomicUsize,
    deadline: Duration,
}

/// A client, and which endpoint it talks to.
#[derive(Clone)]
pub(super) struct Chosen {
    pub(super) client: Client,
    pub(super) url: String,
    index: usize,
}

impl Pool {
    pub(super) async fn new(config: &EtcdConfig, deadline: Duration) -> Result<Pool, Error> {
        if config.endpoints.is_empty() {
            return Err(invalid(
                "endpoints",
                "is empty; name at least one etcd member",
            ));
        }
        for url in &config.endpoints {
            check_url(url)?;
        }
        let options = options(config, deadline).await?;
        let endpoint = |url: &String| Endpoint {
            url: url.clone(),
            client: OnceCell::new(),
        };
        Ok(Pool {
            endpoints: config.endpoints.iter().map(endpoint).collect(),
            options,
            current: AtomicUsize::new(0),
            deadline,
        })
    }

    pub(super) fn deadline(&self) -> Duration {
        self.deadline
    }

    /// Runs `call` within the deadline, moving to other endpoints while that is safe: when nothing
    /// was sent, or when doing it twice does no harm.
    pub(super) async fn run<T, F, Fut>(&self, what: Context<'_>, call: F) -> Result<T, Error>
    where
        F: Fn(Chosen) -> Fut,
        Fut: Future<Output = Result<T, Error>>,
    {
        let repeatable = what.operation != Operation::Txn;
        let end = Instant::now() + self.deadline;
        let tries = self.endpoints.len();
        let mut left = tries;
        loop {
            let index = self.current.load(Ordering::Relaxed) % tries;
            let remaining = end.saturating_duration_since(Instant::now());
            // A hung endpoint must leave time for the others.
            let share = if repeatable && left > 1 {
                remaining / 2
            } else {
                remaining
            };
            let attempt = async {
                let chosen = self.client(index, what).await?;
                call(chosen).await
            };
            let result = tokio::time::timeout(share, attempt)
                .await
                .unwrap_or_else(|_| {
                    Err(Error::Timeout {
                        operation: what.operation,
                        object: what.object.to_owned(),
                        after: share,
                    })
                });
            let Err(error) = result else {
                return result;
            };
            if !worth_another_endpoint(&error) {
                return Err(error);
            }
            self.failed(index);
            left -= 1;
            let sent = !matches!(error, Error::Unavailable { sent: false, .. });
            if left == 0 || (sent && !repeatable) || Instant::now() >= end {
                return Err(self.naming(error, index));
            }
        }
    }

    /// The client of the endpoint in use.
    async fn client(&self, index: usize, what: Context<'_>) -> Result<Chosen, Error> {
        let Some(endpoint) = self.endpoints.get(index) else {
            return Err(what.unavailable("no endpoint", false));
        };
        let client = endpoint
            .client
            .get_or_try_init(|| Client::connect([&endpoint.url], Some(self.options.clone())))
            .await
            .map_err(|e| match what.error(e) {
                // Only the log-in was sent, not the request.
                Error::Unavailable {
                    operation,
                    object,
                    message,
                    ..
                } => Error::Unavailable {
                    operation,
                    object,
                    message,
                    sent: false,
                },
                other => other,
            })?;
        Ok(Chosen {
            client: client.clone(),
            url: endpoint.url.clone(),
            index,
        })
    }

    /// Moves on from an endpoint, unless somebody else already did.
    fn failed(&self, index: usize) {
        let next = (index + 1) % self.endpoints.len();
        let moved =
            self.current
                .compare_exchange(index, next, Ordering::Relaxed, Ordering::Relaxed);
        if moved.is_ok()
            && next != index
            && let (Some(from), Some(to)) = (self.endpoints.get(index), self.endpoints.get(next))
        {
            tracing::debug!(from = %from.url, to = %to.url, "changing the etcd endpoint");
        }
    }

    /// Moves on from the endpoint that `chosen` talks to.
    pub(super) fn abandon(&self, chosen: &Chosen) {
        self.failed(chosen.index);
    }

    /// Says which endpoint failed last.
    fn naming(&self, error: Error, index: usize) -> Error {
        match (error, self.endpoints.get(index)) {
            (
                Error::Unavailable {
                    operation,
                    object,
                    message,
                    sent,
                },
                Some(endpoint),
            ) => Error::Unavailable {
                operation,
                object,
                message: format!("{}: {message}", endpoint.url),
                sent,
            },
            (error, _) => error,
        }
    }
}

async fn options(config: &EtcdConfig, deadline: Duration) -> Result<ConnectOptions, Error> {
    let mut options = ConnectOptions::new()
        .with_connect_timeout(deadline)
        .with_keep_alive(PING_EVERY, PING_ANSWER)
        // etcd counts pings without a stream as abuse.
        .with_keep_alive_while_idle(false)
        // A member that lost its leader must say so rather than go silent.
        .with_require_leader(true)
        .with_auto_token_refresh(true);
    match (&config.username, &config.password) {
        (Some(user), Some(password)) => options = options.with_user(user, password),
        (None, None) => {}
        (Some(_), None) => return Err(invalid("password_file", "is missing beside username")),
        (None, Some(_)) => return Err(invalid("username", "is missing beside password_file")),
    }
    if config.endpoints.iter().any(|e| e.starts_with("https://")) {
        options = options.with_tls(tls(config).await?);
    } else if let Some((field, _)) = [
        ("ca", &config.ca),
        ("cert", &config.cert),
        ("key", &config.key),
    ]
    .iter()
    .find(|(_, file)| file.is_some())
    {
        return Err(invalid(
            field,
            "has no effect with http:// endpoints; make them https://",
        ));
    }
    Ok(options)
}

async fn tls(config: &EtcdConfig) -> Result<TlsOptions, Error> {
    let ca = match &config.ca {
        Some(file) => read("ca", file).await?,
        None => read("ca", Path::new(SYSTEM_CA)).await?,
    };
    let mut tls = TlsOptions::new().ca_certificate(Certificate::from_pem(ca));
    match (&config.cert, &config.key) {
        (Some(cert), Some(key)) => {
            let identity = Identity::from_pem(read("cert", cert).await?, read("key", key).await?);
            tls = tls.identity(identity);
        }
        (None, None) => {}
        (Some(_), None) => return Err(invalid("key", "is missing beside cert")),
        (None, Some(_)) => return Err(invalid("cert", "is missing beside key")),
    }
    Ok(tls)
}

async fn read(field: &'static str, file: &Path) -> Result<Vec<u8>, Error> {
    tokio::fs::read(file)
        .await
        .map_err(|e| invalid(field, format!("cannot read {}: {e}", file.display())))
}

/// Refuses what the client would take for something else, and secrets that would end up in logs.
fn check_url(url: &str) -> Result<(), Error> {
    let rest = url
        .strip_prefix("http://")
        .or_else(|| url.strip_prefix("https://"));
    let Some(rest) = rest else {
        let shown = url.rsplit('@').next().unwrap_or_default();
        return Err(invalid(
            "endpoints",
            format!("{shown:?} must begin with http:// or https://"),
        ));
    };
    if let Some((_, host)) = rest.split_once('@') {
        return Err(invalid(
            "endpoints",
            format!("{host:?} carries a user; use username and password_file"),
        ));
    }
    if rest.is_empty() {
        return Err(invalid("endpoints", format!("{url:?} names no host")));
    }
    Ok(())
}

fn invalid(field: &'static str, message: impl Into<String>) -> Error {
    Error::Config {
        field,
        message: message.into(),
    }
}
