use super::*;
use crate::nix::{KeyName, SecretKey};
use proptest::prelude::*;
use std::error::Error as _;

const HASH: &str = "sha256:0mdqa9w1p6cmli6976v4wi0sw9r4p5prkj7lzfd1877wk11c9c73";
const PATH: &str = "0c0ngrnyz7b7w2hzwzvhyzxqdqz3dnya-x";

/// A narinfo with every key, as (key, value) in Nix's order.
fn lines() -> Vec<(&'static str, String)> {
    let signature = format!("key-1:{}", data_encoding::BASE64.encode(&[7; 64]));
    vec![
        ("StorePath", format!("/nix/store/{PATH}")),
        ("URL", "nar/a.nar.zst".into()),
        ("Compression", "zstd".into()),
        ("FileHash", HASH.into()),
        ("FileSize", "96".into()),
        ("NarHash", HASH.into()),
        ("NarSize", "120".into()),
        ("References", PATH.into()),
        ("Deriver", format!("{PATH}.drv")),
        ("Sig", signature),
        ("CA", format!("fixed:r:{HASH}")),
    ]
}

fn text(lines: &[(&str, String)]) -> String {
    lines.iter().map(|(key, value)| format!("{key}: {value}\n")).collect()
}

fn parse(text: impl AsRef<[u8]>) -> Result<NarInfo, NarInfoError> {
    NarInfo::parse(&StoreDir::default(), text.as_ref())
}

/// The error and its causes, as a user would read them.
fn told(error: &NarInfoError) -> String {
    match error.source() {
        Some(cause) => format!("{error}: {cause}"),
        None => error.to_string(),
    }
}

/// The sound narinfo with one key's value replaced.
fn with(key: &str, value: &str) -> String {
    let mut lines = lines();
    lines.iter_mut().find(|line| line.0 == key).unwrap().1 = value.to_owned();
    text(&lines)
}

fn without(key: &str) -> String {
    let mut lines = lines();
    lines.retain(|line| line.0 != key);
    text(&lines)
}

#[test]
fn the_sound_narinfo_is_sound() {
    let text = text(&lines());
    assert_eq!(parse(&text).unwrap().print(&StoreDir::default()), text);
}

#[test]
fn hostile_values_are_refused_naming_key_and_line() {
    let long = format!("0c0ngrnyz7b7w2hzwzvhyzxqdqz3dnya-{}", "x".repeat(1 << 20));
    let cases = [
        ("StorePath", "", 1),
        ("StorePath", PATH, 1),
        ("StorePath", "/nix/store/", 1),
        ("StorePath", "/gnu/store/0c0ngrnyz7b7w2hzwzvhyzxqdqz3dnya-x", 1),
        ("StorePath", "/nix/store/0c0ngrnyz7b7w2hzwzvhyzxqdqz3dnya-x/bin", 1),
        ("StorePath", "/nix/store/../0c0ngrnyz7b7w2hzwzvhyzxqdqz3dnya-x", 1),
        ("StorePath", "/nix/store/ec0ngrnyz7b7w2hzwzvhyzxqdqz3dnya-x", 1),
        ("StorePath", &long, 1),
        ("URL", "", 2),
        ("URL", "https://elsewhere/nar/a", 2),
        ("URL", "nar/../0c0ngrnyz7b7w2hzwzvhyzxqdqz3dnya.narinfo", 2),
        ("URL", "nar//a", 2),
        ("URL", "nar/a%2fb", 2),
        ("URL", "nar/a?x=1", 2),
        ("URL", "a.nar.zst", 2),
        ("URL", &long, 2),
        ("Compression", "", 3),
        ("Compression", "gzip", 3),
        ("Compression", "zstd xz", 3),
        ("FileHash", "", 4),
        ("FileHash", "sha512:00", 4),
        ("FileHash", "sha256:0mdqa9w1", 4),
        ("FileHash", &long, 4),
        ("FileSize", "0", 5),
        ("FileSize", "-1", 5),
        ("FileSize", "18446744073709551616", 5),
        ("NarHash", "md5:00000000000000000000000000000000", 6),
        ("NarHash", "sha256:zzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzz", 6),
        ("NarSize", "0", 7),
        ("NarSize", "", 7),
        ("NarSize", "+1", 7),
        ("NarSize", "01", 7),
        ("NarSize", " 1", 7),
        ("NarSize", "1 ", 7),
        ("NarSize", "0x10", 7),
        ("NarSize", "1e3", 7),
        ("NarSize", "٣", 7),
        ("References", "x", 8),
        ("References", "/nix/store/0c0ngrnyz7b7w2hzwzvhyzxqdqz3dnya-x", 8),
        ("References", "0c0ngrnyz7b7w2hzwzvhyzxqdqz3dnya-x  0c0ngrnyz7b7w2hzwzvhyzxqdqz3dnya-y", 8),
        ("References", "0c0ngrnyz7b7w2hzwzvhyzxqdqz3dnya-x ", 8),
        ("References", "0c0ngrnyz7b7w2hzwzvhyzxqdqz3dnya-x,y", 8),
        ("References", &long, 8),
        ("Deriver", "", 9),
        ("Deriver", PATH, 9),
        ("Deriver", "x.drv", 9),
        ("Deriver", "/nix/store/0c0ngrnyz7b7w2hzwzvhyzxqdqz3dnya-x.drv", 9),
        ("Sig", "", 10),
        ("Sig", "key-1", 10),
        ("Sig", "key-1:AAAA", 10),
        ("Sig", &long, 10),
        ("CA", "", 11),
        ("CA", "fixed:r:sha256:short", 11),
        ("CA", &long, 11),
    ];
    for (key, value, line) in cases {
        let error = parse(with(key, value)).unwrap_err();
        assert!(
            matches!(error, NarInfoError::Value { key: named, line: counted, .. } if named == key && counted == line),
            "{error:?}"
        );
        let told = told(&error);
        assert!(told.contains(key) && told.contains(&format!("line {line}")), "{told}");
        assert!(told.len() < 1000, "a long value is not repeated: {}", told.len());
    }
}

