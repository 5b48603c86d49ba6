//! The side that begins every exchange, says again what was lost, and knows when a key is old.

use super::context::{ASK_PAUSE, Context, PAUSE, RETIRE, backoff};
use super::kem::{self, Ciphertext, Secret};
use super::message::{Message, Names};
use super::pair::{Pair, Reaction, Role};
use super::schedule::{Link, NO_NAME, Outcome, Token, Transcript, fingerprint};
use crate::entropy;
use crate::keys::PresharedKey;
use crate::time::Time;

/// How often a word is said before the exchange is given up.
const TRIES: u32 = 6;

/// How far it is.
#[derive(Default)]
pub(super) struct Leader {
    stage: Stage,
    /// How often the last word was said.
    pub(super) tries: u32,
    /// When the follower last asked for an exchange and got it.
    asked_at: Option<Time>,
    /// When the key is old.
    rotate_at: Option<Time>,
}

#[derive(Default)]
enum Stage {
    #[default]
    Idle,
    Greeting {
        asked: Token,
    },
    Offered {
        offer: Message,
        asked: Token,
        ticket: Token,
        /// The key that both have.
        keep: Option<PresharedKey>,
        secret: Secret,
        ciphertext: Box<Ciphertext>,
    },
    Confirming {
        ticket: Token,
        outcome: Outcome,
    },
}

impl Leader {
    pub(super) fn is_idle(&self) -> bool {
        matches!(self.stage, Stage::Idle)
    }

    pub(super) fn is_busy(&self) -> bool {
        matches!(self.stage, Stage::Offered { .. } | Stage::Confirming { .. })
    }
}

fn state(pair: &mut Pair) -> Option<&mut Leader> {
    match &mut pair.role {
        Role::Leader(leader) => Some(leader),
        Role::Follower(_) => None,
    }
}

fn enter(pair: &mut Pair, stage: Stage) {
    if let Some(leader) = state(pair) {
        (leader.stage, leader.tries) = (stage, 0);
    }
}

/// Begins an exchange.
pub(super) fn begin(pair: &mut Pair, context: &mut Context<'_>) {
    let asked = entropy::bytes(context.entropy);
    let rotate_at = state(pair).and_then(|leader| leader.rotate_at);
    pair.renew |= rotate_at.is_some_and(|at| at <= context.now);
    enter(pair, Stage::Greeting { asked });
}

/// The word that waits for an answer; `None`: there was none for too long, and the exchange is given up.
pub(super) fn say_again(
    pair: &mut Pair,
    link: &Link,
    context: &mut Context<'_>,
) -> Option<Message> {
    let names = pair.keys.names(link);
    let leader = state(pair)?;
    let message = match &leader.stage {
        Stage::Idle => return None,
        _ if leader.tries >= TRIES => {
            fail(pair, context);
            return None;
        }
        Stage::Greeting { asked } => Message::Hello {
            asked: *asked,
            names,
        },
        Stage::Offered { offer, .. } => offer.clone(),
        Stage::Confirming { ticket, outcome } => confirm(ticket, outcome),
    };
    let pause = context.retry(leader.tries);
    leader.tries += 1;
    pair.due = Some(context.now + pause);
    Some(message)
}

fn confirm(ticket: &Token, outcome: &Outcome) -> Message {
    Message::Confirm {
        ticket: *ticket,
        proof: outcome.proof(b"confirm"),
    }
}

/// Nothing can be said to the peer.
pub(super) fn give_up(pair: &mut Pair, context: &mut Context<'_>) -> Option<Message> {
    fail(pair, context);
    None
}

fn fail(pair: &mut Pair, context: &mut Context<'_>) {
    enter(pair, Stage::Idle);
    pair.failures = pair.failures.saturating_add(1);
    let pause = backoff(pair.failures);
    pair.due = Some(context.now + context.jitter(pause));
}

fn succeed(pair: &mut Pair, is_new: bool, context: &mut Context<'_>) {
    enter(pair, Stage::Idle);
    pair.agree(context.now, RETIRE);
    let pause = context.rotate_every;
    let next = context.now + context.jitter(pause);
    let Some(leader) = state(pair) else { return };
    let before = leader.rotate_at.filter(|_| !is_new);
    leader.rotate_at = before.or(Some(next));
    pair.due = before.or(Some(next));
}

/// Takes a message that was authenticated.
pub(super) fn handle(
    pair: &mut Pair,
    link: &Link,
    message: Message,
    context: &mut Context<'_>,
) -> Reaction {
    match message {
        Message::Ask { renew } => ask(pair, renew, context),
        Message::Here {
            asked,
            ticket,
            names,
        } => here(pair, link, (asked, ticket, names), context),
        Message::Accept {
            ticket,
            ciphertext,
            proof,
        } => accept(pair, (ticket, ciphertext, proof), context),
        Message::Done { ticket, proof } => done(pair, &ticket, &proof, context),
        Message::Refuse { ticket } => refuse(pair, &ticket, context),
        // What leaders say.
        Message::Hello { .. } | Message::Offer { .. } | Message::Confirm { .. } => {
            Reaction::default()
        }
    }
}

