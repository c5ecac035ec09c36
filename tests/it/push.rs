//! What a push promises, on a store of files and a bucket in memory.

use crate::support::closures::{chain, record, set, small};
use crate::support::world::{World, changes};
use loft::nix::{KeyName, NarInfo, StoreDir, StorePath};
use loft::plan::{Pattern, Request, UpstreamKey};
use loft::record::{BucketRecord, PushRecord};
use loft::report::Outcome;
use std::collections::BTreeSet;
use std::sync::Arc;

fn upstream(world: &mut World, name: &str) -> String {
    world.options.policy.skip_signed_by = vec![UpstreamKey { name: KeyName::parse(name).unwrap(), public: None }];
    format!("{name}:{}", data_encoding::BASE64.encode(&[1; 64]))
}

#[tokio::test]
async fn a_closure_lands_signed_and_leaves_no_lease() {
    let world = World::new();
    let paths = small(&world);
    let summary = world.push(&[&paths[3]]).await.unwrap();
    assert_eq!((summary.pushed, summary.failed), (4, 0));
    assert_eq!(world.visible(), set(&paths));

    let public = world.options.keys[0].public();
    for info in world.check() {
        let fingerprint = info.fingerprint(&StoreDir::default());
        assert!(info.signatures.iter().any(|signature| public.verifies(&fingerprint, signature)), "{}", info.path);
    }
    assert_eq!(world.keys("loft/v1/lease/"), Vec::<String>::new());
    let contents = world.bucket.contents();
    let records = world.keys("loft/v1/push/");
    assert_eq!(records.len(), 1);
    let (key, bytes) = contents.iter().find(|(key, _)| key.as_str() == records[0]).unwrap();
    let record = PushRecord::parse(key.as_str(), bytes).unwrap();
    assert_eq!((record.roots, record.pushed, record.present), (vec![paths[3].clone()], 4, 0));
}

#[tokio::test]
async fn objects_carry_the_headers_that_readers_and_proxies_need() {
    let world = World::new();
    let paths = small(&world);
    world.push(&[&paths[0]]).await.unwrap();
    let objects = world.bucket.objects();
    let headers = |start: &str| {
        let (_, object) = objects.iter().find(|(key, _)| key.as_str().starts_with(start)).unwrap();
        (object.headers.content_type.unwrap(), object.headers.cache_control.unwrap())
    };
    assert_eq!(headers("nar/"), ("application/x-nix-nar", "public, max-age=31536000, immutable, no-transform"));
    assert_eq!(headers(paths[0].hash_part().as_str()), ("text/x-nix-narinfo", "max-age=3600"));
    assert_eq!(headers("nix-cache-info").0, "text/x-nix-cache-info");
    assert_eq!(headers("loft/v1/bucket.json").1, "no-store");
}

#[tokio::test]
async fn a_second_push_sends_nothing() {
    let world = World::new();
    let paths = small(&world);
    world.push(&[&paths[3]]).await.unwrap();
    let summary = world.push(&[&paths[3]]).await.unwrap();
    assert_eq!((summary.pushed, summary.present), (0, 4));
    let requests = world.bucket.requests();
    assert!(requests.len() <= 5, "{requests:?}");
    assert!(!requests.iter().any(|request| changes(request.kind)), "{requests:?}");
}

#[tokio::test]
async fn requests_of_large_pushes_are_few() {
    let world = World::new();
    let paths = chain(&world, 400);
    let roots: Vec<&StorePath> = paths.iter().collect();
    world.push(&roots).await.unwrap();
    assert_eq!(world.visible(), set(&paths));
    let cold = world.bucket.requests().len();
    assert!(cold <= 2 * 400 + 20, "{cold} requests for 400 paths");

    world.push(&roots).await.unwrap();
    let warm = world.bucket.requests().len();
    assert!(warm <= 5, "{warm} requests with nothing to do");

    let mut forgetful = world;
    forgetful.ledger = Arc::new(loft::ledger::Ledger::in_memory());
    let summary = forgetful.push(&roots).await.unwrap();
    assert_eq!(summary.present, 400);
    let cold = forgetful.bucket.requests().len();
    assert!(cold <= 10, "{cold} requests with nothing to do and no ledger");
}

#[tokio::test]
async fn a_narinfo_that_was_lost_is_put_back_alone() {
    let world = World::new();
    let paths = small(&world);
    world.push(&[&paths[3]]).await.unwrap();
    // Behind the ledger's back. Its referrer dangles until the push is done, which is what it mends.
    world.bucket.lose(&format!("{}.narinfo", paths[3].hash_part()));
    let summary = world.push(&[&paths[3]]).await.unwrap();
    assert_eq!((summary.pushed, summary.present), (1, 3));
    assert_eq!(world.visible(), set(&paths));
}

