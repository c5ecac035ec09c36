//! T10: every kind of damage that is planted is found under its name, mended, and what was taken out comes back.
//!
//! Each case is run twice: with the store that the bucket was filled from, and without any.

use crate::support::checking::{Checker, Told, bytes, field, nar_key, narinfo_key, set_field, text};
use crate::support::closures::small;
use crate::support::oracle::Oracle;
use crate::support::pruning::{DAY, Pruner};
use crate::support::world::World;
use bytes::Bytes;
use loft::bucket::Key;
use loft::check::{Kind, Severity};
use loft::ledger::Ledger;
use loft::nix::{KeyName, NarInfo, SecretKey, Sha256, StoreDir, StorePath};
use loft::prune;
use loft::record::{Keep, LeaseRecord, PinRecord, TrashRecord, seconds};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

/// A bucket that a push has filled, to be damaged again and again.
struct Ground {
    world: World,
    /// Where everything stands before any damage.
    sound: BTreeMap<Key, Bytes>,
    base: StorePath,
    lib: StorePath,
    app: StorePath,
    /// Two paths that share a NAR.
    twins: [StorePath; 2],
}

const ID: &str = "01ARZ3NDEKTSV4RRFFQ69G5FAV";

impl Ground {
    async fn new() -> Self {
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

    fn reset(&mut self) {
        for key in self.world.keys("") {
            self.world.bucket.lose(&key);
        }
        self.world.bucket.lose_uploads();
        for (key, bytes) in &self.sound {
            self.world.bucket.plant(key.as_str(), bytes.clone());
        }
        self.world.ledger = Arc::new(Ledger::in_memory());
    }

    fn edit(&self, path: &StorePath, change: impl FnOnce(String) -> String) {
        let key = narinfo_key(path);
        let old = text(&self.world, &key);
        let new = change(old.clone());
        assert_ne!(old, new, "nothing was changed");
        self.world.bucket.plant(&key, new);
    }

    fn set(&self, path: &StorePath, name: &str, value: &str) {
        set_field(&self.world, path, name, value);
    }

    fn nar(&self, path: &StorePath, change: impl FnOnce(Vec<u8>) -> Vec<u8>) {
        let key = nar_key(&self.world, path);
        self.world.bucket.plant(&key, change(bytes(&self.world, &key)));
    }

    /// Another stored NAR, with the sizes and hashes of the stored file that fit it: no signature covers those.
    fn replace_nar(&self, path: &StorePath, stored: Vec<u8>, compression: &str) {
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

fn pin_to_nothing(ground: &Ground, keep: Keep) {
    let now = seconds(loft::clock::Clock::wall(ground.world.clock.as_ref()));
    let roots = vec![ground.world.store.missing("gone")];
    let pin = PinRecord::new("x".into(), now, roots, keep);
    ground.world.bucket.plant(&format!("loft/v1/pin/name/{ID}"), pin.print());
}

/// The one damage that no repair can mend without a copy: it says so, and the pin stays.
#[tokio::test]
async fn what_a_pin_keeps_comes_back_where_there_is_a_copy() {
    let ground = Ground::new().await;
    pin_to_nothing(&ground, Keep::Forever);
    let checker = Checker::new(&ground.world);
    let told = checker.run().await;
    assert_eq!(told.bad(), BTreeSet::from([Kind::PinnedMissing]));
    let mended = checker.repair(&told.checked, true).await.unwrap();
    assert!(mended.failed.len() == 1 && mended.failed[0].1.contains("remove the pin"), "{mended:?}");
    assert_eq!(ground.world.keys("loft/v1/pin/").len(), 1);
    // From another cache it may come, and then nothing is amiss.
    let mut elsewhere = Checker::new(&ground.world);
    elsewhere.options.upstreams = vec!["elsewhere".into()];
    let told = elsewhere.run().await;
    assert!(told.bad().is_empty() && told.of(Kind::PinEmpty).len() == 1, "{told:?}");

    for has_store in [true, false] {
        let world = World::new();
        let [base, ..] = small(&world);
        world.push(&[&base]).await.unwrap();
        let pin = PinRecord::new("x".into(), 1, vec![base.clone()], Keep::Forever);
        if has_store {
            world.bucket.lose(&narinfo_key(&base));
        } else {
            world.pass(40 * DAY);
            let mut pruner = Pruner::new(&world);
            pruner.options.remove_most = true;
            assert_eq!(pruner.run().await.removed.len(), 1);
        }
        world.forgive();
        world.bucket.plant(&format!("loft/v1/pin/name/{ID}"), pin.print());
        let checker = Checker::new(&world);
        let told = checker.run().await;
        assert_eq!(told.bad(), BTreeSet::from([Kind::PinnedMissing]));
        let mended = checker.repair(&told.checked, has_store).await.unwrap();
        assert!(mended.is_complete(), "{mended:?}");
        assert!(world.visible().contains(&base) && checker.run().await.checked.is_clean(), "{mended:?}");
    }
}

struct Case {
    name: &'static str,
    /// All damage that is to be found, and notes among other notes.
    expected: Vec<Kind>,
    plant: Box<dyn Fn(&Ground)>,
}

fn case(name: &'static str, expected: &[Kind], plant: impl Fn(&Ground) + 'static) -> Case {
    Case { name, expected: expected.to_vec(), plant: Box::new(plant) }
}

/// Finds, mends and undoes all of them.
async fn run(cases: Vec<Case>) {
    let mut ground = Ground::new().await;
    for has_store in [true, false] {
        for case in &cases {
            ground.reset();
            (case.plant)(&ground);
            run_one(&ground, case, has_store).await;
        }
    }
    println!("{} cases", cases.len());
}

async fn run_one(ground: &Ground, case: &Case, has_store: bool) {
    let name = format!("{} ({})", case.name, if has_store { "with a store" } else { "without" });
    let checker = Checker::new(&ground.world);
    let told = checker.run().await;
    found(&name, case, &told);
    let before = ground.world.bucket.contents();
    if told.checked.is_clean() {
        return;
    }
    let mended = checker.repair(&told.checked, has_store).await.unwrap_or_else(|error| panic!("{name}: {error:?}"));
    assert!(mended.is_complete(), "{name}: {mended:?}");
    let again = checker.run().await;
    assert_eq!(again.bad(), BTreeSet::new(), "{name}: {mended:#?} {again:#?}");
    Oracle::new().check(&ground.world.bucket.contents()).unwrap_or_else(|error| panic!("{name}: {error}"));
    if has_store {
        assert_eq!(mended.removed, [], "{name}: nothing need go where the store has all");
    }
    undo(ground, &name, &before, &mended.trash).await;
}

fn found(name: &str, case: &Case, told: &Told) {
    let expected: BTreeSet<Kind> =
        case.expected.iter().copied().filter(|kind| kind.severity() == Severity::Damage).collect();
    assert_eq!(told.bad(), expected, "{name}: {:#?}", told.findings);
    let all = told.kinds();
    assert!(case.expected.iter().all(|kind| all.contains(kind)), "{name}: {all:?}");
    for finding in &told.findings {
        assert!(finding.problem.len() < 2000 && !finding.problem.is_empty(), "{name}: {finding:?}");
    }
}

/// What was taken out comes back byte for byte; of what can come back sound, the URL is new.
async fn undo(ground: &Ground, name: &str, before: &BTreeMap<Key, Bytes>, trash: &[ulid::Ulid]) {
    let pruner = Pruner::new(&ground.world);
    let plain = |bytes: &[u8]| -> Vec<u8> {
        match NarInfo::parse(&StoreDir::default(), bytes) {
            Ok(_) => {
                let text = String::from_utf8(bytes.to_vec()).unwrap();
                text.lines().filter(|line| !line.starts_with("URL: ")).collect::<String>().into_bytes()
            }
            Err(_) => bytes.to_vec(),
        }
    };
    for id in trash {
        let key = Key::trash(*id);
        let record = TrashRecord::parse(key.as_str(), &ground.world.bucket.contents()[&key]).unwrap();
        // What is whole is said anew by a repair; with that gone, nothing refuses the undo.
        let mut undone = prune::Undone::default();
        prune::undo(&pruner.ends(), &pruner.options, *id, &mut undone).await.unwrap();
        let now = ground.world.bucket.contents();
        for (path, restored) in undone.paths {
            assert!(!matches!(restored, prune::Restored::Failed(_)), "{name}: {path} {restored:?}");
            let key = Key::nar_info(&path);
            assert_eq!(plain(&now[&key]), plain(&before[&key]), "{name}: {key}");
        }
        for object in &record.set_aside {
            let key = Key::listed(object.key.as_str());
            assert_eq!(object.bytes().unwrap(), before[&key], "{name}: {key}");
            if key.kind() != loft::bucket::Kind::Foreign {
                assert_eq!(now[&key], before[&key], "{name}: {key}");
            }
        }
    }
}

fn narinfo_case(name: &'static str, expected: &[Kind], change: impl Fn(String) -> String + 'static) -> Case {
    case(name, expected, move |ground| ground.edit(&ground.lib, &change))
}

fn field_case(name: &'static str, expected: &[Kind], key: &'static str, value: &'static str) -> Case {
    case(name, expected, move |ground| ground.set(&ground.lib, key, value))
}

const MALFORMED: &[Kind] = &[Kind::NarInfoMalformed];
const FORGED: &[Kind] = &[Kind::SignatureInvalid];
const FORGED_AND_WRONG: &[Kind] = &[Kind::SignatureInvalid, Kind::NarData];
const DATA: &[Kind] = &[Kind::NarData];

#[tokio::test]
async fn garbled_narinfos() {
    let without = |key: &'static str| {
        move |text: String| text.lines().filter(|line| !line.starts_with(key)).map(|line| format!("{line}\n")).collect()
    };
    let twice = |key: &'static str| {
        move |text: String| {
            let line = text.lines().find(|line| line.starts_with(key)).unwrap().to_owned();
            format!("{text}{line}\n")
        }
    };
    run(vec![
        narinfo_case("empty", MALFORMED, |_| String::new()),
        narinfo_case("one newline", MALFORMED, |_| "\n".into()),
        narinfo_case("no newline at the end", MALFORMED, |text| text.trim_end().to_owned()),
        narinfo_case("cut in the middle", MALFORMED, |text| text[..text.len() / 2].to_owned()),
        narinfo_case("cut after a line", MALFORMED, |text| {
            text.lines().take(4).map(|line| format!("{line}\n")).collect()
        }),
        narinfo_case("a web page", MALFORMED, |_| "<html><body>502 Bad Gateway</body></html>\n".into()),
        narinfo_case("zeros", MALFORMED, |text| "\0".repeat(text.len())),
        narinfo_case("a NUL in a line", MALFORMED, |text| text.replace("NarSize: ", "NarSize: \0")),
        narinfo_case("an escape sequence", MALFORMED, |text| text.replace("-lib\n", "-lib\u{1b}[2J\n")),
        narinfo_case("carriage returns", MALFORMED, |text| text.replace('\n', "\r\n")),
        narinfo_case("an empty line", MALFORMED, |text| format!("\n{text}")),
        narinfo_case("a line without a colon", MALFORMED, |text| format!("{text}nonsense\n")),
        narinfo_case("no space after a colon", MALFORMED, |text| text.replace("URL: ", "URL:")),
        narinfo_case("upper case", MALFORMED, |text| text.to_uppercase()),
        narinfo_case("no StorePath", MALFORMED, without("StorePath")),
        narinfo_case("no URL", MALFORMED, without("URL")),
        narinfo_case("no NarHash", MALFORMED, without("NarHash")),
        narinfo_case("no NarSize", MALFORMED, without("NarSize")),
        narinfo_case("no References", MALFORMED, without("References")),
        narinfo_case("StorePath twice", MALFORMED, twice("StorePath")),
        narinfo_case("URL twice", MALFORMED, twice("URL")),
        narinfo_case("References twice", MALFORMED, twice("References")),
        narinfo_case("another store directory", MALFORMED, |text| text.replace("/nix/store", "/gnu/store")),
        case("bytes that are no text", MALFORMED, |ground| {
            let key = narinfo_key(&ground.lib);
            let mut damaged = bytes(&ground.world, &key);
            damaged[60] = 0xff;
            ground.world.bucket.plant(&key, damaged);
        }),
        case("larger than any narinfo", MALFORMED, |ground| {
            ground.world.bucket.plant(&narinfo_key(&ground.lib), vec![b'x'; 17 << 20]);
        }),
        case("another path's narinfo", &[Kind::NarInfoOtherPath], |ground| {
            let other = bytes(&ground.world, &narinfo_key(&ground.base));
            ground.world.bucket.plant(&narinfo_key(&ground.lib), other);
        }),
        case("another path's name", &[Kind::NarInfoOtherPath], |ground| {
            let path = format!("/nix/store/{}", ground.base);
            ground.set(&ground.lib, "StorePath", &path);
        }),
    ])
    .await;
}

#[tokio::test]
async fn garbled_fields() {
    run(vec![
        field_case("an empty URL", MALFORMED, "URL", ""),
        field_case("a URL elsewhere", MALFORMED, "URL", "https://example.org/nar/x.nar.zst"),
        field_case("an absolute URL", MALFORMED, "URL", "/etc/passwd"),
        field_case("a URL that climbs", MALFORMED, "URL", "nar/../nix-cache-info"),
        field_case("a URL that climbs out", MALFORMED, "URL", "../other/nar/x.nar"),
        field_case("an encoded URL", MALFORMED, "URL", "nar/%2e%2e/x.nar"),
        field_case("a URL with two slashes", MALFORMED, "URL", "nar//x.nar"),
        field_case("a URL with a query", MALFORMED, "URL", "nar/x.nar?versionId=1"),
        field_case("a URL to a record", MALFORMED, "URL", "loft/v1/bucket.json"),
        field_case("a URL to nowhere", &[Kind::NarMissing], "URL", "nar/nowhere.nar.zst"),
        field_case("NarSize 0", MALFORMED, "NarSize", "0"),
        field_case("a negative NarSize", MALFORMED, "NarSize", "-1"),
        field_case("NarSize in octal", MALFORMED, "NarSize", "0112"),
        field_case("a NarSize beyond all", MALFORMED, "NarSize", "99999999999999999999999"),
        field_case("another NarSize", FORGED_AND_WRONG, "NarSize", "112"),
        field_case("the largest NarSize", FORGED_AND_WRONG, "NarSize", "18446744073709551615"),
        field_case("NarHash by MD5", MALFORMED, "NarHash", "md5:d41d8cd98f00b204e9800998ecf8427e"),
        field_case("a NarHash that is none", MALFORMED, "NarHash", "sha256:uuuu"),
        case("another NarHash", FORGED_AND_WRONG, |ground| {
            ground.set(&ground.lib, "NarHash", &Sha256::of(b"other").to_string());
        }),
        field_case("a FileHash that is none", MALFORMED, "FileHash", "sha256:"),
        case("another FileHash", DATA, |ground| {
            ground.set(&ground.lib, "FileHash", &Sha256::of(b"other").to_string());
        }),
        field_case("FileSize 0", MALFORMED, "FileSize", "0"),
        field_case("another FileSize", &[Kind::NarSize], "FileSize", "77"),
        field_case("another compression", DATA, "Compression", "xz"),
        field_case("no compression", DATA, "Compression", "none"),
        field_case("a compression that is none", MALFORMED, "Compression", "lz99"),
        field_case("References that are none", MALFORMED, "References", "a b c"),
        field_case("full paths as References", MALFORMED, "References", "/nix/store/x"),
        field_case("no references", FORGED, "References", ""),
        case("a reference too many", FORGED, |ground| {
            let references = format!("{} {}", ground.base, ground.twins[0]);
            let mut sorted: Vec<&str> = references.split(' ').collect();
            sorted.sort_unstable();
            ground.set(&ground.lib, "References", &sorted.join(" "));
        }),
        field_case("a signature that is none", MALFORMED, "Sig", "x"),
        case("a flipped signature", FORGED, |ground| {
            let sig = field(&text(&ground.world, &narinfo_key(&ground.lib)), "Sig").to_owned();
            let at = sig.len() - 10;
            let other = if &sig[at..=at] == "A" { "B" } else { "A" };
            ground.set(&ground.lib, "Sig", &format!("{}{other}{}", &sig[..at], &sig[at + 1..]));
        }),
        case("a signature by a stranger under our name", FORGED, |ground| {
            let stranger = SecretKey::generate(KeyName::parse("test-1").unwrap()).unwrap();
            let narinfo = bytes(&ground.world, &narinfo_key(&ground.lib));
            let info = NarInfo::parse(&StoreDir::default(), &narinfo).unwrap();
            let forged = stranger.sign(&info.fingerprint(&StoreDir::default()));
            ground.set(&ground.lib, "Sig", &forged.to_string());
        }),
        case("another path's signature", FORGED, |ground| {
            let sig = field(&text(&ground.world, &narinfo_key(&ground.base)), "Sig").to_owned();
            ground.set(&ground.lib, "Sig", &sig);
        }),
        narinfo_case("a deriver that is none", MALFORMED, |text| format!("{text}Deriver: nonsense\n")),
        narinfo_case("a content address that is none", MALFORMED, |text| format!("{text}CA: nonsense\n")),
        // Notes.
        narinfo_case("a key of the future", &[Kind::NarInfoUnusual], |text| format!("{text}New: x\n")),
        narinfo_case("another order", &[Kind::NarInfoUnusual], |text| {
            let mut lines: Vec<&str> = text.lines().collect();
            lines.swap(0, 1);
            lines.iter().map(|line| format!("{line}\n")).collect()
        }),
        narinfo_case("no FileHash", &[Kind::NarInfoUnusual], |text| {
            text.lines().filter(|line| !line.starts_with("File")).map(|line| format!("{line}\n")).collect()
        }),
        narinfo_case("no signature", &[Kind::Unsigned], |text| {
            text.lines().filter(|line| !line.starts_with("Sig")).map(|line| format!("{line}\n")).collect()
        }),
        field_case("a compression of Nix's", &[Kind::NarInfoUnsupported], "Compression", "br"),
    ])
    .await;
}

/// A NAR of one file whose contents are `len` zeros.
fn zeros(len: u64) -> impl std::io::Read {
    use std::io::Read as _;
    let token = |text: &[u8]| {
        let mut bytes = (text.len() as u64).to_le_bytes().to_vec();
        bytes.extend(text);
        bytes.resize(bytes.len().next_multiple_of(8), 0);
        bytes
    };
    let start: Vec<u8> =
        [&b"nix-archive-1"[..], b"(", b"type", b"regular", b"contents"].iter().flat_map(|t| token(t)).collect();
    let start = [start, len.to_le_bytes().to_vec()].concat();
    std::io::Cursor::new(start).chain(std::io::repeat(0).take(len)).chain(std::io::Cursor::new(token(b")")))
}

fn zstd(input: impl std::io::Read) -> Vec<u8> {
    zstd::stream::encode_all(input, 1).unwrap()
}

#[tokio::test]
async fn garbled_nars() {
    run(vec![
        case("absent", &[Kind::NarMissing], |ground| ground.world.bucket.lose(&nar_key(&ground.world, &ground.lib))),
        case("absent at the bottom", &[Kind::NarMissing], |ground| {
            ground.world.bucket.lose(&nar_key(&ground.world, &ground.base));
        }),
        case("absent at the top", &[Kind::NarMissing], |ground| {
            ground.world.bucket.lose(&nar_key(&ground.world, &ground.app));
        }),
        case("all absent", &[Kind::NarMissing], |ground| {
            ground.world.keys("nar/").iter().for_each(|key| ground.world.bucket.lose(key));
        }),
        case("absent for two", &[Kind::NarMissing], |ground| {
            ground.world.bucket.lose(&nar_key(&ground.world, &ground.twins[0]));
        }),
        case("empty", &[Kind::NarSize], |ground| ground.nar(&ground.lib, |_| Vec::new())),
        case("a byte short", &[Kind::NarSize], |ground| {
            ground.nar(&ground.lib, |mut nar| {
                nar.pop();
                nar
            });
        }),
        case("half", &[Kind::NarSize], |ground| ground.nar(&ground.lib, |nar| nar[..nar.len() / 2].to_vec())),
        case("a byte more", &[Kind::NarSize], |ground| ground.nar(&ground.lib, |nar| [nar, vec![0]].concat())),
        case("twice", &[Kind::NarSize], |ground| ground.nar(&ground.lib, |nar| [nar.clone(), nar].concat())),
        case("of another path", &[Kind::NarSize], |ground| {
            let other = bytes(&ground.world, &nar_key(&ground.world, &ground.twins[0]));
            ground.nar(&ground.lib, |_| other);
        }),
        case("of another path, by the narinfo", DATA, |ground| {
            let narinfo = text(&ground.world, &narinfo_key(&ground.twins[0]));
            for name in ["URL", "FileHash", "FileSize"] {
                ground.set(&ground.lib, name, field(&narinfo, name));
            }
        }),
        case("the first bit flipped", DATA, |ground| flip(ground, 0)),
        case("a bit in the head flipped", DATA, |ground| flip(ground, 5)),
        case("a bit in the middle flipped", DATA, |ground| flip(ground, 10_000)),
        case("a bit near the end flipped", DATA, |ground| flip(ground, 20_000)),
        case("a bit of two flipped", DATA, |ground| {
            ground.nar(&ground.twins[1], |mut nar| {
                nar[1500] ^= 8;
                nar
            });
        }),
        case("zeros of that length", DATA, |ground| ground.nar(&ground.lib, |nar| vec![0; nar.len()])),
        case("text of that length", DATA, |ground| ground.nar(&ground.lib, |nar| vec![b'a'; nar.len()])),
        case("a bomb", DATA, |ground| ground.replace_nar(&ground.lib, zstd(zeros(1 << 27)), "zstd")),
        case("a bomb that is no NAR", DATA, |ground| {
            use std::io::Read as _;
            ground.replace_nar(&ground.lib, zstd(std::io::repeat(b'x').take(1 << 27)), "zstd");
        }),
        case("a bomb by xz", DATA, |ground| {
            use std::io::Read as _;
            let mut stored = Vec::new();
            let input = std::io::repeat(0).take(64 << 20);
            liblzma::read::XzEncoder::new(input, 1).read_to_end(&mut stored).unwrap();
            ground.replace_nar(&ground.lib, stored, "xz");
        }),
        case("a file of huge length in it", DATA, |ground| {
            let mut nar = Vec::new();
            std::io::Read::read_to_end(&mut zeros(8), &mut nar).unwrap();
            let at = nar.len() - 32;
            nar[at..at + 8].copy_from_slice(&u64::MAX.to_le_bytes());
            ground.replace_nar(&ground.lib, zstd(&nar[..]), "zstd");
        }),
        case("something after its end", DATA, |ground| {
            let nar = [ground.world.store.nar(&ground.lib), b"more".to_vec()].concat();
            ground.replace_nar(&ground.lib, zstd(&nar[..]), "zstd");
        }),
        case("not compressed at all", DATA, |ground| {
            ground.replace_nar(&ground.lib, ground.world.store.nar(&ground.lib), "zstd");
        }),
        case("of other contents", DATA, |ground| {
            ground.replace_nar(&ground.lib, zstd(&ground.world.store.nar(&ground.twins[0])[..]), "zstd");
        }),
        // Stored in another way, but sound.
        case("by another compressor", &[], |ground| {
            ground.replace_nar(&ground.lib, ground.world.store.nar(&ground.lib), "none");
        }),
        case("by one that is not read", &[Kind::DataUnsupported], |ground| {
            ground.set(&ground.lib, "Compression", "bzip2");
        }),
    ])
    .await;
}

fn flip(ground: &Ground, at: usize) {
    ground.nar(&ground.lib, |mut nar| {
        let at = at.min(nar.len() - 2);
        nar[at] ^= 4;
        nar
    });
}

#[tokio::test]
async fn broken_links() {
    let lost = |name: &'static str, pick: fn(&Ground) -> Vec<StorePath>| {
        case(name, &[Kind::ReferenceMissing], move |ground| {
            pick(ground).iter().for_each(|path| ground.world.bucket.lose(&narinfo_key(path)));
        })
    };
    run(vec![
        lost("a leaf is lost", |ground| vec![ground.base.clone()]),
        lost("one in the middle is lost", |ground| vec![ground.lib.clone()]),
        lost("two are lost", |ground| vec![ground.lib.clone(), ground.twins[0].clone()]),
        lost("a whole branch is lost", |ground| vec![ground.lib.clone(), ground.base.clone()]),
        case("lost and garbled", &[Kind::ReferenceMissing, Kind::NarInfoMalformed], |ground| {
            ground.world.bucket.lose(&narinfo_key(&ground.base));
            ground.world.bucket.plant(&narinfo_key(&ground.lib), &b"garbage"[..]);
            // What refers to the lost one must be readable.
            let app = text(&ground.world, &narinfo_key(&ground.app));
            let references = format!("{} {}", field(&app, "References"), ground.base);
            let key = &ground.world.options.keys[0];
            resign(ground, &ground.app, &references, key);
        }),
        case("the root is lost", &[Kind::RootMissing, Kind::NarUnreferenced], |ground| {
            ground.world.bucket.lose(&narinfo_key(&ground.app));
        }),
        case("a cycle", &[], |ground| {
            let key = &ground.world.options.keys[0];
            resign(ground, &ground.base, ground.lib.as_str(), key);
        }),
        case("a cycle over a lost path", &[Kind::ReferenceMissing], |ground| {
            let key = &ground.world.options.keys[0];
            resign(ground, &ground.base, &format!("{} {}", ground.lib, ground.twins[0]), key);
            ground.world.bucket.lose(&narinfo_key(&ground.twins[0]));
        }),
        case("a cycle of damage", &[Kind::NarMissing], |ground| {
            let key = &ground.world.options.keys[0];
            resign(ground, &ground.base, ground.lib.as_str(), key);
            ground.world.bucket.lose(&nar_key(&ground.world, &ground.base));
            ground.world.bucket.lose(&nar_key(&ground.world, &ground.lib));
        }),
    ])
    .await;
}

