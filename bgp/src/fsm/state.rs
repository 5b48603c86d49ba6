//! The state machine itself.

use std::time::Duration;

use bytes::Bytes;
use model::Family;

use super::{Down, Input, Negotiated, Output, Reason, SessionConfig, State, Timer, negotiate};
use crate::family::PerFamily;
use crate::wire::notification::{self, Notification, cease};
use crate::wire::refresh::{self, Refresh};
use crate::wire::{Frame, MessageType, frame, open};

/// Hold time while an OPEN is awaited (RFC 4271 §8.2.2 suggests four minutes; who talks at all answers at once, and an
/// operator should soon read why nothing comes).
const OPEN_HOLD: Duration = Duration::from_secs(20);
/// Least send hold time (RFC 9687 §3.1).
const LEAST_SEND_HOLD: Duration = Duration::from_secs(480);

/// One session. See [`crate::fsm`].
#[derive(Clone, Debug)]
pub struct Session {
    config: SessionConfig,
    state: State,
    /// Whether the operator wants it.
    wanted: bool,
    negotiated: Option<Box<Negotiated>>,
    /// Whether bytes are waiting for the socket.
    blocked: bool,
    last_down: Option<Reason>,
}

type Outputs = Vec<Output>;

impl Session {
    /// A session that nobody asked for yet.
    pub fn new(config: SessionConfig) -> Session {
        Session {
            config,
            state: State::Idle,
            wanted: false,
            negotiated: None,
            blocked: false,
            last_down: None,
        }
    }

    /// Where it is.
    pub fn state(&self) -> State {
        self.state
    }

    /// What was agreed on, from OpenConfirm on.
    pub fn negotiated(&self) -> Option<&Negotiated> {
        self.negotiated.as_deref()
    }

    /// Why it ended last, or why the last attempt failed.
    pub fn last_down(&self) -> Option<&Reason> {
        self.last_down.as_ref()
    }

    /// Replaces the configuration, for the next connection.
    pub fn set_config(&mut self, config: SessionConfig) {
        self.config = config;
    }

    /// Longest message that may come now.
    pub fn max_len(&self) -> usize {
        let long = self.negotiated().map(|n| n.context.max_len());
        long.unwrap_or(crate::wire::MAX_LEN)
    }

    /// Asks the neighbour for everything again (RFC 2918); `None` when it cannot.
    pub fn ask_refresh(&self, family: Family) -> Option<Bytes> {
        let agreed = self
            .negotiated()
            .filter(|_| self.state == State::Established)?;
        let can = agreed.refresh && *agreed.context.families.get(family);
        can.then(|| refresh::encode(family, Refresh::Request))
    }

    /// Takes an input and says what is to be done. `jitter` is a random number between 0 and 1, for the
    /// timers that are armed.
    pub fn handle(&mut self, input: Input<'_>, jitter: f64) -> Vec<Output> {
        let mut out = Vec::new();
        match input {
            Input::Start => self.start(&mut out),
            Input::Wait => self.wait(jitter, &mut out),
            Input::Stop(notification) => self.stop(notification, &mut out),
            Input::Connected => self.connected(&mut out),
            Input::ConnectFailed if self.state == State::Connect => {
                self.failed(Reason::ConnectFailed, jitter, &mut out);
            }
            Input::Closed => self.lost(Reason::Closed, jitter, &mut out),
            Input::Message(frame) => self.message(frame, jitter, &mut out),
            Input::Garbled(notification) | Input::Fail(notification) => {
                self.end(notification, jitter, &mut out);
            }
            Input::BfdDown if self.has_connection() => {
                let down = Notification::plain(notification::CEASE, cease::BFD_DOWN);
                self.end(down, jitter, &mut out);
            }
            Input::ConnectFailed | Input::BfdDown => {}
            Input::Collision => {
                let lost = Notification::plain(notification::CEASE, cease::COLLISION);
                self.end(lost, jitter, &mut out);
            }
            Input::Expired(timer) => self.expired(timer, jitter, &mut out),
            Input::Wrote { empty } => self.wrote(empty, &mut out),
        }
        out
    }

    fn has_connection(&self) -> bool {
        self.state >= State::OpenSent
    }

    fn start(&mut self, out: &mut Outputs) {
        if std::mem::replace(&mut self.wanted, true) || self.state != State::Idle {
            return;
        }
        self.connect(out);
    }

    fn wait(&mut self, jitter: f64, out: &mut Outputs) {
        if !std::mem::replace(&mut self.wanted, true) && self.state == State::Idle {
            self.state = State::Active;
            self.arm_retry(jitter, out);
        }
    }

    fn arm_retry(&self, jitter: f64, out: &mut Outputs) {
        if !self.config.passive {
            out.push(Output::Arm(
                Timer::Retry,
                jittered(self.config.retry, jitter),
            ));
        }
    }

