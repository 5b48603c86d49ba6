//! IPAM records: no bytes panic, and what is accepted survives being stored.
#![no_main]

use libfuzzer_sys::fuzz_target;
use model::block::{Block, Identity};

fuzz_target!(|bytes: &[u8]| {
    if let Ok(block) = Block::decode(bytes) {
        assert_eq!(Block::decode(&block.encode()), Ok(block));
    }
    if let Ok(identity) = Identity::decode(bytes) {
        assert_eq!(Identity::decode(&identity.encode()), Ok(identity));
    }
});
