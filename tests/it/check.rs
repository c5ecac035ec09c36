//! Checks of a bucket: a sound one is called so, and whatever is planted is found (T10).

use crate::support::checking::{Checker, field, nar_key, narinfo_key, text};
use crate::support::closures::{chain, small};
use crate::support::memory::Memory;
use crate::support::pruning::DAY;
use crate::support::world::World;
use loft::bucket::{LifecycleRule, RequestKind};
use loft::check::{Kind, Portion, Severity};
use loft::ledger::Ledger;
use loft::nix::{BuildId, DebugLink, NarUrl};
use std::collections::BTreeSet;
use std::sync::Arc;

/// References of the fixtures are made up: their files do not name them.
fn but_references(kinds: BTreeSet<Kind>) -> BTreeSet<Kind> {
    kinds.into_iter().filter(|kind| *kind != Kind::ReferenceNotInData).collect()
}

#[tokio::test]
async fn a_sound_bucket_is_clean() {
    let world = World::new();
    let paths = chain(&world, 40);
    world.push(&[paths.last().unwrap()]).await.unwrap();
    let told = Checker::new(&world).run().await;
    assert_eq!(but_references(told.kinds()), BTreeSet::new(), "{told:?}");
    let counts = &told.checked.counts;
    assert_eq!((counts.paths, counts.nars, counts.read, counts.remembered), (40, 40, 40, 0));
    assert!(counts.read_bytes == counts.stored && counts.stored > 0);
    // Nothing but the probe was written, and that is gone.
    assert_eq!(world.keys("loft/v1/probe/"), Vec::<String>::new());
}

#[tokio::test]
async fn a_second_check_reads_nothing_twice() {
    let world = World::new();
    let paths = chain(&world, 30);
    world.push(&[paths.last().unwrap()]).await.unwrap();
    let checker = Checker::new(&world);
    let read = |key: &str| {
        let requests = world.bucket.requests();
        let is_read = |kind| matches!(kind, RequestKind::Get);
        requests.iter().filter(|sent| is_read(sent.kind) && sent.on.contains(key)).count()
    };
    checker.run().await;
    world.bucket.forget_requests();
    let told = checker.run().await;
    assert_eq!((read(".narinfo"), read("nar/")), (0, 0));
    assert_eq!((told.checked.counts.read, told.checked.counts.remembered), (0, 30));

    // After a day the data is read again, and so is what changed.
    world.pass(2 * DAY);
    let told = checker.run().await;
    assert_eq!((told.checked.counts.read, told.checked.counts.remembered), (30, 0));
    let key = nar_key(&world, &paths[3]);
    let mut damaged = world.bucket.contents()[&loft::bucket::Key::listed(&key)].to_vec();
    damaged[9] ^= 1;
    world.bucket.plant(&key, damaged);
    let told = checker.run().await;
    assert_eq!((told.checked.counts.read, told.checked.counts.remembered), (1, 29));
    assert_eq!(told.bad(), BTreeSet::from([Kind::NarData]));
    // What is damaged is never remembered.
    assert_eq!(checker.run().await.bad(), BTreeSet::from([Kind::NarData]));
    world.forgive();
}

#[tokio::test]
async fn slices_read_all_between_them_and_samples_some() {
    let world = World::new();
    let paths = chain(&world, 60);
    world.push(&[paths.last().unwrap()]).await.unwrap();
    let mut checker = Checker::new(&world);
    checker.options.read_again = true;
    let mut sum = 0;
    for n in 1..=4 {
        checker.options.read_data = Some(Portion::Slice { n, m: 4 });
        let read = checker.run().await.checked.counts.read;
        assert!(read < 40, "{read}");
        sum += read;
    }
    assert_eq!(sum, 60);
    checker.options.read_data = Some(Portion::Percent(50.0));
    let read = checker.run().await.checked.counts.read;
    assert!((5..=55).contains(&read), "{read}");
}

