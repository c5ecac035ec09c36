//! Where to, as one URL: `s3://bucket/prefix?endpoint=…` and `file:///path`, with Nix's own
//! parameter names, so that what users have in `nix.conf` works here too.
//!
//! Source of the names: Nix's manual, "S3 Binary Cache Store" and "Local Binary Cache Store".

use super::settings::{AddressingStyle, S3Settings, Target};
use crate::nix::Compression;
use reqwest::Url;
use std::fmt;
use std::path::PathBuf;

/// A cache's URL: the place, and how Nix would write to it. What is `None` was not said.
#[derive(Debug, Clone)]
pub struct CacheUrl {
    pub target: Target,
    pub compression: Option<Compression>,
    pub compression_level: Option<i32>,
    pub parallel_compression: Option<bool>,
    /// Files of secret keys (`secret-key`, and `secret-keys` separated by commas).
    pub secret_keys: Vec<PathBuf>,
    pub write_nar_listing: Option<bool>,
    pub index_debug_info: Option<bool>,
}

/// Why a text is no URL of a cache.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UrlError {
    #[error("{0:?} is not a cache's URL: s3://bucket?endpoint=… or file:///path is")]
    Scheme(String),
    #[error("{url:?} cannot be used: {why}")]
    Malformed { url: String, why: String },
    #[error("A cache's URL must not hold a user name or a password; use the environment or a profile")]
    Secret,
    #[error("Parameter {name:?} of the cache's URL is not known; did you mean {nearest:?}?")]
    Unknown { name: String, nearest: &'static str },
    #[error("Parameter {name:?} of the cache's URL is {value:?}, but should be {expected}")]
    Value { name: String, value: String, expected: &'static str },
    #[error("Parameter {0:?} of the cache's URL means nothing for a directory")]
    NotForDirectories(String),
}

/// Of a place on S3.
const PLACE: [&str; 6] = ["endpoint", "region", "profile", "scheme", "addressing-style", "storage-class"];

/// How to write.
const WRITING: [&str; 7] = [
    "compression",
    "compression-level",
    "parallel-compression",
    "secret-key",
    "secret-keys",
    "write-nar-listing",
    "index-debug-info",
];

/// Nix's, and of no consequence here: a reader's settings, or about how Nix itself sends.
const WITHOUT_EFFECT: [&str; 12] = [
    "store",
    "trusted",
    "priority",
    "want-mass-query",
    "path-info-cache-size",
    "local-nar-cache",
    "system-features",
    "multipart-upload",
    "multipart-threshold",
    "multipart-chunk-size",
    "buffer-size",
    "base-url",
];

impl CacheUrl {
    pub fn parse(text: &str) -> Result<Self, UrlError> {
        let malformed = |why: &str| UrlError::Malformed { url: text.to_owned(), why: why.to_owned() };
        let (scheme, rest) = text.split_once("://").ok_or_else(|| UrlError::Scheme(text.to_owned()))?;
        let (place, query) = rest.split_once('?').unwrap_or((rest, ""));
        let mut settings = S3Settings::new("");
        let target = match scheme {
            "s3" => {
                let (bucket, prefix) = place.split_once('/').unwrap_or((place, ""));
                if bucket.contains('@') {
                    return Err(UrlError::Secret);
                }
                if bucket.is_empty() {
                    return Err(malformed("it names no bucket"));
                }
                settings.bucket = bucket.to_owned();
                settings.prefix =
                    percent_decode(prefix).ok_or_else(|| malformed("a % is not followed by two digits"))?;
                None
            }
            "file" => {
                let path = percent_decode(place).ok_or_else(|| malformed("a % is not followed by two digits"))?;
                if !path.starts_with('/') {
                    return Err(malformed("a directory's path must be absolute, so there are three slashes"));
                }
                Some(Target::Directory(path.into()))
            }
            _ => return Err(UrlError::Scheme(text.to_owned())),
        };
        let mut url = Self {
            target: Target::S3(settings.clone()),
            compression: None,
            compression_level: None,
            parallel_compression: None,
            secret_keys: Vec::new(),
            write_nar_listing: None,
            index_debug_info: None,
        };
        let mut scheme = None;
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let value = percent_decode(value).ok_or_else(|| malformed("a % is not followed by two digits"))?;
            let is_place = PLACE.contains(&name);
            if is_place && target.is_some() {
                return Err(UrlError::NotForDirectories(name.to_owned()));
            }
            if is_place && name == "scheme" {
                scheme = Some(one_of(name, &value, &["http", "https"], "http or https")?);
            } else if is_place {
                place_parameter(&mut settings, name, value)?;
            } else if WRITING.contains(&name) {
                url.writing_parameter(name, value)?;
            } else if !WITHOUT_EFFECT.contains(&name) {
                return Err(UrlError::Unknown { name: name.to_owned(), nearest: nearest(name) });
            }
        }
        // Nix's older form: the scheme stands beside an endpoint without one.
        if let (Some(scheme), Some(endpoint)) = (scheme, settings.endpoint.as_mut())
            && !endpoint.contains("://")
        {
            *endpoint = format!("{scheme}://{endpoint}");
        }
        if settings
            .endpoint
            .as_deref()
            .and_then(|text| Url::parse(text).ok())
            .is_some_and(|endpoint| !endpoint.username().is_empty() || endpoint.password().is_some())
        {
            return Err(UrlError::Secret);
        }
        url.target = target.unwrap_or(Target::S3(settings));
        Ok(url)
    }

    fn writing_parameter(&mut self, name: &str, value: String) -> Result<(), UrlError> {
        let flag = |value: &str| match value {
            "true" | "1" => Ok(Some(true)),
            "false" | "0" => Ok(Some(false)),
            _ => Err(wrong(name, value, "true or false")),
        };
        match name {
            "compression" => {
                self.compression = Some(match value.as_str() {
                    "zstd" => Compression::Zstd,
                    "xz" => Compression::Xz,
                    "none" => Compression::None,
                    _ => return Err(wrong(name, &value, "zstd, xz or none")),
                });
            }
            "compression-level" => {
                // Nix writes -1 for "the method's own".
                let level: i32 = value.parse().map_err(|_| wrong(name, &value, "a number"))?;
                self.compression_level = (level != -1).then_some(level);
            }
            "parallel-compression" => self.parallel_compression = flag(&value)?,
            "write-nar-listing" => self.write_nar_listing = flag(&value)?,
            "index-debug-info" => self.index_debug_info = flag(&value)?,
            _ => self.secret_keys.extend(value.split(',').filter(|file| !file.is_empty()).map(PathBuf::from)),
        }
        Ok(())
    }
}

