//! `/metrics` in the text format of Prometheus, and the probes `/live` and `/ready`.

use std::time::Duration;

use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::get;
use axum::{Json, Router};
use model::api::{BgpPeersShow, Health, TunnelsShow};
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::{Registry, Unit};
use tokio::net::TcpListener;

use crate::flows::Measured;
use crate::policy::fill::Fill;
use crate::services::Services;
use crate::tunnel::view::Sources;
use crate::views::Views;

/// Labels of a CNI request.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct CniLabels {
    /// `add`, `del`, `check`, `gc`.
    pub verb: &'static str,
    /// `ok` or `error`.
    pub result: &'static str,
}

/// Counters that code adds to; what can be read off the actors is read when asked for.
#[derive(Clone, Debug)]
pub struct Metrics {
    cni: Family<CniLabels, Histogram, fn() -> Histogram>,
    drift: Counter,
    compile: Histogram,
}

impl Default for Metrics {
    fn default() -> Self {
        // 0.5 ms to 4 s.
        let histogram: fn() -> Histogram = || Histogram::new(exponential_buckets(0.0005, 2.0, 14));
        Metrics {
            cni: Family::new_with_constructor(histogram),
            drift: Counter::default(),
            // 0.1 ms to 1.6 s.
            compile: Histogram::new(exponential_buckets(0.0001, 2.0, 15)),
        }
    }
}

impl Metrics {
    /// Notes a CNI request that took `time`.
    pub fn cni(&self, verb: &'static str, ok: bool, time: Duration) {
        let result = if ok { "ok" } else { "error" };
        self.cni
            .get_or_create(&CniLabels { verb, result })
            .observe(time.as_secs_f64());
    }

    /// Notes how long a change of policy took to compile.
    pub fn policy_compiled(&self, time: Duration) {
        self.compile.observe(time.as_secs_f64());
    }

    /// Notes repaired kernel objects.
    pub fn drift(&self, objects: u64) {
        self.drift.inc_by(objects);
    }
}

#[derive(Clone)]
struct Served {
    metrics: Metrics,
    views: Views,
    tunnels: Option<Sources>,
    bgp: Option<crate::bgp::Handle>,
    policy: Option<(crate::flows::Handle, crate::policy::Handle)>,
}

/// What others were asked for this scrape.
#[derive(Default)]
struct Asked {
    tunnels: Option<TunnelsShow>,
    /// Peers, and learnt routes in the kernel.
    bgp: Option<(BgpPeersShow, usize)>,
    policy: Option<(Measured, Fill)>,
}

/// Serves until cancelled.
pub async fn serve(listener: TcpListener, metrics: Metrics, services: Services) {
    let (views, stop) = (services.views.clone(), services.stop.clone());
    let bgp = Some(services.bgp.clone());
    let policy = Some((services.flows.clone(), services.policy.clone()));
    let tunnels = Some(services.into());
    let app = Router::new()
        .route("/metrics", get(scrape))
        .route("/live", get(|| async { "live\n" }))
        .route("/ready", get(ready))
        .with_state(Served {
            metrics,
            views,
            tunnels,
            bgp,
            policy,
        });
    if let Err(e) = axum::serve(listener, app)
        .with_graceful_shutdown(stop.cancelled_owned())
        .await
    {
        tracing::error!(error = %e, "the metrics listener failed");
    }
}

async fn ready(State(s): State<Served>) -> impl IntoResponse {
    let code = match s.views.is_ready() {
        true => StatusCode::OK,
        false => StatusCode::SERVICE_UNAVAILABLE,
    };
    let status = s.views.status();
    (
        code,
        Json(serde_json::json!({ "ready": status.ready, "subsystems": status.subsystems })),
    )
}