    fn connect(&mut self, out: &mut Outputs) {
        if self.config.passive {
            self.state = State::Active;
        } else {
            self.state = State::Connect;
            out.push(Output::Connect);
        }
    }

    fn stop(&mut self, notification: Notification, out: &mut Outputs) {
        self.wanted = false;
        if self.has_connection() {
            self.end(notification, 0.0, out);
        } else {
            if self.state == State::Connect {
                out.push(Output::Close);
            }
            self.disarm(out);
            self.state = State::Idle;
        }
    }

    fn connected(&mut self, out: &mut Outputs) {
        if !self.wanted || self.has_connection() {
            // A second connection belongs to another session; the arbiter looks at both.
            out.push(Output::Close);
            return;
        }
        out.push(Output::Disarm(Timer::Retry));
        self.state = State::OpenSent;
        self.blocked = false;
        self.send(open::encode(&self.config.open()), out);
        out.push(Output::Arm(Timer::Hold, OPEN_HOLD));
    }

    fn message(&mut self, frame: Frame<'_>, jitter: f64, out: &mut Outputs) {
        if !self.has_connection() {
            return;
        }
        if frame.kind == MessageType::Notification {
            let heard = Notification::decode(frame.body);
            let heard = heard.unwrap_or(Notification::plain(0, 0));
            return self.lost(Reason::Received(heard), jitter, out);
        }
        let unexpected = |subcode| Notification::plain(notification::FSM, subcode);
        match (self.state, frame.kind) {
            (State::OpenSent, MessageType::Open) => self.open(frame.body, jitter, out),
            (State::OpenSent, _) => self.end(unexpected(1), jitter, out),
            (State::OpenConfirm, MessageType::Keepalive) => {
                self.state = State::Established;
                self.arm_hold(out);
                if let Some(agreed) = &self.negotiated {
                    out.push(Output::Up(agreed.clone()));
                }
            }
            (State::OpenConfirm, _) => self.end(unexpected(2), jitter, out),
            (_, MessageType::Keepalive) => self.arm_hold(out),
            (_, MessageType::Update) => {
                self.arm_hold(out);
                out.push(Output::Update);
            }
            (_, MessageType::RouteRefresh) => self.refresh(frame.body, jitter, out),
            _ => self.end(unexpected(3), jitter, out),
        }
    }

    fn open(&mut self, body: &[u8], jitter: f64, out: &mut Outputs) {
        let agreed = open::decode(body).and_then(|open| negotiate(&self.config, &open));
        match agreed {
            Ok(agreed) => {
                self.negotiated = Some(Box::new(agreed));
                self.state = State::OpenConfirm;
                self.send(frame::keepalive(), out);
                self.arm_hold(out);
                self.arm_keepalive(jitter, out);
            }
            Err(notification) => self.end(notification, jitter, out),
        }
    }

    fn refresh(&mut self, body: &[u8], jitter: f64, out: &mut Outputs) {
        let Some(agreed) = &self.negotiated else {
            return;
        };
        let families = agreed.context.families;
        match refresh::decode(body, agreed.enhanced_refresh) {
            Ok(Some((family, refresh))) if *families.get(family) => {
                out.push(Output::Refresh(family, refresh));
            }
            Ok(_) => {}
            Err(notification) => self.end(notification, jitter, out),
        }
    }

    fn expired(&mut self, timer: Timer, jitter: f64, out: &mut Outputs) {
        match timer {
            Timer::Retry if self.wanted && !self.has_connection() => self.connect(out),
            Timer::Hold if self.has_connection() => {
                self.end(
                    Notification::plain(notification::HOLD_TIMER, 0),
                    jitter,
                    out,
                );
            }
            Timer::Keepalive if self.state >= State::OpenConfirm => {
                // With the socket full, another KEEPALIVE would only lengthen the queue.
                if !self.blocked {
                    self.send(frame::keepalive(), out);
                }
                self.arm_keepalive(jitter, out);
            }
            Timer::SendHold if self.has_connection() && self.blocked => {
                // It could not be told; the driver drops what is queued when it closes.
                self.end(
                    Notification::plain(notification::SEND_HOLD_TIMER, 0),
                    jitter,
                    out,
                );
            }
            _ => {}
        }
    }

    /// The driver tells of every write, so that a socket that takes nothing is noticed.
    fn wrote(&mut self, empty: bool, out: &mut Outputs) {
        if !self.has_connection() {
            return;
        }
        self.blocked = !empty;
        if empty {
            out.push(Output::Disarm(Timer::SendHold));
            return;
        }
        let hold = self.negotiated().map_or(OPEN_HOLD, |n| n.hold);
        if hold > Duration::ZERO {
            out.push(Output::Arm(Timer::SendHold, LEAST_SEND_HOLD.max(hold * 2)));
        }
    }

