//! Randomness that a failing run can repeat.

use std::time::Duration;

/// Random moments; `LOFT_TEST_SEED` brings those of an earlier run back.
pub struct Moments(u64);

impl Moments {
    pub fn new() -> Self {
        let seed = match std::env::var("LOFT_TEST_SEED") {
            Ok(text) => text.parse().expect("LOFT_TEST_SEED is a number"),
            Err(_) => std::time::UNIX_EPOCH.elapsed().expect("after 1970").as_nanos() as u64 | 1,
        };
        println!("LOFT_TEST_SEED={seed}");
        Self(seed)
    }

    /// Anywhere in `[0, within)`.
    pub fn next(&mut self, within: Duration) -> Duration {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        within.mul_f64((self.0 >> 11) as f64 / (1_u64 << 53) as f64)
    }
}
