//! Paths that other caches serve stay out, are recorded as references to elsewhere, and the rest is complete.

use crate::support::corpus::Corpus;
use crate::support::local_store::LocalStore;
use crate::support::loft::Loft;
use crate::support::nix::Nix;
use crate::support::place::Place;
use crate::support::process::stdout_of;
use std::collections::BTreeSet;

/// A store where the closure of some paths came from an upstream cache, signed by its key.
fn skips_what_upstream_signed(corpus: &Corpus, upstream_names: &[String], place: &Place) {
    let nix = Nix::installed();
    let store = LocalStore::empty();
    nix.clone_paths(&corpus.store, &store, &[&corpus.root]);
    let names: Vec<&str> = upstream_names.iter().map(String::as_str).collect();
    let from_upstream: BTreeSet<String> = store.closure(&names).into_iter().collect();
    let upstream_key = nix.generate_key("upstream.example-1");
    nix.sign(&store, &upstream_key, &from_upstream.iter().map(String::as_str).collect::<Vec<_>>());
    let upstream = Place::folder();
    nix.copy_to(&store, &format!("{}?compression=none", upstream.substituter()), &names);

    let (loft, key) = (Loft::new(), nix.generate_key("ours-1"));
    loft.configure("skip_signed_by_keys = [\"upstream.example-1\", \"not-met-1\"]");
    let pushed = loft.push(&store, &[&corpus.root], |command| {
        place.write(command);
        command.arg("--signing-key").arg(key.secret_file());
    });
    let pushed = pushed.expect_success();
    let everything: BTreeSet<String> = store.closure(&[&corpus.root]).into_iter().collect();
    let expected: Vec<_> = everything.difference(&from_upstream).cloned().collect();
    assert!(!expected.is_empty() && !from_upstream.is_empty());
    assert_eq!(pushed.paths("pushed"), expected);
    assert_eq!(pushed.paths("upstream"), from_upstream.iter().cloned().collect::<Vec<_>>());

    // Visible is the rest alone; whole but for what comes from elsewhere, and loft's records say what that is.
    let cache = place.cache();
    assert_eq!(cache.narinfos().into_keys().collect::<Vec<_>>(), expected);
    assert_eq!(cache.violations(&from_upstream), Vec::<String>::new());
    let referenced: BTreeSet<String> = cache
        .narinfos()
        .values()
        .flat_map(|narinfo| narinfo.references())
        .filter(|path| from_upstream.contains(path))
        .collect();
    assert!(!referenced.is_empty(), "nothing refers to upstream paths: the test tests nothing");
    let records = cache.keys().into_iter().filter(|object| object.starts_with("loft/v1/push/"));
    let records: String =
        records.map(|object| String::from_utf8_lossy(&cache.get(&object).unwrap()).into_owned()).collect();
    for path in &referenced {
        let name = path.trim_start_matches("/nix/store/");
        assert!(records.contains(name), "{name} is not among the recorded external references: {records}");
    }

    // A client of both caches gets all of it.
    let client = LocalStore::empty();
    let substituters = format!("{} {}", place.substituter(), upstream.substituter());
    let keys = format!("{} {}", key.public, upstream_key.public);
    let mut realise = nix.command("nix-store");
    realise.args(["--realise", &corpus.root, "--store", &client.url()]);
    realise.args(["--option", "substituters", &substituters, "--option", "trusted-public-keys", &keys]);
    realise.args(["--option", "max-jobs", "0"]);
    stdout_of(&mut realise);
    nix.verify(&client);
    assert_eq!(client.registrations().into_keys().collect::<BTreeSet<_>>(), everything);
}

#[test]
#[ignore = "needs Nix: ./test"]
fn odd_paths_signed_upstream_stay_out_of_a_folder() {
    let corpus = Corpus::odd();
    let names = ["self-reference", "a-symlink", "text-with-references"].map(|name| corpus.path_named(name));
    skips_what_upstream_signed(&corpus, &names, &Place::folder());
}

#[test]
#[ignore = "needs Garage and Debian's packages: ./test --full"]
fn corpus_signed_upstream_stays_out_of_garage() {
    let corpus = Corpus::everything();
    // Whatever refers to many others.
    let registrations = corpus.store.registrations();
    let mut closure = corpus.store.closure(&[&corpus.root]);
    closure.retain(|path| *path != corpus.root && !path.ends_with(".drv"));
    closure.sort_by_key(|path| std::cmp::Reverse(registrations[path].references.len()));
    skips_what_upstream_signed(&corpus, &closure[..3], &Place::garage());
}
