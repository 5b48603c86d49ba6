//! The control packet (RFC 5880 §4.1).

use std::fmt;
use std::time::Duration;

use crate::wire::Reader;

/// Where a session is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum State {
    /// Held down by an operator.
    AdminDown,
    /// Not heard.
    #[default]
    Down,
    /// Heard, but the neighbour has not heard us.
    Init,
    /// Both hear each other.
    Up,
}

/// Why a session went down last.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Diagnostic(pub u8);

impl Diagnostic {
    /// Nothing to say.
    pub const NONE: Diagnostic = Diagnostic(0);
    /// Nothing was heard for the detection time.
    pub const TIME_EXPIRED: Diagnostic = Diagnostic(1);
    /// The neighbour said that it is down.
    pub const NEIGHBOUR_DOWN: Diagnostic = Diagnostic(3);
    /// An operator took it down.
    pub const ADMIN_DOWN: Diagnostic = Diagnostic(7);
}

impl fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.0 {
            0 => "no diagnostic",
            1 => "nothing heard within the detection time",
            2 => "echo failed",
            3 => "the neighbour signalled down",
            4 => "forwarding plane reset",
            5 => "path down",
            6 => "concatenated path down",
            7 => "held down by an operator",
            8 => "reverse concatenated path down",
            other => return write!(f, "diagnostic {other}"),
        })
    }
}

/// A control packet without authentication.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Packet {
    /// Why the sender went down last.
    pub diagnostic: Diagnostic,
    /// The sender's state.
    pub state: State,
    /// An answer is wanted.
    pub poll: bool,
    /// This is the answer.
    pub is_final: bool,
    /// The sender's forwarding does not depend on its control plane.
    pub control_independent: bool,
    /// The sender wants no periodic packets while all is well.
    pub demand: bool,
    /// Missed packets that mean down.
    pub multiplier: u8,
    /// The sender's number for the session.
    pub my_discriminator: u32,
    /// Our number for the session; 0 while the sender does not know it.
    pub your_discriminator: u32,
    /// The sender wants to send this often.
    pub desired_min_tx: Duration,
    /// The sender can take packets this often; zero for none.
    pub required_min_rx: Duration,
}

/// Why a packet is not for us (RFC 5880 §6.8.6).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub enum PacketError {
    /// Shorter than its own length or than any packet.
    #[error("the packet is cut")]
    Short,
    /// Not version 1.
    #[error("BFD version {0}")]
    Version(u8),
    /// A field has a value that it must not have.
    #[error("{0} is wrong")]
    Field(&'static str),
    /// It is authenticated and the session is not.
    #[error("the neighbour authenticates; take the authentication out of its configuration")]
    Authenticated,
    /// It came over more hops than allowed.
    #[error("TTL {0}: the packet came from further away than the session allows")]
    Ttl(u8),
}

/// Bytes of a packet without authentication.
pub(super) const LEN: u8 = 24;

fn micros(time: Duration) -> [u8; 4] {
    u32::try_from(time.as_micros())
        .unwrap_or(u32::MAX)
        .to_be_bytes()
}

impl Packet {
    /// Reads a UDP payload.
    ///
    /// # Errors
    ///
    /// When the packet must be dropped whatever session it is for.
    pub fn decode(bytes: &[u8]) -> Result<Packet, PacketError> {
        let mut reader = Reader(bytes);
        let [first, flags, multiplier, len] = reader.array().ok_or(PacketError::Short)?;
        if first >> 5 != 1 {
            return Err(PacketError::Version(first >> 5));
        }
        if len < LEN || usize::from(len) > bytes.len() {
            return Err(PacketError::Short);
        }
        let flag = |bit: u8| flags & bit != 0;
        if flag(0x04) {
            return Err(PacketError::Authenticated);
        }
        if flag(0x01) {
            return Err(PacketError::Field("the multipoint bit"));
        }
        if multiplier == 0 {
            return Err(PacketError::Field("the detection multiplier"));
        }
        let mut word = || reader.u32().ok_or(PacketError::Short);
        let (my_discriminator, your_discriminator) = (word()?, word()?);
        let (tx, rx) = (word()?, word()?);
        let state = match flags >> 6 {
            0 => State::AdminDown,
            1 => State::Down,
            2 => State::Init,
            _ => State::Up,
        };
        if my_discriminator == 0 {
            return Err(PacketError::Field("the sender's discriminator"));
        }
        if your_discriminator == 0 && state > State::Down {
            return Err(PacketError::Field("our discriminator"));
        }
        Ok(Packet {
            diagnostic: Diagnostic(first & 0x1f),
            state,
            poll: flag(0x20),
            is_final: flag(0x10),
            control_independent: flag(0x08),
            demand: flag(0x02),
            multiplier,
            my_discriminator,
            your_discriminator,
            desired_min_tx: Duration::from_micros(u64::from(tx)),
            required_min_rx: Duration::from_micros(u64::from(rx)),
        })
    }

    /// The UDP payload.
    pub fn encode(&self) -> [u8; 24] {
        let bit = |on: bool, bit: u8| if on { bit } else { 0 };
        let flags = (self.state as u8) << 6
            | bit(self.poll, 0x20)
            | bit(self.is_final, 0x10)
            | bit(self.control_independent, 0x08)
            | bit(self.demand, 0x02);
        let head = [
            1 << 5 | self.diagnostic.0 & 0x1f,
            flags,
            self.multiplier,
            LEN,
        ];
        let words = [
            head,
            self.my_discriminator.to_be_bytes(),
            self.your_discriminator.to_be_bytes(),
            micros(self.desired_min_tx),
            micros(self.required_min_rx),
            [0; 4], // We take no echo packets.
        ];
        let mut out = [0; 24];
        for (to, from) in out.iter_mut().zip(words.as_flattened()) {
            *to = *from;
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn packet() -> Packet {
        Packet {
            diagnostic: Diagnostic::NEIGHBOUR_DOWN,
            state: State::Init,
            poll: true,
            is_final: false,
            control_independent: true,
            demand: false,
            multiplier: 3,
            my_discriminator: 7,
            your_discriminator: 9,
            desired_min_tx: Duration::from_millis(100),
            required_min_rx: Duration::from_micros(50_001),
        }
    }

    #[test]
    fn a_packet_survives_the_wire() {
        assert_eq!(Packet::decode(&packet().encode()), Ok(packet()));
    }

    #[test]
    fn packets_that_must_be_dropped_are() {
        type Change = fn(&mut [u8]);
        let cases: [(Change, PacketError); 8] = [
            (|p| p[0] = 2 << 5, PacketError::Version(2)),
            (|p| p[3] = 23, PacketError::Short),
            (|p| p[3] = 25, PacketError::Short),
            (|p| p[1] |= 4, PacketError::Authenticated),
            (|p| p[1] |= 1, PacketError::Field("the multipoint bit")),
            (|p| p[2] = 0, PacketError::Field("the detection multiplier")),
            (
                |p| p[7] = 0,
                PacketError::Field("the sender's discriminator"),
            ),
            (|p| p[11] = 0, PacketError::Field("our discriminator")),
        ];
        for (change, error) in cases {
            let mut bytes = packet().encode();
            change(&mut bytes);
            assert_eq!(Packet::decode(&bytes), Err(error));
        }
    }

    proptest! {
        #[test]
        fn nothing_panics_and_what_is_read_is_written_alike(bytes in prop::collection::vec(any::<u8>(), 0..40)) {
            if let Ok(packet) = Packet::decode(&bytes) {
                prop_assert_eq!(Packet::decode(&packet.encode()), Ok(packet));
            }
        }
    }
}
