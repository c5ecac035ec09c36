//! The small notations inside values: sizes, durations, schedules.

use std::fmt;
use std::time::Duration;

/// When something that repeats is due.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Schedule {
    Every(Duration),
    /// A time of day, on the machine's clock.
    Daily {
        hour: u8,
        minute: u8,
    },
}

const SIZE_UNITS: &[(&str, u64)] = &[
    ("", 1),
    ("b", 1),
    ("k", 1 << 10),
    ("kib", 1 << 10),
    ("kb", 1000),
    ("m", 1 << 20),
    ("mib", 1 << 20),
    ("mb", 1_000_000),
    ("g", 1 << 30),
    ("gib", 1 << 30),
    ("gb", 1_000_000_000),
    ("t", 1 << 40),
    ("tib", 1 << 40),
    ("tb", 1_000_000_000_000),
];

const TIME_UNITS: &[(&str, u64)] =
    &[("s", 1), ("m", 60), ("min", 60), ("h", 3600), ("d", 24 * 3600), ("w", 7 * 24 * 3600)];

/// Bytes of `256MiB`, `1 GB`, `64K` (binary) or a bare number.
pub fn parse_size(text: &str) -> Option<u64> {
    let text = text.trim();
    let (number, unit) = split_number(text)?;
    let (_, factor) = SIZE_UNITS.iter().find(|(name, _)| *name == unit.trim().to_ascii_lowercase())?;
    number.checked_mul(*factor)
}

/// `90m`, `24h`, `7d`, `1h30m`; a bare number has no meaning.
pub fn parse_duration(text: &str) -> Option<Duration> {
    let mut rest = text.trim();
    let mut seconds = 0u64;
    if rest.is_empty() {
        return None;
    }
    while !rest.is_empty() {
        let (number, tail) = split_number(rest)?;
        let end = tail.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(tail.len());
        let (unit, tail) = tail.split_at_checked(end)?;
        let (_, factor) = TIME_UNITS.iter().find(|(name, _)| *name == unit)?;
        seconds = seconds.checked_add(number.checked_mul(*factor)?)?;
        rest = tail.trim_start();
    }
    Some(Duration::from_secs(seconds))
}

/// A duration, or `HH:MM`.
pub fn parse_schedule(text: &str) -> Option<Schedule> {
    let Some((hour, minute)) = text.trim().split_once(':') else {
        return parse_duration(text).map(Schedule::Every);
    };
    let digits = |part: &str, most: u8| {
        let fits = (1..=2).contains(&part.len()) && part.bytes().all(|b| b.is_ascii_digit());
        part.parse().ok().filter(|number| fits && *number <= most)
    };
    Some(Schedule::Daily { hour: digits(hour, 23)?, minute: digits(minute, 59).filter(|_| minute.len() == 2)? })
}

fn split_number(text: &str) -> Option<(u64, &str)> {
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (digits, rest) = text.split_at_checked(end)?;
    Some((digits.parse().ok()?, rest))
}

impl fmt::Display for Schedule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Daily { hour, minute } => write!(f, "{hour:02}:{minute:02}"),
            Self::Every(interval) => {
                let seconds = interval.as_secs();
                // One day stays `24h`, as everybody writes it.
                let (unit, factor) = [("d", 86400), ("h", 3600), ("m", 60)]
                    .into_iter()
                    .find(|(unit, factor)| seconds.is_multiple_of(*factor) && (*unit != "d" || seconds > 86400))
                    .unwrap_or(("s", 1));
                write!(f, "{}{unit}", seconds / factor)
            }
        }
    }
}

/// Bytes with the largest binary unit that divides them.
pub fn print_size(bytes: u64) -> String {
    [("GiB", 1u64 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)]
        .into_iter()
        .find(|(_, factor)| bytes >= *factor && bytes.is_multiple_of(*factor))
        .map_or_else(|| bytes.to_string(), |(unit, factor)| format!("{}{unit}", bytes / factor))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn reads_sizes() {
        for (text, bytes) in [
            ("0", 0),
            ("4096", 4096),
            ("256MiB", 256 << 20),
            ("256 mib", 256 << 20),
            ("1G", 1 << 30),
            ("5GB", 5_000_000_000),
        ] {
            assert_eq!(parse_size(text), Some(bytes), "{text}");
        }
        for text in ["", "MiB", "-1", "1.5G", "1XB", "99999999999999999999", "99999999999GiB", "1 M B"] {
            assert_eq!(parse_size(text), None, "{text}");
        }
    }

    #[test]
    fn reads_schedules() {
        let every = |seconds| Some(Schedule::Every(Duration::from_secs(seconds)));
        let daily = |hour, minute| Some(Schedule::Daily { hour, minute });
        for (text, schedule) in [
            ("90m", every(5400)),
            ("24h", every(86400)),
            ("7d", every(604_800)),
            ("1h30m", every(5400)),
            ("1w", every(604_800)),
            ("00:00", daily(0, 0)),
            ("3:05", daily(3, 5)),
            ("23:59", daily(23, 59)),
        ] {
            assert_eq!(parse_schedule(text), schedule, "{text}");
        }
        for text in [
            "",
            " ",
            "24",
            "h",
            "24x",
            "24:00",
            "12:60",
            "1:2:3",
            "12:5",
            "+1:00",
            "-3h",
            "ü",
            "3ü",
            "999999999999999999d",
        ] {
            assert_eq!(parse_schedule(text), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn reads_what_it_printed(seconds in 0u64..10_000_000, bytes: u64) {
            let schedule = Schedule::Every(Duration::from_secs(seconds));
            prop_assert_eq!(parse_schedule(&schedule.to_string()), Some(schedule));
            prop_assert_eq!(parse_size(&print_size(bytes)), Some(bytes));
        }

        #[test]
        fn never_panics(text: String) {
            let _ = parse_size(&text);
            let _ = parse_schedule(&text);
        }
    }
}
