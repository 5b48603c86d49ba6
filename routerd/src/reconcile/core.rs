//! The reconciler without the kernel: what to do next, from what it was told.
//!
//! ```text
//!            due                 observed                    results of the last stage
//!   Idle ──────────► Observing ───────────► Applying(stages) ─────────────────────────► Idle
//!                        └── failed, or nothing to do ───────────────────────────────────┘
//! ```

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use model::kernel::{LinkName, Observed, Op};
use model::kv::Revision;
use model::state::NodeState;
use netlink::{Conflict, Error, Plan, describe, plan};

use super::drift::{self, Log};
use super::recurring::Recurring;
use super::schedule::{Finished, Now, Schedule, Timing};
use super::stages::Stages;
use super::status::{self, Status};
use super::target::{Marks, Target};
use crate::tunnel::Findings;

/// What the owner of the kernel has to do next.
#[derive(Debug)]
pub enum Action {
    /// Configure the tunnel of this state, but for what it takes away, and pass the result to
    /// [`Core::handle_raised`].
    Raise(Arc<NodeState>),
    /// See whether the tunnel is as this state has it, and tell [`Core::handle_looked`].
    Look(Arc<NodeState>),
    /// Take away what the tunnel of this state has no more, and pass the result to
    /// [`Core::handle_retired`].
    Retire(Arc<NodeState>),
    /// Observe, and pass the result to [`Core::handle_observed`].
    Observe,
    /// Apply, and pass the results to [`Core::handle_applied`].
    Apply {
        /// The operations, in order.
        ops: Vec<Op>,
        /// What the plan was made from.
        observed: Arc<Observed>,
    },
}

/// What an operator may want to read in the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// A run changed the kernel.
    Applied {
        /// Operations that succeeded.
        ops: usize,
        /// Revision of the state aimed at.
        revision: Revision,
    },
    /// The first run for a complete snapshot is done.
    InSync {
        /// Revision of the state aimed at.
        revision: Revision,
    },
    /// Others changed objects of ours.
    Drifted {
        /// How many.
        total: usize,
        /// The first of them, and what was found.
        first: String,
    },
    /// Operations failed in two runs in a row.
    Failing {
        /// How many.
        total: usize,
        /// The first of them.
        first: Error,
    },
    /// What is wanted could not be planned in two runs in a row.
    Conflicting {
        /// How many objects.
        total: usize,
        /// The first of them, and why.
        first: Conflict,
    },
    /// The kernel could not be observed.
    Blind {
        /// Why.
        error: Error,
    },
}

/// A run that applies.
#[derive(Debug)]
struct Run {
    target: Target,
    state: Arc<NodeState>,
    stages: Stages,
    conflicts: Vec<Conflict>,
    drifted: bool,
}

#[derive(Debug)]
enum Phase {
    Idle,
    /// The tunnel has to be told its peers first, if there is to be one.
    Starting,
    Raising(Arc<NodeState>),
    Raised,
    Looking,
    Observing,
    Applying(Box<Run>),
    Retiring(Box<Run>),
}

/// The state machine.
///
/// Call [`Core::poll_action`] until it gives none, carrying out each action before the next call; then wait
/// until [`Core::poll_timeout`] or the next input.
#[derive(Debug)]
pub struct Core {
    schedule: Schedule,
    desired: Option<Arc<NodeState>>,
    marks: Marks,
    phase: Phase,
    /// What the last run aimed at.
    last: Option<Target>,
    /// Names of operations that failed or were blocked.
    open: Recurring<String>,
    conflicts: Recurring<Conflict>,
    /// The state whose tunnel was raised in this run.
    raised: Option<Arc<NodeState>>,
    /// Something was left for when no route leads there.
    retires: bool,
    /// Why the tunnel is not as it should be.
    tunnel: Option<String>,
    /// What became of it.
    tunnel_found: Findings,
    /// When it is looked at again, and how often that is.
    look: Option<Duration>,
    look_every: Duration,
    /// It can have but one key for a peer, so that a change of it must be seen at once.
    sees_keys: bool,
    log: Log,
    events: Vec<Event>,
    status: Status,
}

