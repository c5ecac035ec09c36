//! How long the service waits for what, and how waits grow.

use std::time::Duration;

/// The service's times; tests shrink them.
#[derive(Debug, Clone, Copy)]
pub struct Pace {
    /// After the first failure of a path, or of the bucket as a whole; doubles from failure to failure.
    pub first_delay: Duration,
    /// The longest wait for a path that failed; others land meanwhile.
    pub longest_for_path: Duration,
    /// The longest wait for the bucket or the store, for which everything waits.
    pub longest_for_all: Duration,
    /// For work in flight to settle when the service is stopped.
    pub settling: Duration,
    /// Paths in one push.
    pub batch: usize,
}

impl Default for Pace {
    fn default() -> Self {
        Self {
            first_delay: Duration::from_secs(5),
            longest_for_path: Duration::from_secs(60 * 60),
            longest_for_all: Duration::from_secs(60),
            // systemd kills after 90 seconds.
            settling: Duration::from_secs(30),
            // One listing of a large bucket is then shared by many paths, and a lease stays small.
            batch: 2000,
        }
    }
}

impl Pace {
    /// The wait after the `failures`th failure in a row: between half of it and all of it, so that many paths or
    /// many machines do not come back at once.
    pub fn delay(&self, failures: u32, longest: Duration) -> Duration {
        let doubled = self.first_delay.saturating_mul(1 << failures.saturating_sub(1).min(20)).min(longest);
        // Without randomness the waits are merely in step.
        let random = getrandom::u32().unwrap_or(u32::MAX);
        doubled.mul_f64(0.5 + 0.5 * f64::from(random) / f64::from(u32::MAX))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_and_stay_in_bounds() {
        let pace = Pace::default();
        for (failures, longest) in [(1, 5), (2, 10), (4, 40), (20, 3600), (u32::MAX, 3600)] {
            let delay = pace.delay(failures, pace.longest_for_path);
            let longest = Duration::from_secs(longest);
            assert!(longest / 2 <= delay && delay <= longest, "{failures}: {delay:?}");
        }
    }
}
