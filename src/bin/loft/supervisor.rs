//! What systemd is told: readiness, status, signs of life. Without systemd nobody listens.

use rustix::time::{ClockId, clock_gettime};
use sd_notify::NotifyState;
use std::time::Duration;

/// The notify socket of the environment, if there is one.
pub struct Supervisor {
    alive_every: Option<Duration>,
}

impl Supervisor {
    pub fn of_environment() -> Self {
        // Twice within the time that systemd waits.
        Self { alive_every: sd_notify::watchdog_enabled().map(|limit| limit / 2) }
    }

    pub fn ready(&self) {
        tell(&[NotifyState::Ready]);
    }

    pub fn status(&self, text: &str) {
        tell(&[NotifyState::Status(text)]);
    }

    /// `Type=notify-reload` wants the time, too.
    pub fn reloading(&self) {
        let now = clock_gettime(ClockId::Monotonic);
        let microseconds = i128::from(now.tv_sec) * 1_000_000 + i128::from(now.tv_nsec) / 1000;
        tell(&[NotifyState::Reloading, NotifyState::MonotonicUsec(microseconds)]);
    }

    pub fn stopping(&self) {
        tell(&[NotifyState::Stopping]);
    }

    pub fn alive(&self) {
        tell(&[NotifyState::Watchdog]);
    }

    pub fn alive_every(&self) -> Option<Duration> {
        self.alive_every
    }
}

fn tell(state: &[NotifyState<'_>]) {
    // A supervisor that has gone away is not our trouble.
    let _ = sd_notify::notify(state);
}
