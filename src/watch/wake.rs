//! When to look: soon after a file event, and every few seconds in any case.

use crate::store::Location;
use std::time::Duration;
use tokio::time::{Instant, sleep, sleep_until};

/// A transaction is visible a moment after its last event, and a build registers several.
const QUIET: Duration = Duration::from_millis(20);
/// Under steady building, looks are no further apart than this.
const PATIENCE: Duration = Duration::from_millis(200);
/// The net below the events where the database can be read: a look takes about a millisecond.
const POLL: Duration = Duration::from_secs(5);
/// The net where a daemon has to list everything.
const POLL_DAEMON: Duration = Duration::from_secs(60);
/// A large store's list takes a daemon half a second.
const BETWEEN_LISTS: Duration = Duration::from_secs(2);
/// Without events.
const POLL_ALONE: Duration = Duration::from_secs(1);

/// Says when the store may have changed.
pub struct Wake {
    #[cfg(target_os = "linux")]
    events: Option<super::inotify::Events>,
    poll: Duration,
    lists_all: bool,
    last: Instant,
}

impl Wake {
    /// `lists_all`: a look asks a daemon for every valid path.
    pub fn new(location: &Location, lists_all: bool) -> Self {
        let poll = if lists_all { POLL_DAEMON } else { POLL };
        #[cfg(target_os = "linux")]
        {
            let events = super::inotify::Events::of(location).ok();
            let poll = if events.is_none() && !lists_all { POLL_ALONE } else { poll };
            Self { events, poll, lists_all, last: Instant::now() }
        }
        #[cfg(not(target_os = "linux"))]
        {
            let _ = location;
            Self { poll: if lists_all { poll } else { POLL_ALONE }, lists_all, last: Instant::now() }
        }
    }

    /// How long a change may go unnoticed when every event is lost.
    pub fn poll(&self) -> Duration {
        self.poll
    }

    /// Returns when it is time to look.
    pub async fn next(&mut self) {
        let poll = Instant::now() + self.poll;
        tokio::select! {
            () = sleep_until(poll) => self.renew(),
            () = self.settled() => {}
        }
        if self.lists_all {
            sleep_until(self.last + BETWEEN_LISTS).await;
        }
        self.last = Instant::now();
    }

    #[cfg(target_os = "linux")]
    fn renew(&mut self) {
        if let Some(events) = &self.events {
            // What cannot be listened to now is tried again with the next look.
            let _ = events.renew();
        }
    }

    #[cfg(not(target_os = "linux"))]
    fn renew(&mut self) {}

    /// Returns a little after something happened, once it is quiet or has gone on for long enough.
    #[cfg(target_os = "linux")]
    async fn settled(&mut self) {
        let Some(events) = &mut self.events else { return std::future::pending().await };
        if events.happened().await.is_err() {
            // Events that cannot be read must not become a busy loop.
            return sleep(POLL_ALONE).await;
        }
        let end = Instant::now() + PATIENCE;
        loop {
            tokio::select! {
                () = sleep_until(end) => return,
                () = sleep(QUIET) => return,
                happened = events.happened() => if happened.is_err() { return },
            }
        }
    }

    #[cfg(not(target_os = "linux"))]
    async fn settled(&mut self) {
        std::future::pending().await
    }
}
