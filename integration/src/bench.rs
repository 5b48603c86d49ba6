//! What `make bench` measures with real daemons, and the page that it writes.

pub mod addresses;
pub mod attach;
pub mod bgp;
pub mod overlay;
pub mod policy;
pub mod restart;
pub mod scale;
pub mod wireguard;

use std::fmt::Write;
use std::time::Duration;

/// One number and what it should be.
#[derive(Clone, Debug)]
pub struct Row {
    /// What was measured.
    pub what: String,
    /// The number, with its unit.
    pub measured: String,
    /// What it should be; empty for a number that is only shown.
    pub goal: String,
    /// Whether it is.
    pub met: Option<bool>,
}

impl Row {
    /// A number that is only shown.
    pub fn shown(what: impl Into<String>, measured: String) -> Row {
        Row {
            what: what.into(),
            measured,
            goal: String::new(),
            met: None,
        }
    }

    /// A number with a goal.
    pub fn goal(what: impl Into<String>, measured: String, goal: &str, met: bool) -> Row {
        Row {
            what: what.into(),
            measured,
            goal: goal.to_owned(),
            met: Some(met),
        }
    }
}

/// A heading and its rows.
#[derive(Clone, Debug)]
pub struct Section {
    /// Heading.
    pub title: &'static str,
    /// How it was measured.
    pub how: &'static str,
    /// Rows.
    pub rows: Vec<Row>,
}

/// Middle of a list of times; zero of none.
pub fn median(times: &mut [Duration]) -> Duration {
    times.sort_unstable();
    times.get(times.len() / 2).copied().unwrap_or_default()
}

/// Middle of a list of numbers; zero of none.
pub fn median_f64(numbers: &mut [f64]) -> f64 {
    numbers.sort_unstable_by(f64::total_cmp);
    numbers.get(numbers.len() / 2).copied().unwrap_or_default()
}

/// Median with the smallest and the largest, shown by `show`.
pub fn spread(numbers: &mut [f64], show: impl Fn(f64) -> String) -> String {
    let middle = median_f64(numbers);
    let end = |n: Option<&f64>| show(n.copied().unwrap_or_default());
    format!(
        "{} ({} – {})",
        show(middle),
        end(numbers.first()),
        end(numbers.last())
    )
}

/// Milliseconds, for people.
pub fn ms(time: Duration) -> String {
    format!("{:.2} ms", time.as_secs_f64() * 1e3)
}

/// The page for `docs/benchmarks.md`.
pub fn page(machine: &str, sections: &[Section]) -> String {
    let mut text = format!(
        "# Benchmarks\n\nWritten by `make bench`; do not edit. {machine}\n\n\
         Pairs are measured in turn in one run, so that both see the same machine.\n"
    );
    for section in sections {
        // Writing to a String cannot fail.
        let _ = write!(
            text,
            "\n## {}\n\n{}\n\n| what | measured | goal | met |\n|---|---|---|---|\n",
            section.title, section.how
        );
        for row in &section.rows {
            let met = match row.met {
                Some(true) => "yes",
                Some(false) => "**no**",
                None => "",
            };
            let _ = writeln!(
                text,
                "| {} | {} | {} | {met} |",
                row.what, row.measured, row.goal
            );
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_shows_what_was_missed() {
        let rows = vec![
            Row::goal("a", "3 s".to_owned(), "≤ 2 s", false),
            Row::shown("b", "1".to_owned()),
        ];
        let page = page(
            "A machine.",
            &[Section {
                title: "T",
                how: "H.",
                rows,
            }],
        );
        assert!(page.contains("| a | 3 s | ≤ 2 s | **no** |"));
        assert!(page.contains("| b | 1 |  |  |"));
    }

    #[test]
    fn medians() {
        assert_eq!(median(&mut []), Duration::ZERO);
        assert_eq!(
            median(&mut [3, 1, 2].map(Duration::from_secs)),
            Duration::from_secs(2)
        );
        assert!((median_f64(&mut [5.0, 1.0, 3.0]) - 3.0).abs() < 1e-9);
    }
}
