//! Tests every assumption that loft makes of its surroundings, and tells of each whether it holds, and the way out.
//!
//! Harmless: what is written are scratch objects below loft's own prefix, and they are removed. An assumption that
//! cannot be looked at because another one failed says so, so that the cause alone is blamed. What is independent is
//! looked at at the same time, and nothing is waited for longer than the patient's patience.

mod cache;
mod configuration;
mod credentials;
mod directory;
mod endpoint;
mod finding;
mod first_answer;
mod judge;
mod ledger;
mod machine;
mod nix_conf;
mod readers;
mod samples;
mod storage;
mod store;

pub use finding::{Check, Code, Finding, Outcome, Severity};
pub use machine::{Machine, Space, ThisMachine};

use crate::bucket::Target;
use crate::clock::Clock;
use crate::config::{Loaded, Sources};
use crate::nix::PublicKey;
use finding::Notes;
use std::sync::Arc;
use std::time::Duration;

/// Whom to look at.
pub struct Patient {
    pub sources: Sources,
    pub clock: Arc<dyn Clock>,
    pub machine: Arc<dyn Machine>,
    /// For one answer of anybody.
    pub patience: Duration,
    /// Ask nobody over the network.
    pub offline: bool,
    /// Write scratch objects, without which permissions cannot be tried.
    pub probe: bool,
}

/// Everything that was found, in the order in which one would look.
pub async fn examine(patient: &Patient) -> Vec<Finding> {
    let mut notes = Notes::default();
    let (loaded, keys) = match configuration::look(patient, &mut notes) {
        Some(looked) => looked,
        None => {
            let rest: Vec<Check> = Check::ALL.iter().copied().filter(|check| *check != Check::Configuration).collect();
            notes.skip(&rest, Check::Configuration, "the configuration cannot be used");
            return notes.0;
        }
    };
    let (mut of_cache, mut of_store, mut of_ledger) = (Notes::default(), Notes::default(), Notes::default());
    let (cache, (), ()) = tokio::join!(
        cache::look(patient, &loaded, &keys, &mut of_cache),
        store::look(patient, &loaded, &mut of_store),
        ledger::look(patient, &loaded, &mut of_ledger),
    );
    machine::look(patient, &loaded, &mut notes);
    readers::look(patient, &loaded, &keys, &cache, &mut notes).await;
    for more in [of_cache, of_store, of_ledger] {
        notes.0.extend(more.0);
    }
    notes.0.sort_by_key(|finding| finding.check);
    notes.0
}

/// What is asked over the network.
fn is_remote(loaded: &Loaded) -> bool {
    matches!(loaded.settings.bucket, Some(Target::S3(_)))
}

/// Lines for `trusted-public-keys`.
fn key_lines(keys: &[PublicKey]) -> String {
    keys.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ")
}
