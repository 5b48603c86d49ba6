//! Frames from workloads: no bytes panic, and what is read lies inside of them.
#![no_main]

use libfuzzer_sys::fuzz_target;
use policy_common::packet::{Bytes, Packet, Piece, Version};

struct Frame<'a>(&'a [u8]);

impl Bytes for Frame<'_> {
    fn load<const N: usize>(&self, at: u32) -> Option<[u8; N]> {
        let at = usize::try_from(at).ok()?;
        self.0.get(at..at.checked_add(N)?)?.try_into().ok()
    }
}

fuzz_target!(|bytes: &[u8]| {
    for version in [Version::V4, Version::V6] {
        let mut packet = Packet::default();
        if packet.read(&Frame(bytes), 0, version).is_ok() {
            let inside = packet.transport as usize <= bytes.len();
            // A later fragment is judged by its first one, and nothing behind its header is read.
            assert!(inside || packet.piece == Piece::Later as u8 || !packet.has_ports());
            let mut quoted = Packet::default();
            let _ = quoted.read_quoted(&Frame(bytes), packet.transport, version);
        }
    }
});
