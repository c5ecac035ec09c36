//! A machine on which all is well, for tests that break one thing of it.

use super::fixture_store::FixtureStore;
use super::memory::Memory;
use super::s3_server::{ACCESS_KEY, BUCKET, REGION, S3Server, SECRET_KEY};
use loft::bucket::{CacheInfo, Key};
use loft::clock::SystemClock;
use loft::config::{Flags, Sources};
use loft::doctor::{Check, Code, Finding, Machine, Outcome, Patient, Space, examine};
use loft::nix::{Fingerprint, KeyName, PathHash, SecretKey, StorePath};
use loft::record::BucketRecord;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

/// What a machine has.
#[derive(Debug, Clone, Copy)]
pub struct Has {
    pub space: Space,
    pub memory: u64,
    pub descriptors: u64,
    pub may_write: bool,
}

impl Machine for Has {
    fn space(&self, _at: &Path) -> io::Result<Space> {
        Ok(self.space)
    }

    fn memory(&self) -> Option<u64> {
        Some(self.memory)
    }

    fn descriptors(&self) -> Option<u64> {
        Some(self.descriptors)
    }

    fn may_write(&self, _directory: &Path) -> bool {
        self.may_write
    }
}

/// A configuration, a store, a key and a `nix.conf`, all in order, and a cache that an S3 server of this process has.
pub struct Ward {
    pub server: S3Server,
    pub store: FixtureStore,
    pub key: SecretKey,
    /// A path that the cache has.
    pub path: StorePath,
    pub environment: BTreeMap<String, String>,
    pub has: Has,
    pub offline: bool,
    pub probe: bool,
    pub patience: Duration,
    /// What may stay behind, where deletion is denied.
    pub leaves: BTreeSet<Key>,
    /// How many uploads stay open, where none may be aborted.
    pub leaves_uploads: usize,
    /// Lines of `[s3]` and `[loft]`.
    pub s3: BTreeMap<&'static str, String>,
    pub loft: BTreeMap<&'static str, String>,
    pub more: String,
    dir: tempfile::TempDir,
}

/// What was found.
pub struct Found(pub Vec<Finding>);

pub fn quoted(text: impl AsRef<str>) -> String {
    format!("{:?}", text.as_ref())
}

impl Ward {
    pub async fn new() -> Self {
        Self::with(Memory::aws()).await
    }

    pub async fn with(memory: Memory) -> Self {
        memory.clock.set_wall(SystemTime::now());
        let server = S3Server::start(memory).await;
        let dir = tempfile::tempdir().unwrap();
        let store = FixtureStore::new();
        fs::create_dir_all(store.state_dir().join("temproots")).unwrap();
        let key = SecretKey::generate(KeyName::parse("cache-1").unwrap()).unwrap();
        let path = store.add("app").file("f", "app").finish();
        let text = |path: PathBuf| path.display().to_string();
        let environment = [
            ("HOME", text(dir.path().to_owned())),
            ("NIX_REMOTE", format!("local?root={}", store.root().display())),
            ("NIX_CONF_DIR", text(dir.path().join("etc"))),
            // Nobody is asked for the role of an instance.
            ("AWS_EC2_METADATA_DISABLED", "true".to_owned()),
        ];
        let ward = Self {
            s3: BTreeMap::from([
                ("bucket", quoted(BUCKET)),
                ("endpoint", quoted(&server.endpoint)),
                ("region", quoted(REGION)),
                ("access_key", quoted(ACCESS_KEY)),
                ("secret_key", quoted(SECRET_KEY)),
            ]),
            loft: BTreeMap::from([
                ("local_cache_path", quoted(text(dir.path().join("ledger.db")))),
                ("signing_key_path", quoted(text(dir.path().join("key")))),
            ]),
            more: String::new(),
            environment: environment.into_iter().map(|(name, value)| (name.to_owned(), value)).collect(),
            has: Has {
                space: Space { bytes: 1 << 40, files: None },
                memory: 8 << 30,
                descriptors: 1024,
                may_write: true,
            },
            offline: false,
            probe: true,
            patience: Duration::from_secs(5),
            leaves: BTreeSet::new(),
            leaves_uploads: 0,
            server,
            store,
            key,
            path,
            dir,
        };
        ward.write("key", ward.key.to_secret_text().trim_end());
        fs::set_permissions(ward.at("key"), fs::Permissions::from_mode(0o600)).unwrap();
        ward.fill();
        ward.nix_conf("");
        ward
    }

