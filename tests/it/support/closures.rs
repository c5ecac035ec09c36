//! Small closures to push.

use super::world::World;
use loft::nix::StorePath;
use loft::record::PushRecord;
use std::collections::BTreeSet;

/// app → lib → base, app → tool; base refers to itself.
pub fn small(world: &World) -> [StorePath; 4] {
    let store = &world.store;
    let base = store.add("base").file("etc/conf", b"x").self_reference().finish();
    let lib = store.add("lib").file("lib/lib.so", vec![7; 5000]).reference(&base).finish();
    let tool = store.add("tool").executable("bin/tool", b"#!/bin/sh").symlink("bin/t", "tool").finish();
    let app = store.add("app").executable("bin/app", b"app").reference(&lib).reference(&tool).finish();
    [base, lib, tool, app]
}

/// Each refers to the two before it; all are different.
pub fn chain(world: &World, length: usize) -> Vec<StorePath> {
    let mut paths: Vec<StorePath> = Vec::new();
    for n in 0..length {
        let references: Vec<StorePath> = paths.iter().rev().take(2).cloned().collect();
        let text = format!("the contents of {n}\n").repeat(n % 7 + 1);
        paths.push(world.store.add(&format!("p-{n}")).file("f", text).references(&references).finish());
    }
    paths
}

pub fn set(paths: &[StorePath]) -> BTreeSet<StorePath> {
    paths.iter().cloned().collect()
}

pub fn record(world: &World, key: &str) -> PushRecord {
    let contents = world.bucket.contents();
    let (_, bytes) = contents.iter().find(|(other, _)| other.as_str() == key).unwrap();
    PushRecord::parse(key, bytes).unwrap()
}