fn place_parameter(settings: &mut S3Settings, name: &str, value: String) -> Result<(), UrlError> {
    if value.is_empty() {
        return Ok(());
    }
    match name {
        "endpoint" => settings.endpoint = Some(value),
        "region" => settings.region = Some(value),
        "profile" => settings.profile = Some(value),
        "storage-class" => settings.storage_class = Some(value),
        _ => {
            let style = AddressingStyle::parse(&value);
            settings.addressing_style = style.ok_or_else(|| wrong(name, &value, "auto, path or virtual"))?;
        }
    }
    Ok(())
}

fn one_of(name: &str, value: &str, allowed: &[&'static str], expected: &'static str) -> Result<&'static str, UrlError> {
    allowed.iter().find(|word| **word == value).copied().ok_or_else(|| wrong(name, value, expected))
}

fn wrong(name: &str, value: &str, expected: &'static str) -> UrlError {
    UrlError::Value { name: name.to_owned(), value: value.to_owned(), expected }
}

/// The known parameter that takes the fewest edits.
fn nearest(name: &str) -> &'static str {
    let known = PLACE.iter().chain(&WRITING).copied();
    known.min_by_key(|known| distance(name, known)).unwrap_or("endpoint")
}

/// Levenshtein's.
fn distance(a: &str, b: &str) -> usize {
    let mut row: Vec<usize> = (0..=b.len()).collect();
    // A typing error is short; what comes after 64 bytes makes no name nearer.
    for (i, x) in a.bytes().take(64).enumerate() {
        let mut diagonal = i;
        let mut left = i + 1;
        for (y, cell) in b.bytes().zip(row.iter_mut().skip(1)) {
            let substituted = diagonal + usize::from(x != y);
            diagonal = *cell;
            *cell = substituted.min(diagonal + 1).min(left + 1);
            left = *cell;
        }
        if let Some(first) = row.first_mut() {
            *first = i + 1;
        }
    }
    row.last().copied().unwrap_or_default()
}

