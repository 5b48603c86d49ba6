//! Shares as bars.

/// Characters between the brackets.
const WIDTH: u64 = 20;

/// `[#####               ]  25%`; anything used shows at least one mark, and only all is 100%.
pub(super) fn bar(used: u64, of: u64) -> String {
    let (used, of) = (u128::from(used.min(of)), u128::from(of.max(1)));
    let marks = (used * u128::from(WIDTH)).div_ceil(of);
    let percent = match used * 100 / of {
        0 if used > 0 => "<1".to_owned(),
        n => n.to_string(),
    };
    let marks = usize::try_from(marks).unwrap_or_default();
    let width = usize::try_from(WIDTH).unwrap_or_default();
    format!("[{:<width$}] {percent:>3}%", "#".repeat(marks))
}

/// A number of addresses, which the daemon saturates.
pub(super) fn count(n: u64) -> String {
    if n == u64::MAX {
        ">=2^64".to_owned()
    } else {
        n.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bars() {
        for (used, of, text) in [
            (0, 64, "[                    ]   0%"),
            (1, 1 << 40, "[#                   ]  <1%"),
            (16, 64, "[#####               ]  25%"),
            (63, 64, "[####################]  98%"),
            (64, 64, "[####################] 100%"),
            (0, 0, "[                    ]   0%"),
            (9, 0, "[                    ]   0%"),
            (u64::MAX, u64::MAX, "[####################] 100%"),
        ] {
            assert_eq!(bar(used, of), text);
        }
        assert_eq!(count(u64::MAX), ">=2^64");
        assert_eq!(count(65536), "65536");
    }
}
