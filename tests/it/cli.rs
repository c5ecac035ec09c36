//! The program itself: messages, exit codes, flags of the original loft. Nothing here needs a store or a bucket.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

/// `loft` in a directory of its own, without this process's environment.
struct Loft {
    dir: tempfile::TempDir,
}

struct Ran {
    code: Option<i32>,
    stdout: String,
    stderr: String,
}

impl Loft {
    fn new() -> Self {
        Self { dir: tempfile::tempdir().unwrap() }
    }

    fn with(config: &str) -> Self {
        let loft = Self::new();
        fs::write(loft.dir.path().join("loft.toml"), config).unwrap();
        loft
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_loft"));
        command.args(args).current_dir(self.dir.path()).env_clear().env("HOME", self.dir.path()).stdin(Stdio::null());
        command
    }

    fn run(&self, args: &[&str]) -> Ran {
        self.run_with(args, &[])
    }

    fn run_with(&self, args: &[&str], variables: &[(&str, &str)]) -> Ran {
        let Output { status, stdout, stderr } = self.command(args).envs(variables.iter().copied()).output().unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        Ran { code: status.code(), stdout: text(stdout), stderr: text(stderr) }
    }
}

impl Ran {
    /// Checks the exit status, and that stderr has all `parts`.
    #[track_caller]
    fn says(&self, code: i32, parts: &[&str]) {
        assert_eq!(self.code, Some(code), "{}", self.stderr);
        for part in parts {
            assert!(self.stderr.contains(part), "{:?} lacks {part:?}", self.stderr);
        }
        assert!(!self.stderr.contains("panicked"), "{}", self.stderr);
    }
}

#[test]
fn help_and_version_go_to_stdout_and_exit_0() {
    let loft = Loft::new();
    let version = loft.run(&["--version"]);
    version.says(0, &[]);
    assert_eq!(version.stdout, format!("loft {}\n", env!("CARGO_PKG_VERSION")));
    for args in [
        &["--help"][..],
        &["-h"],
        &["push", "--help"],
        &["prune", "--help"],
        &["pin", "add", "--help"],
        &["run", "--help"],
        &["key", "generate", "--help"],
        &["config", "show", "-h"],
    ] {
        let help = loft.run(args);
        help.says(0, &[]);
        assert!(help.stdout.contains("Example"), "{args:?}: {}", help.stdout);
    }
}

/// The figure is for a release build on a quiet machine (5 ms); this catches a runtime or a file read at start.
#[test]
fn starts_at_once() {
    let loft = Loft::new();
    let quickest = (0..20)
        .map(|_| {
            let started = Instant::now();
            assert!(loft.command(&["--version"]).stdout(Stdio::null()).status().unwrap().success());
            started.elapsed()
        })
        .min()
        .unwrap();
    assert!(quickest < Duration::from_millis(25), "{quickest:?}");
}

#[test]
fn usage_errors_exit_1_not_2() {
    let loft = Loft::new();
    for args in [
        &["--nonsense"][..],
        &["push"],
        &["push", "--all", "x"],
        &["nonsense"],
        &["--prune", "--clear-cache"],
        &["--dry-run", "push", "x"],
        &["--force-scan", "config", "show"],
        &["push", "x", "--level", "high"],
        &["push", "x", "--pin", "a/b"],
        &["push", "x", "--pin", ".."],
        &["--color", "sometimes"],
        &["--debug", "--quiet", "config", "show"],
    ] {
        let ran = loft.run(args);
        ran.says(1, &["error:"]);
        assert_eq!(ran.stdout, "", "{args:?}");
    }
    loft.run(&["key"]).says(1, &["Usage: loft key"]);
}

#[test]
fn without_a_bucket_tells_where_it_was_looked_for() {
    let ran = Loft::new().run(&["config", "check"]);
    ran.says(1, &["error: No bucket is named", "--to", "LOFT_CACHE", "no loft.toml", "hint:"]);
}

