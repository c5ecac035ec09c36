//! Whether everybody can read the bucket, and where; switched on if that was asked for.

use super::SetupError;
use crate::bucket::{Bucket, BucketError, CacheInfo, Key, Public, PublicError, S3, Switch, Target, read_publicly};
use crate::record::BucketRecord;
use crate::remedy::chain;
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

/// Both objects are short.
const LIMIT: usize = 64 * 1024;

/// Garage's nodes take a moment to hear of a switch.
const LOOKS: u32 = 10;
const BETWEEN_LOOKS: Duration = Duration::from_millis(300);

/// Who can read without credentials.
#[derive(Debug)]
pub enum Access {
    /// Everybody, at this address.
    Everybody { url: String, switched: bool },
    /// Nobody at this address, and why; what came of an attempt to change that.
    Nobody { url: String, why: Obstacle, tried: Option<Result<Switch, BucketError>> },
    /// A directory: whoever can read its files.
    Directory,
    /// A dry run would switch it on.
    WouldSwitch { url: String },
}

/// Why this cache cannot be read at an address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Obstacle {
    /// Readers must not be sent there.
    AnotherCache,
    Other(String),
}

impl fmt::Display for Obstacle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::AnotherCache => "another cache is there",
            Self::Other(why) => why,
        })
    }
}

/// What is asked.
pub struct Question<'a> {
    pub target: &'a Target,
    /// Where everybody should be able to read; else the bucket's own address is tried.
    pub url: Option<&'a str>,
    /// Whether to let everybody read.
    pub switch: bool,
    /// To tell this cache from another; nothing in a dry run before it exists.
    pub generation: Option<&'a str>,
    pub dry_run: bool,
}

pub async fn look(bucket: &dyn Bucket, question: &Question<'_>) -> Result<Access, SetupError> {
    let (url, ca_file) = match (question.url, question.target) {
        (Some(url), target) => (url.to_owned(), ca_file(target)),
        (None, Target::S3(settings)) => (S3::plain_url(settings)?, settings.ca_file.clone()),
        (None, Target::Directory(_)) => return Ok(Access::Directory),
    };
    let Some(mut why) = obstacle(&url, &ca_file, question.generation).await? else {
        return Ok(Access::Everybody { url, switched: false });
    };
    // Nobody is let in here for the sake of an address that is another cache's.
    if !question.switch || why == Obstacle::AnotherCache {
        return Ok(Access::Nobody { url, why, tried: None });
    }
    if question.dry_run {
        return Ok(Access::WouldSwitch { url });
    }
    let tried = bucket.open_to_all().await;
    if !matches!(tried, Ok(Switch::On)) {
        return Ok(Access::Nobody { url, why, tried: Some(tried) });
    }
    for _ in 0..LOOKS {
        match obstacle(&url, &ca_file, question.generation).await? {
            None => return Ok(Access::Everybody { url, switched: true }),
            Some(still) => why = still,
        }
        tokio::time::sleep(BETWEEN_LOOKS).await;
    }
    Ok(Access::Nobody { url, why, tried: Some(tried) })
}

fn ca_file(target: &Target) -> Option<PathBuf> {
    match target {
        Target::S3(settings) => settings.ca_file.clone(),
        Target::Directory(_) => None,
    }
}

/// Why this cache cannot be read there; nothing where it can. A URL that is none is an error.
async fn obstacle(
    url: &str,
    ca_file: &Option<PathBuf>,
    generation: Option<&str>,
) -> Result<Option<Obstacle>, PublicError> {
    let other = |why: &str| Ok(Some(Obstacle::Other(why.to_owned())));
    let read = async |key: &Key| match read_publicly(url, key, ca_file.clone(), LIMIT).await {
        Err(PublicError::Request { cause, .. }) => Ok(Err(chain(&cause))),
        Err(error) => Err(error),
        Ok(answer) => Ok(Ok(answer)),
    };
    let info = match read(&Key::cache_info()).await? {
        Err(why) => return other(&why),
        Ok(Public::Read(bytes)) => bytes,
        Ok(Public::Absent) => return other("there is no nix-cache-info (404)"),
        Ok(Public::Refused) => return other("it wants credentials (403)"),
        Ok(Public::Odd(status)) => return other(&format!("the answer is {status}")),
    };
    if CacheInfo::parse(&info).is_err() {
        return other("what is there is no nix-cache-info");
    }
    let Some(generation) = generation else { return Ok(None) };
    // Every cache has the same nix-cache-info, but a record of its own. It may be kept from the public.
    let key = Key::bucket_record();
    if let Ok(Public::Read(bytes)) = read(&key).await?
        && let Ok(record) = BucketRecord::parse(key.as_str(), &bytes)
        && record.generation != generation
    {
        return Ok(Some(Obstacle::AnotherCache));
    }
    Ok(None)
}