    pub fn at(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub fn write(&self, name: &str, text: &str) {
        let file = self.at(name);
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(file, text).unwrap();
    }

    /// The objects of a cache with one path.
    fn fill(&self) {
        let memory = &self.server.memory;
        memory.plant("nix-cache-info", CacheInfo::new(self.store.dir().clone(), 41).print());
        let record = BucketRecord::new("01ARZ3NDEKTSV4RRFFQ69G5FAV".into(), 7, Vec::new());
        memory.plant("loft/v1/bucket.json", record.print());
        memory.plant(&format!("{}.narinfo", self.hash()), self.narinfo(&self.key));
    }

    pub fn hash(&self) -> PathHash {
        self.path.hash_part()
    }

    /// As if it had been pushed with this key.
    pub fn narinfo(&self, key: &SecretKey) -> String {
        let info = self.store.info(&self.path);
        let print = Fingerprint::of_info(self.store.dir(), &info).unwrap();
        format!(
            "StorePath: {}\nURL: nar/x.nar\nCompression: none\nNarHash: {}\nNarSize: {}\nReferences: \nSig: {}\n",
            self.store.logical(&self.path),
            info.nar_hash,
            info.nar_size.unwrap(),
            key.sign(&print)
        )
    }

    /// With which this cache is read and believed, and `more`.
    pub fn nix_conf(&self, more: &str) {
        let of = |key| self.s3[key].trim_matches('"');
        let url = format!("s3://{}?endpoint={}&region={REGION}", of("bucket"), of("endpoint"));
        let text = format!("substituters = {url}\ntrusted-public-keys = {}\n{more}\n", self.key.public());
        self.write("etc/nix.conf", &text);
    }

    /// Both loft and Nix go there.
    pub fn endpoint(&mut self, endpoint: &str) {
        self.s3.insert("endpoint", quoted(endpoint));
        self.nix_conf("");
    }

    pub fn bucket(&mut self, bucket: &str) {
        self.s3.insert("bucket", quoted(bucket));
        self.nix_conf("");
    }

    pub fn toml(&self) -> String {
        let lines = |section: &BTreeMap<&str, String>| -> String {
            section.iter().map(|(key, value)| format!("{key} = {value}\n")).collect()
        };
        format!("[s3]\n{}\n[loft]\n{}\n{}\n", lines(&self.s3), lines(&self.loft), self.more)
    }

    pub async fn examine(&self) -> Found {
        self.write("loft.toml", &self.toml());
        let sources = Sources {
            file_may_be_missing: false,
            file: Some(self.at("loft.toml")),
            environment: self.environment.clone(),
            flags: Flags::default(),
            strict: false,
        };
        let patient = Patient {
            sources,
            clock: Arc::new(SystemClock),
            machine: Arc::new(self.has),
            patience: self.patience,
            offline: self.offline,
            probe: self.probe,
        };
        let before = self.server.memory.contents();
        let found = examine(&patient).await;
        let mut after = self.server.memory.contents();
        after.retain(|key, _| !self.leaves.contains(key) || before.contains_key(key));
        assert_eq!(after, before, "the examination changed the cache");
        assert_eq!(self.server.memory.open_parts().len(), self.leaves_uploads, "uploads stay open");
        Found(found)
    }
}

impl Found {
    /// All faults, warnings as well.
    pub fn codes(&self) -> BTreeSet<Code> {
        self.0.iter().filter_map(Finding::code).collect()
    }

    /// These faults and no others, and each assumption told about. The words are in what is said of the first one, and
    /// `way_out` in its way out.
    #[track_caller]
    pub fn blames(&self, codes: &[Code], words: &[&str], way_out: &str) -> &Self {
        assert_eq!(self.codes(), codes.iter().copied().collect(), "{:#?}", self.0);
        let told: BTreeSet<Check> = self.0.iter().map(|finding| finding.check).collect();
        let silent: Vec<&Check> = Check::ALL.iter().filter(|check| !told.contains(check)).collect();
        assert!(silent.is_empty(), "nothing is told of {silent:?}");
        if let Some(first) = codes.first() {
            let finding = self.0.iter().find(|finding| finding.code() == Some(*first)).unwrap();
            for word in words {
                assert!(finding.says.contains(word), "{word:?} is not in {:?}", finding.says);
            }
            let out = finding.way_out.as_deref().unwrap();
            assert!(out.contains(way_out), "{way_out:?} is not in {out:?}");
        }
        self
    }

    /// What could not be looked at because of another assumption, and that one.
    pub fn because(&self) -> BTreeMap<Check, Check> {
        let because = |finding: &Finding| match finding.outcome {
            Outcome::Unlooked(Some(because)) => Some((finding.check, because)),
            _ => None,
        };
        self.0.iter().filter_map(because).collect()
    }

    /// These were found in order.
    #[track_caller]
    pub fn are_fine(&self, checks: &[Check]) -> &Self {
        for check in checks {
            let is_fine = |finding: &Finding| finding.check == *check && finding.outcome == Outcome::Fine;
            assert!(self.0.iter().any(is_fine), "{check:?} is not fine: {:#?}", self.0);
        }
        self
    }

    #[track_caller]
    pub fn says(&self, check: Check, word: &str) -> &Self {
        let says: Vec<&str> = self.0.iter().filter(|it| it.check == check).map(|it| it.says.as_str()).collect();
        assert!(says.iter().any(|says| says.contains(word)), "{word:?} is not in {says:?}");
        self
    }
}