impl Core {
    /// One that knows nothing yet, and so does nothing.
    ///
    /// `seed` spreads the retries of several nodes.
    pub fn new(timing: Timing, seed: u64) -> Core {
        let status = Status {
            subsystems: status::waiting("waiting for the first complete snapshot"),
            ..Status::default()
        };
        Core {
            schedule: Schedule::new(timing, seed),
            desired: None,
            marks: Marks::default(),
            phase: Phase::Idle,
            last: None,
            open: Recurring::default(),
            conflicts: Recurring::default(),
            raised: None,
            retires: false,
            tunnel: None,
            tunnel_found: Findings::default(),
            look: None,
            look_every: timing.look,
            sees_keys: false,
            log: Log::default(),
            events: Vec::new(),
            status,
        }
    }

    /// Looks at the tunnel twenty times a second while a peer changes its key.
    pub fn see_keys(&mut self) {
        self.sees_keys = true;
    }

    /// A new desired state. One that was not computed from a `complete` snapshot lacks what was not read
    /// yet, so it is not acted upon.
    pub fn handle_desired(&mut self, state: Arc<NodeState>, complete: bool, now: Now) {
        if !complete {
            return;
        }
        self.marks.settle(&state);
        self.desired = Some(state);
        self.schedule.desired(now);
    }

    /// Somebody, perhaps this program, changed the kernel.
    pub fn handle_changed(&mut self, now: Now) {
        self.schedule.changed(now);
    }

    /// Nothing on `link` is to be swept until a desired state of generation `committed` or later came.
    pub fn protect(&mut self, link: LinkName, committed: Option<u64>) {
        self.marks.attach(link, committed);
        self.settle();
    }

    /// Nothing on `link` is wanted any more, whatever the desired state still says.
    pub fn forget(&mut self, link: LinkName, now: Now) {
        self.marks.detach(link);
        self.settle();
        self.schedule.changed(now);
    }

    fn settle(&mut self) {
        if let Some(desired) = &self.desired {
            self.marks.settle(desired);
        }
    }

    /// What to do now, if anything.
    pub fn poll_action(&mut self, now: Now) -> Option<Action> {
        match &mut self.phase {
            Phase::Idle => {
                let state = self.desired.as_ref()?;
                let is_due = |at: Option<Duration>| at.is_some_and(|at| at <= now.since_start);
                if !is_due(self.due()) {
                    let state = Arc::clone(state);
                    return is_due(self.look).then(|| {
                        self.phase = Phase::Looking;
                        Action::Look(state)
                    });
                }
                self.schedule.start(now);
                self.phase = Phase::Starting;
                (self.raised, self.retires, self.tunnel) = (None, false, None);
                self.poll_action(now)
            }
            Phase::Starting => {
                let state = self.desired.clone()?;
                if state.tunnel.is_none() {
                    self.phase = Phase::Raised;
                    return self.poll_action(now);
                }
                self.phase = Phase::Raising(Arc::clone(&state));
                Some(Action::Raise(state))
            }
            Phase::Raised => {
                self.phase = Phase::Observing;
                Some(Action::Observe)
            }
            Phase::Raising(_) | Phase::Looking | Phase::Observing | Phase::Retiring(_) => None,
            Phase::Applying(run) => {
                if let Some(ops) = run.stages.next(|l| self.marks.is_attaching(l)) {
                    let observed = run.stages.observed().clone();
                    return Some(Action::Apply { ops, observed });
                }
                if let Phase::Applying(run) = std::mem::replace(&mut self.phase, Phase::Idle) {
                    // What was not read may be of those that would go.
                    if self.retires && run.state.tunnel.is_some() && !run.state.partial {
                        let state = Arc::clone(&run.state);
                        self.phase = Phase::Retiring(run);
                        return Some(Action::Retire(state));
                    }
                    self.finish(*run, now);
                }
                None
            }
        }
    }

    /// When [`Core::poll_action`] is to be called again at the latest.
    pub fn poll_timeout(&self) -> Option<Duration> {
        self.desired.as_ref()?;
        self.due().into_iter().chain(self.look).min()
    }

