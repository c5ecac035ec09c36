//! All that can happen to the service.

use super::socket::Asked;
use super::work::Ended;

/// The closed set that the loop turns on.
pub enum Event {
    /// The store may have changed, or it is time to look in any case.
    StoreChanged,
    /// A post-build hook hands paths over.
    Asked(Asked),
    /// A request to the bucket failed and is tried again.
    Doubt(String),
    /// The work under way has ended.
    WorkEnded(Box<Ended>),
    /// Something that was put off is due, or the watchdog wants a sign of life.
    TimeIsUp,
    Command(Command),
}

/// What the program around the service wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Command {
    /// Reread configuration and keys.
    Reload,
    /// Settle what is in flight, leave the rest queued, and end.
    Stop,
}
