//! Why nothing could be set up.

use crate::bucket::{BucketError, PublicError};
use crate::config::ConfigError;
use crate::nix::{KeyError, KeyName};
use crate::push::PushError;
use crate::store::StoreError;
use std::io;
use std::path::PathBuf;

/// What was being done, to what; the cause is its source.
#[derive(Debug, thiserror::Error)]
pub enum SetupError {
    #[error(transparent)]
    Bucket(#[from] BucketError),
    /// There is no bucket, and these credentials may not make one.
    #[error("{error}")]
    Create {
        #[source]
        error: Box<BucketError>,
        hint: String,
    },
    /// The bucket is there, but not for these credentials.
    #[error("{error}")]
    Access {
        #[source]
        error: Box<BucketError>,
        hint: String,
    },
    /// `nix-cache-info` or `loft/v1/bucket.json` is not what this store needs.
    #[error(transparent)]
    Cache(#[from] PushError),
    #[error("Could not tell which store directory the cache is for")]
    Store(#[from] StoreError),
    #[error(transparent)]
    Config(#[from] ConfigError),
    #[error(transparent)]
    Public(#[from] PublicError),
    #[error(transparent)]
    Key(#[from] KeyError),
    #[error("Key file {} is there, and its key calls itself {found}, not {wanted}", file.display())]
    KeyName { file: PathBuf, found: KeyName, wanted: KeyName },
    #[error("No folder is known for a signing key: neither XDG_CONFIG_HOME nor HOME is set")]
    NoKeyFolder,
    #[error("Could not write {}", file.display())]
    Write { file: PathBuf, source: io::Error },
    #[error("Could not read {}", file.display())]
    Read { file: PathBuf, source: io::Error },
    #[error(
        "{} is made from this system's configuration ({}), and cannot be written",
        file.display(), real.display()
    )]
    Generated { file: PathBuf, real: PathBuf },
    #[error("{} is a link to {}, which is not there", file.display(), target.display())]
    Dangling { file: PathBuf, target: PathBuf },
    #[error("{}: line {line} is not UTF-8, so that nothing can be added to the file", file.display())]
    NotUtf8 { file: PathBuf, line: usize },
    #[error("{} names this cache already, as {found}", file.display())]
    OtherWay { file: PathBuf, found: String },
    #[error("{} trusts another key of the name {name}: Nix would go by one of the two alone", file.display())]
    OtherKey { file: PathBuf, name: KeyName },
    #[error("{} has netrc-file = {found} already, and there can be but one", file.display())]
    OtherNetrc { file: PathBuf, found: String },
}

impl SetupError {
    /// What to do about it, where the error does not say so itself.
    pub fn hint(&self) -> Option<String> {
        Some(match self {
            Self::Create { hint, .. } | Self::Access { hint, .. } => hint.clone(),
            Self::KeyName { .. } => "leave --key-name out, or name another file with --signing-key FILE".to_owned(),
            Self::NoKeyFolder => "name the key's file with --signing-key FILE".to_owned(),
            Self::Cache(PushError::OtherStoreDir { .. }) => {
                "it is never overwritten; with --store loft goes by another store of this machine".to_owned()
            }
            Self::Cache(PushError::CacheInfo { .. }) => {
                "it is never overwritten; look at it, and remove it if it means nothing".to_owned()
            }
            Self::OtherKey { .. } => {
                "remove the line of the key that is no longer right, then run this again".to_owned()
            }
            Self::Dangling { target, .. } => {
                format!("make {} (an empty file will do), or remove the link", target.display())
            }
            Self::NotUtf8 { file, .. } => {
                format!(
                    "see what it is: iconv -f UTF-8 {} >/dev/null; correct it there, then run this again",
                    file.display()
                )
            }
            Self::OtherWay { .. } => {
                "loft changes but the file that it writes to: remove it there, then run this again".to_owned()
            }
            Self::OtherNetrc { found, .. } => format!("add the machine to {found}, and leave --netrc out"),
            Self::Write { source, .. } if source.kind() == io::ErrorKind::PermissionDenied => {
                "run it as a user who may write there (sudo), or name another file".to_owned()
            }
            Self::Write { source, .. } if source.kind() == io::ErrorKind::NotADirectory => {
                "a file stands where its folder should be: name another place (-c FILE, --signing-key FILE)".to_owned()
            }
            Self::Write { source, .. } if source.kind() == io::ErrorKind::NotFound => {
                "make its folder first: loft makes only those that it names itself".to_owned()
            }
            _ => return None,
        })
    }
}
