//! Narinfos that are lost while others refer to them.

use super::case::{case, run};
use super::ground::Ground;
use crate::support::checking::{bytes, field, nar_key, narinfo_key, text};
use loft::check::Kind;
use loft::nix::{NarInfo, SecretKey, StoreDir, StorePath};

#[tokio::test]
async fn broken_links() {
    let lost = |name: &'static str, pick: fn(&Ground) -> Vec<StorePath>| {
        case(name, &[Kind::ReferenceMissing], move |ground| {
            pick(ground).iter().for_each(|path| ground.world.bucket.lose(&narinfo_key(path)));
        })
    };
    run(vec![
        lost("a leaf is lost", |ground| vec![ground.base.clone()]),
        lost("one in the middle is lost", |ground| vec![ground.lib.clone()]),
        lost("two are lost", |ground| vec![ground.lib.clone(), ground.twins[0].clone()]),
        lost("a whole branch is lost", |ground| vec![ground.lib.clone(), ground.base.clone()]),
        case("lost and garbled", &[Kind::ReferenceMissing, Kind::NarInfoMalformed], |ground| {
            ground.world.bucket.lose(&narinfo_key(&ground.base));
            ground.world.bucket.plant(&narinfo_key(&ground.lib), &b"garbage"[..]);
            // What refers to the lost one must be readable.
            let app = text(&ground.world, &narinfo_key(&ground.app));
            let references = format!("{} {}", field(&app, "References"), ground.base);
            let key = &ground.world.options.keys[0];
            resign(ground, &ground.app, &references, key);
        }),
        case("the root is lost", &[Kind::RootMissing, Kind::NarUnreferenced], |ground| {
            ground.world.bucket.lose(&narinfo_key(&ground.app));
        }),
        case("a cycle", &[], |ground| {
            let key = &ground.world.options.keys[0];
            resign(ground, &ground.base, ground.lib.as_str(), key);
        }),
        case("a cycle over a lost path", &[Kind::ReferenceMissing], |ground| {
            let key = &ground.world.options.keys[0];
            resign(ground, &ground.base, &format!("{} {}", ground.lib, ground.twins[0]), key);
            ground.world.bucket.lose(&narinfo_key(&ground.twins[0]));
        }),
        case("a cycle of damage", &[Kind::NarMissing], |ground| {
            let key = &ground.world.options.keys[0];
            resign(ground, &ground.base, ground.lib.as_str(), key);
            ground.world.bucket.lose(&nar_key(&ground.world, &ground.base));
            ground.world.bucket.lose(&nar_key(&ground.world, &ground.lib));
        }),
    ])
    .await;
}

/// Gives a narinfo other references and a signature that fits.
fn resign(ground: &Ground, path: &StorePath, references: &str, key: &SecretKey) {
    let narinfo = bytes(&ground.world, &narinfo_key(path));
    let mut info = NarInfo::parse(&StoreDir::default(), &narinfo).unwrap();
    info.references = references.split(' ').map(|name| StorePath::parse(name).unwrap()).collect();
    info.references.sort();
    info.references.dedup();
    info.signatures = vec![key.sign(&info.fingerprint(&StoreDir::default()))];
    ground.world.bucket.plant(&narinfo_key(path), info.print(&StoreDir::default()));
}