async fn scrape(State(s): State<Served>) -> impl IntoResponse {
    let mut asked = Asked::default();
    if let Some(sources) = &s.tunnels {
        asked.tunnels = crate::tunnel::view::look(&s.views.node, sources).await;
    }
    if let Some(bgp) = &s.bgp {
        asked.bgp = bgp.peers().await.zip(bgp.installed().await);
    }
    if let Some((flows, policy)) = &s.policy {
        let seen = flows.measured().await.ok();
        asked.policy = seen.zip(policy.ask(Fill::of).await.ok());
    }
    let mut text = String::new();
    match encode(&mut text, &registry(&s, &asked)) {
        Ok(()) => (
            [(
                header::CONTENT_TYPE,
                "application/openmetrics-text; version=1.0.0; charset=utf-8",
            )],
            text,
        )
            .into_response(),
        Err(e) => (StatusCode::INTERNAL_SERVER_ERROR, e.to_string()).into_response(),
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct SubsystemLabels {
    subsystem: String,
}

/// Everything under its name, read off the actors now.
fn registry(s: &Served, asked: &Asked) -> Registry {
    let mut registry = Registry::with_prefix("routerd");
    let status = s.views.status();
    let facts = s.views.facts.borrow().clone();
    let mut gauge = |name: &str, help: &str, value: usize| {
        let gauge = Gauge::<i64>::default();
        gauge.set(i64::try_from(value).unwrap_or(i64::MAX));
        registry.register(name, help, gauge);
    };
    gauge(
        "ready",
        "Whether workloads can be served",
        usize::from(status.ready),
    );
    gauge(
        "in_sync",
        "Whether the kernel was reconciled with a complete snapshot",
        usize::from(status.in_sync),
    );
    gauge(
        "revision",
        "Revision of the snapshot in force",
        usize::try_from(status.revision).unwrap_or(0),
    );
    gauge("nodes", "Nodes in the mesh", facts.nodes);
    gauge(
        "local_endpoints",
        "Workload endpoints on this node",
        facts.local_endpoints,
    );
    let policy = s.views.policy.borrow().clone();
    gauge(
        "policy_cut_off_workloads",
        "Workloads that are cut off, since policies select them that this node cannot enforce",
        policy.map_or(0, |view| view.cut_off),
    );
    gauge(
        "remote_endpoints",
        "Workload endpoints on other nodes",
        facts.remote_endpoints,
    );
    gauge("blocks", "Address blocks of all nodes", facts.blocks);
    gauge(
        "rejected_objects",
        "Stored values that cannot be read",
        facts.rejected.len(),
    );
    gauge(
        "problems",
        "Parts of the mesh that cannot work as configured",
        status.problems.len(),
    );
    gauge(
        "workload_mtu_bytes",
        "MTU of workload interfaces",
        usize::try_from(status.workload_mtu).unwrap_or(0),
    );
    let subsystems = Family::<SubsystemLabels, Gauge>::default();
    for subsystem in status.subsystems {
        let healthy = i64::from(subsystem.state == Health::Ok);
        subsystems
            .get_or_create(&SubsystemLabels {
                subsystem: subsystem.name,
            })
            .set(healthy);
    }
    registry.register(
        "subsystem_healthy",
        "Whether a subsystem is well",
        subsystems,
    );
    registry.register(
        "drift_repaired",
        "Kernel objects changed by others and repaired",
        s.metrics.drift.clone(),
    );
    registry.register_with_unit(
        "cni_duration",
        "Time that CNI requests took in the daemon",
        Unit::Seconds,
        s.metrics.cni.clone(),
    );
    if let Some(shown) = &asked.tunnels {
        crate::tunnel::metrics::register(&mut registry, shown);
    }
    registry.register_with_unit(
        "policy_compile",
        "Time that changes of policy took to compile",
        Unit::Seconds,
        s.metrics.compile.clone(),
    );
    if let Some((seen, fill)) = &asked.policy {
        crate::policy::metrics::register(&mut registry, seen, fill);
    }
    if let Some((shown, installed)) = &asked.bgp {
        crate::bgp::metrics::register(&mut registry, shown, *installed);
    }
    registry
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::views::tests::Actors;

    /// Name, type and meaning of each metric, as a scraper sees them.
    fn served() -> BTreeSet<[String; 3]> {
        let actors = Actors::new();
        actors.reconcile.send_modify(|r| {
            r.subsystems.push(model::api::Subsystem {
                name: "links".to_owned(),
                state: Health::Ok,
                message: String::new(),
            });
        });
        let (metrics, views) = (Metrics::default(), actors.views());
        metrics.cni("add", true, Duration::from_millis(3));
        let mut text = String::new();
        let served = Served {
            metrics,
            views,
            tunnels: None,
            bgp: None,
            policy: None,
        };
        let asked = Asked {
            tunnels: Some(crate::tunnel::metrics::sample()),
            bgp: Some((crate::bgp::metrics::sample(), 2)),
            policy: Some(crate::policy::metrics::sample()),
        };
        encode(&mut text, &registry(&served, &asked)).unwrap();
        let lines = |word: &'static str| {
            let lines = text.lines().filter_map(move |l| l.strip_prefix(word));
            lines.filter_map(|l| l.split_once(' '))
        };
        lines("# TYPE ")
            .map(|(name, kind)| {
                let help = lines("# HELP ").find(|(n, _)| *n == name).unwrap().1;
                let shown = match kind {
                    "counter" => format!("{name}_total"),
                    _ => name.to_owned(),
                };
                assert!(text.lines().any(|l| l.starts_with(&shown)), "{shown}");
                [
                    shown,
                    kind.to_owned(),
                    help.trim_end_matches('.').to_owned(),
                ]
            })
            .collect()
    }

    #[test]
    fn the_page_lists_exactly_what_is_served() {
        let page = include_str!("../../docs/metrics.md");
        let rows = page.lines().filter(|l| l.starts_with("| `routerd_"));
        let documented: BTreeSet<[String; 3]> = rows
            .map(|row| {
                let cells: Vec<&str> = row.split('|').map(str::trim).collect();
                [cells[1].trim_matches('`'), cells[2], cells[4]].map(str::to_owned)
            })
            .collect();
        assert_eq!(served(), documented);
    }
}
