//! How the subsystems are, from what the last run left undone.

use std::collections::BTreeMap;

use model::api::{Drift, Health, Subsystem};
use model::kernel::{KernelState, LinkName, Op};
use model::kv::Revision;
use model::marks;
use model::resources::Encryption;
use netlink::{Conflict, Error, describe};

/// How the kernel is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Status {
    /// The kernel was brought to a state computed from a complete snapshot.
    pub in_sync: bool,
    /// Number of the newest state that a run brought the kernel to.
    pub generation: u64,
    /// Number of the newest state whose watch over clear text the kernel has.
    pub guarded: u64,
    /// Revision of the state that the last run aimed at.
    pub revision: Revision,
    /// `links`, `tunnels`, `routes`, `nat`.
    pub subsystems: Vec<Subsystem>,
    /// What others had changed, newest first.
    pub drift: Vec<Drift>,
}

impl Status {
    /// Whether the encrypted tunnel does not work.
    pub fn lacks_tunnel(&self) -> bool {
        let mut subsystems = self.subsystems.iter();
        subsystems.any(|s| s.name == TUNNELS && s.state == Health::Failed)
    }

    /// The subsystems now that `newest` is wanted: the links of workloads are made and taken away by
    /// the CNI path, before the next run counts them.
    pub fn subsystems_for(&self, newest: &KernelState) -> Vec<Subsystem> {
        let mut subsystems = self.subsystems.clone();
        for s in &mut subsystems {
            if s.name == LINKS && s.state == Health::Ok {
                s.message = working(Part::Links, newest, None);
            }
        }
        subsystems
    }
}

/// What the first part is called.
const LINKS: &str = "links";
/// And the second.
const TUNNELS: &str = "tunnels";

/// The parts that are reported one by one, in the order they are built in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Part {
    Links,
    Tunnels,
    Routes,
    Nat,
}

const PARTS: [(Part, &str); 4] = [
    (Part::Links, LINKS),
    (Part::Tunnels, TUNNELS),
    (Part::Routes, "routes"),
    (Part::Nat, "nat"),
];

fn of_link(name: LinkName) -> Part {
    match name.as_str() {
        marks::VXLAN_V4 | marks::VXLAN_V6 | marks::WIREGUARD => Part::Tunnels,
        _ => Part::Links,
    }
}

fn of_op(op: &Op) -> Part {
    match op {
        Op::CreateVxlan(_)
        | Op::SetFdb(_)
        | Op::DeleteFdb(_)
        | Op::SetGuard(_)
        | Op::DeleteGuard => Part::Tunnels,
        Op::SetMtu(l, _)
        | Op::SetMac(l, _)
        | Op::SetUp(l)
        | Op::DeleteLink(l)
        | Op::AddAddress(l, _)
        | Op::DeleteAddress(l, _) => of_link(*l),
        Op::SetNeighbour(n) | Op::DeleteNeighbour(n) => of_link(n.dev),
        Op::AddRoute(..) | Op::ReplaceRoute(..) | Op::DeleteRoute(..) => Part::Routes,
        Op::SetNat(_) | Op::DeleteNat => Part::Nat,
        Op::SetSysctl(path, _) => {
            let link = path.split('/').nth(3).and_then(|l| l.parse().ok());
            link.map_or(Part::Links, of_link)
        }
    }
}

fn of_conflict(conflict: &Conflict) -> Part {
    match conflict {
        Conflict::AlienRoute { .. } => Part::Routes,
        Conflict::MissingLink { link, object } => match of_link(*link) {
            // The parent of a tunnel is an interface of the host.
            Part::Links if object.starts_with("vxlan ") => Part::Tunnels,
            part => part,
        },
    }
}

/// Before anything is known.
pub(super) fn waiting(message: &str) -> Vec<Subsystem> {
    all(Health::Degraded, message)
}

/// When the kernel cannot be looked at.
pub(super) fn blind(error: &Error) -> Vec<Subsystem> {
    all(
        Health::Failed,
        &format!("the kernel cannot be read: {error}"),
    )
}

fn all(state: Health, message: &str) -> Vec<Subsystem> {
    let of = |(_, name): (Part, &str)| Subsystem {
        name: name.to_owned(),
        state,
        message: message.to_owned(),
    };
    PARTS.into_iter().map(of).collect()
}

/// What a run came to.
pub(super) struct Outcome<'a> {
    /// What it aimed at.
    pub(super) target: &'a KernelState,
    /// Whether to encrypt; nobody knows as long as all is barred for that.
    pub(super) encryption: Option<Encryption>,
    /// Peers of the encrypted tunnel, if there is to be one.
    pub(super) peers: Option<usize>,
    /// Why that tunnel is not as it should be.
    pub(super) tunnel: Option<&'a str>,
    /// What failed.
    pub(super) failed: &'a [(Op, Error)],
    /// What waits for what failed.
    pub(super) blocked: &'a [Op],
    /// What could not be planned.
    pub(super) conflicts: &'a [Conflict],
}

