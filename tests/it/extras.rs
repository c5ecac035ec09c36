//! What goes into the bucket beside a path: listings, build logs, links to debug information.

use crate::support::closures::{chain, set, small};
use crate::support::memory::{Fault, Moment};
use crate::support::world::World;
use bzip2::{Compression, read::BzEncoder};
use loft::bucket::{Headers, RequestKind};
use loft::nix::{NarInfo, StorePath};
use loft::push::{Extras, Interrupt};
use loft::report::Outcome;
use serde_json::{Value, json};
use std::io::Read as _;

const ALL: Extras = Extras { nar_listings: true, build_logs: true, debug_info: true };
const BUILD_ID: &str = "07ff23386799818e59ab23df9d6e5da46ac0d251";

fn world(extras: Extras) -> World {
    let mut world = World::new();
    world.options.extras = extras;
    world
}

fn bz2(text: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    BzEncoder::new(text, Compression::fast()).read_to_end(&mut bytes).unwrap();
    bytes
}

/// As Nix leaves it after a build.
fn put_log(world: &World, derivation: &StorePath, bytes: &[u8]) {
    let (first, rest) = derivation.as_str().split_at(2);
    let folder = world.store.root().join("nix/var/log/nix/drvs").join(first);
    std::fs::create_dir_all(&folder).unwrap();
    std::fs::write(folder.join(format!("{rest}.bz2")), bytes).unwrap();
}

fn debug_file() -> String {
    format!("lib/debug/.build-id/{}/{}.debug", &BUILD_ID[..2], &BUILD_ID[2..])
}

/// A path with all three, and what is expected of it.
fn built(world: &World) -> (StorePath, StorePath) {
    let derivation = world.store.missing("tool.drv");
    put_log(world, &derivation, &bz2(b"checking\nbuilding\n"));
    let path = world.store.add("tool").executable("bin/tool", b"#!").file(debug_file(), b"DWARF").deriver(&derivation);
    (path.finish(), derivation)
}

fn listing(world: &World, path: &StorePath) -> Value {
    let key = format!("{}.ls", path.hash_part());
    serde_json::from_slice(&world.bucket.object(&key).unwrap_or_else(|| panic!("no {key}"))).unwrap()
}

fn nar_info(world: &World, path: &StorePath) -> NarInfo {
    world.check().into_iter().find(|info| info.path == *path).unwrap()
}

#[tokio::test]
async fn all_that_was_asked_for_is_there_before_the_narinfo_is() {
    let world = world(ALL);
    let (path, derivation) = built(&world);
    let (narinfo, bucket) = (format!("{}.narinfo", path.hash_part()), world.bucket.clone());
    let extras = [format!("{}.ls", path.hash_part()), format!("log/{derivation}"), format!("debuginfo/{BUILD_ID}")];
    let wanted = extras.clone();
    world.set_faults(move |moment, request| {
        if moment == Moment::Before && request.on == narinfo && request.kind == RequestKind::Put {
            wanted.iter().for_each(|key| assert!(bucket.object(key).is_some(), "{key} comes after the narinfo"));
        }
        None
    });
    let summary = world.push(&[&path]).await.unwrap();
    assert_eq!((summary.pushed, summary.failed), (1, 0));

    let nar = world.store.nar(&path);
    let listed = listing(&world, &path);
    let file = &listed["root"]["entries"]["bin"]["entries"]["tool"];
    let offset = usize::try_from(file["narOffset"].as_u64().unwrap()).unwrap();
    assert_eq!((&nar[offset..offset + 2], file["executable"].as_bool()), (&b"#!"[..], Some(true)));
    assert_eq!(world.bucket.object(&extras[1]).unwrap(), "checking\nbuilding\n");
    let link: Value = serde_json::from_slice(&world.bucket.object(&extras[2]).unwrap()).unwrap();
    let archive = format!("../{}", nar_info(&world, &path).url);
    assert_eq!(link, json!({"archive": archive, "member": debug_file()}));
    for (key, headers) in extras.iter().zip([Headers::LISTING, Headers::LOG, Headers::DEBUG_INFO]) {
        assert_eq!(world.bucket.headers(key), Some(headers), "{key}");
    }
}

#[tokio::test]
async fn each_option_writes_its_own_objects_alone() {
    for (extras, expected) in [
        (Extras::default(), [0, 0, 0]),
        (Extras { nar_listings: true, ..Extras::default() }, [1, 0, 0]),
        (Extras { build_logs: true, ..Extras::default() }, [0, 1, 0]),
        (Extras { debug_info: true, ..Extras::default() }, [0, 0, 1]),
    ] {
        let world = world(extras);
        let (path, _) = built(&world);
        world.push(&[&path]).await.unwrap();
        let listings = world.keys("").into_iter().filter(|key| key.ends_with(".ls")).count();
        assert_eq!([listings, world.keys("log/").len(), world.keys("debuginfo/").len()], expected, "{extras:?}");
    }
}

