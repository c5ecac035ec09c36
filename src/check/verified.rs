//! Which NARs were read and found sound, and when: an interrupted check goes on where it was.
//!
//! The ledger keeps it beside the copies of narinfos, under the NAR's key and ETag. What is remembered is that this
//! version of the object was what these claims say; other claims are checked anew.

use super::data::Wanted;
use crate::ledger::{BucketIdentity, Ledger, Version};
use crate::nix::Sha256;
use crate::record::seconds;
use bytes::Bytes;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

/// What was read longer ago is read again.
const FRESH: Duration = Duration::from_secs(24 * 60 * 60);

pub struct Verified {
    pub ledger: Arc<Ledger>,
    pub identity: BucketIdentity,
}

impl Verified {
    /// Whether each of these was found sound lately. Blocks.
    pub fn are_known(&self, wanted: &[Wanted], now: SystemTime) -> Vec<bool> {
        let versions: Vec<Version> = wanted.iter().filter_map(version).collect();
        let kept: HashMap<String, Bytes> = self.ledger.copies(&self.identity).get(&versions);
        let is_known = |wanted: &Wanted| {
            let text = std::str::from_utf8(kept.get(wanted.info.url.as_str())?).ok()?;
            let (claims, at) = text.split_once(' ')?;
            let age = seconds(now).checked_sub(at.parse().ok()?)?;
            Some(claims == digest(wanted).to_nix32() && age < FRESH.as_secs())
        };
        wanted.iter().map(|wanted| is_known(wanted).unwrap_or(false)).collect()
    }

    /// Remembers these. Blocks.
    pub fn remember(&self, sound: &[Wanted], now: SystemTime) {
        let text = |wanted: &Wanted| Bytes::from(format!("{} {}", digest(wanted).to_nix32(), seconds(now)));
        let kept: Vec<(Version, Bytes)> =
            sound.iter().filter_map(|wanted| Some((version(wanted)?, text(wanted)))).collect();
        self.ledger.copies(&self.identity).keep(&kept);
    }
}

fn version(wanted: &Wanted) -> Option<Version> {
    let key = wanted.info.url.as_str().to_owned();
    (wanted.listed.version != 0).then(|| Version { key, etag: format!("{:016x}", wanted.listed.version) })
}

/// Of all that the data is compared with.
pub fn digest(wanted: &Wanted) -> Sha256 {
    let info = &wanted.info;
    let file = info.file_hash.map(|hash| hash.to_nix32()).unwrap_or_default();
    let mut text = format!("{} {file} {} {}", info.compression, info.nar_hash.to_nix32(), info.nar_size);
    for reference in &info.references {
        text.push(' ');
        text.push_str(reference.as_str());
    }
    Sha256::of(text.as_bytes())
}
