//! The verdict on one path.

use super::Policy;
use crate::nix::{KeyName, PathHash, PathInfo, StoreDir, StorePath};
use std::collections::{HashMap, HashSet};

/// A path and what is to become of it.
#[derive(Debug, Clone)]
pub struct Planned {
    pub info: PathInfo,
    pub verdict: Verdict,
}

impl Planned {
    pub fn is_upload(&self) -> bool {
        self.verdict == Verdict::Upload
    }

    pub fn is_present(&self) -> bool {
        self.verdict == Verdict::AlreadyPresent
    }
}

/// What is to become of a path, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    Upload,
    AlreadyPresent,
    SignedUpstream {
        key: KeyName,
    },
    Ignored {
        why: String,
    },
    /// It cannot land: `reference` is neither in the bucket, nor upstream, nor about to be pushed.
    Dangling {
        reference: StorePath,
    },
}

/// Whose narinfos the bucket holds, as far as anybody looked. Made from answers alone: a path that
/// could not be looked for stops the push before a plan is made.
#[derive(Debug, Clone, Default)]
pub struct Presence(pub HashSet<PathHash>);

impl Presence {
    pub fn has(&self, path: &StorePath) -> bool {
        self.0.contains(&path.hash_part())
    }
}

/// The verdict that follows from the path itself.
pub(super) fn of_path(dir: &StoreDir, info: &PathInfo, policy: &Policy, presence: &Presence) -> Verdict {
    if presence.has(&info.path) {
        Verdict::AlreadyPresent
    } else if let Some(key) = policy.upstream_key(dir, info) {
        Verdict::SignedUpstream { key }
    } else if let Some(pattern) = policy.excluded_by(&info.path) {
        Verdict::Ignored { why: format!("excluded by the pattern {:?}", pattern.to_string()) }
    } else {
        Verdict::Upload
    }
}

/// The verdict on a path that would be uploaded, given those on its references.
pub(super) fn of_references(info: &PathInfo, verdicts: &HashMap<StorePath, Verdict>, presence: &Presence) -> Verdict {
    for reference in info.references.iter().filter(|reference| **reference != info.path) {
        match verdicts.get(reference) {
            Some(Verdict::Ignored { .. }) => {
                return Verdict::Ignored { why: format!("refers to {reference}, which is left out") };
            }
            Some(Verdict::Dangling { .. }) => return Verdict::Dangling { reference: reference.clone() },
            None if !presence.has(reference) => return Verdict::Dangling { reference: reference.clone() },
            _ => {}
        }
    }
    Verdict::Upload
}