#[tokio::test]
async fn references_are_judged_by_what_records_say() {
    let world = World::new();
    let [_, lib, _, app] = small(&world);
    world.push(&[&app]).await.unwrap();
    let mut checker = Checker::new(&world);
    world.bucket.lose(&narinfo_key(&lib));
    let told = checker.run().await;
    let found = told.of(Kind::ReferenceMissing);
    assert_eq!((found.len(), found[0].path.as_ref()), (1, Some(&lib)), "{told:?}");
    assert!(found[0].problem.contains(app.as_str()));
    // Other caches do not help: the record of this very push would name lib, had it been left to them.
    checker.options.upstreams = vec!["cache.nixos.org-1".into()];
    assert_eq!(checker.run().await.bad(), BTreeSet::from([Kind::ReferenceMissing]));
    // Once that record has expired nobody can tell.
    for key in world.keys("loft/v1/push/") {
        world.bucket.lose(&key);
    }
    let told = checker.run().await;
    assert_eq!((told.bad(), told.of(Kind::ReferenceUnexplained).len()), (BTreeSet::new(), 1));
    // Without other caches it is damage all the same.
    checker.options.upstreams = Vec::new();
    assert_eq!(checker.run().await.bad(), BTreeSet::from([Kind::ReferenceMissing]));
    world.forgive();
}

#[tokio::test]
async fn logs_and_links_that_are_of_no_use_are_told() {
    let world = World::new();
    let derivation = world.store.missing("app.drv");
    let [mine, other] = ["mine", "other"].map(|name| {
        let id = BuildId::parse(&loft::nix::Sha256::of(name.as_bytes()).to_hex()[..40]).unwrap();
        (format!("debuginfo/{id}"), id)
    });
    let app = world.store.add("app").file("f", b"f").deriver(&derivation).finish();
    world.push(&[&app]).await.unwrap();
    let nar = NarUrl::parse(&nar_key(&world, &app)).unwrap();
    world.bucket.plant(&format!("log/{derivation}"), "built");
    world.bucket.plant(&mine.0, DebugLink { nar: nar.clone(), id: mine.1 }.print());
    // Foreign, and never spoken of.
    world.bucket.plant("log/notes", "mine");
    world.bucket.plant("debuginfo/readme", "mine");
    let checker = Checker::new(&world);
    assert_eq!(checker.run().await.kinds(), BTreeSet::new());

    let failed = format!("log/{}", world.store.missing("failed.drv"));
    world.bucket.plant(&failed, "it failed");
    let foreign = format!("{}.debug", other.0);
    let gone = NarUrl::parse("nar/gone.nar.xz").unwrap();
    world.bucket.plant(&foreign, DebugLink { nar: gone, id: other.1.clone() }.print());
    world.bucket.plant(&other.0, "{}");
    let told = checker.run().await;
    let objects = |kind| told.of(kind).iter().map(|finding| finding.object.clone()).collect::<Vec<_>>();
    assert_eq!(objects(Kind::LogUnreferenced), [failed]);
    assert_eq!(objects(Kind::DebugInfoDangling), std::slice::from_ref(&foreign));
    assert_eq!(objects(Kind::DebugInfoMalformed), std::slice::from_ref(&other.0));
    assert_eq!((told.findings.len(), told.checked.is_clean()), (3, true));
    // A push in progress writes the log before the narinfo.
    assert!(told.of(Kind::LogUnreferenced)[0].problem.contains("a push may be about to"));
    world.pass(2 * DAY);
    assert!(!checker.run().await.of(Kind::LogUnreferenced)[0].problem.contains("push"));
    // What is too large for a link is known to be none without reading it.
    world.bucket.plant(&other.0, "x".repeat(1 << 20));
    world.bucket.forget_requests();
    assert_eq!(checker.run().await.of(Kind::DebugInfoMalformed).len(), 1);
    assert!(world.bucket.requests().iter().all(|sent| sent.on != other.0));

    // Nothing points at this NAR, but it is there.
    let bytes = world.bucket.object(nar.as_str()).unwrap();
    let left = NarUrl::parse("nar/left.nar.zst").unwrap();
    world.bucket.plant(left.as_str(), bytes);
    world.bucket.plant(&foreign, DebugLink { nar: left, id: other.1.clone() }.print());
    assert_eq!(checker.run().await.of(Kind::DebugInfoDangling).len(), 0);
    // Where a narinfo is damaged, no log is called useless.
    world.bucket.plant(&narinfo_key(&app), "damaged");
    assert_eq!(checker.run().await.of(Kind::LogUnreferenced).len(), 0);
    world.forgive();
}

