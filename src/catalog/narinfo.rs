//! A narinfo as it lies in a bucket, sound or not.

use crate::nix::{NarInfo, NarInfoError, NarUrl, PathHash, StoreDir, StorePath};

/// Why what lies under a narinfo's key is not one.
#[derive(Debug, thiserror::Error)]
pub enum Unusable {
    #[error(transparent)]
    Malformed(#[from] NarInfoError),
    #[error("It is about {0}")]
    OtherPath(StorePath),
}

/// The narinfo of the path with this hash part.
pub fn parse(dir: &StoreDir, hash: &PathHash, bytes: &[u8]) -> Result<NarInfo, Unusable> {
    let info = NarInfo::parse(dir, bytes)?;
    if info.is_for(hash) { Ok(info) } else { Err(Unusable::OtherPath(info.path)) }
}

/// What a reader that is less strict than loft may see in a damaged narinfo. Whoever deletes must spare it.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Remnants {
    pub references: Vec<PathHash>,
    pub url: Option<NarUrl>,
    pub deriver: Option<StorePath>,
}

/// Line by line, whatever stands around.
pub fn remnants(bytes: &[u8]) -> Remnants {
    let mut found = Remnants::default();
    for line in String::from_utf8_lossy(bytes).lines() {
        if let Some(names) = line.strip_prefix("References:") {
            let paths = names.split_whitespace().filter_map(|name| StorePath::parse(name).ok());
            found.references.extend(paths.map(|path| path.hash_part()));
        }
        if let Some(url) = line.strip_prefix("URL:") {
            found.url = NarUrl::parse(url.trim()).ok().or(found.url);
        }
        if let Some(name) = line.strip_prefix("Deriver:") {
            found.deriver = StorePath::parse(name.trim()).ok().or(found.deriver);
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_of_a_damaged_narinfo_is_seen() {
        let hash = "0c0ngrnyz7b7w2hzwzvhyzxqdqz3dnya";
        let text = format!(
            "StorePath: \u{1}\nURL: nar/a.nar.br\nCompression: br\nReferences: {hash}-a b {hash}-c\nDeriver: {hash}-a.drv\n"
        );
        let found = remnants(text.as_bytes());
        assert_eq!(found.url, NarUrl::parse("nar/a.nar.br").ok());
        assert_eq!(found.references, vec![PathHash::parse(hash).unwrap(); 2]);
        assert_eq!(found.deriver, StorePath::parse(&format!("{hash}-a.drv")).ok());
        assert_eq!(remnants(b"\xff\xfe\0"), Remnants::default());
    }
}
