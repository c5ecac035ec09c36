//! The keys that sign: which, in what order, and that none is taken that cannot be trusted.

use super::Setup;
use loft::config::{Flags, Loaded};
use loft::nix::{KeyName, SecretKey};
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;

fn key_file(dir: &tempfile::TempDir, name: &str, mode: u32) -> (PathBuf, SecretKey) {
    let key = SecretKey::generate(KeyName::parse(name).unwrap()).unwrap();
    let file = dir.path().join(name);
    fs::write(&file, key.to_secret_text().as_bytes()).unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(mode)).unwrap();
    (file, key)
}

fn configured(lines: &str) -> Loaded {
    Setup::new(&format!("[s3]\nbucket = \"b\"\n[loft]\n{lines}")).load().unwrap()
}

#[test]
fn several_keys_sign_in_order() {
    let dir = tempfile::tempdir().unwrap();
    let ((first, _), (second, _)) = (key_file(&dir, "k-1", 0o600), key_file(&dir, "k-2", 0o400));
    let loaded = configured(&format!("signing_key_path = {first:?}\nsigning_key_paths = [{second:?}, {first:?}]\n"));
    let read = loaded.signing_keys().unwrap();
    let names: Vec<_> = read.keys.iter().map(|key| key.name().as_str()).collect();
    assert_eq!((names, read.warnings), (vec!["k-1", "k-2"], vec![]));
    assert!(configured("").signing_keys().unwrap().keys.is_empty());
}

#[test]
fn the_configured_name_wins_and_the_public_key_is_told() {
    let dir = tempfile::tempdir().unwrap();
    let (file, key) = key_file(&dir, "in-file", 0o600);
    let loaded = configured(&format!("signing_key_path = {file:?}\nsigning_key_name = \"configured\"\n"));
    let read = loaded.signing_keys().unwrap();
    assert_eq!(read.keys[0].name().as_str(), "configured");
    let public = key.public().to_string().replace("in-file", "configured");
    assert!(read.warnings[0].help.as_deref().unwrap().contains(&public), "{}", read.warnings[0]);
    let same = configured(&format!("signing_key_path = {file:?}\nsigning_key_name = \"in-file\"\n"));
    assert_eq!(same.signing_keys().unwrap().warnings, []);
    assert_eq!(configured("signing_key_name = \"alone\"\n").warnings.len(), 1);
}

#[test]
fn typed_keys_replace_configured_ones() {
    let dir = tempfile::tempdir().unwrap();
    let (file, _) = key_file(&dir, "typed", 0o600);
    let setup = Setup::new("[loft]\nsigning_key_path = \"/missing\"\nsigning_key_name = \"other\"\n")
        .flags(Flags { signing_keys: vec![file], ..Flags::default() });
    let read = setup.load().unwrap().signing_keys().unwrap();
    assert_eq!(read.keys[0].name().as_str(), "typed");
}

#[test]
fn a_key_that_cannot_be_trusted_stops() {
    let dir = tempfile::tempdir().unwrap();
    let refused = |path: &std::path::Path| {
        let loaded = configured(&format!("signing_key_paths = [{path:?}]\n"));
        let error = loaded.signing_keys().unwrap_err();
        assert_eq!(error.problems.len(), 1);
        error.to_string()
    };
    for mode in [0o620, 0o602, 0o666] {
        let (file, _) = key_file(&dir, &format!("m{mode:o}"), mode);
        assert!(refused(&file).contains("lets others write"), "{mode:o}");
    }
    let (readable, _) = key_file(&dir, "readable", 0o644);
    let read = configured(&format!("signing_key_paths = [{readable:?}]\n")).signing_keys().unwrap();
    assert!(read.keys.len() == 1 && read.warnings[0].message.contains("can be read by other users"));

    assert!(refused(&dir.path().join("missing")).contains("No such file"));
    assert!(refused(dir.path()).contains("directory"));
    let (file, key) = key_file(&dir, "damaged", 0o600);
    let secret = key.to_secret_text();
    for cut in [1, 4, 20, 60] {
        fs::write(&file, &secret[..secret.trim_end().len() - cut]).unwrap();
        let told = refused(&file);
        assert!(told.contains("is not a secret key file"), "{told}");
        assert!(!told.contains(&secret[12..24]), "{told}");
    }
    fs::write(&file, key.public().to_string()).unwrap();
    assert!(refused(&file).contains("is not a secret key file"));
    for content in [&b""[..], b"\xff\xfe", b"\n", &[b'a'; 100_000]] {
        fs::write(&file, content).unwrap();
        refused(&file);
    }
}

#[test]
fn a_key_in_the_store_is_refused_through_any_link() {
    let dir = tempfile::tempdir().unwrap();
    let store = dir.path().join("store");
    fs::create_dir(&store).unwrap();
    let inside = store.join("key");
    let (file, _) = key_file(&dir, "k-1", 0o444);
    fs::rename(file, &inside).unwrap();
    let link = dir.path().join("link");
    std::os::unix::fs::symlink(&inside, &link).unwrap();
    let setup = Setup::new(&format!("[loft]\nsigning_key_path = {link:?}\n"));
    assert!(setup.load().unwrap().signing_keys().is_ok());
    let setup = setup.variable("NIX_STORE_DIR", &store.canonicalize().unwrap().display().to_string());
    let error = setup.load().unwrap().signing_keys().unwrap_err();
    assert!(error.to_string().contains("in the Nix store"), "{error}");
}