#[tokio::test]
async fn a_bucket_made_anew_is_not_taken_for_the_old_one() {
    let world = World::new();
    let paths = small(&world);
    world.push(&[&paths[3]]).await.unwrap();
    for key in world.keys("") {
        world.bucket.lose(&key);
    }
    let summary = world.push(&[&paths[3]]).await.unwrap();
    assert_eq!(summary.pushed, 4);
}

#[tokio::test]
async fn what_upstream_has_signed_is_left_out_and_recorded() {
    let mut world = World::new();
    let signature = upstream(&mut world, "cache.nixos.org-1");
    let glibc = world.store.add("glibc").file("x", b"x").signature(&signature).finish();
    let app = world.store.add("app").file("y", b"y").reference(&glibc).finish();
    world.declare_external(std::slice::from_ref(&glibc));

    let summary = world.push(&[&app]).await.unwrap();
    assert_eq!((summary.pushed, summary.upstream), (1, 1));
    assert_eq!(world.visible(), set(std::slice::from_ref(&app)));
    let record = &world.keys("loft/v1/push/")[0];
    let contents = world.bucket.contents();
    let (_, bytes) = contents.iter().find(|(key, _)| key.as_str() == record).unwrap();
    assert_eq!(PushRecord::parse(record, bytes).unwrap().external, [glibc]);
}

#[tokio::test]
async fn the_same_nar_is_sent_once() {
    let world = World::new();
    let twin = |name: &str| world.store.add(name).file("same", vec![3; 4000]).finish();
    let (a, b) = (twin("a"), twin("b"));
    let summary = world.push(&[&a, &b]).await.unwrap();
    assert_eq!((summary.pushed, summary.reused, world.keys("nar/").len()), (2, 1, 1));

    // Under another path, once the first is visible.
    let c = world.store.add("c").file("same", vec![3; 4000]).reference(&a).finish();
    let summary = world.push(&[&c]).await.unwrap();
    assert_eq!((summary.pushed, summary.reused, summary.file_size, world.keys("nar/").len()), (1, 1, 0, 1));
}

#[tokio::test]
async fn a_dry_run_changes_nothing() {
    let mut world = World::new();
    let paths = small(&world);
    world.options.dry_run = true;
    let summary = world.push(&[&paths[3]]).await.unwrap();
    assert_eq!((summary.considered, summary.pushed), (4, 0));
    assert!(matches!(world.outcome(&paths[3]), Outcome::WouldPush { .. }));
    assert_eq!(world.keys(""), Vec::<String>::new());
    assert!(!world.bucket.requests().iter().any(|request| changes(request.kind)));
}

#[tokio::test]
async fn the_cache_info_that_is_there_stays() {
    let world = World::new();
    let paths = small(&world);
    let own = &b"StoreDir: /nix/store\nPriority: 7\n"[..];
    world.bucket.plant("nix-cache-info", own);
    world.push(&[&paths[0]]).await.unwrap();
    let contents = world.bucket.contents();
    let (_, bytes) = contents.iter().find(|(key, _)| key.as_str() == "nix-cache-info").unwrap();
    assert_eq!(bytes, own);
}

#[tokio::test]
async fn without_the_closure_references_must_be_there() {
    let world = World::new();
    let [base, lib, ..] = small(&world);
    let summary = world.request(Request::Only(vec![lib.clone()])).await.unwrap();
    assert_eq!((summary.failed, world.visible()), (1, BTreeSet::new()));
    assert!(matches!(world.outcome(&lib), Outcome::Failed { blocked_by: Some(by), .. } if by == base));
    world.request(Request::Only(vec![base.clone()])).await.unwrap();
    let summary = world.request(Request::Only(vec![lib.clone()])).await.unwrap();
    assert_eq!((summary.pushed, world.visible()), (1, set(&[base, lib])));
}

#[tokio::test]
async fn a_path_that_is_not_valid_is_named_and_the_rest_lands() {
    let world = World::new();
    let [base, ..] = small(&world);
    let missing = world.store.missing("missing");
    let summary = world.push(&[&base, &missing]).await.unwrap();
    assert_eq!((summary.pushed, summary.failed), (1, 1));
    assert_eq!(world.outcome(&missing), Outcome::Invalid);
}

#[tokio::test]
async fn the_whole_store_goes_without_its_derivations() {
    let world = World::new();
    let paths = small(&world);
    world.store.add("app.drv").contents(b"Derive()").finish();
    let summary = world.request(Request::WholeStore).await.unwrap();
    assert_eq!((summary.pushed, world.visible()), (4, set(&paths)));
}

