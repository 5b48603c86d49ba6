//! One BFD session (RFC 5880 §6).

use std::time::Duration;

use super::packet::{Diagnostic, Packet, PacketError, State};

/// While a session is not up, nobody sends faster (RFC 5880 §6.8.3).
const SLOW: Duration = Duration::from_secs(1);

/// How far away the neighbour is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Hops {
    /// On the same link: packets have a TTL of 255 (RFC 5881 §5).
    Single,
    /// Behind routers: packets have at least this TTL (RFC 5883 §5).
    Multi {
        /// Least TTL; 0 for any.
        min_ttl: u8,
    },
}

/// What an operator says about a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Config {
    /// Our number for it, unique on this node and not 0.
    pub discriminator: u32,
    /// We want to send this often.
    pub transmit: Duration,
    /// We can take packets this often.
    pub receive: Duration,
    /// Packets missed by the neighbour that mean down.
    pub multiplier: u8,
    /// How far the neighbour is.
    pub hops: Hops,
}

/// What changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Event {
    /// Both hear each other.
    Up,
    /// Not any more. An operator's doing on either side is no failure of the path (RFC 5882 §3.2).
    Down {
        /// Why.
        diagnostic: Diagnostic,
        /// Whether an operator took it down.
        admin: bool,
    },
}

/// See the module [`crate::bfd`].
#[derive(Clone, Debug)]
pub struct Session {
    config: Config,
    state: State,
    diagnostic: Diagnostic,
    /// The neighbour, as it last said.
    remote: Option<Packet>,
    /// When the neighbour counts as lost.
    detect_at: Option<Duration>,
    /// When the next periodic packet is due.
    send_at: Option<Duration>,
    last_sent: Duration,
    /// Whether an answer is awaited (RFC 5880 §6.5).
    polling: bool,
    /// Whether an answer is owed.
    answer: bool,
    /// Intervals in force while a slower one is being announced (§6.8.3).
    before: Option<(Duration, Duration)>,
    event: Option<Event>,
}

impl Session {
    /// A session that starts to send at once.
    pub fn new(config: Config, now: Duration) -> Session {
        Session {
            config,
            state: State::Down,
            diagnostic: Diagnostic::NONE,
            remote: None,
            detect_at: None,
            send_at: Some(now),
            last_sent: now,
            polling: false,
            answer: false,
            before: None,
            event: None,
        }
    }

    /// Where it is.
    pub fn state(&self) -> State {
        self.state
    }

    /// Why it went down last.
    pub fn diagnostic(&self) -> Diagnostic {
        self.diagnostic
    }

    /// Time of silence that means down, once the neighbour said how often it sends.
    pub fn detection_time(&self) -> Option<Duration> {
        let remote = self.remote?;
        let receive = self
            .before
            .map_or(self.config.receive, |(_, rx)| rx.max(self.config.receive));
        let interval = receive.max(remote.desired_min_tx);
        Some(interval * u32::from(remote.multiplier))
    }

    fn desired_tx(&self) -> Duration {
        match self.state {
            State::Up => self.config.transmit,
            _ => self.config.transmit.max(SLOW),
        }
    }

    /// Time between periodic packets, before jitter; `None` when none are wanted.
    fn interval(&self) -> Option<Duration> {
        let own = match self.before {
            Some((tx, _)) if self.state == State::Up => tx.min(self.desired_tx()),
            _ => self.desired_tx(),
        };
        let Some(remote) = self.remote else {
            return Some(own);
        };
        let quiet = remote.demand && self.state == State::Up && remote.state == State::Up;
        if remote.required_min_rx.is_zero() || quiet && !self.polling {
            return None;
        }
        Some(own.max(remote.required_min_rx))
    }

    /// An operator takes it down, or lets it come up again.
    pub fn set_admin_down(&mut self, down: bool, now: Duration) {
        if down {
            self.go(State::AdminDown, Diagnostic::ADMIN_DOWN);
            self.send_at = Some(now);
        } else if self.state == State::AdminDown {
            self.go(State::Down, Diagnostic::NONE);
            self.send_at = Some(now);
        }
    }

    /// Changes the intervals. The neighbour is told, and slower ones hold only once it has answered.
    pub fn set_intervals(&mut self, transmit: Duration, receive: Duration, now: Duration) {
        let old = (self.config.transmit, self.config.receive);
        if old == (transmit, receive) {
            return;
        }
        (self.config.transmit, self.config.receive) = (transmit, receive);
        if self.state == State::Up {
            self.before.get_or_insert(old);
            self.polling = true;
        }
        self.send_at = Some(now);
    }