#[tokio::test]
async fn a_path_without_what_it_asked_for_fails_and_lands_the_next_time() {
    for prefix in ["", "log/", "debuginfo/"] {
        let world = world(ALL);
        let (path, _) = built(&world);
        let referrer = world.store.add("referrer").file("f", "x").reference(&path).finish();
        let listing = format!("{}.ls", path.hash_part());
        world.set_faults(move |moment, request| {
            let is_it = if prefix.is_empty() { request.on == listing } else { request.on.starts_with(prefix) };
            (is_it && moment == Moment::Before).then_some(Fault::Denied)
        });
        let summary = world.push(&[&referrer]).await.unwrap();
        assert_eq!((summary.pushed, summary.failed), (0, 2), "{prefix}");
        assert!(matches!(world.outcome(&path), Outcome::Failed { blocked_by: None, .. }));
        assert!(world.visible().is_empty());
        world.set_faults(|_, _| None);
        let summary = world.push(&[&referrer]).await.unwrap();
        assert_eq!((summary.pushed, world.visible()), (2, set(&[path, referrer])), "{prefix}");
    }
}

#[tokio::test]
async fn a_log_is_sent_once_for_all_outputs_and_only_where_there_is_one() {
    let world = world(Extras { build_logs: true, ..Extras::default() });
    let derivation = world.store.missing("multi.drv");
    put_log(&world, &derivation, &bz2(b"once"));
    let outputs: Vec<StorePath> =
        ["out", "dev", "lib"].map(|name| world.store.add(name).file("f", name).deriver(&derivation).finish()).into();
    // From upstream, and so without a log here.
    let fetched = world.store.add("fetched").file("f", "z").deriver(&world.store.missing("other.drv")).finish();
    let all: Vec<&StorePath> = outputs.iter().chain([&fetched]).collect();
    let summary = world.push(&all).await.unwrap();
    assert_eq!(summary.pushed, 4);
    let sent = world.bucket.requests();
    let sent: Vec<_> = sent.iter().filter(|request| request.on.starts_with("log/")).collect();
    assert_eq!(sent.len(), 1, "{sent:?}");
    assert_eq!(world.keys("log/"), [format!("log/{derivation}")]);
    assert!(world.watcher.warnings.lock().unwrap().is_empty());
}

#[tokio::test]
async fn a_long_log_goes_up_in_parts_and_comes_out_whole() {
    let world = world(Extras { build_logs: true, ..Extras::default() });
    for size in [8 << 20, (20 << 20) + 5] {
        let derivation = world.store.missing("long.drv");
        let text: Vec<u8> = (0..size as u32).map(|n| b'a' + (n / 1000 % 26) as u8).collect();
        put_log(&world, &derivation, &bz2(&text));
        let path = world.store.add("long").file("f", size.to_string()).deriver(&derivation).finish();
        assert_eq!(world.push(&[&path]).await.unwrap().pushed, 1);
        assert!(world.bucket.object(&format!("log/{derivation}")).unwrap() == text, "{size}");
    }
}

#[tokio::test]
async fn a_log_that_cannot_be_read_is_a_warning() {
    let world = world(ALL);
    for (name, bytes) in [("broken", &b"no bzip2"[..]), ("cut", &bz2(&b"text ".repeat(5000))[..40])] {
        let derivation = world.store.missing(&format!("{name}.drv"));
        put_log(&world, &derivation, bytes);
        let path = world.store.add(name).file("f", name).deriver(&derivation).finish();
        assert_eq!(world.push(&[&path]).await.unwrap().pushed, 1);
        let warnings = world.watcher.warnings.lock().unwrap().clone();
        assert!(warnings.len() == 1 && warnings[0].contains(derivation.as_str()), "{warnings:?}");
        assert_eq!(world.keys("log/"), [""; 0]);
    }
}

#[tokio::test]
async fn names_that_json_cannot_say_cost_the_listing_and_not_the_path() {
    use std::os::unix::ffi::OsStrExt as _;
    let world = world(ALL);
    let path = world.store.add("odd").file(std::ffi::OsStr::from_bytes(b"caf\xe9"), "x").finish();
    assert_eq!(world.push(&[&path]).await.unwrap().pushed, 1);
    let warnings = world.watcher.warnings.lock().unwrap().clone();
    assert!(warnings.len() == 1 && warnings[0].contains("caf\\xe9"), "{warnings:?}");
    assert!(world.bucket.object(&format!("{}.ls", path.hash_part())).is_none());
}

