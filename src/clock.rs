//! Time as something that is passed in, so that tests can set it.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

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
        let mut now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
        // SAFETY: `now` is a valid, writable timespec for the length of the call.
        if unsafe { libc::clock_gettime(libc::CLOCK_BOOTTIME, &raw mut now) } == 0 {
            return Duration::new(now.tv_sec.unsigned_abs(), now.tv_nsec.unsigned_abs() as u32);
        }
        self.wall().duration_since(UNIX_EPOCH).unwrap_or_default()
    }

    /// macOS counts suspend in its monotonic clock only through the wall here.
    #[cfg(not(target_os = "linux"))]
    fn boot(&self) -> Duration {
        self.wall().duration_since(UNIX_EPOCH).unwrap_or_default()
    }
}
