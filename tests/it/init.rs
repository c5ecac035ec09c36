//! `loft init` by the program itself, against a server in this process and against directories.

use crate::support::memory::{Fault, Memory, Moment, Own};
use crate::support::s3_server::{ACCESS_KEY, BUCKET, REGION, S3Server, SECRET_KEY};
use loft::bucket::RequestKind;
use serde_json::Value;
use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::SystemTime;

/// A user with an empty home and working directory.
struct User {
    folder: tempfile::TempDir,
}

struct Ran {
    stdout: String,
    stderr: String,
}

impl User {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("work")).unwrap();
        Self { folder }
    }

    fn at(&self, below: &str) -> PathBuf {
        self.folder.path().join(below)
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_loft"));
        command.args(args).current_dir(self.at("work")).env_clear().stdin(Stdio::null());
        command.env("HOME", self.folder.path()).env("XDG_CONFIG_HOME", self.at("config"));
        command.env("AWS_ACCESS_KEY_ID", ACCESS_KEY).env("AWS_SECRET_ACCESS_KEY", SECRET_KEY);
        command
    }

    #[track_caller]
    fn run(&self, code: i32, args: &[&str]) -> Ran {
        let Output { status, stdout, stderr } = self.command(args).output().unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        let ran = Ran { stdout: text(stdout), stderr: text(stderr) };
        assert_eq!(status.code(), Some(code), "{}\n{}", ran.stdout, ran.stderr);
        assert!(!format!("{}{}", ran.stdout, ran.stderr).contains(SECRET_KEY), "a secret was told");
        ran
    }

    /// Every file below the folder, with its bytes and mode.
    fn files(&self) -> BTreeMap<PathBuf, (Vec<u8>, u32)> {
        let mut files = BTreeMap::new();
        let mut open = vec![self.folder.path().to_owned()];
        while let Some(folder) = open.pop() {
            for entry in fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                match path.is_dir() {
                    true => open.push(path),
                    false => {
                        let mode = fs::metadata(&path).unwrap().permissions().mode() & 0o777;
                        files.insert(path.clone(), (fs::read(&path).unwrap(), mode));
                    }
                }
            }
        }
        files
    }

    /// The only key in the user's folder.
    fn key(&self) -> PathBuf {
        let mut keys = fs::read_dir(self.at("config/loft")).unwrap().map(|entry| entry.unwrap().path());
        let key = keys.next().unwrap();
        assert_eq!(keys.next(), None, "more than one key");
        key
    }
}

impl Ran {
    #[track_caller]
    fn tells(&self, parts: &[&str]) -> &Self {
        for part in parts {
            assert!(self.stderr.contains(part), "{:?} lacks {part:?}", self.stderr);
        }
        self
    }
}

async fn server(memory: Memory) -> S3Server {
    memory.clock.set_wall(SystemTime::now());
    S3Server::start(memory).await
}

async fn garage(own: Own) -> S3Server {
    let memory = Memory::garage();
    *memory.own.lock().unwrap() = own;
    server(memory).await
}

fn url(server: &S3Server) -> String {
    format!("s3://{BUCKET}?endpoint={}&region={REGION}", server.endpoint)
}

