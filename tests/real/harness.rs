//! Do the judges judge? Nix writes a cache; whole, it passes; damaged, each judge must object.
//!
//! Without this a test that asks Nix or the oracle could pass because nobody looked.

use crate::support::audit::Cache;
use crate::support::corpus::Corpus;
use crate::support::garage::Garage;
use crate::support::local_store::LocalStore;
use crate::support::nix::{KeyPair, Nix};
use crate::support::seaweed::SeaweedFs;
use std::collections::BTreeSet;
use std::path::Path;

/// A cache in a folder, written and signed by Nix itself.
fn written_by_nix(corpus: &Corpus, nix: &Nix, key: &KeyPair, folder: &Path) -> String {
    let url = format!("file://{}", folder.display());
    let options = format!("{url}?compression=zstd&secret-key={}", key.secret_file().display());
    nix.copy_to(&corpus.store, &options, &[&corpus.root]);
    url
}

#[test]
#[ignore = "needs Nix: ./test"]
fn whole_cache_passes_every_judge() {
    let (corpus, nix) = (Corpus::odd(), Nix::installed());
    let (key, folder) = (nix.generate_key("judge-1"), tempfile::tempdir().unwrap());
    let url = written_by_nix(&corpus, &nix, &key, folder.path());
    assert_eq!(Cache::Folder(folder.path().into()).violations(&BTreeSet::new()), Vec::<String>::new());
    let store = nix.fetch(&url, &[&corpus.root], &key.public);
    let fetched = store.registrations();
    let closure = corpus.store.closure(&[&corpus.root]);
    assert_eq!(fetched.keys().cloned().collect::<Vec<_>>(), closure);
    assert!(closure.len() >= 30, "the odd paths: {}", closure.len());
}

#[test]
#[ignore = "needs Nix: ./test"]
fn unknown_key_is_refused_by_nix() {
    let (corpus, nix) = (Corpus::odd(), Nix::installed());
    let (key, folder) = (nix.generate_key("judge-1"), tempfile::tempdir().unwrap());
    let url = written_by_nix(&corpus, &nix, &key, folder.path());
    let stranger = nix.generate_key("judge-1");
    // A content-addressed path needs no signature: ask for one that does.
    let path = corpus.path_named("self-reference");
    let ended = nix.try_fetch(&url, &LocalStore::empty(), &[&path], &stranger.public);
    assert_ne!(ended.code, Some(0), "Nix took a path signed by a key that it does not know");
}

#[test]
#[ignore = "needs Nix: ./test"]
fn damage_is_seen_by_nix_and_the_oracle() {
    let (corpus, nix) = (Corpus::odd(), Nix::installed());
    let (key, folder) = (nix.generate_key("judge-1"), tempfile::tempdir().unwrap());
    let url = written_by_nix(&corpus, &nix, &key, folder.path());
    let cache = Cache::Folder(folder.path().into());
    let path = corpus.path_named("self-reference");
    let narinfo = &cache.narinfos()[&path];
    let nar = folder.path().join(&narinfo.fields["URL"]);
    let whole = std::fs::read(&nar).unwrap();

    let mut flipped = whole.clone();
    let middle = flipped.len() / 2;
    flipped[middle] ^= 1;
    let cut = whole[..whole.len() - 1].to_vec();
    for damaged in [Some(flipped), Some(cut), None] {
        match damaged {
            Some(bytes) => std::fs::write(&nar, bytes).unwrap(),
            None => std::fs::remove_file(&nar).unwrap(),
        }
        let found = cache.violations(&BTreeSet::new());
        assert!(found.len() == 1 && found[0].starts_with("I1"), "{found:?}");
        let ended = nix.try_fetch(&url, &LocalStore::empty(), &[&path], &key.public);
        assert_ne!(ended.code, Some(0), "Nix took a damaged NAR");
    }
    std::fs::write(&nar, &whole).unwrap();

    let hash = &path["/nix/store/".len()..][..32];
    std::fs::remove_file(folder.path().join(format!("{hash}.narinfo"))).unwrap();
    let found = cache.violations(&BTreeSet::new());
    assert!(!found.is_empty() && found.iter().all(|line| line.starts_with("I2")), "{found:?}");
    assert_eq!(cache.violations(&BTreeSet::from([path])), Vec::<String>::new());
}

