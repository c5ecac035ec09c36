//! The oracle: promises I1 and I2 over everything that a cache shows, without any code of loft.
//!
//! I1: a visible narinfo points at a NAR that is there, whole and right. I2: every reference of a visible
//! narinfo is visible itself, or was declared to come from elsewhere.

use super::s3::Bucket;
use sha2::{Digest, Sha256};
use std::collections::{BTreeMap, BTreeSet};
use std::io::Read;
use std::path::PathBuf;

/// Somewhere a cache can be read whole.
pub enum Cache<'a> {
    Folder(PathBuf),
    Bucket(&'a Bucket),
    /// What is below a prefix, which ends in `/`.
    Below(&'a Bucket, String),
}

/// A narinfo as its lines say it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Narinfo {
    pub fields: BTreeMap<String, String>,
    /// Each `Sig` line, in order.
    pub signatures: Vec<String>,
}

/// Everything visible, by full store path.
pub type Visible = BTreeMap<String, Narinfo>;

impl Cache<'_> {
    /// All keys, sorted.
    pub fn keys(&self) -> Vec<String> {
        let mut keys = match self {
            Self::Bucket(bucket) => bucket.keys(),
            Self::Below(bucket, prefix) => {
                bucket.keys_below(prefix).iter().map(|key| key[prefix.len()..].to_owned()).collect()
            }
            Self::Folder(root) => {
                let mut keys = Vec::new();
                let mut open = vec![root.clone()];
                while let Some(folder) = open.pop() {
                    for entry in std::fs::read_dir(&folder).into_iter().flatten() {
                        let path = entry.expect("folder entry").path();
                        match path.is_dir() {
                            true => open.push(path),
                            false => {
                                keys.push(path.strip_prefix(root).expect("below").to_str().expect("text").to_owned())
                            }
                        }
                    }
                }
                keys
            }
        };
        keys.sort();
        keys
    }

    pub fn get(&self, key: &str) -> Option<Vec<u8>> {
        self.get_all(&[key]).pop().flatten()
    }

    fn get_all(&self, keys: &[&str]) -> Vec<Option<Vec<u8>>> {
        match self {
            Self::Bucket(bucket) => bucket.get_all(keys),
            Self::Below(bucket, prefix) => {
                let keys: Vec<String> = keys.iter().map(|key| format!("{prefix}{key}")).collect();
                bucket.get_all(&keys.iter().map(String::as_str).collect::<Vec<_>>())
            }
            Self::Folder(root) => keys
                .iter()
                .map(|key| match std::fs::read(root.join(key)) {
                    Ok(bytes) => Some(bytes),
                    Err(error) if error.kind() == std::io::ErrorKind::NotFound => None,
                    Err(error) => panic!("cannot read {key}: {error}"),
                })
                .collect(),
        }
    }

    /// Every narinfo of the cache.
    pub fn narinfos(&self) -> Visible {
        let mut visible = Visible::new();
        let keys = self.keys();
        let keys: Vec<&str> = keys.iter().map(String::as_str).filter(|key| key.ends_with(".narinfo")).collect();
        for (key, bytes) in keys.iter().zip(self.get_all(&keys)) {
            let bytes = bytes.unwrap_or_else(|| panic!("{key} was listed and is gone"));
            let narinfo = Narinfo::parse(&String::from_utf8(bytes).expect("a narinfo is text"));
            let path = narinfo.fields["StorePath"].clone();
            let hash = &path.trim_start_matches("/nix/store/")[..32];
            assert_eq!(*key, format!("{hash}.narinfo"), "a narinfo under another path's key");
            visible.insert(path, narinfo);
        }
        visible
    }

    /// What breaks I1 or I2; nothing when all is well. References in `elsewhere` need not be visible.
    pub fn violations(&self, elsewhere: &BTreeSet<String>) -> Vec<String> {
        let visible = self.narinfos();
        let mut found = Vec::new();
        let mut known_good = BTreeSet::new();
        let mut small = self.small_nars(&visible);
        for (path, narinfo) in &visible {
            for reference in narinfo.references() {
                if !visible.contains_key(&reference) && !elsewhere.contains(&reference) {
                    found.push(format!("I2: {path} refers to {reference}, which is not there"));
                }
            }
            let claim = ["URL", "Compression", "FileHash", "FileSize", "NarHash", "NarSize"];
            let claim = claim.map(|field| narinfo.fields.get(field).cloned().unwrap_or_default());
            if known_good.contains(&claim) {
                continue;
            }
            let stored = small.remove(&claim[0]).unwrap_or_else(|| self.get(&claim[0]));
            match broken_nar(stored, &claim) {
                Some(why) => found.push(format!("I1: {path}: {why}")),
                None => drop(known_good.insert(claim)),
            }
        }
        found
    }

    /// The NARs that are small, as stored, got many at once.
    fn small_nars(&self, visible: &Visible) -> BTreeMap<String, Option<Vec<u8>>> {
        let is_small = |narinfo: &&Narinfo| narinfo.fields.get("FileSize").is_some_and(|size| size.len() <= 4);
        let urls: BTreeSet<&str> = visible.values().filter(is_small).map(|info| info.fields["URL"].as_str()).collect();
        let urls: Vec<&str> = urls.into_iter().collect();
        urls.iter().map(|url| (*url).to_owned()).zip(self.get_all(&urls)).collect()
    }
}