#[tokio::test]
async fn signatures_of_the_store_are_kept_and_none_is_repeated() {
    let world = World::new();
    let path = world.store.add("p").file("f", b"f").finish();
    let own = {
        let info = world.store.info(&path);
        let fingerprint = loft::nix::Fingerprint::of_info(&StoreDir::default(), &info).unwrap();
        world.options.keys[0].sign(&fingerprint).to_string()
    };
    let other = format!("other-1:{}", data_encoding::BASE64.encode(&[2; 64]));
    world.store.sign(&path, &other);
    world.store.sign(&path, &own);
    world.push(&[&path]).await.unwrap();
    let visible: Vec<NarInfo> = world.check();
    let mut signatures: Vec<String> = visible[0].signatures.iter().map(ToString::to_string).collect();
    signatures.sort();
    let mut expected = vec![other, own];
    expected.sort();
    assert_eq!(signatures, expected);
}

#[tokio::test]
async fn the_first_push_says_what_the_bucket_is() {
    let mut world = World::new();
    let path = world.store.add("p").file("f", b"f").finish();
    world.options.upstreams = vec!["cache.nixos.org-1".into()];
    world.push(&[&path]).await.unwrap();
    let contents = world.bucket.contents();
    let (_, bytes) = contents.iter().find(|(key, _)| key.as_str() == "loft/v1/bucket.json").unwrap();
    let record = BucketRecord::parse("loft/v1/bucket.json", bytes).unwrap();
    assert_eq!(record.upstreams, ["cache.nixos.org-1"]);
    // A second push leaves it as it is.
    world.options.trust_ledger = false;
    world.push(&[&path]).await.unwrap();
    assert_eq!(world.bucket.contents().iter().find(|(key, _)| key.as_str() == "loft/v1/bucket.json").unwrap().1, bytes);
}

#[tokio::test]
async fn externals_are_recorded_with_every_push() {
    let mut world = World::new();
    let signature = upstream(&mut world, "cache.nixos.org-1");
    let glibc = world.store.add("glibc").file("x", b"x").signature(&signature).finish();
    let app = world.store.add("app").file("y", b"y").reference(&glibc).finish();
    world.declare_external(std::slice::from_ref(&glibc));
    world.push(&[&app]).await.unwrap();
    world.bucket.lose(&world.keys("loft/v1/push/")[0]);
    world.options.trust_ledger = false;
    world.push(&[&app]).await.unwrap();
    assert_eq!(record(&world, &world.keys("loft/v1/push/")[0]).external, [glibc]);
}

#[tokio::test]
async fn a_root_from_upstream_is_stood_for_by_what_is_below_it() {
    let mut world = World::new();
    let signature = upstream(&mut world, "cache.nixos.org-1");
    let deep = world.store.add("deep").file("z", b"z").finish();
    let own = world.store.add("own").file("x", b"x").reference(&deep).finish();
    let root = world.store.add("root").file("y", b"y").reference(&own).signature(&signature).finish();
    world.options.pin = Some(loft::push::Pin { name: "keep".into(), keep: loft::record::Keep::Forever });
    assert_eq!(world.push(&[&root]).await.unwrap().pushed, 2);
    assert_eq!(record(&world, &world.keys("loft/v1/push/")[0]).roots, [own]);
    assert_eq!(world.keys("loft/v1/pin/keep/").len(), 1);
}

#[tokio::test]
async fn a_whole_store_beside_upstream_is_cheap_again() {
    let mut world = World::new();
    let signature = upstream(&mut world, "cache.nixos.org-1");
    let glibc = world.store.add("glibc").file("x", b"x").signature(&signature).finish();
    world.store.add("app").file("y", b"y").reference(&glibc).finish();
    world.declare_external(std::slice::from_ref(&glibc));
    world.request(Request::WholeStore).await.unwrap();
    world.request(Request::WholeStore).await.unwrap();
    let requests = world.bucket.requests();
    assert!(requests.len() <= 5, "{} requests: {requests:?}", requests.len());
}

#[tokio::test]
async fn bytes_are_charged_to_a_path_that_landed() {
    let world = World::new();
    let bad = world.store.add("bad").file("z", b"z").finish();
    let a = world.store.add("a").file("same", vec![3; 4000]).finish();
    let b = world.store.add("b").file("same", vec![3; 4000]).reference(&bad).finish();
    world.store.delete_files(&bad);
    let summary = world.push(&[&a, &b]).await.unwrap();
    assert!(summary.pushed == 1 && summary.reused == 0 && summary.file_size > 0, "{summary:?}");
}

#[tokio::test]
async fn what_is_excluded_stays_out_with_its_referrers() {
    let mut world = World::new();
    let [base, lib, tool, app] = small(&world);
    world.options.policy.exclude = vec![Pattern::parse("lib*").unwrap()];
    let summary = world.push(&[&app]).await.unwrap();
    assert_eq!((summary.pushed, summary.ignored), (2, 2));
    assert_eq!(world.visible(), set(&[base, tool]));
    assert!(matches!(world.outcome(&lib), Outcome::Ignored { why } if why.contains("lib*")));
}
