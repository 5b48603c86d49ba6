//! Two sessions on a wire that loses what it is told to.

use super::*;

const MS: Duration = Duration::from_millis(1);

fn config(discriminator: u32, interval: u32, multiplier: u8) -> Config {
    Config {
        discriminator,
        transmit: MS * interval,
        receive: MS * interval,
        multiplier,
        hops: Hops::Single,
    }
}

struct Wire {
    ends: [Session; 2],
    now: Duration,
    /// Whether packets sent by each end arrive.
    open: [bool; 2],
    sent: [u32; 2],
    events: [Vec<(Duration, Event)>; 2],
}

impl Wire {
    fn new(a: Config, b: Config) -> Wire {
        Wire {
            ends: [a, b].map(|config| Session::new(config, Duration::ZERO)),
            now: Duration::ZERO,
            open: [true; 2],
            sent: [0; 2],
            events: [Vec::new(), Vec::new()],
        }
    }

    /// Runs for a time, jumping from deadline to deadline.
    fn run(&mut self, time: Duration) {
        let end = self.now + time;
        loop {
            self.settle();
            let next = self.ends.iter().filter_map(Session::poll_timeout).min();
            match next {
                Some(at) if at <= end => self.now = at.max(self.now),
                _ => break,
            }
            for session in &mut self.ends {
                session.handle_timeout(self.now);
            }
        }
        self.now = end;
    }

    fn settle(&mut self) {
        loop {
            let mut quiet = true;
            for from in [0, 1] {
                while let Some(bytes) = self.ends[from].poll_transmit(self.now, 0.5) {
                    quiet = false;
                    self.sent[from] += 1;
                    if self.open[from] {
                        let packet = Packet::decode(&bytes).unwrap();
                        self.ends[1 - from]
                            .handle_packet(&packet, 255, self.now)
                            .unwrap();
                    }
                }
            }
            for at in [0, 1] {
                let event = self.ends[at].poll_event().map(|event| (self.now, event));
                self.events[at].extend(event);
            }
            if quiet {
                return;
            }
        }
    }

    fn states(&self) -> [State; 2] {
        [self.ends[0].state(), self.ends[1].state()]
    }
}

#[test]
fn a_session_comes_up_and_sends_as_often_as_configured() {
    let mut wire = Wire::new(config(1, 100, 3), config(2, 300, 3));
    wire.run(MS * 2000);
    assert_eq!(wire.states(), [State::Up; 2]);
    let times = [wire.ends[0].detection_time(), wire.ends[1].detection_time()];
    assert_eq!(
        times,
        [Some(MS * 900), Some(MS * 900)],
        "the slower of the two counts"
    );
    wire.sent = [0; 2];
    wire.run(MS * 10_000);
    for sent in wire.sent {
        // 300 ms less an eighth.
        assert!((36..=40).contains(&sent), "{sent}");
    }
    for events in &wire.events {
        assert_eq!(events.len(), 1, "{events:?}");
    }
}

#[test]
fn a_dead_path_is_noticed_within_the_detection_time() {
    let mut wire = Wire::new(config(1, 100, 3), config(2, 100, 3));
    wire.run(MS * 5000);
    let cut = wire.now;
    wire.open = [false; 2];
    wire.run(MS * 1000);
    for events in &wire.events {
        let (at, event) = events[1];
        assert!(at - cut <= MS * 300, "{at:?}");
        assert!(
            at - cut >= MS * 200,
            "three packets are missed, not fewer: {at:?}"
        );
        let diagnostic = Diagnostic::TIME_EXPIRED;
        assert_eq!(
            event,
            Event::Down {
                diagnostic,
                admin: false
            }
        );
    }
    wire.open = [true; 2];
    wire.run(MS * 3000);
    assert_eq!(wire.states(), [State::Up; 2]);
}

#[test]
fn a_path_cut_one_way_is_down_both_ways() {
    let mut wire = Wire::new(config(1, 100, 3), config(2, 100, 3));
    wire.run(MS * 5000);
    let cut = wire.now;
    wire.open = [false, true];
    wire.run(MS * 900);
    assert_eq!(wire.ends[0].state(), State::Down);
    assert!(wire.ends[1].state() < State::Up);
    let (deaf, told) = (wire.events[1][1], wire.events[0][1]);
    assert_eq!(told.0, deaf.0, "told at once");
    assert!(told.0 - cut <= MS * 300);
    let diagnostic = Diagnostic::NEIGHBOUR_DOWN;
    assert_eq!(
        told.1,
        Event::Down {
            diagnostic,
            admin: false
        }
    );
}

#[test]
fn an_operators_down_is_told_from_a_failure() {
    let mut wire = Wire::new(config(1, 100, 3), config(2, 100, 3));
    wire.run(MS * 5000);
    wire.ends[0].set_admin_down(true, wire.now);
    wire.run(MS * 2000);
    assert_eq!(wire.states(), [State::AdminDown, State::Down]);
    for events in &wire.events {
        assert!(
            matches!(events[1].1, Event::Down { admin: true, .. }),
            "{events:?}"
        );
    }
    wire.ends[0].set_admin_down(false, wire.now);
    wire.run(MS * 3000);
    assert_eq!(wire.states(), [State::Up; 2]);
}

#[test]
fn intervals_change_without_a_flap() {
    let mut wire = Wire::new(config(1, 100, 3), config(2, 100, 3));
    wire.run(MS * 5000);
    for interval in [500, 50, 1000, 10] {
        wire.ends[0].set_intervals(MS * interval, MS * interval, wire.now);
        wire.run(MS * 10_000);
        let slower = MS * interval.max(100) * 3;
        assert_eq!(wire.ends[1].detection_time(), Some(slower));
    }
    assert!(
        wire.events.iter().all(|events| events.len() == 1),
        "{:?}",
        wire.events
    );
}

#[test]
fn packets_from_afar_and_for_others_are_dropped() {
    let mut single = Session::new(config(1, 100, 3), Duration::ZERO);
    let far = Hops::Multi { min_ttl: 250 };
    let mut multi = Session::new(
        Config {
            hops: far,
            ..config(1, 100, 3)
        },
        Duration::ZERO,
    );
    let mut other = Session::new(config(2, 100, 3), Duration::ZERO);
    let bytes = other.poll_transmit(Duration::ZERO, 0.0).unwrap();
    let packet = Packet::decode(&bytes).unwrap();
    assert_eq!(
        single.handle_packet(&packet, 254, Duration::ZERO),
        Err(PacketError::Ttl(254))
    );
    assert_eq!(
        multi.handle_packet(&packet, 249, Duration::ZERO),
        Err(PacketError::Ttl(249))
    );
    assert_eq!(multi.handle_packet(&packet, 250, Duration::ZERO), Ok(()));
    let stranger = Packet {
        your_discriminator: 77,
        ..packet
    };
    assert!(
        single
            .handle_packet(&stranger, 255, Duration::ZERO)
            .is_err()
    );
    assert_eq!(single.state(), State::Down);
    assert_eq!(multi.state(), State::Init);
}
