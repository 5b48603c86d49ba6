//! Selectors: no text panics, and the canonical form parses back to an equal tree.
#![no_main]

use libfuzzer_sys::fuzz_target;
use model::Selector;

fuzz_target!(|text: &str| {
    if let Ok(selector) = text.parse::<Selector>() {
        let shown = selector.to_string();
        assert_eq!(shown.parse::<Selector>().as_ref(), Ok(&selector), "{shown}");
        selector.matches(&Default::default());
    }
});
