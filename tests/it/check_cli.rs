//! `loft check` and `loft sign` by the program itself: what they say, and what they exit with.

use crate::support::local_cache::LocalCache;
use loft::nix::StorePath;
use std::fs;
use std::process::Command;

fn filled() -> (LocalCache, [StorePath; 3]) {
    let cache = LocalCache::new("");
    let base = cache.store.add("base").file("f", "base").finish();
    let lib = cache.store.add("lib").file("f", "lib").reference(&base).finish();
    let app = cache.store.add("app").file("f", "app").reference(&lib).finish();
    cache.push(&[&app]);
    (cache, [base, lib, app])
}

fn narinfo(path: &StorePath) -> String {
    format!("{}.narinfo", path.hash_part())
}

#[test]
fn a_check_tells_what_is_damaged_and_a_repair_mends_it() {
    let (cache, [base, lib, app]) = filled();
    let keys = cache.keys("");
    cache.run(0, &["check"]).prints(&["3 paths, 3 NARs", "looked at: no damage, 0 garbage", "F4 note (3)"]);
    cache.run(0, &["check", "--read-data"]).prints(&["the data of 3 read"]);
    cache.run(0, &["check", "--read-data"]).prints(&["the data of 0 read", "and of 3 within the last day"]);
    cache.run(0, &["check", "--read-data=1/2", "--read-again", "--no-probe"]);
    assert_eq!(cache.keys(""), keys);

    fs::write(cache.at(&narinfo(&lib)), "<html>\n").unwrap();
    fs::remove_file(cache.at(&narinfo(&base))).unwrap();
    let told = cache.run(3, &["check"]);
    told.prints(&["F1 damage (1):", &narinfo(&lib), "to do: loft check --repair", "1 damaged"]);
    let json = cache.run(3, &["check", "--json"]);
    let found = json.events("finding");
    let damage = found.iter().find(|event| event["severity"] == "damage").unwrap();
    assert_eq!((&damage["topic"], &damage["kind"]), (&"F1".into(), &"narinfo_malformed".into()));
    assert_eq!(json.events("checked")[0]["damage"], 1);

    let mended = cache.run_with_store(0, &["check", "--repair"]);
    mended.prints(&[&format!("pushed again: {lib}"), "no damage"]);
    assert!([&base, &lib, &app].into_iter().all(|path| cache.has(path)));
    cache.run_with_store(0, &["check", "--repair"]).prints(&["no damage"]);
}

#[test]
fn what_no_store_has_is_set_aside_and_can_be_brought_back() {
    let (cache, [base, lib, app]) = filled();
    fs::remove_file(cache.at(&narinfo(&base))).unwrap();
    // All of what is left refers to it: that must be meant.
    cache.run(1, &["check", "--repair"]).tells(&["2 of 2 paths", "--remove-most"]);
    assert!(cache.has(&lib) && cache.has(&app));
    let mended = cache.run(0, &["check", "--repair", "--remove-most", "--json"]);
    let repaired = &mended.events("repaired")[0];
    assert_eq!(repaired["removed"], serde_json::json!([app.hash_part().as_str(), lib.hash_part().as_str()]));
    assert!(!cache.has(&lib) && !cache.has(&app));
    cache.run(0, &["prune", "--undo", repaired["trash"][0].as_str().unwrap()]);
    assert!(cache.has(&lib) && cache.has(&app));
    cache.run(3, &["check"]).prints(&["F3 damage (1):", &narinfo(&base)]);
    // The machine that has it mends it without any loss.
    cache.run_with_store(0, &["check", "--repair"]).prints(&[&format!("pushed again: {base}")]);
}

