//! A record, and the names in it.

use std::net::IpAddr;
use std::sync::Arc;

use model::object::ObjectId;
use policy_common::classify::Tuple;
use policy_common::connection::{Decided, Judged};
use policy_common::reason::Reason;
use policy_common::tables::rule;

use super::{Logged, Logs, Wanted, ip};
use crate::engine::Rule;
use crate::party::Labels;

/// Who has an address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Who {
    /// A workload, a host endpoint, a network set or a node.
    pub id: ObjectId,
    /// What people call it: its pod, or else its container; for all else the name of its object.
    pub called: String,
    /// Its labels.
    pub labels: Arc<Labels>,
}

/// What a rule's word stands for.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Said {
    /// A rule of a policy, or the end of a tier.
    Rule(Rule),
    /// The profile of the endpoint.
    Profile,
    /// A port of the host that no policy closes.
    Failsafe,
    /// The host, to its own workload.
    Host,
    /// The setting for what goes to the workload's own host.
    EndpointToHost,
    /// The address is the workload's no more.
    Spoofed,
}

impl Said {
    /// What a word stands for that needs no compiler.
    pub fn built_in(word: u32) -> Option<Said> {
        match word {
            rule::PROFILE_ALLOW | rule::PROFILE_DENY => Some(Said::Profile),
            rule::FAILSAFE => Some(Said::Failsafe),
            rule::OF_HOST => Some(Said::Host),
            rule::ENDPOINT_TO_HOST => Some(Said::EndpointToHost),
            rule::SPOOFED => Some(Said::Spoofed),
            _ => None,
        }
    }
}

/// Who knows names.
pub trait Names {
    /// Who has an address.
    fn who(&self, ip: IpAddr) -> Option<Arc<Who>>;
    /// The endpoint of this node behind an interface.
    fn at(&self, ifindex: u32) -> Option<Arc<Who>>;
    /// What a rule's word stands for. Numbers of rules are given away again: what was judged under a generation that
    /// is not in force any more may mean another.
    fn rule(&self, word: u32, ifindex: u32, judged: Option<Judged>) -> Option<Arc<Said>>;
    /// All `Log` rules that match a packet, in order, of which the kernel told the first.
    fn logged(&self, logged: &Logged) -> Vec<Arc<Said>>;
}

/// What is known by name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Named {
    /// Who sent the packet that began it.
    pub source: Option<Arc<Who>>,
    /// To whom.
    pub destination: Option<Arc<Who>>,
    /// What decided.
    pub rule: Option<Arc<Said>>,
    /// What would have, were the staged policies in force.
    pub staged: Option<Arc<Said>>,
    /// `Log` rules that matched.
    pub logged: Vec<Arc<Said>>,
}

/// A connection, or what was denied, as one endpoint of this node saw it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Record {
    /// Its number.
    pub id: u64,
    /// The interface of the endpoint.
    pub ifindex: u32,
    /// The endpoint began it.
    pub outbound: bool,
    /// The packet that began it.
    pub tuple: Tuple,
    /// Nanoseconds of the monotonic clock when it began.
    pub start: u64,
    /// When it was last heard of.
    pub last: u64,
    /// When it ended; that is known when it is looked for.
    pub end: Option<u64>,
    /// Whether it was let through.
    pub allowed: bool,
    /// Why it was not.
    pub reason: Option<Reason>,
    /// Policy denies it since it began, and lets it end by itself.
    pub kept: bool,
    /// Words of what decided.
    pub decided: Decided,
    /// The policy by which that was; of a connection.
    pub judged: Option<Judged>,
    /// Packets of who began it, and of who answers.
    pub packets: [u64; 2],
    /// Their bytes, with Ethernet headers.
    pub bytes: [u64; 2],
    /// Names.
    pub names: Named,
}

impl Record {
    pub(super) fn lacks_rule(&self) -> bool {
        let Decided { rule, staged, .. } = self.decided;
        rule != 0 && self.names.rule.is_none() || staged != 0 && self.names.staged.is_none()
    }

    pub(super) fn want(&self, wanted: &mut Wanted) {
        wanted.interfaces.insert(self.ifindex);
        let ends = [
            (&self.names.source, &self.tuple.source),
            (&self.names.destination, &self.tuple.destination),
        ];
        for (name, address) in ends {
            if name.is_none() {
                wanted.addresses.insert(ip(address));
            }
        }
        let Decided { rule, staged, .. } = self.decided;
        for word in [rule, staged] {
            if word != 0 && Said::built_in(word).is_none() {
                wanted.rules.insert(rule::number(word));
            }
        }
    }

    pub(super) fn take_names(&mut self, names: &impl Names) {
        let own = names.at(self.ifindex);
        let (source, destination) = match self.outbound {
            true => (own, None),
            false => (None, own),
        };
        let n = &mut self.names;
        let find = |known: &mut Option<Arc<Who>>, own: Option<Arc<Who>>, address| {
            if known.is_none() {
                *known = own.or_else(|| names.who(ip(address)));
            }
        };
        find(&mut n.source, source, &self.tuple.source);
        find(&mut n.destination, destination, &self.tuple.destination);
        let said = |known: &mut Option<Arc<Said>>, word| {
            if known.is_none() && word != 0 {
                let built_in = Said::built_in(word).map(Arc::new);
                *known = built_in.or_else(|| names.rule(word, self.ifindex, self.judged));
            }
        };
        said(&mut n.rule, self.decided.rule);
        said(&mut n.staged, self.decided.staged);
    }

    /// Takes what was logged about the packet that began it.
    pub(super) fn take_log(&mut self, logs: &mut Logs) {
        let about = (self.ifindex, self.outbound, self.tuple);
        if let Some((_, rules)) = logs.remove(&about) {
            self.names.logged = rules;
        }
    }
}
