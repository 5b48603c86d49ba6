//! Everything that may happen to a mesh, while every pair keeps a key that both ends try.

use std::time::Duration;

use super::net::{FINE, Net, Weather};

const MINUTE: Duration = Duration::from_secs(60);

#[test]
fn all_pairs_agree_within_a_second_and_then_are_silent() {
    for is_required in [false, true] {
        let mut net = Net::new(1, 5, is_required);
        net.run(Duration::from_secs(1));
        for n in 0..5 {
            for (_, status) in net.nodes[n].exchange.statuses() {
                assert!(status.is_agreed);
            }
        }
        net.run(MINUTE);
        net.must_agree();
        let sent = net.sent;
        // Six datagrams each, and of those that began both of their own accord one more.
        assert!((10 * 6..=10 * 8).contains(&sent), "{sent}");
        net.run(5 * MINUTE);
        assert_eq!(net.sent, sent);
    }
}

#[test]
fn keys_are_replaced_in_time_and_on_demand() {
    let mut net = Net::new(2, 3, false);
    net.run(MINUTE);
    net.must_agree();
    let mut last = net.tries(0, 1);
    for _ in 0..3 {
        net.run(10 * MINUTE);
        net.settle();
        net.must_agree();
        assert_ne!(net.tries(0, 1), last);
        last = net.tries(0, 1);
    }
    // Either end may want it.
    for n in [0, 1] {
        let now = net.now;
        net.nodes[n].exchange.renew(now);
        net.run(MINUTE);
        net.must_agree();
        assert_ne!(net.tries(0, 1), last);
        last = net.tries(0, 1);
    }
}

/// A daemon that starts anew asks, finds that all is well, and lets it be.
#[test]
fn a_restart_changes_no_key() {
    let mut net = Net::new(3, 4, true);
    net.run(MINUTE);
    let keys = net.tries(0, 2);
    for n in 0..4 {
        net.restart(n);
        net.run(Duration::from_secs(5));
        net.must_agree();
    }
    assert_eq!(net.tries(0, 2), keys);
}

#[test]
fn who_has_lost_its_keys_gets_others() {
    for (seed, is_required) in [(4, false), (5, true)] {
        for n in 0..3 {
            let mut net = Net::new(seed, 3, is_required);
            net.run(MINUTE);
            net.reboot(n);
            // The other end takes nothing less meanwhile.
            for m in (0..3).filter(|m| *m != n) {
                assert!(!net.tries(m, n)[0].is_none());
            }
            net.run(Duration::from_secs(2));
            net.run(MINUTE);
            net.must_agree();
        }
    }
}

/// What any of these may do to each other, with everything that a network and an attacker who records may do
/// to their datagrams. The watch is in the net.
#[test]
fn whatever_happens_the_ends_of_a_pair_try_a_key_in_common() {
    for seed in 0..seeds(25) {
        let mut net = Net::new(seed, 3, seed % 2 == 0);
        net.rotate_every = Duration::from_secs(20 + seed % 100);
        for n in 0..3 {
            net.restart(n);
        }
        for _ in 0..60 {
            net.weather = Weather {
                loss: [0, 10, 30, 60, 100][net.random.below(5)],
                double: 20,
                jitter: [0, 20, 400, 5_000][net.random.below(4)],
                replay: [0, 30][net.random.below(2)],
            };
            let n = net.random.below(3);
            match net.random.below(12) {
                0..=2 => net.restart(n),
                3 => net.reboot(n),
                4 => net.change_kem(n),
                5 => net.change_key(n),
                6 => {
                    let now = net.now;
                    net.nodes[n].exchange.renew(now);
                }
                _ => {}
            }
            let millis = [3, 100, 1_000, 40_000][net.random.below(4)];
            let millis = net.random.next() % millis;
            net.run(Duration::from_millis(millis));
        }
        net.weather = FINE;
        net.rotate_every = Duration::from_secs(600);
        for n in 0..3 {
            net.restart(n);
        }
        // Whoever has failed often waits for up to a minute.
        net.run(3 * MINUTE);
        net.must_agree();
    }
}

