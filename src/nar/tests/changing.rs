//! Paths that cannot be read, or that change while they are.

use super::*;
use std::fs::OpenOptions;
use std::os::unix::net::UnixListener;
use std::path::PathBuf;

/// Bytes of `a`: several buffers, so that the sink is called while `a` is read and before `b` is.
const LARGE: usize = 1 << 20;

/// Packs a tree of `a` (large), `b` and a directory `c`, and calls `change` with its path at the first write.
fn pack_changing(change: impl Fn(&Path)) -> (PathBuf, Result<Packed, PackError>) {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("root");
    let tree = Node::directory([
        (b"a", Node::File(noise(1, LARGE), 0o644)),
        (b"b", Node::File(noise(2, 1000), 0o644)),
        (b"c", Node::directory([(b"d", Node::File(vec![], 0o644))])),
        (b"l", Node::Symlink(b"b".to_vec())),
    ]);
    tree.create(&root);
    let mut changed = false;
    let sink = Hooked(0, |write| {
        if write == 1 {
            change(&root);
            changed = true;
        }
        Ok(())
    });
    let result = pack(&root, packing(Compression::None), sink).map(|packed| packed.0);
    assert!(changed);
    (root.clone(), result)
}

fn resize(path: PathBuf, len: usize) {
    OpenOptions::new().write(true).open(path).unwrap().set_len(len as u64).unwrap();
}

#[test]
fn a_tree_that_does_not_change_is_packed() {
    assert!(pack_changing(|_| ()).1.is_ok());
}

#[test]
fn a_file_that_changes_size_while_it_is_read_is_named() {
    for (len, what) in [(0, "shorter"), (LARGE / 2, "shorter"), (LARGE - 1, "shorter"), (LARGE + 1, "longer")] {
        let (root, result) = pack_changing(|root| resize(root.join("a"), len));
        match result {
            Err(PackError::Changed { path, change }) => {
                assert_eq!(path, root.join("a"), "{len}");
                assert!(change.contains(what), "{len} {change}");
            }
            other => panic!("{len}: {other:?}"),
        }
    }
}

#[test]
fn a_file_that_changes_before_it_is_read_is_packed_as_it_is_then() {
    let (_, result) = pack_changing(|root| resize(root.join("b"), 7));
    assert_eq!(result.unwrap().nar_size % 8, 0);
}

#[test]
fn what_vanishes_is_named() {
    for name in ["b", "l"] {
        let (root, result) = pack_changing(|root| fs::remove_file(root.join(name)).unwrap());
        match result {
            Err(PackError::Vanished { path }) => assert_eq!(path, root.join(name)),
            other => panic!("{name}: {other:?}"),
        }
    }
    let nowhere = tempfile::tempdir().unwrap().path().join("gone");
    let error = pack(&nowhere, packing(Compression::Zstd), io::sink()).unwrap_err();
    assert!(matches!(&error, PackError::Vanished { path } if *path == nowhere), "{error:?}");
    assert_eq!(error.remedy(), crate::remedy::Remedy::GiveUpOnItem);
}

#[test]
fn what_becomes_another_type_is_named() {
    type Replace = fn(&Path);
    let replace_by: [(&str, Replace); 6] = [
        ("b", |path| symlink("a", path).unwrap()),
        ("b", |path| fs::create_dir(path).unwrap()),
        // Opening it must not wait for a writer.
        ("b", |path| mkfifo(path)),
        ("b", |path| drop(UnixListener::bind(path).unwrap())),
        ("l", |path| fs::write(path, b"").unwrap()),
        ("l", |path| fs::create_dir(path).unwrap()),
    ];
    for (name, replace) in replace_by {
        let (root, result) = pack_changing(|root| {
            fs::remove_file(root.join(name)).unwrap();
            replace(&root.join(name));
        });
        match result {
            Err(PackError::Changed { path, .. }) => assert_eq!(path, root.join(name)),
            other => panic!("{name}: {other:?}"),
        }
    }
}

