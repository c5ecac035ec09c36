//! What the service does at the moment, in a line for people.

use super::Service;

impl Service<'_> {
    /// Tells the supervisor, where the line has changed.
    pub(super) fn tell_status(&mut self) {
        let counts = self.setup.ends.ledger.queue().counts();
        let waiting = counts.as_ref().map_or(0, |counts| counts.waiting).max(self.unsaved.len() as u64);
        let text = match (&self.under_way, self.outages.describe()) {
            // A queue that cannot be read is not an empty one.
            (_, outage) if counts.is_err() => outage.unwrap_or_else(|| "the queue cannot be read".to_owned()),
            (_, Some(outage)) => format!("{outage}; {waiting} paths queued"),
            (Some(under_way), None) if under_way.is_prune => format!("pruning; {waiting} paths queued"),
            (Some(under_way), None) => format!("pushing {} of {waiting} queued paths", under_way.paths),
            (None, None) if waiting > 0 => format!("{waiting} paths queued"),
            (None, None) => "watching; nothing is queued".to_owned(),
        };
        if text != self.status {
            self.host.status(&text);
            self.status = text;
        }
    }
}
