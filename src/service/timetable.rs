//! When to prune next.
//!
//! Many machines may have the same schedule and one bucket. Two prunes at once do no harm, but the second one is refused,
//! so each waits for some random time more.

use crate::config::Schedule;
use jiff::civil::Time;
use jiff::tz::TimeZone;
use jiff::{Timestamp, ToSpan as _, Zoned};
use std::time::{Duration, SystemTime};

/// After a time of day that was set, at most.
const SPREAD: Duration = Duration::from_secs(30 * 60);
/// After a start, when a prune has been missed.
const CATCH_UP: Duration = Duration::from_secs(5 * 60);

/// When the next prune is due. `last`: when the last one was begun, if ever; `chance`: from 0 to 1.
pub fn next(schedule: Schedule, zone: &TimeZone, last: Option<SystemTime>, now: SystemTime, chance: f64) -> SystemTime {
    // One from the future, before the clock was set back, would hold prunes up for ever.
    let last = last.filter(|last| *last <= now);
    match schedule {
        Schedule::Every(interval) => {
            let spread = (interval / 10).mul_f64(chance);
            match last {
                Some(last) => (last + interval + spread).max(now),
                None => now + spread.min(SPREAD),
            }
        }
        Schedule::Daily { hour, minute } => {
            let at = |from: SystemTime| first_after(from, zone, hour, minute);
            match last.map(at) {
                // It was missed: while the machine was off, say.
                Some(missed) if missed <= now => now + CATCH_UP.mul_f64(chance),
                Some(next) => next + SPREAD.mul_f64(chance),
                None => at(now) + SPREAD.mul_f64(chance),
            }
        }
    }
}

/// The first time after `from` at which clocks show this. Where summer time begins over it, what comes next.
fn first_after(from: SystemTime, zone: &TimeZone, hour: u8, minute: u8) -> SystemTime {
    let in_a_day = from + Duration::from_secs(24 * 60 * 60);
    let Ok(start) = Timestamp::try_from(from) else { return in_a_day };
    let start = start.to_zoned(zone.clone());
    let Ok(time) = Time::new(hour.cast_signed(), minute.cast_signed(), 0, 0) else { return in_a_day };
    let on = |day: &Zoned| day.date().to_datetime(time).to_zoned(zone.clone()).ok();
    let today = on(&start).filter(|found| *found > start);
    let found = today.or_else(|| on(&start.checked_add(1.day()).ok()?));
    found.map_or(in_a_day, |found| SystemTime::from(found.timestamp()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn time(text: &str) -> SystemTime {
        SystemTime::from(text.parse::<Timestamp>().unwrap())
    }

    fn berlin() -> TimeZone {
        TimeZone::posix("CET-1CEST,M3.5.0,M10.5.0/3").unwrap()
    }

    #[test]
    fn an_interval_counts_from_the_last_prune() {
        let (day, zone) = (Schedule::Every(Duration::from_secs(86_400)), TimeZone::UTC);
        let now = time("2026-05-02T12:00:00Z");
        let due = |last: Option<&str>, chance| next(day, &zone, last.map(time), now, chance);
        assert_eq!(due(Some("2026-05-02T10:00:00Z"), 0.0), time("2026-05-03T10:00:00Z"));
        assert_eq!(due(Some("2026-05-02T10:00:00Z"), 1.0), time("2026-05-03T12:24:00Z"));
        assert_eq!(due(Some("2026-04-02T10:00:00Z"), 0.5), now);
        assert_eq!(due(None, 0.0), now);
        assert_eq!(due(None, 1.0), time("2026-05-02T12:30:00Z"));
        // The clock was set back.
        assert_eq!(due(Some("2027-05-02T10:00:00Z"), 0.0), now);
    }

    #[test]
    fn a_time_of_day_is_local_and_caught_up() {
        let midnight = Schedule::Daily { hour: 0, minute: 0 };
        let now = time("2026-05-02T12:00:00Z");
        let due = |last: Option<&str>, chance| next(midnight, &berlin(), last.map(time), now, chance);
        assert_eq!(due(None, 0.0), time("2026-05-02T22:00:00Z"));
        assert_eq!(due(None, 1.0), time("2026-05-02T22:30:00Z"));
        assert_eq!(due(Some("2026-05-01T22:10:00Z"), 0.0), time("2026-05-02T22:00:00Z"));
        assert_eq!(due(Some("2026-05-01T20:10:00Z"), 0.0), now);
        assert_eq!(due(Some("2026-05-01T20:10:00Z"), 1.0), time("2026-05-02T12:05:00Z"));
    }

    #[test]
    fn an_hour_that_is_left_out_or_comes_twice_is_one_prune() {
        let half_past_two = Schedule::Daily { hour: 2, minute: 30 };
        let due = |last: &str| next(half_past_two, &berlin(), Some(time(last)), time(last), 0.0);
        // The clocks go from 2 to 3 on the 29th of March: half past two is half past three.
        assert_eq!(due("2026-03-28T12:00:00Z"), time("2026-03-29T01:30:00Z"));
        assert_eq!(due("2026-03-29T01:31:00Z"), time("2026-03-30T00:30:00Z"));
        // And from 3 to 2 on the 25th of October.
        assert_eq!(due("2026-10-24T12:00:00Z"), time("2026-10-25T00:30:00Z"));
        assert_eq!(due("2026-10-25T00:31:00Z"), time("2026-10-26T01:30:00Z"));
    }
}