    fn due(&self) -> Option<Duration> {
        self.schedule.due(self.marks.any_being_made())
    }

    /// What happened since the last call.
    pub fn poll_events(&mut self) -> Vec<Event> {
        std::mem::take(&mut self.events)
    }

    /// How things are.
    pub fn status(&self) -> Status {
        self.status.clone()
    }

    /// The plan from what is observed to what is wanted; nothing before anything is wanted.
    pub fn plan(&self, observed: &Observed) -> Plan {
        match &self.desired {
            Some(desired) => plan(self.marks.target(desired, observed).kernel(), observed),
            None => Plan::default(),
        }
    }

    /// The answer to [`Action::Raise`]: whether something is left to retire, or why it failed; and what had
    /// become of the tunnel.
    ///
    /// Routes go on in either case: by a tunnel that is not ready they lead nowhere, and nothing goes in clear.
    pub fn handle_raised(&mut self, result: Result<bool, String>, found: Findings) {
        self.tunnel_found.drift.extend(found.drift);
        self.tunnel_found.removed |= found.removed;
        if let Phase::Raising(state) = std::mem::replace(&mut self.phase, Phase::Raised) {
            self.raised = Some(state);
        }
        match result {
            Ok(left) => self.retires |= left,
            Err(error) => self.tunnel = Some(error),
        }
    }

    /// The answer to [`Action::Look`]: whether something is not as it should be.
    pub fn handle_looked(&mut self, differs: bool, now: Now) {
        self.phase = Phase::Idle;
        let pause = self.desired.as_deref().map(|d| self.look_pause(d));
        self.look = pause.map(|pause| now.since_start + pause);
        if differs {
            self.schedule.changed(now);
        }
    }

    /// How long the tunnel is left alone. While a peer changes its key, only the device knows which it uses.
    fn look_pause(&self, state: &NodeState) -> Duration {
        let mut peers = state.tunnel.iter().flat_map(|t| t.peers.values());
        match self.sees_keys && peers.any(|p| p.next_key.is_some()) {
            true => self.look_every / 100,
            false => self.look_every,
        }
    }

    /// The answer to [`Action::Retire`].
    pub fn handle_retired(&mut self, result: Result<(), String>, now: Now) {
        if let Err(error) = result {
            self.tunnel = Some(error);
        }
        if let Phase::Retiring(run) = std::mem::replace(&mut self.phase, Phase::Idle) {
            self.finish(*run, now);
        }
    }

    /// Whether the tunnel knows every peer that `desired` has routes to.
    fn is_raised(&self, desired: &NodeState) -> bool {
        let raised = self.raised.as_ref().and_then(|r| r.tunnel.as_ref());
        desired.tunnel.is_none() || raised == desired.tunnel.as_ref()
    }

    /// The answer to [`Action::Observe`].
    pub fn handle_observed(&mut self, observed: Result<Observed, Error>, now: Now) {
        let (observed, desired) = match (observed, self.desired.clone()) {
            (Ok(observed), Some(desired)) => (observed, desired),
            (Err(error), _) => return self.blind(error, now),
            (Ok(_), None) => return self.phase = Phase::Idle,
        };
        if !self.is_raised(&desired) {
            // A newer state came meanwhile.
            return self.phase = Phase::Starting;
        }
        let target = self.marks.target(&desired, &observed);
        let plan = plan(target.kernel(), &observed);
        let drifted = self.note_drift(&target, &plan, &observed, now);
        self.phase = Phase::Applying(Box::new(Run {
            target,
            state: desired,
            stages: Stages::new(plan.ops, Arc::new(observed)),
            conflicts: plan.conflicts,
            drifted,
        }));
    }

    /// The answer to [`Action::Apply`].
    pub fn handle_applied(&mut self, ops: Vec<Op>, results: Vec<Result<(), Error>>) {
        if let Phase::Applying(run) = &mut self.phase {
            run.stages.file(ops, results);
        }
    }

