//! Deciding: every path of a closure gets a verdict; nothing is filtered in silence.
//!
//! `decide` is a pure function over the store's graph, the policy and what was seen of the bucket.
//! Its result can be printed (`--dry-run`) and then handed to `push`.

mod gather;
mod pattern;
mod policy;
mod verdict;

pub use gather::{Gathered, Request, gather, protect};
pub use pattern::{Pattern, PatternError};
pub use policy::{Policy, UpstreamKey};
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
    /// References of uploaded and present paths that are left to upstream caches, so that a check of the bucket
    /// knows them for what they are.
    pub external: Vec<StorePath>,
}

/// What there is to decide over.
#[derive(Debug, Clone, Default)]
pub struct Candidates {
    /// In topological order: references first.
    pub paths: Vec<PathInfo>,
    /// References of `paths` that are not to be pushed themselves (`--no-closure`).
    pub neighbours: Vec<PathInfo>,
    /// Asked for, but not valid.
    pub invalid: Vec<StorePath>,
}

/// Decides over `candidates`.
///
/// A path that refers to an ignored one, or to one that is nowhere to be had, is not uploaded
/// either: its narinfo would promise what the cache cannot keep.
pub fn decide(store_dir: StoreDir, candidates: Candidates, policy: &Policy, presence: &Presence) -> Plan {
    let mut verdicts: HashMap<StorePath, Verdict> = HashMap::with_capacity(candidates.paths.len());
    for info in &candidates.neighbours {
        match verdict::of_path(&store_dir, info, policy, presence) {
            // It would have to be pushed, and that was not asked for.
            Verdict::Upload => {}
            verdict => _ = verdicts.insert(info.path.clone(), verdict),
        }
    }
    let mut external = BTreeSet::new();
    let mut paths = Vec::with_capacity(candidates.paths.len());
    for info in candidates.paths {
        let own = verdict::of_path(&store_dir, &info, policy, presence);
        let verdict = match own {
            Verdict::Upload => verdict::of_references(&info, &verdicts, presence),
            other => other,
        };
        // Also of what is present: each push record says it anew, since older records expire.
        if matches!(verdict, Verdict::Upload | Verdict::AlreadyPresent) {
            let elsewhere =
                |reference: &&StorePath| matches!(verdicts.get(*reference), Some(Verdict::SignedUpstream { .. }));
            external.extend(info.references.iter().filter(elsewhere).cloned());
        }
        verdicts.insert(info.path.clone(), verdict.clone());
        paths.push(Planned { info, verdict });
    }
    Plan { store_dir, paths, invalid: candidates.invalid, external: external.into_iter().collect() }
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
                Verdict::Dangling { .. } => counts.dangling += 1,
            }
        }
        counts
    }

    pub fn uploads(&self) -> impl Iterator<Item = &Planned> {
        self.paths.iter().filter(|planned| planned.is_upload())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nix::Sha256;

    fn path(digit: char, name: &str) -> StorePath {
        StorePath::parse(&format!("{}-{name}", digit.to_string().repeat(32))).unwrap()
    }

    fn info(path: &StorePath, references: &[&StorePath]) -> PathInfo {
        PathInfo {
            path: path.clone(),
            nar_hash: Sha256::of(path.as_str().as_bytes()),
            nar_size: std::num::NonZeroU64::new(100),
            references: references.iter().map(|r| (*r).clone()).collect(),
            deriver: None,
            ultimate: true,
            signatures: vec![],
            ca: None,
        }
    }

    fn verdicts(plan: &Plan) -> Vec<&Verdict> {
        plan.paths.iter().map(|planned| &planned.verdict).collect()
    }

    #[test]
    fn what_is_excluded_takes_its_referrers_with_it() {
        let (a, b, c) = (path('a', "secret"), path('b', "b"), path('c', "c"));
        let candidates =
            Candidates { paths: vec![info(&a, &[&a]), info(&b, &[&a]), info(&c, &[])], ..Candidates::default() };
        let policy = Policy { exclude: vec![Pattern::parse("secret*").unwrap()], ..Policy::default() };
        let plan = decide(StoreDir::default(), candidates.clone(), &policy, &Presence::default());
        assert!(matches!(verdicts(&plan)[..], [Verdict::Ignored { .. }, Verdict::Ignored { .. }, Verdict::Upload]));
        assert_eq!(plan.counts().ignored, 2);

        // Once it is in the bucket all the same, nothing dangles.
        let there = Presence([a.hash_part()].into());
        let plan = decide(StoreDir::default(), candidates, &policy, &there);
        assert_eq!(verdicts(&plan), [&Verdict::AlreadyPresent, &Verdict::Upload, &Verdict::Upload]);
    }

    #[test]
    fn without_the_closure_references_must_be_somewhere() {
        let (a, b) = (path('a', "a"), path('b', "b"));
        let candidates =
            Candidates { paths: vec![info(&b, &[&a])], neighbours: vec![info(&a, &[])], ..Candidates::default() };
        let plan = decide(StoreDir::default(), candidates.clone(), &Policy::default(), &Presence::default());
        assert_eq!(verdicts(&plan), [&Verdict::Dangling { reference: a.clone() }]);
        let there = Presence([a.hash_part()].into());
        let plan = decide(StoreDir::default(), candidates, &Policy::default(), &there);
        assert_eq!(verdicts(&plan), [&Verdict::Upload]);
    }

    #[test]
    fn counts_add_up() {
        let (a, b) = (path('a', "a"), path('b', "b"));
        let candidates = Candidates {
            paths: vec![info(&a, &[]), info(&b, &[&a])],
            invalid: vec![path('c', "c")],
            ..Candidates::default()
        };
        let there = Presence([a.hash_part()].into());
        let counts = decide(StoreDir::default(), candidates, &Policy::default(), &there).counts();
        let expected =
            Counts { considered: 3, present: 1, upload: 1, invalid: 1, upload_nar_size: 100, ..Counts::default() };
        assert_eq!(counts, expected);
    }
}
