//! Why there is no new page.

use crate::bucket::BucketError;

#[derive(Debug, thiserror::Error)]
pub enum PageError {
    #[error(
        "index.html of {bucket} was not written by loft, so it stays as it is; remove it, or set status_page = false"
    )]
    Foreign { bucket: String },
    #[error("The status page could not be written")]
    Bucket(#[from] BucketError),
}
