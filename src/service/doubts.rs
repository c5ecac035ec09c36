//! Listens to the bucket on behalf of the service: a request that is tried again is the first sign of an outage,
//! half a minute before the push fails for it.

use crate::report::{Event, Report};
use std::sync::Arc;
use tokio::sync::mpsc;

/// For [`Inlets`](super::Inlets): why requests failed.
pub type Doubts = mpsc::Receiver<String>;

struct Listener {
    report: Arc<dyn Report>,
    doubts: mpsc::Sender<String>,
}

/// A report that passes everything on to `report`. The service's buckets are to be opened with it, since it
/// is they that try again.
pub fn doubts(report: Arc<dyn Report>) -> (Arc<dyn Report>, Doubts) {
    let (doubts, receiver) = mpsc::channel(1);
    (Arc::new(Listener { report, doubts }), receiver)
}

impl Report for Listener {
    fn event(&self, event: Event<'_>) {
        if let Event::Retrying { error, .. } = &event {
            // One is enough; when the channel is full somebody has told already.
            let _ = self.doubts.try_send((*error).to_owned());
        }
        self.report.event(event);
    }
}
