//! Prunes by the schedule of the configuration.

use super::Service;
use super::outage::PRUNE;
use super::timetable;
use super::work::{Failed, StoppedPrune};
use crate::config::Schedule;
use crate::page::Page;
use crate::prune::{self, PruneError, Refusal, Summary};
use crate::remedy::{Remedy, chain};
use crate::report::Event;
use jiff::tz::TimeZone;
use std::time::{Duration, SystemTime};
use tokio::time::Instant;

/// What to prune and when.
#[derive(Debug, Clone)]
pub struct Pruning {
    pub options: prune::Options,
    pub schedule: Schedule,
    /// Written after each prune.
    pub page: Option<Page>,
}

/// After a prune that could not be ended, or that somebody else's forbade.
const AGAIN: Duration = Duration::from_secs(10 * 60);
/// The timer does not count suspend: so often the clock is looked at.
const LOOK: Duration = Duration::from_secs(60 * 60);

/// When the next prune is due at the earliest; chance adds to it.
pub fn next_prune(schedule: Schedule, last: Option<SystemTime>, now: SystemTime) -> SystemTime {
    timetable::next(schedule, &TimeZone::system(), last, now, 0.0)
}

impl Service<'_> {
    /// Sets the time of the next prune by the schedule.
    pub(super) fn schedule_prune(&mut self) {
        let ends = &self.setup.ends;
        let Some(pruning) = &self.setup.prune else {
            self.prune_at = None;
            // What was refused is not wanted any more.
            let _ = ends.ledger.watch().end_outage(PRUNE);
            return;
        };
        if matches!(pruning.schedule, Schedule::Daily { .. })
            && ends.ledger.watch().prunes().is_ok_and(|prunes| prunes.last.is_none())
        {
            // So that the first one is caught up, too, where the machine is off at that time.
            let _ = ends.ledger.watch().note_refused_prune(ends.clock.wall());
        }
        // A ledger that cannot be read has an outage of its own; the schedule then counts from now.
        let last = ends.ledger.watch().prunes().ok().and_then(|prunes| prunes.last);
        let now = ends.clock.wall();
        self.prune_at = Some(timetable::next(pruning.schedule, &TimeZone::system(), last, now, chance()));
    }

    /// The clock may have been set back since: then the time that was set is too far away.
    pub(super) fn mind_the_clock(&mut self) {
        let (Some(at), Some(pruning)) = (self.prune_at, &self.setup.prune) else { return };
        let longest = match pruning.schedule {
            Schedule::Every(interval) => interval + interval / 10,
            Schedule::Daily { .. } => Duration::from_secs(26 * 60 * 60),
        };
        let left = at.duration_since(self.setup.ends.clock.wall()).unwrap_or_default();
        if left > longest.max(AGAIN * 2) {
            self.schedule_prune();
        }
    }

    pub(super) fn prune_is_due(&self) -> bool {
        self.prune_at.is_some_and(|at| at <= self.setup.ends.clock.wall())
    }

    /// When to look whether it is due.
    pub(super) fn prune_wake(&self) -> Option<Instant> {
        let left = self.prune_at?.duration_since(self.setup.ends.clock.wall()).unwrap_or_default();
        Some(Instant::now() + left.min(LOOK))
    }

    /// It went through what it had planned, or stopped half-way in good order.
    pub(super) fn pruned(&mut self, began: SystemTime, summary: &Summary) {
        self.tell_pruned(summary);
        let ends = &self.setup.ends;
        let watch = ends.ledger.watch();
        let noted = match summary.is_unfinished {
            true => watch.note_part_of_prune(summary.removed.len() as u64, summary.freed),
            false => watch.note_prune(began, summary.removed.len() as u64, summary.freed),
        };
        let _ = watch.end_outage(PRUNE);
        self.schedule_prune();
        // Without a note of it, it would be due again at once.
        if summary.is_unfinished || noted.is_err() {
            self.prune_again_soon();
        }
        if let Err(error) = noted {
            self.ledger_failed(&chain(&error));
        }
    }

    /// What follows from a prune that failed after it had `done` this much. Whether the bucket is out of order.
    pub(super) fn prune_failed(&mut self, began: SystemTime, failed: &Failed) -> bool {
        if let Failed::Prune(stopped) = failed {
            let StoppedPrune { error, done } = stopped.as_ref();
            if *done != Summary::default() {
                self.tell_pruned(done);
                // What cannot be noted is missing in the sums alone.
                let watch = self.setup.ends.ledger.watch();
                let _ = watch.note_part_of_prune(done.removed.len() as u64, done.freed);
            }
            match error {
                PruneError::Interrupted => return false,
                PruneError::Refused(Refusal::OtherSweep { .. }) => {
                    self.prune_again_soon();
                    return false;
                }
                error if error.remedy() == Remedy::Retry => {
                    self.prune_again_soon();
                    return true;
                }
                _ => {}
            }
        }
        let why = chain(failed);
        let ends = &self.setup.ends;
        ends.report.event(Event::Warning { message: &format!("The prune was not carried out: {why}") });
        let watch = ends.ledger.watch();
        let noted = watch.note_refused_prune(began).and_then(|()| watch.note_outage(PRUNE, &why, ends.clock.wall()));
        self.schedule_prune();
        if noted.is_err() {
            self.prune_again_soon();
        }
        false
    }

    fn tell_pruned(&self, summary: &Summary) {
        self.setup.ends.report.event(Event::Pruned {
            removed: summary.removed.len() as u64,
            restored: summary.restored,
            failed: summary.failed,
            nars: summary.nars,
            freed: summary.freed,
        });
    }

    fn prune_again_soon(&mut self) {
        let soon = self.setup.ends.clock.wall() + AGAIN.mul_f64(1.0 + chance());
        self.prune_at = Some(soon);
    }
}

/// From 0 to 1. Without randomness machines are merely in step.
fn chance() -> f64 {
    f64::from(getrandom::u32().unwrap_or(u32::MAX)) / f64::from(u32::MAX)
}
