//! Two connections of one neighbour: which one lives (RFC 4271 §6.8).
//!
//! Both sides may connect at the same time. Each connection has a session of its own until both OPENs are
//! known; then the one made by the speaker with the higher router id stays. While one is Established, the
//! other side does not try.

use std::net::Ipv4Addr;

use crate::fsm::{Input, Output, Session, SessionConfig, State};
use crate::wire::notification::{self, Notification, cease};

/// Who made a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Side {
    /// We did.
    Outgoing,
    /// The neighbour did.
    Incoming,
}

impl Side {
    /// The other one.
    pub fn other(self) -> Side {
        match self {
            Side::Outgoing => Side::Incoming,
            Side::Incoming => Side::Outgoing,
        }
    }
}

/// The sessions of one neighbour. Timers and connections of the two sides are the driver's to keep apart.
#[derive(Clone, Debug)]
pub struct Arbiter {
    outgoing: Session,
    incoming: Session,
    local: (Ipv4Addr, u32),
    passive: bool,
    wanted: bool,
}

type Outputs = Vec<(Side, Output)>;

impl Arbiter {
    /// A neighbour that nobody asked for yet.
    pub fn new(config: SessionConfig) -> Arbiter {
        let passive = SessionConfig {
            passive: true,
            ..config.clone()
        };
        Arbiter {
            local: (config.router_id, config.local_as),
            passive: config.passive,
            outgoing: Session::new(config),
            incoming: Session::new(passive),
            wanted: false,
        }
    }

    /// The session of one side.
    pub fn session(&self, side: Side) -> &Session {
        match side {
            Side::Outgoing => &self.outgoing,
            Side::Incoming => &self.incoming,
        }
    }

    fn session_mut(&mut self, side: Side) -> &mut Session {
        match side {
            Side::Outgoing => &mut self.outgoing,
            Side::Incoming => &mut self.incoming,
        }
    }

    /// Replaces the configuration, for the next connections.
    pub fn set_config(&mut self, config: &SessionConfig) {
        self.local = (config.router_id, config.local_as);
        self.passive = config.passive;
        self.outgoing.set_config(config.clone());
        self.incoming.set_config(SessionConfig {
            passive: true,
            ..config.clone()
        });
    }

    /// The side that is furthest: what status shows.
    pub fn furthest(&self) -> Side {
        if self.incoming.state() > self.outgoing.state() {
            Side::Incoming
        } else {
            Side::Outgoing
        }
    }

    /// Whether the neighbour's connection is welcome. One that is not is closed without a word.
    pub fn welcomes(&self) -> bool {
        self.wanted && self.incoming.state() < State::OpenSent
    }

    /// The operator wants the neighbour.
    pub fn start(&mut self, jitter: f64) -> Outputs {
        self.wanted = true;
        let mut out = Vec::new();
        // An incoming session waits even while the neighbour has an Established one: it may have restarted.
        self.give(Side::Incoming, Input::Start, jitter, &mut out);
        if !self.passive {
            self.give(Side::Outgoing, Input::Start, jitter, &mut out);
        }
        out
    }

    /// The operator does not want it any more.
    pub fn stop(&mut self, notification: &Notification) -> Outputs {
        self.wanted = false;
        let mut out = Vec::new();
        for side in [Side::Outgoing, Side::Incoming] {
            self.give(side, Input::Stop(notification.clone()), 0.0, &mut out);
        }
        out
    }

    /// Takes an input of one side's connection or timers.
    pub fn handle(&mut self, side: Side, input: Input<'_>, jitter: f64) -> Outputs {
        let mut out = Vec::new();
        let before = self.session(side).state();
        self.give(side, input, jitter, &mut out);
        let after = self.session(side).state();
        if before < State::OpenConfirm && after == State::OpenConfirm {
            self.collide(side, jitter, &mut out);
        }
        if before < State::Established && self.session(side).state() == State::Established {
            self.rest(side.other(), jitter, &mut out);
        }
        let was_up = before == State::Established && after != State::Established;
        if was_up && self.wanted && !self.passive && side == Side::Incoming {
            self.give(Side::Outgoing, Input::Wait, jitter, &mut out);
        }
        out
    }