/// After a run.
pub(super) fn after(outcome: &Outcome<'_>) -> Vec<Subsystem> {
    let &Outcome {
        failed,
        blocked,
        conflicts,
        ..
    } = outcome;
    let mut troubles: BTreeMap<Part, Vec<String>> = BTreeMap::new();
    let mut broken = Vec::new();
    if let Some(error) = outcome.tunnel {
        broken.push(Part::Tunnels);
        troubles.insert(Part::Tunnels, vec![error.to_owned()]);
    }
    if let Some((state, message)) = lack(outcome) {
        broken.extend((state == Health::Failed).then_some(Part::Tunnels));
        let part = troubles.entry(Part::Tunnels).or_default();
        part.push(message);
    }
    for (op, error) in failed {
        if matches!(op, Op::CreateVxlan(_) | Op::SetNat(_)) {
            broken.push(of_op(op));
        }
        let part = troubles.entry(of_op(op)).or_default();
        part.push(error.to_string());
    }
    for op in blocked {
        let part = troubles.entry(of_op(op)).or_default();
        part.push(format!("{} waits", describe::object(op)));
    }
    // A missing link is named once, whatever is wanted on it.
    let mut missing = Vec::new();
    for conflict in conflicts {
        let message = match conflict {
            Conflict::MissingLink { link, .. } if missing.contains(link) => continue,
            Conflict::MissingLink { link, .. } => {
                missing.push(*link);
                match link.as_str() {
                    marks::WIREGUARD => format!("there is no interface {link} yet"),
                    _ => format!("there is no interface {link}: its workload or network is gone"),
                }
            }
            other @ Conflict::AlienRoute { .. } => other.to_string(),
        };
        troubles
            .entry(of_conflict(conflict))
            .or_default()
            .push(message);
    }
    let of = |(part, name): (Part, &str)| {
        let (state, message) = match troubles.get(&part).map(Vec::as_slice) {
            None | Some([]) => (Health::Ok, working(part, outcome.target, outcome.peers)),
            Some([only]) => (Health::Degraded, only.clone()),
            Some([first, more @ ..]) => {
                let message = format!("{first}; and {} more", more.len());
                (Health::Degraded, message)
            }
        };
        Subsystem {
            name: name.to_owned(),
            state: match state {
                Health::Degraded if broken.contains(&part) => Health::Failed,
                state => state,
            },
            message,
        }
    };
    PARTS.into_iter().map(of).collect()
}

/// What is wrong where encryption is wanted and there is to be no tunnel.
fn lack(outcome: &Outcome<'_>) -> Option<(Health, String)> {
    let mend = "load the kernel's module `wireguard`, or give it /dev/net/tun and routerd-tunnel beside routerd, and \
                start routerd again; see also `problems`";
    let (state, message) = match (outcome.encryption, outcome.peers) {
        (Some(Encryption::Off), _) | (Some(_), Some(_)) => return None,
        (None, _) => (
            Health::Degraded,
            "MeshConfiguration/default cannot be read, so no new way to other nodes is opened: apply it anew, or delete it"
                .to_owned(),
        ),
        (Some(Encryption::Preferred), None) => (
            Health::Degraded,
            format!("nothing is encrypted: this node has no WireGuard key of its own: {mend}"),
        ),
        (Some(Encryption::Required), None) => (
            Health::Failed,
            format!(
                "encryption is required, and this node has no WireGuard key of its own, so it reaches no other: {mend}"
            ),
        ),
    };
    Some((state, message))
}

/// What a part does when all is well.
fn working(part: Part, target: &KernelState, peers: Option<usize>) -> String {
    match part {
        Part::Links => format!("{} workload links", target.workload_links.len()),
        Part::Tunnels => {
            let devices: Vec<_> = target.vxlan.keys().map(LinkName::as_str).collect();
            let vxlan = format!("{}, {} peers", devices.join(" and "), target.fdb.len());
            let vxlan = (!devices.is_empty()).then_some(vxlan);
            let encrypted = peers.map(|n| format!("{}, {n} peers", marks::WIREGUARD));
            let all: Vec<_> = encrypted.into_iter().chain(vxlan).collect();
            match all.is_empty() {
                true => "none needed".to_owned(),
                false => all.join("; "),
            }
        }
        Part::Routes => format!("{} routes", target.routes.len()),
        Part::Nat => match &target.nat {
            Some(nat) => format!("masquerades {} pools", nat.sources.len()),
            None => "none needed".to_owned(),
        },
    }
}
