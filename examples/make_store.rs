//! Makes a small chroot store without Nix and prints its root folder, then the path that refers to the others.
//!
//! For machines that have no Nix: `./demo` pushes what is made here. The store is below `TMPDIR` and stays.

#[path = "../tests/it/support/fixture_store.rs"]
#[allow(dead_code)] // Tests ask more of it.
mod fixture_store;

use fixture_store::FixtureStore;

fn main() {
    let store = FixtureStore::new();
    let library = store.add("greeting-lib-1.0").file("lib/greeting", "hello from the cache\n".repeat(5000)).finish();
    let tool = store
        .add("greeting-tool-1.0")
        .executable("bin/greet", format!("#!/bin/sh\nhead -n 1 {}/lib/greeting\n", store.logical(&library)))
        .symlink("bin/hello", "greet")
        .directory("share/empty")
        .reference(&library)
        .self_reference()
        .finish();
    let root =
        store.add("greeting-env-1.0").symlink("bin", format!("{}/bin", store.logical(&tool))).reference(&tool).finish();
    println!("{}\n{}", store.root().display(), store.logical(&root));
    // Dropping it would remove the folder.
    std::mem::forget(store);
}
