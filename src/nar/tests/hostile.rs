//! Bytes that are no NAR, or not one that everybody reads alike.

use super::*;
use crate::nix::Sha256;
use liblzma::stream::{Check, LzmaOptions, Stream};
use proptest::prelude::*;
use std::io::Read;
use std::os::unix::fs::MetadataExt as _;

const LIMIT: u64 = 1 << 20;

fn small_tree() -> Node {
    Node::directory([
        (b"a", Node::File(b"contents\n".to_vec(), 0o644)),
        (b"b", Node::directory([(b"x", Node::File(b"#!/bin/sh\n".to_vec(), 0o755))])),
        (b"c", Node::Symlink(b"a".to_vec())),
    ])
}

fn compressed(nar: &[u8], compression: Compression) -> Vec<u8> {
    match compression {
        Compression::Zstd => zstd::encode_all(nar, 3).unwrap(),
        Compression::Xz => {
            let mut bytes = Vec::new();
            liblzma::read::XzEncoder::new(nar, 6).read_to_end(&mut bytes).unwrap();
            bytes
        }
        _ => nar.to_vec(),
    }
}

fn judge(nar: &[u8]) -> Result<Packed, UnpackError> {
    verify(nar, Compression::None, LIMIT)
}

#[test]
fn what_is_cut_off_anywhere_is_refused() {
    let nar = small_tree().nar();
    assert!(judge(&nar).is_ok());
    for compression in COMPRESSIONS {
        let stored = compressed(&nar, compression);
        assert!(verify(&stored[..], compression, LIMIT).is_ok());
        for len in 0..stored.len() {
            let error = verify(&stored[..len], compression, LIMIT).expect_err("cut off");
            let expected = match compression {
                Compression::None => {
                    matches!(&error, UnpackError::Malformed { fault: NarFault::Truncated, .. })
                }
                _ => matches!(&error, UnpackError::Decompress(_) | UnpackError::Malformed { .. }),
            };
            assert!(expected, "{compression} {len}: {error:?}");
        }
    }
}

#[test]
fn what_follows_the_end_is_refused() {
    let nar = small_tree().nar();
    for more in [&[0][..], &[0; 8], &nar, &[0xff; 300_000]] {
        let error = judge(&[&nar, more].concat()).unwrap_err();
        assert!(
            matches!(&error, UnpackError::Malformed { offset, fault: NarFault::Trailing } if *offset == nar.len() as u64),
            "{error:?}"
        );
        for compression in [Compression::Zstd, Compression::Xz] {
            let inside = compressed(&[&nar, more].concat(), compression);
            assert!(verify(&inside[..], compression, LIMIT).is_err());
            if more[0] != 0 || more.len() == 1 {
                let outside = [&compressed(&nar, compression), more].concat();
                assert!(verify(&outside[..], compression, LIMIT).is_err());
            }
        }
    }
}

#[test]
fn a_nar_in_several_frames_is_one_nar() {
    let nar = small_tree().nar();
    let (front, back) = nar.split_at(100);
    for compression in [Compression::Zstd, Compression::Xz] {
        let stored = [compressed(front, compression), compressed(back, compression)].concat();
        assert_eq!(verify(&stored[..], compression, LIMIT).unwrap().nar_hash, Sha256::of(&nar));
    }
}

#[test]
fn a_flipped_bit_is_refused_or_changes_the_hash() {
    let nar = small_tree().nar();
    let sound = judge(&nar).unwrap();
    for compression in COMPRESSIONS {
        let mut stored = compressed(&nar, compression);
        for bit in 0..stored.len() * 8 {
            stored[bit / 8] ^= 1 << (bit % 8);
            if let Ok(packed) = verify(&stored[..], compression, LIMIT) {
                assert_ne!(packed.file_hash, Sha256::of(&compressed(&nar, compression)), "{compression} {bit}");
                assert!(compression != Compression::None || packed.nar_hash != sound.nar_hash, "{bit}");
            }
            stored[bit / 8] ^= 1 << (bit % 8);
        }
    }
}

