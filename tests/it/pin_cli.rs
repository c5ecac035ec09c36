//! `loft pin` by the program itself, and the rules of `--pin`.

use crate::support::local_cache::LocalCache;
use crate::support::pruning::DAY;
use std::fs;
use std::os::unix::fs::symlink;

#[test]
fn pins_are_made_listed_and_removed() {
    let cache = LocalCache::new("");
    let app = cache.store.add("app").file("bin/app", "app").finish();
    let lib = cache.store.add("lib").file("f", "lib").finish();
    cache.push(&[&app, &lib]);
    cache.run(0, &["pin", "list"]).tells(&["There are no pins."]);

    // However it is named, and without a store where it is spelled out.
    let full = format!("/nix/store/{app}");
    cache.run(0, &["pin", "add", "release", &full]).tells(&["Pinned 1 path as release, kept until it is removed."]);
    cache
        .run(0, &["pin", "add", "nightly", app.as_str(), "--keep-last", "2"])
        .tells(&["among the newest 2 of its name"]);
    symlink(format!("{full}/bin/app"), cache.path("result")).unwrap();
    cache
        .run_with_store(0, &["pin", "add", "nightly", "./result", lib.as_str(), "--keep-days", "3"])
        .tells(&["2 paths"]);

    let listed = cache.run(0, &["pin", "list"]);
    listed.prints(&["release  0 s ago by ann@", app.as_str(), "kept for 3 days"]);
    let pins = cache.run(0, &["pin", "list", "--json"]).json();
    let told: Vec<_> = pins.iter().map(|pin| (pin["name"].as_str().unwrap(), pin["holds"] == true)).collect();
    assert_eq!(told, [("nightly", true), ("nightly", true), ("release", true)]);
    assert!(pins.iter().all(|pin| pin["roots"].as_array().unwrap().contains(&app.as_str().into())));

    cache.run(0, &["pin", "rm", "nightly", "--all-but-last", "1"]).tells(&["Removed 1 pin of nightly"]);
    cache.run(0, &["pin", "rm", "nightly"]).tells(&["Removed 1 pin"]);
    cache.run(1, &["pin", "rm", "nightly"]).tells(&["error: There is no pin nightly", "loft pin list"]);
    assert_eq!(cache.keys("loft/v1/lease/"), Vec::<String>::new());
}

#[test]
fn what_cannot_be_pinned_is_told_with_a_way_out() {
    let cache = LocalCache::new("");
    let there = cache.store.add("there").finish();
    let missing = cache.store.add("missing").finish();
    cache.push(&[&there]);
    cache.run(1, &["pin", "add", "x", there.as_str(), missing.as_str()]).tells(&[
        "error: Nothing was pinned",
        missing.as_str(),
        "push it first",
    ]);
    cache.run_with_store(1, &["pin", "add", "x", "./nothing"]).tells(&["error:", "hint:"]);
    cache.run(1, &["pin", "add", "../x", there.as_str()]).tells(&["error:", "letters, digits"]);
    cache.run(1, &["pin", "add", "x", there.as_str(), "--keep-last", "0"]).tells(&["error:"]);
    cache.run(1, &["push", "--keep-last", "3", there.as_str()]).tells(&["error:", "--pin NAME"]);
    assert_eq!(cache.keys("loft/v1/pin/"), Vec::<String>::new());
}

#[test]
fn a_store_path_that_is_a_symlink_is_pinned_itself() {
    let cache = LocalCache::new("");
    let target = cache.store.add("target").file("f", "x").finish();
    let link = cache.store.add("link").link(format!("/nix/store/{target}/f")).reference(&target).finish();
    cache.push(&[&link]);
    fs::remove_file(cache.path("result")).ok();
    symlink(format!("/nix/store/{link}"), cache.path("result")).unwrap();
    cache.run_with_store(0, &["pin", "add", "x", "result"]);
    cache.run(0, &["pin", "add", "x", &format!("/nix/store/{link}")]);
    for pin in cache.run(0, &["pin", "list", "--json"]).json() {
        assert_eq!(pin["roots"], serde_json::json!([link.as_str()]));
    }
}

#[test]
fn pinned_paths_outlive_a_prune_as_long_as_their_rule_says() {
    let cache = LocalCache::new("");
    let paths: Vec<_> = (0..4).map(|n| cache.store.add(&format!("p-{n}")).file("f", [n]).finish()).collect();
    cache.push(&[&paths[3]]);
    for (path, rule) in [(&paths[0], &["--keep-last", "1"][..]), (&paths[1], &["--keep-last", "1"])] {
        let typed = format!("/nix/store/{path}");
        let args: Vec<&str> = ["push", "--pin", "nightly", &typed].into_iter().chain(rule.iter().copied()).collect();
        cache.run_with_store(0, &args);
        cache.pass(DAY);
    }
    cache.run_with_store(0, &["push", "--pin", "brief", "--keep-days", "50", &format!("/nix/store/{}", paths[2])]);
    cache.pass(40 * DAY);
    cache.run(0, &["prune"]).tells(&["2 stay", "Removed 2 of 2 paths"]);
    assert!(cache.has(&paths[1]) && cache.has(&paths[2]) && !cache.has(&paths[0]) && !cache.has(&paths[3]));
}
