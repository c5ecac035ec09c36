//! What is noted down of a NAR, against what real Nix noted down and against the NAR itself.

use super::*;
use crate::nar::listing::Listing;
use crate::nar::observe::Observe as _;
use crate::nix::vectors::nar_infos;
use crate::nix::{NarInfo, Sha256, StoreDir};
use serde_json::{Value, json};
use std::fs::File;

const ALL: Wanted = Wanted { listing: true, build_ids: true };

fn listing(root: &Path) -> Result<Value, NoListing> {
    let (_, observed) = observe(root, Wanted { listing: true, build_ids: false }, io::sink()).unwrap();
    observed.listing.unwrap().map(|bytes| serde_json::from_slice(&bytes).unwrap())
}

#[test]
fn listings_are_those_that_nix_wrote() {
    let dir = tempfile::tempdir().unwrap();
    let mut compared = 0;
    for (version, sorts_keys) in [("nix-2.8", false), ("nix-2.26", true), ("nix-2.34", true)] {
        for vector in nar_infos(version, Some("zstd-ls")) {
            let Ok(written) = fs::read(vector.file.with_extension("ls")) else { continue };
            let info = NarInfo::parse(&StoreDir::default(), &vector.bytes).unwrap();
            let root = dir.path().join(format!("{version}-{}", info.path));
            let nar = File::open(vector.file.with_file_name(info.url.as_str())).unwrap();
            unpack(nar, info.compression, info.nar_size.get(), &root).unwrap();
            let (hash, observed) = observe(&root, ALL, io::sink()).unwrap();
            assert_eq!(hash, info.nar_hash);
            let made = observed.listing.unwrap().unwrap();
            let value = |bytes: &[u8]| serde_json::from_slice::<Value>(bytes).unwrap();
            assert_eq!(value(&made), value(&written), "{:?}", vector.file);
            assert!(!sorts_keys || made == written, "{:?}: {}", vector.file, String::from_utf8_lossy(&made));
            compared += 1;
        }
    }
    assert_eq!(compared, 19);
}

/// Follows a listing through the NAR: at each offset stand the contents, after their length.
fn compare(tree: &Node, listed: &Value, nar: &[u8]) {
    match tree {
        Node::Directory(entries) => {
            let listed = listed["entries"].as_object().unwrap();
            assert_eq!(listed.len(), entries.len());
            for (name, node) in entries {
                compare(node, &listed[std::str::from_utf8(name).unwrap()], nar);
            }
        }
        Node::Symlink(target) => {
            assert_eq!(*listed, json!({"type": "symlink", "target": std::str::from_utf8(target).unwrap()}));
        }
        Node::File(contents, mode) => {
            let number = |name: &str| usize::try_from(listed[name].as_u64().unwrap()).unwrap();
            let (offset, size) = (number("narOffset"), number("size"));
            assert_eq!(&nar[offset..offset + size], contents);
            assert_eq!(&nar[offset - 8..offset], (contents.len() as u64).to_le_bytes());
            assert_eq!(listed.get("executable"), (mode & 0o100 != 0).then_some(&Value::Bool(true)));
            assert_eq!(listed["type"], "regular");
        }
    }
}

#[test]
fn a_listing_leads_to_every_file_in_the_nar() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("root");
    let file = |size: usize| Node::File(noise(7, size), 0o644);
    let tree = Node::directory([
        (b"empty", Node::Directory(BTreeMap::new())),
        (b"none", file(0)),
        // Larger than the buffer, so that what follows stands beyond the first piece.
        (b"large", file(300_001)),
        (b"bin", Node::directory([(b"run", Node::File(b"#!".to_vec(), 0o755)), (b"\"\\\n\x01\x7f", file(3))])),
        (b"link", Node::Symlink("../\u{e4}\"\t".as_bytes().to_vec())),
        (b"zz", Node::directory([(b"a", Node::directory([(b"b", file(9))])), (b"c", file(1))])),
    ]);
    tree.create(&root);
    let listed = listing(&root).unwrap();
    assert_eq!(listed["version"], 1);
    compare(&tree, &listed["root"], &tree.nar());

    let (packed, observed, _) = pack_observed(
        &root,
        Packing { compression: Compression::Zstd, level: None, workers: 0 },
        io::sink(),
        &|_| (),
        ALL,
    )
    .unwrap();
    assert_eq!(packed.nar_hash, Sha256::of(&tree.nar()));
    let told: Value = serde_json::from_slice(&observed.listing.unwrap().unwrap()).unwrap();
    assert_eq!(told, listed, "packing tells the same");
}

#[test]
fn nothing_is_noted_down_that_was_not_asked_for() {
    let dir = tempfile::tempdir().unwrap();
    let (_, observed) = observe(dir.path(), Wanted::default(), io::sink()).unwrap();
    assert!(observed.listing.is_none() && observed.build_ids.is_empty());
}

#[test]
fn what_json_cannot_say_has_no_listing() {
    let dir = tempfile::tempdir().unwrap();
    for (at, tree) in [
        Node::directory([(b"caf\xe9", Node::Directory(BTreeMap::new())), (b"z", Node::Symlink(b"ok".to_vec()))]),
        Node::Symlink(b"\xff".to_vec()),
    ]
    .iter()
    .enumerate()
    {
        let root = dir.path().join(at.to_string());
        tree.create(&root);
        let refused = listing(&root).unwrap_err();
        assert!(matches!(&refused, NoListing::Name(_)), "{refused:?}");
    }
}

#[test]
fn a_vast_tree_does_not_fill_the_memory() {
    let mut listing = Listing::default();
    listing.directory();
    for number in 0..200_000u32 {
        listing.enter(format!("{number:0>255}").as_bytes());
        listing.regular(false, 1, 8);
    }
    listing.end_of_directory();
    assert_eq!(listing.finish(), Err(NoListing::TooLarge));
}

#[test]
fn files_with_debug_information_are_found_by_their_place() {
    let dir = tempfile::tempdir().unwrap();
    let (id, rest) = ("ab".to_owned() + &"0".repeat(38), "0".repeat(38) + ".debug");
    let file = || Node::File(b"ELF".to_vec(), 0o644);
    let ids = Node::directory([
        (b"ab", Node::directory([(rest.as_bytes(), file()), (b"other.debug", file())])),
        // As nixpkgs makes them: links from the build id to the program.
        (b"cd", Node::directory([(rest.as_bytes(), Node::Symlink(b"../../x".to_vec())), (b"z", file())])),
    ]);
    let debug = Node::directory([(b".build-id", ids), (b"bin", Node::directory([(rest.as_bytes(), file())]))]);
    let root = dir.path().join("root");
    Node::directory([(b"lib", Node::directory([(b"debug", debug)])), (b"zz", file())]).create(&root);
    let (_, observed) = observe(&root, ALL, io::sink()).unwrap();
    assert_eq!(observed.build_ids.iter().map(|id| id.as_str()).collect::<Vec<_>>(), [id]);
}
