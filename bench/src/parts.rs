//! Each part with input of a fixed size, made before it is measured.

use crate::listing::ListingServer;
use futures_util::TryStreamExt as _;
use loft::bucket::{Bucket as _, Directory, Prefix, Requests, S3, S3Settings, Secret, nar_info_pages};
use loft::clock::SystemClock;
use loft::ledger::{BucketIdentity, Ledger};
use loft::nar::{self, Digest, Packing};
use loft::nix::{
    Compression, KeyName, NarInfo, NarUrl, PathHash, PathInfo, SecretKey, Sha256, StoreDir, StorePath, base32,
};
use loft::plan::{self, Candidates, Policy, Presence};
use std::collections::{BTreeMap, HashSet};
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
    /// Makes the input.
    pub prepare: fn() -> Work,
}

/// What is run, as often as one likes.
pub struct Work {
    /// Before each run, outside what is measured.
    pub before: Box<dyn FnMut()>,
    pub run: Box<dyn FnMut()>,
}

impl Work {
    fn new(run: impl FnMut() + 'static) -> Self {
        Self { before: Box::new(|| {}), run: Box::new(run) }
    }
}

const MIB: u64 = 1 << 20;

pub const PARTS: &[Part] = &[
    Part { name: "nar_small_files", amount: Amount::Items(2000), is_counted: false, prepare: nar_small_files },
    Part {
        name: "nar_small_files_cold",
        amount: Amount::Items(2000),
        is_counted: false,
        prepare: nar_small_files_cold,
    },
    Part { name: "nar_large_file", amount: Amount::Bytes(64 * MIB), is_counted: false, prepare: nar_large_file },
    Part {
        name: "nar_large_file_cold",
        amount: Amount::Bytes(64 * MIB),
        is_counted: false,
        prepare: nar_large_file_cold,
    },
    Part { name: "digest", amount: Amount::Bytes(16 * MIB), is_counted: true, prepare: digest },
    Part { name: "zstd_3", amount: Amount::Bytes(16 * MIB), is_counted: true, prepare: zstd_3 },
    Part { name: "narinfo_sign_print", amount: Amount::Items(500), is_counted: true, prepare: narinfo_sign_print },
    Part { name: "narinfo_parse", amount: Amount::Items(500), is_counted: true, prepare: narinfo_parse },
    Part { name: "plan", amount: Amount::Items(100_000), is_counted: true, prepare: plan },
    Part { name: "ledger_remember", amount: Amount::Items(10_000), is_counted: true, prepare: ledger_remember },
    Part { name: "ledger_known", amount: Amount::Items(10_000), is_counted: true, prepare: ledger_known },
    Part { name: "list_directory", amount: Amount::Items(100_000), is_counted: false, prepare: list_directory },
    Part { name: "list_s3", amount: Amount::Items(1_000_000), is_counted: false, prepare: list_s3 },
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

fn small_files() -> TempDir {
    let folder = folder();
    for n in 0..2000 {
        let below = folder.path().join(format!("{:02}", n % 40));
        std::fs::create_dir_all(&below).expect("a folder");
        std::fs::write(below.join(format!("file-{n}")), bytes(1000 + n)).expect("a file");
    }
    folder
}

fn large_file() -> TempDir {
    let folder = folder();
    std::fs::write(folder.path().join("file"), bytes(64 * MIB)).expect("a file");
    folder
}

fn nar_small_files() -> Work {
    let folder = small_files();
    Work::new(move || pack(folder.path(), UNCOMPRESSED))
}

fn nar_small_files_cold() -> Work {
    let folder = small_files();
    let path = folder.path().to_owned();
    Work { before: Box::new(move || forget(&path)), ..Work::new(move || pack(folder.path(), UNCOMPRESSED)) }
}

fn nar_large_file() -> Work {
    let folder = large_file();
    Work::new(move || pack(folder.path(), UNCOMPRESSED))
}

fn nar_large_file_cold() -> Work {
    let folder = large_file();
    let path = folder.path().to_owned();
    Work { before: Box::new(move || forget(&path)), ..Work::new(move || pack(folder.path(), UNCOMPRESSED)) }
}

/// Has the kernel drop the contents of the files from its cache (on a tmpfs they stay).
fn forget(folder: &Path) {
    for entry in std::fs::read_dir(folder).expect("a folder") {
        let entry = entry.expect("an entry");
        if entry.file_type().expect("a type").is_dir() {
            forget(&entry.path());
            continue;
        }
        let file = std::fs::File::open(entry.path()).expect("a file");
        // Only what is on disk can be dropped.
        file.sync_all().expect("a file on disk");
        rustix::fs::fadvise(&file, 0, None, rustix::fs::Advice::DontNeed).expect("advice");
    }
}

fn digest() -> Work {
    let bytes = bytes(16 * MIB);
    Work::new(move || {
        let mut digest = Digest::default();
        bytes.chunks(128 * 1024).for_each(|piece| digest.update(piece));
        assert_eq!(digest.finish().1, 16 * MIB);
    })
}

fn zstd_3() -> Work {
    let bytes = bytes(16 * MIB);
    Work::new(move || {
        let mut encoder = zstd::Encoder::new(std::io::sink(), 3).expect("an encoder");
        std::io::copy(&mut bytes.as_slice(), &mut encoder).expect("compressed bytes");
        encoder.finish().expect("compressed bytes");
    })
}

fn narinfo_sign_print() -> Work {
    let (dir, infos) = (StoreDir::default(), narinfos(500));
    let key = SecretKey::generate(KeyName::parse("bench-1").expect("a name")).expect("a key");
    Work::new(move || {
        for info in &infos {
            let mut info = info.clone();
            info.signatures.push(key.sign(&info.fingerprint(&dir)));
            assert!(info.print(&dir).len() > 200);
        }
    })
}

fn narinfo_parse() -> Work {
    let dir = StoreDir::default();
    let texts: Vec<String> = narinfos(500).iter().map(|info| info.print(&dir)).collect();
    Work::new(move || {
        for text in &texts {
            NarInfo::parse(&dir, text.as_bytes()).expect("a narinfo");
        }
    })
}

fn plan() -> Work {
    let infos = infos(100_000);
    let present: HashSet<PathHash> = infos.iter().step_by(3).map(|info| info.path.hash_part()).collect();
    let presence = Presence(present);
    Work::new(move || {
        let candidates = Candidates { paths: infos.clone(), ..Candidates::default() };
        let plan = plan::decide(StoreDir::default(), candidates, &Policy::default(), &presence);
        assert_eq!(plan.paths.len(), 100_000);
    })
}

fn identity() -> BucketIdentity {
    BucketIdentity { url: "s3://bench".to_owned(), generation: "1".to_owned() }
}

fn ledger_remember() -> Work {
    let hashes: Vec<PathHash> = (0..10_000).map(|n| path(n).hash_part()).collect();
    let ledger = Ledger::in_memory();
    Work::new(move || ledger.remember(&identity(), &hashes, SystemTime::UNIX_EPOCH))
}

fn ledger_known() -> Work {
    let hashes: Vec<PathHash> = (0..100_000).map(|n| path(n).hash_part()).collect();
    let ledger = Ledger::in_memory();
    ledger.remember(&identity(), &hashes, SystemTime::UNIX_EPOCH);
    let asked: Vec<PathHash> = hashes.iter().step_by(10).copied().collect();
    Work::new(move || assert_eq!(ledger.known(&identity(), &asked, SystemTime::UNIX_EPOCH).len(), 10_000))
}

fn list_directory() -> Work {
    let folder = folder();
    for n in 0..100_000 {
        std::fs::write(folder.path().join(format!("{}.narinfo", path(n).hash_part())), b"").expect("a file");
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let bucket = Directory::new(folder.path().to_owned(), Arc::new(SystemClock));
    Work::new(move || {
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

/// As prune and check list a large bucket: sharded, many pages at once. The server takes part in the time.
fn list_s3() -> Work {
    const COUNT: u64 = 1_000_000;
    let server = ListingServer::start((0..COUNT).map(|n| format!("{}.narinfo", path(n).hash_part())).collect());
    let mut settings = S3Settings::new("bench");
    settings.endpoint = Some(format!("http://{}", server.address));
    settings.access_key = Some(Secret::new("key"));
    settings.secret_key = Some(Secret::new("secret"));
    let bucket = S3::new(&settings, &BTreeMap::new(), Arc::new(SystemClock), Arc::new(Requests::default()));
    let bucket = bucket.expect("a bucket");
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    let runtime = runtime.expect("a runtime");
    Work::new(move || {
        let _kept = &server;
        let pages = nar_info_pages(&bucket).try_fold(0, async |count, page| Ok(count + page.len() as u64));
        assert_eq!(runtime.block_on(pages).expect("a listing"), COUNT);
    })
}
