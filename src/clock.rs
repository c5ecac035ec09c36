//! Time as something that is passed in, so that tests can set it.

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

    #[cfg(target_os = "linux")]
    fn boot(&self) -> Duration {
        let now = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
        Duration::new(now.tv_sec.unsigned_abs(), now.tv_nsec.unsigned_abs() as u32)
    }

    /// macOS counts suspend in its monotonic clock only through the wall here.
    #[cfg(not(target_os = "linux"))]
    fn boot(&self) -> Duration {
        self.wall().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default()
    }
}
