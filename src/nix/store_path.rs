//! Store directories and store paths.
//!
//! A [`StorePath`] is the base name alone (`<hash>-<name>`): the directory is the same for
//! a whole store, so a [`StoreDir`] joins and splits full paths where they enter and leave.

use super::base32;
use std::fmt;
use std::path::{Component, Path};

/// Length of the hash part, in characters.
pub const HASH_LEN: usize = 32;
/// Nix refuses longer names.
pub const MAX_NAME_LEN: usize = 211;

/// A logical store directory such as `/nix/store`: absolute, normal, without a final slash.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct StoreDir(String);

/// A store path by its base name; ordered as Nix orders base names (by bytes).
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct StorePath(Box<str>);

/// The hash part of a store path: what a narinfo is found by.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PathHash([u8; HASH_LEN]);

/// Why a text is not a store path or store directory.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StorePathError {
    #[error("Store directory {0:?} is not an absolute path without `.`, `..`, `//` or control characters")]
    StoreDir(String),
    #[error("Path {path:?} is not directly below the store directory {store_dir}")]
    OutsideStore { path: String, store_dir: String },
    #[error("Store path {0:?} does not start with 32 nix32 characters and a dash")]
    HashPart(String),
    #[error("Store path {0:?} has an empty name")]
    EmptyName(String),
    #[error("Store path {0:?} has a name of more than {MAX_NAME_LEN} characters")]
    LongName(String),
    #[error("Store path {path:?} has the character {character:?}, which store names cannot contain")]
    Character { path: String, character: char },
}

impl StoreDir {
    pub fn parse(text: &str) -> Result<Self, StorePathError> {
        let refused = || StorePathError::StoreDir(text.to_owned());
        let trimmed = text.strip_suffix('/').unwrap_or(text);
        let normal = Path::new(trimmed).components().all(|c| matches!(c, Component::RootDir | Component::Normal(_)));
        // `components` swallows `//` and `/./`, so they are looked for in the text.
        let plain = !trimmed.contains("//") && !trimmed.contains("/./") && !trimmed.ends_with("/.");
        if trimmed.len() < 2 || !trimmed.starts_with('/') || !normal || !plain || trimmed.chars().any(char::is_control)
        {
            return Err(refused());
        }
        Ok(Self(trimmed.to_owned()))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Full path of `path`, as Nix prints it.
    pub fn join(&self, path: &StorePath) -> String {
        format!("{}/{}", self.0, path.0)
    }

    /// Reads a full store path; a path *inside* a store path is refused here
    /// (`store::resolve` deals with those).
    pub fn parse_path(&self, text: &str) -> Result<StorePath, StorePathError> {
        let base = text.strip_prefix(&self.0).and_then(|rest| rest.strip_prefix('/'));
        match base {
            Some(base) if !base.contains('/') => StorePath::parse(base),
            _ => Err(StorePathError::OutsideStore { path: text.to_owned(), store_dir: self.0.clone() }),
        }
    }
}

impl Default for StoreDir {
    fn default() -> Self {
        Self("/nix/store".to_owned())
    }
}

impl fmt::Display for StoreDir {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl StorePath {
    /// Reads a base name, `<hash>-<name>`.
    pub fn parse(base: &str) -> Result<Self, StorePathError> {
        let bytes = base.as_bytes();
        let hash_fits =
            bytes.len() > HASH_LEN && bytes[..HASH_LEN].iter().all(|b| base32::is_digit(*b)) && bytes[HASH_LEN] == b'-';
        if !hash_fits {
            return Err(StorePathError::HashPart(base.to_owned()));
        }
        let name = &base[HASH_LEN + 1..];
        if name.is_empty() {
            return Err(StorePathError::EmptyName(base.to_owned()));
        }
        if let Some(character) = name.chars().find(|c| !is_name_character(*c)) {
            return Err(StorePathError::Character { path: base.to_owned(), character });
        }
        if name.len() > MAX_NAME_LEN {
            return Err(StorePathError::LongName(base.to_owned()));
        }
        Ok(Self(base.into()))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }

