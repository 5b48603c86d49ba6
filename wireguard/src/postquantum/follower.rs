//! The side that answers: what it tries changes only by an offer that it gave a ticket for.

use super::context::{Context, PENDING, RETIRE, backoff};
use super::kem::{self, Ciphertext};
use super::message::{Message, Names};
use super::pair::{Pair, PairKeys, Reaction, Role};
use super::schedule::{Link, NO_NAME, Outcome, Token, Transcript, fingerprint, tag};
use crate::keys::PresharedKey;
use crate::time::Time;

/// What is remembered of a leader.
#[derive(Default)]
pub(super) struct Follower {
    /// Grows whenever the keys change: tickets are for keys as they were.
    version: u64,
    pending: Option<Box<Pending>>,
    /// The last exchange, in case its last word was lost.
    done: Option<(Token, Token)>,
    /// How often an exchange was asked for in vain.
    asks: u32,
}

/// An offer that was accepted and waits to be confirmed.
struct Pending {
    ticket: Token,
    accept: Message,
    outcome: Outcome,
    keep: Option<PresharedKey>,
    until: Time,
}

impl Follower {
    /// Makes every ticket worthless: the keys are others.
    pub(super) fn forget(&mut self) {
        self.version += 1;
        self.pending = None;
    }

    pub(super) fn expires(&self) -> Option<Time> {
        self.pending.as_ref().map(|pending| pending.until)
    }

    /// Nobody will confirm it any more. The new key stays and is tried.
    pub(super) fn expire(&mut self, now: Time) {
        self.pending.take_if(|pending| pending.until <= now);
    }
}

fn state(pair: &mut Pair) -> Option<&mut Follower> {
    match &mut pair.role {
        Role::Follower(follower) => Some(follower),
        Role::Leader(_) => None,
    }
}

/// Asks the leader to begin, and again later.
pub(super) fn ask(pair: &mut Pair, context: &mut Context<'_>) -> Option<(Message, u32)> {
    let renew = pair.renew;
    if pair.is_agreed && !renew {
        pair.due = None;
        return None;
    }
    let follower = state(pair)?;
    let asks = follower.asks;
    follower.asks = asks.saturating_add(1);
    if !pair.is_agreed {
        pair.failures = asks;
    }
    pair.due = Some(context.now + context.jitter(backoff(asks)));
    Some((Message::Ask { renew }, asks))
}

/// Takes a message that was authenticated.
pub(super) fn handle(
    pair: &mut Pair,
    link: &Link,
    message: Message,
    context: &mut Context<'_>,
) -> Reaction {
    match message {
        Message::Hello { asked, names } => hello(pair, link, asked, names, context),
        Message::Offer {
            asked,
            ticket,
            keep,
            to,
            ciphertext,
        } => offer(pair, link, (asked, ticket, keep, to, ciphertext), context),
        Message::Confirm { ticket, proof } => confirm(pair, &ticket, &proof, context),
        // What followers say.
        _ => Reaction::default(),
    }
}

fn ticket(pair: &mut Pair, asked: &Token, context: &Context<'_>) -> Option<Token> {
    let version = state(pair)?.version;
    let name = context.peer.as_bytes();
    Some(tag(
        context.ticket_secret,
        b"ticket",
        &[&version.to_be_bytes(), asked, name],
    ))
}

fn hello(
    pair: &mut Pair,
    link: &Link,
    asked: Token,
    theirs: Names,
    context: &mut Context<'_>,
) -> Reaction {
    let names = pair.keys.names(link);
    let [first, other] = &names;
    pair.is_agreed = *first == theirs[0] && !pair.keys.first.is_none();
    if pair.is_agreed && *other == NO_NAME && !pair.renew {
        pair.agree(context.now, RETIRE);
    }
    match pair.is_agreed {
        true => state(pair).into_iter().for_each(|f| f.asks = 0),
        // What it has come for may come to nothing.
        false => pair.due = Some(context.now + context.jitter(backoff(1))),
    }
    match ticket(pair, &asked, context) {
        Some(ticket) => Reaction::say(Message::Here {
            asked,
            ticket,
            names,
        }),
        None => Reaction::default(),
    }
}

