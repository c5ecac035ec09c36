//! What the user said about which paths belong into the cache.

use super::Pattern;
use crate::nix::{Fingerprint, KeyName, PathInfo, PublicKey, StoreDir, StorePath};

/// Rules that do not depend on the bucket.
#[derive(Debug, Clone, Default)]
pub struct Policy {
    /// Paths that carry a signature of one of these are left to the caches that serve them.
    pub skip_signed_by: Vec<UpstreamKey>,
    /// Paths that match are never uploaded, and so is nothing that refers to them.
    pub exclude: Vec<Pattern>,
}

/// A key whose paths clients get elsewhere.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UpstreamKey {
    pub name: KeyName,
    /// With it signatures are verified; without it the name is believed.
    pub public: Option<PublicKey>,
}

impl Policy {
    /// The upstream key that `info` is signed by, if any.
    pub fn upstream_key(&self, dir: &StoreDir, info: &PathInfo) -> Option<KeyName> {
        let signed = |upstream: &&UpstreamKey| {
            info.signatures.iter().any(|signature| match &upstream.public {
                None => *signature.key() == upstream.name,
                Some(public) => Fingerprint::of_info(dir, info).is_some_and(|print| public.verifies(&print, signature)),
            })
        };
        self.skip_signed_by.iter().find(signed).map(|upstream| upstream.name.clone())
    }

    pub fn excluded_by(&self, path: &StorePath) -> Option<&Pattern> {
        self.exclude.iter().find(|pattern| pattern.matches(path))
    }
}
