//! A case: a kind of damage, planted, found, mended and undone.

use super::ground::Ground;
use crate::support::checking::{Checker, Told};
use crate::support::oracle::Oracle;
use crate::support::pruning::Pruner;
use bytes::Bytes;
use loft::bucket::Key;
use loft::check::{Kind, Severity};
use loft::nix::{NarInfo, StoreDir};
use loft::prune;
use loft::record::TrashRecord;
use std::collections::{BTreeMap, BTreeSet};

pub struct Case {
    name: &'static str,
    /// All damage that is to be found, and notes among other notes.
    expected: Vec<Kind>,
    plant: Box<dyn Fn(&Ground)>,
}

pub fn case(name: &'static str, expected: &[Kind], plant: impl Fn(&Ground) + 'static) -> Case {
    Case { name, expected: expected.to_vec(), plant: Box::new(plant) }
}

/// Finds, mends and undoes all of them.
pub async fn run(cases: Vec<Case>) {
    let mut ground = Ground::new().await;
    for has_store in [true, false] {
        for case in &cases {
            ground.reset();
            (case.plant)(&ground);
            run_one(&ground, case, has_store).await;
        }
    }
    println!("{} cases", cases.len());
}

async fn run_one(ground: &Ground, case: &Case, has_store: bool) {
    let name = format!("{} ({})", case.name, if has_store { "with a store" } else { "without" });
    let checker = Checker::new(&ground.world);
    let told = checker.run().await;
    found(&name, case, &told);
    let before = ground.world.bucket.contents();
    if told.checked.is_clean() {
        return;
    }
    let mended = checker.repair(&told.checked, has_store).await.unwrap_or_else(|error| panic!("{name}: {error:?}"));
    assert!(mended.is_complete(), "{name}: {mended:?}");
    let again = checker.run().await;
    assert_eq!(again.bad(), BTreeSet::new(), "{name}: {mended:#?} {again:#?}");
    Oracle::new().check(&ground.world.bucket.contents()).unwrap_or_else(|error| panic!("{name}: {error}"));
    if has_store {
        assert_eq!(mended.removed, [], "{name}: nothing need go where the store has all");
    }
    undo(ground, &name, &before, &mended.trash).await;
}

fn found(name: &str, case: &Case, told: &Told) {
    let expected: BTreeSet<Kind> =
        case.expected.iter().copied().filter(|kind| kind.severity() == Severity::Damage).collect();
    assert_eq!(told.bad(), expected, "{name}: {:#?}", told.findings);
    let all = told.kinds();
    assert!(case.expected.iter().all(|kind| all.contains(kind)), "{name}: {all:?}");
    for finding in &told.findings {
        assert!(finding.problem.len() < 2000 && !finding.problem.is_empty(), "{name}: {finding:?}");
    }
}

/// What was taken out comes back byte for byte; of what can come back sound, the URL is new.
async fn undo(ground: &Ground, name: &str, before: &BTreeMap<Key, Bytes>, trash: &[ulid::Ulid]) {
    let pruner = Pruner::new(&ground.world);
    let plain = |bytes: &[u8]| -> Vec<u8> {
        match NarInfo::parse(&StoreDir::default(), bytes) {
            Ok(_) => {
                let text = String::from_utf8(bytes.to_vec()).unwrap();
                text.lines().filter(|line| !line.starts_with("URL: ")).collect::<String>().into_bytes()
            }
            Err(_) => bytes.to_vec(),
        }
    };
    for id in trash {
        let key = Key::trash(*id);
        let record = TrashRecord::parse(key.as_str(), &ground.world.bucket.contents()[&key]).unwrap();
        // What is whole is said anew by a repair; with that gone, nothing refuses the undo.
        let mut undone = prune::Undone::default();
        prune::undo(&pruner.ends(), &pruner.options, *id, &mut undone).await.unwrap();
        let now = ground.world.bucket.contents();
        for (path, restored) in undone.paths {
            assert!(!matches!(restored, prune::Restored::Failed(_)), "{name}: {path} {restored:?}");
            let key = Key::nar_info(&path);
            assert_eq!(plain(&now[&key]), plain(&before[&key]), "{name}: {key}");
        }
        for object in &record.set_aside {
            let key = Key::listed(object.key.as_str());
            assert_eq!(object.bytes().unwrap(), before[&key], "{name}: {key}");
            if key.kind() != loft::bucket::Kind::Foreign {
                assert_eq!(now[&key], before[&key], "{name}: {key}");
            }
        }
    }
}
