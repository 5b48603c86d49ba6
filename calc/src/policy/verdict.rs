//! A verdict, and how it came about.

use model::object::ObjectId;
use model::resources::Action;

/// What has a say.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum By<'a> {
    /// A rule.
    Rule {
        /// Tier of its policy.
        tier: &'a str,
        /// Its policy.
        policy: &'a ObjectId,
        /// Its place among the policy's rules of the direction, from 0.
        rule: usize,
    },
    /// The default action of a tier: its policies apply, and no rule of theirs matches.
    EndOfTier {
        /// The tier.
        tier: &'a str,
        /// The last of the policies that apply.
        policy: &'a ObjectId,
    },
    /// The profile of the endpoint: no tier decided.
    Profile,
    /// A port of the host that no policy closes.
    Failsafe,
}

/// One say.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Step<'a> {
    /// Whose.
    pub by: By<'a>,
    /// What it says.
    pub action: Action,
}

/// What becomes of a packet at one endpoint.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Verdict<'a> {
    /// Whether it is let through.
    pub allowed: bool,
    /// Who decided.
    pub by: By<'a>,
    /// Everything that had a say, in order: `Log` and `Pass`, and the decision last.
    pub steps: Vec<Step<'a>>,
}

impl<'a> Verdict<'a> {
    pub(super) fn end(mut steps: Vec<Step<'a>>, by: By<'a>, allowed: bool) -> Verdict<'a> {
        let action = match allowed {
            true => Action::Allow,
            false => Action::Deny,
        };
        steps.push(Step { by, action });
        Verdict { allowed, by, steps }
    }
}
