//! Randomness as an argument.

/// A source of secret, unpredictable bytes: the operating system's in a daemon, a seed in a simulation.
pub trait Entropy: Send {
    /// Fills `bytes`.
    fn fill(&mut self, bytes: &mut [u8]);
}

/// `N` fresh bytes.
pub(crate) fn bytes<const N: usize>(entropy: &mut dyn Entropy) -> [u8; N] {
    let mut out = [0; N];
    entropy.fill(&mut out);
    out
}

/// A fresh number.
pub(crate) fn number(entropy: &mut dyn Entropy) -> u32 {
    u32::from_le_bytes(bytes(entropy))
}
