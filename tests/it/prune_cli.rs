//! `loft prune` by the program itself: what it says, what it exits with, and that it does what it says.

use crate::support::local_cache::{LocalCache, ended};
use crate::support::pruning::DAY;
use loft::nix::StorePath;
use loft::record::{LeaseRecord, SweepRecord};
use rustix::process::{Pid, Signal, kill_process};
use std::fs;
use std::process::Stdio;

const ID: &str = "01ARZ3NDEKTSV4RRFFQ69G5FAV";

/// `kept` was pushed 20 days ago with `lib`, which it shares with `old`, pushed 40 days ago.
fn aged(more: &str) -> (LocalCache, [StorePath; 4]) {
    let cache = LocalCache::new(more);
    let base = cache.store.add("base").file("f", "base").finish();
    let lib = cache.store.add("lib").file("f", "lib").reference(&base).finish();
    let old = cache.store.add("old").file("f", "o".repeat(5000)).reference(&lib).finish();
    let kept = cache.store.add("kept").file("f", "kept").reference(&lib).finish();
    cache.push(&[&old]);
    cache.pass(20 * DAY);
    cache.push(&[&kept]);
    cache.pass(20 * DAY);
    (cache, [base, lib, old, kept])
}

#[test]
fn a_dry_run_tells_what_would_go_and_why() {
    let (cache, [.., old, _]) = aged("");
    let before = cache.keys("");
    let ran = cache.run(0, &["prune", "--dry-run"]);
    ran.tells(&["4 paths in the cache", "3 stay", "1 not pushed for 30 days"]);
    ran.prints(&["Not pushed for 30 days", "40 days", old.as_str()]);
    assert!(!ran.stdout.contains("-kept"), "{ran:?}");
    // The flags of the original do the same.
    assert_eq!(cache.run(0, &["--prune", "--dry-run"]).stdout, ran.stdout);
    assert_eq!(cache.keys(""), before);

    // Settings may be typed; they are checked as the file's are.
    cache.run(0, &["prune", "--dry-run", "--retention", "50"]).tells(&["4 stay", "0 not pushed for 50 days"]);
    cache.run(0, &["prune", "--dry-run", "--retention", "10"]).tells(&["warning: without --dry-run", "4 of 4 paths"]);
    cache.run(1, &["prune", "--retention", "0"]).tells(&["error:", "--retention", "from 1 to"]);
    cache.run(1, &["prune", "--max-size", "many"]).tells(&["error:", "500GiB"]);
    cache.run(0, &["prune", "--dry-run", "--max-size", "1B"]).tells(&["3 over the limit of 1 B"]);
    assert_eq!(cache.keys(""), before);
}

#[test]
fn what_goes_can_be_undone_until_its_grace_has_passed() {
    let (cache, [base, lib, old, kept]) = aged("");
    let ran = cache.run(0, &["prune"]);
    ran.tells(&["3 stay", "Removed 1 of 1 path: 0 needed again, 0 left", "come back with:", "loft prune --undo "]);
    assert_eq!(ran.stdout, "");
    assert!([&base, &lib, &kept].into_iter().all(|path| cache.has(path)) && !cache.has(&old));
    assert_eq!(cache.keys("nar/").len(), 4);
    for prefix in ["loft/v1/sweep/", "loft/v1/probe/", "loft/v1/lease/"] {
        assert_eq!(cache.keys(prefix), Vec::<String>::new());
    }
    let id = ran.stderr.split("--undo ").nth(1).unwrap().lines().next().unwrap().to_owned();
    cache.run(0, &["prune", "--list-trash"]).prints(&[&id, "removal of 1 path, by ann@", "can be undone until 20"]);
    assert_eq!(cache.run(0, &["prune", "--list-trash", "--json"]).events("trash")[0]["id"], id.as_str());

    let status = cache.run(0, &["status"]);
    status.prints(&["Trash      1 path, ", " to be freed from 20"]);
    let trash = &cache.run(0, &["status", "--json"]).json()[0]["cache"]["trash"];
    assert_eq!((&trash["prunes"], &trash["paths"], &trash["is_exact"]), (&1.into(), &1.into(), &true.into()));
    let stored: u64 = cache.keys("nar/").iter().map(|key| fs::metadata(cache.at(key)).unwrap().len()).max().unwrap();
    assert!(trash["bytes"].as_u64().is_some_and(|bytes| 0 < bytes && bytes <= stored), "{trash}");

    // A second prune finds nothing to do.
    cache.run(0, &["prune"]).tells(&["3 paths in the cache", "No path had to go"]);

    let undone = cache.run(0, &["prune", "--undo", &id]);
    undone.prints(&[&format!("restored: {old}")]).tells(&["1 path: 1 put back, 0 there already, 0 failed"]);
    assert!(cache.has(&old));
    cache.run(0, &["prune", "--undo", &id]).prints(&[&format!("present: {old}")]);
    cache.run(1, &["prune", "--undo", ID]).tells(&["error: There is no trash record", ID, "--list-trash"]);
    cache.run(1, &["prune", "--undo", "nonsense"]).tells(&["error: invalid value 'nonsense'", "--list-trash"]);

    // Put back it is young; with the grace its first NAR goes.
    cache.pass(8 * DAY);
    cache.run(0, &["prune"]).tells(&["1 NAR deleted"]);
    assert!(cache.has(&old));
    cache.run(0, &["prune", "--list-trash"]).tells(&["Nothing can be undone"]);
}

