//! The status page: `index.html` of the bucket, for whoever opens it in a browser.
//!
//! It is one file that asks nobody for anything else, and tells nothing that a reader of the cache could not find out:
//! no machine's name, no local path, no credentials. What lies in a bucket is not trusted: all of it is escaped.

mod error;
mod html;
mod plot;

pub use error::PageError;
pub use html::html;

use crate::bucket::{Body, Bucket, Headers, Key, S3Settings, Target};
use crate::nix::PublicKey;
use crate::setup::{Reading, Substituter};
use crate::survey::{Depth, Survey, survey};
use bytes::Bytes;

/// No page of ours is larger.
const LIMIT: u64 = 1 << 20;
/// Stands in the head of each page that loft wrote; others are not written over.
const MARK: &str = "<meta name=\"generator\" content=\"loft status page\">";

/// What a bucket does not say of itself.
#[derive(Debug, Clone, Default)]
pub struct Page {
    /// What readers need; nothing where only this machine could read so.
    pub reading: Option<Reading>,
}

impl Page {
    /// For a cache that everybody reads at `public_url`, or those who have credentials at `target`.
    pub fn new(target: &Target, public_url: Option<&str>, public_keys: Vec<PublicKey>) -> Self {
        let substituter = match (public_url, target) {
            (Some(url), _) => Substituter::parse(url, None).ok(),
            // The name of a profile is this machine's own.
            (None, Target::S3(settings)) => {
                Substituter::of(&Target::S3(S3Settings { profile: None, ..settings.clone() }), None).ok()
            }
            (None, Target::Directory(_)) => None,
        };
        let reading = substituter.map(|substituter| Reading { substituter, public_keys, netrc_file: None });
        Self { reading: reading.filter(|reading| !reading.public_keys.is_empty()) }
    }
}

/// Looks at the bucket, as `loft status` does, and writes its page.
pub async fn write(bucket: &dyn Bucket, page: &Page) -> Result<(), PageError> {
    let found = survey(bucket, Depth::Sample).await?;
    publish(bucket, &found, page).await
}

/// Writes the page of what was found.
pub async fn publish(bucket: &dyn Bucket, found: &Survey, page: &Page) -> Result<(), PageError> {
    let key = Key::status_page();
    if let Some(info) = bucket.head(&key).await? {
        let is_ours = info.size <= LIMIT
            && match bucket.get(&key, LIMIT).await? {
                Some((_, bytes)) => bytes.windows(MARK.len()).any(|part| part == MARK.as_bytes()),
                None => true,
            };
        if !is_ours {
            return Err(PageError::Foreign { bucket: bucket.describe() });
        }
    }
    bucket.put(&key, Body::from(Bytes::from(html(found, page))), Headers::PAGE).await?;
    Ok(())
}
