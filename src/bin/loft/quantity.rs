//! Numbers as people read them.

use std::time::Duration;

/// `1 path`, `3 paths`.
pub fn paths(count: u64) -> String {
    match count {
        1 => "1 path".to_owned(),
        _ => format!("{count} paths"),
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
    fn durations_change_their_unit() {
        assert_eq!(duration(Duration::from_millis(340)), "0.3 s");
        assert_eq!(duration(Duration::from_millis(59_990)), "1 min 00 s");
        assert_eq!(duration(Duration::from_secs(245)), "4 min 05 s");
    }
}
