//! What retention covers stays and Nix fetches it; the rest goes, can be brought back for a week, and is gone then.
//! On any doubt nothing goes.

use crate::support::fixture_store::FixtureStore;
use crate::support::local_store::LocalStore;
use crate::support::loft::Loft;
use crate::support::nix::Nix;
use crate::support::process::end_of;
use crate::support::proxy::{Moment, Proxy, Seen, Verdict};
use crate::support::pruning::{Pruned, RETENTION, add_closure, summary};
use crate::support::time::{DAY, Time};
use std::collections::BTreeSet;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

/// Objects that are neither loft's nor a cache's.
const FOREIGN: [&str; 5] =
    ["README.txt", "nars/x.nar.xz", "other/nar/x.nar.xz", "realisations/a.doi", "abc.narinfo.old"];

#[test]
#[ignore = "needs Garage: ./test --full"]
fn pruned_garage_keeps_what_retention_covers() {
    let cache = Pruned::new();
    let (nix, loft, fixture) = (Nix::installed(), Loft::new(), FixtureStore::new());
    let library = add_closure(&fixture, "library", &[], 6);
    let first = library.len() - 1;
    let old = add_closure(&fixture, "old", &library[first..], 8);
    let by_nix = add_closure(&fixture, "by-nix", &library[first..], 8);
    let young = add_closure(&fixture, "young", &library[first..], 8);
    let [old, by_nix, young] = [&old, &by_nix, &young].map(|paths| fixture.logical(paths.last().unwrap()));
    let store = LocalStore::at(fixture.root());

    // Nix itself made the cache.
    let folder = tempfile::tempdir().unwrap();
    let signed = format!("file://{}?secret-key={}", folder.path().display(), cache.key.secret_file().display());
    nix.copy_to(&store, &signed, &[&by_nix]);
    let made = crate::support::audit::Cache::Folder(folder.path().to_owned());
    for key in made.keys() {
        cache.bucket().put(&key, &made.get(&key).unwrap());
    }
    FOREIGN.iter().for_each(|key| cache.bucket().put(key, b"not loft's"));
    let info = cache.bucket().get("nix-cache-info").expect("Nix writes it");
    cache.push(&loft, &store, &[&old]);
    cache.pass(20 * DAY);
    let pushed = cache.push(&loft, &store, &[&young]);
    assert_eq!((pushed.number("pushed"), pushed.number("present")), (8, 6));
    assert_eq!(cache.prune(&loft)["removed"], 0, "nothing is 30 days old");

    cache.pass(15 * DAY);
    let (before, kept) = (cache.bucket().keys(), store.closure(&[&young]));
    let refused = cache.try_prune(&loft, &["--retention", RETENTION]);
    assert_eq!(refused.code, Some(1), "{refused:?}");
    assert!(refused.stderr.contains("16 of 30 paths, more than half"), "{}", refused.stderr);
    assert_eq!(cache.bucket().keys(), before);
    let pruned = cache.prune(&loft);
    assert_eq!((&pruned["removed"], &pruned["nars"]), (&16.into(), &0.into()), "{pruned}");
    assert_eq!(cache.visible(), kept);
    let untouched = |when: &str| {
        cache.expect_sound(when);
        assert_eq!(cache.bucket().get("nix-cache-info").as_ref(), Some(&info));
        for key in FOREIGN {
            assert_eq!(cache.bucket().get(key).as_deref(), Some(&b"not loft's"[..]), "{key}");
        }
        nix.fetch(&cache.garage.web, &[&young], &cache.key.public);
    };
    untouched("pruned");
    let gone: Vec<_> = before.iter().filter(|key| !cache.bucket().keys().contains(key)).cloned().collect();
    let is_its_own = |key: &String| key.ends_with(".narinfo") || key.starts_with("loft/v1/");
    assert!(gone.iter().all(is_its_own), "NARs have a week of grace: {gone:?}");
    for root in [&old, &by_nix] {
        let missed = nix.try_fetch(&cache.garage.web, &LocalStore::empty(), &[root], &cache.key.public);
        assert_ne!(missed.code, Some(0), "{root} is still there");
    }

    // Six days later somebody wants it all back.
    cache.pass(6 * DAY);
    let trash = pruned["trash"][0].as_str().expect("a trash record").to_owned();
    let undone = cache.try_prune(&loft, &["--undo", &trash]);
    assert_eq!(undone.code, Some(0), "{undone:?}");
    assert_eq!(cache.visible(), store.closure(&[&old, &by_nix, &young]));
    untouched("undone");
    nix.fetch(&cache.garage.web, &[&old, &by_nix], &cache.key.public);

    // And then nobody for a month.
    cache.pass(32 * DAY);
    cache.push(&loft, &store, &[&young]);
    assert_eq!(cache.prune(&loft)["removed"], 16);
    cache.pass(8 * DAY);
    let pruned = cache.prune(&loft);
    // Those of the undo are copies; the first ones are garbage for longer.
    assert!(pruned["nars"].as_u64() >= Some(16), "{pruned}");
    untouched("after the grace");
    let nars = |keys: Vec<String>| keys.into_iter().filter(|key| key.starts_with("nar/")).collect::<BTreeSet<_>>();
    let wanted: BTreeSet<String> =
        cache.cache().narinfos().into_values().map(|narinfo| narinfo.fields["URL"].clone()).collect();
    assert_eq!(nars(cache.bucket().keys()), wanted, "NARs after their grace");
    let late = cache.try_prune(&loft, &["--undo", &trash]);
    assert_eq!(late.code, Some(1), "{late:?}");
    assert!(late.stderr.contains("There is no trash record"), "{}", late.stderr);
    assert_eq!(cache.bucket().open_uploads(), 0);
}