#[test]
fn a_repair_that_stops_tells_what_it_has_done() {
    let (cache, [base, lib, _]) = filled();
    let junk = "01ARZ3NDEKTSV4RRFFQ69G5FAV";
    for kind in ["lease", "push"] {
        fs::create_dir_all(cache.at(&format!("loft/v1/{kind}"))).unwrap();
        fs::write(cache.at(&format!("loft/v1/{kind}/{junk}")), "junk").unwrap();
    }
    fs::write(cache.at(&narinfo(&lib)), "<html>\n").unwrap();
    fs::remove_file(cache.at(&narinfo(&base))).unwrap();
    // Without a store the rest would have to be set aside, and a lease that may be alive forbids that.
    let told = cache.run(2, &["check", "--repair", "--remove-most"]);
    told.prints(&[&format!("set aside: loft/v1/push/{junk}"), "loft prune --undo", "35 minutes old"]);
    told.tells(&["error: The repair stopped", &format!("loft/v1/lease/{junk}")]);
    let listed = cache.run(0, &["prune", "--list-trash"]);
    listed.prints(&["1 record of loft's own set aside as damaged"]);
    let id = listed.stdout.split_whitespace().next().unwrap().to_owned();
    fs::remove_file(cache.at(&format!("loft/v1/lease/{junk}"))).unwrap();
    let undone = cache.run(0, &["prune", "--undo", &id]);
    undone.prints(&[&format!("restored as it was, damaged: loft/v1/push/{junk}")]);
    undone.tells(&["0 paths and 1 record of loft's own", "1 put back damaged"]);

    // Where nothing was done, it says that.
    let (cache, [base, ..]) = filled();
    fs::remove_file(cache.at(&narinfo(&base))).unwrap();
    cache.run(1, &["check", "--repair"]).tells(&["error: The repair stopped", "hint: nothing was changed"]);
}

#[test]
fn a_cache_that_is_not_there_is_not_clean() {
    let (cache, [base, lib, app]) = filled();
    // A wrong name: nothing is made there.
    let wrong = cache.at("elsewhere");
    let to = format!("file://{}", wrong.display());
    cache.run(1, &["check", "--to", &to]).tells(&["error: There is no cache in", "prefix"]);
    assert!(!wrong.exists());
    // All but NARs and records is lost.
    for key in [&narinfo(&base), &narinfo(&lib), &narinfo(&app), "nix-cache-info"] {
        fs::remove_file(cache.at(key)).unwrap();
    }
    cache.run(3, &["check"]).prints(&["F8 damage (1)", "F6 note (1)", &app.to_string()]);
}

#[test]
fn what_cannot_be_looked_at_exits_1() {
    let (cache, _) = filled();
    cache.run(1, &["check", "--read-data=200%"]).tells(&["error:", "200%"]);
    cache.run(1, &["check", "--read-data=4/3"]).tells(&["error:", "no slice"]);
    cache.run(1, &["check", "--public-key", "nonsense"]).tells(&["error:"]);
    cache.run(1, &["check", "--to", "s3://b?endpoint=http://127.0.0.1:1&region=r", "--signing-key", "/none"]);
    cache.run(1, &["sign"]).tells(&["error: No signing key is configured", "hint:"]);
}

#[test]
fn keys_are_replaced() {
    let (cache, [_, lib, _]) = filled();
    let key = |name: &str| {
        let mut command: Command = cache.command(&["key", "generate", name, "--out", &format!("{name}.secret")]);
        String::from_utf8(command.output().unwrap().stdout).unwrap().trim().to_owned()
    };
    let (old, new) = (key("old-1"), key("new-1"));
    // Nothing is signed yet, and nobody is believed.
    cache.run(2, &["sign", "--signing-key", "old-1.secret"]).tells(&["not signed:", "3 without a trusted signature"]);
    cache.run(0, &["sign", "--signing-key", "old-1.secret", "--read-data"]).tells(&["3 paths: 3 signed"]);
    let args = ["sign", "--signing-key", "new-1.secret", "--trusted-public-key", &old];
    cache.run(0, &[&args[..], &["--dry-run"]].concat()).tells(&["would sign", "3 would be signed"]);
    let signed = cache.run(0, &[&args[..], &["--json"]].concat());
    assert_eq!((signed.events("signed").len(), &signed.events("finished")[0]["signed"]), (3, &3.into()));
    let text = fs::read_to_string(cache.at(&narinfo(&lib))).unwrap();
    assert!(text.contains("Sig: old-1:") && text.contains("Sig: new-1:"), "{text}");
    cache.run(0, &["check", "--public-key", &new]).prints(&["no damage, 0 garbage, 0 notes"]);
    cache.run(0, &["check", "--public-key", &old]).prints(&["no damage, 0 garbage, 0 notes"]);
}
