//! What others ask of the owner of policy.

use std::collections::BTreeMap;
use std::sync::mpsc;

use model::kernel::{LinkName, Mac};
use model::object::{ObjectId, Resource};
use model::resources::WorkloadEndpointSpec;
use policy_ebpf::Engine;
use policy_ebpf::kernel::{Attached, Interface};
use tokio::sync::oneshot;

use super::barrier::Barrier;
use super::enforce::Enforce;
use super::feed::{Input, Place};
use crate::gone::{Fate, Gone};

pub(super) type Answer = Result<(), String>;

/// What the owner knows, for who asks.
pub struct Seen<'a> {
    /// The compiler.
    pub engine: &'a Engine,
    /// Where the programs are.
    pub attached: &'a Attached,
    /// Where endpoints of this node are to be found.
    pub places: &'a BTreeMap<ObjectId, Place>,
    /// Who is cut off.
    pub barrier: &'a Barrier,
    /// What enforces policy, or why there is nothing to do so with.
    pub kernel: Result<&'a dyn Enforce, &'a str>,
}

impl<'a> Seen<'a> {
    /// Why there is nothing to enforce policy with.
    pub fn missing(&self) -> Option<&'a str> {
        self.kernel.err()
    }
}

pub(super) type Question = Box<dyn FnOnce(&Seen<'_>) + Send>;

pub(super) enum Message {
    /// What changed.
    Fed(Vec<Input>),
    /// All there is.
    Listed(Vec<Input>),
    /// Interfaces came or went.
    Look,
    /// Somebody else changed the table that cuts workloads off.
    LookAtBarrier,
    Hold(ObjectId, Interface, mpsc::SyncSender<Answer>),
    Admit(Box<Resource<WorkloadEndpointSpec>>, oneshot::Sender<Answer>),
    Release(ObjectId),
    Ask(Question),
    Stop,
}

/// Reaches the thread; clones reach the same one. Everything is a no-op once it has stopped.
#[derive(Clone, Debug)]
pub struct Handle {
    pub(super) outbox: mpsc::Sender<Message>,
    pub(super) fate: Fate,
}

impl Handle {
    /// What changed in the store, in its order.
    pub fn feed(&self, inputs: Vec<Input>) {
        if !inputs.is_empty() {
            let _ = self.outbox.send(Message::Fed(inputs));
        }
    }

    /// All that is in the store: what is not among it is gone.
    pub fn listed(&self, inputs: Vec<Input>) {
        let _ = self.outbox.send(Message::Listed(inputs));
    }

    /// Interfaces of the host came, went or changed.
    pub fn links_changed(&self) {
        let _ = self.outbox.send(Message::Look);
    }

    /// Somebody else changed an nftables table of ours.
    pub fn tables_changed(&self) {
        let _ = self.outbox.send(Message::LookAtBarrier);
    }

    /// Begins to attach the programs to a workload's interface that is down, and gives what waits until they are
    /// there, or says why policy cannot be enforced there; it blocks, so of the runtime only threads may call it that
    /// may. Nothing passes until [`Handle::admit`].
    pub fn hold(
        &self,
        id: &ObjectId,
        link: LinkName,
        index: u32,
        mac: Mac,
        mtu: u32,
    ) -> impl FnOnce() -> Answer + Send + use<> {
        let interface = Interface {
            name: link.to_string(),
            ifindex: index,
            mac,
            own: Vec::new(),
            host: false,
            mtu: u16::try_from(mtu).unwrap_or(u16::MAX),
        };
        let (reply, answer) = mpsc::sync_channel(1);
        let _ = (self.outbox).send(Message::Hold(id.clone(), interface, reply));
        let fate = self.fate.clone();
        move || {
            let gone = |_| Err(fate.blocking_gone().to_string());
            answer.recv().unwrap_or_else(gone)
        }
    }

    /// Puts the policy of a workload in force whose interface is held.
    ///
    /// # Errors
    /// Why it is not in force: the workload stays closed.
    pub async fn admit(&self, endpoint: Resource<WorkloadEndpointSpec>) -> Answer {
        let (reply, answer) = oneshot::channel();
        let _ = (self.outbox).send(Message::Admit(Box::new(endpoint), reply));
        match answer.await {
            Ok(answer) => answer,
            Err(_) => Err(self.fate.gone().await.to_string()),
        }
    }

    /// Forgets a workload whose ADD failed.
    pub fn release(&self, id: &ObjectId) {
        let _ = self.outbox.send(Message::Release(id.clone()));
    }

    /// Asks the owner something, who knows all that was fed before.
    ///
    /// # Errors
    /// It has ended.
    pub async fn ask<T: Send + 'static>(
        &self,
        ask: impl FnOnce(&Seen<'_>) -> T + Send + 'static,
    ) -> Result<T, Gone> {
        let (reply, answer) = oneshot::channel();
        let ask = Box::new(move |seen: &Seen<'_>| {
            // Who asked may have gone.
            let _ = reply.send(ask(seen));
        });
        let _ = self.outbox.send(Message::Ask(ask));
        match answer.await {
            Ok(answer) => Ok(answer),
            Err(_) => Err(self.fate.gone().await),
        }
    }

    /// How its thread ends.
    pub fn fate(&self) -> Fate {
        self.fate.clone()
    }

    /// Ends it; everything stays enforced.
    pub fn stop(&self) {
        let _ = self.outbox.send(Message::Stop);
    }
}