/// A directory NAR of entries that are given as raw tokens.
fn directory(entries: &[&[u8]]) -> Vec<u8> {
    let mut nar = tokens(&[b"nix-archive-1", b"(", b"type", b"directory"]);
    entries.iter().for_each(|entry| nar.extend(*entry));
    nar.extend(token(b")"));
    nar
}

fn entry(name: &[u8]) -> Vec<u8> {
    let mut entry = tokens(&[b"entry", b"(", b"name", name, b"node"]);
    entry.extend(tokens(&[b"(", b"type", b"symlink", b"target", b"t", b")", b")"]));
    entry
}

/// A single file's NAR, its last part made by hand.
fn regular(rest: &[&[u8]]) -> Vec<u8> {
    [&tokens(&[b"nix-archive-1", b"(", b"type", b"regular"])[..], &rest.concat()].concat()
}

fn is_name(fault: &NarFault) -> bool {
    matches!(fault, NarFault::Name(_))
}

fn is_order(fault: &NarFault) -> bool {
    matches!(fault, NarFault::Order(_))
}

fn is_length(fault: &NarFault) -> bool {
    matches!(fault, NarFault::Length { .. })
}

fn is_token(fault: &NarFault) -> bool {
    matches!(fault, NarFault::Token { .. })
}

#[test]
fn what_breaks_the_grammar_is_refused_naming_the_place() {
    let mut bad_padding = token(b"name");
    bad_padding[15] = 1;
    let contents = token(b"contents");
    let huge = u64::MAX.to_le_bytes();
    let symlink = |target: &[u8]| tokens(&[b"nix-archive-1", b"(", b"type", b"symlink", b"target", target, b")"]);
    let node = token(b"nix-archive-1");
    type Expected = fn(&NarFault) -> bool;
    let cases: Vec<(Vec<u8>, Expected)> = vec![
        (b"<html>not found</html>".to_vec(), |fault| *fault == NarFault::Magic),
        (token(b"nix-archive-2"), |fault| *fault == NarFault::Magic),
        (token(b""), |fault| *fault == NarFault::Magic),
        (huge.to_vec(), |fault| *fault == NarFault::Magic),
        ([&node[..], &tokens(&[b")"])].concat(), is_token),
        ([&node[..], &tokens(&[b"(", b"type", b"fifo", b")"])].concat(), is_token),
        ([&node[..], &tokens(&[b"(", b"kind", b"regular"])].concat(), is_token),
        ([&node[..], &token(b"("), &huge].concat(), is_length),
        ([&node[..], &token(&[b'('; 33])].concat(), is_length),
        (regular(&[&token(b"executable"), &token(b"1")]), is_length),
        (regular(&[&token(b"executable"), &token(b""), &token(b"executable")]), is_token),
        (regular(&[&token(b"Contents")]), is_token),
        (regular(&[&contents, &huge, b"abc"]), |fault| *fault == NarFault::Truncated),
        (regular(&[&contents, &token(b"abc"), &token(b"(")]), is_token),
        (regular(&[&contents, &3u64.to_le_bytes(), b"abc\0\0\0\0\x01", &token(b")")]), |fault| {
            *fault == NarFault::Padding
        }),
        (symlink(b""), |fault| matches!(fault, NarFault::Target(_))),
        (symlink(b"a\0b"), |fault| matches!(fault, NarFault::Target(_))),
        (symlink(&[b'l'; 4096]), is_length),
        (directory(&[&entry(b"")]), is_name),
        (directory(&[&entry(b".")]), is_name),
        (directory(&[&entry(b"..")]), is_name),
        (directory(&[&entry(b"/")]), is_name),
        (directory(&[&entry(b"a/b")]), is_name),
        (directory(&[&entry(b"../../etc/passwd")]), is_name),
        (directory(&[&entry(b"a\0")]), is_name),
        (directory(&[&entry(&[b'n'; 256])]), is_length),
        (directory(&[&entry(b"a"), &entry(b"a")]), is_order),
        (directory(&[&entry(b"b"), &entry(b"a")]), is_order),
        (directory(&[&entry(b"a-"), &entry(b"a")]), is_order),
        (directory(&[&entry(b"\xff"), &entry(b"a")]), is_order),
        (directory(&[&tokens(&[b"entry", b"("]), &bad_padding]), |fault| *fault == NarFault::Padding),
        (directory(&[&tokens(&[b"entry", b"(", b"node"])]), is_token),
        (directory(&[&tokens(&[b"Entry", b"("])]), is_token),
        (directory(&[&tokens(&[b"entry", b"(", b"name", b"a", b")"])]), is_token),
    ];
    for (number, (nar, expected)) in cases.iter().enumerate() {
        let dir = tempfile::tempdir().unwrap();
        for error in [judge(nar), unpack(&nar[..], Compression::None, LIMIT, &dir.path().join("t"))] {
            match error {
                Err(error @ UnpackError::Malformed { .. }) => {
                    let UnpackError::Malformed { offset, fault } = &error else { continue };
                    assert!(expected(fault), "{number}: {error:?}");
                    assert!(*offset <= nar.len() as u64, "{number}: {error:?}");
                    assert!(error.to_string().contains(&format!("byte {offset}")), "{error}");
                    assert!(fault.to_string().len() < 2000, "{number}");
                }
                other => panic!("{number}: {other:?}"),
            }
        }
    }
    assert!(judge(&directory(&[&entry(b"a"), &entry(b"a-")])).is_ok());
    assert!(judge(&symlink(&[b'l'; 4095])).is_ok());
}