/// The walk looks ahead, so a directory is listed before the hook; this goes through a tree too large for that.
#[test]
fn a_directory_that_becomes_a_symlink_is_not_followed() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("root");
    let mut entries: BTreeMap<_, _> =
        (0..2000).map(|n| (format!("{n:04}").into_bytes(), Node::File(noise(n, 1000), 0o644))).collect();
    entries.insert(b"z".to_vec(), Node::directory([(b"d", Node::File(vec![], 0o644))]));
    Node::Directory(entries).create(&root);
    let sink = Hooked(0, |write| {
        if write == 1 {
            fs::remove_dir_all(root.join("z")).unwrap();
            symlink("/", root.join("z")).unwrap();
        }
        Ok(())
    });
    let result = pack(&root, packing(Compression::None), sink).map(|packed| packed.0);
    assert!(matches!(&result, Err(PackError::Changed { path, .. }) if *path == root.join("z")), "{result:?}");
}

fn mkfifo(path: &Path) {
    let mode = rustix::fs::Mode::from_raw_mode(0o644);
    rustix::fs::mknodat(rustix::fs::CWD, path, rustix::fs::FileType::Fifo, mode, 0).unwrap();
}

#[test]
fn what_a_nar_cannot_hold_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("root");
    Node::directory([(b"a", Node::File(vec![], 0o644))]).create(&root);
    mkfifo(&root.join("f"));
    for (path, kind) in [(root.as_path(), "fifo"), (&root.join("f"), "fifo"), (Path::new("/dev/null"), "character")] {
        match pack(path, packing(Compression::Zstd), io::sink()) {
            Err(error @ PackError::UnsupportedType { .. }) => {
                let text = error.to_string();
                assert!(text.contains(kind) && text.contains(if kind == "fifo" { "root/f" } else { "null" }), "{text}");
            }
            other => panic!("{path:?}: {other:?}"),
        }
    }
    fs::remove_file(root.join("f")).unwrap();
    let _socket = UnixListener::bind(root.join("s")).unwrap();
    let error = pack(&root, packing(Compression::Zstd), io::sink()).unwrap_err();
    assert!(error.to_string().contains("a socket"), "{error}");
}

/// As root nothing is unreadable, so that part is only checked where the tests run as somebody else.
#[test]
fn what_may_not_be_read_is_told_from_what_vanished() {
    use crate::nar::tree_walk::read_error;
    let error = read_error(Path::new("/x"), rustix::io::Errno::ACCESS);
    assert!(matches!(error, PackError::Unreadable { .. }), "{error:?}");
    let error = read_error(Path::new("/x"), rustix::io::Errno::IO);
    assert!(matches!(error, PackError::Read { .. }), "{error:?}");
    assert_eq!(error.remedy(), crate::remedy::Remedy::Retry);
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("root");
    Node::directory([(b"a", Node::File(b"secret".to_vec(), 0o000))]).create(&root);
    if fs::read(root.join("a")).is_ok() {
        return;
    }
    let error = pack(&root, packing(Compression::Zstd), io::sink()).unwrap_err();
    assert!(matches!(&error, PackError::Unreadable { path, .. } if *path == root.join("a")), "{error:?}");
}

#[test]
fn a_sink_that_refuses_ends_the_packing_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("root");
    Node::File(noise(3, 3 << 20), 0o644).create(&root);
    for compression in COMPRESSIONS {
        for refused in [1, 2, 5] {
            let mut writes = 0;
            let sink = Hooked(0, |write| {
                writes = write;
                if write == refused { Err(io::Error::other("enough")) } else { Ok(()) }
            });
            let error = pack(&root, packing(compression), sink).map(|packed| packed.0).unwrap_err();
            assert!(matches!(&error, PackError::Sink(cause) if cause.to_string() == "enough"), "{error:?}");
            assert_eq!(writes, refused, "{compression}: nothing is written after the refusal");
        }
    }
}
