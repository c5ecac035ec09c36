//! What loft pushes, a real Nix fetches into an empty store with signatures required, and finds every byte right.

use crate::support::corpus::Corpus;
use crate::support::local_store::{LocalStore, Registration};
use crate::support::loft::{Loft, Pushed};
use crate::support::nix::{KeyPair, Nix};
use crate::support::place::Place;
use crate::support::process::stdout_of;
use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::fs::PermissionsExt;
use std::process::Command;

fn push(corpus: &Corpus, place: &Place, key: &KeyPair, more: &str) -> Pushed {
    let loft = Loft::new();
    loft.configure(more);
    let pushed = loft.push(&corpus.store, &[&corpus.root], |command| {
        place.write(command);
        command.arg("--signing-key").arg(key.secret_file());
    });
    let pushed = pushed.expect_success();
    let closure = corpus.store.closure(&[&corpus.root]);
    assert_eq!(pushed.paths("pushed"), closure, "not just the closure was pushed");
    assert_eq!(pushed.number("pushed"), closure.len() as u64);
    pushed
}

/// Fetches the corpus with `nix` from `url` and compares the stores.
fn fetch(nix: &Nix, url: &str, corpus: &Corpus, key: &KeyPair) {
    let fetched = nix.fetch(url, &[&corpus.root], &key.public);
    let closure = corpus.store.closure(&[&corpus.root]);
    let strip = |store: &LocalStore| -> BTreeMap<String, Registration> {
        let all = store.registrations().into_iter().filter(|(path, _)| closure.contains(path));
        all.map(|(path, registration)| (path, Registration { signatures: Vec::new(), ..registration })).collect()
    };
    assert_eq!(strip(&fetched), strip(&corpus.store), "Nix {:?} registered something else", nix.version());
    assert_eq!(fetched.registrations().len(), closure.len());
}

/// Everything to one place, and back by both Nixes.
fn corpus_by_both(place: &Place) {
    let (corpus, installed, recent) = (Corpus::everything(), Nix::installed(), Nix::recent());
    assert!(corpus.store.closure(&[&corpus.root]).len() >= 300);
    let key = installed.generate_key("round-trip-1");
    push(&corpus, place, &key, "");
    assert_eq!(place.cache().violations(&BTreeSet::new()), Vec::<String>::new());
    if let Some(bucket) = place.bucket() {
        assert_eq!(bucket.open_uploads(), 0, "multipart uploads were left open");
    }
    fetch(&installed, &place.substituter(), &corpus, &key);
    fetch(&recent, &place.substituter(), &corpus, &key);
    if let Place::SeaweedFs(seaweed) = place {
        // Debian builds Nix without S3 signing: this reads unsigned, which SeaweedFS was told to permit.
        fetch(&recent, &seaweed.bucket.url(), &corpus, &key);
    }
}

#[test]
#[ignore = "needs a recent Nix and Debian's packages: ./test --full"]
fn corpus_through_a_folder() {
    corpus_by_both(&Place::folder());
}

#[test]
#[ignore = "needs Garage, a recent Nix and Debian's packages: ./test --full"]
fn corpus_through_garage() {
    corpus_by_both(&Place::garage());
}

#[test]
#[ignore = "needs SeaweedFS, a recent Nix and Debian's packages: ./test --full"]
fn corpus_through_seaweedfs() {
    corpus_by_both(&Place::seaweedfs());
}

#[test]
#[ignore = "needs Nix: ./test"]
fn odd_paths_in_every_compression() {
    let (corpus, nix) = (Corpus::odd(), Nix::installed());
    let key = nix.generate_key("round-trip-1");
    for (settings, named) in [
        ("", "zstd"),
        ("compression = \"zstd\"\ncompression_level = 1", "zstd"),
        ("compression = \"xz\"\ncompression_level = 1", "xz"),
        ("compression = \"none\"", "none"),
    ] {
        let place = Place::folder();
        push(&corpus, &place, &key, settings);
        assert_eq!(place.cache().violations(&BTreeSet::new()), Vec::<String>::new(), "{settings}");
        for (path, narinfo) in place.cache().narinfos() {
            assert_eq!(narinfo.fields["Compression"], named, "{path}");
        }
        fetch(&nix, &place.substituter(), &corpus, &key);
    }
}

