//! Trees that go through packing and unpacking and come out the same.

use super::*;
use crate::nix::Sha256;
use proptest::prelude::*;
use std::cell::Cell;

fn any_tree() -> impl Strategy<Value = Node> {
    let leaf = prop_oneof![
        (proptest::collection::vec(any::<u8>(), 0..200), prop_oneof![Just(0o644), Just(0o755)])
            .prop_map(|(contents, mode)| Node::File(contents, mode)),
        proptest::collection::vec(1u8.., 1..40).prop_map(Node::Symlink),
    ];
    let byte = any::<u8>().prop_filter("no part of a name", |byte| !matches!(byte, 0 | b'/'));
    let name = proptest::collection::vec(byte, 1..12)
        .prop_filter("a name of its own", |name| !matches!(&name[..], b"." | b".."));
    leaf.prop_recursive(5, 40, 8, move |inner| {
        proptest::collection::btree_map(name.clone(), inner, 0..8).prop_map(Node::Directory)
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn any_tree_survives(tree in any_tree()) {
        let dir = tempfile::tempdir().unwrap();
        let (first, second) = (dir.path().join("first"), dir.path().join("second"));
        tree.create(&first);
        for compression in [Compression::None, Compression::Zstd] {
            let (packed, stored) = pack_all(&first, compression);
            prop_assert_eq!(packed.nar_hash, Sha256::of(&tree.nar()));
            prop_assert_eq!(&verify(&stored[..], compression, packed.nar_size).unwrap(), &packed);
        }
        let (packed, nar) = pack_all(&first, Compression::None);
        prop_assert_eq!(&unpack(&nar[..], Compression::None, packed.nar_size, &second).unwrap(), &packed);
        prop_assert_eq!(pack_all(&second, Compression::None).1, nar);
    }
}

#[test]
fn every_compression_and_level_gives_back_the_nar() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("root");
    let half = noise(7, 200_000);
    let tree = Node::directory([
        (b"large", Node::File([&half[..], &vec![b'x'; 700_000], &half].concat(), 0o644)),
        (b"small", Node::File(b"x".to_vec(), 0o755)),
    ]);
    tree.create(&root);
    let nar = tree.nar();
    let mut sizes = BTreeMap::new();
    for (compression, level, workers) in [
        (Compression::None, None, 0),
        (Compression::None, Some(99), 0),
        (Compression::Zstd, None, 0),
        (Compression::Zstd, None, 2),
        (Compression::Zstd, Some(-5), 0),
        (Compression::Zstd, Some(19), 1),
        (Compression::Xz, None, 0),
        (Compression::Xz, Some(0), 3),
    ] {
        let packing = Packing { compression, level, workers };
        let told = Cell::new(0);
        let (packed, _, stored) =
            pack_observed(&root, packing, Vec::new(), &|more| told.set(told.get() + more), Wanted::default()).unwrap();
        assert_eq!(packed.nar_hash, Sha256::of(&nar), "{packing:?}");
        assert_eq!((packed.nar_size, told.get()), (nar.len() as u64, nar.len() as u64), "{packing:?}");
        assert_eq!(packed.file_hash, Sha256::of(&stored), "{packing:?}");
        assert_eq!(packed.file_size, stored.len() as u64, "{packing:?}");
        assert_eq!(verify(&stored[..], compression, packed.nar_size).unwrap(), packed, "{packing:?}");
        sizes.insert((compression.to_string(), level, workers), stored.len());
    }
    let size = |compression: &str, level, workers| sizes[&(compression.to_owned(), level, workers)];
    assert!(size("zstd", None, 0) < size("none", None, 0) / 2);
    assert!(size("zstd", None, 0) < size("zstd", Some(-5), 0), "the level counts");
    assert!(size("xz", None, 0) < size("xz", Some(0), 3), "the level counts");
}

#[test]
fn what_cannot_be_written_is_a_matter_of_configuration() {
    let dir = tempfile::tempdir().unwrap();
    for (compression, level) in [
        (Compression::Zstd, Some(23)),
        (Compression::Zstd, Some(i32::MIN)),
        (Compression::Xz, Some(10)),
        (Compression::Xz, Some(-1)),
        (Compression::Bzip2, None),
    ] {
        let error = pack(dir.path(), Packing { compression, level, workers: 0 }, io::sink()).unwrap_err();
        assert_eq!(error.remedy(), crate::remedy::Remedy::FixConfig, "{error:?}");
        assert!(error.to_string().contains(&compression.to_string()), "{error}");
    }
}

/// Hundreds of small files must not become thousands of small writes.
#[test]
fn the_sink_gets_large_pieces() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("root");
    let files = (0..500u64).map(|n| (format!("{n}").into_bytes(), Node::File(noise(n, 900), 0o644)));
    Node::Directory(files.collect()).create(&root);
    for compression in COMPRESSIONS {
        let sink = Hooked(0, |_| Ok(()));
        let (packed, sink) = pack(&root, packing(compression), sink).unwrap();
        assert_eq!(sink.0 as u64, packed.file_size.div_ceil(128 * 1024), "{compression}");
    }
}

/// Neither direction recurses.
#[test]
fn deep_trees_need_no_stack() {
    let dir = tempfile::tempdir().unwrap();
    let (first, second) = (dir.path().join("first"), dir.path().join("second"));
    let mut path = first.clone();
    for _ in 0..500 {
        fs::create_dir(&path).unwrap();
        path.push("d");
    }
    let on_a_small_stack = move || {
        let (packed, nar) = pack_all(&first, Compression::None);
        assert_eq!(packed.depth, 500);
        assert!(packed.depth > MAX_DEPTH_OF_NIX);
        assert_eq!(unpack(&nar[..], Compression::None, 1 << 20, &second).unwrap(), packed);
        assert_eq!(pack_all(&second, Compression::None).1, nar);
    };
    std::thread::Builder::new().stack_size(96 * 1024).spawn(on_a_small_stack).unwrap().join().unwrap();
}

#[test]
fn unpacking_does_not_touch_what_is_there() {
    let dir = tempfile::tempdir().unwrap();
    let outside = dir.path().join("outside");
    fs::create_dir(&outside).unwrap();
    fs::write(outside.join("kept"), b"kept").unwrap();
    let target = dir.path().join("target");
    for node in [
        Node::File(b"overwritten".to_vec(), 0o644),
        Node::directory([(b"kept", Node::File(b"overwritten".to_vec(), 0o644))]),
        Node::Symlink(b"x".to_vec()),
    ] {
        for obstacle in [&outside, &outside.join("kept"), &dir.path().join("nowhere")] {
            symlink(obstacle, &target).unwrap();
            let nar = node.nar();
            let error = unpack(&nar[..], Compression::None, 1 << 20, &target).unwrap_err();
            assert!(matches!(&error, UnpackError::Create { path, .. } if *path == target), "{error:?}");
            assert_eq!(fs::read(outside.join("kept")).unwrap(), b"kept");
            assert!(!dir.path().join("nowhere").exists());
            fs::remove_file(&target).unwrap();
        }
    }
}