#[test]
#[ignore = "needs Garage: ./test --full"]
fn what_stands_beside_a_path_on_garage_goes_with_its_trash_and_follows_an_undo() {
    let (cache, loft, fixture) = (Pruned::new(), Loft::new(), FixtureStore::new());
    let [old, young] = ["old", "young"].map(|name| add_closure(&fixture, name, &[], 3).pop().unwrap());
    let listing = format!("{}.ls", old.hash_part());
    let [old, young] = [&old, &young].map(|path| fixture.logical(path));
    let store = LocalStore::at(fixture.root());
    cache.push(&loft, &store, &[&old, &young]);
    let nar_of_old = || {
        let mut narinfos = cache.cache().narinfos().into_values();
        narinfos.find(|narinfo| narinfo.fields["StorePath"] == old).expect("it is there").fields["URL"].clone()
    };
    let id = "07ff23386799818e59ab23df9d6e5da46ac0d251";
    let (link, log) = (format!("debuginfo/{id}"), format!("log/{}-failed.drv", "0".repeat(32)));
    let member = format!("lib/debug/.build-id/{}/{}.debug", &id[..2], &id[2..]);
    let before = nar_of_old();
    let json = format!(r#"{{"archive":"../{before}","member":"{member}"}}"#);
    let written = [(&listing, "{}"), (&log, "it failed"), (&link, &json)];
    written.iter().for_each(|(key, text)| cache.bucket().put(key, text.as_bytes()));
    let there = || [&listing, &log, &link].map(|key| cache.bucket().get(key).is_some());
    cache.pass(20 * DAY);
    cache.push(&loft, &store, &[&young]);
    assert_eq!((&cache.prune(&loft)["removed"], there()), (&0.into(), [true; 3]));

    // The path can be brought back with all of it; the log was nobody's.
    cache.pass(15 * DAY);
    let pruned = cache.prune(&loft);
    assert_eq!((&pruned["removed"], there()), (&3.into(), [true, false, true]), "{pruned}");
    let trash = pruned["trash"][0].as_str().expect("a trash record").to_owned();
    let undone = cache.try_prune(&loft, &["--undo", &trash]);
    assert_eq!(undone.code, Some(0), "{undone:?}");
    let after = nar_of_old();
    assert_ne!(before, after);
    let text = String::from_utf8(cache.bucket().get(&link).expect("it is there")).unwrap();
    assert_eq!(text, json.replace(&before, &after));

    cache.pass(32 * DAY);
    cache.push(&loft, &store, &[&young]);
    assert_eq!((&cache.prune(&loft)["removed"], there()), (&3.into(), [true, false, true]));
    cache.pass(8 * DAY);
    cache.prune(&loft);
    let pruned = cache.prune(&loft);
    assert_eq!((&pruned["failed"], there()), (&0.into(), [false; 3]), "{pruned}");
}

/// An old cache, of which most would go.
fn aged() -> (Pruned, Loft) {
    let (cache, loft, fixture) = (Pruned::new(), Loft::new(), FixtureStore::new());
    let root = add_closure(&fixture, "old", &[], 12).pop().unwrap();
    cache.push(&loft, &LocalStore::at(fixture.root()), &[&fixture.logical(&root)]);
    cache.pass(40 * DAY);
    (cache, loft)
}

/// Exit 1, the reason, and all is as it was.
#[track_caller]
fn refuses(cache: &Pruned, loft: &Loft, endpoint: &str, clock: &Time, tells: &str) {
    let before = cache.bucket().keys();
    let mut command = cache.prune_command(loft, endpoint, &["--retention", RETENTION, "--remove-most"]);
    clock.apply(&mut command);
    let ended = end_of(&mut command);
    assert_eq!(ended.code, Some(1), "{ended:?}");
    assert!(ended.stderr.contains(tells), "it does not tell {tells:?}: {}", ended.stderr);
    assert_eq!(cache.bucket().keys(), before, "after {}", ended.stderr);
}

#[test]
#[ignore = "needs Garage: ./test --full"]
fn pruning_garage_with_a_wrong_clock_is_refused() {
    let (cache, loft) = aged();
    let clock = Time::new();
    for apart in [600, -600, 86_400, -86_400] {
        clock.set(cache.time.ahead() + apart);
        refuses(&cache, &loft, &cache.bucket().endpoint, &clock, "clock");
    }
    clock.set(cache.time.ahead() + 60);
    let mut command =
        cache.prune_command(&loft, &cache.bucket().endpoint, &["--retention", RETENTION, "--remove-most"]);
    clock.apply(&mut command);
    let ended = end_of(&mut command);
    assert_eq!(ended.code, Some(0), "a minute is no harm: {ended:?}");
    assert_eq!(cache.visible(), Vec::<String>::new());
}

#[test]
#[ignore = "needs Garage: ./test --full"]
fn pruning_a_doubtful_bucket_of_garage_is_refused() {
    let (cache, loft) = aged();
    let direct = cache.bucket().endpoint.clone();
    let record = cache.bucket().get("loft/v1/bucket.json").expect("the bucket's record");
    let newer = String::from_utf8(record.clone()).unwrap().replacen("\"format\":1", "\"format\":2", 1);
    cache.bucket().put("loft/v1/bucket.json", newer.as_bytes());
    refuses(&cache, &loft, &direct, &cache.time, "format 2");
    cache.bucket().put("loft/v1/bucket.json", &record);

    let info = cache.bucket().get("nix-cache-info").unwrap();
    cache.bucket().delete("nix-cache-info");
    refuses(&cache, &loft, &direct, &cache.time, "no nix-cache-info");
    cache.bucket().put("nix-cache-info", b"<html>");
    refuses(&cache, &loft, &direct, &cache.time, "is it the right bucket?");
    cache.bucket().put("nix-cache-info", &info);
    cache.bucket().put("loft/v1/lease/01ARZ3NDEKTSV4RRFFQ69G5FAV", b"garbled");
    refuses(&cache, &loft, &direct, &cache.time, "cannot be understood");
    cache.bucket().delete("loft/v1/lease/01ARZ3NDEKTSV4RRFFQ69G5FAV");

    cache.prune(&loft);
    let keys = cache.bucket().keys();
    keys.iter().for_each(|key| cache.bucket().delete(key));
    refuses(&cache, &loft, &direct, &cache.time, "empty or no Nix cache at all");
}

/// Each listing in turn fails, and so does the one after which deletes would follow.
#[test]
#[ignore = "needs Garage: ./test --full"]
fn pruning_garage_with_a_listing_that_fails_half_way_is_refused() {
    let (cache, loft) = aged();
    let is_list = |seen: &Seen| seen.method == "GET" && seen.target.contains("list-type=2");
    let listings = {
        let proxy = Proxy::gated(&cache.bucket().endpoint, |_, _| Verdict::Pass);
        let ended = end_of(&mut cache.prune_command(&loft, &proxy.endpoint, &["--retention", "400"]));
        assert_eq!(ended.code, Some(0), "{ended:?}");
        proxy.seen().iter().filter(|seen| is_list(seen)).count()
    };
    assert!(listings >= 5, "{listings}");
    println!("{listings} listings before anything is deleted");
    for failing in 0..listings {
        let count = Arc::new(AtomicUsize::new(0));
        let proxy = Proxy::gated(&cache.bucket().endpoint, move |moment, seen| {
            // It fails for good from there: tries follow.
            match moment == Moment::Arrived && is_list(seen) && count.fetch_add(1, Ordering::SeqCst) >= failing {
                true => Verdict::Answer(403),
                false => Verdict::Pass,
            }
        });
        refuses(&cache, &loft, &proxy.endpoint, &cache.time, "403");
    }
    assert_eq!(cache.visible().len(), 12);
    // Half of an answer is not a short answer: each is asked for again, and all twelve are seen.
    let cut = Mutex::new(BTreeSet::new());
    let proxy = Proxy::gated(&cache.bucket().endpoint, move |moment, seen| match moment {
        Moment::Answered(_) if is_list(seen) && cut.lock().unwrap().insert(seen.target.clone()) => Verdict::Cut(700),
        _ => Verdict::Pass,
    });
    let ended = end_of(&mut cache.prune_command(&loft, &proxy.endpoint, &["--retention", RETENTION, "--remove-most"]));
    assert_eq!((ended.code, summary(&ended)["removed"].as_u64()), (Some(0), Some(12)), "{ended:?}");
    assert_eq!(cache.visible(), Vec::<String>::new());
}
