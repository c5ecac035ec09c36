//! `nix-cache-info`: what Nix reads first, and what tells it whose store the paths belong to.

use super::{Body, Bucket, BucketError, Headers, Key};
use crate::nix::StoreDir;
use bytes::Bytes;

/// Hand-written ones have a line or two more.
const LIMIT: u64 = 64 * 1024;

/// The content of `nix-cache-info`: lines `Name: value`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CacheInfo {
    /// As written, for example `/nix/store`.
    pub store_dir: String,
    pub want_mass_query: bool,
    /// Lower is asked first; `cache.nixos.org` has 40. `None`: Nix assumes 50.
    pub priority: Option<u32>,
}

#[derive(Debug, thiserror::Error)]
pub enum CacheInfoError {
    #[error("Line {line} of nix-cache-info is {text:?}, not a name, a colon and a value")]
    Line { line: usize, text: String },
    #[error("{name} in nix-cache-info is {value:?}")]
    Value { name: &'static str, value: String },
    #[error("nix-cache-info is not UTF-8")]
    NotText,
    /// Paths of one store directory mean nothing in another: references inside them are absolute.
    #[error("The bucket is a cache of store {theirs}, and this machine's store is {ours}")]
    OtherStore { ours: String, theirs: String },
    #[error(transparent)]
    Bucket(#[from] BucketError),
}

impl CacheInfo {
    pub fn new(store_dir: &StoreDir, priority: Option<u32>) -> Self {
        Self { store_dir: store_dir.as_str().to_owned(), want_mass_query: true, priority }
    }

    /// As Nix reads it: unknown names are skipped, and without a `StoreDir` it is `/nix/store`.
    pub fn parse(bytes: &[u8]) -> Result<Self, CacheInfoError> {
        let text = std::str::from_utf8(bytes).map_err(|_| CacheInfoError::NotText)?;
        let mut info = Self { store_dir: "/nix/store".to_owned(), want_mass_query: false, priority: None };
        for (line, text) in text.lines().enumerate().filter(|(_, text)| !text.trim().is_empty()) {
            let malformed = || CacheInfoError::Line { line: line + 1, text: text.chars().take(80).collect() };
            let (name, value) = text.split_once(':').ok_or_else(malformed)?;
            let value = value.trim();
            let wrong = |name| CacheInfoError::Value { name, value: value.chars().take(80).collect() };
            match name.trim() {
                "StoreDir" if value.starts_with('/') => info.store_dir = value.to_owned(),
                "StoreDir" => return Err(wrong("StoreDir")),
                "WantMassQuery" => info.want_mass_query = value == "1",
                "Priority" => info.priority = Some(value.parse().map_err(|_| wrong("Priority"))?),
                _ => {}
            }
        }
        Ok(info)
    }

    pub fn print(&self) -> String {
        let mut text = format!("StoreDir: {}\nWantMassQuery: {}\n", self.store_dir, u8::from(self.want_mass_query));
        if let Some(priority) = self.priority {
            text.push_str(&format!("Priority: {priority}\n"));
        }
        text
    }
}

/// Refuses a bucket of another store's; `None` where it has no `nix-cache-info` yet.
pub async fn check_cache_info(bucket: &dyn Bucket, ours: &CacheInfo) -> Result<Option<CacheInfo>, CacheInfoError> {
    let Some((_, bytes)) = bucket.get(&Key::cache_info(), LIMIT).await? else { return Ok(None) };
    let theirs = CacheInfo::parse(&bytes)?;
    if theirs.store_dir.trim_end_matches('/') != ours.store_dir.trim_end_matches('/') {
        let (ours, theirs) = (ours.store_dir.clone(), theirs.store_dir);
        return Err(CacheInfoError::OtherStore { ours, theirs });
    }
    Ok(Some(theirs))
}

/// Makes sure that the bucket has a `nix-cache-info` for our store: writes `ours` if there is none,
/// leaves what is there otherwise, refuses another store's. Returns what the bucket has then.
pub async fn ensure_cache_info(bucket: &dyn Bucket, ours: &CacheInfo) -> Result<CacheInfo, CacheInfoError> {
    if let Some(theirs) = check_cache_info(bucket, ours).await? {
        return Ok(theirs);
    }
    bucket.put(&Key::cache_info(), Body::from(Bytes::from(ours.print())), Headers::CACHE_INFO).await?;
    Ok(ours.clone())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_it_and_nix_write() {
        let nix = b"StoreDir: /nix/store\n";
        assert_eq!(CacheInfo::parse(nix).unwrap().store_dir, "/nix/store");
        let info = CacheInfo { store_dir: "/data/store".into(), want_mass_query: true, priority: Some(30) };
        assert_eq!(CacheInfo::parse(info.print().as_bytes()).unwrap(), info);
        let odd = b"StoreDir:/nix/store\r\nNew: x\n\nPriority: 7";
        assert_eq!(CacheInfo::parse(odd).unwrap().priority, Some(7));
    }

    #[test]
    fn refuses_what_it_cannot_understand() {
        for bytes in [&b"<html>"[..], b"\xff", b"StoreDir: nix", b"Priority: -1", b"Priority: many"] {
            assert!(CacheInfo::parse(bytes).is_err(), "{}", String::from_utf8_lossy(bytes));
        }
    }
}
