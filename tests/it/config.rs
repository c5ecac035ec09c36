//! `loft.toml`: what is accepted, what is refused and how it is told, and that no secret gets out.

use crate::original_toml::EXAMPLE;
use loft::bucket::Target;
use loft::config::{ConfigError, Flags, Loaded, Origin, Schedule, Sources, load, show};
use loft::nix::{Compression, KeyName, SecretKey};
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::time::Duration;

struct Setup {
    dir: tempfile::TempDir,
    sources: Sources,
}

impl Setup {
    fn new(text: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("loft.toml");
        fs::write(&file, text).unwrap();
        Self { dir, sources: Sources { file: Some(file), ..Sources::default() } }
    }

    fn variable(mut self, name: &str, value: &str) -> Self {
        self.sources.environment.insert(name.to_owned(), value.to_owned());
        self
    }

    fn flags(mut self, flags: Flags) -> Self {
        self.sources.flags = flags;
        self
    }

    fn load(&self) -> Result<Loaded, ConfigError> {
        load(&self.sources)
    }

    /// Of a setting, what `config show` says: value and origin without the directory.
    fn shown(&self, key: &str) -> (serde_json::Value, String) {
        let loaded = self.load().unwrap();
        let entry = loaded.effective.iter().find(|entry| entry.key == key).expect(key);
        let origin = entry.origin.to_string();
        (entry.value.clone(), origin.replace(&format!("{}/", self.dir.path().display()), ""))
    }
}

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
fn headers_of_a_file_win_over_the_table_and_variables_over_both() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("headers");
    let write = |text: &str| fs::write(&file, text).unwrap();
    let table = "[s3.extra_headers]\nX-A = \"table\"\nX-B = \"table\"\nX-C = \"table\"\n";
    let setup = Setup::new(&format!("[s3]\nbucket = \"b\"\nextra_headers_file = {file:?}\n{table}"))
        .variable("LOFT_EXTRA_HEADER_X_C", "variable");
    write(
        "# as in HTTP\nx-b: file=1\nX-Colons : a:b \n\n; as in a file of variables\r\nLOFT_EXTRA_HEADER_X_C=file\n\
         LOFT_EXTRA_HEADER_X_QUOTED=\"a: b\"\nLOFT_EXTRA_HEADER_X_SINGLE='s'\nAWS_SECRET_ACCESS_KEY=hunter2: x\n",
    );
    let loaded = setup.load().unwrap();
    let headers: BTreeMap<_, _> =
        s3(&loaded).extra_headers.iter().map(|(name, value)| (name.as_str(), value.to_str().unwrap())).collect();
    let expected = [
        ("x-a", "table"),
        ("x-b", "file=1"),
        ("x-c", "variable"),
        ("x-colons", "a:b"),
        ("x-quoted", "a: b"),
        ("x-single", "s"),
    ];
    assert_eq!(headers, BTreeMap::from(expected));
    assert_eq!(setup.shown("s3.extra_headers.x-b").1, format!("{}:2:1", file.display()));
    let [warning] = loaded.warnings.as_slice() else { panic!("{:?}", loaded.warnings) };
    let warning = warning.to_string();
    assert!(warning.contains("headers:9:1") && warning.contains("LOFT_EXTRA_HEADER_NAME=value"), "{warning}");
    // What seems to be a variable's name may be a secret with padding.
    assert!(!warning.contains("AWS_SECRET") && !warning.contains("hunter2"), "{warning}");

    let refused = |text: &str, expected: &str| {
        write(text);
        let error = setup.load().unwrap_err();
        assert_eq!(error.problems.len(), 1, "{error}");
        let told = error.to_string();
        assert!(told.contains(expected) && !told.contains("hunter2"), "{text}: {told}");
    };
    refused("X-Token: ok\nhunter2\n", "headers:2:1");
    refused("hunter2 = x", "`Name: value`");
    // A secret that has a colon, or something like it, is no header.
    for secret in [
        "hunter2:x",
        "user:hunter2",
        "user:hunter2: x",
        "eyJhbGciOiJIUzI1NiJ9.hunter2.x:abc",
        "eyJhbGciOiJIUzI1NiJ9: hunter2",
        "AKIAIOSFODNN7EXAMPLE:hunter2",
        "GK31c2f218a2e44f485b94239e: hunter2",
        "hunter2/abc: x",
        "f50e8400-e29b-41d4-a716-446655440000: hunter2",
        "2f-hunter2: x",
        "Basic hunter2: x",
        "LOFT_EXTRA_HEADER_X hunter2=x",
        "https://user:hunter2@proxy",
        ": hunter2",
    ] {
        refused(secret, "write `Name: value`");
    }
    refused("X-Amz-Date: hunter2", "x-amz-");
    for header in ["CF-Access-Client-Secret:x", "Cookie: x=y", "X-B3-TraceId: x", "X_Key : x", "Sec-WebSocket-Key1:\tx"]
    {
        write(header);
        assert!(setup.load().is_ok(), "{header}");
    }
    refused(&"X-Token: hunter2\n".repeat(10_000), "longer than any server takes");
    write("");
    fs::set_permissions(&file, fs::Permissions::from_mode(0o602)).unwrap();
    assert!(setup.load().unwrap_err().to_string().contains("others may write it"));
    fs::remove_file(&file).unwrap();
    assert!(setup.load().unwrap_err().to_string().contains("No such file"));
    // Another server is told nothing of it.
    let elsewhere = setup.flags(to("s3://b?endpoint=http://other:1"));
    assert!(elsewhere.load().unwrap().warnings[0].to_string().contains("extra_headers_file"));
}

