//! `IPAMConfiguration`: how addresses are handed out. One object, named `default`.

use serde::{Deserialize, Serialize};

/// Specification of the `IPAMConfiguration`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct IpamConfigurationSpec {
    /// Never borrow an address from another node's block.
    #[serde(default)]
    pub strict_affinity: bool,
    /// Most blocks a node may hold in one pool family; 0 is no limit.
    #[serde(default)]
    pub max_blocks_per_host: u32,
    /// Whether nodes claim blocks by themselves.
    #[serde(default = "yes")]
    pub auto_allocate_blocks: bool,
    /// Ours: how long a freed address rests before it is used again, seconds.
    #[serde(default = "thirty")]
    pub cooldown_seconds: u32,
}

fn yes() -> bool {
    true
}

fn thirty() -> u32 {
    30
}

impl Default for IpamConfigurationSpec {
    fn default() -> Self {
        IpamConfigurationSpec {
            strict_affinity: false,
            max_blocks_per_host: 0,
            auto_allocate_blocks: true,
            cooldown_seconds: thirty(),
        }
    }
}
