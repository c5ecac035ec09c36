//! Deciding: every path of a closure gets a verdict; nothing is filtered in silence.
//!
//! `decide` is a pure function over the store's graph, the policy and what was seen of the bucket.
//! Its result can be printed (`--dry-run`) and then handed to `push`.

mod policy;
mod verdict;

pub use policy::{Pattern, PatternError, Policy, UpstreamKey};
pub use verdict::{Planned, Presence, Verdict};

use crate::nix::{PathInfo, StoreDir, StorePath};
use crate::report::Counts;
use std::collections::{BTreeSet, HashMap};

/// A closure with a verdict for each path, references before referrers.
#[derive(Debug, Clone)]
pub struct Plan {
    pub store_dir: StoreDir,
    pub paths: Vec<Planned>,
    /// Asked for, but not valid in the store; none of them is in `paths`.
    pub invalid: Vec<StorePath>,
}

/// Decides over `closure`, which is in topological order (references first).
///
/// A path that refers to an ignored one, or to one that is nowhere to be had, is not uploaded
/// either: its narinfo would promise what the cache cannot keep.
pub fn decide(
    store_dir: StoreDir,
    closure: Vec<PathInfo>,
    invalid: Vec<StorePath>,
    policy: &Policy,
    presence: &Presence,
) -> Plan {
    let mut verdicts: HashMap<StorePath, Verdict> = HashMap::with_capacity(closure.len());
    let mut paths = Vec::with_capacity(closure.len());
    for info in closure {
        let own = verdict::of_path(&store_dir, &info, policy, presence);
        let verdict = match own {
            Verdict::Upload => verdict::of_references(&info, &verdicts, presence).unwrap_or(Verdict::Upload),
            other => other,
        };
        verdicts.insert(info.path.clone(), verdict.clone());
        paths.push(Planned { info, verdict });
    }
    Plan { store_dir, paths, invalid }
}

impl Plan {
    pub fn counts(&self) -> Counts {
        let mut counts = Counts {
            considered: (self.paths.len() + self.invalid.len()) as u64,
            invalid: self.invalid.len() as u64,
            ..Counts::default()
        };
        for planned in &self.paths {
            match &planned.verdict {
                Verdict::Upload => {
                    counts.upload += 1;
                    counts.upload_nar_size += planned.info.nar_size.map_or(0, u64::from);
                }
                Verdict::AlreadyPresent => counts.present += 1,
                Verdict::SignedUpstream { .. } => counts.upstream += 1,
                Verdict::Ignored { .. } => counts.ignored += 1,
            }
        }
        counts
    }

    pub fn uploads(&self) -> impl Iterator<Item = &Planned> {
        self.paths.iter().filter(|planned| planned.verdict == Verdict::Upload)
    }

    /// References of uploaded paths that were left to upstream caches, so that a check of the
    /// bucket knows them for what they are.
    pub fn external(&self) -> Vec<StorePath> {
        let upstream: BTreeSet<&StorePath> = self
            .paths
            .iter()
            .filter(|planned| matches!(planned.verdict, Verdict::SignedUpstream { .. }))
            .map(|planned| &planned.info.path)
            .collect();
        let referenced: BTreeSet<&StorePath> = self
            .uploads()
            .flat_map(|planned| &planned.info.references)
            .filter(|path| upstream.contains(path))
            .collect();
        referenced.into_iter().cloned().collect()
    }
}
