//! Flows: looks at the connections and events of the policy programs, and keeps records of them.
//!
//! ```text
//!  maps ──Reader──► this thread: Recorder ──► records, changes ──► who asks, who follows
//!                     │      ▲
//!                     ▼      └── names: rules and interfaces of the owner of policy, addresses of control
//!                   log, for rules with `Log`
//! ```
//!
//! It reads by handles of its own, so the owner of policy never waits for a look, nor does a packet. Looks take at
//! most a fiftieth of a CPU, however many connections there are.

mod follow;
mod impact;
mod names;
pub(crate) mod people;
mod show;

use std::collections::BTreeMap;
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant, SystemTime};

use nix::time::{ClockId, clock_gettime};
use policy_ebpf::common::event::{Counter, CounterKey};
use policy_ebpf::common::reason::Reason;
use policy_ebpf::flows::{Limits, Record, Recorder, Said};
use policy_ebpf::kernel::Reader;
use tokio::sync::oneshot;
use tracing::{info, warn};

use crate::control::Control;
use crate::gone::{Fate, Gone, Watched};
use crate::policy;
use follow::Follower;
pub use follow::{Change, Changes};
pub use impact::{ImpactError, impact};
use names::Known;
pub use show::{Clock, Filter, flow};
pub(crate) use show::{by, protocol};

/// How often events are taken in: the ring of the kernel is to have room for what comes meanwhile.
const TICK: Duration = Duration::from_millis(200);
/// Least time from one look at the table of connections to the next.
const LOOK: Duration = Duration::from_secs(2);
/// A look that took a second is followed by as many without one.
const REST: u32 = 50;
/// Lines in the log for each tick.
const LOG_LINES: usize = 50;
/// How things are without the thread.
const LEFT: &str = "policy is enforced as before, and nothing is told of connections";
/// Events that are taken in at once.
const EVENTS: usize = 1 << 16;

type Question = Box<dyn FnOnce(&mut Owner) + Send>;

enum Message {
    Read(Box<Reader>),
    Ask(Question),
    Stop,
}

/// Reaches the thread; clones reach the same one.
#[derive(Clone)]
pub struct Handle {
    outbox: mpsc::Sender<Message>,
    fate: Fate,
}

/// What [`Owner::new`] needs.
pub struct Inbox(mpsc::Receiver<Message>, Watched);

/// A handle, and the end that it reaches.
pub fn channel() -> (Handle, Inbox) {
    let (outbox, inbox) = mpsc::channel();
    let (watched, fate) = Watched::new("flows", LEFT);
    (Handle { outbox, fate }, Inbox(inbox, watched))
}

/// Why there is nothing to tell.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FlowsError {
    /// There are no programs.
    #[error(
        "nothing is seen of connections on this node: its policy programs are not loaded, see `routerctl status`"
    )]
    NoPrograms,
    /// The kernel does not say.
    #[error("{0}")]
    Kernel(String),
    /// Nobody answers.
    #[error(transparent)]
    Gone(#[from] Gone),
}

/// What rules decided: by the kernel's words, and by what stands for them what passed since.
#[derive(Clone, Debug, Default)]
pub struct Counted {
    /// By word, staged or not.
    pub kernel: BTreeMap<policy_ebpf::kernel::Counted, Counter>,
    /// What passed by a rule behind the packets of `kernel`, staged or not.
    pub passed: BTreeMap<(Said, bool), Counter>,
}

/// What is measured.
#[derive(Clone, Debug, Default)]
pub struct Measured {
    /// Packets dropped, by reason.
    pub drops: Vec<(Reason, u64)>,
    /// Connections that were let through.
    pub admitted: u64,
    /// Entries of the table of connections.
    pub connections: usize,
    /// Most of them.
    pub room: u32,
    /// Rules that have counted, by each trail that led to them, staged ones twice.
    pub counters: usize,
    /// Trails that led to them.
    pub trails: usize,
    /// Records that there was no room for any more.
    pub lost: u64,
    /// How long the last look at the table took.
    pub look: Duration,
}

impl Handle {
    /// Gives it what to read by.
    pub fn read_by(&self, reader: Reader) {
        let _ = self.outbox.send(Message::Read(Box::new(reader)));
    }

    /// How its thread ends.
    pub fn fate(&self) -> Fate {
        self.fate.clone()
    }

    /// Ends it.
    pub fn stop(&self) {
        let _ = self.outbox.send(Message::Stop);
    }

