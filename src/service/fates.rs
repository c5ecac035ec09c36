//! Listens to a push on behalf of the queue: what became of each path.

use crate::nix::StorePath;
use crate::report::{Event, Outcome, Report};
use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError};

/// Passes everything on and remembers what the queue needs.
pub struct Fates {
    report: Arc<dyn Report>,
    outcomes: Mutex<HashMap<StorePath, Outcome>>,
    warned: Warned,
}

/// Warnings that were told: what is so for every push is said once.
pub type Warned = Arc<Mutex<HashSet<String>>>;

/// Then they begin anew; most name a path or an hour.
const MOST_WARNINGS: usize = 1000;

/// Whether `warning` was not told yet; from now on it was.
pub fn is_new(warned: &Warned, warning: &str) -> bool {
    let mut warned = warned.lock().unwrap_or_else(PoisonError::into_inner);
    if warned.len() >= MOST_WARNINGS {
        warned.clear();
    }
    warned.insert(warning.to_owned())
}

impl Fates {
    pub fn new(report: Arc<dyn Report>, warned: Warned) -> Self {
        Self { report, outcomes: Mutex::default(), warned }
    }

    pub fn take(&self) -> HashMap<StorePath, Outcome> {
        std::mem::take(&mut self.outcomes.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Report for Fates {
    fn event(&self, event: Event<'_>) {
        match &event {
            Event::Settled { path, outcome } => {
                let mut outcomes = self.outcomes.lock().unwrap_or_else(PoisonError::into_inner);
                outcomes.insert((*path).clone(), (*outcome).clone());
            }
            Event::Warning { message } if !is_new(&self.warned, message) => return,
            _ => {}
        }
        self.report.event(event);
    }
}
