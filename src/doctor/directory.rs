//! A cache in a directory.

use super::cache::{Cache, is_cache};
use super::finding::{Check, Code, Notes};
use super::judge::Owner;
use super::{Patient, samples, storage};
use crate::bucket::Directory;
use crate::config::Loaded;
use crate::nix::PublicKey;
use crate::remedy::chain;
use std::path::Path;

/// All that needs a cache to write to.
const WRITING: [Check; 5] =
    [Check::Permissions, Check::Consistency, Check::Conditions, Check::Checksums, Check::Lifecycle];

const CONTENT: [Check; 3] = [Check::CacheInfo, Check::Record, Check::Signatures];

pub async fn look(patient: &Patient, loaded: &Loaded, root: &Path, keys: &[PublicKey], notes: &mut Notes) -> Cache {
    let mut cache = Cache::default();
    notes.without(Check::Clock, "the cache is a directory");
    if !is_usable(patient, root, notes) {
        notes.skip(&WRITING, Check::Bucket, "the directory cannot be used");
        notes.skip(&CONTENT, Check::Bucket, "the directory cannot be used");
        return cache;
    }
    let bucket = Directory::new(root.to_owned(), patient.clock.clone());
    match is_cache(&bucket).await {
        // Nothing is made in a place that may be none of ours.
        Ok(false) => {
            let why = "nothing has been pushed there yet";
            WRITING.into_iter().chain(CONTENT).for_each(|check| notes.without(check, why));
        }
        Ok(true) => {
            if patient.probe {
                notes.without(Check::Checksums, "the cache is a directory");
            }
            storage::look(patient, loaded, &bucket, &Owner::User(root), false, notes).await;
            samples::look(patient, loaded, &bucket, keys, &mut cache, notes).await;
        }
        Err(error) => {
            let why = format!("it cannot be read: {}", chain(&error));
            notes.skip(&WRITING, Check::Bucket, &why);
            notes.skip(&CONTENT, Check::Bucket, &why);
        }
    }
    cache
}

fn is_usable(patient: &Patient, root: &Path, notes: &mut Notes) -> bool {
    let shown = root.display();
    let parent = root.parent().unwrap_or(root);
    match std::fs::metadata(root) {
        Ok(metadata) if !metadata.is_dir() => {
            notes.fault(Code::BucketMissing, format!("{shown} is not a directory"), "name a directory in file://…");
            return false;
        }
        Ok(_) if !patient.machine.may_write(root) => {
            let says = format!("{shown} cannot be written by this user");
            notes.fault(
                Code::DirectoryUnwritable,
                says,
                format!("see who owns it, and how it is mounted: ls -ld {shown}"),
            );
            return false;
        }
        Ok(_) => notes.fine(Check::Bucket, format!("{shown} is there")),
        Err(_) if parent.is_dir() && patient.machine.may_write(parent) => {
            notes.fine(Check::Bucket, format!("{shown} is not there yet; the first push makes it"));
        }
        Err(_) if parent.is_dir() => {
            let says = format!("{shown} is not there, and this user cannot make it");
            notes.fault(
                Code::DirectoryUnwritable,
                says,
                format!("make it, and let the user that pushes own it: {shown}"),
            );
            return false;
        }
        Err(error) => {
            let says = format!("neither {shown} nor the directory above it is there: {error}");
            notes.fault(Code::BucketMissing, says, "mount what belongs there, or correct the path");
            return false;
        }
    }
    true
}
