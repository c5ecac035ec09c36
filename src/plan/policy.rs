//! What the user said about which paths belong into the cache.

use crate::nix::{Fingerprint, KeyName, PathInfo, PublicKey, StoreDir, StorePath};

/// Rules that do not depend on the bucket.
#[derive(Debug, Clone, Default)]
pub struct Policy {
    /// Paths that carry a signature of one of these are left to the caches that serve them.
    pub skip_signed_by: Vec<UpstreamKey>,
    /// Paths whose name matches are never uploaded, and so is nothing that refers to them.
    pub exclude: Vec<Pattern>,
}

/// A key whose paths clients get elsewhere.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum UpstreamKey {
    /// The name alone: the signature is believed.
    Named(KeyName),
    /// With the public key the signature is verified as well.
    Verified(PublicKey),
}

/// A pattern over the name of a store path (what follows the hash): `*` is any run of characters,
/// `?` is one. It must match the whole name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pattern(String);

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("Pattern {0:?} is empty or has a slash; it is compared with names such as `hello-2.12`")]
pub struct PatternError(pub String);

impl Policy {
    /// The upstream key that `info` is signed by, if any.
    pub fn upstream_key(&self, dir: &StoreDir, info: &PathInfo) -> Option<KeyName> {
        info.signatures.iter().find_map(|signature| {
            self.skip_signed_by.iter().find_map(|upstream| match upstream {
                UpstreamKey::Named(name) => (name == signature.key()).then(|| name.clone()),
                UpstreamKey::Verified(key) => {
                    let fingerprint = Fingerprint::of_info(dir, info)?;
                    key.verifies(&fingerprint, signature).then(|| key.name().clone())
                }
            })
        })
    }

    pub fn excluded_by(&self, path: &StorePath) -> Option<&Pattern> {
        self.exclude.iter().find(|pattern| pattern.matches(path.name()))
    }
}

impl Pattern {
    pub fn parse(text: &str) -> Result<Self, PatternError> {
        if text.is_empty() || text.contains('/') {
            return Err(PatternError(text.to_owned()));
        }
        Ok(Self(text.to_owned()))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Greedy matching that goes back to the last `*` alone: linear for one star, at most
    /// quadratic, so that no pattern can hang a push.
    pub fn matches(&self, name: &str) -> bool {
        let (pattern, name) = (self.0.as_bytes(), name.as_bytes());
        let (mut p, mut n) = (0, 0);
        let mut retry: Option<(usize, usize)> = None;
        while n < name.len() {
            match pattern.get(p) {
                Some(b'*') => {
                    retry = Some((p + 1, n));
                    p += 1;
                }
                Some(c) if *c == b'?' || *c == name[n] => {
                    p += 1;
                    n += 1;
                }
                _ => match retry {
                    Some((after_star, taken)) => {
                        retry = Some((after_star, taken + 1));
                        p = after_star;
                        n = taken + 1;
                    }
                    None => return false,
                },
            }
        }
        pattern[p..].iter().all(|c| *c == b'*')
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_match_whole_names() {
        for (pattern, name, expected) in [
            ("*", "hello", true),
            ("hello", "hello", true),
            ("hello", "hello-2", false),
            ("hello*", "hello-2", true),
            ("*-source", "foo-source", true),
            ("*-source", "foo-source-1", false),
            ("a*b*c", "aXbYbZc", true),
            ("a*b*c", "aXbYbZ", false),
            ("h?llo", "hallo", true),
            ("h?llo", "hllo", false),
            ("**", "x", true),
            ("?", "", false),
        ] {
            assert_eq!(Pattern::parse(pattern).unwrap().matches(name), expected, "{pattern} {name}");
        }
        assert!(Pattern::parse("").is_err());
        assert!(Pattern::parse("/nix/store/*").is_err());
    }

    #[test]
    fn a_hostile_pattern_does_not_hang() {
        let pattern = Pattern::parse(&"*a".repeat(100)).unwrap();
        assert!(!pattern.matches(&"a".repeat(90)));
        assert!(!pattern.matches(&format!("{}b", "a".repeat(200))));
    }
}