#[tokio::test]
async fn who_may_not_list_logs_is_told_so() {
    use crate::support::memory::{Fault, Moment};
    let world = World::new();
    let [.., app] = small(&world);
    world.push(&[&app]).await.unwrap();
    for prefix in ["log/", "debuginfo/"] {
        for (fault, is_told) in [(Fault::Denied, true), (Fault::Unreachable, false)] {
            world.set_faults(move |moment, sent| {
                let hit = moment == Moment::Before && sent.kind == RequestKind::List && sent.on == prefix;
                hit.then(|| fault.clone())
            });
            match Checker::new(&world).try_run().await {
                Ok(told) => assert!(is_told && told.of(Kind::CouldNotTell)[0].object == prefix, "{told:?}"),
                Err(error) => assert!(!is_told, "{error}"),
            }
        }
    }
}

#[tokio::test]
async fn what_cannot_be_looked_at_is_not_clean() {
    use crate::support::memory::{Fault, Moment};
    let world = World::new();
    let [.., app] = small(&world);
    world.push(&[&app]).await.unwrap();
    let url = nar_key(&world, &app);
    assert!(!field(&text(&world, &narinfo_key(&app)), "NarHash").is_empty());
    for (kind, on) in [
        (RequestKind::List, ""),
        (RequestKind::List, "nar/"),
        (RequestKind::List, "loft/v1/push/"),
        (RequestKind::Get, "nix-cache-info"),
        (RequestKind::Get, &narinfo_key(&app)),
        (RequestKind::Get, &url),
    ] {
        let on = on.to_owned();
        world.set_faults(move |moment, sent| {
            (moment == Moment::Before && sent.kind == kind && sent.on == on).then_some(Fault::Denied)
        });
        let mut checker = Checker::new(&world);
        checker.ledger = Arc::new(Ledger::in_memory());
        let result = checker.try_run().await;
        assert!(result.is_err(), "{kind:?}");
    }
    // What only a probe is refused is no failure.
    world.set_faults(|moment, sent| {
        (moment == Moment::Before && sent.on.starts_with("loft/v1/probe")).then_some(Fault::Denied)
    });
    let told = Checker::new(&world).run().await;
    assert_eq!(told.checked.counts.of(Severity::Damage), 0);
    assert_eq!(told.of(Kind::CouldNotTell).len(), 1);
}

#[tokio::test]
async fn rules_by_which_the_store_deletes_are_told() {
    let rule = |id: &str, expires: Option<&str>, aborts_uploads_after| LifecycleRule {
        id: id.to_owned(),
        prefix: "nar/".to_owned(),
        expires: expires.map(str::to_owned),
        archives: None,
        aborts_uploads_after,
    };
    let mut memory = Memory::garage();
    memory.lifecycle =
        vec![rule("old", Some("after 90 days"), None), rule("uploads", None, Some(7)), rule("hasty", None, Some(1))];
    let world = World::with(memory);
    let [.., app] = small(&world);
    world.push(&[&app]).await.unwrap();
    let told = Checker::new(&world).run().await;
    let problem = |kind| told.of(kind).iter().map(|finding| finding.problem.clone()).collect::<Vec<_>>().join("\n");
    assert!(problem(Kind::LifecycleExpires).contains("\"old\"") && problem(Kind::LifecycleExpires).contains("90 days"));
    assert!(problem(Kind::LifecycleAborts).contains("\"hasty\""), "{told:?}");
    assert_eq!((told.of(Kind::LifecycleExpires).len(), told.of(Kind::LifecycleAborts).len()), (1, 1));
    assert_eq!(told.checked.quirks.as_ref().unwrap().conditional_writes, Some(false));
    // Nothing is broken yet.
    assert!(told.checked.is_clean());
}

