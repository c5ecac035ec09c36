//! loft signs as Nix does, byte for byte, and its narinfos say what Nix's say.

use crate::support::audit::Narinfo;
use crate::support::corpus::Corpus;
use crate::support::local_store::LocalStore;
use crate::support::loft::Loft;
use crate::support::nix::Nix;
use crate::support::place::Place;
use std::process::Command;

/// A narinfo's lines without the values that another compressor or naming makes differ; signatures in any order.
fn comparable(text: &str) -> Vec<String> {
    let masked = text.lines().map(|line| match line.split_once(": ") {
        Some((name @ ("URL" | "FileHash" | "FileSize"), _)) => format!("{name}: …"),
        _ => line.to_owned(),
    });
    let (mut signatures, mut lines): (Vec<_>, Vec<_>) = masked.partition(|line| line.starts_with("Sig: "));
    signatures.sort();
    lines.extend(signatures);
    lines
}

/// Pushes the same paths with Nix and with loft, and compares every narinfo.
fn compare_with(nix: &Nix, corpus: &Corpus) {
    // Some paths carry a signature already, as substituted ones do.
    let store = LocalStore::empty();
    nix.clone_paths(&corpus.store, &store, &[&corpus.root]);
    let elsewhere = nix.generate_key("elsewhere.example-1");
    let closure = store.closure(&[&corpus.root]);
    // Nix 2.8 takes a derivation for its outputs.
    let signed: Vec<&str> =
        closure.iter().step_by(3).map(String::as_str).filter(|path| !path.ends_with(".drv")).collect();
    nix.sign(&store, &elsewhere, &signed);

    let key = nix.generate_key("cache.example-1");
    let (by_nix, by_loft) = (Place::folder(), Place::folder());
    let url = format!("{}?compression=zstd&secret-key={}", by_nix.substituter(), key.secret_file().display());
    nix.copy_to(&store, &url, &[&corpus.root]);
    let pushed = Loft::new().push(&store, &[&corpus.root], |command| {
        by_loft.write(command);
        command.arg("--signing-key").arg(key.secret_file());
    });
    pushed.expect_success();

    let mut compared = 0;
    for object in by_nix.cache().keys().iter().filter(|object| object.ends_with(".narinfo")) {
        let read = |place: &Place| String::from_utf8(place.cache().get(object).expect("a narinfo")).expect("text");
        let (theirs, ours) = (read(&by_nix), read(&by_loft));
        // Nix gives content-addressed paths our key's signature as well, so all are compared line by line.
        assert_eq!(comparable(&ours), comparable(&theirs), "{object}");
        assert!(Narinfo::parse(&ours).signature_by("cache.example-1").is_some());
        compared += 1;
    }
    assert_eq!(compared, closure.len());
    let kept = by_loft.cache().narinfos();
    for path in signed {
        assert!(kept[path].signature_by("elsewhere.example-1").is_some(), "{path} lost a signature");
    }
}

#[test]
#[ignore = "needs Nix: ./test"]
fn odd_paths_are_described_as_by_nix() {
    compare_with(&Nix::installed(), &Corpus::odd());
}

#[test]
#[ignore = "needs Nix and Debian's packages: ./test --full"]
fn corpus_is_described_as_by_nix() {
    compare_with(&Nix::installed(), &Corpus::everything());
}

#[test]
#[ignore = "needs a recent Nix: ./test --full"]
fn odd_paths_are_described_as_by_a_recent_nix() {
    compare_with(&Nix::recent(), &Corpus::odd());
}

#[test]
#[ignore = "needs Nix: ./test"]
fn keys_that_loft_makes_are_keys_for_nix() {
    let (corpus, nix, loft, place) = (Corpus::odd(), Nix::installed(), Loft::new(), Place::folder());
    let secret = loft.home().join("secret");
    let run = |command: &mut Command| crate::support::process::stdout_of(command).trim().to_owned();
    let public = run(loft.command().args(["key", "generate", "made-by-loft-1", "--out"]).arg(&secret));
    assert!(public.lines().count() == 1 && public.starts_with("made-by-loft-1:"), "{public}");
    assert_eq!(run(loft.command().args(["key", "show"]).arg(&secret)), public);
    let mode = std::os::unix::fs::PermissionsExt::mode(&std::fs::metadata(&secret).unwrap().permissions());
    assert_eq!(mode & 0o777, 0o600);

    let second = nix.generate_key("second-1");
    let pushed = loft.push(&corpus.store, &[&corpus.root], |command| {
        place.write(command);
        command.arg("--signing-key").arg(&secret).arg("--signing-key").arg(second.secret_file());
    });
    pushed.expect_success();
    for trusted in [&public, &second.public] {
        nix.fetch(&place.substituter(), &[&corpus.root], trusted);
    }
}

#[test]
#[ignore = "needs Nix: ./test"]
fn configured_key_name_wins_over_the_files() {
    let (corpus, nix, loft, place) = (Corpus::odd(), Nix::installed(), Loft::new(), Place::folder());
    let key = nix.generate_key("name-in-the-file");
    loft.configure(&format!("signing_key_path = {:?}\nsigning_key_name = \"known-to-clients\"", key.secret_file()));
    let pushed = loft.push(&corpus.store, &[&corpus.root], |command| place.write(command)).expect_success();
    let public = key.public.replace("name-in-the-file", "known-to-clients");
    assert!(pushed.stderr.contains(&public), "the warning names no public key line:\n{}", pushed.stderr);
    nix.fetch(&place.substituter(), &[&corpus.root], &public);
}
