//! `?watch=true`: what stands, then every change, as JSON lines.

use std::collections::HashSet;
use std::convert::Infallible;
use std::sync::Arc;

use axum::body::Bytes;
use datastore::{Datastore, Guard, SyncConfig, Update};
use futures::{Stream, stream};
use model::api::WatchEvent;
use model::keys;
use model::kv::{Event, KeyValue, Revision};
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::resources::Filter;
use crate::resources;

/// Lines waiting for a slow reader; then the store's watch waits.
const LINES: usize = 256;

type Line = Result<Bytes, Infallible>;

/// A stream of [`WatchEvent`] lines that ends with the daemon.
pub(super) fn stream(
    store: Arc<dyn Datastore>,
    filter: Filter,
    stop: CancellationToken,
) -> impl Stream<Item = Line> {
    let (tx, mut rx) = mpsc::channel(LINES);
    tokio::spawn(async move {
        let feed = Feed {
            filter,
            shown: HashSet::new(),
            tx,
        };
        stop.run_until_cancelled(feed.run(store)).await;
    });
    stream::poll_fn(move |cx| rx.poll_recv(cx))
}

struct Feed {
    filter: Filter,
    /// Keys that the client has seen: a change is `ADDED` or `MODIFIED` by this.
    shown: HashSet<String>,
    tx: mpsc::Sender<Line>,
}

impl Feed {
    /// Goes on over whatever the store goes through: an outage is a pause and nothing else.
    async fn run(mut self, store: Arc<dyn Datastore>) {
        let config = SyncConfig {
            prefixes: vec![self.filter.prefix.clone()],
            // A client is told what is, all of it.
            guard: Guard {
                prefixes: Vec::new(),
                ..Guard::default()
            },
            quiet: true,
            ..SyncConfig::default()
        };
        let (mut updates, _syncer) = datastore::syncer::spawn(store, config);
        let mut synced = false;
        loop {
            let update = tokio::select! {
                update = updates.recv() => update,
                () = self.tx.closed() => return,
            };
            match update {
                Some(Update::Events { events, .. }) => {
                    for event in events {
                        self.event(event).await;
                    }
                }
                Some(Update::InSync { .. }) if !synced => {
                    synced = true;
                    self.send("SYNCED", json!({})).await;
                }
                Some(Update::InSync { .. } | Update::Rewound) => {}
                None => return,
            }
        }
    }

    async fn event(&mut self, event: Event) {
        let Event {
            key,
            value,
            revision,
        } = event;
        match value {
            Some(value) => {
                let kv = KeyValue {
                    key,
                    value,
                    create_revision: 0,
                    mod_revision: revision,
                    lease: None,
                };
                self.put(&kv).await;
            }
            None => self.delete(&key, revision).await,
        }
    }

    async fn put(&mut self, kv: &KeyValue) {
        match resources::decode(kv).and_then(|o| self.filter.show(&o)) {
            Some(shown) => {
                let new = self.shown.insert(kv.key.clone());
                self.send(if new { "ADDED" } else { "MODIFIED" }, shown)
                    .await;
            }
            // Its labels changed, or its value no longer decodes: gone as far as this client goes.
            None => self.delete(&kv.key, kv.mod_revision).await,
        }
    }

    async fn delete(&mut self, key: &str, revision: Revision) {
        if !self.shown.remove(key) {
            return;
        }
        let Some(id) = keys::parse_resource(key) else {
            return;
        };
        let mut metadata = json!({ "name": id.name, "resourceVersion": revision.to_string() });
        if let (Some(ns), Some(map)) = (id.namespace, metadata.as_object_mut()) {
            map.insert("namespace".into(), ns.into());
        }
        let object = json!({
            "apiVersion": model::object::API_VERSION,
            "kind": id.kind.as_str(),
            "metadata": metadata,
        });
        self.send("DELETED", object).await;
    }

    async fn send(&mut self, event: &str, object: Value) {
        let event = WatchEvent {
            event: event.to_owned(),
            object,
        };
        let mut line = serde_json::to_vec(&event).unwrap_or_default();
        line.push(b'\n');
        // A closed channel is a client that left; the caller looks.
        let _ = self.tx.send(Ok(line.into())).await;
    }
}
