//! Pins: made under a lease, for what is in the cache alone.

use crate::support::closures::small;
use crate::support::memory::Moment;
use crate::support::pruning::{DAY, Pruner};
use crate::support::world::World;
use loft::bucket::RequestKind;
use loft::nix::StorePath;
use loft::pin::{self, PinError};
use loft::push::{Interrupt, Lessee};
use loft::record::Keep;

fn lessee(world: &World) -> Lessee {
    let ends = world.ends();
    let (bucket, clock, report) = (ends.bucket, ends.clock, ends.report);
    Lessee { bucket, clock, report, who: "pin@here".to_owned(), interrupt: Interrupt::default() }
}

async fn add(world: &World, name: &str, root: &StorePath, keep: Keep) -> Result<(), PinError> {
    pin::add(&lessee(world), name, vec![root.clone()], keep).await
}

#[tokio::test]
async fn pins_are_listed_with_their_rules_and_removed_by_name() {
    let world = World::new();
    let [base, lib, _, app] = small(&world);
    world.push(&[&app]).await.unwrap();
    add(&world, "release", &app, Keep::Forever).await.unwrap();
    for root in [&base, &lib, &app] {
        world.pass(DAY);
        add(&world, "nightly", root, Keep::Last(2)).await.unwrap();
    }
    add(&world, "brief", &base, Keep::Days(1)).await.unwrap();
    world.pass(2 * DAY);
    let ends = world.ends();
    let found: Vec<(String, bool, StorePath)> = pin::list(ends.bucket.as_ref())
        .await
        .unwrap()
        .into_iter()
        .map(|pin| (pin.name, pin.holds, pin.roots[0].clone()))
        .collect();
    let expected = [
        ("brief", false, &base),
        ("nightly", true, &app),
        ("nightly", true, &lib),
        ("nightly", false, &base),
        ("release", true, &app),
    ];
    assert_eq!(found, expected.map(|(name, holds, root)| (name.to_owned(), holds, root.clone())));
    assert_eq!(world.keys("loft/v1/lease/"), Vec::<String>::new());

    assert_eq!(pin::remove(ends.bucket.as_ref(), "nightly", 1).await.unwrap(), 2);
    assert_eq!(pin::remove(ends.bucket.as_ref(), "nightly", 0).await.unwrap(), 1);
    assert!(matches!(pin::remove(ends.bucket.as_ref(), "nightly", 0).await, Err(PinError::NoPin(_))));
    assert_eq!(pin::list(ends.bucket.as_ref()).await.unwrap().len(), 2);
}

#[tokio::test]
async fn what_is_not_in_the_cache_is_not_pinned() {
    let world = World::new();
    let [.., app] = small(&world);
    world.push(&[&app]).await.unwrap();
    let missing = world.store.missing("missing");
    let error = add(&world, "x", &missing, Keep::Forever).await.unwrap_err();
    assert!(error.to_string().contains("missing"), "{error}");
    // Somebody deletes it while the pin is written.
    let (bucket, key) = (world.bucket.clone(), format!("{}.narinfo", app.hash_part()));
    world.set_faults(move |moment, sent| {
        if sent.kind == RequestKind::Put && sent.on.starts_with("loft/v1/pin/") && moment == Moment::After {
            bucket.lose(&key);
        }
        None
    });
    assert!(matches!(add(&world, "x", &app, Keep::Forever).await, Err(PinError::Absent(_))));
    assert_eq!(world.keys("loft/v1/pin/"), Vec::<String>::new());
}

#[tokio::test]
async fn a_pinned_closure_survives_a_prune() {
    let world = World::new();
    let paths = small(&world);
    world.push(&[&paths[3]]).await.unwrap();
    world.pass(29 * DAY);
    add(&world, "release", &paths[3], Keep::Forever).await.unwrap();
    world.pass(100 * DAY);
    assert_eq!(Pruner::new(&world).run().await.removed.len(), 0);
    pin::remove(world.ends().bucket.as_ref(), "release", 0).await.unwrap();
    let mut pruner = Pruner::new(&world);
    pruner.options.remove_most = true;
    assert_eq!(pruner.run().await.removed.len(), 4);
}
