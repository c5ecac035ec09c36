//! Damage to what machines leave for each other: pushes, pins, leases, trash, the bucket's own record.

use super::case::{case, run};
use super::ground::Ground;
use super::zstd;
use crate::support::checking::{Checker, bytes, field, nar_key, narinfo_key, text};
use crate::support::closures::small;
use crate::support::pruning::{DAY, Pruner};
use crate::support::world::World;
use loft::check::Kind;
use loft::record::{Keep, LeaseRecord, PinRecord, seconds};
use std::collections::BTreeSet;
use std::time::Duration;

const ID: &str = "01ARZ3NDEKTSV4RRFFQ69G5FAV";

fn pin_to_nothing(ground: &Ground, keep: Keep) {
    let now = seconds(loft::clock::Clock::wall(ground.world.clock.as_ref()));
    let roots = vec![ground.world.store.missing("gone")];
    let pin = PinRecord::new("x".into(), now, roots, keep);
    ground.world.bucket.plant(&format!("loft/v1/pin/name/{ID}"), pin.print());
}

/// The one damage that no repair can mend without a copy: it says so, and the pin stays.
#[tokio::test]
async fn what_a_pin_keeps_comes_back_where_there_is_a_copy() {
    let ground = Ground::new().await;
    pin_to_nothing(&ground, Keep::Forever);
    let checker = Checker::new(&ground.world);
    let told = checker.run().await;
    assert_eq!(told.bad(), BTreeSet::from([Kind::PinnedMissing]));
    let mended = checker.repair(&told.checked, true).await.unwrap();
    assert!(mended.failed.len() == 1 && mended.failed[0].1.contains("remove the pin"), "{mended:?}");
    assert_eq!(ground.world.keys("loft/v1/pin/").len(), 1);
    // From another cache it may come, and then nothing is amiss.
    let mut elsewhere = Checker::new(&ground.world);
    elsewhere.options.upstreams = vec!["elsewhere".into()];
    let told = elsewhere.run().await;
    assert!(told.bad().is_empty() && told.of(Kind::PinEmpty).len() == 1, "{told:?}");

    for has_store in [true, false] {
        let world = World::new();
        let [base, ..] = small(&world);
        world.push(&[&base]).await.unwrap();
        let pin = PinRecord::new("x".into(), 1, vec![base.clone()], Keep::Forever);
        if has_store {
            world.bucket.lose(&narinfo_key(&base));
        } else {
            world.pass(40 * DAY);
            let mut pruner = Pruner::new(&world);
            pruner.options.remove_most = true;
            assert_eq!(pruner.run().await.removed.len(), 1);
        }
        world.forgive();
        world.bucket.plant(&format!("loft/v1/pin/name/{ID}"), pin.print());
        let checker = Checker::new(&world);
        let told = checker.run().await;
        assert_eq!(told.bad(), BTreeSet::from([Kind::PinnedMissing]));
        let mended = checker.repair(&told.checked, has_store).await.unwrap();
        assert!(mended.is_complete(), "{mended:?}");
        assert!(world.visible().contains(&base) && checker.run().await.checked.is_clean(), "{mended:?}");
    }
}

