//! Signing what is there already: who is believed, and what is never signed.

use crate::support::checking::{Checker, bytes, nar_key, narinfo_key, set_field};
use crate::support::closures::small;
use crate::support::world::World;
use loft::check::Kind;
use loft::nix::{KeyName, NarInfo, PublicKey, SecretKey, StoreDir, StorePath};
use loft::push::Interrupt;
use loft::sign::{self, Ends, Options, Summary};
use std::sync::Arc;

fn key(name: &str) -> SecretKey {
    SecretKey::generate(KeyName::parse(name).unwrap()).unwrap()
}

async fn run(world: &World, keys: Arc<[SecretKey]>, trusted: Vec<PublicKey>, read_data: bool) -> Summary {
    let options =
        Options { keys, trusted, read_data, dry_run: false, who: "sign@here".into(), interrupt: Interrupt::default() };
    try_run(world, &options).await
}

async fn try_run(world: &World, options: &Options) -> Summary {
    let ends = world.ends();
    let told = Arc::new(|_: &StorePath, _: &sign::Fate| {});
    let ends = Ends { bucket: ends.bucket, ledger: ends.ledger, clock: ends.clock, report: ends.report, told };
    sign::sign(&ends, options).await.unwrap()
}

fn signers(world: &World, path: &StorePath) -> Vec<String> {
    let info = NarInfo::parse(&StoreDir::default(), &bytes(world, &narinfo_key(path))).unwrap();
    info.signatures.iter().map(|signature| signature.key().to_string()).collect()
}

#[tokio::test]
async fn a_new_key_signs_what_the_old_one_has_signed() {
    let world = World::new();
    let [base, lib, tool, app] = small(&world);
    world.push(&[&app]).await.unwrap();
    let old: Vec<PublicKey> = world.options.keys.iter().map(SecretKey::public).collect();
    let new: Arc<[SecretKey]> = [key("test-2")].into();
    let public = new[0].public();
    let before = world.bucket.contents();

    let dry = Options {
        keys: new.clone(),
        trusted: old.clone(),
        read_data: false,
        dry_run: true,
        who: "x".into(),
        interrupt: Interrupt::default(),
    };
    assert_eq!(try_run(&world, &dry).await, Summary { paths: 4, would_sign: 4, ..Summary::default() });
    assert_eq!(world.bucket.contents(), before);
    // Nobody is believed but those who are named.
    let summary = run(&world, new.clone(), vec![public.clone()], false).await;
    assert_eq!(summary, Summary { paths: 4, untrusted: 4, ..Summary::default() });
    assert_eq!(world.bucket.contents(), before);

    let summary = run(&world, new.clone(), old, false).await;
    assert_eq!(summary, Summary { paths: 4, signed: 4, ..Summary::default() });
    for path in [&base, &lib, &tool, &app] {
        assert_eq!(signers(&world, path), ["test-1", "test-2"]);
    }
    // The oracle has looked at every state; leases are gone, and the new key alone satisfies a check.
    world.check();
    assert_eq!(world.keys("loft/v1/lease/"), Vec::<String>::new());
    let mut checker = Checker::new(&world);
    checker.options.public_keys = vec![public];
    let told = checker.run().await;
    assert!(told.bad().is_empty() && told.of(Kind::Unsigned).is_empty(), "{told:?}");
    let again = run(&world, new, Vec::new(), false).await;
    assert_eq!(again, Summary { paths: 4, had: 4, ..Summary::default() });
}

#[tokio::test]
async fn nothing_is_signed_whose_data_is_not_known_to_be_good() {
    let mut world = World::new();
    world.options.keys = [].into();
    let [base, lib, tool, app] = small(&world);
    world.push(&[&app]).await.unwrap();
    world.bucket.clear_hook();
    let mut damaged = bytes(&world, &nar_key(&world, &lib));
    damaged[20] ^= 1;
    world.bucket.plant(&nar_key(&world, &lib), damaged);
    set_field(&world, &tool, "NarSize", "112");
    set_field(&world, &app, "FileSize", "1");
    let new: Arc<[SecretKey]> = [key("test-2")].into();
    let summary = run(&world, new.clone(), vec![new[0].public()], false).await;
    assert_eq!(summary, Summary { paths: 4, untrusted: 4, ..Summary::default() });
    let summary = run(&world, new, Vec::new(), true).await;
    assert_eq!(summary, Summary { paths: 4, signed: 1, failed: 3, ..Summary::default() });
    assert_eq!(signers(&world, &base), ["test-2"]);
    for path in [&lib, &tool, &app] {
        assert_eq!(signers(&world, path), Vec::<String>::new());
    }
}

#[tokio::test]
async fn a_forged_signature_is_not_believed_and_is_replaced() {
    let world = World::new();
    let [base, ..] = small(&world);
    world.push(&[&base]).await.unwrap();
    world.bucket.clear_hook();
    let info = NarInfo::parse(&StoreDir::default(), &bytes(&world, &narinfo_key(&base))).unwrap();
    let forged = key("test-1").sign(&info.fingerprint(&StoreDir::default()));
    set_field(&world, &base, "Sig", &forged.to_string());
    let own: Vec<PublicKey> = world.options.keys.iter().map(SecretKey::public).collect();
    let summary = run(&world, world.options.keys.clone(), own.clone(), false).await;
    assert_eq!((summary.untrusted, summary.signed), (1, 0));
    let summary = run(&world, world.options.keys.clone(), own, true).await;
    assert_eq!((summary.untrusted, summary.signed), (0, 1));
    assert_eq!(signers(&world, &base), ["test-1"]);
    assert!(Checker::new(&world).run().await.bad().is_empty());
}