    pub fn hash_part(&self) -> PathHash {
        let mut hash = [0; HASH_LEN];
        hash.copy_from_slice(&self.0.as_bytes()[..HASH_LEN]);
        PathHash(hash)
    }

    /// What follows the hash and the dash, for example `hello-2.12`.
    pub fn name(&self) -> &str {
        &self.0[HASH_LEN + 1..]
    }

    pub fn is_derivation(&self) -> bool {
        self.0.ends_with(".drv")
    }
}

fn is_name_character(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '+' | '-' | '.' | '_' | '?' | '=')
}

impl fmt::Display for StorePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for StorePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl PathHash {
    /// Reads 32 nix32 characters.
    pub fn parse(text: &str) -> Option<Self> {
        let bytes: [u8; HASH_LEN] = text.as_bytes().try_into().ok()?;
        bytes.iter().all(|b| base32::is_digit(*b)).then_some(Self(bytes))
    }

    pub fn as_str(&self) -> &str {
        // Only `parse` and `hash_part` make one, and both take ASCII alone.
        std::str::from_utf8(&self.0).unwrap_or_default()
    }
}

impl fmt::Display for PathHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for PathHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl serde::Serialize for StorePath {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl<'de> serde::Deserialize<'de> for StorePath {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::parse(&text).map_err(serde::de::Error::custom)
    }
}

impl serde::Serialize for PathHash {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

impl<'de> serde::Deserialize<'de> for PathHash {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let refused = || serde::de::Error::custom(format!("{text:?} is not the hash part of a store path"));
        Self::parse(&text).ok_or_else(refused)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const HASH: &str = "0c0ngrnyz7b7w2hzwzvhyzxqdqz3dnya";

    #[test]
    fn takes_a_path_apart_and_puts_it_together() {
        let dir = StoreDir::default();
        let full = format!("/nix/store/{HASH}-hello-2.12.drv");
        let path = dir.parse_path(&full).unwrap();
        assert_eq!(path.hash_part().as_str(), HASH);
        assert_eq!(path.name(), "hello-2.12.drv");
        assert!(path.is_derivation());
        assert_eq!(dir.join(&path), full);
    }

    #[test]
    fn refuses_bad_paths_naming_them() {
        let long = format!("{HASH}-{}", "x".repeat(MAX_NAME_LEN + 1));
        for base in [
            "",
            "x",
            HASH,
            &format!("{HASH}-"),
            &format!("{HASH}-a b"),
            &format!("{HASH}-a/b"),
            &format!("{HASH}-ä"),
            &format!("{HASH}-a\n"),
            &format!("e{}-x", &HASH[1..]),
            &long,
            "ää0ngrnyz7b7w2hzwzvhyzxqdqz3dny-x",
        ] {
            let error = StorePath::parse(base).unwrap_err().to_string();
            assert!(error.contains(&format!("{base:?}")), "{error}");
        }
        let dir = StoreDir::default();
        for path in ["/nix/store", "/nix/store/", "/nix/storex/a", "/gnu/store/a", &format!("/nix/store/{HASH}-a/b")] {
            assert!(dir.parse_path(path).is_err(), "{path}");
        }
    }

    #[test]
    fn refuses_bad_store_directories() {
        for dir in ["", "/", "nix/store", "/nix//store", "/nix/../store", "/nix/./store", "/nix/.", "/nix/st\nore"] {
            assert!(StoreDir::parse(dir).is_err(), "{dir}");
        }
        assert_eq!(StoreDir::parse("/nix/store/").unwrap(), StoreDir::default());
    }

    proptest! {
        #[test]
        fn never_panics(text in "\\PC*") {
            let _ = StorePath::parse(&text);
            let _ = StoreDir::default().parse_path(&text);
            let _ = PathHash::parse(&text);
        }

        #[test]
        fn round_trips(base in "[0-9abcdfghijklmnpqrsvwxyz]{32}-[0-9a-zA-Z+._?=-]{1,40}") {
            let path = StorePath::parse(&base).unwrap();
            prop_assert_eq!(path.as_str(), base.as_str());
            let dir = StoreDir::parse("/some/where").unwrap();
            prop_assert_eq!(dir.parse_path(&dir.join(&path)).unwrap(), path);
        }
    }
}