#[test]
fn an_undo_that_brings_back_only_some_exits_2() {
    let (cache, [.., old, _]) = aged("");
    let ran = cache.run(0, &["prune", "--json"]);
    let id = ran.events("finished")[0]["trash"][0].as_str().unwrap().to_owned();
    for key in cache.keys("nar/") {
        fs::remove_file(cache.at(&key)).unwrap();
    }
    let undone = cache.run(2, &["prune", "--undo", &id]);
    undone.prints(&[&format!("failed: {old}: ")]).tells(&["0 put back, 0 there already, 1 failed"]);
    let undone = cache.run(2, &["prune", "--undo", &id, "--json"]);
    assert_eq!(undone.events("failed")[0]["path"], old.as_str());
}

#[test]
fn json_tells_the_plan_each_path_and_a_summary_that_adds_up() {
    let (cache, [.., old, _]) = aged("");
    for (args, event) in [(&["prune", "--dry-run", "--json"][..], "would_remove"), (&["prune", "--json"], "removed")] {
        let ran = cache.run(0, args);
        assert_eq!(ran.stderr, "");
        let planned = &ran.events("planned")[0];
        let number = |name: &str| planned[name].as_u64().unwrap();
        assert_eq!(number("paths"), number("stay") + number("expired") + number("over_size"));
        assert_eq!((number("paths"), number("expired")), (4, 1));
        let [path] = &ran.events(event)[..] else { panic!("{ran:?}") };
        assert_eq!((path["path"].as_str().unwrap(), path["reason"].as_str().unwrap()), (old.as_str(), "retention"));
        assert!(path["size"].as_u64().unwrap() > 0 && path["last_pushed"].as_u64().unwrap() > 0);
        assert!(!ran.events("looked").is_empty());
        if event == "removed" {
            let finished = &ran.events("finished")[0];
            let number = |name: &str| finished[name].as_u64().unwrap();
            assert_eq!(number("condemned"), number("removed") + number("rescued") + number("left"));
            assert_eq!((number("removed"), number("failed")), (1, 0));
        }
    }
}

#[test]
fn many_paths_are_cut_unless_all_are_wanted() {
    let cache = LocalCache::new("");
    let paths: Vec<StorePath> =
        (0..25).map(|n| cache.store.add(&format!("p-{n}")).file("f", "x".repeat(n)).finish()).collect();
    cache.push(&paths.iter().collect::<Vec<_>>());
    cache.pass(40 * DAY);
    let ran = cache.run(0, &["prune", "--dry-run"]);
    assert_eq!(ran.stdout.lines().count(), 22, "{}", ran.stdout);
    ran.prints(&["and 5 more; --all names them"]);
    let all = cache.run(0, &["prune", "--dry-run", "--all"]).stdout;
    assert!(paths.iter().all(|path| all.contains(path.as_str())) && !all.contains("more"));

    // More than half: refused, with the way out.
    cache.run(1, &["prune"]).tells(&["error: Refused", "25 of 25 paths", "--remove-most"]);
    assert_eq!(paths.iter().filter(|path| cache.has(path)).count(), 25);
    cache.run(0, &["--quiet", "prune", "--remove-most"]);
    assert_eq!(paths.iter().filter(|path| cache.has(path)).count(), 0);
}

