//! BFD packets: no bytes panic, in any state of a session, and one that is up waits for silence.
#![no_main]

use std::time::Duration;

use bgp::bfd::{Config, Hops, Packet, Session, State};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|packets: Vec<(u8, u8, Vec<u8>)>| {
    let config = Config {
        discriminator: 7,
        transmit: Duration::from_millis(100),
        receive: Duration::from_millis(100),
        multiplier: 3,
        hops: Hops::Single,
    };
    let mut session = Session::new(config, Duration::ZERO);
    let mut now = Duration::ZERO;
    for (wait, ttl, bytes) in packets {
        now += Duration::from_millis(u64::from(wait));
        if let Ok(packet) = Packet::decode(&bytes) {
            let _ = session.handle_packet(&packet, ttl, now);
        }
        session.handle_timeout(now);
        while session.poll_transmit(now, 0.5).is_some() {}
        let _ = session.poll_event();
        assert!(session.state() != State::Up || session.poll_timeout().is_some());
    }
});
