//! Explains a packet's way: what follows from the store, and whether the kernel of this node has it.
//!
//! ```text
//!  Question ─► control: ends, explanation ─┬─► kernel: routes, neighbours, masquerade ─┐
//!                    │ store: records of   ├─► reconcile: peers of the tunnel ─────────┼─► Explanation
//!                    ▼ addresses           └─► policy: what the maps decide ───────────┘
//! ```
//!
//! Everything is read, and nothing written: no connection is made, and nothing counted.

mod compare;
mod kernel;
mod records;

use std::time::Duration;

use calc::explain::{Ends, ExplainError, Explained, Known, Question};
use model::Cidr;
use model::api::Explanation;
use model::kernel::{Route, RouteKey};

use crate::gone::Gone;
use crate::policy::judge::{Asked, Ruled, judge};
use crate::policy::{self, Seen};
use crate::services::Services;

/// How long the kernel may take to have what was stored just now.
const PATIENCE: Duration = Duration::from_secs(2);

/// Why there is no explanation.
#[derive(Debug, thiserror::Error)]
pub enum Refused {
    /// Of this question.
    #[error(transparent)]
    Question(#[from] ExplainError),
    /// The store has not told everything yet, or the kernel its interfaces.
    #[error(
        "this node does not know everything yet: try again when `routerctl status` says that it is in sync"
    )]
    NotYet,
    /// Nobody answers.
    #[error(transparent)]
    Gone(#[from] Gone),
    /// The records of addresses are not to be had.
    #[error("the records of addresses: {0}")]
    Store(#[from] datastore::Error),
}

impl Refused {
    /// Whether the same question may have an answer later.
    pub fn is_retryable(&self) -> bool {
        match self {
            Refused::Question(e) => e.is_retryable(),
            Refused::NotYet => true,
            Refused::Gone(gone) => gone.is_retryable(),
            Refused::Store(e) => e.is_retryable(),
        }
    }
}

/// What follows from the store, and what more the kernel should have for it.
struct Told {
    explained: Explained,
    /// The route of the destination, a workload here that packets come to from elsewhere.
    delivery: Option<(RouteKey, Route)>,
    /// Number of the desired state that all this follows from.
    generation: u64,
}

/// Explains.
///
/// # Errors
/// There is nothing to explain, or nobody to ask.
pub async fn explain(s: &Services, question: Question) -> Result<Explanation, Refused> {
    let (ends, wanted) = find(s, &question).await?;
    let records = records::read(s, &wanted).await?;
    let needs = policy::feed::needs(&s.config.datastore);
    let told = s.control.review(move |inputs, state| {
        let known = Known {
            inputs: *inputs,
            state,
            needs: &needs,
        };
        let explained = calc::explain::explain(&known, &question, &ends, &records)?;
        let key = kernel::delivery(&explained, inputs.node);
        let delivery = key.and_then(|dst| {
            let mut routes = state.kernel.routes.iter();
            let (key, route) = routes.find(|(key, _)| key.dst == dst)?;
            Some((*key, route.clone()))
        });
        Ok(Told {
            explained,
            delivery,
            generation: state.generation,
        })
    });
    let told: Result<Told, ExplainError> = told.await.ok_or(Gone::Stopping)?;
    let told = told?;
    settle(s, told.generation).await;
    check(s, told).await
}

/// The ends, and the addresses of which the records are wanted, with the blocks that have them.
type Found = (Ends, Vec<(std::net::IpAddr, Option<Cidr>)>);

async fn find(s: &Services, question: &Question) -> Result<Found, Refused> {
    let question = question.clone();
    let found = s.control.review(move |inputs, state| {
        if state.generation == 0 {
            return Err(Refused::NotYet);
        }
        let ends = Ends::find(inputs, &question)?;
        Ok((ends, ends.unassigned(inputs)))
    });
    found.await.ok_or(Gone::Stopping)?
}

/// Waits until the kernel has what the explanation was made from: a question often follows a change at once.
async fn settle(s: &Services, wanted: u64) {
    let mut status = s.reconcile.status();
    let settled = status.wait_for(|r| r.in_sync && r.generation >= wanted);
    // It is asked as it is: what differs is told.
    let _ = tokio::time::timeout(PATIENCE, settled).await;
}

/// Asks the kernel.
async fn check(s: &Services, told: Told) -> Result<Explanation, Refused> {
    let Told {
        explained,
        delivery,
        ..
    } = told;
    let here = &*s.views.node;
    let (local, far): (Vec<_>, Vec<_>) = (explained.judged.iter()).partition(|j| j.node == here);
    let asked = local.iter().map(|j| Asked {
        endpoint: j.endpoint.clone(),
        direction: j.direction,
        packet: j.packet,
    });
    let asked: Vec<Asked> = asked.collect();
    let judge = move |seen: &Seen<'_>| asked.iter().map(|a| judge(seen, a)).collect();
    let ruled: Vec<Ruled> = s.policy.ask(judge).await?;
    let mut checks = compare::policies(local.into_iter().zip(ruled));

    let device = match explained.way.peer {
        Some(_) => s.reconcile.tunnel().await.ok().flatten(),
        None => None,
    };
    checks.extend(compare::peer(
        &explained,
        device.as_ref(),
        crate::time::now_millis(),
    ));

    let mut explanation = explained.explanation.clone();
    explanation
        .not_checked
        .extend(compare::elsewhere(&explained, here, &far));
    let wanted = kernel::Wanted::of(&explained, delivery);
    let looked = tokio::task::spawn_blocking(move || kernel::look(&wanted));
    let looked = looked.await.map_err(|_| Gone::Stopping)?;
    if let Some(host) = &looked.host {
        kernel::go_by_host(&mut explanation, host);
    }
    checks.extend(looked.checks);
    explanation.kernel_agrees = !checks.is_empty() && checks.iter().all(|c| c.agrees);
    explanation.kernel = checks;
    Ok(explanation)
}
