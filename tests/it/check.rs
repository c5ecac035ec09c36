//! Checks of a bucket: a sound one is called so, and whatever is planted is found (T10).

use crate::support::checking::{Checker, field, nar_key, narinfo_key, text};
use crate::support::closures::{chain, small};
use crate::support::pruning::DAY;
use crate::support::world::World;
use loft::bucket::RequestKind;
use loft::check::{Kind, Portion, Severity};
use loft::ledger::Ledger;
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
