//! Build logs, listings and debug information that loft has pushed, as Nix reads them and as Nix would have written them.

use crate::support::garage::Garage;
use crate::support::local_store::LocalStore;
use crate::support::loft::{Loft, Pushed};
use crate::support::nix::{KeyPair, Nix};
use crate::support::process::{end_of, stdout_of};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;
use tempfile::TempDir;

const BUILD_ID: &str = "07ff23386799818e59ab23df9d6e5da46ac0d251";
const MEMBER: &str = "lib/debug/.build-id/07/ff23386799818e59ab23df9d6e5da46ac0d251.debug";

/// The package of `extras.nix`, built here.
struct Built {
    store: LocalStore,
    out: String,
    debug: String,
    key: KeyPair,
}

impl Built {
    fn new() -> Self {
        let (nix, store) = (Nix::installed(), LocalStore::empty());
        let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/real/extras.nix");
        let out = nix.build(&store, &file, "out", &std::env::temp_dir());
        let debug = store.closure(&[&out]).into_iter().find(|path| path.ends_with("-debug")).unwrap();
        Self { store, out, debug, key: nix.generate_key("extras-1") }
    }

    fn deriver(&self) -> String {
        self.store.registrations()[&self.out].deriver.clone().unwrap()
    }

    fn push_to_folder(&self, url: &str) {
        self.push(|command| {
            command.args(["--to", url]);
        });
    }

    fn push(&self, to: impl FnOnce(&mut Command)) {
        let loft = Loft::new();
        loft.configure("nar_listings = true\nbuild_logs = true\ndebug_info = true\ncompression = \"none\"");
        let pushed = loft.push(&self.store, &[&self.out], |command| {
            command.arg("--signing-key").arg(self.key.secret_file());
            to(command);
        });
        assert_eq!(pushed.expect_success().number("pushed"), 2);
    }
}

fn folder() -> (TempDir, String) {
    let folder = tempfile::tempdir().unwrap();
    let url = format!("file://{}", folder.path().display());
    (folder, url)
}

fn base(path: &str) -> &str {
    path.rsplit('/').next().unwrap()
}

/// `<hash>.ls` in a folder.
fn listing(folder: &Path, path: &str) -> Vec<u8> {
    std::fs::read(folder.join(format!("{}.ls", &base(path)[..32]))).unwrap()
}

/// `nix log`, `nix store ls` and `nix store cat` from the cache at `url`.
fn read(nix: &Nix, url: &str, built: &Built) {
    for path in [&built.out, &built.debug] {
        let log = stdout_of(nix.command("nix").args(["log", "--store", url, path]));
        assert_eq!(log, "this is what the build printed\nand the end of it\n", "{path} by Nix {:?}", nix.version());
    }
    let ls = stdout_of(nix.command("nix").args(["store", "ls", "--store", url, "-R", &built.out]));
    for file in ["./bin/run", "./empty", "./nothing", "./numbers", "./odd \"name\" ä/link"] {
        assert!(ls.lines().any(|line| line.trim_start_matches('/') == file || line == file), "{file}: {ls}");
    }
    let file = format!("{}/{MEMBER}", built.debug);
    assert_eq!(stdout_of(nix.command("nix").args(["store", "cat", "--store", url, &file])), "DWARF\n");
}

#[test]
#[ignore = "needs Nix: ./test"]
fn logs_and_listings_in_a_folder_for_the_installed_nix() {
    let (built, (cache, url)) = (Built::new(), folder());
    built.push_to_folder(&url);
    read(&Nix::installed(), &url, &built);
    let link: Value =
        serde_json::from_slice(&std::fs::read(cache.path().join("debuginfo").join(BUILD_ID)).unwrap()).unwrap();
    assert_eq!(link["member"], MEMBER);
    // Relative to the link itself, as dwarffs goes on from it: uncompressed, the file's bytes are in there.
    let nar = std::fs::read(cache.path().join("debuginfo").join(link["archive"].as_str().unwrap())).unwrap();
    assert!(nar.windows(6).any(|window| window == b"DWARF\n"));
}

#[test]
#[ignore = "needs Garage and a recent Nix: ./test --full"]
fn logs_and_listings_in_garage_for_a_recent_nix() {
    let (built, garage) = (Built::new(), Garage::start());
    built.push(|command| {
        command.args(["--to", &garage.bucket.url()]).envs(garage.bucket.environment());
    });
    read(&Nix::installed(), &garage.web, &built);
    read(&Nix::recent(), &garage.web, &built);
}

