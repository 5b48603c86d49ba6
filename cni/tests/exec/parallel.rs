//! Many at once.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU32, Ordering};

use client::fake::{FakeDaemon, Reply};
use serde_json::json;

use crate::harness::{Run, config};

#[test]
fn two_hundred_at_once_each_get_their_own() {
    let next = AtomicU32::new(0);
    let daemon = FakeDaemon::start(move |r| {
        let n = next.fetch_add(1, Ordering::SeqCst);
        Reply::ok(json!({
            "hostInterface": r.body["containerId"],
            "interface": "eth0",
            "ips": [format!("10.0.{}.{}/32", n / 256, n % 256)],
            "gateways": ["169.254.1.1"],
        }))
    });
    let socket = daemon.socket();
    let results: Vec<_> = std::thread::scope(|scope| {
        let running: Vec<_> = (0..200)
            .map(|n| {
                let socket = &socket;
                scope.spawn(move || {
                    let id = format!("c{n}");
                    let run = Run::new("ADD", &config(socket, "1.1.0"));
                    (id.clone(), run.var("CNI_CONTAINERID", &id).exec().json())
                })
            })
            .collect();
        running.into_iter().map(|t| t.join().unwrap()).collect()
    });
    let mut addresses = BTreeSet::new();
    for (id, result) in &results {
        // The answer that came is the answer to this container.
        assert_eq!(result["interfaces"][0]["name"], **id, "{result}");
        addresses.insert(result["ips"][0]["address"].as_str().unwrap().to_owned());
    }
    assert_eq!(addresses.len(), 200);
    assert_eq!(daemon.requests().len(), 200);
}