/// A symlink first, then a directory of the same name to write through: the order forbids it before anything happens.
#[test]
fn nothing_is_written_through_a_symlink() {
    let dir = tempfile::tempdir().unwrap();
    let outside = dir.path().join("outside");
    fs::create_dir(&outside).unwrap();
    let before = fs::metadata(&outside).unwrap().mtime_nsec();
    let link = [
        tokens(&[b"entry", b"(", b"name", b"a", b"node"]),
        tokens(&[b"(", b"type", b"symlink", b"target", outside.as_os_str().as_bytes(), b")", b")"]),
    ]
    .concat();
    let through = [
        tokens(&[b"entry", b"(", b"name", b"a", b"node", b"(", b"type", b"directory"]),
        entry(b"written"),
        tokens(&[b")", b")"]),
    ]
    .concat();
    let nar = directory(&[&link, &through]);
    let error = unpack(&nar[..], Compression::None, LIMIT, &dir.path().join("t")).unwrap_err();
    assert!(matches!(&error, UnpackError::Malformed { fault: NarFault::Order(_), .. }), "{error:?}");
    assert_eq!(fs::read_dir(&outside).unwrap().count(), 0);
    assert_eq!(fs::metadata(&outside).unwrap().mtime_nsec(), before);
}

#[test]
fn endless_nesting_is_refused() {
    let mut nar = tokens(&[b"nix-archive-1", b"(", b"type", b"directory"]);
    for _ in 0..5_000 {
        nar.extend(tokens(&[b"entry", b"(", b"name", b"d", b"node", b"(", b"type", b"directory"]));
    }
    let error = verify(&nar[..], Compression::None, u64::MAX).unwrap_err();
    assert!(matches!(&error, UnpackError::Malformed { fault: NarFault::Depth, .. }), "{error:?}");
}

#[test]
fn decompression_bombs_are_stopped_at_the_limit() {
    let bomb = Node::File(vec![0; 3 << 20], 0o644).nar();
    for compression in [Compression::Zstd, Compression::Xz] {
        let stored = compressed(&bomb, compression);
        assert!(stored.len() < 100_000, "{compression}");
        let error = verify(&stored[..], compression, LIMIT).unwrap_err();
        assert!(matches!(&error, UnpackError::TooLarge { limit: LIMIT }), "{error:?}");
    }
}

