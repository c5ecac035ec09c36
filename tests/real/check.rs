//! A damaged cache on a real server is mended from a real store, and then Nix fetches all of it and finds it right.

use crate::support::corpus::Corpus;
use crate::support::loft::Loft;
use crate::support::nix::Nix;
use crate::support::place::Place;
use crate::support::process::end_of;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};

#[test]
#[ignore = "needs Garage: ./test --full"]
fn check_mends_a_damaged_garage_from_the_store() {
    let (place, corpus, nix) = (Place::garage(), Corpus::everything(), Nix::installed());
    let key = nix.generate_key("check-1");
    let loft = Loft::new();
    let pushed = loft.push(&corpus.store, &[&corpus.root], |command| {
        place.write(command);
        command.arg("--signing-key").arg(key.secret_file());
    });
    pushed.expect_success();
    let check = |more: &[&str]| -> (Option<i32>, Vec<Value>) {
        let mut command = loft.command();
        command.args(["check", "--json", "--store", &corpus.store.url(), "--signing-key"]).arg(key.secret_file());
        command.args(more);
        place.write(&mut command);
        let ended = end_of(&mut command);
        let events = ended.stdout.lines().map(|line| serde_json::from_str(line).expect("JSON"));
        (ended.code, events.collect())
    };
    let (code, events) = check(&["--read-data"]);
    let damage: Vec<&Value> = events.iter().filter(|event| event["severity"] == "damage").collect();
    assert_eq!((code, damage), (Some(0), Vec::new()), "a sound cache is called so");

    let bucket = place.bucket().expect("Garage has one");
    let narinfos = place.cache().narinfos();
    let object = |path: &str| format!("{}.narinfo", &path["/nix/store/".len()..][..32]);
    // Each of another kind; several of them are referred to by others.
    let damaged: Vec<&String> = narinfos.keys().filter(|path| **path != corpus.root).step_by(11).take(20).collect();
    assert_eq!(damaged.len(), 20);
    for (n, path) in damaged.iter().enumerate() {
        let url = &narinfos[*path].fields["URL"];
        match n % 5 {
            0 => bucket.delete(url),
            1 => bucket.delete(&object(path)),
            2 => bucket.put(&object(path), b"<html>502</html>\n"),
            3 => {
                let mut nar = bucket.get(url).expect("a NAR");
                let at = nar.len() / 2;
                nar[at] ^= 1;
                bucket.put(url, &nar);
            }
            _ => {
                let nar = bucket.get(url).expect("a NAR");
                bucket.put(url, &nar[..nar.len() - 1]);
            }
        }
    }
    bucket.put("loft/v1/push/01ARZ3NDEKTSV4RRFFQ69G5FAV", b"garbage");
    bucket.delete("nix-cache-info");

    let (code, events) = check(&["--read-data"]);
    assert_eq!(code, Some(3));
    let mut kinds: BTreeMap<&str, u32> = BTreeMap::new();
    for event in events.iter().filter(|event| event["severity"] == "damage") {
        *kinds.entry(event["kind"].as_str().expect("a kind")).or_default() += 1;
    }
    let expected =
        ["cache_info_missing", "nar_data", "nar_missing", "nar_size", "narinfo_malformed", "record_unreadable"];
    assert!(expected.iter().all(|kind| kinds.contains_key(kind)), "{kinds:?}");

    let (code, events) = check(&["--read-data", "--repair"]);
    let repaired = events.iter().find(|event| event["event"] == "repaired").expect("a repair");
    assert_eq!(code, Some(0), "{repaired:#}");
    assert_eq!(repaired["removed"], serde_json::json!([]), "the store has everything");
    assert!(repaired["pushed"].as_array().is_some_and(|pushed| pushed.len() >= 16), "{repaired:#}");

    assert_eq!(place.cache().violations(&BTreeSet::new()), Vec::<String>::new());
    // What had lost its narinfo and has no referrer comes with the next push of its root.
    let pushed = loft.push(&corpus.store, &[&corpus.root, "--no-closure"], |command| place.write(command));
    pushed.expect_success();
    let fetched = nix.fetch(&place.substituter(), &[&corpus.root], &key.public);
    nix.verify(&fetched);
}