#[test]
fn hostile_texts_are_refused_naming_the_place() {
    let sound = text(&lines());
    let line = |number: usize, text: &str| {
        let mut lines: Vec<String> = sound.lines().map(str::to_owned).collect();
        lines[number - 1] = text.to_owned();
        lines.join("\n") + "\n"
    };
    let cases: Vec<(Vec<u8>, NarInfoError)> = vec![
        (b"".into(), NarInfoError::Ending),
        (b"StorePath".into(), NarInfoError::Ending),
        (sound.trim_end().into(), NarInfoError::Ending),
        (sound.replace("NarSize", "NarSi\u{0}ze").into(), control(7, "NarSi\u{0}ze: 120")),
        (sound.replace("nar/a.nar", "nar/a\r.nar").into(), control(2, "URL: nar/a\r.nar.zst")),
        (format!("{sound}New: a\tb\n").into(), control(12, "New: a\tb")),
        (line(8, "References:").into(), malformed(8, "References:")),
        (line(8, "References").into(), malformed(8, "References")),
        (line(3, "").into(), malformed(3, "")),
        (line(3, ": x").into(), malformed(3, ": x")),
        (line(3, " Compression: zstd").into(), malformed(3, " Compression: zstd")),
        (line(3, "Compression : zstd").into(), malformed(3, "Compression : zstd")),
        (line(3, "Compression:zstd").into(), malformed(3, "Compression:zstd")),
        (format!("\n{sound}").into(), malformed(1, "")),
        (format!("{sound}\n").into(), malformed(12, "")),
        (b"<html><body>404</body></html>\n".into(), malformed(1, "<html><body>404</body></html>")),
        (b"NarSize: 1\nX: \xff\xfe\n".into(), NarInfoError::Encoding { line: 2 }),
        (b"\x28\xb5\x2f\xfd\x00".into(), NarInfoError::Encoding { line: 1 }),
    ];
    for (bytes, expected) in cases {
        assert_eq!(parse(&bytes).unwrap_err(), expected);
    }
}

fn control(line: usize, text: &str) -> NarInfoError {
    NarInfoError::Control { line, text: text.into() }
}

fn malformed(line: usize, text: &str) -> NarInfoError {
    NarInfoError::Line { line, text: text.into() }
}

#[test]
fn every_key_but_sig_stands_once() {
    for (index, (key, value)) in lines().into_iter().enumerate() {
        let doubled = format!("{}{key}: {value}\n", text(&lines()));
        let result = parse(&doubled);
        if key == "Sig" {
            assert_eq!(result.unwrap().signatures.len(), 1, "repetitions are dropped");
        } else {
            assert_eq!(result, Err(NarInfoError::Repeated { key, line: lines().len() + 1 }), "{index}");
        }
    }
}

#[test]
fn missing_keys() {
    for key in ["StorePath", "URL", "NarHash", "NarSize", "References"] {
        assert_eq!(parse(without(key)), Err(NarInfoError::Missing { key }));
    }
    for key in ["FileHash", "FileSize", "Deriver", "Sig", "CA"] {
        let text = without(key);
        assert_eq!(parse(&text).unwrap().print(&StoreDir::default()), text);
    }
    assert_eq!(parse(without("Compression")).unwrap().compression, Compression::Bzip2);
}

#[test]
fn an_unsupported_compression_is_told_from_garbage() {
    let error = parse(with("Compression", "br")).unwrap_err();
    assert_eq!(error.unsupported_compression(), Some("br"));
    assert!(told(&error).contains("Compression br is not supported"), "{}", told(&error));
    assert_eq!(parse(with("Compression", "brr")).unwrap_err().unsupported_compression(), None);
    assert_eq!(parse(with("NarSize", "br")).unwrap_err().unsupported_compression(), None);
}

