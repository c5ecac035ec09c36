//! What became of each path over several pushes: told once, counted once.

use crate::nix::StorePath;
use crate::report::{Event, Outcome, Report, Summary};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Stands between pushes and whoever watches. A failure is held back: a later push may mend it.
pub struct Tally {
    to: Arc<dyn Report>,
    fates: Mutex<HashMap<StorePath, Fate>>,
}

struct Fate {
    outcome: Outcome,
    is_told: bool,
}

impl Tally {
    pub fn new(to: Arc<dyn Report>) -> Self {
        Self { to, fates: Mutex::default() }
    }

    pub fn tell(&self, event: Event<'_>) {
        self.to.event(event);
    }

    /// Notes a fate, in place of an earlier one that it is news to.
    pub fn settle(&self, path: &StorePath, outcome: Outcome) {
        let mut fates = self.fates();
        let before = fates.get(path);
        let landed = before.is_some_and(|fate| matches!(fate.outcome, Outcome::Pushed { .. } | Outcome::Present));
        let outcome = match outcome {
            // It is in the cache, by this hand or before, and may leave the store.
            Outcome::Present | Outcome::Invalid if landed => return,
            Outcome::Invalid => {
                let message = format!("{path} was removed from the store before it could be pushed");
                self.tell(Event::Warning { message: &message });
                Outcome::Ignored { why: "It was removed from the store before it could be pushed".to_owned() }
            }
            outcome => outcome,
        };
        let was_told = before.is_some_and(|fate| fate.is_told);
        let is_final = !matches!(outcome, Outcome::Failed { .. } | Outcome::Interrupted);
        if is_final && !was_told {
            self.tell(Event::Settled { path, outcome: &outcome });
        }
        fates.insert(path.clone(), Fate { outcome, is_told: is_final });
    }

    /// What has not landed so far.
    pub fn failed(&self) -> Vec<StorePath> {
        let fates = self.fates();
        let failed = fates.iter().filter(|(_, fate)| matches!(fate.outcome, Outcome::Failed { .. }));
        failed.map(|(path, _)| path.clone()).collect()
    }

    /// What is in the cache.
    pub fn landed(&self) -> Vec<StorePath> {
        let fates = self.fates();
        let landed = fates.iter().filter(|(_, fate)| matches!(fate.outcome, Outcome::Pushed { .. } | Outcome::Present));
        let mut landed: Vec<StorePath> = landed.map(|(path, _)| path.clone()).collect();
        landed.sort();
        landed
    }

    /// Whether the fate of `path` is settled for good.
    pub fn is_told(&self, path: &StorePath) -> bool {
        self.fates().get(path).is_some_and(|fate| fate.is_told)
    }

    /// Tells what was held back, and counts.
    pub fn finish(&self) -> Summary {
        let mut fates = self.fates();
        let mut held: Vec<(&StorePath, &mut Fate)> = fates.iter_mut().filter(|(_, fate)| !fate.is_told).collect();
        held.sort_by_key(|(path, _)| *path);
        for (path, fate) in held {
            fate.is_told = true;
            self.tell(Event::Settled { path, outcome: &fate.outcome });
        }
        let mut summary = Summary { considered: fates.len() as u64, ..Summary::default() };
        for fate in fates.values() {
            match &fate.outcome {
                Outcome::Pushed { nar_size, file_size } => {
                    summary.pushed += 1;
                    summary.reused += u64::from(*file_size == 0);
                    summary.nar_size += nar_size;
                    summary.file_size += file_size;
                }
                Outcome::Present => summary.present += 1,
                Outcome::Upstream { .. } => summary.upstream += 1,
                Outcome::Ignored { .. } => summary.ignored += 1,
                Outcome::Failed { .. } | Outcome::Invalid => summary.failed += 1,
                Outcome::Interrupted => summary.interrupted += 1,
                Outcome::WouldPush { .. } => summary.would_push += 1,
            }
        }
        summary
    }

    fn fates(&self) -> MutexGuard<'_, HashMap<StorePath, Fate>> {
        self.fates.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Report for Tally {
    fn event(&self, event: Event<'_>) {
        match event {
            Event::Settled { path, outcome } => self.settle(path, outcome.clone()),
            // There is one at the very end.
            Event::Finished(_) => {}
            event => self.tell(event),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Default)]
    struct Told(Mutex<Vec<Outcome>>);

    impl Report for Told {
        fn event(&self, event: Event<'_>) {
            if let Event::Settled { outcome, .. } = event {
                self.0.lock().unwrap().push(outcome.clone());
            }
        }
    }

    /// What is told and what is counted of a path that meets these fates.
    fn met(fates: &[&Outcome]) -> (Vec<Outcome>, Summary) {
        let told = Arc::new(Told::default());
        let tally = Tally::new(told.clone());
        let path = StorePath::parse(&format!("{}-x", "a".repeat(32))).unwrap();
        for fate in fates {
            tally.settle(&path, (*fate).clone());
        }
        let summary = tally.finish();
        let told = told.0.lock().unwrap().clone();
        (told, summary)
    }

    #[test]
    fn the_last_word_counts_once() {
        let pushed = Outcome::Pushed { nar_size: 10, file_size: 4 };
        let failed = Outcome::Failed { why: "why".to_owned(), blocked_by: None };
        let one = |told: &Outcome| vec![told.clone()];

        for fates in [&[&pushed, &Outcome::Present][..], &[&failed, &failed, &pushed], &[&pushed, &Outcome::Invalid]] {
            let (told, summary) = met(fates);
            assert_eq!((told, summary.pushed, summary.nar_size, summary.considered), (one(&pushed), 1, 10, 1));
            assert_eq!((summary.present, summary.failed, summary.ignored), (0, 0, 0));
        }
        let (told, summary) = met(&[&failed, &failed]);
        assert_eq!((told, summary.failed, summary.considered), (one(&failed), 1, 1));
        // What was there and is lost again is no success, though success was told before.
        let (told, summary) = met(&[&Outcome::Present, &failed]);
        assert_eq!((told, summary.present, summary.failed), (vec![Outcome::Present, failed], 0, 1));
        // Built anew after it was collected.
        let (told, summary) = met(&[&Outcome::Invalid, &pushed]);
        assert_eq!((told.len(), summary.pushed, summary.ignored), (1, 1, 0));
    }
}