/// As text, by key.
fn contents(server: &S3Server) -> BTreeMap<String, String> {
    let text = |bytes: bytes::Bytes| String::from_utf8(bytes.to_vec()).unwrap();
    server.memory.contents().into_iter().map(|(key, bytes)| (key.as_str().to_owned(), text(bytes))).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn everything_is_made_once_and_a_second_run_changes_nothing() {
    let server = garage(Own::default()).await;
    let user = User::new();
    let first = user.run(0, &["init", &url(&server)]);
    first.tells(&["signing key", "loft.toml: made", "loft push ./result", "sudo loft use --write --restart 's3://"]);
    let made = contents(&server);
    assert_eq!(made["nix-cache-info"], "StoreDir: /nix/store\nWantMassQuery: 1\nPriority: 41\n");
    assert!(made["loft/v1/bucket.json"].contains("https://cache.nixos.org"));
    assert_eq!(made.len(), 2, "scratch objects stay: {:?}", made.keys());

    let key = user.key();
    let files = user.files();
    assert_eq!(files[&key].1, 0o600);
    let public = user.run(0, &["key", "show", key.to_str().unwrap()]).stdout;
    assert!(first.stdout.contains(&format!("extra-trusted-public-keys = {public}")), "{}", first.stdout);
    let config = fs::read_to_string(user.at("work/loft.toml")).unwrap();
    assert!(!config.contains(SECRET_KEY) && !config.contains(ACCESS_KEY), "{config}");
    // From here on nothing has to be named.
    user.run(0, &["config", "check"]).tells(&["one signing key"]);
    assert_eq!(user.run(0, &["use"]).stdout, first.stdout);

    for args in [&["init"][..], &["init", &url(&server)], &["init", "--to", &url(&server)]] {
        let again = user.run(0, args);
        again.tells(&["nothing was changed", "loft push ./result"]);
        assert_eq!(again.stdout, first.stdout);
        assert_eq!((contents(&server), user.files()), (made.clone(), files.clone()), "{args:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bucket_is_made_where_that_is_allowed_and_else_it_is_told_how() {
    let server = garage(Own { is_missing: true, may_not_create: true, ..Own::default() }).await;
    let user = User::new();
    user.run(1, &["init", &url(&server)]).tells(&[
        "error: Could not create the bucket",
        "not allowed to create buckets",
        "garage bucket create nix-cache\n",
        "garage bucket allow --read --write --owner nix-cache --key \"$AWS_ACCESS_KEY_ID\"",
    ]);
    assert!(user.files().is_empty(), "a URL that leads nowhere was written down: {:?}", user.files());

    server.memory.own.lock().unwrap().may_not_create = false;
    user.run(0, &["init", "--dry-run", &url(&server)]).tells(&[
        "would be made",
        "with credentials only (the bucket is not there yet)",
        "Nothing was made",
    ]);
    assert!(user.files().is_empty() && server.memory.own.lock().unwrap().is_missing);
    // Garage keeps such a name for the key that made it.
    let ran = user.run(0, &["init", &url(&server)]);
    ran.tells(&["s3://nix-cache at", ": made", "garage bucket alias"]);
    let undo = format!("aws s3 rb --force s3://nix-cache --endpoint-url {}\n", server.endpoint);
    ran.tells(&["there was none of this name; if it is mistyped, this takes it away: ", &undo]);
    // What is there is not new.
    assert!(!user.run(0, &["init"]).stderr.contains("mistyped"));
    assert!(contents(&server).contains_key("nix-cache-info"));

    let other = format!("s3://others?endpoint={}&region={REGION}", server.endpoint);
    User::new().run(1, &["init", &other]).tells(&["BucketAlreadyExists", "Could not create"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_bucket_beside_the_one_that_is_configured_is_warned_of() {
    let server = garage(Own { is_missing: true, siblings: &["nix-cashe", "docs"], ..Own::default() }).await;
    let user = User::new();
    let config = format!("[s3]\nbucket = \"nix-cashe\"\nendpoint = {:?}\nregion = {REGION:?}\n", server.endpoint);
    fs::write(user.at("work/loft.toml"), config).unwrap();
    let ran = user.run(0, &["init", "--quiet", &url(&server)]);
    ran.tells(&[
        "warning: this bucket is new, and loft.toml names s3://nix-cashe",
        "  there was none of this name (there are nix-cashe, docs); if it is mistyped, this takes it away: aws s3 rb",
    ]);
    let events = garage(Own { is_missing: true, siblings: &["docs"], ..Own::default() }).await;
    let ran = User::new().run(0, &["init", "--json", &url(&events)]);
    let first: Value = serde_json::from_str(ran.stdout.lines().next().unwrap()).unwrap();
    assert_eq!((&first["made"], &first["others"][0], &first["in_file"]), (&"new".into(), &"docs".into(), &Value::Null));
}

/// A folder of its own name is made where it is missing, wherever that is told from.
#[tokio::test(flavor = "multi_thread")]
async fn its_own_folder_is_made_here_too() {
    let user = User::new();
    let cache = format!("file://{}", user.at("cache").display());
    user.run(0, &["init", "-c", "loft/loft.toml", "--signing-key", "loft/key", &cache]);
    assert!(user.at("work/loft/loft.toml").exists() && user.at("work/loft/key").exists());
}

/// Root's key stands beside the file that root has named, and a bare name is one in this folder.
#[tokio::test(flavor = "multi_thread")]
async fn a_bare_name_of_a_configuration_is_one_here() {
    let user = User::new();
    let cache = format!("file://{}", user.at("cache").display());
    user.run(0, &["init", "-c", "here.toml", &cache]);
    assert!(user.at("work/here.toml").exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_written_is_found_before_anything_is_made() {
    let server = garage(Own { is_missing: true, ..Own::default() }).await;
    let user = User::new();
    fs::write(user.at("work/junk"), "no key\n").unwrap();
    fs::write(user.at("work/file"), "").unwrap();
    for (args, told) in [
        (
            &["-c", "gone/loft.toml", "--signing-key", "new"][..],
            &["Could not write gone/loft.toml", "make its folder first"][..],
        ),
        (&["--signing-key", "file/key"], &["Could not write", "a file stands where its folder should be"]),
        (&["--signing-key", "gone/key"], &["Could not write", "gone/key", "make its folder first"]),
        (&["--signing-key", "junk"], &["is not a secret key file"]),
    ] {
        for dry_run in [&[][..], &["--dry-run"]] {
            user.run(1, &[&["init", &url(&server)], args, dry_run].concat()).tells(told);
        }
    }
    // Where a key's own folder should go.
    fs::write(user.at("config"), "").unwrap();
    user.run(1, &["init", &url(&server)]).tells(&["Could not write", "config/loft/nix-cache-"]);
    assert!(server.memory.own.lock().unwrap().is_missing && server.seen().is_empty(), "something was asked or made");
    assert!(!user.at("work/loft.toml").exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dry_run_writes_nothing_at_all() {
    let server = garage(Own::default()).await;
    let user = User::new();
    let public = format!("{}/{BUCKET}", server.endpoint);
    let ran = user.run(0, &["init", "--dry-run", "--public", &public, &url(&server)]);
    ran.tells(&["nix-cache-info  would be made", "loft.toml: would be made", "would be switched on"]);
    assert!(user.files().is_empty() && contents(&server).is_empty());
    assert!(server.seen().iter().all(|seen| seen.method == "GET" || seen.method == "HEAD"));
}

#[tokio::test(flavor = "multi_thread")]
async fn who_may_only_read_hears_so() {
    let denies_writing = |server: &S3Server| {
        server.memory.set_faults(|moment, sent| {
            let writes = matches!(sent.kind, RequestKind::Put | RequestKind::CreateUpload | RequestKind::Delete);
            (moment == Moment::Before && writes).then_some(Fault::Denied)
        });
    };
    let server = garage(Own::default()).await;
    let user = User::new();
    denies_writing(&server);
    // Nothing is there yet, and nothing can be made.
    user.run(1, &["init", &url(&server)]).tells(&[
        "these credentials may not",
        ", put objects",
        "Could not put nix-cache-info",
    ]);
    assert!(user.files().is_empty());
    server.memory.clear_hook();
    user.run(0, &["init", &url(&server)]);
    let (made, files) = (contents(&server), user.files());
    denies_writing(&server);
    let ran = user.run(2, &["init"]);
    ran.tells(&["these credentials may not", ", put objects", "hint: garage bucket allow", "cannot push yet"]);
    assert!(!ran.stderr.contains("loft push"), "{}", ran.stderr);
    let quiet = user.run(2, &["init", "--quiet"]);
    assert!(quiet.stderr.starts_with("warning: these credentials may not"), "{}", quiet.stderr);
    assert_eq!((contents(&server), user.files()), (made, files));
}

#[tokio::test(flavor = "multi_thread")]
async fn who_may_not_delete_leaves_one_scratch_object_however_often_it_runs() {
    let server = garage(Own::default()).await;
    server.memory.set_faults(|moment, sent| {
        (moment == Moment::Before && sent.kind == RequestKind::Delete).then_some(Fault::Denied)
    });
    let user = User::new();
    for _ in 0..3 {
        user.run(0, &["init", &url(&server)]).tells(&["these credentials may not delete objects"]);
    }
    let left: Vec<String> = contents(&server).into_keys().filter(|key| key.starts_with("loft/v1/probe/")).collect();
    assert_eq!(left.len(), 1, "{left:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_foreign_nix_cache_info_is_never_overwritten() {
    for (text, code, told) in [
        ("StoreDir: /data/store\n", 1, &["belongs to the store directory /data/store", "never overwritten"][..]),
        ("<html>\n", 1, &["is not one", "never overwritten"]),
        (
            "StoreDir: /nix/store\nPriority: 30\n",
            0,
            &["priority is 30 where 41 is configured", "WantMassQuery", "never changes it"],
        ),
        ("WantMassQuery: 1\nPriority: 41\n", 0, &["does not say for which store directory"]),
    ] {
        let server = garage(Own::default()).await;
        server.memory.plant("nix-cache-info", text);
        User::new().run(code, &["init", &url(&server)]).tells(told);
        assert_eq!(contents(&server)["nix-cache-info"], text);
    }
    // The other way round: this machine's store is another one.
    let server = garage(Own::default()).await;
    let user = User::new();
    let mut command = user.command(&["init", &url(&server)]);
    assert!(command.env("NIX_STORE_DIR", "/data/store").output().unwrap().status.success());
    assert!(contents(&server)["nix-cache-info"].contains("StoreDir: /data/store\n"));
    user.run(1, &["init", &url(&server)]).tells(&["this store is /nix/store"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_configuration_that_is_there_stays_and_what_it_lacks_is_told() {
    let server = garage(Own::default()).await;
    let user = User::new();
    let text = "[loft]\npriority = 20 # mine\n";
    fs::write(user.at("work/loft.toml"), text).unwrap();
    let ran = user.run(0, &["init", &url(&server)]);
    ran.tells(&["stays as it is, and lacks", "  bucket = \"nix-cache\"", "  signing_key_path = "]);
    assert!(!ran.stderr.contains("skip_signed_by_keys"), "its absence was chosen");
    assert_eq!(fs::read_to_string(user.at("work/loft.toml")).unwrap(), text);
    assert!(contents(&server)["nix-cache-info"].contains("Priority: 20\n"));
    assert!(!contents(&server)["loft/v1/bucket.json"].contains("cache.nixos.org"));

    // One that says all of it lacks nothing; a key that it names and that is missing is made there.
    let key = user.at("own-key");
    let whole = format!(
        "[s3]\nbucket = {BUCKET:?}\nendpoint = {:?}\nregion = {REGION:?}\n[loft]\npriority = 20\nsigning_key_path = {key:?}\n",
        server.endpoint
    );
    fs::write(user.at("named.toml"), &whole).unwrap();
    let named = user.at("named.toml");
    let ran = user.run(0, &["-c", named.to_str().unwrap(), "init"]);
    ran.tells(&[&format!("loft -c {} push", named.display())]);
    assert!(!ran.stderr.contains("lacks"), "{}", ran.stderr);
    assert_eq!((fs::read_to_string(&named).unwrap(), user.files()[&key].1), (whole, 0o600));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_is_there_is_used_and_never_replaced() {
    let server = garage(Own::default()).await;
    let user = User::new();
    let key = user.at("key");
    user.run(0, &["key", "generate", "mine-1", "--out", key.to_str().unwrap()]);
    let before = fs::read(&key).unwrap();
    let with_key = |code, more: &[&str]| {
        user.run(code, &[&["init", &url(&server), "--signing-key", key.to_str().unwrap()], more].concat())
    };
    with_key(1, &["--key-name", "other-1"]).tells(&["calls itself mine-1, not other-1", "leave --key-name out"]);
    assert!(!user.at("work/loft.toml").exists());
    with_key(0, &[]).tells(&["named mine-1: was there"]);
    assert_eq!(fs::read(&key).unwrap(), before);
    assert!(fs::read_to_string(user.at("work/loft.toml")).unwrap().contains(&format!("{key:?}")));

    let junk = user.at("junk");
    fs::write(&junk, "no key\n").unwrap();
    let other = User::new();
    other
        .run(1, &["init", &url(&server), "--signing-key", junk.to_str().unwrap()])
        .tells(&["is not a secret key file"]);
    assert_eq!(fs::read_to_string(&junk).unwrap(), "no key\n");
    // A name that is asked for names the file as well.
    other.run(0, &["init", &url(&server), "--key-name", "cache.example.org-7"]);
    assert!(other.key().ends_with("cache.example.org-7.secret"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_is_lost_is_missed() {
    let server = garage(Own::default()).await;
    let user = User::new();
    let first = user.run(0, &["init", &url(&server)]);
    assert!(!first.stderr.contains("warning"), "{}", first.stderr);
    fs::remove_file(user.key()).unwrap();
    let told = "warning: the configuration names this key, and it was not there";
    user.run(0, &["init", "--quiet"]).tells(&[told, "  hint: if there is a copy of the old one"]);
    let again = user.run(0, &["init"]);
    assert!(!again.stderr.contains("warning"), "{}", again.stderr);
    // Another machine's first key for the same cache is none that was lost.
    let other = User::new().run(0, &["init", &url(&server)]);
    assert!(!other.stderr.contains("warning"), "{}", other.stderr);
}

#[tokio::test(flavor = "multi_thread")]
async fn everybody_can_read_where_that_was_asked_for() {
    let server = garage(Own::default()).await;
    let user = User::new();
    let public = format!("{}/{BUCKET}", server.endpoint);
    // Not asked for: nothing is switched, and how to is told.
    user.run(0, &["init", &url(&server)])
        .tells(&["with credentials only", "loft init --public http://nix-cache.ROOT_DOMAIN:3902"]);
    assert!(!server.memory.own.lock().unwrap().is_website);
    fs::remove_file(user.at("work/loft.toml")).unwrap();

    let ran = user.run(0, &["init", "--public", &public, &url(&server)]);
    ran.tells(&[&format!("everybody, at {public}: switched on")]);
    assert!(ran.stdout.starts_with(&format!("extra-substituters = {public}\n")), "{}", ran.stdout);
    assert!(fs::read_to_string(user.at("work/loft.toml")).unwrap().contains(&format!("public_url = {public:?}")));
    let again = user.run(0, &["init"]);
    again.tells(&[&format!("everybody, at {public}\n"), "nothing was changed"]);
    // A bucket that is open without anybody having said so is noticed.
    let ran = User::new().run(0, &["init", &url(&server)]);
    assert!(ran.stdout.starts_with(&format!("extra-substituters = {public}\n")), "{}", ran.stdout);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_may_not_be_switched_is_left_and_told() {
    // Only an owner may.
    let server = garage(Own { is_not_owner: true, ..Own::default() }).await;
    let public = |server: &S3Server| format!("{}/{BUCKET}", server.endpoint);
    let ran = User::new().run(2, &["init", "--public", &public(&server), &url(&server)]);
    ran.tells(&["with credentials only", "not allowed for this key", "hint: garage bucket website --allow nix-cache"]);
    ran.tells(&["Nothing was written on this machine: run this again once everybody can read there"]);
    // Where there are policies, they are for their owner to weigh.
    let server = self::server(Memory::aws()).await;
    let ran = User::new().run(2, &["init", "--public", &public(&server), &url(&server)]);
    ran.tells(&["with credentials only"]);
    assert!(!server.memory.own.lock().unwrap().is_website);
    // Switched on already, and still not there: nothing is written that would lead there, and then all of it at once.
    let server = garage(Own { is_website: true, ..Own::default() }).await;
    let elsewhere = format!("{}/others", server.endpoint);
    let user = User::new();
    let ran = user.run(2, &["init", "--public", &elsewhere, &url(&server)]);
    ran.tells(&[
        &format!("warning: {elsewhere}: there is no nix-cache-info (404)"),
        "the bucket's website is on",
        "or leave --public out for now",
    ]);
    assert!(user.files().is_empty() && ran.stdout.is_empty(), "{:?}", user.files());
    user.run(0, &["init", "--public", &public(&server), &url(&server)]);
    let config = fs::read_to_string(user.at("work/loft.toml")).unwrap();
    assert!(config.contains(&format!("public_url = {:?}", public(&server))), "{config}");
    // Nor is it told as something that is missing there.
    let ran = user.run(2, &["init", "--public", &elsewhere]);
    assert!(!ran.stderr.contains("lacks"), "{}", ran.stderr);
    assert_eq!(fs::read_to_string(user.at("work/loft.toml")).unwrap(), config);
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_an_address_has_is_no_command_for_who_pastes_it() {
    let server = garage(Own::default()).await;
    let user = User::new();
    let odd = format!("{}/o';id", server.endpoint);
    fs::write(user.at("work/loft.toml"), format!("[loft]\npublic_url = {odd:?}\n")).unwrap();
    let told = format!("--restart '{}/o'\\'';id' --public-key", server.endpoint);
    user.run(0, &["init", &url(&server)]).tells(&[&told]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_web_address_is_refused_before_anything_is_made() {
    let server = garage(Own::default()).await;
    for bad in ["nix-cache.localhost", "ftp://h", "http://u:p4ss@h", "http://h?x=y", "http:/h", " http://h", "HTTP://h"]
    {
        let user = User::new();
        let ran = user.run(1, &["init", "--public", bad, &url(&server)]);
        ran.tells(&["is no web address"]);
        assert!(!ran.stderr.contains("p4ss"));
        // A password would stand in loft.toml, and such a loft.toml would be refused from then on.
        assert!(user.files().is_empty() && contents(&server).is_empty(), "{bad}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn another_cache_at_the_address_is_not_taken_for_this_one() {
    let (server, other) = (garage(Own::default()).await, garage(Own { is_website: true, ..Own::default() }).await);
    User::new().run(0, &["init", &url(&other)]);
    let public = format!("{}/{BUCKET}", other.endpoint);
    let user = User::new();
    let ran = user.run(2, &["init", "--public", &public, &url(&server)]);
    ran.tells(&["another cache is there", "hint: correct --public"]);
    assert!(user.files().is_empty() && !server.memory.own.lock().unwrap().is_website);
    // Nor are readers sent there by what is configured.
    fs::write(user.at("work/loft.toml"), format!("[loft]\npublic_url = {public:?}\n")).unwrap();
    let ran = user.run(0, &["init", "--quiet", &url(&server)]);
    ran.tells(&[&format!("warning: {public}: another cache is there"), "hint: correct public_url"]);
    assert!(ran.stdout.starts_with("extra-substituters = s3://"), "{}", ran.stdout);
}

#[tokio::test(flavor = "multi_thread")]
async fn programs_get_an_object_for_each_step() {
    let server = garage(Own::default()).await;
    let user = User::new();
    let ran = user.run(0, &["init", "--json", &url(&server)]);
    assert_eq!(ran.stderr, "");
    let events: Vec<Value> = ran.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let names: Vec<&str> = events.iter().map(|event| event["event"].as_str().unwrap()).collect();
    assert_eq!(
        names,
        ["bucket", "rights", "nix-cache-info", "record", "quirks", "reading", "key", "config", "finished"]
    );
    let last = &events[8];
    assert_eq!((&last["ready"], &last["changed"]), (&true.into(), &true.into()));
    assert_eq!(last["public_keys"][0], events[6]["public"]);
    let again = user.run(0, &["init", "--json"]);
    assert_eq!(serde_json::from_str::<Value>(again.stdout.lines().last().unwrap()).unwrap()["changed"], false);
}

#[tokio::test(flavor = "multi_thread")]
async fn many_at_once_make_one_key_and_one_configuration() {
    let server = garage(Own::default()).await;
    let user = User::new();
    let started: Vec<_> = (0..6)
        .map(|_| {
            let mut command = user.command(&["init", "--quiet", &url(&server)]);
            command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
        })
        .collect();
    let said: Vec<Output> = started.into_iter().map(|child| child.wait_with_output().unwrap()).collect();
    for output in &said {
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        assert_eq!(output.stdout, said[0].stdout, "two keys were told");
    }
    user.key();
    let work: Vec<_> = fs::read_dir(user.at("work")).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(work, ["loft.toml"], "something unfinished stays");
    user.run(0, &["config", "check"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn quiet_leaves_the_result_and_what_is_wrong() {
    let server = garage(Own::default()).await;
    let user = User::new();
    fs::write(user.at("work/loft.toml"), "[loft]\npriority = 20\n").unwrap();
    let ran = user.run(0, &["init", "--quiet", &url(&server)]);
    assert!(ran.stdout.starts_with("extra-substituters = "), "{}", ran.stdout);
    ran.tells(&["warning: it stays as it is, and lacks:\n  [s3]\n", "  signing_key_path"]);
    assert!(!ran.stderr.contains("made") && !ran.stderr.contains("To push"), "{}", ran.stderr);
    // Who did not ask for it is not told how to let everybody read.
    assert!(!ran.stderr.contains("--public"), "{}", ran.stderr);
    // A push by this file alone would go elsewhere, or nowhere.
    user.run(0, &["init", &url(&server)]).tells(&["once loft.toml has the lines that it lacks"]);
}

#[test]
fn a_directory_is_made_ready_and_named_in_the_configuration() {
    let user = User::new();
    let cache = user.at("cache");
    let url = format!("file://{}", cache.display());
    let ran = user.run(0, &["init", &url]);
    ran.tells(&["directory", ": made", "whoever can read its files"]);
    ran.tells(&["with copies of the configuration and the signing key):\n  loft push ./result"]);
    ran.tells(&[&format!("this takes it away: rm -r '{}'\n", cache.display())]);
    assert!(ran.stdout.starts_with(&format!("extra-substituters = {url}\n")), "{}", ran.stdout);
    assert!(cache.join("nix-cache-info").exists() && cache.join("loft/v1/bucket.json").exists());
    let config = fs::read_to_string(user.at("work/loft.toml")).unwrap();
    assert!(config.contains(&format!("cache = {url:?}")), "{config}");
    user.run(0, &["status"]);
    user.run(0, &["init"]).tells(&["nothing was changed"]);

    let missing = format!("file://{}", user.at("mnt/cache").display());
    let ran = user.run(1, &["init", &missing]);
    ran.tells(&["neither does the one it would be created in\n", "hint: mkdir -p"]);
    assert_eq!(ran.stderr.matches("mkdir").count(), 1, "{}", ran.stderr);
    assert!(!user.at("mnt").exists());
    let read_only = Path::new("/proc/loft-cache");
    User::new().run(1, &["init", &format!("file://{}", read_only.display())]).tells(&["error:"]);
}

#[test]
fn what_is_no_url_is_not_blamed_on_an_option() {
    let user = User::new();
    for typed in ["nix-cache", "/srv/cache", "s3:nix-cache"] {
        let ran = user.run(1, &["init", typed]);
        assert!(ran.stderr.contains(typed) && ran.stderr.contains("s3://bucket?endpoint="), "{}", ran.stderr);
        assert!(!ran.stderr.contains("--to"), "{}", ran.stderr);
    }
}

#[test]
fn without_a_bucket_or_a_home_it_says_what_is_missing() {
    let user = User::new();
    user.run(1, &["init"]).tells(&["No bucket is named"]);
    user.run(1, &["-c", "not-there.toml", "init"]).tells(&["No bucket is named", "there is no not-there.toml"]);
    let url = format!("file://{}", user.at("cache").display());
    let mut command = user.command(&["init", &url]);
    let output = command.env_remove("HOME").env_remove("XDG_CONFIG_HOME").output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).contains("--signing-key FILE"));
}