/// Devices with room for one key differ for the time of a datagram, and come together again whatever
/// happens.
#[test]
fn devices_with_room_for_one_key_come_together_again() {
    for seed in 0..seeds(12) {
        let mut net = Net::new(seed, 3, seed % 2 == 0);
        net.nodes[0].is_single = true;
        net.nodes[2].is_single = true;
        net.restart(0);
        net.restart(2);
        net.run(MINUTE);
        net.apart.clear();
        let now = net.now;
        (0..3).for_each(|n| net.nodes[n].exchange.renew(now));
        net.run(MINUTE);
        net.must_agree();
        for (pair, apart) in &net.apart {
            assert!(*apart <= Duration::from_millis(2), "{pair:?}: {apart:?}");
        }
        for _ in 0..40 {
            net.weather = Weather {
                loss: [0, 30, 100][net.random.below(3)],
                double: 20,
                jitter: [0, 20, 3_000][net.random.below(3)],
                replay: 10,
            };
            let n = net.random.below(3);
            let now = net.now;
            match net.random.below(6) {
                0 => net.restart(n),
                1 => net.reboot(n),
                2 => net.nodes[n].exchange.renew(now),
                _ => {}
            }
            let millis = net.random.next() % 20_000;
            net.run(Duration::from_millis(millis));
        }
        net.weather = FINE;
        net.run(3 * MINUTE);
        net.must_agree();
    }
}

#[test]
fn a_node_without_a_key_is_left_alone_and_one_that_loses_it_in_peace() {
    let mut net = Net::new(6, 3, false);
    net.nodes[2].takes_part = false;
    net.tell_all();
    net.run(MINUTE);
    assert!(net.tries(0, 2)[0].is_none() && net.tries(2, 0)[0].is_none());
    assert!(!net.tries(0, 1)[0].is_none());
    net.nodes[2].takes_part = true;
    net.tell_all();
    net.run(MINUTE);
    net.must_agree();
    // All stop, one after the other, and share a key throughout: the watch is in the net.
    for n in 0..3 {
        (0..3).for_each(|m| net.nodes[m].takes_part = false);
        net.tell(n);
        net.run(Duration::from_secs(2));
    }
    net.run(2 * MINUTE);
    for n in 0..3 {
        assert!(net.nodes[n].device.is_empty() && net.nodes[n].exchange.is_empty());
    }
}

#[test]
fn required_takes_away_what_is_no_key_and_preferred_gives_it_back() {
    let mut net = Net::new(7, 2, false);
    net.weather.loss = 100;
    net.run(MINUTE);
    assert!(net.tries(0, 1)[0].is_none());
    net.set_required(true);
    assert!(!net.tries(0, 1)[0].is_none() && net.tries(0, 1) != net.tries(1, 0));
    net.set_required(false);
    assert!(net.tries(0, 1)[0].is_none() && net.tries(1, 0)[0].is_none());
    net.set_required(true);
    net.weather = FINE;
    net.run(2 * MINUTE);
    net.must_agree();
    // What is agreed stays, whatever is wanted.
    let keys = net.tries(0, 1);
    net.set_required(false);
    net.run(MINUTE);
    net.must_agree();
    assert_eq!(net.tries(0, 1), keys);
}

/// From another address: of another node that took over the name, and its own after it changed its key.
#[test]
fn a_name_with_another_node_begins_anew() {
    let mut net = Net::new(8, 2, true);
    net.run(MINUTE);
    let keys = net.tries(0, 1);
    net.change_key(1);
    net.change_key(1);
    net.run(MINUTE);
    assert_eq!(net.tries(0, 1), keys);
    net.replace(1);
    assert_ne!(net.tries(0, 1), keys);
    net.run(MINUTE);
    net.must_agree();
}

/// `SEEDS=5000 cargo test` looks further.
fn seeds(default: u64) -> u64 {
    let wanted = std::env::var("SEEDS").ok().and_then(|n| n.parse().ok());
    wanted.unwrap_or(default)
}

/// Whoever starts with 5,000 silent peers talks to a few at a time, and to all in the end.
#[test]
fn a_crowd_is_met_a_few_at_a_time() {
    use std::collections::BTreeSet;

    let mut crowd = super::net::crowd(5000);
    let (mut said, mut first, mut words) = (BTreeSet::new(), 0, 0);
    while let Some(at) = crowd
        .poll_timeout()
        .filter(|at| at.as_nanos() < 11_000_000_000)
    {
        crowd.handle_timeout(at);
        while let Some(transmit) = crowd.poll_transmit() {
            said.insert(transmit.destination);
            words += 1;
        }
        if at.as_nanos() < 500_000_000 {
            first = said.len();
        }
    }
    assert!((150..400).contains(&first), "{first} in half a second");
    assert_eq!(said.len(), 5000);
    assert!(words < 25_000, "{words}");
}