#[test]
#[ignore = "needs Nix: ./test"]
fn damage_in_a_store_is_seen_by_nix() {
    let (corpus, nix) = (Corpus::odd(), Nix::installed());
    let store = LocalStore::empty();
    nix.clone_paths(&corpus.store, &store, &[&corpus.root]);
    nix.verify(&store);
    let file = store.on_disk(&corpus.path_named("no-references"));
    std::fs::remove_file(&file).unwrap();
    std::fs::write(&file, "changed\n").unwrap();
    assert_ne!(nix.try_verify(&store).code, Some(0));
}

#[test]
#[ignore = "needs Garage: ./test --full"]
fn garage_serves_what_was_put() {
    let garage = Garage::start();
    serves_what_was_put(&garage.bucket, &garage.web);
}

#[test]
#[ignore = "needs SeaweedFS: ./test --full"]
fn seaweedfs_serves_what_was_put() {
    let seaweed = SeaweedFs::start();
    serves_what_was_put(&seaweed.bucket, &seaweed.web);
}

fn serves_what_was_put(bucket: &crate::support::s3::Bucket, web: &str) {
    for number in 0..3 {
        bucket.put(&format!("nar/{number} &<odd>"), b"bytes");
    }
    bucket.put("a.narinfo", b"text");
    assert_eq!(bucket.keys(), ["a.narinfo", "nar/0 &<odd>", "nar/1 &<odd>", "nar/2 &<odd>"]);
    assert_eq!(bucket.get("nar/1 &<odd>").as_deref(), Some(&b"bytes"[..]));
    assert_eq!(bucket.get("nar/9"), None);
    bucket.delete("nar/1 &<odd>");
    assert_eq!(bucket.get("nar/1 &<odd>"), None);
    assert_eq!(bucket.open_uploads(), 0);
    let read = |key: &str| {
        let mut curl = std::process::Command::new("curl");
        crate::support::process::end_of(curl.args(["-sS", "--noproxy", "*", "--fail"]).arg(format!("{web}/{key}")))
    };
    assert_eq!(read("a.narinfo").stdout, "text");
    assert_ne!(read("b.narinfo").code, Some(0));
}

#[test]
#[ignore = "needs Nix and Debian's packages: ./test --full"]
fn corpus_has_what_the_promise_names() {
    let corpus = Corpus::everything();
    let closure = corpus.store.closure(&[&corpus.root]);
    let registrations = corpus.store.registrations();
    assert!(closure.len() >= 300, "{} paths", closure.len());
    let has = |test: &dyn Fn(&str, &crate::support::local_store::Registration) -> bool| {
        closure.iter().filter(|path| test(path, &registrations[*path])).count()
    };
    assert!(has(&|_, registration| registration.references.is_empty()) >= 10);
    assert!(has(&|path, registration| registration.references.iter().any(|reference| reference == path)) >= 1);
    assert!(has(&|_, registration| registration.references.len() >= 10) >= 5);
    assert!(has(&|_, registration| registration.nar_size > 100 << 20) >= 1);
    assert!(has(&|path, _| path.ends_with(".drv")) >= 1);
    for kind in ["text:sha256:", "fixed:sha256:", "fixed:r:sha256:", "fixed:sha1:", "fixed:sha512:"] {
        let found =
            has(&|_, registration| registration.content_address.as_deref().is_some_and(|ca| ca.starts_with(kind)));
        assert!(found >= 1, "no content address {kind}");
    }
    let names = std::fs::read_dir(corpus.store.on_disk(&corpus.path_named("odd-names"))).unwrap();
    assert!(names.filter(|entry| entry.as_ref().unwrap().file_name().to_str().is_none()).count() >= 2);
}
