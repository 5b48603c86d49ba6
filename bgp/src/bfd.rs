//! BFD in asynchronous mode (RFC 5880), over one hop (RFC 5881) and several (RFC 5883), without sockets
//! and clocks.
//!
//! The driver finds the session of a packet ([`Packet::your_discriminator`], or the address where that is 0),
//! gives it to [`Session::handle_packet`], calls [`Session::handle_timeout`] when [`Session::poll_timeout`] has
//! passed, sends what [`Session::poll_transmit`] gives and heeds [`Session::poll_event`]; in this order after each
//! input. Times are since an arbitrary start and never go back.

mod packet;
mod session;

pub use packet::{Diagnostic, Packet, PacketError, State};
pub use session::{Config, Event, Hops, Session};