/// Where Nix keeps listings and NARs by itself (`local-nar-cache`, without the line of the version), it takes loft's for its
/// own and goes by the offsets: the NAR beside it has no beginning that anybody could read.
#[test]
#[ignore = "needs a recent Nix: ./test --full"]
fn a_recent_nix_finds_files_by_the_listing() {
    let (built, (cache, url)) = (Built::new(), folder());
    built.push_to_folder(&url);
    let hash = &base(&built.out)[..32];
    let info = std::fs::read_to_string(cache.path().join(format!("{hash}.narinfo"))).unwrap();
    let nar = info.lines().find_map(|line| line.strip_prefix("URL: ")).unwrap();
    let mut nar = std::fs::read(cache.path().join(nar)).unwrap();
    nar[..96].fill(b'?');
    for nix in [Nix::installed(), Nix::recent()] {
        let kept = tempfile::tempdir().unwrap();
        let listed: Value = serde_json::from_slice(&listing(cache.path(), &built.out)).unwrap();
        std::fs::write(kept.path().join(format!("{hash}.ls")), listed["root"].to_string()).unwrap();
        std::fs::write(kept.path().join(format!("{hash}.nar")), &nar).unwrap();
        let with = format!("{url}?local-nar-cache={}", kept.path().display());
        let ask =
            |arguments: &[&str]| stdout_of(nix.command("nix").args(["store"]).args(arguments).args(["--store", &with]));
        let said: Value = serde_json::from_str(&ask(&["ls", "-R", "--json", &built.out])).unwrap();
        assert_eq!(said, listed["root"], "Nix {:?}", nix.version());
        assert_eq!(ask(&["cat", &format!("{}/bin/run", built.out)]), "#!/bin/sh\n");
        assert!(ask(&["cat", &format!("{}/numbers", built.out)]).ends_with("\n99999\n100000\n"));
    }
}

/// What `nix copy` writes with its options, byte for byte; the link's name and the NAR's name apart.
#[test]
#[ignore = "needs a recent Nix: ./test --full"]
fn a_recent_nix_writes_the_same_bytes() {
    let (built, (ours, our_url), (theirs, their_url)) = (Built::new(), folder(), folder());
    built.push_to_folder(&our_url);
    let options = format!("{their_url}?write-nar-listing=true&index-debug-info=true&compression=none");
    let nix = Nix::recent();
    nix.copy_to(&built.store, &options, &[&built.out]);
    stdout_of(nix.command("nix").args([
        "store",
        "copy-log",
        "--from",
        &built.store.url(),
        "--to",
        &their_url,
        &built.deriver(),
    ]));
    for path in [&built.out, &built.debug] {
        let [ours, theirs] = [&ours, &theirs].map(|folder| String::from_utf8(listing(folder.path(), path)).unwrap());
        assert_eq!(ours, theirs);
    }
    let log = format!("log/{}", base(&built.deriver()));
    assert_eq!(std::fs::read(ours.path().join(&log)).unwrap(), std::fs::read(theirs.path().join(&log)).unwrap());
    let link = |folder: &TempDir| -> BTreeMap<String, Value> {
        let files = std::fs::read_dir(folder.path().join("debuginfo")).unwrap().map(|file| file.unwrap());
        let name = |name: String| name.trim_end_matches(".debug").to_owned();
        let without_nar = |mut link: Value| {
            assert!(link["archive"].as_str().unwrap().starts_with("../nar/"));
            link["archive"] = json!(null);
            link
        };
        let content = |path| without_nar(serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap());
        files.map(|file| (name(file.file_name().into_string().unwrap()), content(file.path()))).collect()
    };
    assert_eq!(link(&ours), link(&theirs));
    assert_eq!(link(&ours).keys().collect::<Vec<_>>(), [BUILD_ID]);
}

/// Logs are files of root's, and an umask may keep others from them.
#[test]
#[ignore = "needs Nix: ./test"]
fn logs_that_a_user_may_not_read_are_told_of_once() {
    let (nix, store, (cache, url)) = (Nix::installed(), LocalStore::empty(), folder());
    let expression = cache.path().join("two.nix");
    let one = |name: &str| {
        format!(
            "{name} = derivation {{ name = \"{name}\"; system = builtins.currentSystem; builder = \"/bin/sh\"; args = [ \"-c\" \"echo {name}; echo {name} >$out\" ]; }};"
        )
    };
    std::fs::write(&expression, format!("{{ {} {} }}", one("first"), one("second"))).unwrap();
    let paths = ["first", "second"].map(|name| nix.build(&store, &expression, name, &std::env::temp_dir()));
    let mode = |path: &Path, mode| std::fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
    mode(store.root(), 0o755);
    mode(&store.root().join("nix/var/log/nix/drvs"), 0o700);
    mode(cache.path(), 0o777);
    let loft = Loft::new();
    loft.configure("build_logs = true");
    [loft.home(), loft.home().join("loft.toml")].iter().for_each(|path| mode(path, 0o777));
    let like = loft.push_command(&store, &[&paths[0], &paths[1]]);
    let mut push = Command::new("setpriv");
    push.args(["--reuid=65534", "--regid=65534", "--clear-groups", "--"]).arg(like.get_program()).args(like.get_args());
    push.args(["--to", &url]).env_clear().envs(like.get_envs().filter_map(|(name, value)| Some((name, value?))));
    let pushed = Pushed::read(end_of(push.current_dir(loft.home())));
    assert_eq!(pushed.number("pushed"), 2, "{pushed:?}");
    let told = pushed
        .events
        .iter()
        .filter(|event| event["message"].as_str().is_some_and(|said| said.contains("may not read")));
    assert_eq!(told.count(), 1, "{pushed:?}");
    assert!(!cache.path().join("log").exists());
}
