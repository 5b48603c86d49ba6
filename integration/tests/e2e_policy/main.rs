//! Policy between workloads, hosts and strangers, as whoever applies manifests sees it.

mod cutoff;
mod faults;
mod hosts;
mod live;
mod paths;
mod restart;
mod rig;
mod rules;
mod spoof;
mod start;
mod straight;