/// The same NAR under two names: in one push it is sent once, in a later one not at all.
#[tokio::test]
async fn a_nar_that_is_there_already_gets_its_listing_under_the_other_name() {
    let mut world = world(ALL);
    let twin = |world: &World, name: &str| world.store.add(name).file(debug_file(), b"same").finish();
    let (first, second) = (twin(&world, "first"), twin(&world, "second"));
    let summary = world.push(&[&first, &second]).await.unwrap();
    assert_eq!((summary.pushed, summary.reused), (2, 1));
    assert_eq!(listing(&world, &first), listing(&world, &second));

    let third = world.store.add("third").file(debug_file(), b"same").reference(&first).finish();
    let summary = world.push(&[&third]).await.unwrap();
    assert_eq!((summary.pushed, summary.reused), (1, 1));
    assert_eq!(listing(&world, &first), listing(&world, &third));

    // Nobody's word is taken for what is in the files.
    let fourth = world.store.add("fourth").file(debug_file(), b"same").reference(&first).finish();
    std::fs::remove_file(world.store.real_path(&fourth).join(debug_file())).unwrap();
    let summary = world.push(&[&fourth]).await.unwrap();
    assert_eq!(summary.failed, 1);
    assert!(matches!(world.outcome(&fourth), Outcome::Failed { why, .. } if why.contains("NarHash")));
    assert!(world.bucket.object(&format!("{}.ls", fourth.hash_part())).is_none());
    // Without extras the files need not be read at all.
    world.options.extras = Extras::default();
    assert_eq!(world.push(&[&fourth]).await.unwrap().pushed, 1);
}

/// Reading files again and sending a long log take a while.
#[tokio::test]
async fn an_interruption_ends_what_takes_long() {
    let mut world = world(ALL);
    world.options.upload_threads = 1.try_into().unwrap();
    // Large enough that all cannot be read before the first listing is on its way.
    let same = vec![7; 2 << 20];
    let first = world.store.add("first").file("f", &same).finish();
    world.push(&[&first]).await.unwrap();
    let twin = |n: u32| world.store.add(&format!("twin{n}")).file("f", &same).reference(&first).finish();
    let twins: Vec<StorePath> = (0..30).map(twin).collect();
    let interrupt = world.options.interrupt.clone();
    world.set_faults(move |_, request| {
        request.on.ends_with(".ls").then(|| interrupt.raise());
        None
    });
    let summary = world.push(&twins.iter().collect::<Vec<_>>()).await.unwrap();
    assert!(summary.interrupted > 0 && summary.failed == 0, "{summary:?}");

    world.options.interrupt = Interrupt::default();
    let derivation = world.store.missing("long.drv");
    put_log(&world, &derivation, &bz2(&vec![b'a'; 40 << 20]));
    let path = world.store.add("long").file("f", "x").deriver(&derivation).finish();
    let interrupt = world.options.interrupt.clone();
    world.set_faults(move |_, request| {
        (request.on.starts_with("log/") && request.kind == RequestKind::UploadPart).then(|| interrupt.raise());
        None
    });
    let summary = world.push(&[&path]).await.unwrap();
    assert_eq!((summary.interrupted, summary.failed), (1, 0), "{summary:?}");
    assert_eq!((world.keys("log/"), world.bucket.open_parts()), (vec![], vec![]));
}

#[tokio::test]
async fn many_paths_cost_a_request_each_and_a_dry_run_none() {
    let mut world = world(Extras { nar_listings: true, ..Extras::default() });
    let paths = chain(&world, 30);
    world.options.dry_run = true;
    world.push(&[paths.last().unwrap()]).await.unwrap();
    assert_eq!(world.keys(""), [""; 0]);
    world.options.dry_run = false;
    assert_eq!(world.push(&[paths.last().unwrap()]).await.unwrap().pushed, 30);
    let listings = world.bucket.requests().into_iter().filter(|request| request.on.ends_with(".ls")).count();
    assert_eq!(listings, 30);
    // What is there is not looked at again.
    let [.., app] = small(&world);
    assert_eq!(world.push(&[paths.last().unwrap(), &app]).await.unwrap().pushed, 4);
    let listings = world.bucket.requests().into_iter().filter(|request| request.on.ends_with(".ls")).count();
    assert_eq!(listings, 4);
}
