//! Manifests: no input panics, and what is accepted survives being shown.
#![no_main]

use libfuzzer_sys::fuzz_target;
use model::{manifest, validate};

fuzz_target!(|text: &str| {
    let Ok(objects) = manifest::parse(text) else {
        return;
    };
    for object in objects {
        let _ = validate::validate(&object);
        let shown = manifest::to_yaml(&object);
        let read = manifest::parse(&shown).expect("what we write is valid");
        assert_eq!(read, [object], "{shown}");
    }
});
