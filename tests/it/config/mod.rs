//! `loft.toml`: what is read. A file each for what is refused and how it is told, and that no secret gets out.

mod credentials;
mod headers;
mod mistakes;
mod origins;
mod secrets;
mod signing;

use crate::original_toml::EXAMPLE;
use crate::support::setup::Setup;
use loft::bucket::Target;
use loft::config::{Flags, Loaded, Origin, Schedule, Sources, load};
use loft::nix::{Compression, KeyName, SecretKey};
use loft::push::Extras;
use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::time::Duration;

fn to(url: &str) -> Flags {
    Flags { to: Some(url.to_owned()), ..Flags::default() }
}

fn s3(loaded: &Loaded) -> &loft::bucket::S3Settings {
    match loaded.bucket().unwrap() {
        Target::S3(s3) => s3,
        Target::Directory(directory) => panic!("{directory:?}"),
    }
}

#[test]
fn the_example_is_read_without_a_word() {
    let setup = Setup::new(EXAMPLE);
    let loaded = setup.load().unwrap();
    assert_eq!(loaded.warnings, []);
    let (s3, settings) = (s3(&loaded), &loaded.settings);
    assert_eq!((s3.bucket.as_str(), s3.region.as_deref()), ("nix-cache", Some("us-east-1")));
    assert_eq!(s3.endpoint.as_deref(), Some("http://172.16.1.50:31292"));
    assert_eq!(s3.extra_headers.names().collect::<Vec<_>>(), ["cf-access-client-id"]);
    assert_eq!(settings.push.upload_threads, 12);
    assert!(settings.service.scan_on_startup && !settings.service.populate_cache_on_startup);
    assert_eq!(settings.ledger, PathBuf::from(".direnv/cache.db"));
    assert_eq!(settings.packing.compression, Compression::Zstd);
    assert_eq!(settings.signing.files[0].path, PathBuf::from("/run/secrets/nix-signing-key"));
    assert_eq!(settings.signing.files[0].name, Some(KeyName::parse("nix-cache").unwrap()));
    let skipped: Vec<_> = settings.push.skip_signed_by.iter().map(|key| key.name.as_str()).collect();
    assert_eq!(skipped, ["cache.nixos.org-1", "nix-community.cachix.org-1"]);
    assert_eq!((settings.prune.retention_days, settings.prune.max_size_gb), (30, Some(1000)));
    assert_eq!(settings.prune.schedule, Schedule::Every(Duration::from_secs(86400)));
    assert!(load(&Sources { strict: true, ..setup.sources.clone() }).is_ok());
}

#[test]
fn every_new_key_is_read() {
    let public = SecretKey::generate(KeyName::parse("up-1").unwrap()).unwrap().public();
    let setup = Setup::new(&format!(
        r#"
[s3]
bucket = "b"
prefix = "nix/x86"
addressing_style = "virtual"
access_key_file = "/run/a"
secret_key_file = "/run/s"
profile = "work"
ca_file = "/etc/ca.pem"
storage_class = "STANDARD_IA"
[loft]
compression = "xz"
compression_level = 9
store = "local?root=/mnt"
priority = 30
upstreams = ["https://cache.nixos.org/"]
exclude = ["*-source", "secret-*"]
memory_limit = "1GiB"
nar_listings = true
build_logs = true
debug_info = true
metrics_address = "[::1]:9100"
signing_key_paths = ["/k1", "/k2", "/k1"]
skip_signed_by_keys = ["{public}"]
prune_schedule = "03:30"
"#
    ));
    let loaded = setup.load().unwrap();
    assert_eq!(loaded.warnings, []);
    let (s3, settings) = (s3(&loaded), &loaded.settings);
    assert_eq!((s3.prefix.as_str(), s3.profile.as_deref()), ("nix/x86", Some("work")));
    assert_eq!(s3.storage_class.as_deref(), Some("STANDARD_IA"));
    assert_eq!((settings.packing.compression, settings.packing.level), (Compression::Xz, Some(9)));
    assert_eq!(settings.store.store.as_deref(), Some("local?root=/mnt"));
    assert_eq!(settings.push.memory_limit, 1 << 30);
    assert_eq!(settings.push.upstreams, ["https://cache.nixos.org"]);
    assert_eq!(settings.push.exclude.len(), 2);
    assert_eq!(settings.push.skip_signed_by[0].public, Some(public));
    assert_eq!(settings.signing.files.len(), 2, "the same file twice signs once");
    assert_eq!(settings.service.metrics_address, Some("[::1]:9100".parse().unwrap()));
    assert_eq!(settings.prune.schedule, Schedule::Daily { hour: 3, minute: 30 });
    assert_eq!(settings.push.extras, Extras { nar_listings: true, build_logs: true, debug_info: true });
}

#[test]
fn a_missing_file_matters_only_when_named() {
    let dir = tempfile::tempdir().unwrap();
    let missing = dir.path().join("none.toml");
    let error = load(&Sources { file: Some(missing.clone()), ..Sources::default() }).unwrap_err();
    assert!(error.to_string().contains(&missing.display().to_string()), "{error}");
    let environment = BTreeMap::from([("LOFT_CONFIG".to_owned(), missing.display().to_string())]);
    let error = load(&Sources { environment, ..Sources::default() }).unwrap_err();
    assert_eq!(error.problems[0].origin, Origin::Environment("LOFT_CONFIG".into()));
    // The tests' working directory has no loft.toml.
    let loaded = load(&Sources { flags: to("s3://b"), ..Sources::default() }).unwrap();
    assert_eq!(s3(&loaded).bucket, "b");
    let error = load(&Sources::default()).unwrap().bucket().unwrap_err().to_string();
    for part in ["--to", "LOFT_CACHE", "no loft.toml in the current directory"] {
        assert!(error.contains(part), "{error}");
    }
    // Files that are none.
    fs::write(&missing, b"[s3]\n\xff").unwrap();
    let sources = Sources { file: Some(missing.clone()), ..Sources::default() };
    assert!(load(&sources).unwrap_err().to_string().contains("line 2 is not valid UTF-8"));
    fs::write(&missing, "#".repeat(2 << 20)).unwrap();
    assert!(load(&sources).unwrap_err().to_string().contains("larger than 1 MiB"));
    assert!(load(&Sources { file: Some(dir.path().to_owned()), ..Sources::default() }).is_err());
    fs::write(&missing, "\u{feff}[s3]\nbucket = \"b\"\n").unwrap();
    assert_eq!(load(&sources).unwrap().warnings, [], "a byte order mark is no mistake");
}

#[test]
fn the_ledger_has_a_place_for_everyone() {
    let dir = tempfile::tempdir().unwrap();
    let home = dir.path().display().to_string();
    let ledger = |setup: Setup| setup.load().unwrap().settings.ledger;
    let set = Setup::new("[loft]\nlocal_cache_path = \"x/y.db\"").variable("HOME", &home);
    assert_eq!(ledger(set), PathBuf::from("x/y.db"));
    assert_eq!(ledger(Setup::new("")), PathBuf::from("/var/lib/loft/cache.db"));
    if !std::path::Path::new("/var/lib/loft").exists() {
        let cache = dir.path().join(".cache/loft/cache.db");
        assert_eq!(ledger(Setup::new("").variable("HOME", &home)), cache);
        let xdg = Setup::new("").variable("HOME", &home).variable("XDG_CACHE_HOME", "/xdg");
        assert_eq!(ledger(xdg), PathBuf::from("/xdg/loft/cache.db"));
    }
}