    /// The records that are wanted, by their start, as of now; and by which clock their times are.
    ///
    /// # Errors
    /// As [`FlowsError`] lists; so for the others.
    pub async fn records(&self, filter: Filter) -> Result<(Vec<Record>, Clock), FlowsError> {
        self.ask(move |owner| {
            owner.turn(true)?;
            let clock = Clock::now();
            Ok((owner.records(&filter, &clock), clock))
        })
        .await
    }

    /// Those that are there and were seen since then, if that is asked, and all that begin or end from here on.
    ///
    /// # Errors
    /// As above.
    pub async fn follow(
        &self,
        filter: Filter,
    ) -> Result<(Vec<Record>, Changes, Clock), FlowsError> {
        self.ask(move |owner| {
            owner.turn(true)?;
            let clock = Clock::now();
            let before = match filter.since {
                Some(_) => owner.records(&filter, &clock),
                None => Vec::new(),
            };
            let (follower, changes) = Follower::new(filter);
            owner.followers.push(follower);
            Ok((before, changes, clock))
        })
        .await
    }

    /// What rules decided.
    ///
    /// # Errors
    /// As above.
    pub async fn counted(&self) -> Result<Counted, FlowsError> {
        self.ask(|owner| {
            owner.turn(true)?;
            let asked = owner.policy.ask(|seen| match seen.kernel {
                Ok(kernel) => kernel.counters().map_err(FlowsError::Kernel),
                Err(_) => Err(FlowsError::NoPrograms),
            });
            let asked = owner.runtime.block_on(asked);
            Ok(Counted {
                kernel: asked??,
                passed: owner.passed.clone(),
            })
        })
        .await
    }

    /// What is measured.
    ///
    /// # Errors
    /// As above.
    pub async fn measured(&self) -> Result<Measured, FlowsError> {
        self.ask(|owner| {
            Ok(Measured {
                drops: owner.read(Reader::drops)?,
                admitted: owner.read(Reader::admitted)?,
                connections: owner.connections,
                room: owner.read(|r| Ok(r.room()))?,
                counters: owner.read(Reader::counted)?,
                trails: owner.read(Reader::trails)?,
                lost: owner.recorder.lost() + owner.missed,
                look: owner.took,
            })
        })
        .await
    }

    async fn ask<T: Send + 'static>(
        &self,
        ask: impl FnOnce(&mut Owner) -> Result<T, FlowsError> + Send + 'static,
    ) -> Result<T, FlowsError> {
        let (reply, answer) = oneshot::channel();
        let ask = Box::new(move |owner: &mut Owner| {
            // Who asked may have gone.
            let _ = reply.send(ask(owner));
        });
        let _ = self.outbox.send(Message::Ask(ask));
        match answer.await {
            Ok(answer) => answer,
            Err(_) => Err(self.fate.gone().await.into()),
        }
    }
}

/// The thread's side.
pub struct Owner {
    inbox: mpsc::Receiver<Message>,
    watched: Option<Watched>,
    control: Control,
    policy: policy::Handle,
    /// Where the others are asked.
    runtime: tokio::runtime::Handle,
    reader: Option<Reader>,
    recorder: Recorder,
    passed: BTreeMap<(Said, bool), Counter>,
    followers: Vec<Follower>,
    /// When the table is due.
    due: Instant,
    took: Duration,
    connections: usize,
    /// Records that somebody who follows was too slow for.
    missed: u64,
    failed: Option<String>,
}

impl Owner {
    /// Looks at nothing before it is given something to read by.
    pub fn new(
        inbox: Inbox,
        control: Control,
        policy: policy::Handle,
        runtime: tokio::runtime::Handle,
    ) -> Owner {
        Owner {
            inbox: inbox.0,
            watched: Some(inbox.1),
            control,
            policy,
            runtime,
            reader: None,
            recorder: Recorder::new(Limits::default()),
            passed: BTreeMap::new(),
            followers: Vec::new(),
            due: Instant::now(),
            took: Duration::ZERO,
            connections: 0,
            missed: 0,
            failed: None,
        }
    }

    /// Works until it is stopped or every [`Handle`] is gone. Blocks: give it a thread that is not of the runtime.
    pub fn run(mut self) {
        if let Some(watched) = self.watched.take() {
            watched.run(|| self.work());
        }
    }

    fn work(&mut self) {
        let mut tick = Instant::now();
        loop {
            let message = match &self.reader {
                None => (self.inbox.recv()).map_err(|_| mpsc::RecvTimeoutError::Disconnected),
                Some(_) => {
                    (self.inbox).recv_timeout(tick.saturating_duration_since(Instant::now()))
                }
            };
            match message {
                Ok(Message::Stop) | Err(mpsc::RecvTimeoutError::Disconnected) => return,
                Ok(Message::Read(reader)) => self.reader = Some(*reader),
                Ok(Message::Ask(ask)) => ask(self),
                Err(mpsc::RecvTimeoutError::Timeout) => {
                    let result = self.turn(Instant::now() >= self.due);
                    self.complain(result.err());
                    tick = Instant::now() + TICK;
                }
            }
        }
    }