#[test]
#[ignore = "needs Garage: ./test --full"]
fn odd_paths_below_a_prefix_of_garage() {
    let (corpus, nix, place) = (Corpus::odd(), Nix::installed(), Place::garage());
    let (key, loft, bucket) = (nix.generate_key("round-trip-1"), Loft::new(), place.bucket().unwrap().clone());
    let url = bucket.url().replace("?", "/team/cache?");
    let pushed = loft.push(&corpus.store, &[&corpus.root], |command| {
        command.args(["--to", &url, "--signing-key"]).arg(key.secret_file()).envs(bucket.environment());
    });
    pushed.expect_success();
    for object in bucket.keys() {
        assert!(object.starts_with("team/cache/"), "{object} is outside the prefix");
    }
    fetch(&nix, &format!("{}/team/cache", place.substituter()), &corpus, &key);
}

/// As on a user's machine: the store is at `/nix/store`, the daemon runs, and loft may ask nobody but the daemon
/// and read the world-readable files.
#[test]
#[ignore = "needs Nix: ./test"]
fn odd_paths_through_the_daemon_as_an_ordinary_user() {
    let (corpus, nix, place, loft) = (Corpus::odd(), Nix::installed(), Place::folder(), Loft::new());
    let key = nix.generate_key("round-trip-1");
    let machine = LocalStore::empty();
    nix.clone_paths(&corpus.store, &machine, &[&corpus.root]);
    let Place::Folder(folder) = &place else { unreachable!() };
    let secret = loft.home().join("secret");
    std::fs::copy(key.secret_file(), &secret).unwrap();
    std::fs::set_permissions(&secret, std::fs::Permissions::from_mode(0o600)).unwrap();
    std::fs::set_permissions(machine.root(), std::fs::Permissions::from_mode(0o755)).unwrap();

    // A mount namespace of its own: /nix is the test's store there, the machine's is untouched.
    let script = r#"
        set -eu
        # Debian's package makes no /nix; without one there is nothing to mount on.
        made=
        [ -d /nix ] || { mkdir /nix; made=yes; }
        daemon=
        trap '[ -z "$daemon" ] || { kill $daemon; wait $daemon || :; }; umount -l /nix; [ -z "$made" ] || rmdir /nix' EXIT
        mount --bind "$MACHINE/nix" /nix
        mkdir -p /nix/var/nix/daemon-socket
        nix-daemon --daemon >"$MACHINE/daemon.log" 2>&1 &
        daemon=$!
        for attempt in $(seq 100); do [ -S /nix/var/nix/daemon-socket/socket ] && break; sleep 0.05; done
        chmod 755 /nix/var/nix/daemon-socket
        chmod 666 /nix/var/nix/daemon-socket/socket
        if [ "$ORDINARY" = yes ]; then
            chown -R nobody "$LOFT_HOME" "$CACHE"
            set -- setpriv --reuid nobody --regid nogroup --clear-groups env HOME="$LOFT_HOME" "$@"
        fi
        "$@"
    "#;
    let is_root = stdout_of(Command::new("id").arg("-u")).trim() == "0";
    let mut program = loft.command();
    program.args(["push", "--json", "--store", "daemon", "--signing-key"]).arg(&secret).arg(&corpus.root);
    place.write(&mut program);
    let mut inside = nix.command("unshare");
    inside.args(if is_root { &["--mount"][..] } else { &["--mount", "--map-root-user"] });
    inside.args(["sh", "-c", script, "sh"]).arg(program.get_program()).args(program.get_args());
    inside.current_dir(loft.home());
    inside.env("MACHINE", machine.root()).env("CACHE", folder.path()).env("LOFT_HOME", loft.home());
    inside.env("ORDINARY", if is_root { "yes" } else { "no" });
    let pushed = Pushed::read(crate::support::process::end_of(&mut inside)).expect_success();
    assert_eq!(pushed.paths("pushed"), corpus.store.closure(&[&corpus.root]));
    fetch(&nix, &place.substituter(), &corpus, &key);
}
