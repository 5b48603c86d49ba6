//! The number of a peer inside one device.

/// A peer of one device. Numbers of removed peers are used again only after a restart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PeerId(u32);

impl PeerId {
    /// The largest number that a device gives out.
    pub const MAX: PeerId = PeerId(u32::MAX - 1);

    pub(crate) const fn new(n: u32) -> PeerId {
        PeerId(n)
    }

    pub(crate) const fn get(self) -> u32 {
        self.0
    }
}

impl std::fmt::Display for PeerId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "peer {}", self.0)
    }
}
