use super::{FORMAT, RecordError, parse_compressed, print_compressed};
use crate::nix::{NarUrl, PathHash};
use data_encoding::BASE64;
use serde::{Deserialize, Serialize};

/// `loft/v1/trash/<ulid>`: what was taken out of the bucket and can be put back, written before anything is deleted. Its
/// id is that of the sweep that took it out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TrashRecord {
    format: u32,
    pub who: String,
    /// Seconds since 1970, by the writer's clock; prune goes by the object's own stamp.
    pub at: u64,
    pub why: Why,
    /// Narinfos that are about to be deleted, referrers before their references.
    pub removed: Vec<Removed>,
    /// References of `removed` that were not in the bucket: they come from upstream caches.
    #[serde(default)]
    pub external: Vec<PathHash>,
    /// NARs that nothing pointed at, beside those of `removed`.
    #[serde(default, with = "urls")]
    pub orphans: Vec<NarUrl>,
    /// Records that could not be read, taken out by a repair.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub set_aside: Vec<SetAside>,
}

/// One object that is no narinfo, byte for byte.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SetAside {
    pub key: String,
    base64: String,
}

impl SetAside {
    pub fn new(key: &str, bytes: &[u8]) -> Self {
        Self { key: key.to_owned(), base64: BASE64.encode(bytes) }
    }

    /// The object as it was; nothing where that is garbled.
    pub fn bytes(&self) -> Option<Vec<u8>> {
        BASE64.decode(self.base64.as_bytes()).ok()
    }
}

/// What took it out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Why {
    /// No longer covered by retention.
    Retention,
    /// Damaged, or refers to something damaged.
    Damage,
}

/// One narinfo, byte for byte.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Removed {
    pub path: PathHash,
    text: String,
    /// Damaged narinfos need not be UTF-8.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    base64: bool,
}

impl Removed {
    pub fn new(path: PathHash, bytes: &[u8]) -> Self {
        match std::str::from_utf8(bytes) {
            Ok(text) => Self { path, text: text.to_owned(), base64: false },
            Err(_) => Self { path, text: BASE64.encode(bytes), base64: true },
        }
    }

    /// The narinfo as it was.
    pub fn bytes(&self) -> Vec<u8> {
        let plain = || self.text.clone().into_bytes();
        match self.base64 {
            true => BASE64.decode(self.text.as_bytes()).unwrap_or_else(|_| plain()),
            false => plain(),
        }
    }
}

impl TrashRecord {
    pub fn new(who: String, at: u64, why: Why) -> Self {
        let (removed, external, orphans, set_aside) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        Self { format: FORMAT, who, at, why, removed, external, orphans, set_aside }
    }

    pub fn print(&self) -> Vec<u8> {
        print_compressed(self)
    }

    pub fn parse(object: &str, bytes: &[u8]) -> Result<Self, RecordError> {
        parse_compressed(object, bytes)
    }
}

/// NAR URLs as strings.
mod urls {
    use crate::nix::NarUrl;
    use serde::de::Error as _;
    use serde::{Deserialize as _, Deserializer, Serializer};

    pub fn serialize<S: Serializer>(urls: &[NarUrl], serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(urls.iter().map(NarUrl::as_str))
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<NarUrl>, D::Error> {
        let texts = Vec::<String>::deserialize(deserializer)?;
        texts.iter().map(|text| NarUrl::parse(text).map_err(D::Error::custom)).collect()
    }
}
