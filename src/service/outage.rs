//! What does not work at the moment, and when to try again.

use super::pace::Pace;
use crate::ledger::Ledger;
use crate::report::{Event, Report};
use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};
use tokio::time::Instant;

/// What the service cannot work without.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Need {
    Bucket,
    Store,
    Ledger,
}

impl Need {
    pub const fn name(self) -> &'static str {
        match self {
            Self::Bucket => "bucket",
            Self::Store => "store",
            Self::Ledger => "ledger",
        }
    }
}

/// What a refused prune is noted as; nothing else waits for it.
pub const PRUNE: &str = "prune";

/// One that lasts.
struct Outage {
    since: Instant,
    failures: u32,
    until: Instant,
    error: String,
}

impl Outage {
    const fn new(since: Instant) -> Self {
        Self { since, failures: 0, until: since, error: String::new() }
    }
}

/// All that last. They are written into the ledger once, for `loft status`.
#[derive(Default)]
pub struct Outages {
    lasting: BTreeMap<Need, Outage>,
}

impl Outages {
    /// Ends those that an earlier run has left in the ledger: they are over until they show again. A refused prune stays,
    /// since the next one may be a day away.
    pub fn forget_old(ledger: &Ledger) {
        for outage in ledger.watch().outages().unwrap_or_default() {
            if outage.what != PRUNE {
                let _ = ledger.watch().end_outage(&outage.what);
            }
        }
    }

    /// A failure that ended an attempt: the next one is not before the delay.
    pub fn failed(
        &mut self,
        need: Need,
        error: &str,
        pace: &Pace,
        ledger: &Ledger,
        now: SystemTime,
        report: &dyn Report,
    ) {
        let at = Instant::now();
        let outage = self.lasting.entry(need).or_insert(Outage::new(at));
        outage.failures += 1;
        let delay = pace.delay(outage.failures, pace.longest_for_all);
        outage.until = at + delay;
        // A day without the bucket is not worth a thousand lines.
        if outage.failures.is_power_of_two() || outage.error != error {
            report.event(Event::Outage { what: need.name(), error, delay });
        }
        error.clone_into(&mut outage.error);
        note(ledger, need, error, now);
    }

    /// A sign of trouble while an attempt goes on, which may still end well.
    pub fn doubted(&mut self, need: Need, error: &str, ledger: &Ledger, now: SystemTime) {
        let at = Instant::now();
        if let std::collections::btree_map::Entry::Vacant(new) = self.lasting.entry(need) {
            new.insert(Outage::new(at));
            note(ledger, need, error, now);
        }
    }

    pub fn works(&mut self, need: Need, ledger: &Ledger, report: &dyn Report) {
        if let Some(outage) = self.lasting.remove(&need) {
            let _ = ledger.watch().end_outage(need.name());
            // What was over within one attempt was told as a retry.
            if outage.failures > 0 {
                report.event(Event::Recovered { what: need.name(), lasted: outage.since.elapsed() });
            }
        }
    }

    /// Something was mended, perhaps: the next attempt may be made now.
    pub fn hurry(&mut self) {
        for outage in self.lasting.values_mut() {
            outage.until = Instant::now();
        }
    }

    /// Whether an attempt may be made now.
    pub fn allow(&self, need: Need) -> bool {
        self.until(need).is_none_or(|until| until <= Instant::now())
    }

    pub fn until(&self, need: Need) -> Option<Instant> {
        self.lasting.get(&need).map(|outage| outage.until)
    }

    /// The one that lasts longest, in words for a status line.
    pub fn describe(&self) -> Option<String> {
        let (need, outage) =
            self.lasting.iter().filter(|(_, outage)| outage.failures > 0).min_by_key(|(_, outage)| outage.since)?;
        Some(format!("{} out of order for {}", need.name(), minutes(outage.since.elapsed())))
    }
}

/// A ledger that cannot be written has its own outage.
fn note(ledger: &Ledger, need: Need, error: &str, now: SystemTime) {
    if need != Need::Ledger {
        let _ = ledger.watch().note_outage(need.name(), error, now);
    }
}

fn minutes(duration: Duration) -> String {
    match duration.as_secs() {
        seconds @ 0..120 => format!("{seconds} s"),
        seconds @ 120..7200 => format!("{} min", seconds / 60),
        seconds => format!("{} h", seconds / 3600),
    }
}
