//! Listens to a push on behalf of the queue: what became of each path, and whether the bucket answers.

use crate::nix::StorePath;
use crate::report::{Event, Outcome, Report};
use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::mpsc;

/// Passes everything on and remembers what the queue needs.
pub struct Fates {
    report: Arc<dyn Report>,
    outcomes: Mutex<HashMap<StorePath, Outcome>>,
    doubts: mpsc::Sender<String>,
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
    /// `doubts` hears of failed requests while they are tried again.
    pub fn new(report: Arc<dyn Report>, doubts: mpsc::Sender<String>, warned: Warned) -> Self {
        Self { report, outcomes: Mutex::default(), doubts, warned }
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
            // One is enough; when the channel is full somebody has told already.
            Event::Retrying { error, .. } => drop(self.doubts.try_send((*error).to_owned())),
            Event::Warning { message } if !is_new(&self.warned, message) => return,
            _ => {}
        }
        self.report.event(event);
    }
}
