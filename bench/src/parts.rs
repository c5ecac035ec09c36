//! Each part with input of a fixed size, made before it is measured.

use loft::bucket::{Bucket as _, Directory, Prefix};
use loft::clock::SystemClock;
use loft::ledger::{BucketIdentity, Ledger};
use loft::nar::{self, Digest, Packing};
use loft::nix::{
    Compression, KeyName, NarInfo, NarUrl, PathHash, PathInfo, SecretKey, Sha256, StoreDir, StorePath, base32,
};
use loft::plan::{self, Candidates, Policy, Presence};
use std::collections::HashSet;
use std::num::NonZeroU64;
use std::path::Path;
use std::sync::Arc;
use std::time::SystemTime;
use tempfile::TempDir;

/// How much is done in one run.
#[derive(Debug, Clone, Copy)]
pub enum Amount {
    Bytes(u64),
    Items(u64),
}

/// One part.
pub struct Part {
    pub name: &'static str,
    pub amount: Amount,
    /// Whether a run takes the same instructions each time: one thread, no files.
    pub is_counted: bool,
    /// Makes the input; what it returns does the work, as often as it is called.
    pub prepare: fn() -> Box<dyn FnMut()>,
}

const MIB: u64 = 1 << 20;

pub const PARTS: &[Part] = &[
    Part { name: "nar_small_files", amount: Amount::Items(2000), is_counted: false, prepare: nar_small_files },
    Part { name: "nar_large_file", amount: Amount::Bytes(64 * MIB), is_counted: false, prepare: nar_large_file },
    Part { name: "digest", amount: Amount::Bytes(16 * MIB), is_counted: true, prepare: digest },
    Part { name: "zstd_3", amount: Amount::Bytes(16 * MIB), is_counted: true, prepare: zstd_3 },
    Part { name: "narinfo_sign_print", amount: Amount::Items(500), is_counted: true, prepare: narinfo_sign_print },
    Part { name: "narinfo_parse", amount: Amount::Items(500), is_counted: true, prepare: narinfo_parse },
    Part { name: "plan", amount: Amount::Items(100_000), is_counted: true, prepare: plan },
    Part { name: "ledger_remember", amount: Amount::Items(10_000), is_counted: true, prepare: ledger_remember },
    Part { name: "ledger_known", amount: Amount::Items(10_000), is_counted: true, prepare: ledger_known },
    Part { name: "list_directory", amount: Amount::Items(100_000), is_counted: false, prepare: list_directory },
];

/// What compresses as programs do: words from a small vocabulary, and some noise.
fn bytes(size: u64) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut bytes = Vec::with_capacity(size as usize + 64);
    while (bytes.len() as u64) < size {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        match state % 4 {
            0 => bytes.extend(state.to_le_bytes()),
            _ => bytes.extend(format!("word {} ", state % 3000).into_bytes()),
        }
    }
    bytes.truncate(size as usize);
    bytes
}

fn hash(n: u64) -> Sha256 {
    Sha256::of(&n.to_le_bytes())
}

fn path(n: u64) -> StorePath {
    let text = format!("{}-package-{n}", base32::encode(&hash(n).as_bytes()[..20]));
    StorePath::parse(&text).expect("a store path")
}

/// `count` paths, each referring to two that come before it.
fn infos(count: u64) -> Vec<PathInfo> {
    let info = |n: u64| {
        let mut references: Vec<StorePath> = [n / 2, n / 3].into_iter().filter(|below| *below < n).map(path).collect();
        references.sort_unstable();
        references.dedup();
        PathInfo {
            path: path(n),
            nar_hash: hash(n + 1_000_000),
            nar_size: NonZeroU64::new(100_000 + n),
            references,
            deriver: None,
            ultimate: true,
            signatures: Vec::new(),
            ca: None,
        }
    };
    (0..count).map(info).collect()
}

fn narinfos(count: u64) -> Vec<NarInfo> {
    let id = ulid::Ulid::from_parts(1_700_000_000_000, 7);
    let info = |info: PathInfo| NarInfo {
        url: NarUrl::fresh(&info.nar_hash, id, Compression::Zstd),
        path: info.path,
        compression: Compression::Zstd,
        file_hash: Some(info.nar_hash),
        file_size: Some(12_345),
        nar_hash: info.nar_hash,
        nar_size: info.nar_size.expect("a size"),
        references: info.references,
        deriver: None,
        signatures: Vec::new(),
        ca: None,
    };
    infos(count).into_iter().map(info).collect()
}

const UNCOMPRESSED: Packing = Packing { compression: Compression::None, level: None, workers: 0 };

fn folder() -> TempDir {
    tempfile::tempdir().expect("a temporary folder")
}

