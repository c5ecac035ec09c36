//! What the store does with what is written to it.

use super::cache::limited;
use super::finding::{Check, Code, Notes};
use super::judge::Owner;
use super::{Patient, judge};
use crate::bucket::permissions::{Action, Permissions, probe};
use crate::bucket::{Body, Bucket, BucketError, Headers, Key};
use crate::config::Loaded;
use crate::nix::Sha256;
use crate::remedy::chain;
use bytes::Bytes;
use ulid::Ulid;

/// What writing shows.
pub async fn look(
    patient: &Patient,
    loaded: &Loaded,
    bucket: &dyn Bucket,
    owner: &Owner<'_>,
    is_plain: bool,
    notes: &mut Notes,
) {
    if !patient.probe {
        for check in [Check::Permissions, Check::Consistency, Check::Conditions, Check::Checksums, Check::Lifecycle] {
            notes.without(check, "nothing was to be written");
        }
        return;
    }
    let found = probe(bucket, patient.clock.wall(), patient.patience).await;
    judge::permissions(&found, owner, loaded.settings.prune.enabled, notes);
    judge::oddities(&found, notes);
    let scratch = scratch(patient, &found);
    checksums(patient, bucket, &scratch, &found, is_plain, notes).await;
    match limited(patient, bucket.quirks(&scratch)).await {
        Ok(quirks) => judge::quirks(&quirks, notes),
        Err(error) => {
            let why = format!("it could not be tried: {}", chain(&error));
            notes.skip(&[Check::Conditions, Check::Lifecycle], Check::Permissions, &why);
        }
    }
}

fn scratch(patient: &Patient, found: &Permissions) -> Key {
    match found.allows(Action::Delete) {
        true => Key::probe(Ulid::from_datetime(patient.clock.wall())),
        false => Key::kept_probe(),
    }
}

/// Whether a body that is not what its signed digest says is refused.
async fn checksums(
    patient: &Patient,
    bucket: &dyn Bucket,
    scratch: &Key,
    found: &Permissions,
    is_plain: bool,
    notes: &mut Notes,
) {
    if notes.0.iter().any(|finding| finding.check == Check::Checksums) {
        return;
    }
    if !found.allows(Action::Put) {
        return notes.skip(&[Check::Checksums], Check::Permissions, "nothing could be written");
    }
    let body = Body { bytes: Bytes::from_static(b"{}"), sha256: Some(Sha256::of(b"something else")) };
    let put = limited(patient, bucket.put(scratch, body, Headers::RECORD)).await;
    if put.as_ref().err().is_none_or(BucketError::is_ambiguous) {
        // What cannot be removed was told as a permission that is missing.
        let _ = limited(patient, bucket.delete(scratch)).await;
    }
    match put {
        Err(error) if error.cause.refusal().is_some() => {
            notes.fine(Check::Checksums, "a body that is not what its digest says is refused");
        }
        Err(error) => notes.without(Check::Checksums, &format!("it could not be tried: {}", chain(&error))),
        Ok(()) if is_plain => {
            let says =
                "the server takes bodies that are not what their digest says, and nothing else guards plain http";
            notes.fault(Code::DigestsUnchecked, says, "use https; `loft check --read-data` finds what was damaged");
        }
        Ok(()) => notes.fine(Check::Checksums, "the server does not compare digests; TLS guards what is sent"),
    }
}
