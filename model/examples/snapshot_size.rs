//! Prints what a snapshot of a large mesh costs in memory and time:
//! `cargo run -p model --example snapshot_size [ENDPOINTS]`.

use std::error::Error;
use std::time::Instant;

use model::kv::Event;
use model::snapshot::Snapshot;

const NODES: usize = 5_000;
const LABEL_SETS: usize = 50;

fn main() -> Result<(), Box<dyn Error>> {
    let endpoints = match std::env::args().nth(1) {
        Some(text) => text.parse()?,
        None => 100_000,
    };
    let before = resident_bytes()?;
    let start = Instant::now();
    let mut snapshot = Snapshot::default();
    for event in (0..endpoints).map(endpoint) {
        snapshot.apply("node-0", &event);
    }
    snapshot.listed("node-0", 1);
    let listed = start.elapsed();
    let bytes = resident_bytes()?.saturating_sub(before);
    if snapshot.remote_endpoints.len() != endpoints {
        return Err(format!("{:?}", snapshot.rejected.values().next()).into());
    }
    println!("remote endpoints  {endpoints}");
    println!("resident bytes    {bytes}");
    println!("bytes an endpoint {}", bytes / endpoints.max(1));
    println!("listed in         {listed:?}");

    // Every endpoint changes once, as in a rolling restart. Nothing may pile up.
    for i in 0..endpoints {
        let mut event = endpoint(i);
        event.revision = 2 + i64::try_from(i)?;
        event.value = event.value.as_deref().map(moved);
        snapshot.apply("node-0", &event);
    }
    println!(
        "after a change of each, resident bytes {}",
        resident_bytes()?.saturating_sub(before)
    );
    Ok(())
}

/// An endpoint as a pod has it: two addresses, four labels.
fn endpoint(i: usize) -> Event {
    let (node, set) = (1 + i % (NODES - 1), i % LABEL_SETS);
    let name = format!("node--{node}-k8s-frontend--5d9c7b--{i:06}-eth0");
    let namespace = format!("team-{}", set % 20);
    let value = format!(
        r#"{{"apiVersion":"routerd/v1","kind":"WorkloadEndpoint","metadata":{{"name":"{name}","namespace":"{namespace}","labels":{{"app.kubernetes.io/name":"frontend-{set}","app.kubernetes.io/part-of":"shop","pod-template-hash":"5d9c7b{set:04}","tier":"web"}},"creationTimestamp":"2024-05-01T10:00:00Z","uid":"2b1e7cf6-0000-4000-8000-{i:012}"}},"spec":{{"orchestrator":"k8s","workload":"","node":"node-{node}","containerID":"{i:064}","pod":"frontend-5d9c7b-{i:06}","endpoint":"eth0","ipNetworks":["10.{}.{}.{}/32","fd00::{:x}:{:x}/128"],"profiles":["kns.{namespace}"],"interfaceName":"rtd{i:012x}","mac":"02:00:00:00:00:01"}}}}"#,
        (i >> 16) & 255,
        (i >> 8) & 255,
        i & 255,
        i >> 16,
        i & 0xffff,
    );
    Event {
        key: format!("resources/workloadendpoints/{namespace}/{name}"),
        value: Some(value.into_bytes()),
        revision: 1,
    }
}

/// The same endpoint on another node.
fn moved(value: &[u8]) -> Vec<u8> {
    let text = String::from_utf8_lossy(value);
    text.replace("\"node\":\"node-", "\"node\":\"moved-")
        .into_bytes()
}

/// Resident memory of this process (proc(5), `statm`, second field, in pages).
fn resident_bytes() -> Result<usize, Box<dyn Error>> {
    const PAGE: usize = 4096;
    let statm = std::fs::read_to_string("/proc/self/statm")?;
    let pages = statm
        .split_whitespace()
        .nth(1)
        .ok_or("statm has no second field")?;
    Ok(pages.parse::<usize>()? * PAGE)
}
