//! The nouns of routerd: what operators write, what the store keeps, what a node should look like.
//!
//! ```text
//!  manifest (YAML/JSON) ─parse─► Object ─validate─► stored JSON ─decode─► Snapshot
//!                                                                           │ calc
//!                                                                           ▼
//!                                              NodeState (links, routes, neighbours, FDB, NAT)
//! ```
//!
//! Invariants:
//! * nothing here reads a clock, a socket or a file;
//! * every type that is stored or shown survives `decode(encode(x)) == x`;
//! * an error names the object, the field, the value and the mend.

pub mod api;
mod base64;
pub mod bgp;
pub mod block;
pub mod cidr;
pub mod kernel;
pub mod keys;
pub mod kind;
pub mod kv;
pub mod manifest;
pub mod marks;
pub mod meta;
pub mod names;
pub mod object;
pub mod resources;
pub mod selector;
pub mod snapshot;
pub mod state;
pub mod tunnel;
pub mod validate;

pub use cidr::{Cidr, Family};
pub use kind::Kind;
pub use meta::Metadata;
pub use object::{Object, Resource};
pub use selector::Selector;
