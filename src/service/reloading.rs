//! Configuration and keys anew.

use super::work::Work;
use super::{Service, Setup, looking};
use crate::report::Event;

impl Service<'_> {
    /// Configuration and keys anew; what is under way ends with the old ones.
    pub(super) async fn reload(&mut self) {
        self.host.reloading();
        let ends = &self.setup.ends;
        match self.host.reload().await {
            Ok(setup) => {
                let _ = ends.ledger.watch().end_outage("configuration");
                // As after a start: it may be another bucket.
                self.scanning = None;
                self.first.retain(|work| *work != Work::Scan);
                if setup.scan {
                    self.first.push_back(Work::Scan);
                }
                let location = setup.ends.store.location();
                if looking::key(location) != self.store_key {
                    let message = "Another store needs a restart of the service; it goes on with the old one";
                    ends.report.event(Event::Warning { message });
                }
                self.setup = Setup { store: self.setup.store.clone(), ..setup };
                self.setup.ends.report.event(Event::Reread);
                self.schedule_prune();
                // Whatever was waited for may have been mended with it.
                self.outages.hurry();
            }
            Err(why) => {
                let message = format!("The configuration was not reread, the old one stays: {why}");
                ends.report.event(Event::Warning { message: &message });
                let _ = ends.ledger.watch().note_outage("configuration", &why, ends.clock.wall());
            }
        }
        self.host.ready();
    }
}