#[test]
fn refusals_exit_1_and_say_what_to_do() {
    let cache = LocalCache::new("");
    fs::create_dir(cache.path("cache")).unwrap();
    cache.run(1, &["prune"]).tells(&["error: Refused", "nix-cache-info", "wrong bucket"]);
    let (cache, _) = aged("");
    fs::create_dir_all(cache.at("loft/v1/sweep")).unwrap();
    let sweep = cache.at(&format!("loft/v1/sweep/{ID}"));
    fs::write(&sweep, SweepRecord::new("bob@there".into(), 300, vec![]).print()).unwrap();
    cache.run(1, &["prune"]).tells(&["another prune is at work", "bob@there", "11 minutes"]);
    fs::remove_file(sweep).unwrap();
    let lease = cache.at(&format!("loft/v1/lease/{ID}"));
    fs::write(&lease, "garbage").unwrap();
    cache.run(1, &["prune"]).tells(&[ID, "cannot be understood"]);
}

#[test]
fn a_push_in_progress_keeps_what_it_relies_on() {
    let (cache, [.., old, _]) = aged("");
    let lease = LeaseRecord::new("bob@there".into(), 7, vec![old.hash_part()]).print();
    fs::write(cache.at(&format!("loft/v1/lease/{ID}")), lease).unwrap();
    cache.run(0, &["prune"]).tells(&["4 stay"]);
    assert!(cache.has(&old));
}

#[test]
fn the_original_limits_size_and_spares_what_is_not_its_own() {
    let (cache, [base, lib, old, kept]) = aged(
        "prune_max_size_gb = 1000\nprune_target_percentage = 80\nprune_retention_days = 30\nprune_schedule = \"24h\"",
    );
    let foreign = ["index.html", "log/a.drv", "debuginfo/ab", "nar/a b", "x.narinfo"];
    for key in foreign {
        fs::create_dir_all(cache.at(key).parent().unwrap()).unwrap();
        fs::write(cache.at(key), "mine").unwrap();
    }
    let info = fs::read(cache.at("nix-cache-info")).unwrap();
    cache.pass(DAY);
    cache.run(0, &["--prune"]).tells(&["over the limit of 1000 GiB", "Removed 1 of 1 path"]);
    assert!(!cache.has(&old) && [&base, &lib, &kept].into_iter().all(|path| cache.has(path)));
    assert!(foreign.iter().all(|key| fs::read(cache.at(key)).unwrap() == b"mine"));
    assert_eq!(fs::read(cache.at("nix-cache-info")).unwrap(), info);
}

#[test]
fn an_interrupted_prune_deletes_no_more_and_closes_its_sweep() {
    // On a busy machine a prune may be over before anybody has seen it begin.
    assert!((0..10).any(|_| interrupted_in_time()), "all were too fast for this test");
}

fn interrupted_in_time() -> bool {
    let cache = LocalCache::new("");
    let paths: Vec<StorePath> =
        (0..500).map(|n| cache.store.add(&format!("p-{n}")).contents(format!("{n}")).finish()).collect();
    cache.push(&paths.iter().collect::<Vec<_>>());
    cache.pass(40 * DAY);
    let mut command = cache.command(&["prune", "--remove-most"]);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    // As soon as it has announced itself.
    while cache.keys("loft/v1/sweep/").is_empty() {
        if !cache.keys("loft/v1/trash/").is_empty() {
            child.wait().unwrap();
            return false;
        }
        std::thread::yield_now();
    }
    kill_process(Pid::from_child(&child), Signal::INT).unwrap();
    let ran = ended(130, child.wait_with_output().unwrap());
    ran.tells(&["interrupted:"]);
    assert_eq!(cache.keys("loft/v1/sweep/"), Vec::<String>::new());
    assert!(paths.iter().any(|path| cache.has(path)));
    // The next one ends it.
    cache.run(0, &["prune", "--remove-most"]);
    assert!(!paths.iter().any(|path| cache.has(path)));
    true
}
