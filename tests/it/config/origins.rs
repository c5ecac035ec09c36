//! Layers: the file, the environment, what is typed; which wins, and what a URL says.

use super::{Setup, s3, to};
use loft::bucket::Target;
use loft::config::{Flags, Loaded, Origin, load};
use loft::nix::Compression;
use std::path::PathBuf;

#[test]
fn later_layers_win_and_each_value_knows_its_origin() {
    let text = "[s3]\nbucket = \"file\"\nregion = \"r1\"\nendpoint = \"http://h:1\"\n[loft]\nupload_threads = 3\n";
    let setup = Setup::new(text);
    assert_eq!(setup.shown("s3.bucket"), ("file".into(), "loft.toml:2:10".into()));
    assert_eq!(setup.shown("loft.upload_threads"), (3.into(), "loft.toml:6:18".into()));
    assert_eq!(setup.shown("loft.priority"), (41.into(), "default".into()));

    let setup = setup.variable("LOFT_CACHE", "s3://variable?region=r2").variable("AWS_REGION", "aws");
    assert_eq!(setup.shown("s3.bucket"), ("variable".into(), "LOFT_CACHE".into()));
    assert_eq!(setup.shown("s3.region"), ("r2".into(), "LOFT_CACHE".into()));
    assert_eq!(setup.shown("s3.endpoint"), ("http://h:1".into(), "loft.toml:4:12".into()));

    let setup = setup.flags(Flags { jobs: Some(7), level: Some(9), ..to("s3://flag") });
    assert_eq!(setup.shown("s3.bucket"), ("flag".into(), "--to".into()));
    assert_eq!(setup.shown("s3.region"), ("r1".into(), "loft.toml:3:10".into()));
    assert_eq!(setup.shown("loft.upload_threads"), (7.into(), "--jobs".into()));
    assert_eq!(setup.load().unwrap().settings.packing.level, Some(9));

    let setup = Setup::new("[s3]\nbucket = \"b\"\n").variable("AWS_DEFAULT_REGION", "eu").variable("AWS_REGION", "");
    assert_eq!(setup.shown("s3.region"), ("eu".into(), "AWS_DEFAULT_REGION".into()));
}

#[test]
fn flags_are_checked_like_the_file() {
    let setup = Setup::new("").flags(Flags { jobs: Some(0), level: Some(99), ..to("s3://b") });
    let error = setup.load().unwrap_err();
    let origins: Vec<_> = error.problems.iter().map(|problem| problem.origin.to_string()).collect();
    assert_eq!(origins, ["--level", "--jobs"], "{error}");
    for url in ["http://h/b", "s3://", "s3://a:b@c", "file://relative", "nonsense", "s3://b?endpoint=ftp://x"] {
        let error = Setup::new("").flags(to(url)).load().unwrap_err();
        assert_eq!(error.problems[0].origin, Origin::Flag("--to"), "{url}: {error}");
    }
}

#[test]
fn a_url_may_say_how_to_write() {
    let setup = Setup::new("[loft]\ncompression_level = 19\nsigning_key_path = \"/k\"\nsigning_key_name = \"n\"\n");
    let setup = setup.flags(to("s3://b?compression=xz&secret-key=/url/key&write-nar-listing=true&priority=10"));
    let loaded = setup.load().unwrap();
    let settings = &loaded.settings;
    assert_eq!((settings.packing.compression, settings.packing.level), (Compression::Xz, None));
    assert!(settings.push.extras.nar_listings);
    assert_eq!(settings.signing.files.len(), 1);
    assert_eq!(settings.signing.files[0].path, PathBuf::from("/url/key"));
    assert_eq!(settings.signing.files[0].name, None);
    assert_eq!(setup.shown("loft.compression"), ("xz".into(), "--to".into()));
}

#[test]
fn a_directory_is_a_cache() {
    let setup = Setup::new("[s3]\nbucket = \"b\"\n").flags(to("file:///srv/cache"));
    let loaded = setup.load().unwrap();
    assert!(matches!(loaded.bucket().unwrap(), Target::Directory(path) if path.as_os_str() == "/srv/cache"));
    assert!(loaded.effective.iter().all(|entry| !entry.key.starts_with("s3.")));
}

#[test]
fn a_url_in_the_file_names_the_cache_below_what_is_typed() {
    let directory = |loaded: &Loaded| match loaded.bucket().unwrap() {
        Target::Directory(path) => path.clone(),
        Target::S3(settings) => panic!("{settings:?}"),
    };
    let setup = Setup::new("[loft]\ncache = \"file:///srv/my%20cache\"\npublic_url = \"https://h/x/\"\n");
    let loaded = setup.load().unwrap();
    assert_eq!((directory(&loaded), loaded.warnings.as_slice()), ("/srv/my cache".into(), &[][..]));
    assert_eq!(loaded.settings.public_url.as_deref(), Some("https://h/x"));
    let mut typed = setup.sources.clone();
    typed.flags = to("file:///elsewhere");
    assert_eq!(directory(&load(&typed).unwrap()), PathBuf::from("/elsewhere"));
    typed.flags = to("s3://b?endpoint=http://h:1");
    assert_eq!(s3(&load(&typed).unwrap()).bucket, "b");

    // A typed URL may name just another bucket of the file's server.
    let setup = Setup::new("[loft]\ncache = \"s3://a?endpoint=http://h:1&region=r\"\n");
    assert_eq!(s3(&setup.load().unwrap()).bucket, "a");
    let mut typed = setup.sources.clone();
    typed.flags = to("s3://b");
    let loaded = load(&typed).unwrap();
    assert_eq!((s3(&loaded).bucket.as_str(), s3(&loaded).endpoint.as_deref()), ("b", Some("http://h:1")));

    // Passwords are not shown, wherever they stand.
    let error = Setup::new("[loft]\ncache = \"s3://k:p4ss@b\"\n").load().unwrap_err();
    assert!(!error.to_string().contains("p4ss") && error.to_string().contains("user name or a password"), "{error}");
}
