//! The `URL` of a narinfo.
//!
//! It becomes an object's key, for reading and for deleting; so it must say the same to every reader: nothing that
//! URL parsers or file systems would resolve, decode or cut off.

use super::excerpt::excerpt;
use super::{Compression, Sha256};
use std::fmt;
use ulid::Ulid;

/// Where the NAR lies, relative to the cache: below `nar/`, no `..`, `%` or `//`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct NarUrl(String);

/// S3's limit for a whole key.
const MAX_LEN: usize = 1024;

/// Why a text is not a NAR's URL; holds the text, cut where it is long.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("NAR URL {url:?} {fault}")]
pub struct NarUrlError {
    pub url: String,
    pub fault: &'static str,
}

impl NarUrl {
    pub fn parse(text: &str) -> Result<Self, NarUrlError> {
        match fault(text) {
            None => Ok(Self(text.to_owned())),
            Some(fault) => Err(NarUrlError { url: excerpt(text), fault }),
        }
    }

    /// For a NAR that is about to be uploaded: `nar/<NarHash>-<ULID>.nar.zst`. The ULID makes it
    /// unique; a key that is never written twice is one that no late delete can hit.
    pub fn fresh(nar_hash: &Sha256, id: Ulid, compression: Compression) -> Self {
        let id = id.to_string().to_lowercase();
        Self(format!("nar/{}-{id}{}", nar_hash.to_nix32(), compression.suffix()))
    }

    /// The ULID that `fresh` was given for this URL, where it made it of the same NarHash and compression.
    pub fn id(&self, nar_hash: &Sha256, compression: Compression) -> Option<Ulid> {
        let name = self.0.strip_prefix("nar/")?.strip_suffix(compression.suffix())?;
        let (_, id) = name.split_once('-')?;
        let id = Ulid::from_string(id).ok()?;
        (Self::fresh(nar_hash, id, compression) == *self).then_some(id)
    }

    /// The NarHash that `fresh` was given for this URL; nothing where something else made it.
    pub fn nar_hash(&self) -> Option<Sha256> {
        let (hash, rest) = self.0.strip_prefix("nar/")?.split_once('-')?;
        let (id, _) = rest.split_once('.')?;
        Ulid::from_string(id).ok()?;
        Sha256::parse_digits(hash).ok().filter(|parsed| parsed.to_nix32() == hash)
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

fn fault(text: &str) -> Option<&'static str> {
    let Some(rest) = text.strip_prefix("nar/") else {
        return Some(match text {
            "" => "is empty",
            _ if text.starts_with('/') || text.contains("://") => "is absolute",
            _ => "is not below nar/",
        });
    };
    if text.len() > MAX_LEN {
        return Some("is longer than 1024 bytes");
    }
    if rest.split('/').any(|part| matches!(part, "" | "." | "..")) {
        return Some("has an empty part, `.` or `..`");
    }
    if !rest.bytes().all(|byte| byte.is_ascii_graphic() && !matches!(byte, b'%' | b'?' | b'#' | b'\\')) {
        return Some("has white space, a control character, one of `%?#\\` or a character outside ASCII");
    }
    None
}

impl fmt::Display for NarUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn takes_what_writers_make() {
        for url in [
            "nar/1w1fff338fvdw53sqgamddn1b2xgds473pv6y13gizdbqjv4i5p3.nar.xz",
            "nar/04zwf782yjwnh3q6hz5izfd6jyip8kgw6g6yj43fiqhbyhdd0dqw-01ARZ3NDEKTSV4RRFFQ69G5FAV.nar.zst",
            "nar/ab/cd.nar",
            "nar/a..b",
            "nar/a~b!c.nar",
        ] {
            assert_eq!(NarUrl::parse(url).unwrap().as_str(), url);
        }
    }