fn pack(root: &Path, packing: Packing) {
    let (packed, _) = nar::pack(root, packing, std::io::sink()).expect("a NAR");
    assert!(packed.nar_size > 0);
}

fn nar_small_files() -> Box<dyn FnMut()> {
    let folder = folder();
    for n in 0..2000 {
        let below = folder.path().join(format!("{:02}", n % 40));
        std::fs::create_dir_all(&below).expect("a folder");
        std::fs::write(below.join(format!("file-{n}")), bytes(1000 + n)).expect("a file");
    }
    Box::new(move || pack(folder.path(), UNCOMPRESSED))
}

fn nar_large_file() -> Box<dyn FnMut()> {
    let folder = folder();
    let file = folder.path().join("file");
    std::fs::write(&file, bytes(64 * MIB)).expect("a file");
    Box::new(move || {
        let _kept = &folder;
        pack(&file, UNCOMPRESSED);
    })
}

fn digest() -> Box<dyn FnMut()> {
    let bytes = bytes(16 * MIB);
    Box::new(move || {
        let mut digest = Digest::default();
        bytes.chunks(128 * 1024).for_each(|piece| digest.update(piece));
        assert_eq!(digest.finish().1, 16 * MIB);
    })
}

fn zstd_3() -> Box<dyn FnMut()> {
    let bytes = bytes(16 * MIB);
    Box::new(move || {
        let mut encoder = zstd::Encoder::new(std::io::sink(), 3).expect("an encoder");
        std::io::copy(&mut bytes.as_slice(), &mut encoder).expect("compressed bytes");
        encoder.finish().expect("compressed bytes");
    })
}

fn narinfo_sign_print() -> Box<dyn FnMut()> {
    let (dir, infos) = (StoreDir::default(), narinfos(500));
    let key = SecretKey::generate(KeyName::parse("bench-1").expect("a name")).expect("a key");
    Box::new(move || {
        for info in &infos {
            let mut info = info.clone();
            info.signatures.push(key.sign(&info.fingerprint(&dir)));
            assert!(info.print(&dir).len() > 200);
        }
    })
}

fn narinfo_parse() -> Box<dyn FnMut()> {
    let dir = StoreDir::default();
    let texts: Vec<String> = narinfos(500).iter().map(|info| info.print(&dir)).collect();
    Box::new(move || {
        for text in &texts {
            NarInfo::parse(&dir, text.as_bytes()).expect("a narinfo");
        }
    })
}

fn plan() -> Box<dyn FnMut()> {
    let infos = infos(100_000);
    let present: HashSet<PathHash> = infos.iter().step_by(3).map(|info| info.path.hash_part()).collect();
    let presence = Presence(present);
    Box::new(move || {
        let candidates = Candidates { paths: infos.clone(), ..Candidates::default() };
        let plan = plan::decide(StoreDir::default(), candidates, &Policy::default(), &presence);
        assert_eq!(plan.paths.len(), 100_000);
    })
}

fn identity() -> BucketIdentity {
    BucketIdentity { url: "s3://bench".to_owned(), generation: "1".to_owned() }
}

fn ledger_remember() -> Box<dyn FnMut()> {
    let hashes: Vec<PathHash> = (0..10_000).map(|n| path(n).hash_part()).collect();
    let ledger = Ledger::in_memory();
    Box::new(move || ledger.remember(&identity(), &hashes, SystemTime::UNIX_EPOCH))
}

fn ledger_known() -> Box<dyn FnMut()> {
    let hashes: Vec<PathHash> = (0..100_000).map(|n| path(n).hash_part()).collect();
    let ledger = Ledger::in_memory();
    ledger.remember(&identity(), &hashes, SystemTime::UNIX_EPOCH);
    let asked: Vec<PathHash> = hashes.iter().step_by(10).copied().collect();
    Box::new(move || assert_eq!(ledger.known(&identity(), &asked, SystemTime::UNIX_EPOCH).len(), 10_000))
}

fn list_directory() -> Box<dyn FnMut()> {
    let folder = folder();
    for n in 0..100_000 {
        std::fs::write(folder.path().join(format!("{}.narinfo", path(n).hash_part())), b"").expect("a file");
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let bucket = Directory::new(folder.path().to_owned(), Arc::new(SystemClock));
    Box::new(move || {
        let _kept = &folder;
        runtime.block_on(async {
            let (mut after, mut count) = (None::<String>, 0);
            loop {
                let page = bucket.list(&Prefix::all(), after.as_deref()).await.expect("a page");
                count += page.objects.len();
                match page.next {
                    Some(next) => after = Some(next),
                    None => break,
                }
            }
            assert_eq!(count, 100_000);
        });
    })
}