    fn give(&mut self, side: Side, input: Input<'_>, jitter: f64, out: &mut Outputs) {
        let outputs = self.session_mut(side).handle(input, jitter);
        out.extend(outputs.into_iter().map(|output| (side, output)));
    }

    /// The OPEN of `side` has come.
    fn collide(&mut self, side: Side, jitter: f64, out: &mut Outputs) {
        let other = side.other();
        let Some(fresh) = self.session(side).negotiated() else {
            return;
        };
        match self.session(other).state() {
            State::OpenConfirm => {
                let theirs = (fresh.peer_id, fresh.peer_as);
                let keep = if self.local < theirs {
                    Side::Incoming
                } else {
                    Side::Outgoing
                };
                self.give(keep.other(), Input::Collision, jitter, out);
            }
            State::Established if fresh.graceful_restart.is_some_and(|r| r.restarted) => {
                // It restarted before we noticed (RFC 4724 §4.2): the old connection is dead, its routes are
                // stale. They come back by the new one, so its Down has to be seen first.
                let mut first = Vec::new();
                self.give(other, Input::Closed, jitter, &mut first);
                first.append(out);
                *out = first;
            }
            State::Established => self.give(side, Input::Collision, jitter, out),
            _ => {}
        }
    }

    /// The other side is Established: an attempt of this one would only collide.
    fn rest(&mut self, side: Side, jitter: f64, out: &mut Outputs) {
        let state = self.session(side).state();
        if side == Side::Outgoing && state < State::OpenSent {
            let quiet = Notification::plain(notification::CEASE, cease::COLLISION);
            self.give(side, Input::Stop(quiet), jitter, out);
        } else if state == State::OpenSent || state == State::OpenConfirm {
            self.give(side, Input::Collision, jitter, out);
            if side == Side::Outgoing {
                let quiet = Notification::plain(notification::CEASE, cease::COLLISION);
                self.give(side, Input::Stop(quiet), jitter, out);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::{Frame, frame};

    fn arbiter(id: u8, peer: u8) -> Arbiter {
        let id_of = |n| Ipv4Addr::new(n, n, n, n);
        let config = SessionConfig::new(u32::from(id), id_of(id), Some(u32::from(peer)));
        Arbiter::new(config)
    }

    /// Messages in flight on the connection that `by` made, seen by the receiver.
    fn sends(outputs: &Outputs, side: Side) -> Vec<bytes::Bytes> {
        let of_side = outputs.iter().filter(|(s, _)| *s == side);
        of_side
            .filter_map(|(_, o)| match o {
                Output::Send(bytes) => Some(bytes.clone()),
                _ => None,
            })
            .collect()
    }

    fn deliver(to: &mut Arbiter, side: Side, messages: &[bytes::Bytes]) -> Outputs {
        let mut out = Vec::new();
        for message in messages {
            let frame: Frame<'_> = frame::next(message, 4096).unwrap().unwrap();
            out.extend(to.handle(side, Input::Message(frame), 0.5));
        }
        out
    }

    #[test]
    fn of_two_connections_the_one_of_the_higher_router_id_stays() {
        let (mut low, mut high) = (arbiter(1, 2), arbiter(2, 1));
        low.start(0.5);
        high.start(0.5);
        // Both connect; both OPENs of both connections are under way.
        let low_out = low.handle(Side::Outgoing, Input::Connected, 0.5);
        let low_in = low.handle(Side::Incoming, Input::Connected, 0.5);
        let high_out = high.handle(Side::Outgoing, Input::Connected, 0.5);
        let high_in = high.handle(Side::Incoming, Input::Connected, 0.5);
        let mut to_high = [
            sends(&low_out, Side::Outgoing),
            sends(&low_in, Side::Incoming),
        ];
        let mut to_low = [
            sends(&high_out, Side::Outgoing),
            sends(&high_in, Side::Incoming),
        ];
        let mut ups = 0;
        for _ in 0..4 {
            // What `low` sends on its outgoing connection comes in on the incoming side of `high`.
            let heard_high: Outputs = [
                deliver(&mut high, Side::Incoming, &to_high[0]),
                deliver(&mut high, Side::Outgoing, &to_high[1]),
            ]
            .concat();
            let heard_low: Outputs = [
                deliver(&mut low, Side::Incoming, &to_low[0]),
                deliver(&mut low, Side::Outgoing, &to_low[1]),
            ]
            .concat();
            to_low = [
                sends(&heard_high, Side::Outgoing),
                sends(&heard_high, Side::Incoming),
            ];
            to_high = [
                sends(&heard_low, Side::Outgoing),
                sends(&heard_low, Side::Incoming),
            ];
            let all = heard_high.iter().chain(&heard_low);
            ups += all.filter(|(_, o)| matches!(o, Output::Up(_))).count();
        }
        assert_eq!(ups, 2);
        assert_eq!(high.session(Side::Outgoing).state(), State::Established);
        assert_eq!(low.session(Side::Incoming).state(), State::Established);
        assert!(high.session(Side::Incoming).state() < State::OpenSent);
        assert_eq!(
            low.session(Side::Outgoing).state(),
            State::Idle,
            "it does not try"
        );
    }

    fn up(low: &mut Arbiter, high: &mut Arbiter) {
        low.start(0.5);
        high.start(0.5);
        let mut to_low = sends(
            &high.handle(Side::Outgoing, Input::Connected, 0.5),
            Side::Outgoing,
        );
        let mut to_high = sends(
            &low.handle(Side::Incoming, Input::Connected, 0.5),
            Side::Incoming,
        );
        for _ in 0..3 {
            let low_said = deliver(low, Side::Incoming, &to_low);
            let high_said = deliver(high, Side::Outgoing, &to_high);
            to_low = sends(&high_said, Side::Outgoing);
            to_high = sends(&low_said, Side::Incoming);
        }
        assert_eq!(high.session(Side::Outgoing).state(), State::Established);
        assert_eq!(low.session(Side::Incoming).state(), State::Established);
    }

    #[test]
    fn an_established_session_wins_against_a_new_connection() {
        let (mut low, mut high) = (arbiter(1, 2), arbiter(2, 1));
        up(&mut low, &mut high);
        assert!(high.welcomes());
        high.handle(Side::Incoming, Input::Connected, 0.5);
        let open = crate::wire::open::encode(
            &SessionConfig::new(1, Ipv4Addr::new(1, 1, 1, 1), Some(2)).open(),
        );
        deliver(&mut high, Side::Incoming, &[open]);
        assert_eq!(high.session(Side::Outgoing).state(), State::Established);
        assert!(high.session(Side::Incoming).state() < State::OpenSent);
    }

    #[test]
    fn a_neighbour_that_restarted_unnoticed_gets_its_new_connection() {
        let (mut low, mut high) = (arbiter(1, 2), arbiter(2, 1));
        up(&mut low, &mut high);
        high.handle(Side::Incoming, Input::Connected, 0.5);
        let mut config = SessionConfig::new(1, Ipv4Addr::new(1, 1, 1, 1), Some(2));
        config.restarted = true;
        let open = crate::wire::open::encode(&config.open());
        let out = deliver(&mut high, Side::Incoming, &[open]);
        let down = out.iter().find_map(|(_, o)| match o {
            Output::Down(down) => Some(down),
            _ => None,
        });
        assert!(down.unwrap().keep.v4, "routes stay");
        assert_eq!(high.session(Side::Incoming).state(), State::OpenConfirm);
    }

    #[test]
    fn when_the_neighbours_connection_ends_ours_is_tried_again_later() {
        let (mut low, mut high) = (arbiter(1, 2), arbiter(2, 1));
        up(&mut low, &mut high);
        let out = low.handle(Side::Incoming, Input::Closed, 0.5);
        let armed = out.iter().any(|(side, o)| {
            *side == Side::Outgoing && matches!(o, Output::Arm(crate::fsm::Timer::Retry, _))
        });
        assert!(armed, "{out:?}");
        assert!(low.welcomes());
    }
}
