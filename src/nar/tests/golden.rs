//! What real Nix says about odd trees, and about what it stored.

use super::*;
use crate::nix::vectors::{VERSIONS, Vector, nar_infos};
use crate::nix::{NarInfo, StoreDir};
use std::fs::File;

fn file(contents: &[u8]) -> Node {
    Node::File(contents.to_vec(), 0o644)
}

/// Every oddity that a NAR can hold.
fn odd_tree() -> Node {
    let sizes = Node::Directory(
        (0..=17usize)
            .chain([131_071, 131_072, 131_073, 130_900, 262_144, 1_000_003])
            .map(|size| (size.to_string().into_bytes(), file(&noise(size as u64, size))))
            .collect(),
    );
    let modes = Node::Directory(
        [0o644, 0o755, 0o600, 0o100, 0o655, 0o611, 0o677, 0o700, 0o444, 0o555, 0o4755, 0o2644]
            .map(|mode| (format!("{mode:o}").into_bytes(), Node::File(b"#!".to_vec(), mode)))
            .into(),
    );
    let symlinks = Node::directory([
        (b"dangling", Node::Symlink(b"nowhere".to_vec())),
        (b"up", Node::Symlink(b"..".to_vec())),
        (b"root", Node::Symlink(b"/".to_vec())),
        (b"self", Node::Symlink(b"self".to_vec())),
        (b"slash", Node::Symlink(b"../modes/".to_vec())),
        (b"bytes", Node::Symlink(b"\xff\xfe\n\"' \\".to_vec())),
        (b"long", Node::Symlink(vec![b'l'; 4095])),
    ]);
    let names = Node::directory([
        // As names `a` comes before `a-b`; as paths, `a/z` would come after `a-b/z`.
        (b"a", Node::directory([(b"z", file(b"1"))])),
        (b"a-b", Node::directory([(b"z", file(b"2"))])),
        (b"a.b", file(b"3")),
        (b"ab", file(b"4")),
        (b"A", file(b"5")),
        (b" ", file(b"6")),
        (b"\n", file(b"7")),
        (b"\xff\xfe", file(b"8")),
        (b"\xc3\xa4", file(b"9")),
        (b"z~nix~case~hack~1", file(b"10")),
        (b"-", file(b"11")),
        (b"...", file(b"12")),
        (&[b'n'; 255], file(b"13")),
        (b"empty", Node::Directory(BTreeMap::new())),
    ]);
    let mut deep = file(b"bottom");
    for _ in 0..70 {
        deep = Node::directory([(b"d", deep)]);
    }
    Node::directory([(b"sizes", sizes), (b"modes", modes), (b"symlinks", symlinks), (b"names", names), (b"deep", deep)])
}

fn many_files() -> Node {
    Node::Directory(
        (0..40)
            .map(|d| {
                let files = (0..50).map(|f| (format!("{f:03}").into_bytes(), file(&noise(d * 50 + f, f as usize * 7))));
                (format!("{d:02}").into_bytes(), Node::Directory(files.collect()))
            })
            .collect(),
    )
}

/// Hashes that `nix-hash --type sha256 --base32` of Nix 2.8.0 printed for these trees.
#[test]
fn hashes_are_those_of_nix() {
    let dir = tempfile::tempdir().unwrap();
    let trees = [
        ("empty-file", file(b""), 1, "0ip26j2h11n1kgkz36rl4akv694yz65hr72q4kv4b3lxcbi65b3p"),
        ("file", file(b"contents\n"), 1, "1nyikny5k19nf927wdgj99qnv4raixkk5h8n1wj5r11la9rab843"),
        ("executable", Node::File(b"#!".to_vec(), 0o755), 1, "10gxr6hh7x7bvxai8r5ygdp02ln3vh9p75640gk3alh1w17bjcr8"),
        (
            "group-executable",
            Node::File(b"#!".to_vec(), 0o655),
            1,
            "172x00arnp9h8an2rl9cmp57k65ka243xa3vzsjfyliflqnwfcwb",
        ),
        ("symlink", Node::Symlink(b"target".to_vec()), 1, "0x67g3311ihxwarw846p2jc8wbxmv9bd8ryh7qjpp6d8yb56536b"),
        (
            "empty-directory",
            Node::Directory(BTreeMap::new()),
            1,
            "0sjjj9z1dhilhpc8pq4154czrb79z9cm044jvn75kxcjv6v5l2m5",
        ),
        ("odd", odd_tree(), 72, "1hnl7fk26q9a6pizhsg3kf8inaxqhg9gkymrkb0f0cy0ky7d7ars"),
        ("many", many_files(), 3, "11cf6kh2w1s1rr2vvqh5h9w4lynwl93canrs0bzygb645q7flv6x"),
    ];
    for (name, tree, depth, hash) in trees {
        let path = dir.path().join(name);
        tree.create(&path);
        let (packed, nar) = pack_all(&path, Compression::None);
        assert_eq!(nar, tree.nar(), "{name}");
        assert_eq!(packed.nar_hash.to_nix32(), hash, "{name}");
        assert_eq!(packed.depth, depth, "{name}");
        assert_eq!(packed.nar_size, nar.len() as u64);
    }
}

/// A final slash must not turn a symlink into what it points at.
#[test]
fn a_root_symlink_is_not_followed() {
    let dir = tempfile::tempdir().unwrap();
    let tree = Node::directory([(b"link", Node::Symlink(b"..".to_vec()))]);
    tree.create(&dir.path().join("t"));
    assert_eq!(nar_hash(&dir.path().join("t/link/")), nar_hash(&dir.path().join("t/link")));
}

/// What Nix stored unpacks, has the hashes its narinfo says, and packs to the same NAR.
#[test]
fn nars_of_every_nix_survive_unpacking_and_packing() {
    let dir = tempfile::tempdir().unwrap();
    let mut count = 0;
    for (version, _) in VERSIONS {
        for Vector { file, bytes } in nar_infos(version, None) {
            let info = NarInfo::parse(&StoreDir::default(), &bytes).unwrap();
            let stored = file.parent().unwrap().join(info.url.as_str());
            let target = dir.path().join(count.to_string());
            let open = || File::open(&stored).unwrap();
            let unpacked = unpack(open(), info.compression, info.nar_size.get(), &target).unwrap();
            assert_eq!(unpacked.nar_hash, info.nar_hash, "{file:?}");
            assert_eq!(unpacked.nar_size, info.nar_size.get(), "{file:?}");
            assert_eq!(Some(unpacked.file_hash), info.file_hash, "{file:?}");
            assert_eq!(Some(unpacked.file_size), info.file_size, "{file:?}");
            assert_eq!(verify(open(), info.compression, info.nar_size.get()).unwrap(), unpacked, "{file:?}");
            let too_small = verify(open(), info.compression, info.nar_size.get() - 1).unwrap_err();
            assert!(matches!(too_small, UnpackError::TooLarge { .. }), "{too_small:?}");

            let (packed, _) = pack_all(&target, Compression::None);
            assert_eq!((packed.nar_hash, packed.depth), (info.nar_hash, unpacked.depth), "{file:?}");
            count += 1;
        }
    }
    assert_eq!(count, 49);
}
