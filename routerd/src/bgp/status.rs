//! The subsystem `bgp` of the status.

use model::api::{BgpPeerShow, BgpPeersShow, BgpState, Health, Subsystem};
use model::bgp::Bgp;

/// A session needs so many seconds to come up the first time before its absence is worth a word. What does not fit, such
/// as a password, is said within ten seconds.
const PATIENCE: u64 = 8;

/// Whether an operator asked for this peer by name. A node of the mesh that is away is away by every other way, too:
/// the store has its routes, and it is no fault of this node.
fn is_asked_for(plan: &Bgp, peer: &BgpPeerShow) -> bool {
    let neighbour = plan.peers.get(peer.name.as_str());
    neighbour.is_some_and(|n| n.resource.is_some())
}

/// What is known.
pub(super) struct Facts<'a> {
    pub(super) plan: Option<&'a Bgp>,
    pub(super) shown: &'a BgpPeersShow,
    /// Why there is no speaker, or it is not as wanted.
    pub(super) failed: Option<&'a str>,
    /// Why nobody can connect to us.
    pub(super) deaf: Option<&'a str>,
    /// Whether there is a speaker.
    pub(super) running: bool,
    /// What an operator may want to know though nothing is wrong.
    pub(super) advice: &'a [String],
}

/// How BGP is; `None` where nobody is to be spoken to and there is nothing to say.
pub(super) fn subsystem(facts: &Facts<'_>) -> Option<Subsystem> {
    let Facts {
        plan: Some(plan),
        shown,
        failed,
        deaf,
        running,
        advice,
    } = *facts
    else {
        return (!facts.advice.is_empty()).then(|| named(Health::Ok, facts.advice));
    };
    let up = |p: &&BgpPeerShow| p.state == BgpState::Established;
    let established = shown.peers.iter().filter(up).count();
    let all = shown.peers.len();
    let sessions = match all {
        0 => "no peers".to_owned(),
        1 => format!("{established} of 1 session established"),
        n => format!("{established} of {n} sessions established"),
    };
    let is_new = |p: &BgpPeerShow| p.flaps == 0 && p.down_seconds.is_some_and(|s| s < PATIENCE);
    let missing = |p: &&BgpPeerShow| is_asked_for(plan, p) && !up(p) && !is_new(p);
    let mut faults: Vec<String> = failed.into_iter().chain(deaf).map(str::to_owned).collect();
    let mut absent = shown.peers.iter().filter(missing);
    if let Some(first) = absent.next() {
        let why = first.last_down.as_deref().unwrap_or("no answer yet");
        let more = match absent.count() {
            0 => String::new(),
            n => format!(", and {n} more"),
        };
        faults.push(format!("{} ({}): {why}{more}", first.name, first.peer));
    }
    for p in &shown.peers {
        let fault = p.fault.as_ref();
        faults.extend(fault.map(|fault| format!("{} ({}): {fault}", p.name, p.peer)));
    }
    let guarded: u64 = shown.peers.iter().map(|p| p.guarded).sum();
    if guarded > 0 {
        let from = shown.peers.iter().find(|p| p.guarded > 0);
        let from = from.map(|p| p.peer.as_str()).unwrap_or_default();
        let what = match guarded {
            1 => "1 route inside our pools is refused".to_owned(),
            n => format!("{n} routes inside our pools are refused"),
        };
        faults.push(format!(
            "{what}, the first from {from}: no other node has it, see `routerctl bgp routes --peer {from}`"
        ));
    }
    let state = match (failed, faults.is_empty()) {
        (Some(_), _) if !running => Health::Failed,
        (_, false) => Health::Degraded,
        (_, true) => Health::Ok,
    };
    faults.insert(0, sessions);
    faults.extend(advice.iter().cloned());
    Some(named(state, &faults))
}

fn named(state: Health, words: &[String]) -> Subsystem {
    Subsystem {
        name: "bgp".to_owned(),
        state,
        message: words.join("; "),
    }
}
