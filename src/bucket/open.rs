//! From settings to a bucket that works.

use super::{Bucket, BucketError, Cause, Directory, Requests, RetryPolicy, Retrying, S3, Target};
use crate::clock::Clock;
use crate::report::Report;
use std::collections::BTreeMap;
use std::sync::Arc;

/// The bucket at `target`, with retries. Sends nothing and creates nothing yet.
///
/// `env` is the process's environment, from which credentials may come; `requests` counts what goes
/// over the wire.
pub async fn open(
    target: &Target,
    env: &BTreeMap<String, String>,
    clock: Arc<dyn Clock>,
    report: Arc<dyn Report>,
    requests: Arc<Requests>,
) -> Result<Arc<dyn Bucket>, BucketError> {
    let settings = match target {
        Target::S3(settings) => settings.clone(),
        // A file system that fails does not recover by being asked again.
        Target::Directory(root) => return Ok(Arc::new(Directory::new(root.clone(), clock))),
    };
    let (name, env, our_clock) = (target.to_string(), env.clone(), clock.clone());
    // Certificates are read from disk.
    let opened = tokio::task::spawn_blocking(move || S3::new(&settings, &env, our_clock, requests)).await;
    let s3 = opened
        .map_err(|error| BucketError::new("open", "the bucket", name, Cause::Io(std::io::Error::other(error))))??;
    Ok(Arc::new(Retrying::new(s3, RetryPolicy::default(), clock, report)))
}