#[test]
fn config_check_opens_the_files_that_are_named() {
    let loft = Loft::with(
        "[s3]\nbucket = \"b\"\nendpoint = \"http://localhost:1\"\nca_file = \"ca.pem\"\n\
         access_key_file = \"access\"\nsecret_key_file = \"secret\"\n[loft]\nsigning_key_path = \"sign\"\n",
    );
    let file = |name: &str, content: &str, mode| {
        let path = loft.dir.path().join(name);
        fs::write(&path, content).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
    };
    let check = || loft.run(&["config", "check"]);
    // Every file that is wrong is told at once, each with the line that names it.
    let missing =
        ["loft.toml:4:", "ca.pem", "loft.toml:5:", "access", "loft.toml:6:", "secret", "sign", "No such file"];
    check().says(1, &missing);
    file("access", "GK123\n", 0o600);
    file("secret", "hunter2hunter2 more", 0o600);
    file("ca.pem", "no certificate", 0o644);
    let told = check();
    told.says(
        1,
        &["holds no PEM certificate", "secret_key_file \"secret\" cannot be used: it holds more than one word"],
    );
    assert!(!told.stderr.contains("hunter") && !told.stderr.contains("access_key_file"), "{}", told.stderr);
    file("secret", "hunter2hunter2", 0o602);
    check().says(1, &["others may write it"]);
    file("secret", "hunter2hunter2", 0o600);
    loft.run(&["key", "generate", "k-1", "--out", "sign"]).says(0, &[]);
    check().says(1, &["loft.toml:4:", "ca.pem"]);
    let without = fs::read_to_string(loft.dir.path().join("loft.toml")).unwrap().replace("ca_file", "#");
    fs::write(loft.dir.path().join("loft.toml"), without).unwrap();
    check().says(0, &["The configuration is fine; one signing key"]);
}

#[test]
fn an_endpoint_without_a_scheme_is_taken_for_https_with_a_warning() {
    let loft = Loft::new();
    let url = "s3://b?endpoint=localhost:3900";
    let told = loft.run_with(&["config", "check"], &[("LOFT_CACHE", url)]);
    told.says(
        0,
        &["warning: LOFT_CACHE: The endpoint \"localhost:3900\" does not say http:// or https://; https:// is assumed"],
    );
    let silent = loft.run_with(&["config", "check"], &[("LOFT_CACHE", "s3://b?endpoint=https://localhost:3900")]);
    silent.says(0, &[]);
    assert!(!silent.stderr.contains("assumed"), "{}", silent.stderr);
}

#[test]
fn config_check_refuses_what_config_show_warns_of() {
    let loft = Loft::with("[s3]\nbuket = \"b\"\nbucket = \"b\"\n");
    loft.run(&["config", "show"]).says(0, &["warning: loft.toml:2:1: Unknown key `buket`", "did you mean `bucket`?"]);
    loft.run(&["config", "check"]).says(1, &["error: loft.toml:2:1: Unknown key `buket`"]);
    let fine = Loft::with("[s3]\nbucket = \"b\"\n");
    fine.run(&["config", "check"]).says(0, &["The configuration is fine", "not signed"]);
    let missing_key = Loft::with("[s3]\nbucket = \"b\"\n[loft]\nsigning_key_path = \"/missing/key\"\n");
    missing_key.run(&["config", "check"]).says(1, &["/missing/key", "loft key generate"]);
}

#[test]
fn config_show_tells_values_and_origins_and_no_secrets() {
    let loft =
        Loft::with("[s3]\nbucket = \"b\"\naccess_key = \"GK0123456789abcdef\"\nsecret_key = \"hunter2hunter2\"\n");
    let variables = [("LOFT_EXTRA_HEADER_X_TOKEN", "hunter3hunter3"), ("AWS_REGION", "garage")];
    let table = loft.run_with(&["config", "show"], &variables);
    table.says(0, &[]);
    for line in ["loft.toml:2:10", "AWS_REGION", "GK01…", "s3.extra_headers.x-token", "default"] {
        assert!(table.stdout.contains(line), "{}", table.stdout);
    }
    let json = loft.run_with(&["config", "show", "--json", "--debug"], &variables);
    let parsed: serde_json::Value = serde_json::from_str(&json.stdout).unwrap();
    assert_eq!(parsed["settings"][0]["key"], "s3.bucket");
    assert_eq!(parsed["settings"][0]["origin"]["kind"], "file");
    for text in [&table.stdout, &table.stderr, &json.stdout, &json.stderr] {
        assert!(!text.contains("hunter") && !text.contains("GK012"), "{text}");
    }
}

#[test]
fn the_file_is_found_as_the_original_did_and_by_variable() {
    let loft = Loft::with("[s3]\nbucket = \"here\"\n");
    let other = loft.dir.path().join("other.toml");
    fs::write(&other, "[s3]\nbucket = \"there\"\n").unwrap();
    let other = other.to_str().unwrap();
    assert!(loft.run(&["config", "show"]).stdout.contains("here"));
    for args in
        [&["-c", other, "config", "show"][..], &["--config", other, "config", "show"], &["config", "show", "-c", other]]
    {
        assert!(loft.run(args).stdout.contains("there"), "{args:?}");
    }
    assert!(loft.run_with(&["config", "show"], &[("LOFT_CONFIG", other)]).stdout.contains("there"));
    loft.run(&["-c", "missing.toml", "config", "show"]).says(1, &["missing.toml", "hint:"]);
}

