//! What can happen next in a history.

/// One happening; its numbers are taken modulo whatever they choose from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Action {
    /// What.
    pub op: Op,
    /// To which node or container.
    pub a: u16,
    /// A detail.
    pub b: u16,
}

/// The sorts of happening.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Op {
    /// A container asks for addresses.
    Add,
    /// A container asks for an identity's addresses.
    AddSticky,
    /// A container asks for an address by number.
    AddRequested,
    /// A container goes.
    Del,
    /// The runtime has forgotten a container and collects garbage.
    Gc,
    /// A node's next transaction is carried out and answered.
    Step,
    /// A node's next transaction is on its way.
    Send,
    /// It is carried out and answered.
    Land,
    /// It is carried out and the answer is lost.
    LoseReply,
    /// Its answer is lost and it is not carried out yet.
    Delay,
    /// It is not carried out, and the node is told so.
    Unavailable,
    /// A delayed transaction is carried out after all.
    Late,
    /// A node learns of some changes.
    Watch,
    /// A daemon dies, with its transaction carried out, delayed or lost, and starts again.
    Crash,
    /// Time passes.
    Tick,
    /// A pool is disabled, deleted, made anew with other blocks.
    Pool,
    /// Settings change.
    Config,
    /// A node is deleted and reclaimed by another, or comes back.
    Node,
    /// An operator frees an address.
    Operator,
}

/// Sorts of happening by how often they should come.
const WEIGHTS: [(Op, u8); 19] = [
    (Op::Add, 44),
    (Op::AddSticky, 14),
    (Op::AddRequested, 10),
    (Op::Del, 30),
    (Op::Gc, 4),
    (Op::Step, 48),
    (Op::Send, 18),
    (Op::Land, 14),
    (Op::LoseReply, 8),
    (Op::Delay, 6),
    (Op::Unavailable, 3),
    (Op::Late, 7),
    (Op::Watch, 24),
    (Op::Crash, 6),
    (Op::Tick, 8),
    (Op::Pool, 4),
    (Op::Config, 3),
    (Op::Node, 3),
    (Op::Operator, 2),
];

impl Action {
    /// From three arbitrary numbers, so that any generator and shrinker of numbers will do.
    pub fn from_raw((op, a, b): (u8, u16, u16)) -> Action {
        let mut left = op;
        for (op, weight) in WEIGHTS {
            match left.checked_sub(weight) {
                None => return Action { op, a, b },
                Some(rest) => left = rest,
            }
        }
        Action { op: Op::Step, a, b }
    }
}

/// A history from a seed: the same for the same seed, everywhere.
pub fn random_actions(seed: u64, count: usize) -> Vec<Action> {
    let mut state = seed;
    let mut next = move || {
        // splitmix64
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)).to_le_bytes()
    };
    let action = |[op, a0, a1, b0, b1, ..]: [u8; 8]| {
        let (a, b) = (u16::from_le_bytes([a0, a1]), u16::from_le_bytes([b0, b1]));
        Action::from_raw((op, a, b))
    };
    (0..count).map(|_| action(next())).collect()
}
