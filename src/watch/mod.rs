//! Noticing what becomes valid in the store.
//!
//! The store's own registrations are the truth ([`look`]); file events only say when to ask ([`Wake`]).
//! So nothing is missed while nobody watched, or when more happens than the kernel's queue of events holds.

#[cfg(target_os = "linux")]
mod inotify;
mod names;
mod news;
mod wake;

pub use names::is_pushed;
pub use news::{News, Place, look};
pub use wake::Wake;