#[test]
fn clear_cache_empties_the_ledger() {
    use loft::ledger::{BucketIdentity, Ledger};
    let loft = Loft::with("[loft]\nlocal_cache_path = \"state/cache.db\"\n");
    let file = loft.dir.path().join("state/cache.db");
    let bucket = BucketIdentity { url: "s3://b".into(), generation: "g".into() };
    let hash = loft::nix::PathHash::parse("0c0ngrnyz7b7w2hzwzvhyzxqdqz3dnya").unwrap();
    Ledger::open(&file).remember(&bucket, &[hash], std::time::SystemTime::now());
    assert_eq!(Ledger::open(&file).len(), 1);
    loft.run(&["--clear-cache"]).says(0, &["state/cache.db is empty now"]);
    assert!(Ledger::open(&file).is_empty());

    let blocked = Loft::with("[loft]\nlocal_cache_path = \"loft.toml/cache.db\"\n");
    blocked.run(&["--clear-cache"]).says(1, &["error: Could not empty the ledger", "because:"]);
}

#[test]
fn makes_keys_that_only_the_user_can_read_and_never_overwrites() {
    let loft = Loft::new();
    let made = loft.run(&["key", "generate", "cache.example.org-1"]);
    made.says(0, &["cache.example.org-1.secret", "0600", "trusted-public-keys"]);
    let public = made.stdout.trim_end();
    assert!(public.starts_with("cache.example.org-1:") && public.len() == "cache.example.org-1:".len() + 44);
    let file = loft.dir.path().join("cache.example.org-1.secret");
    assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    let secret = fs::read_to_string(&file).unwrap();
    assert!(!made.stdout.contains(secret.trim_end()) && !made.stderr.contains(&secret[30..60]));

    let shown = loft.run(&["key", "show", "cache.example.org-1.secret"]);
    shown.says(0, &[]);
    assert_eq!(shown.stdout, made.stdout);

    loft.run(&["key", "generate", "cache.example.org-1"]).says(1, &["never overwritten"]);
    assert_eq!(fs::read_to_string(&file).unwrap(), secret);
    loft.run(&["key", "generate", "other-1", "--out", "cache.example.org-1.secret"]).says(1, &["error:"]);
    std::os::unix::fs::symlink("elsewhere", loft.dir.path().join("link")).unwrap();
    loft.run(&["key", "generate", "other-1", "--out", "link"]).says(1, &["error:"]);
    assert!(!loft.dir.path().join("elsewhere").exists(), "written through a symbolic link");

    loft.run(&["key", "generate", "a b"]).says(1, &["error:", "hint:"]);
    loft.run(&["key", "generate", "a:b"]).says(1, &["error:"]);
    loft.run(&["key", "generate", "../up"]).says(1, &["--out"]);
    loft.run(&["key", "generate", "k", "--out", "missing/dir/k"]).says(1, &["because: No such file"]);
    loft.run(&["key", "show", "missing"]).says(1, &["missing", "because:"]);
    fs::write(loft.dir.path().join("public"), public).unwrap();
    loft.run(&["key", "show", "public"]).says(1, &["is not a secret key file"]);
}

#[test]
fn a_full_stdout_is_an_error_and_a_closed_one_is_not() {
    let loft = Loft::new();
    if Path::new("/dev/full").exists() {
        let full = fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
        let output = loft.command(&["config", "show"]).stdout(full).stderr(Stdio::piped()).spawn().unwrap();
        let output = output.wait_with_output().unwrap();
        assert_eq!(output.status.code(), Some(1));
        assert!(String::from_utf8(output.stderr).unwrap().contains("Could not write the result"));
    }
    let mut child = loft.command(&["config", "show"]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert_eq!((output.status.code(), output.stderr.as_slice()), (Some(0), &b""[..]));
}

#[test]
fn hostile_names_cannot_steer_the_terminal() {
    let ran = Loft::with("\"\\u001b]0;owned\\u0007\" = 1\n").run(&["config", "show"]);
    ran.says(0, &["\\u{1b}]0;owned\\u{7}"]);
    assert!(!ran.stderr.contains('\u{1b}'));
}

#[test]
fn arguments_that_are_not_utf8_are_fine_as_paths() {
    use std::os::unix::ffi::OsStrExt as _;
    let loft = Loft::new();
    let output = loft.command(&["key", "show"]).arg(std::ffi::OsStr::from_bytes(b"\xff")).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
}