    fn send(&mut self, message: Bytes, out: &mut Outputs) {
        out.push(Output::Send(message));
    }

    fn arm_hold(&self, out: &mut Outputs) {
        let hold = self.negotiated().map_or(OPEN_HOLD, |n| n.hold);
        out.push(if hold > Duration::ZERO {
            Output::Arm(Timer::Hold, hold)
        } else {
            Output::Disarm(Timer::Hold)
        });
    }

    fn arm_keepalive(&self, jitter: f64, out: &mut Outputs) {
        let hold = self.negotiated().map_or(Duration::ZERO, |n| n.hold);
        if hold > Duration::ZERO {
            out.push(Output::Arm(Timer::Keepalive, jittered(hold / 3, jitter)));
        }
    }

    fn disarm(&self, out: &mut Outputs) {
        out.extend(Timer::ALL.map(Output::Disarm));
    }

    /// We end it.
    fn end(&mut self, notification: Notification, jitter: f64, out: &mut Outputs) {
        if !self.has_connection() {
            return;
        }
        self.send(self.worded(&notification).encode(), out);
        out.push(Output::Close);
        self.lost(Reason::Sent(notification), jitter, out);
    }

    /// What is meant to end more than the connection says so to a neighbour that keeps our routes otherwise
    /// (RFC 8538 §4).
    fn worded(&self, notification: &Notification) -> Notification {
        let both = self.negotiated().and_then(|n| n.graceful_restart);
        let keeps = both.is_some_and(|r| r.notification) && self.state == State::Established;
        let hard = [
            cease::ADMIN_SHUTDOWN,
            cease::DECONFIGURED,
            cease::MAX_PREFIXES,
            cease::ADMIN_RESET,
        ];
        if keeps && notification.code == notification::CEASE && hard.contains(&notification.subcode)
        {
            notification.hard_reset()
        } else {
            notification.clone()
        }
    }

    /// The connection is over.
    fn lost(&mut self, reason: Reason, jitter: f64, out: &mut Outputs) {
        if !self.has_connection() {
            if self.state == State::Connect {
                self.failed(reason, jitter, out);
            }
            return;
        }
        if !matches!(reason, Reason::Sent(_)) {
            out.push(Output::Close);
        }
        if self.state == State::Established {
            let (keep, keep_for) = self.keep(&reason);
            out.push(Output::Down(Down {
                reason: reason.clone(),
                keep,
                keep_for,
            }));
            self.disarm(out);
            self.idle(reason, jitter, out);
        } else {
            self.disarm(out);
            self.failed(reason, jitter, out);
        }
    }

    /// An attempt came to nothing.
    fn failed(&mut self, reason: Reason, jitter: f64, out: &mut Outputs) {
        out.push(Output::Failed(reason.clone()));
        self.idle(reason, jitter, out);
    }

    fn idle(&mut self, reason: Reason, jitter: f64, out: &mut Outputs) {
        self.last_down = Some(reason);
        self.negotiated = None;
        self.blocked = false;
        self.state = State::Idle;
        if self.wanted {
            // Waiting for the neighbour is possible at once, trying again is not.
            self.state = State::Active;
            self.arm_retry(jitter, out);
        }
    }

    /// Families whose routes live on, the neighbour restarting (RFC 4724 §4.2, RFC 8538 §4).
    fn keep(&self, reason: &Reason) -> (PerFamily<bool>, Duration) {
        let none = (PerFamily::default(), Duration::ZERO);
        let agreed = self.negotiated();
        let Some((agreed, restart)) = agreed.and_then(|a| Some((a, a.graceful_restart?))) else {
            return none;
        };
        let hard = |n: &Notification| {
            n.code == notification::CEASE
                && (n.subcode == cease::HARD_RESET || n.subcode == cease::BFD_DOWN)
        };
        let survives = match reason {
            Reason::Closed => true,
            Reason::Received(n) => restart.notification && !hard(n),
            // Of what we end, only silence may be a restart.
            Reason::Sent(n) => restart.notification && n.code == notification::HOLD_TIMER,
            Reason::ConnectFailed => false,
        };
        if !survives || !self.wanted {
            return none;
        }
        let keep = PerFamily::from_fn(|f| {
            *agreed.context.families.get(f) && restart.families.get(f).covered
        });
        let time = Duration::from_secs(u64::from(restart.time));
        (keep, time.min(self.config.max_restart_time))
    }
}

/// Between three quarters of `time` and all of it (RFC 4271 §10).
fn jittered(time: Duration, jitter: f64) -> Duration {
    time.mul_f64(0.75 + 0.25 * jitter.clamp(0.0, 1.0))
}

#[cfg(test)]
mod tests;
