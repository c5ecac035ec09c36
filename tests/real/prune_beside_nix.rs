//! `nix copy` takes no lease: what it relied on may go while it writes. The next prune puts that back.
//!
//! Nothing here needs a server: in a folder the age of an object is that of its file.

use crate::support::audit::Cache;
use crate::support::fixture_store::FixtureStore;
use crate::support::local_store::LocalStore;
use crate::support::loft::{Loft, Pushed};
use crate::support::moments::Moments;
use crate::support::nix::Nix;
use crate::support::process::end_of;
use crate::support::pruning::{RETENTION, add_closure, summary};
use serde_json::Value;
use std::collections::BTreeSet;
use std::fs::File;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, SystemTime};

/// Closures that Nix copies, in all and beside each prune.
const ROUNDS: usize = 200;
const AT_ONCE: usize = 5;

/// As if 40 days had passed.
fn age(folder: &Path) {
    let long_ago = SystemTime::now() - Duration::from_secs(40 * 24 * 60 * 60);
    for key in Cache::Folder(folder.to_owned()).keys() {
        let file = File::options().write(true).open(folder.join(&key)).expect(&key);
        file.set_modified(long_ago).expect(&key);
    }
}

/// Noise, so that Nix is busy between its look at the cache and its last narinfo.
fn noise(seed: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64 ^ (seed as u64) << 32;
    let words = (0..40_000).flat_map(|_| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    });
    words.collect()
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
    let (mut broken, mut restored) = (0, 0);
    for cycle in 0..ROUNDS / AT_ONCE {
        let base = add_closure(&fixture, &format!("base-{cycle}"), &[], 6);
        let root = fixture.logical(&base[5]);
        let mut command = pusher.push_command(&store, &[&root]);
        command.args(["--to", &place, "--signing-key"]).arg(key.secret_file());
        Pushed::read(end_of(&mut command)).expect_success();
        age(folder.path());

        let tops: Vec<String> = (0..AT_ONCE)
            .map(|n| {
                let large = fixture.add(&format!("large-{cycle}-{n}")).contents(noise(cycle * AT_ONCE + n)).finish();
                let relied_on = [&base[5], &base[n]];
                let top = fixture.add(&format!("top-{cycle}-{n}")).contents("top").reference(&large);
                fixture.logical(&top.references(relied_on).finish())
            })
            .collect();
        let when = format!("cycle {cycle}");
        std::thread::scope(|scope| {
            for top in &tops {
                let start = moments.next(Duration::from_millis(300));
                let (nix, store, by_nix) = (&nix, &store, &by_nix);
                scope.spawn(move || {
                    std::thread::sleep(start);
                    nix.copy_to(store, by_nix, &[top]);
                });
            }
            std::thread::sleep(moments.next(Duration::from_millis(500)));
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
        if cycle % 10 == 0 || cycle + 1 == ROUNDS / AT_ONCE {
            nix.fetch(&place, &tops, &key.public);
        }
    }
    println!("{ROUNDS} copies, {broken} of {} prunes hurt some, {restored} paths put back", ROUNDS / AT_ONCE);
    assert!(broken >= 5, "only {broken} times a prune took what Nix relied on: the moments are badly chosen");
}
