//! What the cache says of itself, and by whom a few of its paths are signed.

use super::Patient;
use super::cache::{Cache, limited};
use super::finding::{Check, Code, Notes};
use crate::bucket::{Bucket, CacheInfo, Key, Kind, Page, Prefix};
use crate::config::Loaded;
use crate::nix::{NarInfo, PublicKey, StoreDir};
use crate::record::{BucketRecord, RecordError};
use crate::remedy::chain;
use crate::store::Location;
use std::collections::BTreeSet;

/// Both objects are short; a narinfo of a thousand references is as well.
const SHORT: u64 = 1 << 20;

/// So many narinfos are read, the newest of the first page.
const MOST: usize = 4;

pub async fn look(
    patient: &Patient,
    loaded: &Loaded,
    bucket: &dyn Bucket,
    keys: &[PublicKey],
    cache: &mut Cache,
    notes: &mut Notes,
) {
    const ALL: [Check; 3] = [Check::CacheInfo, Check::Record, Check::Signatures];
    if notes.0.iter().any(|finding| finding.code() == Some(Code::MayNotRead)) {
        return notes.skip(&ALL, Check::Permissions, "the bucket cannot be read");
    }
    let page = match limited(patient, bucket.list(&Prefix::all(), None)).await {
        Ok(page) => page,
        Err(error) => {
            return notes.skip(&ALL, Check::Permissions, &format!("it cannot be listed: {}", chain(&error)));
        }
    };
    let dir = cache_info(patient, loaded, bucket, cache, &page, notes).await;
    record(patient, bucket, cache, notes).await;
    let mut newest: Vec<_> =
        page.objects.into_iter().filter(|object| matches!(object.key.kind(), Kind::NarInfo(_))).collect();
    newest.sort_by_key(|object| std::cmp::Reverse(object.modified));
    for object in newest.into_iter().take(MOST) {
        if let Ok(Some((_, bytes))) = limited(patient, bucket.get(&object.key, SHORT)).await {
            // `loft check` tells about those that cannot be read.
            cache.samples.extend(NarInfo::parse(&dir, &bytes));
        }
    }
    cache.dir = dir;
    signatures(keys, cache, notes);
}

/// The store directory that the paths are of.
async fn cache_info(
    patient: &Patient,
    loaded: &Loaded,
    bucket: &dyn Bucket,
    cache: &mut Cache,
    page: &Page,
    notes: &mut Notes,
) -> StoreDir {
    let own = Location::find(&loaded.settings.store).map(|location| location.store_dir).unwrap_or_default();
    let found = match limited(patient, bucket.get(&Key::cache_info(), SHORT)).await {
        Ok(Some((_, bytes))) => bytes,
        Ok(None) if page.objects.iter().any(|object| matches!(object.key.kind(), Kind::NarInfo(_))) => {
            let says = "there are paths, but no nix-cache-info, so that Nix takes the bucket for no cache";
            notes.fault(Code::CacheInfoMissing, says, "`loft check --repair` writes it, and so does the next push");
            return own;
        }
        Ok(None) => {
            notes.without(Check::CacheInfo, "it is not there yet; `loft init` or the first push writes it");
            return own;
        }
        Err(error) => {
            let says = format!("it cannot be read: {}", chain(&error));
            notes.fault(
                Code::CacheInfoMalformed,
                says,
                "look at what stands there; `loft check --repair` writes it anew",
            );
            return own;
        }
    };
    cache.has_info = true;
    match CacheInfo::parse(&found) {
        Err(error) => {
            let way_out = "`loft check --repair` writes it anew";
            notes.fault(Code::CacheInfoMalformed, format!("it is malformed: {error}"), way_out);
            own
        }
        Ok(CacheInfo { store_dir: None, .. }) => {
            let says = "it has no StoreDir, so that readers assume their own";
            notes.fault(Code::CacheInfoVague, says, format!("add the line StoreDir: {own}"));
            own
        }
        Ok(CacheInfo { store_dir: Some(dir), priority, .. }) => {
            if dir == own {
                let priority = priority.map_or(50, |priority| priority);
                notes.fine(Check::CacheInfo, format!("StoreDir {dir}, priority {priority}"));
            } else {
                let says = format!("it is for paths in {dir}, and the store here is {own}");
                notes.fault(
                    Code::CacheInfoOtherStore,
                    says,
                    "push into another bucket or prefix, or from another store",
                );
            }
            dir
        }
    }
}

async fn record(patient: &Patient, bucket: &dyn Bucket, cache: &mut Cache, notes: &mut Notes) {
    let key = Key::bucket_record();
    let bytes = match limited(patient, bucket.get(&key, SHORT)).await {
        Ok(Some((_, bytes))) => bytes,
        Ok(None) => {
            return notes.without(Check::Record, "it is not there yet; `loft init` or the first push writes it");
        }
        Err(error) => {
            let way_out = "look at what stands there; `loft check --repair` writes it anew";
            return notes.fault(Code::RecordUnreadable, format!("{key}: {}", chain(&error)), way_out);
        }
    };
    match BucketRecord::parse(key.as_str(), &bytes) {
        Ok(record) => {
            notes.fine(Check::Record, format!("generation {}", record.generation));
            cache.upstreams = record.upstreams;
            cache.record = Some(bytes);
        }
        Err(error @ RecordError::Newer { .. }) => {
            notes.fault(Code::RecordNewer, chain(&error), "install a newer loft on this machine");
        }
        Err(error) => {
            notes.fault(Code::RecordUnreadable, chain(&error), "`loft check --repair` writes it anew");
        }
    }
}

fn signatures(keys: &[PublicKey], cache: &mut Cache, notes: &mut Notes) {
    let (dir, samples) = (&cache.dir, &cache.samples);
    if samples.is_empty() {
        return notes.without(Check::Signatures, "there are no paths to look at");
    }
    let mut names = BTreeSet::new();
    let (mut fits, mut differs) = (0, None);
    for info in samples {
        let print = info.fingerprint(dir);
        let mut is_own = false;
        for signature in &info.signatures {
            names.insert(signature.key().to_string());
            match keys.iter().find(|key| key.name() == signature.key()) {
                Some(key) if key.verifies(&print, signature) => is_own = true,
                Some(key) => differs = Some(key.clone()),
                None => {}
            }
        }
        fits += usize::from(is_own);
    }
    let names = if names.is_empty() { "nobody".to_owned() } else { names.into_iter().collect::<Vec<_>>().join(", ") };
    let newest = match samples.len() {
        1 => "the newest path is".to_owned(),
        count => format!("the {count} newest paths are"),
    };
    match (&differs, keys.is_empty()) {
        (Some(own), _) => notes.fault(
            Code::KeyDiffers,
            format!(
                "two keys have the name {}: this machine signs with {own}, and paths here are signed with another one",
                own.name()
            ),
            "put that other key back as signing_key_path if there is a copy; if not, make one of a new name (`loft key \
             generate`), sign what is here with it (`loft sign`), and give readers its public key: docs/security.md tells how",
        ),
        (None, true) => notes.fine(Check::Signatures, format!("{newest} signed by {names}")),
        (None, false) if fits < samples.len() => notes.fault(
            Code::SignedByOthers,
            match fits {
                0 => format!("{newest} signed by {names}, not by this machine's key"),
                fits => format!("{newest} signed by {names}, but only {fits} by this machine's key"),
            },
            "`loft sign` adds this key's signature to what is there; clients trust either",
        ),
        (None, false) => notes.fine(Check::Signatures, format!("{newest} signed by this machine's key")),
    }
    cache.ambiguous = differs;
}
