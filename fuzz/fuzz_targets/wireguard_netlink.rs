//! Dumps of WireGuard devices: no bytes panic, however they are cut into messages.
#![no_main]

use libfuzzer_sys::fuzz_target;
use wireguard::kernel::StateDecoder;

fuzz_target!(|messages: Vec<Vec<u8>>| {
    let mut decoder = StateDecoder::default();
    messages.iter().for_each(|message| decoder.message(message));
    let _ = decoder.finish();
});
