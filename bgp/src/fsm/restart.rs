//! Helping a neighbour that restarts (RFC 4724 §4.2): which of its stale routes go, and when.

use std::time::Duration;

use model::Family;

use super::{Down, Negotiated};
use crate::family::PerFamily;

/// What is to be done with the routes of a neighbour.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HelperOutput {
    /// Remove what is still stale in this family ([`crate::rib::Rib::sweep_stale`]).
    Sweep(Family),
    /// Come back with [`Helper::expired`] after this time.
    Arm(Duration),
    /// Nothing is waited for any more.
    Disarm,
}

/// Of one neighbour: the families whose stale routes wait for the neighbour's return.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Helper {
    stale: PerFamily<bool>,
}

impl Helper {
    /// Families that have stale routes.
    pub fn stale(&self) -> PerFamily<bool> {
        self.stale
    }

    /// The session ended. What was stale before and is kept again was never heard: it goes (RFC 4724 §4.2).
    pub fn down(&mut self, down: &Down) -> Vec<HelperOutput> {
        let mut out: Vec<_> = self.stale.enabled().map(HelperOutput::Sweep).collect();
        self.stale = down.keep;
        if self.stale.enabled().next().is_some() {
            out.push(HelperOutput::Arm(down.keep_for));
        } else {
            out.push(HelperOutput::Disarm);
        }
        out
    }

    /// The session is back. Families for which the neighbour did not keep forwarding go at once; the others
    /// wait for the end of its routes, at most `patience`.
    pub fn up(&mut self, agreed: &Negotiated, patience: Duration) -> Vec<HelperOutput> {
        let mut out = Vec::new();
        for family in self.stale.enabled() {
            let restart = agreed.graceful_restart.map(|r| *r.families.get(family));
            let kept = restart.is_some_and(|r| r.covered && r.forwarding);
            if !kept || !*agreed.context.families.get(family) {
                out.push(HelperOutput::Sweep(family));
                *self.stale.get_mut(family) = false;
            }
        }
        let waiting = self.stale.enabled().next().is_some();
        out.push(if waiting {
            HelperOutput::Arm(patience)
        } else {
            HelperOutput::Disarm
        });
        out
    }

    /// The neighbour has sent all routes of a family.
    pub fn end_of_rib(&mut self, family: Family) -> Vec<HelperOutput> {
        let mut out = Vec::new();
        if std::mem::take(self.stale.get_mut(family)) {
            out.push(HelperOutput::Sweep(family));
            if self.stale.enabled().next().is_none() {
                out.push(HelperOutput::Disarm);
            }
        }
        out
    }

    /// The time is up.
    pub fn expired(&mut self) -> Vec<HelperOutput> {
        let stale = std::mem::take(&mut self.stale);
        stale.enabled().map(HelperOutput::Sweep).collect()
    }
}

/// Our own restart (RFC 4724 §4.1): what we wait for before we choose routes and announce any.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Deferral<N> {
    /// Neighbours and families whose routes are not all here.
    waiting: Vec<(N, Family)>,
}

impl<N: Copy + PartialEq> Deferral<N> {
    /// After a restart, with all neighbours that are configured.
    pub fn new(neighbours: impl IntoIterator<Item = (N, PerFamily<bool>)>) -> Deferral<N> {
        let all = neighbours.into_iter();
        Deferral {
            waiting: all
                .flat_map(|(n, families)| families.enabled().map(move |f| (n, f)))
                .collect(),
        }
    }

    /// Whether everything is here.
    pub fn is_over(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Whether everything is here of the neighbours that `is_up` knows of.
    pub fn is_over_for(&self, is_up: impl Fn(N) -> bool) -> bool {
        !self.waiting.iter().any(|(n, _)| is_up(*n))
    }

    /// A neighbour is up: families that it does not speak, or for which it restarts itself, are not waited
    /// for.
    pub fn up(&mut self, neighbour: N, agreed: &Negotiated) {
        let restarts = agreed.graceful_restart.is_none_or(|r| r.restarted);
        self.waiting
            .retain(|(n, f)| *n != neighbour || !restarts && *agreed.context.families.get(*f));
    }

    /// A neighbour has sent all routes of a family.
    pub fn end_of_rib(&mut self, neighbour: N, family: Family) {
        self.waiting.retain(|entry| *entry != (neighbour, family));
    }

    /// A neighbour is gone, or was removed.
    pub fn forget(&mut self, neighbour: N) {
        self.waiting.retain(|(n, _)| *n != neighbour);
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;
    use crate::fsm::{Reason, SessionConfig, negotiate};

    const BOTH: PerFamily<bool> = PerFamily { v4: true, v6: true };

    fn agreed(restarted: bool) -> Negotiated {
        let config = SessionConfig::new(64512, Ipv4Addr::new(1, 1, 1, 1), None);
        let mut peer = SessionConfig::new(64513, Ipv4Addr::new(2, 2, 2, 2), None);
        peer.restarted = restarted;
        negotiate(&config, &peer.open()).unwrap()
    }

    fn down(keep: PerFamily<bool>) -> Down {
        Down {
            reason: Reason::Closed,
            keep,
            keep_for: Duration::from_secs(120),
        }
    }

    #[test]
    fn stale_routes_live_until_the_neighbour_has_said_everything() {
        use HelperOutput::{Arm, Disarm, Sweep};
        let mut helper = Helper::default();
        let patience = Duration::from_secs(60);
        assert_eq!(helper.down(&down(BOTH)), [Arm(Duration::from_secs(120))]);
        assert_eq!(helper.up(&agreed(true), patience), [Arm(patience)]);
        assert_eq!(helper.end_of_rib(Family::V6), [Sweep(Family::V6)]);
        assert_eq!(helper.end_of_rib(Family::V6), []);
        assert_eq!(helper.end_of_rib(Family::V4), [Sweep(Family::V4), Disarm]);
    }

    #[test]
    fn stale_routes_go_when_they_cannot_be_right() {
        use HelperOutput::{Arm, Disarm, Sweep};
        let all = [Sweep(Family::V4), Sweep(Family::V6)];
        let time = Duration::from_secs(120);
        // Back without having kept forwarding.
        let mut helper = Helper::default();
        helper.down(&down(BOTH));
        let forgot = helper.up(&agreed(false), time);
        assert_eq!(forgot, [all[0], all[1], Disarm]);
        // Never back.
        helper.down(&down(BOTH));
        assert_eq!(helper.expired(), all);
        // Down again before everything was said.
        helper.down(&down(BOTH));
        assert_eq!(helper.down(&down(BOTH)), [all[0], all[1], Arm(time)]);
        // For good.
        let gone = helper.down(&down(PerFamily::default()));
        assert_eq!(gone, [all[0], all[1], Disarm]);
    }

    #[test]
    fn a_restarted_speaker_waits_for_those_that_can_help() {
        let mut deferral = Deferral::new([(1, BOTH), (2, BOTH), (3, BOTH)]);
        deferral.up(1, &agreed(false));
        deferral.up(2, &agreed(true));
        deferral.forget(3);
        deferral.end_of_rib(1, Family::V4);
        assert!(!deferral.is_over());
        assert!(!deferral.is_over_for(|n| n == 1) && deferral.is_over_for(|n| n == 2));
        deferral.end_of_rib(1, Family::V6);
        assert!(deferral.is_over());
    }
}