    #[test]
    fn tells_the_nar_hash_that_it_was_made_of() {
        let hash = Sha256::of(b"a NAR");
        let fresh = NarUrl::fresh(&hash, Ulid::from_parts(1, 2), Compression::Xz);
        assert_eq!(fresh.nar_hash(), Some(hash));
        let text = fresh.as_str();
        for other in [
            "nar/1w1fff338fvdw53sqgamddn1b2xgds473pv6y13gizdbqjv4i5p3.nar.xz".to_owned(),
            text.replace("-0", "-u"),
            text.replace("nar/", "nar/x"),
            text.replace("nar/", "nar/x/"),
            format!("nar/{}-{}.nar", hash.to_hex(), Ulid::from_parts(1, 2)),
        ] {
            assert_eq!(NarUrl::parse(&other).unwrap().nar_hash(), None, "{other}");
        }
    }

    #[test]
    fn refuses_what_readers_could_take_differently() {
        let long = format!("nar/{}", "x".repeat(1021));
        for (url, fault) in [
            ("", "empty"),
            ("nar", "not below"),
            ("nar/", "empty part"),
            ("narx/a", "not below"),
            ("Nar/a", "not below"),
            ("./nar/a", "not below"),
            ("../nar/a", "not below"),
            ("0c0ngrnyz7b7w2hzwzvhyzxqdqz3dnya.narinfo", "not below"),
            ("loft/v1/bucket.json", "not below"),
            ("/nar/a", "absolute"),
            ("//host/nar/a", "absolute"),
            ("https://host/nar/a", "absolute"),
            ("nar/../a.narinfo", "`..`"),
            ("nar/a/..", "`..`"),
            ("nar/./a", "`.`"),
            ("nar//a", "empty part"),
            ("nar/a/", "empty part"),
            ("nar/%2e%2e/a", "%"),
            ("nar/a?b", "?"),
            ("nar/a#b", "#"),
            ("nar/a\\b", "\\"),
            ("nar/a b", "white space"),
            ("nar/a\tb", "control"),
            ("nar/a\u{7f}", "control"),
            ("nar/ä", "ASCII"),
            (&long, "longer"),
        ] {
            let error = NarUrl::parse(url).unwrap_err();
            assert!(error.fault.contains(fault), "{error}");
            assert!(error.to_string().len() < 400, "{error}");
        }
    }

    #[test]
    fn tells_the_id_of_what_it_made() {
        let (hash, other) = (Sha256::of(b"a"), Sha256::of(b"b"));
        let id = Ulid::from_parts(1_790_000_000_000, u128::MAX >> 50);
        for compression in [Compression::Zstd, Compression::Xz, Compression::None] {
            let url = NarUrl::fresh(&hash, id, compression);
            assert_eq!(url.id(&hash, compression), Some(id));
            assert_eq!(url.id(&other, compression), None);
            assert_eq!(url.id(&hash, Compression::Bzip2), None);
            for strange in
                [url.0.to_uppercase().replace("NAR/", "nar/"), url.0.replace('-', "-0"), url.0.replace('-', "/")]
            {
                assert_eq!(NarUrl::parse(&strange).unwrap().id(&hash, compression), None, "{strange}");
            }
        }
        let as_nix_writes = NarUrl::parse(&format!("nar/{}.nar.zst", hash.to_nix32())).unwrap();
        assert_eq!(as_nix_writes.id(&hash, Compression::Zstd), None);
    }

    proptest! {
        #[test]
        fn what_is_taken_stays_below_nar(url in "(nar/)?[a-z./%?#: ]{0,12}") {
            if let Ok(url) = NarUrl::parse(&url) {
                let path = std::path::Path::new(url.as_str());
                let plain = path.components().all(|part| matches!(part, std::path::Component::Normal(_)));
                prop_assert!(plain && path.starts_with("nar") && path.components().count() > 1);
                let again: std::path::PathBuf = path.components().collect();
                prop_assert_eq!(again.to_str(), Some(url.as_str()));
            }
        }
    }
}
