//! A value for each of the two families that we speak, and their numbers on the wire.

use model::Family;

/// SAFI of unicast forwarding (RFC 4760 §6).
pub const UNICAST: u8 = 1;

/// AFI of a family (IANA).
pub fn afi(family: Family) -> u16 {
    match family {
        Family::V4 => 1,
        Family::V6 => 2,
    }
}

/// The family of an AFI and SAFI; `None` for one that we do not speak.
pub fn from_wire(afi: u16, safi: u8) -> Option<Family> {
    match (afi, safi) {
        (1, UNICAST) => Some(Family::V4),
        (2, UNICAST) => Some(Family::V6),
        _ => None,
    }
}

/// One value per family.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct PerFamily<T> {
    /// For IPv4 unicast.
    pub v4: T,
    /// For IPv6 unicast.
    pub v6: T,
}

impl<T> PerFamily<T> {
    /// Makes a value for each family.
    pub fn from_fn(mut make: impl FnMut(Family) -> T) -> PerFamily<T> {
        PerFamily {
            v4: make(Family::V4),
            v6: make(Family::V6),
        }
    }

    /// The value of `family`.
    pub fn get(&self, family: Family) -> &T {
        match family {
            Family::V4 => &self.v4,
            Family::V6 => &self.v6,
        }
    }

    /// The value of `family`, to change.
    pub fn get_mut(&mut self, family: Family) -> &mut T {
        match family {
            Family::V4 => &mut self.v4,
            Family::V6 => &mut self.v6,
        }
    }
}

impl PerFamily<bool> {
    /// Families whose value is true.
    pub fn enabled(&self) -> impl Iterator<Item = Family> + use<> {
        let on = *self;
        Family::ALL.into_iter().filter(move |f| *on.get(*f))
    }
}