fn offer(
    pair: &mut Pair,
    link: &Link,
    (asked, given, keep, to, offered): (Token, Token, Token, Token, Box<Ciphertext>),
    context: &mut Context<'_>,
) -> Reaction {
    let valid = ticket(pair, &asked, context);
    let Some(follower) = state(pair) else {
        return Reaction::default();
    };
    if let Some(pending) = follower.pending.as_ref().filter(|p| p.ticket == given) {
        return Reaction::say(pending.accept.clone());
    }
    // Late: it has been confirmed since.
    if follower.done.is_some_and(|(ticket, _)| ticket == given) {
        return Reaction::default();
    }
    let refusal = Reaction::say(Message::Refuse { ticket: given });
    let own = context.kem.public().clone();
    if valid != Some(given) || to != fingerprint(own.as_bytes()) {
        return refusal;
    }
    let kept = pair.keys.find(link, &keep).cloned();
    let Some(peer_key) = pair.spec.encapsulation_key.clone() else {
        return refusal;
    };
    if keep != NO_NAME && kept.is_none() {
        return refusal;
    }
    // It will be said again.
    if !context.may_compute() {
        return Reaction::default();
    }
    let theirs = context.kem.decapsulate(&offered);
    let Ok((accepted, ours)) = kem::encapsulate(&peer_key, context.entropy) else {
        tracing::warn!(peer = %pair.spec.public_key, "its encapsulation key is none");
        return refusal;
    };
    let transcript = Transcript {
        leader: context.peer,
        follower: context.node,
        leader_key: peer_key.as_bytes(),
        follower_key: own.as_bytes(),
        asked: &asked,
        ticket: &given,
        offered: &offered,
        accepted: &accepted,
    };
    let outcome = Outcome::new(kept.as_ref(), &theirs, &ours, &transcript);
    let new = outcome.key.clone();
    match &kept {
        Some(kept) => {
            pair.keys = PairKeys {
                first: kept.clone(),
                other: Some(new),
            };
            pair.retire_at = None;
        }
        // Nothing that is had here opens a session.
        None => pair.adopt(context.now, new, None),
    }
    let accept = Message::Accept {
        ticket: given,
        ciphertext: accepted,
        proof: outcome.proof(b"accept"),
    };
    let until = context.now + PENDING;
    if let Some(follower) = state(pair) {
        follower.forget();
        follower.pending = Some(Box::new(Pending {
            ticket: given,
            accept: accept.clone(),
            outcome,
            keep: kept,
            until,
        }));
    }
    Reaction {
        install: true,
        ..Reaction::say(accept)
    }
}

fn confirm(pair: &mut Pair, given: &Token, proof: &Token, context: &mut Context<'_>) -> Reaction {
    let Some(follower) = state(pair) else {
        return Reaction::default();
    };
    let is_right =
        |p: &mut Box<Pending>| p.ticket == *given && p.outcome.is_proof_right(b"confirm", proof);
    if let Some(pending) = follower.pending.take_if(is_right) {
        let last = pending.outcome.proof(b"done");
        follower.forget();
        follower.done = Some((*given, last));
        follower.asks = 0;
        pair.adopt(context.now, pending.outcome.key.clone(), pending.keep);
        pair.agree(context.now, RETIRE);
        pair.due = None;
        return Reaction {
            install: true,
            ..Reaction::say(Message::Done {
                ticket: *given,
                proof: last,
            })
        };
    }
    let last = follower.done.filter(|(ticket, _)| ticket == given);
    Reaction::say(match last {
        Some((ticket, proof)) => Message::Done { ticket, proof },
        None => Message::Refuse { ticket: *given },
    })
}