/// `None` when a `%` is not followed by two digits, or the bytes are not UTF-8.
pub(super) fn percent_decode(text: &str) -> Option<String> {
    let mut decoded = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((byte, tail)) = rest.split_first() {
        rest = tail;
        if *byte != b'%' {
            decoded.push(*byte);
            continue;
        }
        let (digits, tail) = rest.split_at_checked(2)?;
        decoded.extend(data_encoding::HEXLOWER_PERMISSIVE.decode(digits).ok()?);
        rest = tail;
    }
    String::from_utf8(decoded).ok()
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::S3(settings) => write!(f, "s3://{}", settings.bucket),
            Self::Directory(path) => write!(f, "file://{}", path.display()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn s3(text: &str) -> S3Settings {
        match CacheUrl::parse(text).unwrap().target {
            Target::S3(settings) => settings,
            Target::Directory(path) => panic!("{path:?}"),
        }
    }

    #[test]
    fn reads_what_nix_reads() {
        let settings = s3(
            "s3://nix-cache/team%20a?endpoint=http%3A%2F%2Flocalhost%3A3900&region=garage&profile=p&addressing-style=virtual&storage-class=STANDARD_IA",
        );
        assert_eq!((settings.bucket.as_str(), settings.prefix.as_str()), ("nix-cache", "team a"));
        assert_eq!(settings.endpoint.as_deref(), Some("http://localhost:3900"));
        assert_eq!(settings.region.as_deref(), Some("garage"));
        assert_eq!(settings.addressing_style, AddressingStyle::Virtual);
        // Unencoded, as everybody writes it, and in the older form.
        assert_eq!(s3("s3://c?endpoint=https://h:1/x").endpoint.as_deref(), Some("https://h:1/x"));
        assert_eq!(s3("s3://c?scheme=http&endpoint=h:1").endpoint.as_deref(), Some("http://h:1"));
        assert_eq!(s3("s3://c?endpoint=h:1&scheme=http").endpoint.as_deref(), Some("http://h:1"));
        assert_eq!(s3("s3://c?priority=10&trusted=true").region, None);
    }

    #[test]
    fn reads_how_to_write() {
        let url = CacheUrl::parse(
            "file:///srv/my%20cache?compression=xz&compression-level=6&parallel-compression=true&secret-key=/k&secret-keys=/a,/b&write-nar-listing=1",
        )
        .unwrap();
        assert!(matches!(url.target, Target::Directory(path) if path == std::path::Path::new("/srv/my cache")));
        assert_eq!(url.compression, Some(Compression::Xz));
        assert_eq!(url.compression_level, Some(6));
        assert_eq!(url.parallel_compression, Some(true));
        assert_eq!(url.write_nar_listing, Some(true));
        assert_eq!(url.secret_keys, ["/k", "/a", "/b"].map(PathBuf::from));
        assert_eq!(CacheUrl::parse("s3://c?compression-level=-1").unwrap().compression_level, None);
    }

    #[test]
    fn refuses_with_the_nearest_name_and_the_right_values() {
        let unknown = |text: &str| match CacheUrl::parse(text) {
            Err(UrlError::Unknown { nearest, .. }) => nearest,
            other => panic!("{other:?}"),
        };
        assert_eq!(unknown("s3://c?endpiont=x"), "endpoint");
        assert_eq!(unknown("s3://c?compresion=zstd"), "compression");
        assert_eq!(unknown("s3://c?secretkey=zstd"), "secret-key");
        assert_eq!(unknown("s3://c?adressing_style=path"), "addressing-style");
        for text in [
            "",
            "c",
            "http://c",
            "s3:c",
            "s3://",
            "s3:///p",
            "file://x",
            "file://",
            "s3://c?scheme=ftp",
            "s3://c?compression=bzip2",
            "s3://c?compression-level=high",
            "s3://c?parallel-compression=yes",
            "s3://c?addressing-style=host",
            "s3://c?endpoint=%zz",
            "s3://c/%",
            "file:///a?endpoint=x",
        ] {
            assert!(CacheUrl::parse(text).is_err(), "{text}");
        }
        for text in ["s3://k:s3cr3t@c", "s3://c?endpoint=https://k:s3cr3t@h"] {
            let error = CacheUrl::parse(text).unwrap_err();
            assert_eq!(error, UrlError::Secret);
            assert!(!error.to_string().contains("s3cr3t"));
        }
    }
}
