//! Stored resources: no bytes panic, and what is accepted survives being stored.
#![no_main]

use libfuzzer_sys::fuzz_target;
use model::{manifest, validate};

fuzz_target!(|bytes: &[u8]| {
    let Ok(mut object) = manifest::decode_stored(bytes) else {
        return;
    };
    let _ = validate::validate(&object);
    let stored = manifest::encode_stored(&object);
    object.metadata_mut().resource_version = None;
    let read = manifest::decode_stored(&stored).expect("what we write is valid");
    assert_eq!(read, object);
});