#[tokio::test]
async fn caches_that_nix_wrote_are_in_order() {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/nix-caches");
    let mut caches = 0;
    for nix in ["nix-2.8", "nix-2.26", "nix-2.34", "signed-2.8"] {
        let key = std::fs::read_to_string(folder.join(nix).join("public-key")).unwrap();
        for cache in std::fs::read_dir(folder.join(nix)).unwrap().map(|entry| entry.unwrap().path()) {
            if !cache.is_dir() {
                continue;
            }
            caches += 1;
            let world = World::new();
            world.bucket.clear_hook();
            let mut paths = 0;
            for (key, bytes) in files(&cache) {
                paths += u64::from(key.ends_with(".narinfo"));
                world.bucket.plant(&key, bytes);
            }
            if world.keys("nix-cache-info").is_empty() {
                world.bucket.plant("nix-cache-info", &b"StoreDir: /nix/store\n"[..]);
            }
            let mut checker = Checker::new(&world);
            checker.options.public_keys = vec![loft::nix::PublicKey::parse(&key).unwrap()];
            // Only some paths of each closure were kept.
            checker.options.upstreams = vec!["elsewhere".into()];
            let told = checker.run().await;
            let cache = cache.display();
            assert_eq!(told.bad(), BTreeSet::new(), "{cache}: {told:#?}");
            assert_eq!(told.of(Kind::NarInfoUnusual).len(), 0, "{cache}: {told:#?}");
            assert!(told.checked.counts.paths == paths && paths > 0, "{cache}");
        }
    }
    assert!(caches >= 10, "{caches}");
}

/// Files below a folder, by their names from there.
fn files(folder: &std::path::Path) -> Vec<(String, Vec<u8>)> {
    let mut found = Vec::new();
    let mut open = vec![folder.to_owned()];
    while let Some(path) = open.pop() {
        for entry in std::fs::read_dir(&path).unwrap() {
            let path = entry.unwrap().path();
            match path.is_dir() {
                true => open.push(path),
                false => {
                    let key = path.strip_prefix(folder).unwrap().to_str().unwrap().to_owned();
                    found.push((key, std::fs::read(path).unwrap()));
                }
            }
        }
    }
    found
}

#[tokio::test]
async fn a_hundred_thousand_orphans_are_told_one_by_one() {
    let world = World::new();
    let [.., app] = small(&world);
    world.push(&[&app]).await.unwrap();
    world.bucket.clear_hook();
    for n in 0..100_000 {
        world.bucket.plant(&format!("nar/{n}.nar.zst"), &b"x"[..]);
    }
    let told = Checker::new(&world).run().await;
    assert_eq!((told.of(Kind::NarUnreferenced).len(), told.bad()), (100_000, BTreeSet::new()));
    assert_eq!(told.checked.counts.nars, 100_004);
}