#[test]
fn a_header_may_have_a_file_of_its_own() {
    let dir = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| {
        let file = dir.path().join(name);
        fs::write(&file, text).unwrap();
        file
    };
    let lines = file("lines", "X-B: lines\nX-C: lines\n");
    let [b, c, d] = [file("b", "own: b\n"), file("c", "own"), file("d", "own\r\n")];
    let setup = Setup::new(&format!(
        "[s3]\nbucket = \"b\"\nextra_headers_file = {lines:?}\n\
         [s3.extra_headers]\nX-A = \"table\"\nX-B = \"table\"\nX-D = \"table\"\n\
         [s3.extra_header_files]\nx-b = {b:?}\nX-C = {c:?}\nX-D = {d:?}\n"
    ))
    .variable("LOFT_EXTRA_HEADER_X_C", "variable");
    let headers = |setup: &Setup| -> BTreeMap<String, String> {
        let loaded = setup.load().unwrap();
        assert_eq!(loaded.warnings, []);
        let text = |value: &http::HeaderValue| value.to_str().unwrap().to_owned();
        s3(&loaded).extra_headers.iter().map(|(name, value)| (name.to_string(), text(value))).collect()
    };
    let map = |pairs: &[(&str, &str)]| pairs.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect();
    let expected: BTreeMap<String, String> =
        map(&[("x-a", "table"), ("x-b", "own: b"), ("x-c", "variable"), ("x-d", "own")]);
    assert_eq!(headers(&setup), expected);
    assert_eq!(setup.shown("s3.extra_headers.x-b").1, format!("{}:1:1", b.display()));
    assert_eq!(setup.shown("s3.extra_header_files.x-b"), (b.display().to_string().into(), "loft.toml:9:7".to_owned()));

    // A credential stands for the file of its header, whatever the name's case, and needs no line in loft.toml.
    let credentials = dir.path().join("credentials");
    fs::create_dir(&credentials).unwrap();
    fs::write(credentials.join("loft.extra-header.X-B"), "credential\n").unwrap();
    fs::write(credentials.join("loft.extra-header.X-E"), "credential").unwrap();
    fs::remove_file(&b).unwrap();
    let setup = setup.variable("CREDENTIALS_DIRECTORY", credentials.to_str().unwrap());
    let expected: BTreeMap<String, String> =
        map(&[("x-a", "table"), ("x-b", "credential"), ("x-c", "variable"), ("x-d", "own"), ("x-e", "credential")]);
    assert_eq!(headers(&setup), expected);
    assert_eq!(setup.shown("s3.extra_header_files.x-e").1, "CREDENTIALS_DIRECTORY");

    let refused = |text: &str, expected: &str| {
        fs::write(&d, text).unwrap();
        let error = setup.load().unwrap_err();
        assert_eq!(error.problems.len(), 1, "{error}");
        let told = error.to_string();
        assert!(told.contains(expected) && told.contains("/d") && !told.contains("hunter2"), "{told}");
    };
    refused("hunter2\nhunter2\n", "X-D");
    // One newline is the editor's; what stands before it is meant, or a mistake.
    refused("hunter2\n\n", "X-D");
    refused("\n", "it is empty");
    fs::write(&d, "x").unwrap();
    fs::set_permissions(&d, fs::Permissions::from_mode(0o602)).unwrap();
    assert!(setup.load().unwrap_err().to_string().contains("others may write it"));
}

