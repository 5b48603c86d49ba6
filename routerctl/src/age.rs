//! How old something is.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Age in its largest unit, such as `5m`; empty when the time does not parse.
pub(crate) fn age(created: &str, now: SystemTime) -> String {
    let Some(created) = parse_rfc3339(created) else {
        return String::new();
    };
    let seconds = now
        .duration_since(UNIX_EPOCH + Duration::from_secs(created))
        // A clock that lags behind the writer's.
        .unwrap_or_default()
        .as_secs();
    span(seconds)
}

/// Seconds in their largest unit.
pub(crate) fn span(seconds: u64) -> String {
    match seconds {
        0..120 => format!("{seconds}s"),
        120..7_200 => format!("{}m", seconds / 60),
        7_200..172_800 => format!("{}h", seconds / 3_600),
        _ => format!("{}d", seconds / 86_400),
    }
}

/// Seconds from then to now; `None` when the time does not parse.
pub(crate) fn seconds_since(then: &str, now: SystemTime) -> Option<u64> {
    let then = UNIX_EPOCH + Duration::from_secs(parse_rfc3339(then)?);
    Some(now.duration_since(then).unwrap_or_default().as_secs())
}

/// Seconds since 1970 of `2024-05-01T12:00:00Z`, with a fraction or an offset if need be.
fn parse_rfc3339(text: &str) -> Option<u64> {
    let (date, rest) = text.split_once(['T', 't', ' '])?;
    let mut date = date.splitn(3, '-').map(str::parse::<i64>);
    let (year, month, day) = (date.next()?.ok()?, date.next()?.ok()?, date.next()?.ok()?);
    let at = rest.find(['Z', 'z', '+', '-'])?;
    let (clock, zone) = (rest.get(..at)?, rest.get(at..)?);
    let clock = clock.split_once('.').map_or(clock, |(whole, _)| whole);
    let mut clock = clock.splitn(3, ':').map(str::parse::<i64>);
    let (hour, minute, second) = (
        clock.next()?.ok()?,
        clock.next()?.ok()?,
        clock.next()?.ok()?,
    );
    if !(1970..=9999).contains(&year)
        || !(1..=12).contains(&month)
        || !(1..=31).contains(&day)
        || !(0..24).contains(&hour)
        || !(0..60).contains(&minute)
        || !(0..=60).contains(&second)
    {
        return None;
    }
    let seconds = days_since_1970(year, month, day) * 86_400 + hour * 3_600 + minute * 60 + second;
    u64::try_from(seconds - offset(zone)?).ok()
}

/// Seconds east of UTC.
fn offset(zone: &str) -> Option<i64> {
    let sign = match zone.get(..1)? {
        "Z" | "z" => return Some(0),
        "+" => 1,
        _ => -1,
    };
    let (hours, minutes) = zone.get(1..)?.split_once(':')?;
    let (hours, minutes): (i64, i64) = (hours.parse().ok()?, minutes.parse().ok()?);
    ((0..24).contains(&hours) && (0..60).contains(&minutes))
        .then_some(sign * (hours * 3_600 + minutes * 60))
}

/// Days of the Gregorian calendar; the year is counted from March, so that a leap day ends it.
fn days_since_1970(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    year * 365 + year / 4 - year / 100 + year / 400 + of_year - 719_468
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_times() {
        for (text, seconds) in [
            ("1970-01-01T00:00:00Z", Some(0)),
            ("2000-02-29T12:00:00Z", Some(951_825_600)),
            ("2024-12-31T23:59:59.999Z", Some(1_735_689_599)),
            ("2024-05-01T14:00:00+02:00", Some(1_714_564_800)),
            ("2024-05-01T12:00:00Z", Some(1_714_564_800)),
            ("2024-05-01T06:30:00-05:30", Some(1_714_564_800)),
            ("2024-13-01T00:00:00Z", None),
            ("2024-05-01T00:00:00", None),
            ("99999999999999999999-05-01T00:00:00Z", None),
            ("yesterday", None),
            ("", None),
        ] {
            assert_eq!(parse_rfc3339(text), seconds, "{text}");
        }
    }

    #[test]
    fn ages_have_one_unit() {
        let at = |s| UNIX_EPOCH + Duration::from_secs(s);
        let created = "1970-01-01T00:00:10Z";
        for (now, text) in [
            (0, "0s"),
            (129, "119s"),
            (130, "2m"),
            (10 + 7_199, "119m"),
            (10 + 7_200, "2h"),
            (10 + 172_800, "2d"),
        ] {
            assert_eq!(age(created, at(now)), text);
        }
        assert_eq!(age("x", at(0)), "");
    }
}
