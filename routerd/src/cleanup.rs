//! `routerd cleanup`: removes every kernel object that is ours and puts back the switches that we
//! changed. The store is not touched.

use anyhow::{Context, bail};

use crate::config::Config;
use crate::host::read_switches;
use crate::reconcile::cleanup::cleanup;
use crate::state_dir::StateDir;
use crate::tunnel::holder::Served;

/// Tears down what a stopped daemon left in place.
pub fn run(config: &Config) -> anyhow::Result<()> {
    crate::log::init(&config.log)?;
    let state = StateDir::open(&config.state_dir).context("cleanup needs routerd to be stopped")?;
    let switches = read_switches(&state.switches());
    let mut kernel = netlink::Netlink::open(switches.keys().cloned()).context("opening netlink")?;
    let served = Served::here();
    if let Err(errors) = cleanup(&mut kernel, &switches) {
        errors.iter().for_each(|e| eprintln!("routerd: {e}"));
        bail!(
            "{} kernel objects remain: mend the above and run cleanup again",
            errors.len()
        );
    }
    let learnt = netlink::LearntRoutes::open().and_then(|mut learnt| learnt.clear());
    learnt.context("removing the routes that BGP learnt: run cleanup again")?;
    served.end()?;
    crate::policy::clean_up(&config.bpf_dir).context("removing policy: run cleanup again")?;
    forget(&state.bgp()).context("forgetting that BGP ran")?;
    forget(&state.switches()).context("forgetting the kernel switches that were put back")?;
    println!(
        "node {}: nothing of routerd is left in the kernel",
        config.node
    );
    Ok(())
}

fn forget(file: &std::path::Path) -> std::io::Result<()> {
    match std::fs::remove_file(file) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => Err(e),
        _ => Ok(()),
    }
}
