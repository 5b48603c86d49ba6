//! The routerd daemon.
//!
//! ```text
//!  store ─► Syncer ─► control ─► calc ─► reconcile ─► kernel
//!                       ▲  │
//!  CNI plugin ─► cni ───┘  ├─► ipam ─► store        publish ─► store
//!                          ├─► bgp ─► peers, kernel
//!                          └─► policy ─► kernel ─► flows
//!  routerctl  ─► admin ─► resources ─► store
//! ```
//!
//! This crate is the wiring: it owns the actors and the messages between them, and it is the only
//! place that knows two subsystems at once. Every decision is in `calc`, every rule of addresses in
//! `ipam`.
//!
//! Invariants:
//! * nothing is deleted from the kernel before the first complete snapshot;
//! * neither store nor kernel is touched before this daemon is known to be the node;
//! * an answered ADD is durable and in the kernel; an answered DEL has freed what it had;
//! * stopping changes nothing in the kernel.

pub mod admin;
pub mod bgp;
pub mod cleanup;
pub mod cni;
pub mod config;
pub mod control;
pub mod daemon;
pub mod doctor;
pub mod endpoints;
pub mod explain;
pub mod flows;
pub mod gone;
pub mod host;
pub mod ipam;
pub mod log;
pub mod metrics;
pub mod nodes;
pub mod notify;
pub mod policy;
pub mod publish;
pub mod random;
pub mod reconcile;
pub mod resources;
pub mod services;
pub mod state_dir;
pub mod time;
pub mod tunnel;
pub mod views;
