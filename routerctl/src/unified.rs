//! Differences of two texts, line by line, in the unified format.

use std::fmt::Write;

/// Lines shown around a change.
const CONTEXT: usize = 3;
/// Table cells spent on finding the smallest difference; beyond, all lines count as changed.
const MAX_CELLS: usize = 4_000_000;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Edit {
    Keep,
    Remove,
    Add,
}

/// Hunks of the difference, empty when there is none.
pub(crate) fn diff(before: &str, after: &str) -> String {
    let (old, new): (Vec<&str>, Vec<&str>) = (before.lines().collect(), after.lines().collect());
    let edits = edits(&old, &new);
    let mut out = String::new();
    for hunk in hunks(&edits) {
        write_hunk(&mut out, &edits, hunk, &old, &new);
    }
    out
}

/// The way from old to new that keeps most lines.
fn edits(old: &[&str], new: &[&str]) -> Vec<Edit> {
    let prefix = old.iter().zip(new).take_while(|(a, b)| a == b).count();
    let (old, new) = (&old[prefix..], &new[prefix..]);
    let suffix = old
        .iter()
        .rev()
        .zip(new.iter().rev())
        .take_while(|(a, b)| a == b)
        .count();
    let (old, new) = (&old[..old.len() - suffix], &new[..new.len() - suffix]);
    let mut edits = vec![Edit::Keep; prefix];
    edits.extend(middle(old, new));
    edits.extend(vec![Edit::Keep; suffix]);
    edits
}

fn middle(old: &[&str], new: &[&str]) -> Vec<Edit> {
    let (n, m) = (old.len(), new.len());
    let width = m + 1;
    if n.saturating_mul(width) > MAX_CELLS {
        return [vec![Edit::Remove; n], vec![Edit::Add; m]].concat();
    }
    // longest[i * width + j]: most lines that old[i..] and new[j..] have in common, in order.
    let mut longest = vec![0u32; (n + 1) * width];
    for i in (0..n).rev() {
        for j in (0..m).rev() {
            longest[i * width + j] = if old[i] == new[j] {
                longest[(i + 1) * width + j + 1] + 1
            } else {
                longest[(i + 1) * width + j].max(longest[i * width + j + 1])
            };
        }
    }
    let (mut i, mut j, mut edits) = (0, 0, Vec::new());
    while i < n || j < m {
        if i < n && j < m && old[i] == new[j] {
            edits.push(Edit::Keep);
            (i, j) = (i + 1, j + 1);
        } else if j == m || (i < n && longest[(i + 1) * width + j] >= longest[i * width + j + 1]) {
            edits.push(Edit::Remove);
            i += 1;
        } else {
            edits.push(Edit::Add);
            j += 1;
        }
    }
    edits
}

/// Ranges of edits that are shown together.
fn hunks(edits: &[Edit]) -> Vec<std::ops::Range<usize>> {
    let mut hunks: Vec<std::ops::Range<usize>> = Vec::new();
    for (at, _) in edits.iter().enumerate().filter(|(_, e)| **e != Edit::Keep) {
        let start = at.saturating_sub(CONTEXT);
        let end = (at + CONTEXT + 1).min(edits.len());
        match hunks.last_mut() {
            Some(last) if start <= last.end => last.end = end,
            _ => hunks.push(start..end),
        }
    }
    hunks
}

fn write_hunk(
    out: &mut String,
    edits: &[Edit],
    hunk: std::ops::Range<usize>,
    old: &[&str],
    new: &[&str],
) {
    let count = |range: &[Edit], not: Edit| range.iter().filter(|e| **e != not).count();
    let (before, shown) = (&edits[..hunk.start], &edits[hunk]);
    let (mut i, mut j) = (count(before, Edit::Add), count(before, Edit::Remove));
    let (olds, news) = (count(shown, Edit::Add), count(shown, Edit::Remove));
    // Of an empty side the line before it is named.
    let first = |at: usize, n: usize| if n == 0 { at } else { at + 1 };
    // Writing to a string cannot fail.
    let _ = writeln!(
        out,
        "@@ -{},{olds} +{},{news} @@",
        first(i, olds),
        first(j, news)
    );
    for edit in shown {
        let (mark, line) = match edit {
            Edit::Keep => (' ', old[i]),
            Edit::Remove => ('-', old[i]),
            Edit::Add => ('+', new[j]),
        };
        let _ = writeln!(out, "{mark}{line}");
        i += usize::from(*edit != Edit::Add);
        j += usize::from(*edit != Edit::Remove);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_change_is_shown_in_its_place() {
        let before = "a\nb\nc\nd\ne\nf\ng\nh\ni\n";
        let after = "a\nb\nc\nd\nE\nf\ng\nh\ni\nj\n";
        assert_eq!(
            diff(before, after),
            "@@ -2,8 +2,9 @@\n b\n c\n d\n-e\n+E\n f\n g\n h\n i\n+j\n"
        );
        assert_eq!(diff(before, before), "");
        assert_eq!(diff("", "a\nb\n"), "@@ -0,0 +1,2 @@\n+a\n+b\n");
        assert_eq!(diff("a\n", ""), "@@ -1,1 +0,0 @@\n-a\n");
    }

    #[test]
    fn far_changes_have_hunks_of_their_own() {
        let before: String = (0..30).map(|n| format!("{n}\n")).collect();
        let after = before.replacen("2\n", "x\n", 1).replacen("27\n", "y\n", 1);
        assert_eq!(diff(&before, &after).matches("@@ -").count(), 2);
    }

    #[test]
    fn texts_past_the_budget_are_replaced_whole() {
        let many = |c: &str| vec![c.to_owned() + "\n"; 3000].concat();
        let text = diff(&many("a"), &many("b"));
        assert_eq!(text.lines().count(), 6001);
    }

    proptest! {
        #[test]
        fn edits_lead_from_old_to_new(old in prop::collection::vec("[abc]", 0..12), new in prop::collection::vec("[abc]", 0..12)) {
            let (old, new): (Vec<&str>, Vec<&str>) =
                (old.iter().map(String::as_str).collect(), new.iter().map(String::as_str).collect());
            let (mut i, mut j) = (0, 0);
            for edit in edits(&old, &new) {
                match edit {
                    Edit::Keep => {
                        prop_assert_eq!(old[i], new[j]);
                        (i, j) = (i + 1, j + 1);
                    }
                    Edit::Remove => i += 1,
                    Edit::Add => j += 1,
                }
            }
            prop_assert_eq!((i, j), (old.len(), new.len()));
            // And it prints without a slip of an index.
            let text = diff(&old.join("\n"), &new.join("\n"));
            prop_assert_eq!(text.is_empty(), old == new);
        }
    }
}
