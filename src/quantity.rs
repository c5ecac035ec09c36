//! Numbers as people read them.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// `1 path`, `3 paths`.
pub fn paths(count: u64) -> String {
    match count {
        1 => "1 path".to_owned(),
        _ => format!("{count} paths"),
    }
}

/// `1 batch`, `3 batches`.
pub fn batches(count: u64) -> String {
    match count {
        1 => "1 batch".to_owned(),
        _ => format!("{count} batches"),
    }
}

/// Bytes with three digits and a binary unit: `512 B`, `1.50 MiB`, `23.4 GiB`.
pub fn bytes(bytes: u64) -> String {
    const UNITS: [&str; 6] = ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    if bytes < 1024 {
        return format!("{bytes} B");
    }
    let mut value = bytes as f64 / 1024.0;
    let mut unit = 0;
    // What would round to 1024 belongs to the next unit.
    while value >= 1023.5 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    let digits = match value {
        v if v < 9.995 => 2,
        v if v < 99.95 => 1,
        _ => 0,
    };
    format!("{value:.digits$} {}", UNITS[unit])
}

/// `0.3 s`, `12.3 s`, `4 min 05 s`.
pub fn duration(duration: Duration) -> String {
    let seconds = duration.as_secs_f64();
    if seconds < 59.95 {
        return format!("{seconds:.1} s");
    }
    let whole = duration.as_secs_f64().round() as u64;
    format!("{} min {:02} s", whole / 60, whole % 60)
}

/// When something is done that waits for `delay`: `at once`, `in 2.5 s`.
pub fn soon(delay: Duration) -> String {
    match delay < Duration::from_millis(100) {
        true => "at once".to_owned(),
        false => format!("in {}", duration(delay)),
    }
}

/// An age, roughly: `3 s`, `5 min`, `4 h`, `12 days`.
pub fn age(age: Duration) -> String {
    let (minute, hour, day) = (60, 60 * 60, 24 * 60 * 60);
    match age.as_secs() {
        s if s < 2 * minute => format!("{s} s"),
        s if s < 2 * hour => format!("{} min", s / minute),
        s if s < 2 * day => format!("{} h", s / hour),
        s => format!("{} days", s / day),
    }
}

/// The date in UTC: `2026-09-21`.
pub fn day(time: SystemTime) -> String {
    let days = time.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs() / (24 * 60 * 60);
    // Years that begin in March put the leap day last; 400 of them have 146 097 days.
    let shifted = days + 719_468;
    let (era, day_of_era) = (shifted / 146_097, shifted % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let march_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * march_month + 2) / 5 + 1;
    let month = if march_month < 10 { march_month + 3 } else { march_month - 9 };
    let year = era * 400 + year_of_era + u64::from(month <= 2);
    format!("{year:04}-{month:02}-{day:02}")
}

/// Bytes a second over `duration`; nothing where it was too short to say.
pub fn rate(size: u64, duration: Duration) -> Option<String> {
    (duration >= Duration::from_millis(100))
        .then(|| format!("{}/s", bytes((size as f64 / duration.as_secs_f64()) as u64)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_have_three_digits() {
        for (size, text) in [
            (0, "0 B"),
            (1023, "1023 B"),
            (1024, "1.00 KiB"),
            (10 * 1024, "10.0 KiB"),
            (1024 * 1024 - 1, "1.00 MiB"),
            (1_288_490_189, "1.20 GiB"),
            (u64::MAX, "16.0 EiB"),
        ] {
            assert_eq!(bytes(size), text);
        }
    }

    #[test]
    fn ages_are_rough() {
        for (seconds, text) in
            [(0, "0 s"), (119, "119 s"), (120, "2 min"), (7199, "119 min"), (7200, "2 h"), (172_800, "2 days")]
        {
            assert_eq!(age(Duration::from_secs(seconds)), text);
        }
    }

    #[test]
    fn days_follow_the_calendar() {
        for (seconds, text) in [
            (0, "1970-01-01"),
            (951_782_399, "2000-02-28"),
            (951_782_400, "2000-02-29"),
            (951_868_800, "2000-03-01"),
            (1_790_000_000, "2026-09-21"),
            (4_107_542_400, "2100-03-01"),
        ] {
            assert_eq!(day(UNIX_EPOCH + Duration::from_secs(seconds)), text);
        }
    }

    #[test]
    fn durations_change_their_unit() {
        assert_eq!(duration(Duration::from_millis(340)), "0.3 s");
        assert_eq!(duration(Duration::from_millis(59_990)), "1 min 00 s");
        assert_eq!(duration(Duration::from_secs(245)), "4 min 05 s");
        assert_eq!(soon(Duration::from_millis(99)), "at once");
        assert_eq!(soon(Duration::from_millis(100)), "in 0.1 s");
    }
}
