//! What the service does at the moment, in a line for people.

use super::Service;

impl Service<'_> {
    /// Tells the supervisor, where the line has changed.
    pub(super) fn tell_status(&mut self) {
        let waiting = self.setup.ends.ledger.queue().counts().map(|counts| counts.waiting).unwrap_or_default();
        let waiting = waiting.max(self.unsaved.waiting().len() as u64);
        let text = match (&self.under_way, self.outages.describe()) {
            (_, Some(outage)) => format!("{outage}; {waiting} paths queued"),
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