#[test]
fn credentials_of_systemd_stand_for_the_files_that_are_configured() {
    let dir = tempfile::tempdir().unwrap();
    let credential = |name: &str, text: &str| {
        let file = dir.path().join(name);
        fs::write(&file, text).unwrap();
        // As an access control list for one user looks.
        fs::set_permissions(&file, fs::Permissions::from_mode(0o440)).unwrap();
        file
    };
    let text = "[s3]\nbucket = \"b\"\naccess_key = \"inline-key\"\nsecret_key_file = \"/root/s\"\n\
                extra_headers_file = \"/root/h\"\n[loft]\nsigning_key_path = \"/root/k\"\nsigning_key_name = \"n-1\"\n\
                signing_key_paths = [\"/root/k2\"]\n";
    let setup = |directory: &str| Setup::new(text).variable("CREDENTIALS_DIRECTORY", directory);
    let here = dir.path().to_str().unwrap().to_owned();
    // None there: what is configured holds, and cannot be read.
    for directory in ["", here.as_str(), "/nowhere"] {
        assert!(setup(directory).load().unwrap_err().to_string().contains("/root/h"), "{directory}");
    }
    // That nobody can look is not that none is there.
    let unreadable = credential("no-directory", "");
    let error = setup(unreadable.to_str().unwrap()).load().unwrap_err().to_string();
    assert!(error.contains("Could not look which credentials are in"), "{error}");
    let access = credential("loft.access-key", "id\n");
    let secret = credential("loft.secret-key", "secret\n");
    credential("loft.extra-headers", "X-Token: t\n");
    let key = |name: &str| SecretKey::generate(KeyName::parse(name).unwrap()).unwrap().to_secret_text().to_string();
    let signing = credential("loft.signing-key", &key("n-1"));
    let more = [credential("loft.signing-key.0", &key("m-0")), credential("loft.signing-key.1", &key("m-1"))];
    credential("loft.signing-keys", "nonsense");
    let setup = setup(&here);
    let loaded = setup.load().unwrap();
    assert_eq!(loaded.warnings, []);
    let s3 = s3(&loaded);
    assert!(s3.access_key.is_none(), "it would contradict the credential");
    assert_eq!((s3.access_key_file.as_ref(), s3.secret_key_file.as_ref()), (Some(&access), Some(&secret)));
    assert_eq!(s3.extra_headers.names().collect::<Vec<_>>(), ["x-token"]);
    let files: Vec<_> = loaded.settings.signing.files.iter().map(|file| &file.path).collect();
    assert_eq!(files, [&signing, &more[0], &more[1]]);
    let keys = loaded.signing_keys().unwrap();
    assert_eq!(keys.warnings, [], "who can read a credential is systemd's business");
    assert_eq!(keys.keys.iter().map(|key| key.name().as_str()).collect::<Vec<_>>(), ["n-1", "m-0", "m-1"]);
    assert_eq!(setup.shown("s3.access_key_file").1, "CREDENTIALS_DIRECTORY");
    // A key that was typed replaces them all, as it does configured ones.
    let typed = setup.flags(Flags { signing_keys: vec!["/typed".into()], ..Flags::default() });
    assert_eq!(typed.load().unwrap().settings.signing.files.len(), 1);
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
    assert!(settings.push.nar_listings && settings.push.build_logs && settings.push.debug_info);
}

