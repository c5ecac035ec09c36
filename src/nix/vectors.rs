//! What real Nix wrote (`tests/data/nix-caches`), against the types of this module.

use super::*;
use std::fs;
use std::path::{Path, PathBuf};

/// A narinfo of the test data: its file, and its bytes.
pub(crate) struct Vector {
    pub file: PathBuf,
    pub bytes: Vec<u8>,
}

fn data() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/nix-caches")
}

/// Every narinfo in `<version>/<kind>`, all kinds where none is given.
pub(crate) fn nar_infos(version: &str, only: Option<&str>) -> Vec<Vector> {
    let mut found = Vec::new();
    for kind in fs::read_dir(data().join(version)).unwrap() {
        let kind = kind.unwrap();
        if !kind.path().is_dir() || only.is_some_and(|only| kind.file_name() != only) {
            continue;
        }
        for file in fs::read_dir(kind.path()).unwrap() {
            let file = file.unwrap().path();
            if file.extension().is_some_and(|extension| extension == "narinfo") {
                found.push(Vector { bytes: fs::read(&file).unwrap(), file });
            }
        }
    }
    found
}

pub(crate) const VERSIONS: [(&str, usize); 4] =
    [("nix-2.8", 14), ("nix-2.26", 16), ("nix-2.34", 16), ("signed-2.8", 3)];

#[test]
fn every_narinfo_parses_and_prints_back_byte_for_byte() {
    let dir = StoreDir::default();
    for (version, count) in VERSIONS {
        let vectors = nar_infos(version, None);
        assert_eq!(vectors.len(), count, "{version}");
        for Vector { file, bytes } in vectors {
            let info = NarInfo::parse(&dir, &bytes).unwrap_or_else(|error| panic!("{file:?}: {error:?}"));
            assert_eq!(info.print(&dir).as_bytes(), bytes, "{file:?}");
            let hash = PathHash::parse(file.file_stem().unwrap().to_str().unwrap()).unwrap();
            assert!(info.is_for(&hash));
            assert!(!info.is_for(&PathHash::parse(&"0".repeat(32)).unwrap()));
        }
    }
}

#[test]
fn every_signature_of_every_nix_verifies() {
    let dir = StoreDir::default();
    let mut verified = 0;
    for (version, kind) in
        [("nix-2.8", "zstd-ls"), ("nix-2.26", "zstd-ls"), ("nix-2.34", "zstd-ls"), ("signed-2.8", "none")]
    {
        let key = PublicKey::parse(&fs::read_to_string(data().join(version).join("public-key")).unwrap()).unwrap();
        for Vector { file, bytes } in nar_infos(version, Some(kind)) {
            let info = NarInfo::parse(&dir, &bytes).unwrap();
            let [signature] = &info.signatures[..] else { panic!("{file:?} has one signature") };
            assert!(key.verifies(&info.fingerprint(&dir), signature), "{file:?}");
            verified += 1;

            let mut other = info.clone();
            other.nar_size = other.nar_size.checked_add(1).unwrap();
            assert!(!key.verifies(&other.fingerprint(&dir), signature), "{file:?}");
            let renamed = PublicKey::parse(&key.to_string().replacen(':', "x:", 1)).unwrap();
            assert!(!renamed.verifies(&info.fingerprint(&dir), signature), "the name counts, too");
        }
    }
    assert_eq!(verified, 5 + 7 + 7 + 3);
}

#[test]
fn signs_as_nix_does() {
    let dir = StoreDir::default();
    let text = fs::read_to_string(data().join("signed-2.8/secret-key")).unwrap();
    let secret = SecretKey::parse(&text).unwrap();
    assert_eq!(secret.to_secret_text().as_str(), text, "the key file's own bytes");
    let public = fs::read_to_string(data().join("signed-2.8/public-key")).unwrap();
    assert_eq!(secret.public().to_string(), public);

    let vectors = nar_infos("signed-2.8", None);
    let mut most_references = 0;
    for Vector { bytes, .. } in &vectors {
        let info = NarInfo::parse(&dir, bytes).unwrap();
        assert_eq!([secret.sign(&info.fingerprint(&dir))], info.signatures[..]);
        most_references = most_references.max(info.references.len());

        let mut shuffled = info.clone();
        shuffled.references.reverse();
        shuffled.references.extend(info.references.clone());
        assert_eq!(shuffled.fingerprint(&dir), info.fingerprint(&dir));
    }
    assert_eq!(most_references, 2);
}
