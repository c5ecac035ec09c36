//! The wish to stop: work that has started settles, nothing new begins.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use tokio::sync::Notify;

/// Shared by whoever catches signals and all that must heed them; clones are the same wish.
#[derive(Debug, Clone, Default)]
pub struct Interrupt(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    raised: AtomicBool,
    notify: Notify,
}

impl Interrupt {
    pub fn raise(&self) {
        self.0.raised.store(true, Ordering::SeqCst);
        self.0.notify.notify_waiters();
    }

    pub fn is_raised(&self) -> bool {
        self.0.raised.load(Ordering::SeqCst)
    }

    /// Returns once it is raised.
    pub async fn raised(&self) {
        let notified = self.0.notify.notified();
        tokio::pin!(notified);
        // Registered before the look, so that a raise in between is not missed.
        notified.as_mut().enable();
        if !self.is_raised() {
            notified.await;
        }
    }
}