#[tokio::test]
async fn as_many_references_as_a_narinfo_can_hold_are_looked_for() {
    let world = World::new();
    let [.., app] = small(&world);
    world.push(&[&app]).await.unwrap();
    world.bucket.clear_hook();
    let key = narinfo_key(&app);
    let references: Vec<String> =
        (0..100_000u64).map(|n| format!("{}-x", &loft::nix::Sha256::of(&n.to_le_bytes()).to_nix32()[..32])).collect();
    let old = text(&world, &key);
    let start = old.find("References: ").unwrap();
    let end = start + old[start..].find('\n').unwrap();
    world.bucket.plant(&key, format!("{}References: {}{}", &old[..start], references.join(" "), &old[end..]));
    let told = Checker::new(&world).run().await;
    assert_eq!(told.bad(), BTreeSet::from([Kind::SignatureInvalid, Kind::ReferenceMissing]));
    assert_eq!(told.of(Kind::ReferenceMissing).len(), 100_000);
    let finding = told.findings.iter().map(|finding| finding.problem.len()).max();
    assert!(finding.unwrap() < 1000, "{finding:?}");
}

#[tokio::test]
async fn a_path_that_a_push_relies_on_is_not_taken_out() {
    let world = World::new();
    let [base, .., app] = small(&world);
    world.push(&[&app]).await.unwrap();
    world.bucket.clear_hook();
    world.bucket.plant(&narinfo_key(&base), &b"garbage"[..]);
    let lease = loft::record::LeaseRecord::new("somebody@else".into(), 1, vec![app.hash_part()]);
    world.bucket.plant("loft/v1/lease/01ARZ3NDEKTSV4RRFFQ69G5FAV", lease.print());
    let checker = Checker::new(&world);
    let told = checker.run().await;
    let before = world.keys("");
    let mended = checker.repair(&told.checked, false).await.unwrap();
    assert_eq!((mended.removed.len(), mended.failed.len()), (0, 1), "{mended:?}");
    assert_eq!(world.keys(""), before);
    // With the push over, it goes.
    world.bucket.lose("loft/v1/lease/01ARZ3NDEKTSV4RRFFQ69G5FAV");
    let mended = checker.repair(&told.checked, false).await.unwrap();
    assert_eq!((mended.removed.len(), mended.failed.len()), (3, 0), "{mended:?}");
    // Referrers go first.
    assert_eq!((mended.removed[0], mended.removed[2]), (app.hash_part(), base.hash_part()));
}

#[tokio::test]
async fn repairs_refuse_what_prunes_refuse() {
    let world = World::new();
    let [base, .., app] = small(&world);
    world.push(&[&app]).await.unwrap();
    world.bucket.clear_hook();
    world.bucket.plant(&narinfo_key(&base), &b"garbage"[..]);
    let checker = Checker::new(&world);
    let told = checker.run().await;
    let sweep = loft::record::SweepRecord::new("prune@there".into(), 300, Vec::new());
    world.bucket.plant("loft/v1/sweep/01ARZ3NDEKTSV4RRFFQ69G5FAV", sweep.print());
    let before = world.bucket.contents();
    assert!(checker.repair(&told.checked, true).await.is_err());
    world.bucket.lose("loft/v1/sweep/01ARZ3NDEKTSV4RRFFQ69G5FAV");
    world.bucket.clock.advance(std::time::Duration::from_secs(3600));
    let error = checker.repair(&told.checked, true).await.unwrap_err();
    assert!(matches!(error, loft::check::CheckError::Prune(_)), "{error}");
    assert_eq!(checker.run().await.of(Kind::Clock).len(), 1);
    assert_eq!(world.bucket.contents().len(), before.len() - 1);
}

#[tokio::test]
async fn what_somebody_mended_meanwhile_is_left_alone() {
    let world = World::new();
    let [base, .., app] = small(&world);
    world.push(&[&app]).await.unwrap();
    world.bucket.clear_hook();
    let sound = world.bucket.contents();
    let key = narinfo_key(&base);
    world.bucket.plant(&key, &b"garbage"[..]);
    let checker = Checker::new(&world);
    let told = checker.run().await;
    world.bucket.plant(&key, sound[&loft::bucket::Key::listed(&key)].clone());
    let mended = checker.repair(&told.checked, false).await.unwrap();
    assert_eq!(mended.removed, []);
    assert_eq!(checker.run().await.bad(), BTreeSet::new());
}