/// Gives a narinfo other references and a signature that fits.
fn resign(ground: &Ground, path: &StorePath, references: &str, key: &SecretKey) {
    let narinfo = bytes(&ground.world, &narinfo_key(path));
    let mut info = NarInfo::parse(&StoreDir::default(), &narinfo).unwrap();
    info.references = references.split(' ').map(|name| StorePath::parse(name).unwrap()).collect();
    info.references.sort();
    info.references.dedup();
    info.signatures = vec![key.sign(&info.fingerprint(&StoreDir::default()))];
    ground.world.bucket.plant(&narinfo_key(path), info.print(&StoreDir::default()));
}

#[tokio::test]
async fn garbled_records() {
    let planted = |name: &'static str, expected: &[Kind], key: String, contents: Vec<u8>| {
        case(name, expected, move |ground| ground.world.bucket.plant(&key, contents.clone()))
    };
    let lease = |age: Duration, contents: Vec<u8>| {
        move |ground: &Ground| {
            ground.world.bucket.plant(&format!("loft/v1/lease/{ID}"), contents.clone());
            ground.world.pass(age);
        }
    };
    let minutes = |minutes: u64| Duration::from_secs(60 * minutes);
    let unreadable = &[Kind::RecordUnreadable];
    let bomb = zstd(std::io::Read::take(std::io::repeat(b' '), 300 << 20));
    run(vec![
        planted("a push record of garbage", unreadable, format!("loft/v1/push/{ID}"), b"garbage".to_vec()),
        planted("an empty push record", unreadable, format!("loft/v1/push/{ID}"), Vec::new()),
        planted("a push record of nothing", unreadable, format!("loft/v1/push/{ID}"), b"{\"format\":1}".to_vec()),
        planted("a push record in bytes", unreadable, format!("loft/v1/push/{ID}"), vec![0xff; 50]),
        planted("a pin of garbage", unreadable, format!("loft/v1/pin/name/{ID}"), b"[]".to_vec()),
        planted(
            "a pin with a bad path",
            unreadable,
            format!("loft/v1/pin/name/{ID}"),
            b"{\"format\":1,\"who\":\"x\",\"at\":1,\"roots\":[\"../x\"],\"keep\":\"forever\"}".to_vec(),
        ),
        case("a lease of garbage", unreadable, lease(minutes(40), b"garbage".to_vec())),
        case("a lease that is a bomb", unreadable, lease(minutes(40), bomb.clone())),
        case("bucket.json of garbage", &[Kind::BucketRecordUnreadable], |ground| {
            ground.world.bucket.plant("loft/v1/bucket.json", &b"{"[..]);
        }),
        case("nix-cache-info is lost", &[Kind::CacheInfoMissing], |ground| {
            ground.world.bucket.lose("nix-cache-info");
        }),
        planted(
            "nix-cache-info is a web page",
            &[Kind::CacheInfoMalformed],
            "nix-cache-info".into(),
            b"<html>".to_vec(),
        ),
        planted("nix-cache-info in bytes", &[Kind::CacheInfoMalformed], "nix-cache-info".into(), vec![0xff; 9]),
        planted(
            "nix-cache-info of a bad directory",
            &[Kind::CacheInfoMalformed],
            "nix-cache-info".into(),
            b"StoreDir: nix\n".to_vec(),
        ),
        planted(
            "nix-cache-info is too large",
            &[Kind::CacheInfoMalformed],
            "nix-cache-info".into(),
            vec![b'a'; 2 << 20],
        ),
        case(
            "all at once",
            &[
                Kind::CacheInfoMalformed,
                Kind::BucketRecordUnreadable,
                Kind::RecordUnreadable,
                Kind::NarMissing,
                Kind::NarInfoMalformed,
            ],
            |ground| {
                ground.world.bucket.plant("nix-cache-info", &b"<html>"[..]);
                ground.world.bucket.plant("loft/v1/bucket.json", &b"{"[..]);
                ground.world.bucket.plant(&format!("loft/v1/push/{ID}"), &b"{"[..]);
                ground.world.bucket.lose(&nar_key(&ground.world, &ground.base));
                ground.world.bucket.plant(&narinfo_key(&ground.twins[0]), &b"x"[..]);
            },
        ),
        // Notes and garbage.
        planted(
            "nix-cache-info says nothing",
            &[Kind::CacheInfoVague],
            "nix-cache-info".into(),
            b"Priority: 3\n".to_vec(),
        ),
        planted("trash of garbage", &[Kind::TrashUnreadable], format!("loft/v1/trash/{ID}"), b"garbage".to_vec()),
        planted("a sweep of garbage", &[Kind::SweepUnreadable], format!("loft/v1/sweep/{ID}"), b"garbage".to_vec()),
        case("a stale sweep", &[Kind::SweepStale], move |ground| {
            ground.world.bucket.plant(&format!("loft/v1/sweep/{ID}"), &b"garbage"[..]);
            ground.world.pass(minutes(12));
        }),
        case(
            "a stale lease",
            &[Kind::LeaseStale],
            lease(minutes(70), LeaseRecord::new("x".into(), 1, Vec::new()).print()),
        ),
        case("a stale lease of garbage", &[Kind::LeaseStale], lease(minutes(70), b"garbage".to_vec())),
        case("a pin to nothing that is over", &[], |ground| pin_to_nothing(ground, Keep::Days(0))),
        planted("an orphan", &[Kind::NarUnreferenced], "nar/orphan.nar.zst".into(), b"x".to_vec()),
        case("a lone listing", &[Kind::ListingUnreferenced], |ground| {
            let path = ground.world.store.missing("gone");
            ground.world.bucket.plant(&format!("{}.ls", path.hash_part()), &b"{}"[..]);
        }),
        case("a NAR twice", &[Kind::NarDuplicate], |ground| {
            let narinfo = text(&ground.world, &narinfo_key(&ground.twins[0]));
            let copy = bytes(&ground.world, field(&narinfo, "URL"));
            ground.world.bucket.plant("nar/copy.nar.zst", copy);
            ground.set(&ground.twins[0], "URL", "nar/copy.nar.zst");
        }),
    ])
    .await;
}
