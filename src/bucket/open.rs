//! From settings to a bucket that works.

use super::{Bucket, BucketError, Directory, Requests, RetryPolicy, Retrying, S3, Target};
use crate::clock::Clock;
use crate::report::Report;
use std::collections::HashMap;
use std::sync::Arc;

/// The bucket at `target`, with retries. Sends nothing and creates nothing yet.
///
/// `env` is the process's environment, from which credentials may come; `requests` counts what goes
/// over the wire.
pub fn open(
    target: &Target,
    env: &HashMap<String, String>,
    clock: Arc<dyn Clock>,
    requests: Arc<Requests>,
    report: Arc<dyn Report>,
) -> Result<Arc<dyn Bucket>, BucketError> {
    Ok(match target {
        Target::S3(settings) => {
            let s3 = S3::new(settings, env, clock.clone(), requests)?;
            Arc::new(Retrying::new(s3, RetryPolicy::default(), clock, report))
        }
        // A file system that fails does not recover by being asked again.
        Target::Directory(root) => Arc::new(Directory::new(root.clone(), clock)),
    })
}
