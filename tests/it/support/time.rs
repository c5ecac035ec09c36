//! A clock that tests set.

use loft::clock::Clock;
use std::sync::Mutex;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Both clocks stand still until they are moved.
pub struct TestClock(Mutex<(SystemTime, Duration)>);

impl Default for TestClock {
    /// Some day in 2026, a day after boot.
    fn default() -> Self {
        Self(Mutex::new((UNIX_EPOCH + Duration::from_secs(1_790_000_000), Duration::from_secs(86_400))))
    }
}

impl TestClock {
    pub fn advance(&self, by: Duration) {
        let mut clocks = self.0.lock().unwrap();
        clocks.0 += by;
        clocks.1 += by;
    }

    /// Sets the wall alone, as a user or NTP does.
    pub fn set_wall(&self, wall: SystemTime) {
        self.0.lock().unwrap().0 = wall;
    }
}

impl Clock for TestClock {
    fn wall(&self) -> SystemTime {
        self.0.lock().unwrap().0
    }

    fn boot(&self) -> Duration {
        self.0.lock().unwrap().1
    }
}

/// The runtime's clock, which tests pause: waits then take no time and still count.
pub struct PausedClock(tokio::time::Instant);

impl PausedClock {
    pub fn start() -> Self {
        Self(tokio::time::Instant::now())
    }
}

impl Clock for PausedClock {
    fn wall(&self) -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(1_790_000_000) + self.0.elapsed()
    }

    fn boot(&self) -> Duration {
        self.0.elapsed()
    }
}
