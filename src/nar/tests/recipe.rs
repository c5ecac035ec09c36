//! The same recipe makes the same bytes: what resuming an upload rests on.

use super::*;

/// Takes its time now and then, so that compressing threads run dry or into each other.
fn slow() -> Hooked<impl FnMut(usize) -> io::Result<()>> {
    Hooked(0, |write| {
        if write % 7 == 0 {
            std::thread::sleep(std::time::Duration::from_millis(3));
        }
        Ok(())
    })
}

#[test]
fn any_number_of_threads_makes_the_same_bytes() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("root");
    fs::create_dir(&root).unwrap();
    // Real data: this very program, whatever it is, with something that does not compress beside it.
    let program = fs::read(std::env::current_exe().unwrap()).unwrap();
    fs::write(root.join("program"), &program[..program.len().min(40 << 20)]).unwrap();
    fs::write(root.join("noise"), noise(5, 6 << 20)).unwrap();
    for level in [None, Some(1), Some(9)] {
        let packing = |workers| Packing { compression: Compression::Zstd, level, workers };
        let pack_with = |workers| pack(&root, packing(workers), slow()).unwrap().0.file_hash;
        let one = pack_with(1);
        for workers in [2, 5] {
            assert_eq!(pack_with(workers), one, "level {level:?}, {workers} threads");
            assert_eq!(packing(workers).recipe(), packing(1).recipe());
        }
        assert_eq!(pack_with(0), pack_with(0), "level {level:?} without threads");
        assert_ne!(packing(0).recipe(), packing(1).recipe());
        // Not a promise, but the reason why the recipe tells them apart.
        assert_ne!(pack_with(0), one, "level {level:?}");
    }
}

#[test]
fn recipes_tell_settings_apart() {
    let recipe = |compression, level, workers| Packing { compression, level, workers }.recipe();
    let all = [
        recipe(Compression::Zstd, None, 0),
        recipe(Compression::Zstd, None, 4),
        recipe(Compression::Zstd, Some(4), 0),
        recipe(Compression::Xz, None, 0),
        recipe(Compression::Xz, Some(9), 0),
        recipe(Compression::None, None, 0),
    ];
    assert_eq!(all.iter().collect::<std::collections::BTreeSet<_>>().len(), all.len(), "{all:?}");
    assert_eq!(recipe(Compression::Zstd, Some(3), 0), all[0], "a default is the level that it stands for");
    assert_eq!(recipe(Compression::Xz, Some(6), 5), all[3], "xz heeds no workers");
    assert_eq!(recipe(Compression::None, Some(5), 5), all[5]);
}
