//! `nix copy` takes no lease: what it relied on may go while it writes. The next prune puts that back.
//!
//! Nothing here needs a server: in a folder the age of an object is that of its file.

use crate::support::audit::Cache;
use crate::support::fixture_store::FixtureStore;
use crate::support::local_store::LocalStore;
use crate::support::loft::{Loft, Pushed};
use crate::support::moments::Moments;
use crate::support::nix::Nix;
use crate::support::process::{end_of, stdout_of};
use crate::support::pruning::{RETENTION, add_closure, summary};
use serde_json::Value;
use std::collections::BTreeSet;
use std::fs::File;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant, SystemTime};

/// Prunes with closures that Nix copies beside them, 203 in all.
const CYCLES: usize = 51;
const AT_ONCE: usize = 5;

/// As if 40 days had passed.
fn age(folder: &Path) {
    let long_ago = SystemTime::now() - Duration::from_secs(40 * 24 * 60 * 60);
    for key in Cache::Folder(folder.to_owned()).keys() {
        let file = File::options().write(true).open(folder.join(&key)).expect(&key);
        file.set_modified(long_ago).expect(&key);
    }
}

/// Of so many prunes one does not begin at a random moment: it waits until Nix, with one closure, has looked at the cache.
const AIMED: usize = 4;

/// Noise, so that Nix is busy between its look at the cache and its last narinfo.
fn noise(seed: usize, words: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64 ^ (seed as u64) << 32;
    let words = (0..words).flat_map(|_| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    });
    words.collect()
}

fn wait_for_a_file(folder: &Path) {
    let since = Instant::now();
    while std::fs::read_dir(folder).expect("a folder").next().is_none() {
        assert!(since.elapsed() < Duration::from_secs(60), "no file came into {}", folder.display());
        std::thread::sleep(Duration::from_millis(1));
    }
}

fn prune(loft: &Loft, folder: &Path, when: &str) -> Value {
    let mut command: Command = loft.prune_command();
    command.args(["--to", &format!("file://{}", folder.display()), "--retention", RETENTION, "--remove-most"]);
    let ended = end_of(&mut command);
    assert_eq!(ended.code, Some(0), "{when}: {ended:?}");
    summary(&ended)
}

#[test]
#[ignore = "needs Nix: ./test --full"]
fn long_copies_of_nix_beside_prunes_are_made_whole_by_the_next_prune() {
    let (nix, fixture, folder) = (Nix::installed(), FixtureStore::new(), tempfile::tempdir().unwrap());
    let (pusher, pruner, store) = (Loft::new(), Loft::new(), LocalStore::at(fixture.root()));
    let key = nix.generate_key("beside-1");
    let place = format!("file://{}", folder.path().display());
    let by_nix = format!("{place}?compression=xz&secret-key={}", key.secret_file().display());
    let (cache, none) = (Cache::Folder(folder.path().to_owned()), BTreeSet::new());
    let mut moments = Moments::new();
    let (mut copies, mut broken, mut restored) = (0, 0, 0);
    for cycle in 0..CYCLES {
        let base = add_closure(&fixture, &format!("base-{cycle}"), &[], 6);
        let root = fixture.logical(&base[5]);
        let mut command = pusher.push_command(&store, &[&root]);
        command.args(["--to", &place, "--signing-key"]).arg(key.secret_file());
        Pushed::read(end_of(&mut command)).expect_success();
        age(folder.path());

        let is_aimed = cycle % AIMED == 0;
        // Where another one has landed before, what they all refer to stays.
        let at_once = if is_aimed { 1 } else { AT_ONCE };
        copies += at_once;
        let tops: Vec<String> = (0..at_once)
            .map(|n| {
                // Some seconds of work for xz.
                let words = if is_aimed { 800_000 } else { 40_000 };
                let noise = noise(cycle * AT_ONCE + n, words);
                let large = fixture.add(&format!("large-{cycle}-{n}")).contents(noise).finish();
                let relied_on = [&base[5], &base[n]];
                let top = fixture.add(&format!("top-{cycle}-{n}")).contents("top").reference(&large);
                fixture.logical(&top.references(relied_on).finish())
            })
            .collect();
        let when = format!("cycle {cycle}");
        let compressing = tempfile::tempdir().unwrap();
        std::thread::scope(|scope| {
            for (n, top) in tops.iter().enumerate() {
                let start = moments.next(Duration::from_millis(300));
                let (nix, store, by_nix) = (&nix, &store, &by_nix);
                let temporary = compressing.path().join(n.to_string());
                std::fs::create_dir(&temporary).unwrap();
                scope.spawn(move || {
                    std::thread::sleep(start);
                    let mut copy = nix.copy_command(store, by_nix, &[top]);
                    stdout_of(copy.env("TMPDIR", temporary));
                });
            }
            match is_aimed {
                // Nix compresses into a temporary file, and that after it has asked what the cache has.
                true => wait_for_a_file(&compressing.path().join("0")),
                false => std::thread::sleep(moments.next(Duration::from_millis(500))),
            }
            prune(&pruner, folder.path(), &when);
        });
        let violations = cache.violations(&none);
        broken += u32::from(!violations.is_empty());
        assert!(violations.iter().all(|found| found.starts_with("I2")), "{when}: {violations:#?}");

        let next = prune(&pruner, folder.path(), &when);
        restored += next["restored"].as_u64().expect("a number");
        assert_eq!(cache.violations(&none), Vec::<String>::new(), "{when}: {next}, before it: {violations:#?}");
        let visible = cache.narinfos();
        let tops: Vec<&str> = tops.iter().map(String::as_str).collect();
        for path in store.closure(&tops) {
            assert!(visible.contains_key(&path), "{when}: {path} is gone for good");
        }
        if cycle % 10 == 0 || cycle + 1 == CYCLES {
            nix.fetch(&place, &tops, &key.public);
        }
    }
    println!("{copies} copies, {broken} of {CYCLES} prunes hurt some, {restored} paths put back");
    assert!(broken >= 5, "only {broken} times a prune took what Nix relied on: the moments are badly chosen");
}
