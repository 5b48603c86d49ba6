//! Chance in tests that can be replayed.

use std::time::SystemTime;

use anyhow::Result;

/// Numbers that look random; the seed is printed so that a failure can be replayed.
#[derive(Debug)]
pub struct Dice(u64);

impl Dice {
    /// From `ROUTERD_SEED`, else from the clock.
    ///
    /// # Errors
    /// When that variable is no number.
    pub fn new() -> Result<Dice> {
        let seed = match std::env::var("ROUTERD_SEED") {
            Ok(text) => text.parse()?,
            Err(_) => u64::from(
                SystemTime::now()
                    .duration_since(SystemTime::UNIX_EPOCH)?
                    .subsec_nanos(),
            ),
        };
        println!("ROUTERD_SEED={seed}");
        Ok(Dice(seed))
    }

    /// A number below `n`, which is not 0.
    pub fn below(&mut self, n: u64) -> u64 {
        // Knuth's MMIX generator; its upper bits are the good ones.
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % n
    }
}