#[test]
fn what_other_writers_do_is_understood() {
    let sound = parse(text(&lines())).unwrap();
    let mut foreign = lines();
    foreign.reverse();
    foreign.insert(3, ("System", "x86_64-linux".into()));
    foreign.push(("System", "späßig".into()));
    assert_eq!(parse(text(&foreign)).unwrap(), sound, "any order, unknown keys");

    assert_eq!(parse(with("Deriver", "unknown-deriver")).unwrap().deriver, None);
    let hex = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
    assert_eq!(parse(with("NarHash", hex)).unwrap().nar_hash, sound.nar_hash);

    let (a, b) = (PATH.replace("-x", "-a"), PATH.replace("-x", "-b"));
    let unsorted = parse(with("References", &format!("{b} {a} {b}"))).unwrap();
    assert_eq!(unsorted.references.iter().map(StorePath::as_str).collect::<Vec<_>>(), [a, b]);
}

#[test]
fn a_million_references_are_read_in_order() {
    let references: Vec<String> = (0..1_000_000u32).rev().map(|n| format!("{n:032}-x")).collect();
    let info = parse(with("References", &references.join(" "))).unwrap();
    assert_eq!(info.references.len(), 1_000_000);
    assert!(info.references.is_sorted());
    assert_eq!(parse(info.print(&StoreDir::default())).unwrap(), info);
    let signatures: String = (0..20_000).map(|n| format!("Sig: k{n}:{}\n", &lines()[9].1[6..])).collect();
    assert_eq!(parse(text(&lines()) + &signatures).unwrap().signatures.len(), 20_001);
}

fn any_path() -> impl Strategy<Value = StorePath> {
    "[0-9abcdfghijklmnpqrsvwxyz]{32}-[0-9a-zA-Z+._?=-]{1,20}".prop_map(|base| StorePath::parse(&base).unwrap())
}

prop_compose! {
    fn any_nar_info()(
        path in any_path(),
        compression in prop_oneof![Just(Compression::Zstd), Just(Compression::Xz), Just(Compression::None)],
        file in proptest::option::of((any::<[u8; 32]>(), 1..u64::MAX)),
        nar_hash: [u8; 32],
        nar_size: NonZeroU64,
        mut references in proptest::collection::vec(any_path(), 0..5),
        deriver in proptest::option::of(any_path()),
        keys in proptest::collection::hash_set("[a-z.]{1,8}", 0..3),
        ca in any::<bool>(),
    ) -> NarInfo {
        references.sort();
        references.dedup();
        let nar_hash = Sha256::from_bytes(nar_hash);
        let mut info = NarInfo {
            url: NarUrl::parse(&format!("nar/{}{}", nar_hash.to_nix32(), compression.suffix())).unwrap(),
            path,
            compression,
            file_hash: file.map(|file| Sha256::from_bytes(file.0)),
            file_size: file.map(|file| file.1),
            nar_hash,
            nar_size,
            references,
            deriver: deriver.map(|path| StorePath::parse(&format!("{path}.drv")).unwrap()),
            signatures: vec![],
            ca: ca.then(|| ContentAddress::parse(&format!("fixed:{nar_hash}")).unwrap()),
        };
        let fingerprint = info.fingerprint(&StoreDir::default());
        info.signatures = keys
            .iter()
            .map(|name| SecretKey::generate(KeyName::parse(name).unwrap()).unwrap().sign(&fingerprint))
            .collect();
        info
    }
}

proptest! {
    #[test]
    fn parses_what_it_printed(info in any_nar_info()) {
        let dir = StoreDir::default();
        let text = info.print(&dir);
        prop_assert_eq!(NarInfo::parse(&dir, text.as_bytes()).unwrap(), info);
    }

    #[test]
    fn damage_never_panics_and_what_is_taken_prints_stably(
        info in any_nar_info(),
        at: prop::sample::Index,
        byte: u8,
        cut in any::<bool>(),
    ) {
        let dir = StoreDir::default();
        let mut bytes = info.print(&dir).into_bytes();
        let at = at.index(bytes.len());
        if cut { bytes.truncate(at) } else { bytes[at] = byte }
        if let Ok(info) = NarInfo::parse(&dir, &bytes) {
            let text = info.print(&dir);
            prop_assert_eq!(NarInfo::parse(&dir, text.as_bytes()).unwrap(), info);
        }
    }

    #[test]
    fn garbage_never_panics(bytes: Vec<u8>, text in "(StorePath|URL|Sig|NarSize|References)?:? ?\\PC*\n") {
        let _ = parse(bytes);
        let _ = parse(text);
    }
}
