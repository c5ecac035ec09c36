//! Where the bucket is and how to reach it, as plain values: filled from `loft.toml`, from a URL or
//! by a test, and handed to [`open`](super::open).

use super::headers::ExtraHeaders;
use std::fmt;
use std::path::PathBuf;
use zeroize::Zeroizing;

/// Where the cache is.
#[derive(Debug, Clone)]
#[expect(clippy::large_enum_variant, reason = "there is one of it")]
pub enum Target {
    S3(S3Settings),
    /// A local directory or a mount (`file://`), absolute.
    Directory(PathBuf),
}

impl Target {
    /// Whether both are the same place, whoever asks there and by whatever way.
    pub fn is_same_place(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::S3(a), Self::S3(b)) => {
                a.bucket == b.bucket && a.prefix.trim_matches('/') == b.prefix.trim_matches('/') && a.host() == b.host()
            }
            (Self::Directory(a), Self::Directory(b)) => a == b,
            _ => false,
        }
    }
}

/// How to reach an S3 bucket.
#[derive(Debug, Clone)]
pub struct S3Settings {
    pub bucket: String,
    /// Stands before every key; slashes at its ends do not matter. Empty: the bucket's root.
    pub prefix: String,
    /// `None`: `AWS_REGION`, then `AWS_DEFAULT_REGION`, then [`DEFAULT_REGION`].
    pub region: Option<String>,
    /// `http://host:port` or `https://host`; a bare `host[:port]` means https. `None`: AWS in that region.
    pub endpoint: Option<String>,
    pub addressing_style: AddressingStyle,
    pub access_key: Option<Secret>,
    pub secret_key: Option<Secret>,
    pub session_token: Option<Secret>,
    /// A file that holds the access key id; white space around it does not matter.
    pub access_key_file: Option<PathBuf>,
    pub secret_key_file: Option<PathBuf>,
    /// A profile of `~/.aws/config` and `~/.aws/credentials`; where it is set, no other source is asked.
    pub profile: Option<String>,
    /// PEM certificates to trust besides the system's.
    pub ca_file: Option<PathBuf>,
    /// Sent as `x-amz-storage-class` with every new object.
    pub storage_class: Option<String>,
    pub extra_headers: ExtraHeaders,
}

/// What most servers that have no regions expect.
pub const DEFAULT_REGION: &str = "us-east-1";

impl S3Settings {
    /// The given bucket on AWS, everything else as the environment says.
    pub fn new(bucket: impl Into<String>) -> Self {
        Self {
            bucket: bucket.into(),
            prefix: String::new(),
            region: None,
            endpoint: None,
            addressing_style: AddressingStyle::Auto,
            access_key: None,
            secret_key: None,
            session_token: None,
            access_key_file: None,
            secret_key_file: None,
            profile: None,
            ca_file: None,
            storage_class: None,
            extra_headers: ExtraHeaders::default(),
        }
    }

    /// The endpoint without its scheme.
    pub fn host(&self) -> Option<&str> {
        let endpoint = self.endpoint.as_deref()?;
        Some(endpoint.split_once("://").map_or(endpoint, |(_, host)| host).trim_end_matches('/'))
    }
}

/// Whether the bucket's name stands in the path or in the host name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum AddressingStyle {
    /// Path for a given endpoint, virtual host on AWS (unless the bucket's name has dots, which TLS
    /// certificates do not cover).
    #[default]
    Auto,
    Path,
    Virtual,
}

impl AddressingStyle {
    pub const NAMES: [&'static str; 3] = ["auto", "path", "virtual"];

    pub fn parse(text: &str) -> Option<Self> {
        match text {
            "auto" => Some(Self::Auto),
            "path" => Some(Self::Path),
            "virtual" => Some(Self::Virtual),
            _ => None,
        }
    }

    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Path => "path",
            Self::Virtual => "virtual",
        }
    }
}

/// Text that never shows itself: `Debug` prints dots, there is no `Display`, memory is wiped.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Zeroizing<String>);

impl Secret {
    pub fn new(text: impl Into<String>) -> Self {
        Self(Zeroizing::new(text.into()))
    }

    /// The text itself, for the one place that needs it.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl From<String> for Secret {
    fn from(text: String) -> Self {
        Self::new(text)
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("…")
    }
}
