//! Signing and writing narinfos: the only place that makes a path visible.

use super::error::PathError;
use super::lease::Lease;
use super::order::Ready;
use crate::bucket::{Body, Bucket, BucketError, Cause, Headers, Key};
use crate::nix::{NarInfo, PathHash, PathInfo, SecretKey, StoreDir};

/// A path that has landed. Only `publish` makes one.
#[derive(Debug, Clone)]
pub struct Published {
    hash: PathHash,
    nar_size: u64,
    /// Bytes of NAR sent for it.
    sent: u64,
}

impl Published {
    pub fn hash(&self) -> PathHash {
        self.hash
    }

    pub fn nar_size(&self) -> u64 {
        self.nar_size
    }

    pub fn sent(&self) -> u64 {
        self.sent
    }
}

/// Writes the narinfo of `info`, whose NAR and references have landed (`ready` says so).
///
/// What is signed is the digest of the bytes that were sent: `Uploaded` exists only where that
/// digest is the one that the store registered.
pub async fn publish(
    bucket: &dyn Bucket,
    lease: &Lease,
    dir: &StoreDir,
    keys: &[SecretKey],
    info: &PathInfo,
    ready: Ready,
) -> Result<Published, PathError> {
    let nar = ready.uploaded;
    let mut nar_info = NarInfo {
        path: info.path.clone(),
        url: nar.url().clone(),
        compression: nar.compression(),
        file_hash: Some(nar.file_hash()),
        file_size: Some(nar.file_size()),
        nar_hash: nar.nar_hash(),
        nar_size: nar.nar_size(),
        references: info.references.clone(),
        deriver: info.deriver.clone(),
        signatures: info.signatures.clone(),
        ca: info.ca.clone(),
    };
    let fingerprint = nar_info.fingerprint(dir);
    for key in keys {
        let signature = key.sign(&fingerprint);
        if !nar_info.signatures.contains(&signature) {
            nar_info.signatures.push(signature);
        }
    }
    put(bucket, lease, dir, &nar_info).await?;
    Ok(Published { hash: info.path.hash_part(), nar_size: nar.nar_size().get(), sent: nar.charge() })
}

/// Writes a narinfo that was in the bucket before: one that comes back from trash, or with more signatures. `lease` names
/// it and all its references, and under it the caller has seen the NAR and the references.
pub async fn republish(
    bucket: &dyn Bucket,
    lease: &Lease,
    dir: &StoreDir,
    nar_info: &NarInfo,
) -> Result<(), PathError> {
    put(bucket, lease, dir, nar_info).await
}

/// Writes a damaged narinfo back, byte for byte: whoever set it aside has changed his mind. It promises nothing.
pub async fn put_as_it_was(bucket: &dyn Bucket, path: &PathHash, bytes: Vec<u8>) -> Result<(), BucketError> {
    bucket.put(&Key::nar_info(path), Body::from(bytes::Bytes::from(bytes)), Headers::NAR_INFO).await
}

/// Without the lease, a prune may be deleting what this path refers to: the path must not become visible later than that,
/// not even by a request that was held up or tried again.
async fn put(bucket: &dyn Bucket, lease: &Lease, dir: &StoreDir, nar_info: &NarInfo) -> Result<(), PathError> {
    let within = lease.remaining()?;
    let body = Body::from(bytes::Bytes::from(nar_info.print(dir)));
    let writing = lease.writing();
    let put = bucket.put_before(&Key::nar_info(&nar_info.path.hash_part()), body, Headers::NAR_INFO, within).await;
    // Of several tries, each but the last may be on its way still.
    if put.as_ref().err().is_none_or(|error| error.effort.tries <= 1 && !error.is_ambiguous()) {
        writing.settled();
    }
    put.map_err(|error| match (&error.cause, lease.remaining()) {
        (Cause::Expired, Err(lost)) => lost,
        _ => error.into(),
    })
}