fn ask(pair: &mut Pair, renew: bool, context: &mut Context<'_>) -> Reaction {
    let now = context.now;
    let Some(leader) = state(pair) else {
        return Reaction::default();
    };
    // One that is recorded and sent again and again costs a greeting now and then.
    let is_soon = (leader.asked_at).is_some_and(|at| now.since(at) < ASK_PAUSE);
    if leader.is_idle() && !is_soon {
        leader.asked_at = Some(now);
        pair.renew |= renew;
        pair.due = Some(now);
    }
    Reaction::default()
}

fn here(
    pair: &mut Pair,
    link: &Link,
    (asked, ticket, names): (Token, Token, Names),
    context: &mut Context<'_>,
) -> Reaction {
    match state(pair).map(|leader| &leader.stage) {
        Some(Stage::Greeting { asked: ours }) if *ours == asked => {}
        _ => return Reaction::default(),
    }
    let mut reaction = Reaction::default();
    let [first, other] = &names;
    let keep = pair.keys.find(link, first).cloned();
    if keep.is_some() && keep.as_ref() == pair.keys.other.as_ref() {
        // A device that can try but one of them has to try the one that the other end's does.
        let first = std::mem::replace(&mut pair.keys.first, PresharedKey::none());
        (pair.keys.first, pair.keys.other) = (keep.clone().unwrap_or(first.clone()), Some(first));
        pair.retire_at = None;
        reaction.install = true;
    }
    let is_single = *other == NO_NAME && (pair.keys.other.is_none() || pair.retire_at.is_some());
    if keep.as_ref().is_some_and(|key| !key.is_none()) && is_single && !pair.renew {
        succeed(pair, false, context);
        return reaction;
    }
    let keep = keep.or_else(|| pair.keys.find(link, other).cloned());
    pair.is_agreed &= keep.is_some();
    if !context.has_room {
        enter(pair, Stage::Idle);
        pair.due = Some(context.now + context.jitter(PAUSE));
        return reaction;
    }
    let Some(to) = pair.spec.encapsulation_key.clone() else {
        return reaction;
    };
    let Ok((ciphertext, secret)) = kem::encapsulate(&to, context.entropy) else {
        tracing::warn!(peer = %pair.spec.public_key, "its encapsulation key is none");
        fail(pair, context);
        return reaction;
    };
    let offer = Message::Offer {
        asked,
        ticket,
        keep: keep.as_ref().map_or(NO_NAME, |key| link.name(key)),
        to: fingerprint(to.as_bytes()),
        ciphertext: ciphertext.clone(),
    };
    let stage = Stage::Offered {
        offer,
        asked,
        ticket,
        keep,
        secret,
        ciphertext,
    };
    enter(pair, stage);
    reaction.say.extend(say_again(pair, link, context));
    reaction
}

fn accept(
    pair: &mut Pair,
    (given, accepted, proof): (Token, Box<Ciphertext>, Token),
    context: &mut Context<'_>,
) -> Reaction {
    let peer_key = pair.spec.encapsulation_key.clone();
    let Some(leader) = state(pair) else {
        return Reaction::default();
    };
    let (
        Stage::Offered {
            asked,
            ticket,
            keep,
            secret,
            ciphertext,
            ..
        },
        Some(peer_key),
    ) = (&leader.stage, peer_key)
    else {
        return Reaction::default();
    };
    if *ticket != given {
        return Reaction::default();
    }
    let transcript = Transcript {
        leader: context.node,
        follower: context.peer,
        leader_key: context.kem.public().as_bytes(),
        follower_key: peer_key.as_bytes(),
        asked,
        ticket,
        offered: ciphertext,
        accepted: &accepted,
    };
    let theirs = context.kem.decapsulate(&accepted);
    let outcome = Outcome::new(keep.as_ref(), secret, &theirs, &transcript);
    if !outcome.is_proof_right(b"accept", &proof) {
        // One of the two has another key of one of the two than the other thinks.
        fail(pair, context);
        return Reaction::default();
    }
    let keep = keep.clone();
    pair.adopt(context.now, outcome.key.clone(), keep);
    let word = confirm(&given, &outcome);
    enter(
        pair,
        Stage::Confirming {
            ticket: given,
            outcome,
        },
    );
    if let Some(leader) = state(pair) {
        leader.tries = 1;
    }
    pair.due = Some(context.now + context.retry(0));
    Reaction {
        install: true,
        ..Reaction::say(word)
    }
}

fn done(pair: &mut Pair, given: &Token, proof: &Token, context: &mut Context<'_>) -> Reaction {
    let ended = match state(pair).map(|leader| &leader.stage) {
        Some(Stage::Confirming { ticket, outcome }) => {
            ticket == given && outcome.is_proof_right(b"done", proof)
        }
        _ => false,
    };
    if ended {
        succeed(pair, true, context);
    }
    Reaction::default()
}

fn refuse(pair: &mut Pair, given: &Token, context: &mut Context<'_>) -> Reaction {
    let ended = match state(pair).map(|leader| &leader.stage) {
        Some(Stage::Offered { ticket, .. } | Stage::Confirming { ticket, .. }) => ticket == given,
        _ => false,
    };
    if ended {
        fail(pair, context);
    }
    Reaction::default()
}
