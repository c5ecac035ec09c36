//! The local store against real Nix: what loft reads is what Nix says, for every user, and what loft
//! protects is what Nix's garbage collector keeps.

use crate::support::fixture_store::FixtureStore;
use crate::support::local_store::LocalStore;
use crate::support::nix::Nix;
use crate::support::process::stdout_of;
use loft::nix::PathInfo;
use loft::store::{Protection, Settings, Store, closure, open, resolve};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::time::{Duration, Instant};

/// A store whose logical and physical directory are one, so that Nix builds in it without a sandbox.
struct OwnStore {
    nix: Nix,
    is_recent: bool,
    folder: tempfile::TempDir,
}

/// A Nix daemon, until dropped.
struct NixDaemon(Child);

impl Drop for NixDaemon {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

impl OwnStore {
    fn new(nix: Nix) -> Self {
        let folder = tempfile::Builder::new().prefix("loft-own-").tempdir().unwrap();
        chmod(folder.path(), 0o755);
        Self { is_recent: nix.version() >= (2, 18), nix, folder }
    }

    fn at(&self, below: &str) -> PathBuf {
        self.folder.path().join(below)
    }

    fn variables(&self) -> [(&'static str, PathBuf); 2] {
        [("NIX_STORE_DIR", self.at("store")), ("NIX_STATE_DIR", self.at("var"))]
    }

    /// As a user with these variables would open it.
    fn settings(&self, store: &str) -> Settings {
        let text = |path: &PathBuf| path.to_str().unwrap().to_owned();
        let environment = self.variables().iter().map(|(name, path)| ((*name).to_owned(), text(path))).collect();
        let daemon_timeout = Some(Duration::from_secs(60));
        Settings { store: Some(store.to_owned()), environment, daemon_timeout }
    }

    fn open(&self, store: &str) -> Box<dyn Store> {
        open(&self.settings(store)).unwrap()
    }

    /// A program of this Nix, on this store without a daemon.
    fn command(&self, program: &str) -> Command {
        let mut config =
            "experimental-features = nix-command\nsubstituters =\nbuild-users-group =\nsandbox = false\n".to_owned();
        if self.is_recent {
            // It starts itself as a hook by a name under which an unpacked package cannot be found; an old one
            // cannot do without.
            config.push_str("build-hook =\n");
        }
        let mut command = self.nix.command(program);
        command.envs(self.variables()).env("NIX_LOG_DIR", self.at("log")).env("NIX_REMOTE", "local");
        command.env("NIX_CONFIG", config);
        command
    }

    fn run(&self, program: &str, arguments: &[&str]) -> Vec<String> {
        stdout_of(self.command(program).args(arguments)).lines().map(str::to_owned).collect()
    }

    fn daemon(&self) -> NixDaemon {
        let socket = self.socket();
        let log = std::fs::File::create(self.at("daemon.log")).unwrap();
        let daemon = NixDaemon(self.command("nix-daemon").stderr(log).spawn().unwrap());
        let start = Instant::now();
        while !socket.exists() {
            assert!(start.elapsed() < Duration::from_secs(30), "no daemon at {}", socket.display());
            std::thread::sleep(Duration::from_millis(20));
        }
        daemon
    }

    fn socket(&self) -> PathBuf {
        self.at("var/daemon-socket/socket")
    }

    /// `unix://…`: nothing but the daemon, which loft then cannot know to be this store's.
    fn daemon_only(&self) -> String {
        let link = self.at("another-name");
        drop(std::os::unix::fs::symlink(self.socket(), &link));
        format!("unix://{}", link.display())
    }

    /// Three outputs and their derivations (references, a self reference), fixed outputs, an added text, signatures.
    fn build(&self) -> Built {
        let file = self.at("build.nix");
        std::fs::write(
            &file,
            r#"let
                 make = name: extra: script: derivation ({
                   inherit name; system = builtins.currentSystem; builder = "/bin/sh"; args = [ "-c" script ];
                 } // extra);
                 low = make "low" {} "echo low > $out";
                 middle = make "middle" {} "echo ${low} $out > $out";
                 fixed = make "fixed" {
                   outputHashAlgo = "sha256"; outputHashMode = "flat";
                   outputHash = builtins.hashString "sha256" "fixed";
                 } "printf fixed > $out";
                 text = builtins.toFile "text" "see ${builtins.toFile "other" "x"}";
               in make "top" {} "/bin/mkdir $out; echo ${middle} ${fixed} ${text} > $out/references""#,
        )
        .unwrap();
        let top = self.run("nix-build", &["--no-out-link", file.to_str().unwrap()]).remove(0);
        let added = self.run("nix-store", &["--add", file.to_str().unwrap()]).remove(0);
        let key = self.nix.generate_key("test-1");
        stdout_of(self.command("nix").args(["store", "sign", "--key-file"]).arg(key.secret_file()).arg(&top));
        let closure = self.run("nix-store", &["-qR", &top]);
        let all = self.run("nix-store", &["-qR", "--include-outputs", &self.deriver(&top), &added]);
        assert!(closure.len() == 6 && all.len() > 10, "{closure:?} {all:?}");
        Built { top, added, closure, all }
    }

    fn deriver(&self, path: &str) -> String {
        self.run("nix-store", &["-qd", path]).remove(0)
    }

    /// What `nix path-info --json` says, in loft's words.
    fn told_by_nix(&self, paths: &[String]) -> BTreeMap<String, String> {
        // Asked for a derivation, an old Nix tells of its outputs.
        let (derivations, others): (Vec<_>, Vec<_>) = paths.iter().cloned().partition(|path| path.ends_with(".drv"));
        let mut told = self.told_by_path_info(&["--derivation"], &derivations);
        told.extend(self.told_by_path_info(&[], &others));
        told
    }

    fn told_by_path_info(&self, options: &[&str], paths: &[String]) -> BTreeMap<String, String> {
        let text = stdout_of(self.command("nix").args(["path-info", "--json"]).args(options).args(paths));
        let told: Value = serde_json::from_str(&text).unwrap();
        let entries: Vec<(String, Value)> = match told {
            Value::Array(entries) => {
                entries.into_iter().map(|entry| (entry["path"].as_str().unwrap().to_owned(), entry)).collect()
            }
            Value::Object(entries) => entries.into_iter().collect(),
            other => panic!("{other}"),
        };
        entries.into_iter().map(|(path, entry)| (path, canonical(&entry))).collect()
    }

    fn canonical(&self, store: &dyn Store, info: &PathInfo) -> (String, String) {
        let dir = &store.location().store_dir;
        let entry = serde_json::json!({
            "narHash": info.nar_hash.to_string(),
            "narSize": info.nar_size,
            "references": info.references.iter().map(|path| dir.join(path)).collect::<Vec<_>>(),
            "deriver": info.deriver.as_ref().map(|path| dir.join(path)),
            "ultimate": info.ultimate,
            "signatures": info.signatures.iter().map(ToString::to_string).collect::<Vec<_>>(),
            "ca": info.ca.as_ref().map(ToString::to_string),
        });
        (dir.join(&info.path), canonical(&entry))
    }
}

struct Built {
    top: String,
    added: String,
    closure: Vec<String>,
    /// With derivations.
    all: Vec<String>,
}

/// One spelling for what Nix versions leave out, order or print differently.
fn canonical(entry: &Value) -> String {
    let list = |name: &str| -> BTreeSet<String> {
        let items = entry[name].as_array().map(Vec::as_slice).unwrap_or_default();
        items.iter().map(|item| item.as_str().unwrap().to_owned()).collect()
    };
    let hash = loft::nix::Sha256::parse(entry["narHash"].as_str().unwrap()).unwrap();
    format!(
        "{hash} {} {:?} {} {} {:?} {}",
        entry["narSize"],
        list("references"),
        entry["deriver"],
        entry["ultimate"].as_bool().unwrap_or(false),
        list("signatures"),
        entry["ca"]
    )
}

fn chmod(path: &Path, mode: u32) {
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
}

fn store_paths(store: &dyn Store, paths: &[String]) -> Vec<loft::nix::StorePath> {
    paths.iter().map(|path| store.location().store_dir.parse_path(path).unwrap()).collect()
}

fn both_back_ends_agree_with_nix(nix: Nix) {
    let own = OwnStore::new(nix);
    let built = own.build();
    let _daemon = own.daemon();
    let told = own.told_by_nix(&built.all);
    assert_eq!(told.len(), built.all.len());
    let database = own.open("local");
    let daemon = own.open(&own.daemon_only());
    assert!(!daemon.describe().contains("database"), "{}", daemon.describe());
    assert!(database.describe().ends_with("(database)"), "{}", database.describe());
    for store in [database, daemon] {
        let infos = store.path_infos(&store_paths(store.as_ref(), &built.all)).unwrap();
        let read: BTreeMap<_, _> =
            infos.iter().map(|info| own.canonical(store.as_ref(), info.as_ref().unwrap())).collect();
        assert_eq!(read, told, "{}", store.describe());

        let top = resolve(store.location(), Path::new(&built.top)).unwrap();
        let infos = closure(store.as_ref(), std::slice::from_ref(&top)).unwrap().infos;
        let dir = &store.location().store_dir;
        let read: BTreeSet<_> = infos.iter().map(|info| dir.join(&info.path)).collect();
        assert_eq!(read, built.closure.iter().cloned().collect::<BTreeSet<_>>());
        assert_eq!(infos.last().unwrap().path, top);
        assert!(infos.iter().any(|info| info.references.contains(&info.path)), "a self reference");

        let all: BTreeSet<_> = store.all_valid_paths().unwrap().iter().map(|path| dir.join(path)).collect();
        let dump: BTreeSet<_> = own.run("nix-store", &["-q", "--references", &built.top]).into_iter().collect();
        assert!(dump.is_subset(&all) && built.all.iter().all(|path| all.contains(path)));

        let stranger = own.nix_style_stranger();
        assert_eq!(store.path_infos(&store_paths(store.as_ref(), &[stranger])).unwrap(), [None]);
    }
}

impl OwnStore {
    /// A well-formed path that is not valid.
    fn nix_style_stranger(&self) -> String {
        format!("{}/{}-stranger", self.at("store").display(), "0".repeat(32))
    }
}

/// `protect` holds on one store value, and only as long as that lives.
fn collector_keeps_what_is_protected(nix: Nix, through_daemon: bool) {
    let own = OwnStore::new(nix);
    let built = own.build();
    let daemon = through_daemon.then(|| own.daemon());
    let store = own.open("auto");
    let top = store_paths(store.as_ref(), std::slice::from_ref(&built.top));
    assert_eq!(store.protect(&top[0]).unwrap(), Protection::Held);
    let files = std::fs::read_dir(own.at("var/temproots")).unwrap().count();
    assert_eq!(files, 1, "one connection or one file holds it");
    own.run("nix-store", &["--gc"]);
    for path in &built.closure {
        assert!(Path::new(path).exists(), "{path} was collected though protected");
    }
    assert!(!Path::new(&built.added).exists(), "nothing was collected");
    let infos = closure(store.as_ref(), &top).unwrap().infos;
    assert_eq!(infos.len(), built.closure.len());
    // A second root on the same store value, added after a collection.
    let again = own.run("nix-store", &["--add", own.at("build.nix").to_str().unwrap()]);
    let again_path = store_paths(store.as_ref(), &again);
    assert_eq!(store.protect(&again_path[0]).unwrap(), Protection::Held);
    own.run("nix-store", &["--gc"]);
    assert!(Path::new(&built.top).exists() && Path::new(&again[0]).exists());

    drop(store);
    // The daemon's process for the connection ends a moment after it.
    let start = Instant::now();
    while Path::new(&built.top).exists() && start.elapsed() < Duration::from_secs(20) {
        own.run("nix-store", &["--gc"]);
    }
    for path in built.closure.iter().chain(&again) {
        assert!(!Path::new(path).exists(), "{path} was kept though nothing protects it");
    }
    drop(daemon);
}

/// Two pushers at once, without a daemon: each process and each store value holds its own.
fn roots_of_two_store_values_are_apart(nix: Nix) {
    let own = OwnStore::new(nix);
    let built = own.build();
    let (one, two) = (own.open("local"), own.open("local"));
    let [added, top] = [&built.added, &built.top].map(|path| store_paths(one.as_ref(), std::slice::from_ref(path)));
    assert_eq!(one.protect(&added[0]).unwrap(), Protection::Held);
    assert_eq!(two.protect(&top[0]).unwrap(), Protection::Held);
    drop(one);
    own.run("nix-store", &["--gc"]);
    assert!(!Path::new(&built.added).exists());
    assert!(Path::new(&built.top).exists());
    // A file that a killed process left behind protects nothing and harms nothing.
    std::fs::write(own.at("var/temproots/1"), format!("{}\0", built.added)).unwrap();
    own.run("nix-store", &["--gc"]);
    assert!(!own.at("var/temproots/1").exists());
}

/// An ordinary user: what is readable and who listens varies, what is read does not.
fn every_user_reads_the_same(nix: Nix) {
    let old = nix.version() < (2, 22);
    let own = OwnStore::new(nix);
    let built = own.build();
    let expected = {
        let store = own.open("local");
        report(store.as_ref(), &built)
    };
    let db = own.at("var/db");
    let as_nobody = |store: &str| own.as_nobody(store, &built);

    // Nobody has the database open, and no daemon runs. (loft as root leaves the same files as a new Nix.)
    own.run("nix-store", &["-q", "--hash", &built.top]);
    assert_eq!(db.join("db.sqlite-wal").exists(), !old, "what this Nix leaves behind");
    let told = as_nobody("auto");
    assert!(told.contains(&expected) && told.contains("(database)") && told.contains("Unheld"), "{told}");

    // Unreadable, and no daemon: an error that names both places.
    chmod(&db, 0o700);
    let told = as_nobody("auto");
    assert!(told.contains("No Nix store can be reached"), "{told}");
    assert!(told.contains("Permission denied") && told.contains("db.sqlite"), "{told}");
    assert!(told.contains("No such file") && told.contains("daemon-socket"), "{told}");

    let daemon = own.daemon();
    let told = as_nobody("auto");
    assert!(told.contains(&expected) && told.contains("(daemon ") && told.contains("Held"), "{told}");
    assert!(told.contains("Permission denied"), "why the database is not used: {told}");

    chmod(&db, 0o755);
    let told = as_nobody("auto");
    assert!(told.contains(&expected) && told.contains("(database, daemon ") && told.contains("Held"), "{told}");
    let told = as_nobody(&own.daemon_only());
    assert!(told.contains(&expected) && told.contains("(daemon ") && told.contains("Held"), "{told}");

    // A socket for others only, as in Debian's package.
    chmod(&own.at("var/daemon-socket"), 0o700);
    let told = as_nobody("auto");
    assert!(told.contains(&expected) && told.contains("(database)"), "{told}");
    assert!(told.contains("Unheld") && told.contains("Permission denied"), "{told}");
    chmod(&own.at("var/daemon-socket"), 0o755);

    // While somebody writes, the newest state is seen: by the log and not by the main file alone.
    let holder = own.open(&own.daemon_only());
    holder.all_valid_paths().unwrap();
    let fresh = own.at("fresh");
    std::fs::write(&fresh, "fresh").unwrap();
    let added = own.run("nix-store", &["--add", fresh.to_str().unwrap()]).remove(0);
    let told = own.as_nobody("local", &Built { top: added.clone(), ..built });
    assert!(told.contains(&format!("closure of {added}: 1")), "{told}");
    drop((holder, daemon));
}

/// What a user is told, as text: for comparison across processes.
fn report(store: &dyn Store, built: &Built) -> String {
    let top = resolve(store.location(), Path::new(&built.top)).unwrap();
    let infos = closure(store, &[top]).unwrap().infos;
    format!("closure of {}: {}\n{infos:?}", built.top, infos.len())
}

const CHILD: &str = "LOFT_TEST_CHILD_STORE";

impl OwnStore {
    /// Runs `as_another_user` of this very test program as `nobody`, from a copy that nobody may read.
    fn as_nobody(&self, store: &str, built: &Built) -> String {
        let program = self.at("test-program");
        // By another process: a file that this one has had open for writing may not be executed while a fork of
        // some other test's thread still has it.
        stdout_of(Command::new("install").arg("-m755").arg(std::env::current_exe().unwrap()).arg(&program));
        let is_root = std::os::unix::fs::MetadataExt::uid(&std::fs::metadata("/proc/self").unwrap()) == 0;
        assert!(is_root, "this test changes users: run it as root");
        let mut child = Command::new("setpriv");
        child.args(["--reuid", "65534", "--regid", "65534", "--clear-groups"]).arg(program);
        child.args(["--exact", "store::as_another_user", "--ignored", "--nocapture"]).current_dir("/");
        child.env(CHILD, store).env("LOFT_TEST_CHILD_TOP", &built.top).envs(self.variables());
        stdout_of(&mut child)
    }
}

/// Not a test by itself: the half of `every_user_reads_the_same` that runs as an ordinary user.
#[test]
#[ignore = "run by another test"]
fn as_another_user() {
    let Ok(store) = std::env::var(CHILD) else { return };
    let environment =
        ["NIX_STORE_DIR", "NIX_STATE_DIR"].map(|name| (name.to_owned(), std::env::var(name).unwrap())).into();
    let daemon_timeout = Some(Duration::from_secs(60));
    match open(&Settings { store: Some(store), environment, daemon_timeout }) {
        Ok(store) => {
            let top = std::env::var("LOFT_TEST_CHILD_TOP").unwrap();
            let built = Built { top, added: String::new(), closure: Vec::new(), all: Vec::new() };
            let path = resolve(store.location(), Path::new(&built.top)).unwrap();
            println!("{:?}", store.protect(&path).unwrap());
            println!("{}", report(store.as_ref(), &built));
            println!("{}", store.describe());
        }
        Err(error) => println!("{error}"),
    }
}

/// A chroot store, by a daemon of its own and by its database: logical names, physical places.
fn chroot_stores_keep_their_logical_names(nix: Nix) {
    let chroot = LocalStore::empty();
    let file = chroot.root().join("file");
    std::fs::write(&file, "contents").unwrap();
    let added = stdout_of(nix.command("nix-store").args(["--store", &chroot.url(), "--add"]).arg(&file));
    let added = added.trim();
    assert!(added.starts_with("/nix/store/"), "{added}");
    for setting in [chroot.url(), chroot.root().display().to_string()] {
        let store = open(&Settings { store: Some(setting), ..Settings::default() }).unwrap();
        let path = resolve(store.location(), Path::new(added)).unwrap();
        assert_eq!(resolve(store.location(), &chroot.on_disk(added)).unwrap(), path);
        assert_eq!(store.location().real_path(&path), chroot.on_disk(added));
        assert_eq!(closure(store.as_ref(), std::slice::from_ref(&path)).unwrap().infos.len(), 1);
        assert_eq!(store.protect(&path).unwrap(), Protection::Held);
        stdout_of(nix.command("nix-store").args(["--store", &chroot.url(), "--gc"]));
        assert!(chroot.on_disk(added).exists());
    }
    stdout_of(nix.command("nix-store").args(["--store", &chroot.url(), "--gc"]));
    assert!(!chroot.on_disk(added).exists());
}

/// The fixture that component tests stand on is a store in Nix's eyes, too.
fn fixture_store_is_a_nix_store(nix: Nix) {
    let fixture = FixtureStore::new();
    let low = fixture.add("low").contents("low").finish();
    let top = fixture
        .add("top")
        .executable("bin/top", "#!/bin/sh\n")
        .file("a-b", "")
        .file("a.b", "12345678")
        .file("a/b", "123456789")
        .directory("empty")
        .symlink("bin/link", "../a/b")
        .reference(&low)
        .self_reference()
        .finish();
    let store = LocalStore::at(fixture.root());
    nix.verify(&store);
    let query = ["--store", &store.url(), "-qR", &fixture.logical(&top)];
    assert_eq!(stdout_of(nix.command("nix-store").args(query)).lines().count(), 2);
    std::fs::remove_file(fixture.real_path(&top).join("a.b")).unwrap();
    assert_ne!(nix.try_verify(&store).code, Some(0));
}

/// 3 000 paths with some ten references each, through a daemon of real Nix and through the database.
fn large_closures_agree(nix: Nix) {
    let fixture = FixtureStore::new();
    let pseudo_random = |i: usize, k: usize| (i * 2_654_435_761 + k * 40_503_777) / 64 % i;
    let edges: Vec<Vec<usize>> = (0..3000usize)
        .map(|i| (0..i.min(10)).map(|k| if k == 0 { i / 2 } else { pseudo_random(i, k) }).collect::<BTreeSet<_>>())
        .map(|references| references.into_iter().collect())
        .collect();
    // A system: its top refers to many.
    let edges: Vec<_> = edges.into_iter().chain([(0..3000).collect()]).collect();
    let paths = fixture.add_graph("path", &edges);
    let url = LocalStore::at(fixture.root()).url();
    let socket = fixture.root().join("socket");
    let mut command = nix.command("nix-daemon");
    let daemon = command.env("NIX_REMOTE", &url).env("NIX_DAEMON_SOCKET_PATH", &socket).spawn().unwrap();
    let _daemon = NixDaemon(daemon);
    while !socket.exists() {
        std::thread::sleep(Duration::from_millis(20));
    }
    let through_daemon = Settings { store: Some(format!("unix://{}", socket.display())), ..Settings::default() };
    let [through_database, through_daemon] = [fixture.settings(), through_daemon].map(|settings| {
        let store = open(&settings).unwrap();
        store.path_infos(&paths[..1]).unwrap();
        let start = Instant::now();
        let infos = closure(store.as_ref(), &paths[3000..]).unwrap().infos;
        let walked = start.elapsed();
        let start = Instant::now();
        store.path_infos(&paths).unwrap();
        eprintln!(
            "{}: closure of {} {walked:?}, one batch of 3000 {:?}",
            store.describe(),
            infos.len(),
            start.elapsed()
        );
        infos
    });
    assert_eq!(through_database.len(), 3001);
    assert_eq!(through_daemon, through_database);
}

macro_rules! with_each_nix {
    ($($test:ident: $run:expr;)*) => {
        /// With the machine's own Nix.
        mod installed {
            use super::*;
            $(#[test]
            #[ignore = "needs Nix: ./test"]
            fn $test() {
                #[allow(clippy::redundant_closure_call)]
                ($run)(Nix::installed());
            })*
        }
        /// With a recent Nix.
        mod recent_nix {
            use super::*;
            $(#[test]
            #[ignore = "needs a recent Nix: ./test --full"]
            fn $test() {
                #[allow(clippy::redundant_closure_call)]
                ($run)(Nix::recent());
            })*
        }
    };
}

with_each_nix! {
    both_back_ends_agree: both_back_ends_agree_with_nix;
    daemon_protects: |nix| collector_keeps_what_is_protected(nix, true);
    temp_root_file_protects: |nix| collector_keeps_what_is_protected(nix, false);
    store_values_are_apart: roots_of_two_store_values_are_apart;
    every_user: every_user_reads_the_same;
    large_closures: large_closures_agree;
    chroot_stores: chroot_stores_keep_their_logical_names;
    fixture_store: fixture_store_is_a_nix_store;
}
