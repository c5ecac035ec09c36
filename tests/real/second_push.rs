//! What the cache has is not sent again; what it lost is put back, and nothing else.

use crate::support::audit::Cache;
use crate::support::corpus::Corpus;
use crate::support::loft::{Loft, Pushed};
use crate::support::nix::{KeyPair, Nix};
use crate::support::place::Place;
use crate::support::proxy::{Proxy, Seen};
use std::collections::BTreeSet;

/// One machine pushes the corpus to one place.
struct Pusher<'a> {
    loft: Loft,
    corpus: &'a Corpus,
    place: &'a Place,
    key: &'a KeyPair,
}

impl Pusher<'_> {
    fn push(&self, more: &[&str]) -> Pushed {
        let pushed = self.loft.push(&self.corpus.store, &[&self.corpus.root], |command| {
            self.place.write(command);
            command.arg("--signing-key").arg(self.key.secret_file()).args(more);
        });
        pushed.expect_success()
    }
}

/// The objects that Nix reads; loft's own records come and go.
fn for_nix(cache: &Cache<'_>) -> Vec<String> {
    cache.keys().into_iter().filter(|key| !key.starts_with("loft/")).collect()
}

fn nothing_is_sent_twice(corpus: &Corpus, place: &Place) {
    let key = Nix::installed().generate_key("second-push-1");
    let pusher = Pusher { loft: Loft::new(), corpus, place, key: &key };
    let closure = corpus.store.closure(&[&corpus.root]);
    assert_eq!(pusher.push(&[]).paths("pushed"), closure);
    let (objects, narinfos) = (for_nix(&place.cache()), place.cache().narinfos());

    let unchanged = |pushed: &Pushed, what: &str| {
        assert_eq!(pushed.number("pushed"), 0, "{what}");
        assert_eq!(pushed.number("present"), closure.len() as u64, "{what}");
        assert_eq!(pushed.number("file_size"), 0, "{what}");
        assert_eq!(for_nix(&place.cache()), objects, "{what}");
        assert_eq!(place.cache().narinfos(), narinfos, "{what}");
    };
    let warm = pusher.push(&[]);
    unchanged(&warm, "ledger warm");
    assert!(warm.number("requests") <= 5, "ledger warm: {} requests", warm.number("requests"));
    pusher.loft.delete_ledger();
    let cold = pusher.push(&[]);
    unchanged(&cold, "ledger gone");
    assert!(cold.number("requests") <= 10, "ledger gone: {} requests", cold.number("requests"));

    // Another machine finds one narinfo gone.
    let lost = corpus.path_named("two-outputs");
    let object = format!("{}.narinfo", &lost["/nix/store/".len()..][..32]);
    match place {
        Place::Folder(folder) => std::fs::remove_file(folder.path().join(&object)).unwrap(),
        _ => place.bucket().unwrap().delete(&object),
    }
    assert!(!place.cache().violations(&BTreeSet::new()).is_empty(), "{lost} has no referrer");
    let other = Pusher { loft: Loft::new(), corpus, place, key: &key };
    assert_eq!(other.push(&[]).paths("pushed"), std::slice::from_ref(&lost));
    assert_eq!(place.cache().violations(&BTreeSet::new()), Vec::<String>::new());
    let mut restored = place.cache().narinfos();
    let (mut before, now) = (narinfos.clone(), restored.remove(&lost).expect("put back"));
    let was = before.remove(&lost).expect("was there");
    assert_eq!(restored, before, "other narinfos changed");
    for field in ["StorePath", "NarHash", "NarSize", "References"] {
        assert_eq!(now.fields[field], was.fields[field]);
    }
    assert_eq!(now.signatures, was.signatures);
}

#[test]
#[ignore = "needs Nix: ./test"]
fn odd_paths_are_not_sent_twice_to_a_folder() {
    nothing_is_sent_twice(&Corpus::odd(), &Place::folder());
}

#[test]
#[ignore = "needs Garage and Debian's packages: ./test --full"]
fn corpus_is_not_sent_twice_to_garage() {
    nothing_is_sent_twice(&Corpus::everything(), &Place::garage());
}

#[test]
#[ignore = "needs SeaweedFS: ./test --full"]
fn odd_paths_are_not_sent_twice_to_seaweedfs() {
    nothing_is_sent_twice(&Corpus::odd(), &Place::seaweedfs());
}

/// The wire's own count, beside what loft says of itself.
#[test]
#[ignore = "needs Garage and Debian's packages: ./test --full"]
fn requests_for_the_corpus_are_few_on_the_wire_to_garage() {
    let (corpus, place) = (Corpus::everything(), Place::garage());
    let key = Nix::installed().generate_key("second-push-1");
    let bucket = place.bucket().unwrap();
    let proxy = Proxy::start(&bucket.endpoint, None);
    let (loft, url) = (Loft::new(), bucket.url().replace(&bucket.endpoint, &proxy.endpoint));
    let push = || {
        let pushed = loft.push(&corpus.store, &[&corpus.root], |command| {
            command.args(["--to", &url, "--signing-key"]).arg(key.secret_file()).envs(bucket.environment());
        });
        pushed.expect_success()
    };
    let first = push();
    let (seen, paths) = (proxy.seen(), first.number("pushed"));
    let parts = seen.iter().filter(|request| request.target.contains("upload")).count() as u64;
    let rest = seen.len() as u64 - parts;
    assert_eq!(first.number("requests"), seen.len() as u64, "loft miscounts its requests");
    assert!(rest * 100 <= paths * 202 + 1000, "{rest} requests beside {parts} for multipart, for {paths} paths");
    proxy.forget();
    push();
    let again = proxy.seen();
    assert!(again.len() <= 5, "nothing to do took {} requests: {again:#?}", again.len());
    let reads = |request: &Seen| ["GET", "HEAD"].contains(&request.method.as_str());
    assert!(again.iter().all(|request| reads(request) || request.target.contains("/loft/v1/")), "{again:#?}");
}

#[test]
#[ignore = "needs Nix: ./test"]
fn forced_scan_puts_back_what_the_ledger_believes_to_be_there() {
    let (corpus, place, loft) = (Corpus::odd(), Place::folder(), Loft::new());
    let key = Nix::installed().generate_key("second-push-1");
    let Place::Folder(folder) = &place else { unreachable!() };
    loft.configure(&format!("signing_key_path = {:?}\nstore = {:?}", key.secret_file(), corpus.store.url()));
    let url = format!("file://{}", folder.path().display());
    let run = |arguments: &[&str]| {
        let ended = crate::support::process::end_of(loft.command().args(arguments).env("LOFT_CACHE", &url));
        assert_eq!(ended.code, Some(0), "{arguments:?}: {}", ended.stderr);
        ended
    };
    run(&["--upload-path", &corpus.root]);
    let lost = corpus.path_named("two-outputs");
    let object = folder.path().join(format!("{}.narinfo", &lost["/nix/store/".len()..][..32]));
    std::fs::remove_file(&object).unwrap();
    run(&["--force-scan"]);
    assert!(object.exists(), "the forced scan trusted the ledger");
    assert_eq!(place.cache().violations(&BTreeSet::new()), Vec::<String>::new());
}
