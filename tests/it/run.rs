//! `loft run`: whose exit status it is, what is pushed whatever happens, and where signals go.

use crate::support::fixture_store::FixtureStore;
use crate::support::memory::{Fault, Memory, Moment};
use crate::support::s3_server::{ACCESS_KEY, BUCKET, REGION, S3Server, SECRET_KEY};
use loft::nix::{Sha256, StorePath};
use rustix::process::{Pid, Signal, kill_process};
use std::fs;
use std::io::Write as _;
use std::net::{TcpListener, TcpStream};
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// A store without Nix, a directory as the cache, and a home with a key and a ledger: what a CI job has.
struct Job {
    store: FixtureStore,
    folder: tempfile::TempDir,
}

impl Job {
    fn new() -> Self {
        let job = Self { store: FixtureStore::new(), folder: tempfile::tempdir().unwrap() };
        let ledger = job.at("ledger.db");
        fs::write(job.at("loft.toml"), format!("[loft]\nlocal_cache_path = {ledger:?}\nsigning_key_path = \"key\"\n"))
            .unwrap();
        let made = job.loft(&["key", "generate", "ci-1", "--out", "key"]).output().unwrap();
        assert!(made.status.success());
        job
    }

    fn at(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Nothing of this machine's environment but the programs.
    fn loft(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_loft"));
        command.args(arguments).current_dir(self.folder.path()).env_clear().env("HOME", self.folder.path());
        command.env("PATH", std::env::var_os("PATH").unwrap()).stdin(Stdio::null());
        command
    }

    /// `loft run -- command…`, pushing into the directory.
    fn run(&self, command: &[&str]) -> Command {
        self.run_to(&format!("file://{}", self.at("cache").display()), command)
    }

    fn run_to(&self, url: &str, command: &[&str]) -> Command {
        let store = format!("local?root={}", self.store.root().display());
        let mut loft = self.loft(&["run", "--to", url, "--store", &store, "--"]);
        loft.args(command).stdout(Stdio::piped()).stderr(Stdio::piped());
        loft
    }

    /// A command that tells that it runs, waits for our word, and ends as `end` says.
    fn script(end: &str) -> String {
        format!("touch runs; while [ ! -e go ]; do sleep 0.02; done; {end}")
    }

    /// Starts `loft` and waits until its command runs.
    fn start(&self, mut loft: Command) -> Child {
        let child = loft.spawn().unwrap();
        wait_for("the command runs", || self.at("runs").exists());
        child
    }

    /// Lets the command end.
    fn go(&self) {
        fs::write(self.at("go"), "").unwrap();
    }

    fn is_cached(&self, path: &StorePath) -> bool {
        self.at("cache").join(format!("{}.narinfo", path.hash_part())).exists()
    }
}

fn wait_for(what: &str, is_so: impl Fn() -> bool) {
    let since = Instant::now();
    while !is_so() {
        assert!(since.elapsed() < Duration::from_secs(30), "{what}: still not");
        std::thread::sleep(Duration::from_millis(10));
    }
}

#[track_caller]
fn ends(child: Child, code: i32) -> Said {
    said(child.wait_with_output().unwrap(), code)
}

#[track_caller]
fn said(output: Output, code: i32) -> Said {
    let text = |bytes| String::from_utf8(bytes).unwrap();
    let said = Said { stdout: text(output.stdout), stderr: text(output.stderr) };
    assert_eq!(output.status.code(), Some(code), "{said:?}");
    assert!(!said.stderr.contains("panicked") && !said.stderr.contains("has a bug"), "{said:?}");
    said
}

#[derive(Debug)]
struct Said {
    stdout: String,
    stderr: String,
}

impl Said {
    #[track_caller]
    fn tells(&self, parts: &[&str]) {
        for part in parts {
            assert!(self.stderr.contains(part), "{part:?} is missing: {}", self.stderr);
        }
    }
}

/// One path lands while the command runs, one is valid just before its end; then it ends as `end` says.
#[track_caller]
fn both_land(end: &str, code: i32) -> Said {
    let job = Job::new();
    let old = job.store.add("old").contents("old").finish();
    let child = job.start(job.run(&["sh", "-c", &Job::script(end)]));
    let early = job.store.add("early").contents("early").finish();
    wait_for("the first lands while the command runs", || job.is_cached(&early));
    let late = job.store.add("late").contents("late").reference(&early).finish();
    job.go();
    let said = ends(child, code);
    assert!(job.is_cached(&late) && !job.is_cached(&old), "{said:?}");
    said.tells(&["Pushed 2 paths", "0 failed"]);
    said
}

#[test]
fn a_command_that_succeeds_is_0() {
    let said = both_land("echo done", 0);
    assert_eq!(said.stdout, "done\n");
}

#[test]
fn a_command_that_fails_keeps_its_code_and_is_pushed() {
    both_land("exit 3", 3);
    // Numbers that mean something in loft itself are the command's as well.
    both_land("exit 2", 2);
    both_land("exit 255", 255);
}

#[test]
fn a_command_that_is_killed_is_128_and_the_signal_and_is_pushed() {
    both_land("kill -9 $$", 137);
    both_land("kill -TERM $$", 143);
}

#[test]
fn input_and_output_are_the_commands_own_and_loft_is_quiet_meanwhile() {
    let job = Job::new();
    let path = job.at("runs");
    let mut loft =
        job.run(&["sh", "-c", "cat; echo to stderr >&2; touch runs; while [ ! -e go ]; do sleep 0.02; done"]);
    loft.stdin(Stdio::piped());
    let told = job.at("told");
    loft.stderr(fs::File::create(&told).unwrap());
    let mut child = loft.spawn().unwrap();
    child.stdin.take().unwrap().write_all(b"through and through\n").unwrap();
    wait_for("the command runs", || path.exists());
    let pushed = job.store.add("a").contents("a").finish();
    wait_for("it lands", || job.is_cached(&pushed));
    assert_eq!(fs::read_to_string(&told).unwrap(), "to stderr\n");
    job.go();
    assert_eq!(ends(child, 0).stdout, "through and through\n");
    let told = fs::read_to_string(&told).unwrap();
    assert!(told.starts_with("to stderr\nPushed 1 path "), "{told}");
}

#[test]
fn a_command_that_builds_nothing_is_told_so() {
    let job = Job::new();
    said(job.run(&["true"]).output().unwrap(), 0).tells(&["nothing became valid"]);
    assert!(!job.at("cache").exists(), "written to the cache without need");
    said(job.run(&["false"]).output().unwrap(), 1).tells(&[]);
}

/// Pushes a path that is not what it was registered as.
#[track_caller]
fn with_a_damaged_path(end: &str, code: i32) {
    let job = Job::new();
    let child = job.start(job.run(&["sh", "-c", &Job::script(end)]));
    let damaged = job.store.add("damaged").contents("x").wrong_nar_hash(Sha256::of(b"else")).finish();
    let fine = job.store.add("fine").contents("fine").finish();
    job.go();
    let said = ends(child, code);
    said.tells(&[&format!("failed: {damaged}"), "Pushed 1 path", "1 failed"]);
    assert_eq!(said.stderr.matches("failed: ").count(), 1, "named once: {}", said.stderr);
    assert!(job.is_cached(&fine) && !job.is_cached(&damaged));
}

#[test]
fn a_path_that_does_not_land_is_2_unless_the_command_failed() {
    with_a_damaged_path("true", 2);
    with_a_damaged_path("exit 7", 7);
}

/// The cache is another store directory's: nothing can be pushed.
#[track_caller]
fn with_a_foreign_cache(end: &str, code: i32) {
    let job = Job::new();
    fs::create_dir(job.at("cache")).unwrap();
    fs::write(job.at("cache/nix-cache-info"), "StoreDir: /gnu/store\nWantMassQuery: 1\n").unwrap();
    let child = job.start(job.run(&["sh", "-c", &Job::script(end)]));
    job.store.add("a").contents("a").finish();
    job.go();
    ends(child, code).tells(&["error: ", "/gnu/store", "1 path that became valid did not land"]);
}

#[test]
fn a_push_that_stops_is_1_unless_the_command_failed() {
    with_a_foreign_cache("true", 1);
    with_a_foreign_cache("exit 7", 7);
}

fn with_credentials(loft: &mut Command) {
    loft.env("AWS_ACCESS_KEY_ID", ACCESS_KEY).env("AWS_SECRET_ACCESS_KEY", SECRET_KEY);
}

#[test]
fn a_bucket_out_of_reach_does_not_keep_the_command_from_running() {
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let url = format!("s3://{BUCKET}?endpoint=http://127.0.0.1:{port}&region={REGION}");
    let job = Job::new();
    let mut nothing_built = job.run_to(&url, &["sh", "-c", "echo ran"]);
    with_credentials(&mut nothing_built);
    assert_eq!(said(nothing_built.output().unwrap(), 0).stdout, "ran\n");

    let mut loft = job.run_to(&url, &["sh", "-c", &Job::script("echo ran")]);
    with_credentials(&mut loft);
    let child = job.start(loft);
    job.store.add("a").contents("a").finish();
    job.go();
    let said = ends(child, 1);
    assert_eq!(said.stdout, "ran\n");
    said.tells(&["error: ", "1 path that became valid did not land"]);
}

#[test]
fn a_command_that_cannot_be_started_is_127_or_126() {
    let job = Job::new();
    said(job.run(&["no-such-program"]).output().unwrap(), 127)
        .tells(&["error: Could not start no-such-program", "because: No such file"]);
    fs::write(job.at("text"), "no program\n").unwrap();
    said(job.run(&["./text"]).output().unwrap(), 126).tells(&["error: Could not start ./text", "because: "]);
    said(job.run(&["./missing/\u{1b}[31m"]).output().unwrap(), 127).tells(&["\\u{1b}"]);
}

#[test]
fn a_mistake_is_told_before_the_command_starts() {
    let job = Job::new();
    let store = format!("local?root={}", job.store.root().display());
    let to = format!("file://{}", job.at("cache").display());
    for (arguments, tells) in [
        (&["run", "--store", &store][..], "No bucket is named"),
        (&["run", "--store", &store, "--to", "nonsense"], "nonsense"),
        (&["run", "--store", &store, "--to", &to, "--signing-key", "missing"], "missing"),
        (&["run", "--store", "local?root=/nowhere/at/all", "--to", &to], "nix-store --init"),
        (&["-c", "missing.toml", "run", "--store", &store, "--to", &to], "missing.toml"),
        (&["run", "--keep-days", "3"], "--pin NAME"),
    ] {
        let mut loft = job.loft(arguments);
        said(loft.args(["--", "touch", "ran"]).output().unwrap(), 1).tells(&["error: ", tells]);
        assert!(!job.at("ran").exists(), "{arguments:?} ran the command");
    }
    for arguments in [&["run"][..], &["run", "--"], &["run", "touch", "ran"]] {
        said(job.loft(arguments).output().unwrap(), 1).tells(&["error: ", "CMD"]);
    }
}

fn send(child: &Child, signal: Signal) {
    kill_process(Pid::from_raw(child.id() as i32).unwrap(), signal).unwrap();
}

const CATCHING: &str = "for name in INT TERM HUP QUIT USR1 USR2; do trap \"echo $name >> got\" $name; done;
    touch runs; while [ ! -e go ]; do sleep 0.02; done; exit 9";

#[test]
fn signals_are_passed_on() {
    let job = Job::new();
    let mut loft = job.run(&["sh", "-c", CATCHING]);
    // Out of the group that a terminal, if this test has one, would tell.
    let child = job.start({
        loft.process_group(0);
        loft
    });
    let got = || fs::read_to_string(job.at("got")).unwrap_or_default();
    let mut expected = String::new();
    for (signal, name) in [
        (Signal::INT, "INT"),
        (Signal::TERM, "TERM"),
        (Signal::HUP, "HUP"),
        (Signal::QUIT, "QUIT"),
        (Signal::USR1, "USR1"),
        (Signal::USR2, "USR2"),
        (Signal::TERM, "TERM"),
    ] {
        send(&child, signal);
        expected.push_str(&format!("{name}\n"));
        wait_for(name, || got() == expected);
    }
    let path = job.store.add("a").contents("a").finish();
    job.go();
    // And none of them is taken for a wish to stop the push.
    ends(child, 9).tells(&["Pushed 1 path"]);
    assert!(job.is_cached(&path));
}

#[test]
fn what_ended_the_command_does_not_stop_the_push() {
    for (signal, code) in [(Signal::TERM, 143), (Signal::INT, 130), (Signal::HUP, 129)] {
        let job = Job::new();
        let mut loft = job.run(&["sh", "-c", &format!("exec {} 60", sleep_that_tells(&job).display())]);
        loft.process_group(0);
        let child = job.start(loft);
        let path = job.store.add("a").contents("a").finish();
        send(&child, signal);
        let said = ends(child, code);
        assert!(job.is_cached(&path), "{said:?}");
        said.tells(&["Pushed 1 path"]);
    }
}

/// A program that makes the file `runs` and then sleeps, as one process without traps.
fn sleep_that_tells(job: &Job) -> PathBuf {
    let script = job.at("sleeps");
    fs::write(&script, "#!/bin/sh\ntouch runs\nexec sleep \"$1\"\n").unwrap();
    fs::set_permissions(&script, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    script
}

/// A server that takes connections and never answers.
fn hanging_push(job: &Job, end: &str) -> (Child, TcpListener, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("s3://{BUCKET}?endpoint=http://{}&region={REGION}", listener.local_addr().unwrap());
    let mut loft = job.run_to(&url, &["sh", "-c", &Job::script(end)]);
    with_credentials(&mut loft);
    let child = job.start(loft);
    job.store.add("a").contents("a").finish();
    // The push begins.
    let (connection, _) = listener.accept().unwrap();
    job.go();
    (child, listener, connection)
}

#[test]
fn a_push_that_hangs_is_stopped_by_two_signals() {
    for (end, code) in [("touch ended", 130), ("touch ended; exit 5", 5)] {
        let job = Job::new();
        let (child, _listener, _connection) = hanging_push(&job, end);
        wait_for("the command ended", || job.at("ended").exists());
        // Later than what may have hit the command as well.
        std::thread::sleep(Duration::from_millis(500));
        send(&child, Signal::TERM);
        std::thread::sleep(Duration::from_millis(200));
        send(&child, Signal::TERM);
        let since = Instant::now();
        ends(child, code).tells(&["interrupted: what is in flight is settled first"]);
        assert!(since.elapsed() < Duration::from_secs(5));
    }
}

/// What is in flight settles, the rest is not begun; the status tells it unless the command failed.
#[tokio::test(flavor = "multi_thread")]
async fn one_signal_settles_the_last_push() {
    for (end, code) in [("touch ended", 130), ("touch ended; exit 5", 5)] {
        let server = S3Server::start(Memory::garage()).await;
        let uploads = Arc::new(AtomicUsize::new(0));
        let counting = uploads.clone();
        server.memory.set_faults(move |moment, sent| {
            let is_nar = moment == Moment::Before && sent.on.starts_with("nar/");
            is_nar.then(|| counting.fetch_add(1, Ordering::SeqCst)).map(|_| Fault::Delay(Duration::from_secs(1)))
        });
        let job = Job::new();
        let url = format!("s3://{BUCKET}?endpoint={}&region={REGION}", server.endpoint);
        let mut loft = job.run_to(&url, &["sh", "-c", &Job::script(end)]);
        with_credentials(&mut loft);
        let child = job.start(loft);
        for n in 0..200 {
            job.store.add(&format!("p{n}")).contents(format!("{n}")).finish();
        }
        job.go();
        wait_for("the command ended", || job.at("ended").exists());
        wait_for("a push", || uploads.load(Ordering::SeqCst) > 20);
        // Later than what may have hit the command as well.
        std::thread::sleep(Duration::from_millis(300));
        send(&child, Signal::TERM);
        let said = ends(child, code);
        said.tells(&["interrupted: what is in flight is settled first"]);
        // Of a push that had begun the summary tells, and of one that had not another line.
        assert!(said.stderr.contains("interrupted; push again") || said.stderr.contains("did not land"), "{said:?}");
        let landed = server.memory.contents().keys().filter(|key| key.as_str().ends_with(".narinfo")).count();
        assert!((20..200).contains(&landed), "{landed}");
    }
}

/// `nohup` and jobs in the background: what is ignored stays ignored, for loft and for the command.
#[cfg(target_os = "linux")]
#[test]
fn what_was_ignored_stays_ignored() {
    let job = Job::new();
    let inner = job.run(&["sh", "-c", &Job::script("exit 4")]);
    let mut outer = Command::new("sh");
    outer.args(["-c", "trap '' HUP INT; exec \"$@\"", "sh"]).arg(inner.get_program()).args(inner.get_args());
    outer.current_dir(job.folder.path()).env_clear().env("HOME", job.folder.path());
    outer.env("PATH", std::env::var_os("PATH").unwrap()).stdin(Stdio::null());
    outer.stdout(Stdio::piped()).stderr(Stdio::piped()).process_group(0);
    let child = job.start(outer);
    send(&child, Signal::HUP);
    send(&child, Signal::INT);
    std::thread::sleep(Duration::from_millis(300));
    job.go();
    ends(child, 4);
}

/// `loft run -- sh -c TEXT` at a terminal of its own, whose keyboard is the child's stdin.
#[cfg(target_os = "linux")]
fn at_a_terminal(job: &Job, text: &str) -> Child {
    let inner = job.run(&["sh", "-c", text]);
    let quote = |text: &std::ffi::OsStr| format!("'{}'", text.to_str().unwrap().replace('\'', "'\\''"));
    let words: Vec<String> = std::iter::once(inner.get_program()).chain(inner.get_args()).map(quote).collect();
    let mut script = Command::new("script");
    script.args(["--quiet", "--return", "--command", &format!("exec {}", words.join(" ")), "/dev/null"]);
    script.current_dir(job.folder.path()).env_clear().env("HOME", job.folder.path()).env("SHELL", "/bin/sh");
    script.env("PATH", std::env::var_os("PATH").unwrap());
    script.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    job.start(script)
}

/// What is typed at a terminal reaches the command once, not twice.
#[cfg(target_os = "linux")]
#[test]
fn ctrl_c_reaches_the_command_once() {
    let job = Job::new();
    let trap = "trap 'echo INT >> got' INT; touch runs; while [ ! -e go ]; do sleep 0.02; done; exit 6";
    let mut child = at_a_terminal(&job, trap);
    let got = || fs::read_to_string(job.at("got")).unwrap_or_default();
    child.stdin.as_mut().unwrap().write_all(b"\x03").unwrap();
    wait_for("the first Ctrl-C", || !got().is_empty());
    std::thread::sleep(Duration::from_millis(300));
    assert_eq!(got(), "INT\n", "told twice");
    let path = job.store.add("a").contents("a").finish();
    job.go();
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(6), "{output:?}");
    assert!(job.is_cached(&path), "{output:?}");
}

/// Ctrl-C hits loft and the command at the same moment; the push goes on.
#[cfg(target_os = "linux")]
#[test]
fn ctrl_c_that_ends_the_command_does_not_stop_the_push() {
    for _ in 0..10 {
        let job = Job::new();
        let mut child = at_a_terminal(&job, &format!("exec {} 60", sleep_that_tells(&job).display()));
        let paths: Vec<StorePath> =
            (0..20).map(|n| job.store.add(&format!("p{n}")).contents(format!("{n}")).finish()).collect();
        child.stdin.as_mut().unwrap().write_all(b"\x03").unwrap();
        let output = child.wait_with_output().unwrap();
        assert_eq!(output.status.code(), Some(130), "{output:?}");
        assert!(paths.iter().all(|path| job.is_cached(path)), "{output:?}");
    }
}

#[test]
fn what_a_command_built_is_pinned_where_it_succeeds() {
    let job = Job::new();
    let cache = format!("file://{}", job.at("cache").display());
    let store = format!("local?root={}", job.store.root().display());
    let mut built = Vec::new();
    for (end, code) in [("exit 3", 3), ("true", 0)] {
        let _ = fs::remove_file(job.at("runs"));
        let _ = fs::remove_file(job.at("go"));
        let rule = ["run", "--to", &cache, "--store", &store, "--pin", "nightly", "--keep-last", "2", "--"];
        let mut loft = job.loft(&rule);
        loft.args(["sh", "-c", &Job::script(end)]).stdout(Stdio::piped()).stderr(Stdio::piped());
        let child = job.start(loft);
        // In two batches.
        let early = job.store.add(&format!("early-{code}")).contents("early").finish();
        wait_for("the first lands while the command runs", || job.is_cached(&early));
        let late = job.store.add(&format!("late-{code}")).contents("late").reference(&early).finish();
        job.go();
        let said = ends(child, code);
        assert_eq!(said.stderr.contains("Pinned 2 paths as nightly."), code == 0, "{said:?}");
        built = vec![early.to_string(), late.to_string()];
    }
    let listed = job.loft(&["pin", "list", "--json", "--to", &cache]).output().unwrap();
    // One pin for a run, and none for the one that failed.
    let pin: serde_json::Value = serde_json::from_slice(&listed.stdout).unwrap();
    built.sort();
    assert_eq!((&pin["roots"], &pin["keep"]), (&built.into(), &serde_json::json!({"last": 2})));

    let ran = job.loft(&["run", "--pin", "x", "--to", &cache, "--store", &store, "--", "true"]).output().unwrap();
    assert_eq!(ran.status.code(), Some(0));
    assert!(String::from_utf8(ran.stderr).unwrap().contains("warning: Nothing is pinned as x"));
    let ran = job.loft(&["run", "--keep-days", "3", "--", "true"]).output().unwrap();
    assert_eq!(ran.status.code(), Some(1));
}