    fn blind(&mut self, error: Error, now: Now) {
        self.phase = Phase::Idle;
        self.status.subsystems = status::blind(&error);
        self.events.push(Event::Blind { error });
        let run = Finished {
            failed: true,
            drifted: false,
        };
        self.schedule.finish(now, run);
    }

    fn finish(&mut self, run: Run, now: Now) {
        let Run {
            target,
            state,
            stages,
            conflicts,
            drifted,
        } = run;
        let (generation, revision) = (state.generation, state.revision);
        let (failed, blocked) = (&stages.failed, &stages.blocked);
        if stages.done > 0 {
            let ops = stages.done;
            self.events.push(Event::Applied { ops, revision });
        }
        self.note_troubles(failed, blocked, &conflicts);
        // What the kernel will never do must not keep the node from serving.
        let settled = blocked.is_empty() && failed.iter().all(|(_, e)| !e.is_retryable());
        if settled {
            self.status.generation = generation;
        }
        let lacks_guard = |op: &Op| matches!(op, Op::SetGuard(_));
        if !failed.iter().any(|(op, _)| lacks_guard(op)) && !blocked.iter().any(lacks_guard) {
            self.status.guarded = generation;
        }
        if settled && !self.status.in_sync {
            self.status.in_sync = true;
            self.events.push(Event::InSync { revision });
        }
        self.status.revision = revision;
        let tunnel = self.tunnel.as_deref();
        self.status.subsystems = status::after(&status::Outcome {
            target: target.kernel(),
            encryption: (!state.barred).then_some(state.encryption),
            peers: state.tunnel.as_ref().map(|t| t.peers.len()),
            tunnel,
            failed,
            blocked,
            conflicts: &conflicts,
        });
        let finished = Finished {
            failed: !failed.is_empty() || !blocked.is_empty() || tunnel.is_some(),
            drifted,
        };
        // One that failed is tried again anyway.
        let stands = state.tunnel.is_some() && self.tunnel.is_none();
        self.look = stands.then(|| now.since_start + self.look_pause(&state));
        self.schedule.finish(now, finished);
        self.last = Some(target);
    }

    /// Remembers what went wrong, and reports what does so again.
    fn note_troubles(&mut self, failed: &[(Op, Error)], blocked: &[Op], conflicts: &[Conflict]) {
        let errors: BTreeMap<_, _> = failed.iter().map(|(op, e)| (drift::name(op), e)).collect();
        let names = errors.keys().cloned();
        let again = (self.open).update(names.chain(blocked.iter().map(drift::name)).collect());
        let again: Vec<_> = again.iter().filter_map(|n| errors.get(n)).collect();
        if let Some(first) = again.first() {
            self.events.push(Event::Failing {
                total: again.len(),
                first: (**first).clone(),
            });
        }
        let again = self.conflicts.update(conflicts.iter().cloned().collect());
        if let Some(first) = again.first() {
            self.events.push(Event::Conflicting {
                total: again.len(),
                first: first.clone(),
            });
        }
    }

    /// Names what others changed since the last run.
    fn note_drift(&mut self, target: &Target, to: &Plan, observed: &Observed, now: Now) -> bool {
        let Findings {
            drift: mut named,
            removed,
        } = std::mem::take(&mut self.tunnel_found);
        let Some(last) = &self.last else {
            return false; // what stood before us is adopted, not drift
        };
        let back = if last.is(target) {
            None // the same plan
        } else {
            Some(plan(last.kernel(), observed))
        };
        let device = target.kernel().tunnel.map(|t| t.name);
        let is_named = |d: &LinkName| named.iter().any(|x| x.object == describe::link(d));
        let lost = device.filter(|d| removed || is_named(d));
        named.extend(drift::find(&drift::Inputs {
            lost,
            back: back.as_ref().unwrap_or(to),
            plan: to,
            open: self.open.last(),
            conflicts: self.conflicts.last(),
            achieved: last.kernel(),
            observed,
        }));
        if let Some(first) = named.first() {
            self.events.push(Event::Drifted {
                total: named.len(),
                first: format!("{}: {}", first.object, first.found),
            });
            self.log.add(&named, now.wall);
            self.status.drift = self.log.list();
        }
        !named.is_empty()
    }
}