#[test]
fn windows_up_to_128_mib_are_read_and_no_larger_ones() {
    let nar = small_tree().nar();
    for (window, fits) in [(27, true), (28, false), (31, false)] {
        let mut encoder = zstd::Encoder::new(Vec::new(), 1).unwrap();
        encoder.window_log(window).unwrap();
        encoder.long_distance_matching(true).unwrap();
        encoder.write_all(&nar).unwrap();
        let stored = encoder.finish().unwrap();
        assert_eq!(verify(&stored[..], Compression::Zstd, LIMIT).is_ok(), fits, "{window}");
    }
    // The dictionary size is one byte of the block's header, which ends in a checksum of its own.
    let options = LzmaOptions::new_preset(0).unwrap();
    let mut filters = liblzma::stream::Filters::new();
    filters.lzma2(&options);
    let stream = Stream::new_stream_encoder(&filters, Check::Crc32).unwrap();
    let mut encoder = liblzma::write::XzEncoder::new_stream(Vec::new(), stream);
    encoder.write_all(&nar).unwrap();
    let sound = encoder.finish().unwrap();
    let header = 12..12 + (usize::from(sound[12]) + 1) * 4;
    assert_eq!(sound[14..16], [0x21, 1], "LZMA2 with one byte of properties");
    for (code, fits) in [(sound[16], true), (28, true), (40, false)] {
        let mut stored = sound.clone();
        stored[16] = code;
        let checksum = crc32(&stored[header.start..header.end - 4]);
        stored[header.end - 4..header.end].copy_from_slice(&checksum.to_le_bytes());
        let result = verify(&stored[..], Compression::Xz, LIMIT);
        assert_eq!(result.is_ok(), fits, "{code}: {result:?}");
    }
}

fn crc32(bytes: &[u8]) -> u32 {
    !bytes
        .iter()
        .fold(!0u32, |sum, byte| (0..8).fold(sum ^ u32::from(*byte), |sum, _| (sum >> 1) ^ (0xedb8_8320 * (sum & 1))))
}

#[test]
fn a_reader_that_fails_is_not_a_bad_nar() {
    struct Failing<'a>(&'a [u8]);
    impl Read for Failing<'_> {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            if self.0.is_empty() { Err(io::Error::other("connection lost")) } else { self.0.read(buffer) }
        }
    }
    let nar = small_tree().nar();
    for compression in COMPRESSIONS {
        let stored = compressed(&nar, compression);
        for len in [0, 10, stored.len()] {
            let error = verify(Failing(&stored[..len]), compression, LIMIT).unwrap_err();
            assert!(
                matches!(&error, UnpackError::Read(cause) if cause.to_string() == "connection lost"),
                "{compression} {len}: {error:?}"
            );
            assert_eq!(error.remedy(), crate::remedy::Remedy::Retry);
        }
    }
}

#[test]
fn the_wrong_compression_is_refused() {
    let nar = small_tree().nar();
    for written in COMPRESSIONS {
        for read in COMPRESSIONS {
            let result = verify(&compressed(&nar, written)[..], read, LIMIT);
            assert_eq!(result.is_ok(), written == read, "{written} {read}: {result:?}");
        }
    }
    let error = verify(&nar[..], Compression::Bzip2, LIMIT).unwrap_err();
    assert!(matches!(error, UnpackError::Unsupported(Compression::Bzip2)), "{error:?}");
}

proptest! {
    #[test]
    fn damage_never_panics(at: prop::sample::Index, bytes in proptest::collection::vec(any::<u8>(), 0..20)) {
        let mut nar = small_tree().nar();
        let at = at.index(nar.len());
        let end = (at + bytes.len()).min(nar.len());
        nar.splice(at..end, bytes);
        let dir = tempfile::tempdir().unwrap();
        let _ = unpack(&nar[..], Compression::None, LIMIT, &dir.path().join("t"));
        for compression in COMPRESSIONS {
            let _ = verify(&nar[at..], compression, LIMIT);
        }
    }
}
