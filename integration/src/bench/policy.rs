//! Policy: what it costs a packet, a connection and a change.

pub mod change;
pub mod compiler;
pub mod path;
mod traffic;

use anyhow::Result;

use super::Section;

/// Measures the path of packets, then changes of policy, then the compiler.
///
/// # Errors
/// When a daemon or the kernel refuses something.
pub fn run() -> Result<Section> {
    let mut rows = path::rows()?;
    rows.extend(change::rows()?);
    rows.extend(compiler::rows()?);
    Ok(Section {
        title: "Policy",
        how: "Two workloads of one node, with a policy of 1 rule and two of 5,000 for the one that is reached; beside them a node \
              whose daemon cannot enforce, with nothing at its interfaces, and such nodes with as many rules of nftables in \
              the chain `forward`, behind one that accepts what is established. Client and server stay on a processor each \
              where nothing else is said: waking the other one takes a different time each time, so that a median is good to \
              some 0.03 there, and to 0.01 where both are on one. A connection carries a byte each way before it is reset. All \
              take turns in 31 rounds; median and quartiles, of ratios within a round. A change: from the request until the last datagram to \
              the last of 100 workloads, median and extremes. The compiler: its own CPU time and that of the writes into the \
              kernel, in a process of its own.",
        rows,
    })
}