    /// A packet for this session came, with this TTL or hop limit.
    ///
    /// # Errors
    ///
    /// When it must be dropped.
    pub fn handle_packet(
        &mut self,
        packet: &Packet,
        ttl: u8,
        now: Duration,
    ) -> Result<(), PacketError> {
        let least = match self.config.hops {
            Hops::Single => 255,
            Hops::Multi { min_ttl } => min_ttl,
        };
        if ttl < least {
            return Err(PacketError::Ttl(ttl));
        }
        let ours = packet.your_discriminator;
        if ours != 0 && ours != self.config.discriminator {
            return Err(PacketError::Field("our discriminator"));
        }
        let interval = self.interval();
        self.remote = Some(*packet);
        if packet.is_final && self.polling {
            self.polling = false;
            self.before = None;
        }
        if self.state == State::AdminDown {
            return Ok(());
        }
        self.advance(packet, now);
        self.answer |= packet.poll;
        self.detect_at = self.detection_time().map(|time| now + time);
        if interval != self.interval() {
            self.reschedule(now);
        }
        Ok(())
    }

    fn advance(&mut self, packet: &Packet, now: Duration) {
        let next = match (self.state, packet.state) {
            (State::Down, State::AdminDown) => return,
            (_, State::AdminDown) => {
                let was_up = self.state == State::Up;
                self.go(State::Down, Diagnostic::NEIGHBOUR_DOWN);
                if was_up {
                    self.event = Some(Event::Down {
                        diagnostic: Diagnostic::NEIGHBOUR_DOWN,
                        admin: true,
                    });
                }
                return;
            }
            (State::Down, State::Down) => State::Init,
            (State::Down | State::Init, State::Init) | (State::Init, State::Up) => State::Up,
            (State::Up, State::Down) => {
                self.go(State::Down, Diagnostic::NEIGHBOUR_DOWN);
                self.send_at = Some(now);
                return;
            }
            _ => return,
        };
        self.go(next, self.diagnostic);
        // The neighbour should know at once, not after a slow interval.
        self.send_at = Some(now);
    }

    /// Changes the state and says so.
    fn go(&mut self, state: State, diagnostic: Diagnostic) {
        let was = std::mem::replace(&mut self.state, state);
        if was == state {
            return;
        }
        self.diagnostic = if state == State::Up {
            Diagnostic::NONE
        } else {
            diagnostic
        };
        if state == State::Up {
            // The interval becomes the configured one: the neighbour has to hear of it (§6.8.3).
            self.polling = true;
            self.event = Some(Event::Up);
        } else if was == State::Up {
            self.polling = false;
            self.before = None;
            self.event = Some(Event::Down {
                diagnostic,
                admin: state == State::AdminDown,
            });
        }
    }

    fn reschedule(&mut self, now: Duration) {
        self.send_at = match (self.interval(), self.send_at) {
            (None, _) => None,
            (Some(interval), Some(at)) => Some(at.min((self.last_sent + interval).max(now))),
            (Some(_), None) => Some(now),
        };
    }

    /// Time has passed.
    pub fn handle_timeout(&mut self, now: Duration) {
        if self.detect_at.is_some_and(|at| now >= at) {
            self.detect_at = None;
            self.remote = None;
            if self.state > State::Down {
                self.go(State::Down, Diagnostic::TIME_EXPIRED);
                self.send_at = Some(now);
            }
            if self.send_at.is_none() {
                self.send_at = Some(now);
            }
        }
    }

    /// When to come back, packets or not.
    pub fn poll_timeout(&self) -> Option<Duration> {
        let times = [self.detect_at, self.send_at];
        times.into_iter().flatten().min()
    }

    /// A packet to send now. `jitter` is a random number between 0 and 1: the next comes up to a quarter
    /// earlier (§6.8.7). Call until there is none.
    pub fn poll_transmit(&mut self, now: Duration, jitter: f64) -> Option<[u8; 24]> {
        if std::mem::take(&mut self.answer) {
            return Some(self.packet(true).encode());
        }
        if self.send_at.is_none_or(|at| now < at) {
            return None;
        }
        self.last_sent = now;
        self.send_at = self.interval().map(|interval| {
            // With a multiplier of 1 the interval must not be used up whole.
            let most = if self.config.multiplier == 1 {
                0.9
            } else {
                1.0
            };
            now + interval.mul_f64(0.75 + (most - 0.75) * jitter.clamp(0.0, 1.0))
        });
        Some(self.packet(false).encode())
    }

    fn packet(&self, is_final: bool) -> Packet {
        Packet {
            diagnostic: self.diagnostic,
            state: self.state,
            poll: self.polling && !is_final,
            is_final,
            control_independent: false,
            demand: false,
            multiplier: self.config.multiplier,
            my_discriminator: self.config.discriminator,
            your_discriminator: self.remote.map_or(0, |r| r.my_discriminator),
            desired_min_tx: self.desired_tx(),
            required_min_rx: self.config.receive,
        }
    }

    /// The last change that was not asked for yet.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.event.take()
    }
}

#[cfg(test)]
mod tests;
