//! What the cases damage.

use crate::support::checking::{bytes, nar_key, narinfo_key, set_field, text};
use crate::support::world::World;
use bytes::Bytes;
use loft::bucket::Key;
use loft::ledger::Ledger;
use loft::nix::{Sha256, StorePath};
use std::collections::BTreeMap;
use std::sync::Arc;

/// A bucket that a push has filled, to be damaged again and again.
pub struct Ground {
    pub world: World,
    /// Where everything stands before any damage.
    sound: BTreeMap<Key, Bytes>,
    pub base: StorePath,
    pub lib: StorePath,
    pub app: StorePath,
    /// Two paths that share a NAR.
    pub twins: [StorePath; 2],
}

impl Ground {
    pub async fn new() -> Self {
        let world = World::new();
        let store = &world.store;
        let base = store.add("base").file("etc/conf", b"x").finish();
        let lib = store.add("lib").file("lib/lib.so", noise(20_000)).reference(&base).finish();
        let tool = store.add("tool").executable("bin/tool", b"#!/bin/sh").symlink("bin/t", "tool").finish();
        let twins = ["one", "two"].map(|name| store.add(name).file("f", noise(3000)).finish());
        let all = [&lib, &tool, &twins[0], &twins[1]];
        let app = store.add("app").executable("bin/app", b"app").references(all).finish();
        world.push(&[&app]).await.unwrap();
        // A pair of machines would write two NARs; this one has found out.
        assert_eq!(nar_key(&world, &twins[0]), nar_key(&world, &twins[1]));
        // As of a time when leases and uploads that are planted can be old.
        world.bucket.clear_hook();
        let sound = world.bucket.contents();
        Self { world, sound, base, lib, app, twins }
    }

    pub fn reset(&mut self) {
        for key in self.world.keys("") {
            self.world.bucket.lose(&key);
        }
        self.world.bucket.lose_uploads();
        for (key, bytes) in &self.sound {
            self.world.bucket.plant(key.as_str(), bytes.clone());
        }
        self.world.ledger = Arc::new(Ledger::in_memory());
    }

    pub fn edit(&self, path: &StorePath, change: impl FnOnce(String) -> String) {
        let key = narinfo_key(path);
        let old = text(&self.world, &key);
        let new = change(old.clone());
        assert_ne!(old, new, "nothing was changed");
        self.world.bucket.plant(&key, new);
    }

    pub fn set(&self, path: &StorePath, name: &str, value: &str) {
        set_field(&self.world, path, name, value);
    }

    pub fn nar(&self, path: &StorePath, change: impl FnOnce(Vec<u8>) -> Vec<u8>) {
        let key = nar_key(&self.world, path);
        self.world.bucket.plant(&key, change(bytes(&self.world, &key)));
    }

    /// Another stored NAR, with the sizes and hashes of the stored file that fit it: no signature covers those.
    pub fn replace_nar(&self, path: &StorePath, stored: Vec<u8>, compression: &str) {
        self.edit(path, |text| {
            let lines = text.lines().map(|line| match line.split_once(": ").unwrap().0 {
                "FileHash" => format!("FileHash: {}\n", Sha256::of(&stored)),
                "FileSize" => format!("FileSize: {}\n", stored.len()),
                "Compression" => format!("Compression: {compression}\n"),
                _ => format!("{line}\n"),
            });
            lines.collect()
        });
        self.world.bucket.plant(&nar_key(&self.world, path), stored);
    }
}

/// Bytes that do not compress and name no path.
fn noise(len: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 32) as u8
    };
    (0..len).map(|_| next()).collect()
}
