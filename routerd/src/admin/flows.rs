//! `/v1/flows`: JSON lines.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::{Query, State};
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use futures::stream;
use model::api::{Flow, FlowsMissed};
use model::resources::GoDuration;
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;

use super::ApiError;
use crate::flows::{Change, Clock, Filter, FlowsError, flow};
use crate::services::Services;

/// Pieces waiting for a slow reader.
const PIECES: usize = 4;
/// Records in a piece.
const PIECE: usize = 256;

/// Which flows.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Flows {
    denied: bool,
    staged: bool,
    since: Option<String>,
    follow: bool,
}

impl From<FlowsError> for ApiError {
    fn from(e: FlowsError) -> ApiError {
        match e {
            FlowsError::Gone(gone) => gone.into(),
            e => ApiError::unavailable(e.to_string()),
        }
    }
}

pub(super) async fn list(
    State(s): State<Services>,
    Query(query): Query<Flows>,
) -> Result<Response, ApiError> {
    let filter = Filter {
        denied: query.denied,
        staged: query.staged,
        since: query.since.as_deref().map(since).transpose()?,
    };
    let (before, changes, clock) = match query.follow {
        true => {
            let (before, changes, clock) = s.flows.follow(filter).await?;
            (before, Some(changes), clock)
        }
        false => {
            let (records, clock) = s.flows.records(filter).await?;
            (records, None, clock)
        }
    };
    let (told, mut pieces) = mpsc::channel(PIECES);
    let node = Arc::clone(&s.views.node);
    tokio::spawn(async move {
        for records in before.chunks(PIECE) {
            let piece = lines(records.iter().map(|r| flow(r, &node, &clock)));
            if told.send(piece).await.is_err() {
                return;
            }
        }
        drop(before);
        let Some(mut changes) = changes else { return };
        let follow = async {
            let mut batch = Vec::new();
            while changes.recv_many(&mut batch, PIECE).await > 0 {
                // The wall's clock may have been set since the last.
                let clock = Clock::now();
                let piece = lines(batch.iter().map(|c| Line::of(c, &node, &clock)));
                batch.clear();
                if told.send(piece).await.is_err() {
                    return;
                }
            }
        };
        tokio::select! {
            () = follow => {}
            () = told.closed() => {}
            () = s.stop.cancelled() => {}
        }
    });
    let body = Body::from_stream(stream::poll_fn(move |cx| pieces.poll_recv(cx)));
    Ok(([(CONTENT_TYPE, "application/x-ndjson")], body).into_response())
}

fn since(text: &str) -> Result<Duration, ApiError> {
    let parsed: Result<GoDuration, _> = text.parse();
    let refused = |e| ApiError::bad_request(format!("since: {e}"));
    parsed.map(|d| d.0).map_err(refused)
}

/// A line for who follows.
#[derive(Serialize)]
#[serde(untagged)]
enum Line {
    Flow(Box<Flow>),
    Missed(FlowsMissed),
}

impl Line {
    fn of(change: &Change, node: &str, clock: &Clock) -> Line {
        match change {
            Change::Record(record) => Line::Flow(Box::new(flow(record, node, clock))),
            Change::Missed(missed) => Line::Missed(FlowsMissed { missed: *missed }),
        }
    }
}

fn lines(all: impl Iterator<Item = impl Serialize>) -> Result<Bytes, Infallible> {
    let mut text = Vec::new();
    for line in all {
        // It always encodes: texts and numbers.
        if serde_json::to_writer(&mut text, &line).is_ok() {
            text.push(b'\n');
        }
    }
    Ok(text.into())
}
