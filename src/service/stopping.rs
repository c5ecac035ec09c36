//! The end that was asked for.

use super::event::Command;
use super::outage::Need;
use super::{Service, Sources};
use std::time::Duration;
use tokio::time::{Instant, sleep_until};

/// For work in flight while the bucket does not answer.
const HOPELESS: Duration = Duration::from_secs(2);

impl Service<'_> {
    /// Lets what is in flight settle within bounds. What does not is still queued.
    pub(super) async fn stop(&mut self, sources: &mut Sources) {
        self.host.stopping();
        let Some(under_way) = &self.under_way else { return };
        under_way.interrupt.raise();
        let abort = under_way.abort.clone();
        if under_way.paths == 0 && !under_way.is_prune {
            // Greeting, listing and scanning have nothing in flight that could be lost.
            return abort.abort();
        }
        // A bucket that does not answer settles nothing, however long one waits.
        let answers = self.outages.until(Need::Bucket).is_none();
        let end = Instant::now() + if answers { self.pace.settling } else { self.pace.settling.min(HOPELESS) };
        let Sources { commands, ended, asked, .. } = sources;
        let settling = async {
            loop {
                tokio::select! {
                    Some(ended) = ended.recv() => return self.settle(ended).await,
                    // Hooks are served to the last: their builds must not wait.
                    Some(asked) = asked.recv() => self.take_over(asked).await,
                }
            }
        };
        let told_again = async { while commands.recv().await == Some(Command::Reload) {} };
        tokio::select! {
            () = settling => {}
            () = told_again => abort.abort(),
            () = sleep_until(end) => abort.abort(),
        }
    }
}
