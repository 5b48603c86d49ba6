//! The lab: real daemons, real etcd, real container runtime, in network namespaces of one machine.
//!
//! ```text
//!   Lab ─── owns a directory, namespaces and every process; all gone when it drops or panics
//!    │
//!    ├─ Netns            a namespace: run a closure, a command or an `ip` batch inside
//!    ├─ Mesh ─ Node      subnets joined by a forwarding router, one daemon a node
//!    ├─ Etcd             start, stop, freeze, wipe; read and write keys
//!    ├─ Cni ─ Workload   attachments through a plugin binary, by raw exec
//!    ├─ Containerd       the same through `ctr run --cni`
//!    ├─ Capture          every frame on the wire, searched for addresses of workloads
//!    └─ probe            all pairs, N packets a second with loss counted, TCP throughput
//! ```
//!
//! Invariants:
//! * nothing outside the lab's own namespaces, directory and processes is changed;
//! * names start with [`lab::PREFIX`] and carry the pid that made them, so that what a killed run
//!   left behind is known and swept by the next;
//! * waiting is polling for a condition with a deadline, never a bare sleep;
//! * everything needs root; without it [`lab::run`] fails and says so.

#[cfg(feature = "bench")]
pub mod bench;
pub mod lab;
pub mod scenario;
pub mod screen;
