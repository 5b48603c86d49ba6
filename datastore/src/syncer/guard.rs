//! The blast-radius guard: how many objects may vanish at once.

use std::fmt;
use std::time::Duration;

use model::Kind;
use model::keys;

/// What the guard watches over and how much it lets go.
#[derive(Clone, Debug)]
pub struct Guard {
    /// Prefixes whose keys are counted, each on its own.
    pub prefixes: Vec<String>,
    /// Those of them whose losses count together over [`Guard::window`], and not update by update.
    /// Blocks are none of them: they come and go with workloads.
    pub lasting: Vec<String>,
    /// How long a loss counts.
    pub window: Duration,
    /// Largest share of the keys of one prefix that may vanish at once, 0 to 1.
    pub share: f64,
    /// Fewer than this many may always vanish.
    pub least: usize,
}

impl Default for Guard {
    /// Half of the nodes within a minute, or half of the blocks at once.
    fn default() -> Self {
        let nodes = keys::resources_of(Kind::Node);
        Guard {
            prefixes: vec![nodes.clone(), keys::BLOCKS.to_owned()],
            lasting: vec![nodes],
            window: Duration::from_secs(60),
            share: 0.5,
            least: 2,
        }
    }
}

/// An update that is held back because of what it would remove.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Held {
    /// Guarded keys that it would remove, of the prefixes that are over the limit.
    pub removed: usize,
    /// Guarded keys known there.
    pub known: usize,
    /// What is held and how to go on, for operators.
    pub message: String,
}

impl fmt::Display for Held {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

/// What an update would do to some guarded keys.
pub(super) struct Loss {
    /// Which keys, for the message: "below ...".
    pub(super) which: String,
    pub(super) removed: usize,
    pub(super) known: usize,
}

impl Guard {
    /// Whether any of the `losses` is too much.
    pub(super) fn judge(&self, losses: impl Iterator<Item = Loss>) -> Option<Held> {
        let mut held = Held {
            removed: 0,
            known: 0,
            message: String::new(),
        };
        for loss in losses.filter(|l| self.is_too_much(l)) {
            held.removed += loss.removed;
            held.known += loss.known;
            let Loss {
                which,
                removed,
                known,
            } = loss;
            held.message += &format!("{removed} of {known} keys {which} are gone; ");
        }
        if held.removed == 0 {
            return None;
        }
        held.message +=
            "not applied: restore the store, or accept the loss with `routerctl accept-snapshot`";
        Some(held)
    }

    fn is_too_much(&self, loss: &Loss) -> bool {
        // Counts are far below 2^52, so nothing is rounded.
        loss.removed >= self.least.max(1) && loss.removed as f64 > self.share * loss.known as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judged(share: f64, removed: usize, known: usize) -> bool {
        let guard = Guard {
            share,
            ..Guard::default()
        };
        let loss = Loss {
            which: "below p/".into(),
            removed,
            known,
        };
        guard.judge([loss].into_iter()).is_some()
    }

    #[test]
    fn more_than_the_share_and_at_least_two() {
        for (share, removed, known, held) in [
            (0.5, 0, 0, false),
            (0.5, 1, 1, false),
            (0.5, 2, 2, true),
            (0.5, 2, 3, true),
            (0.5, 2, 4, false),
            (0.5, 3, 4, true),
            (1.0, 4, 4, false),
            (0.0, 2, 5000, true),
        ] {
            assert_eq!(judged(share, removed, known), held, "{removed} of {known}");
        }
    }

    #[test]
    fn a_small_prefix_does_not_hide_behind_a_large_one() {
        let loss = |prefix, removed, known| Loss {
            which: format!("below {prefix}"),
            removed,
            known,
        };
        let losses = [loss("nodes/", 3, 3), loss("blocks/", 0, 5000)];
        let held = Guard::default().judge(losses.into_iter()).unwrap();
        assert_eq!((held.removed, held.known), (3, 3));
        assert!(held.message.contains("3 of 3 keys below nodes/"), "{held}");
    }
}