fn broken_nar(
    stored: Option<Vec<u8>>,
    [url, compression, file_hash, file_size, nar_hash, nar_size]: &[String; 6],
) -> Option<String> {
    let Some(stored) = stored else { return Some(format!("{url} is not there")) };
    if stored.len().to_string() != *file_size {
        return Some(format!("{url} has {} bytes, not {file_size}", stored.len()));
    }
    if nix_hash(&Sha256::digest(&stored)) != *file_hash {
        return Some(format!("{url} does not hash to {file_hash}"));
    }
    let mut decoder: Box<dyn Read> = match compression.as_str() {
        "zstd" => Box::new(zstd::Decoder::new(stored.as_slice()).expect("zstd decoder")),
        "xz" => Box::new(liblzma::read::XzDecoder::new(stored.as_slice())),
        "none" => Box::new(stored.as_slice()),
        other => return Some(format!("compression {other}")),
    };
    let (mut digest, mut size, mut buffer) = (Sha256::new(), 0_u64, vec![0; 1 << 17]);
    loop {
        match decoder.read(&mut buffer) {
            Ok(0) => break,
            Ok(count) => {
                digest.update(&buffer[..count]);
                size += count as u64;
            }
            Err(error) => return Some(format!("{url} cannot be decompressed: {error}")),
        }
    }
    if size.to_string() != *nar_size {
        return Some(format!("{url} unpacks to {size} bytes, not {nar_size}"));
    }
    let hash = nix_hash(&digest.finalize());
    (hash != *nar_hash).then(|| format!("{url} unpacks to {hash}, not {nar_hash}"))
}

impl Narinfo {
    pub fn parse(text: &str) -> Self {
        let (mut fields, mut signatures) = (BTreeMap::new(), Vec::new());
        for line in text.lines() {
            let (key, value) = line.split_once(": ").unwrap_or_else(|| panic!("not a narinfo line: {line:?}"));
            match key {
                "Sig" => signatures.push(value.to_owned()),
                key => assert_eq!(fields.insert(key.to_owned(), value.to_owned()), None, "{key} twice"),
            }
        }
        Self { fields, signatures }
    }

    /// Full paths.
    pub fn references(&self) -> Vec<String> {
        self.fields["References"].split_whitespace().map(|name| format!("/nix/store/{name}")).collect()
    }

    /// The signature made under this key name.
    pub fn signature_by(&self, key_name: &str) -> Option<&str> {
        self.signatures.iter().map(String::as_str).find(|text| text.split(':').next() == Some(key_name))
    }
}

/// `sha256:` and Nix's base 32, which writes the digits from the last to the first.
fn nix_hash(digest: &[u8]) -> String {
    const DIGITS: &[u8; 32] = b"0123456789abcdfghijklmnpqrsvwxyz";
    let length = (digest.len() * 8).div_ceil(5);
    let digits = (0..length).rev().map(|position| {
        let bit = position * 5;
        let (byte, shift) = (bit / 8, bit % 8);
        let low = u16::from(digest[byte]) >> shift;
        let high = digest.get(byte + 1).map_or(0, |next| u16::from(*next) << (8 - shift));
        char::from(DIGITS[usize::from((low | high) & 31)])
    });
    format!("sha256:{}", digits.collect::<String>())
}