#[tokio::test]
async fn garbled_records() {
    let planted = |name: &'static str, expected: &[Kind], key: String, contents: Vec<u8>| {
        case(name, expected, move |ground| ground.world.bucket.plant(&key, contents.clone()))
    };
    let lease = |age: Duration, contents: Vec<u8>| {
        move |ground: &Ground| {
            ground.world.bucket.plant(&format!("loft/v1/lease/{ID}"), contents.clone());
            ground.world.pass(age);
        }
    };
    let minutes = |minutes: u64| Duration::from_secs(60 * minutes);
    let unreadable = &[Kind::RecordUnreadable];
    let bomb = zstd(std::io::Read::take(std::io::repeat(b' '), 300 << 20));
    run(vec![
        planted("a push record of garbage", unreadable, format!("loft/v1/push/{ID}"), b"garbage".to_vec()),
        planted("an empty push record", unreadable, format!("loft/v1/push/{ID}"), Vec::new()),
        planted("a push record of nothing", unreadable, format!("loft/v1/push/{ID}"), b"{\"format\":1}".to_vec()),
        planted("a push record in bytes", unreadable, format!("loft/v1/push/{ID}"), vec![0xff; 50]),
        planted("a pin of garbage", unreadable, format!("loft/v1/pin/name/{ID}"), b"[]".to_vec()),
        planted(
            "a pin with a bad path",
            unreadable,
            format!("loft/v1/pin/name/{ID}"),
            b"{\"format\":1,\"who\":\"x\",\"at\":1,\"roots\":[\"../x\"],\"keep\":\"forever\"}".to_vec(),
        ),
        case("a lease of garbage", unreadable, lease(minutes(40), b"garbage".to_vec())),
        case("a lease that is a bomb", unreadable, lease(minutes(40), bomb.clone())),
        case("bucket.json of garbage", &[Kind::BucketRecordUnreadable], |ground| {
            ground.world.bucket.plant("loft/v1/bucket.json", &b"{"[..]);
        }),
        case("nix-cache-info is lost", &[Kind::CacheInfoMissing], |ground| {
            ground.world.bucket.lose("nix-cache-info");
        }),
        planted(
            "nix-cache-info is a web page",
            &[Kind::CacheInfoMalformed],
            "nix-cache-info".into(),
            b"<html>".to_vec(),
        ),
        planted("nix-cache-info in bytes", &[Kind::CacheInfoMalformed], "nix-cache-info".into(), vec![0xff; 9]),
        planted(
            "nix-cache-info of a bad directory",
            &[Kind::CacheInfoMalformed],
            "nix-cache-info".into(),
            b"StoreDir: nix\n".to_vec(),
        ),
        planted(
            "nix-cache-info is too large",
            &[Kind::CacheInfoMalformed],
            "nix-cache-info".into(),
            vec![b'a'; 2 << 20],
        ),
        case(
            "all at once",
            &[
                Kind::CacheInfoMalformed,
                Kind::BucketRecordUnreadable,
                Kind::RecordUnreadable,
                Kind::NarMissing,
                Kind::NarInfoMalformed,
            ],
            |ground| {
                ground.world.bucket.plant("nix-cache-info", &b"<html>"[..]);
                ground.world.bucket.plant("loft/v1/bucket.json", &b"{"[..]);
                ground.world.bucket.plant(&format!("loft/v1/push/{ID}"), &b"{"[..]);
                ground.world.bucket.lose(&nar_key(&ground.world, &ground.base));
                ground.world.bucket.plant(&narinfo_key(&ground.twins[0]), &b"x"[..]);
            },
        ),
        // Notes and garbage.
        planted(
            "nix-cache-info says nothing",
            &[Kind::CacheInfoVague],
            "nix-cache-info".into(),
            b"Priority: 3\n".to_vec(),
        ),
        planted("trash of garbage", &[Kind::TrashUnreadable], format!("loft/v1/trash/{ID}"), b"garbage".to_vec()),
        planted("a sweep of garbage", &[Kind::SweepUnreadable], format!("loft/v1/sweep/{ID}"), b"garbage".to_vec()),
        case("a stale sweep", &[Kind::SweepStale], move |ground| {
            ground.world.bucket.plant(&format!("loft/v1/sweep/{ID}"), &b"garbage"[..]);
            ground.world.pass(minutes(12));
        }),
        case(
            "a stale lease",
            &[Kind::LeaseStale],
            lease(minutes(70), LeaseRecord::new("x".into(), 1, Vec::new()).print()),
        ),
        case("a stale lease of garbage", &[Kind::LeaseStale], lease(minutes(70), b"garbage".to_vec())),
        case("a pin to nothing that is over", &[], |ground| pin_to_nothing(ground, Keep::Days(0))),
        planted("an orphan", &[Kind::NarUnreferenced], "nar/orphan.nar.zst".into(), b"x".to_vec()),
        case("a lone listing", &[Kind::ListingUnreferenced], |ground| {
            let path = ground.world.store.missing("gone");
            ground.world.bucket.plant(&format!("{}.ls", path.hash_part()), &b"{}"[..]);
        }),
        case("a NAR twice", &[Kind::NarDuplicate], |ground| {
            let narinfo = text(&ground.world, &narinfo_key(&ground.twins[0]));
            let copy = bytes(&ground.world, field(&narinfo, "URL"));
            ground.world.bucket.plant("nar/copy.nar.zst", copy);
            ground.set(&ground.twins[0], "URL", "nar/copy.nar.zst");
        }),
    ])
    .await;
}
