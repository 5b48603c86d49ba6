//! Somebody who follows: what they are told, and how much they missed.

use std::sync::Arc;

use policy_ebpf::flows::Record;
use tokio::sync::mpsc::{self, Receiver, Sender, error::TrySendError};

use super::Filter;

/// Records that somebody who follows may be behind.
const BEHIND: usize = 8192;

/// What somebody who follows is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// It began or ended.
    Record(Arc<Record>),
    /// So many records there was no room for, since they were not read fast enough. They would have been here.
    Missed(u64),
}

/// What somebody who follows reads.
pub type Changes = Receiver<Change>;

/// The recorder's side. It never waits: who reads too slowly misses records, and is told how many.
pub(super) struct Follower {
    filter: Filter,
    told: Sender<Change>,
    /// Records that were missed and not told of yet.
    missed: u64,
}

impl Follower {
    /// Of records that a filter wants. Whatever changes was seen when it changed, however long ago its last packet was:
    /// what ends was silent before.
    pub(super) fn new(filter: Filter) -> (Follower, Changes) {
        Follower::behind(BEHIND, filter)
    }

    fn behind(room: usize, filter: Filter) -> (Follower, Changes) {
        let (told, changes) = mpsc::channel(room);
        let follower = Follower {
            filter,
            told,
            missed: 0,
        };
        (follower, changes)
    }

    /// Tells what was missed, when there is room again, and then these. Gives back how many are missed for it.
    pub(super) fn tell(&mut self, changes: &[Arc<Record>]) -> u64 {
        let mut missed = 0;
        self.tell_missed();
        for record in changes.iter().filter(|r| self.filter.is_about(r)) {
            // Behind a gap nothing is told before the gap is.
            let full = self.missed > 0
                || matches!(
                    self.told.try_send(Change::Record(Arc::clone(record))),
                    Err(TrySendError::Full(_))
                );
            if full {
                self.missed += 1;
                missed += 1;
            }
        }
        missed
    }

    fn tell_missed(&mut self) {
        if self.missed > 0 && self.told.try_send(Change::Missed(self.missed)).is_ok() {
            self.missed = 0;
        }
    }

    /// Nobody reads any more.
    pub(super) fn is_gone(&self) -> bool {
        self.told.is_closed()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn records(ids: std::ops::Range<u64>) -> Vec<Arc<Record>> {
        let record = |id| Record {
            id,
            ..Record::default()
        };
        ids.map(|id| Arc::new(record(id))).collect()
    }

    fn read(changes: &mut Changes) -> Vec<Result<u64, u64>> {
        let each = std::iter::from_fn(|| changes.try_recv().ok());
        each.map(|change| match change {
            Change::Record(record) => Ok(record.id),
            Change::Missed(missed) => Err(missed),
        })
        .collect()
    }

    #[test]
    fn who_is_too_slow_is_told_how_many_were_missed_and_where() {
        let (mut follower, mut changes) = Follower::behind(3, Filter::default());
        assert_eq!(follower.tell(&records(1..3)), 0);
        assert_eq!(follower.tell(&records(3..6)), 2);
        // Still no room.
        assert_eq!(follower.tell(&records(6..7)), 1);
        assert_eq!(read(&mut changes), [Ok(1), Ok(2), Ok(3)]);
        assert_eq!(follower.tell(&records(7..9)), 0);
        assert_eq!(read(&mut changes), [Err(3), Ok(7), Ok(8)]);
    }

    #[test]
    fn what_was_missed_is_told_when_nothing_is_new() {
        let (mut follower, mut changes) = Follower::behind(1, Filter::default());
        assert_eq!(follower.tell(&records(1..4)), 2);
        assert_eq!(read(&mut changes), [Ok(1)]);
        assert_eq!(follower.tell(&[]), 0);
        assert_eq!(read(&mut changes), [Err(2)]);
        assert_eq!(follower.tell(&[]), 0);
        assert_eq!(read(&mut changes), []);
        drop(changes);
        assert!(follower.is_gone());
    }

    #[test]
    fn what_is_not_wanted_is_not_missed_and_what_ends_late_is_told() {
        let filter = Filter {
            denied: true,
            since: Some(Duration::from_secs(1)),
            ..Filter::default()
        };
        let (mut follower, mut changes) = Follower::behind(1, filter);
        // Its last packet was at the start of the clock.
        let denied = records(1..2);
        let allowed = Arc::new(Record {
            allowed: true,
            ..Record::default()
        });
        let all = [Arc::clone(&allowed), Arc::clone(&denied[0]), allowed];
        assert_eq!(follower.tell(&all), 0);
        assert_eq!(read(&mut changes), [Ok(1)]);
    }
}
