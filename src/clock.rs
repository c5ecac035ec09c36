//! Time as something that is passed in, so that tests can set it.

use rustix::time::{ClockId, clock_gettime};
use std::time::{Duration, SystemTime};

/// Two clocks: the wall for records and ages, and one that only moves forward.
pub trait Clock: Send + Sync {
    fn wall(&self) -> SystemTime;
    /// Time since boot *including suspend*: a laptop that slept has lost its lease, and
    /// `std::time::Instant` would not notice.
    fn boot(&self) -> Duration;
}

/// The machine's own clocks.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn wall(&self) -> SystemTime {
        SystemTime::now()
    }

    fn boot(&self) -> Duration {
        let now = clock_gettime(COUNTS_SUSPEND);
        Duration::new(now.tv_sec.unsigned_abs(), now.tv_nsec.unsigned_abs() as u32)
    }
}

#[cfg(target_os = "linux")]
const COUNTS_SUSPEND: ClockId = ClockId::Boottime;

/// macOS goes on counting in this one while it sleeps (what stops there is `CLOCK_UPTIME_RAW`, which
/// `Instant` uses), and unlike the wall clock nobody can set it back.
#[cfg(not(target_os = "linux"))]
const COUNTS_SUSPEND: ClockId = ClockId::Monotonic;