/// Text; line, column and part of the message of each problem, in order.
type Broken = (&'static str, &'static [(usize, usize, &'static str)]);

const BROKEN: &[Broken] = &[
    // Syntax.
    ("[s3\nbucket = \"b\"", &[(1, 4, "Not valid TOML")]),
    ("[s3]\nbucket = b", &[(2, 10, "Not valid TOML")]),
    ("[s3]\nbucket = \"b", &[(2, 12, "Not valid TOML")]),
    ("[s3]\nbucket = \"a\"\nbucket = \"b\"", &[(3, 1, "duplicate key")]),
    ("[loft]\nupload_threads = 12x\nscan_on_startup = tru", &[(2, 18, "Not valid"), (3, 19, "Not valid")]),
    // Types.
    ("s3 = 3", &[(1, 1, "`s3` must be a section")]),
    ("[s3]\nbucket = 3", &[(2, 10, "`bucket` is 3, but must be the bucket's name")]),
    ("[loft]\nupload_threads = \"12\"", &[(2, 18, "`upload_threads` is \"12\", but must be a whole number")]),
    ("[loft]\nupload_threads = 1.5", &[(2, 18, "a fraction")]),
    ("[loft]\nscan_on_startup = \"yes\"", &[(2, 19, "must be true or false, without quotes")]),
    ("[loft]\nprune_schedule = 00:00", &[(2, 18, "a date or time without quotes")]),
    ("[loft]\nsigning_key_paths = \"/k\"", &[(2, 21, "for example [\"/k\"]")]),
    ("[loft]\nexclude = [\"a\", 3]", &[(2, 17, "An item of `exclude` is 3")]),
    ("[loft]\ncache = 3", &[(2, 9, "`cache` is 3, but must be a URL in quotes")]),
    ("[loft]\npublic_url = \"cache.example.org\"", &[(2, 14, "but must be the web address that clients read")]),
    ("[loft]\npublic_url = \"https://u:p@h\"", &[(2, 14, "`public_url` is a text with `@`")]),
    ("[s3]\nextra_headers = \"X: y\"", &[(2, 17, "[s3.extra_headers]")]),
    ("[s3.extra_headers]\nX-Foo = 3", &[(2, 9, "\"X-Foo\"")]),
    ("[s3]\nextra_header_files = \"/run/h\"", &[(2, 22, "[s3.extra_header_files]")]),
    ("[s3.extra_header_files]\nX-Foo = 3", &[(2, 9, "\"X-Foo\"")]),
    ("[s3.extra_header_files]\nX-Foo = \"\"", &[(2, 9, "\"X-Foo\"")]),
    ("[loft]\ncompression = [\"zstd\"]", &[(2, 15, "`compression` is a list")]),
    ("[loft]\nupload_threads = 99999999999999999999", &[(2, 18, "beyond 64 bits")]),
    // Values.
    ("[loft]\nupload_threads = 0", &[(2, 18, "from 1 to 512")]),
    ("[loft]\nupload_threads = -1", &[(2, 18, "is -1")]),
    ("[loft]\nprune_target_percentage = 101", &[(2, 27, "from 1 to 100")]),
    ("[loft]\nprune_retention_days = 0", &[(2, 24, "from 1 to")]),
    ("[loft]\nprune_max_size_gb = 0", &[(2, 21, "from 1,")]),
    ("[loft]\nprune_schedule = \"daily\"", &[(2, 18, "\"90m\", \"24h\", \"7d\"")]),
    ("[loft]\nprune_schedule = \"25:00\"", &[(2, 18, "`prune_schedule` is \"25:00\"")]),
    ("[loft]\nprune_schedule = \"5s\"", &[(2, 18, "from a minute to a year")]),
    ("[loft]\nprune_schedule = \"99999d\"", &[(2, 18, "from a minute to a year")]),
    ("[loft]\nprune_schedule = \"24\"", &[(2, 18, "`prune_schedule` is \"24\"")]),
    ("[loft]\ncompression = \"brotli\"", &[(2, 15, "\"zstd\", \"xz\" or \"none\"")]),
    ("[loft]\ncompression_level = 23", &[(2, 21, "from 1 to 22")]),
    ("[loft]\ncompression = \"xz\"\ncompression_level = 10", &[(3, 21, "from 0 to 9")]),
    ("[loft]\ncompression = \"none\"\ncompression_level = 3", &[(3, 21, "no levels")]),
    ("[loft]\nmemory_limit = \"1MiB\"", &[(2, 16, "at least 32 MiB")]),
    ("[loft]\nmemory_limit = \"lots\"", &[(2, 16, "`memory_limit` is \"lots\"")]),
    ("[loft]\nmetrics_address = \":9100\"", &[(2, 19, "an IP address and a port")]),
    ("[loft]\nsigning_key_path = \"k\"\nsigning_key_name = \"a b\"", &[(3, 20, "no key name")]),
    ("[loft]\nskip_signed_by_keys = [\"ok-1\", \"a:b\"]", &[(2, 32, "neither a key's name nor a public key")]),
    ("[loft]\nexclude = [\"/nix/store/*\"]", &[(2, 12, "not over paths")]),
    ("[loft]\nupstreams = [\"cache.nixos.org\"]", &[(2, 14, "https://cache.nixos.org")]),
    ("[loft]\nupstreams = [\"https://u:pw@h\"]", &[(2, 14, "user name or password")]),
    ("[s3]\nbucket = \"s3://b\"", &[(2, 10, "the bucket's name alone")]),
    ("[s3]\nbucket = \"\"", &[(2, 10, "`bucket` is \"\"")]),
    ("[s3]\nprefix = \"a/../b\"", &[(2, 10, "`prefix`")]),
    ("[s3]\naddressing_style = \"dns\"", &[(2, 20, "\"auto\", \"path\" or \"virtual\"")]),
    ("[s3]\nendpoint = \"localhost:3900\"", &[(2, 12, "http:// or https://")]),
    ("[s3]\nendpoint = \"ftp://h\"", &[(2, 12, "neither an http://")]),
    ("[s3]\nendpoint = \"http://h/bucket\"", &[(2, 12, "has a path")]),
    ("[s3]\nendpoint = \"http://u:pw@h\"", &[(2, 12, "user name or password")]),
    ("[s3]\nendpoint = \"http://h:99999\"", &[(2, 12, "port")]),
    ("[s3]\nendpoint = \"http://\"", &[(2, 12, "host name")]),
    ("[s3]\naccess_key = \"GK0123456789\"", &[(2, 14, "no secret key")]),
    ("[s3]\nsecret_key_file = \"/f\"", &[(2, 19, "no access key")]),
    ("[s3]\naccess_key = \"a\"\naccess_key_file = \"/f\"\nsecret_key = \"s\"", &[(3, 19, "both set")]),
    ("[s3.extra_headers]\nx-amz-meta-a = \"b\"", &[(2, 16, "x-amz-")]),
    ("[s3.extra_headers]\nHost = \"b\"", &[(2, 8, "Host")]),
    ("[s3.extra_headers]\nAuthorization = \"b\"", &[(2, 17, "Authorization")]),
    ("[s3.extra_headers]\n\"a b\" = \"c\"", &[(2, 9, "\"a b\"")]),
    // All in one go, in the file's order, whatever the sections' order.
    (
        "[loft]\nupload_threads = 0\ncompression = 3\n[s3]\nendpoint = \"x\"\n",
        &[(2, 18, "upload_threads"), (3, 15, "compression"), (5, 12, "endpoint")],
    ),
    ("# ünïcödé\n[loft] # é\nexclude = [\"é\", \"ok\", \"b c\"]", &[(3, 12, "'é'"), (3, 23, "' '")]),
    ("[loft]\r\nupload_threads = 0\r\n", &[(2, 18, "upload_threads")]),
];

#[test]
fn tells_every_problem_with_its_place() {
    assert!(BROKEN.len() >= 25);
    for (text, expected) in BROKEN {
        let setup = Setup::new(text);
        let error = setup.load().expect_err(text);
        let told = error.to_string();
        assert_eq!(error.problems.len(), expected.len(), "{text}\n{told}");
        for (problem, (line, column, part)) in error.problems.iter().zip(*expected) {
            let Origin::File(place) = &problem.origin else { panic!("{text}\n{problem}") };
            assert_eq!((place.line, place.column), (*line, *column), "{text}\n{told}");
            assert_eq!(Some(&*place.file), setup.sources.file.as_deref());
            assert!(problem.to_string().contains(part), "{text}\n{problem}\nlacks {part}");
        }
    }
}

#[test]
fn shows_the_line_with_a_mark_and_what_to_do() {
    let setup = Setup::new("[s3]\nendpoint = \"localhost:3900\"\n");
    let told = setup.load().unwrap_err().to_string().replace(&format!("{}/", setup.dir.path().display()), "");
    assert_eq!(
        told,
        "loft.toml:2:12: `endpoint` does not say whether it is http:// or https://\n  \
         2 | endpoint = \"localhost:3900\"\n    \
         |            ^^^^^^^^^^^^^^^^\n  \
         hint: write http://HOST:PORT or https://HOST"
    );
}

#[test]
fn unknown_keys_warn_and_strictly_are_errors() {
    let cases = [
        ("[loft]\nuplod_threads = 3", 2, "Unknown key `uplod_threads` in [loft]", "did you mean `upload_threads`?"),
        ("[loft]\nbucket = \"b\"", 2, "Unknown key `bucket` in [loft]", "`bucket` belongs in [s3]"),
        ("bucket = \"b\"", 1, "Unknown key `bucket`", "`bucket` belongs in [s3]"),
        ("[lotf]\ncompression = \"xz\"", 1, "Unknown section [lotf]", "did you mean [loft]?"),
        ("[extra_headers]\nX-A = \"b\"", 1, "Unknown section [extra_headers]", "`extra_headers` belongs in [s3]"),
        ("\n[s3]\nacces_key = \"b\"", 3, "Unknown key `acces_key` in [s3]", "did you mean `access_key`?"),
    ];
    for (text, line, message, help) in cases {
        let setup = Setup::new(text);
        let loaded = setup.load().unwrap();
        let [warning] = &loaded.warnings[..] else { panic!("{text}: {:?}", loaded.warnings) };
        assert!(matches!(&warning.origin, Origin::File(place) if place.line == line), "{text}: {warning}");
        assert_eq!((warning.message.as_str(), warning.help.as_deref()), (message, Some(help)));
        let error = load(&Sources { strict: true, ..setup.sources.clone() }).unwrap_err();
        assert_eq!(error.problems, loaded.warnings);
    }
    // Beside an error they are told too: they may be its cause.
    let error = Setup::new("[s3]\nacces_key = \"a\"\nsecret_key = \"s\"").load().unwrap_err();
    assert_eq!((error.problems.len(), error.warnings.len()), (1, 1));
}

#[test]
fn keys_of_the_original_that_lost_their_meaning_are_no_errors() {
    let setup = Setup::new("[loft]\nuse_disk_for_large_nars = true\nlarge_nar_threshold_mb = 100\n");
    assert_eq!(setup.load().unwrap().warnings.len(), 2);
    assert!(load(&Sources { strict: true, ..setup.sources.clone() }).is_ok());
}

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
    assert!(settings.push.nar_listings);
    assert_eq!(settings.signing.files.len(), 1);
    assert_eq!(settings.signing.files[0].path, PathBuf::from("/url/key"));
    assert_eq!(settings.signing.files[0].name, None);
    assert_eq!(setup.shown("loft.compression"), ("xz".into(), "--to".into()));
}

/// Of a URL that is refused nothing is repeated that might be a password.
#[test]
fn a_refused_url_keeps_its_password() {
    for url in [
        "https://u:pa55word@h/b",
        "s3://u:pa55word@b",
        "s3://b?endpoint=http://u:pa55word@h",
        "s3:u:pa55word@b",
        "s3://b?endpoint=http://h&nonsense=u:pa55word@h",
    ] {
        let error = Setup::new("").flags(to(url)).load().unwrap_err();
        assert!(!format!("{error} {error:?}").contains("pa55word"), "{url}: {error}");
    }
}

#[test]
fn a_directory_is_a_cache() {
    let setup = Setup::new("[s3]\nbucket = \"b\"\n").flags(to("file:///srv/cache"));
    let loaded = setup.load().unwrap();
    assert!(matches!(loaded.bucket().unwrap(), Target::Directory(path) if path.as_os_str() == "/srv/cache"));
    assert!(loaded.effective.iter().all(|entry| !entry.key.starts_with("s3.")));
}

/// The file's secrets are for the file's server.
#[test]
fn secrets_do_not_follow_to_another_server() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("other");
    fs::write(&file, "o").unwrap();
    let text = format!(
        "[s3]\nbucket = \"b\"\nendpoint = \"http://home:80/\"\naccess_key = \"GKhome\"\nsecret_key = \"s\"\n\
                [s3.extra_headers]\nX-Token = \"t\"\n[s3.extra_header_files]\nX-Other = {file:?}\n"
    );
    for (url, kept) in [
        ("s3://b", true),
        ("s3://other?endpoint=http://HOME", true),
        ("s3://b?endpoint=https://home:80", false),
        ("s3://b?endpoint=http://elsewhere", false),
    ] {
        let loaded = Setup::new(&text).flags(to(url)).load().unwrap();
        let s3 = s3(&loaded);
        assert_eq!(s3.access_key.is_some(), kept, "{url}");
        assert_eq!(s3.secret_key.is_some(), kept, "{url}");
        assert_eq!(!s3.extra_headers.is_empty(), kept, "{url}");
        assert_eq!(loaded.warnings.is_empty(), kept, "{url}");
        if !kept {
            let told = loaded.warnings[0].to_string();
            assert!(told.contains("extra_header_files, extra_headers"), "{told}");
        }
    }
    // What the environment gives is given for this run.
    let setup = Setup::new(&text).variable("LOFT_EXTRA_HEADER_X_TOKEN", "mine");
    let loaded = setup.flags(to("s3://b?endpoint=http://elsewhere")).load().unwrap();
    assert_eq!(s3(&loaded).extra_headers.names().collect::<Vec<_>>(), ["x-token"]);
}

#[test]
fn headers_of_the_environment_win_over_the_files() {
    let setup = Setup::new("[s3]\nbucket = \"b\"\n[s3.extra_headers]\nCf-Access-Client-Id = \"file\"\nX-B = \"b\"\n")
        .variable("LOFT_EXTRA_HEADER_CF_ACCESS_CLIENT_ID", "environment");
    let loaded = setup.load().unwrap();
    let headers: BTreeMap<_, _> =
        s3(&loaded).extra_headers.iter().map(|(n, v)| (n.as_str(), v.to_str().unwrap())).collect();
    assert_eq!(headers, BTreeMap::from([("cf-access-client-id", "environment"), ("x-b", "b")]));
    assert_eq!(setup.shown("s3.extra_headers.cf-access-client-id").1, "LOFT_EXTRA_HEADER_CF_ACCESS_CLIENT_ID");
    for (variable, value) in
        [("LOFT_EXTRA_HEADER_HOST", "h"), ("LOFT_EXTRA_HEADER_", "v"), ("LOFT_EXTRA_HEADER_X", "a\nb")]
    {
        let error = Setup::new("").variable(variable, value).load().unwrap_err();
        assert_eq!(error.problems[0].origin, Origin::Environment(variable.to_owned()));
    }
}

#[test]
fn half_a_credential_may_come_from_the_environment() {
    let setup = Setup::new("[s3]\nbucket = \"b\"\naccess_key = \"GKx\"\n").variable("AWS_SECRET_ACCESS_KEY", "sec");
    assert_eq!(s3(&setup.load().unwrap()).secret_key.as_ref().unwrap().expose(), "sec");
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

#[test]
fn shows_every_setting_once_and_no_secret() {
    let setup = Setup::new(
        "[s3]\nbucket = \"b\"\naccess_key = \"GKabcdefghijkl\"\nsecret_key = \"hunter2hunter2\"\n\
         [s3.extra_headers]\nX-Token = \"hunter3hunter3\"\n",
    );
    let loaded = setup.load().unwrap();
    let (table, json) = (show::table(&loaded.effective), show::json(&loaded.effective));
    let everything = format!("{table}{json}{loaded:?}");
    assert!(!everything.contains("hunter"), "{everything}");
    assert!(!everything.contains("GKabc") && table.contains("GKab…"), "{everything}");
    let settings = json["settings"].as_array().unwrap();
    let keys: Vec<_> = settings.iter().map(|entry| entry["key"].as_str().unwrap()).collect();
    let mut unique = keys.clone();
    unique.sort_unstable();
    unique.dedup();
    assert_eq!(unique.len(), keys.len(), "{keys:?}");
    // 42 keys are known; extra_headers shows as its one header.
    assert_eq!(keys.len(), 42, "{keys:?}");
    assert_eq!(settings[0]["origin"]["line"], 2);
}

mod signing {
    use super::*;

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
        let loaded =
            configured(&format!("signing_key_path = {first:?}\nsigning_key_paths = [{second:?}, {first:?}]\n"));
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
}

/// A file with secrets of every kind, and the secrets.
const SECRETS: [&str; 4] = ["abcdefghijklmnopAKEY", "S3CR3T+base64/text==", "T0KEN+of-proxy+xyz==", "pa55word-in-url"];

fn with_secrets() -> String {
    format!(
        "[s3]\nbucket = \"nix-cache\"\nendpoint = \"http://u:{3}@h\"\naccess_key = \"{0}\"\nsecret_key = \"{1}\"\n\
         region = \"x y\"\n[s3.extra_headers]\nX-Token = \"{2}\"\nHost = \"{2}\"\n[loft]\nupload_threads = 0\n\
         exclude = [\"a\", 3]\nupstreams = [\"https://u:{3}@h/\"]\ncompression = \"zst\"\n",
        SECRETS[0], SECRETS[1], SECRETS[2], SECRETS[3],
    )
}

/// A line of a value that was torn off its key may look like a table's header.
#[test]
fn what_looks_like_a_header_shows_no_secret() {
    for torn in [
        "upstreams =\n[\"https://u:pa55word-in-url@h/\"]",
        "upstreams \n[\"https://u:pa55word-in-url@h/\"]",
        "upstreams \n= [\"https://u:pa55word-in-url@h/\"]",
        "upstreams \n= [\"https://u:pa55word-in-url h/\"]",
        "\n= [\"https://u:pa55word-in-url h/\"]",
        "x\n[\"https://u:pa55word-in-url h/\"]",
        "x = {\n[\"https://u:pa55word-in-url h/\"]",
        "x = 1\n[\"https://u:pa55word-in-url h/\"] ]",
        "x = 1\n[\"https://u:pa55word-in-url h/\"",
    ] {
        let error = Setup::new(&format!("[loft]\n{torn}\n")).load();
        assert!(!format!("{error:?}").contains("pa55word"), "{torn}: {error:?}");
        if let Err(error) = error {
            assert!(!error.to_string().contains("pa55word"), "{torn}: {error}");
        }
    }
    let error = Setup::new("[loft\n").load().unwrap_err();
    assert!(error.to_string().contains("loft.toml:1"), "{error}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    /// Mistakes anywhere but in a secret itself never bring one into a message.
    #[test]
    fn no_mistake_shows_a_secret(edits in prop::collection::vec((0usize..400, 0u8..3, "[\"'=\\[\\]{}#\n@a,. 0]"), 1..4)) {
        let mut text = with_secrets();
        for (at, kind, new) in edits {
            let at = at % text.len();
            let in_secret = SECRETS.iter().any(|secret| {
                text.match_indices(secret).any(|(start, _)| (start..=start + secret.len()).contains(&at))
            });
            if in_secret || !text.is_char_boundary(at) || !text.is_char_boundary(at + 1) {
                continue;
            }
            match kind {
                0 => text.replace_range(at..=at, ""),
                1 => text.insert_str(at, &new),
                _ => text.replace_range(at..=at, &new),
            }
        }
        let setup = Setup::new(&text);
        for strict in [false, true] {
            let told = match load(&Sources { strict, ..setup.sources.clone() }) {
                Ok(loaded) => format!("{loaded:?} {}", show::table(&loaded.effective)),
                Err(error) => {
                    let warnings: String = error.warnings.iter().map(ToString::to_string).collect();
                    format!("{error} {warnings} {error:?}")
                }
            };
            for secret in SECRETS {
                prop_assert!(!told.contains(&secret[..8]), "{text}\n----\n{told}");
            }
        }
    }

    #[test]
    fn no_text_makes_it_panic(text in "\\PC{0,200}") {
        let _ = Setup::new(&text).load();
    }
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