    /// Says once what goes wrong.
    fn complain(&mut self, error: Option<FlowsError>) {
        let error = error.map(|e| e.to_string());
        if let Some(why) = error.as_ref().filter(|e| self.failed.as_ref() != Some(e)) {
            warn!("connections are not seen: {why}");
        }
        self.failed = error;
    }

    fn read<T>(
        &self,
        read: impl FnOnce(&Reader) -> Result<T, policy_ebpf::kernel::KernelError>,
    ) -> Result<T, FlowsError> {
        let reader = self.reader.as_ref().ok_or(FlowsError::NoPrograms)?;
        read(reader).map_err(|e| FlowsError::Kernel(e.to_string()))
    }

    /// Takes in what was told, and the table if that is wanted.
    fn turn(&mut self, look: bool) -> Result<(), FlowsError> {
        let began = Instant::now();
        let now = monotonic();
        // The table first: what was logged about what is in it has been told by then.
        let table = match look {
            true => Some(self.read(Reader::connections)?),
            false => None,
        };
        let reader = self.reader.as_mut().ok_or(FlowsError::NoPrograms)?;
        let (first_world, recorder) = (reader.first_world(), &mut self.recorder);
        let events = std::iter::from_fn(|| reader.next_event());
        events.take(EVENTS).for_each(|event| recorder.hear(&event));
        if let Some(table) = table {
            self.connections = table.len();
            let interfaces = self.policy.ask(names::interfaces);
            let interfaces = self.runtime.block_on(interfaces)?;
            self.recorder.look(now, &interfaces, table);
        }
        self.recorder.settle(now);
        let wanted = self.recorder.wanted();
        let passed = self.recorder.take_passed();
        let mut changes = Vec::new();
        if look || !wanted.is_empty() {
            let known = Known::ask(
                first_world,
                wanted,
                passed.keys().copied().collect(),
                (&self.control, &self.policy, &self.runtime),
            )?;
            self.log(&known);
            self.add_passed(&passed, &known);
            changes = self.recorder.name(&known);
        }
        self.tell(&changes);
        if look {
            self.took = began.elapsed();
            self.due = Instant::now() + LOOK.max(self.took * REST);
        }
        Ok(())
    }

    /// Writes down what `Log` rules matched.
    fn log(&self, known: &Known) {
        let lines = known.log_lines();
        let more = lines.len().saturating_sub(LOG_LINES);
        for line in lines.into_iter().take(LOG_LINES) {
            info!(target: "routerd::policy::log", "{line}");
        }
        if more > 0 {
            warn!(target: "routerd::policy::log", "and {more} more packets were logged by rules");
        }
    }

    fn add_passed(
        &mut self,
        passed: &std::collections::HashMap<CounterKey, Counter>,
        known: &Known,
    ) {
        for (key, more) in passed {
            for said in known.counted_by(key) {
                let entry = self.passed.entry(((*said).clone(), key.staged != 0));
                let counter = entry.or_default();
                counter.packets += more.packets;
                counter.bytes += more.bytes;
            }
        }
        // A policy that comes again begins to count anew.
        self.passed.retain(|(said, _), _| known.is_there(said));
    }

    /// Tells who follows; also who missed some, when nothing is new.
    fn tell(&mut self, changes: &[Arc<Record>]) {
        let missed = &mut self.missed;
        self.followers.retain_mut(|follower| {
            *missed += follower.tell(changes);
            !follower.is_gone()
        });
    }

    fn records(&self, filter: &Filter, clock: &Clock) -> Vec<Record> {
        let all = self.recorder.records();
        let mut wanted: Vec<Record> = all.filter(|r| filter.wants(r, clock)).cloned().collect();
        wanted.sort_by_key(|r| (r.start, r.id));
        wanted
    }
}

/// Nanoseconds of the clock that the programs read.
fn monotonic() -> u64 {
    let now = clock_gettime(ClockId::CLOCK_MONOTONIC).map(Duration::from);
    u64::try_from(now.unwrap_or_default().as_nanos()).unwrap_or(u64::MAX)
}

impl Clock {
    /// The monotonic clock beside that of the wall.
    pub(crate) fn now() -> Clock {
        Clock {
            wall: SystemTime::now(),
            monotonic: monotonic(),
        }
    }
}
