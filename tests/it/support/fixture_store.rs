//! A Nix store made without Nix: a chroot store in a temporary directory, with Nix's database schema 10,
//! real files and real registrations.
//!
//! ```ignore
//! let store = FixtureStore::new();
//! let lib = store.add("lib").file("lib/libx.so", b"...").finish();
//! let app = store.add("app").executable("bin/app", b"...").symlink("bin/a", "app").reference(&lib).finish();
//! let opened = loft::store::open(&store.settings())?;
//! assert_eq!(opened.path_infos(&[app.clone()])?, [Some(store.info(&app))]);
//! ```
//!
//! NarHash and NarSize come from a NAR writer of the fixture's own, so that tests cross-check loft's.
//! Database paths are logical (`/nix/store/…`), files are below the temporary directory: code that
//! mixes the two up fails here.

use loft::nix::{ContentAddress, PathInfo, Sha256, Signature, StoreDir, StorePath, base32};
use loft::store::Settings;
use rusqlite::Connection;
use sha2::Digest as _;
use std::collections::{BTreeMap, HashMap};
use std::ffi::OsStr;
use std::num::NonZeroU64;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// As Nix 2.3 to 2.36 create it.
const SCHEMA: &str = "
    create table ValidPaths (
        id integer primary key autoincrement not null,
        path text unique not null, hash text not null, registrationTime integer not null,
        deriver text, narSize integer, ultimate integer, sigs text, ca text);
    create table Refs (
        referrer integer not null, reference integer not null,
        primary key (referrer, reference),
        foreign key (referrer) references ValidPaths(id) on delete cascade,
        foreign key (reference) references ValidPaths(id) on delete restrict);
    create index IndexReferrer on Refs(referrer);
    create index IndexReference on Refs(reference);
    create trigger DeleteSelfRefs before delete on ValidPaths
      begin delete from Refs where referrer = old.id and reference = old.id; end;
    create table DerivationOutputs (
        drv integer not null, id text not null, path text not null,
        primary key (drv, id), foreign key (drv) references ValidPaths(id) on delete cascade);
    create index IndexDerivationOutputs on DerivationOutputs(path);";

/// A store in a temporary directory, which goes with the value.
pub struct FixtureStore {
    root: tempfile::TempDir,
    dir: StoreDir,
    state: Mutex<State>,
}

struct State {
    /// Stays open like a running daemon's, so that `-wal` and `-shm` exist.
    db: Connection,
    added: HashMap<StorePath, Added>,
    /// Makes hash parts differ between paths of one name.
    serial: u64,
}

/// What a test may want to know again.
struct Added {
    info: PathInfo,
    signatures: Vec<String>,
    ca: Option<String>,
    nar: Vec<u8>,
}

impl FixtureStore {
    /// An empty store with the logical directory `/nix/store`.
    pub fn new() -> Self {
        let root = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(root.path().join("nix/store/.links")).unwrap();
        let db_dir = root.path().join("nix/var/nix/db");
        std::fs::create_dir_all(&db_dir).unwrap();
        std::fs::write(db_dir.join("schema"), "10").unwrap();
        std::fs::write(db_dir.join("big-lock"), "").unwrap();
        let db = Connection::open(db_dir.join("db.sqlite")).unwrap();
        db.pragma_update(None, "journal_mode", "wal").unwrap();
        db.execute_batch(SCHEMA).unwrap();
        Self { root, dir: StoreDir::default(), state: Mutex::new(State { db, added: HashMap::new(), serial: 0 }) }
    }

    /// Opens this store: `local?root=…`, nothing of the environment.
    pub fn settings(&self) -> Settings {
        Settings { store: Some(format!("local?root={}", self.root.path().display())), ..Settings::default() }
    }

    /// The chroot: the store is `nix/store` below it.
    pub fn root(&self) -> &Path {
        self.root.path()
    }

    /// Always `/nix/store`.
    pub fn dir(&self) -> &StoreDir {
        &self.dir
    }

    pub fn real_store_dir(&self) -> PathBuf {
        self.root.path().join("nix/store")
    }

    pub fn state_dir(&self) -> PathBuf {
        self.root.path().join("nix/var/nix")
    }

    /// The files of `path`.
    pub fn real_path(&self, path: &StorePath) -> PathBuf {
        self.real_store_dir().join(path.as_str())
    }

    /// `path` as the database has it.
    pub fn logical(&self, path: &StorePath) -> String {
        self.dir.join(path)
    }

    /// A path that nothing was written for: neither valid nor on disk.
    pub fn missing(&self, name: &str) -> StorePath {
        let mut state = self.state();
        state.serial += 1;
        let digest = sha2::Sha256::digest(format!("{name} {}", state.serial));
        StorePath::parse(&format!("{}-{name}", base32::encode(&digest[..20]))).unwrap()
    }

    /// Begins a path called `name`; nothing is written before `finish`.
    pub fn add(&self, name: &str) -> Builder<'_> {
        Builder {
            store: self,
            path: self.missing(name),
            tree: Node::Directory(BTreeMap::new()),
            references: Vec::new(),
            deriver: None,
            ultimate: false,
            signatures: Vec::new(),
            ca: None,
            nar_hash: None,
            size_known: true,
            registered: true,
        }
    }

    /// Registers `edges.len()` paths without files, in one transaction: path `i` refers to the paths
    /// `edges[i]` (any order, cycles too). For closures of thousands.
    pub fn add_graph(&self, name: &str, edges: &[Vec<usize>]) -> Vec<StorePath> {
        let paths: Vec<_> = (0..edges.len()).map(|i| self.missing(&format!("{name}-{i}"))).collect();
        let mut state = self.state();
        let transaction = state.db.transaction().unwrap();
        let first: i64 =
            transaction.query_row("select ifnull(max(id), 0) + 1 from ValidPaths", [], |row| row.get(0)).unwrap();
        let mut row = transaction
            .prepare(
                "insert into ValidPaths (id, path, hash, registrationTime, narSize) values (?, ?, ?, 1700000000, 112)",
            )
            .unwrap();
        for (i, path) in paths.iter().enumerate() {
            let hash = format!("sha256:{}", Sha256::of(path.as_str().as_bytes()).to_hex());
            row.execute((first + i as i64, self.dir.join(path), hash)).unwrap();
        }
        let mut edge = transaction.prepare("insert into Refs (referrer, reference) values (?, ?)").unwrap();
        for (i, references) in edges.iter().enumerate() {
            for reference in references {
                edge.execute((first + i as i64, first + *reference as i64)).unwrap();
            }
        }
        drop((row, edge));
        transaction.commit().unwrap();
        paths
    }

    /// What the store should say about a path made with `add`.
    pub fn info(&self, path: &StorePath) -> PathInfo {
        let state = self.state();
        let added = &state.added[path];
        PathInfo {
            signatures: added.signatures.iter().map(|text| Signature::parse(text).unwrap()).collect(),
            ca: added.ca.as_deref().map(|text| ContentAddress::parse(text).unwrap()),
            ..added.info.clone()
        }
    }

    /// The NAR of a path made with `add`, by the fixture's own writer.
    pub fn nar(&self, path: &StorePath) -> Vec<u8> {
        self.state().added[path].nar.clone()
    }

    /// Adds a signature to a valid path, as `nix store sign` does.
    pub fn sign(&self, path: &StorePath, signature: &str) {
        let mut state = self.state();
        let added = state.added.get_mut(path).unwrap();
        added.signatures.push(signature.to_owned());
        let sigs = added.signatures.join(" ");
        let full = self.dir.join(path);
        state.db.execute("update ValidPaths set sigs = ? where path = ?", (sigs, full)).unwrap();
    }

    /// What a garbage collection does to one path: the row goes, then the files.
    pub fn collect(&self, path: &StorePath) {
        let full = self.dir.join(path);
        let rows = self.sql(|db| db.execute("delete from ValidPaths where path = ?", [full]).unwrap());
        assert_eq!(rows, 1, "{path} was not valid");
        self.delete_files(path);
    }

    /// Takes the files away and leaves the registration: a damaged store.
    pub fn delete_files(&self, path: &StorePath) {
        let real = self.real_path(path);
        match std::fs::symlink_metadata(&real) {
            Ok(metadata) if metadata.is_dir() => std::fs::remove_dir_all(real).unwrap(),
            Ok(_) => std::fs::remove_file(real).unwrap(),
            Err(_) => {}
        }
    }

    /// The database, for damage and odd rows. Foreign keys are enforced unless switched off.
    pub fn sql<T>(&self, run: impl FnOnce(&Connection) -> T) -> T {
        run(&self.state().db)
    }

    /// Puts `other` in the place of the database, as a restored backup comes.
    pub fn replace_database(&self, other: &Path) {
        let database = self.state_dir().join("db/db.sqlite");
        let mut state = self.state();
        state.db = Connection::open_in_memory().unwrap();
        for journal in ["-wal", "-shm"] {
            let _ = std::fs::remove_file(format!("{}{journal}", database.display()));
        }
        std::fs::rename(other, &database).unwrap();
        state.db = Connection::open(&database).unwrap();
        state.db.pragma_update(None, "journal_mode", "wal").unwrap();
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One path in the making. Its root is a directory unless `contents` or `link` says otherwise.
#[must_use = "nothing is written before `finish`"]
pub struct Builder<'a> {
    store: &'a FixtureStore,
    path: StorePath,
    tree: Node,
    references: Vec<StorePath>,
    deriver: Option<StorePath>,
    ultimate: bool,
    signatures: Vec<String>,
    ca: Option<String>,
    nar_hash: Option<Sha256>,
    size_known: bool,
    registered: bool,
}

impl Builder<'_> {
    /// A file at `at` (relative, any bytes); its directories are made too.
    pub fn file(mut self, at: impl AsRef<Path>, bytes: impl AsRef<[u8]>) -> Self {
        self.tree.put(at.as_ref(), Node::File { bytes: bytes.as_ref().to_vec(), executable: false });
        self
    }

    pub fn executable(mut self, at: impl AsRef<Path>, bytes: impl AsRef<[u8]>) -> Self {
        self.tree.put(at.as_ref(), Node::File { bytes: bytes.as_ref().to_vec(), executable: true });
        self
    }

    pub fn symlink(mut self, at: impl AsRef<Path>, target: impl AsRef<OsStr>) -> Self {
        self.tree.put(at.as_ref(), Node::Symlink(target.as_ref().as_bytes().to_vec()));
        self
    }

    /// An empty directory.
    pub fn directory(mut self, at: impl AsRef<Path>) -> Self {
        self.tree.put(at.as_ref(), Node::Directory(BTreeMap::new()));
        self
    }

    /// The path itself is a file.
    pub fn contents(mut self, bytes: impl AsRef<[u8]>) -> Self {
        self.tree = Node::File { bytes: bytes.as_ref().to_vec(), executable: false };
        self
    }

    /// The path itself is a symlink.
    pub fn link(mut self, target: impl AsRef<OsStr>) -> Self {
        self.tree = Node::Symlink(target.as_ref().as_bytes().to_vec());
        self
    }

    /// Refers to a valid path.
    pub fn reference(mut self, path: &StorePath) -> Self {
        self.references.push(path.clone());
        self
    }

    pub fn references<'p>(mut self, paths: impl IntoIterator<Item = &'p StorePath>) -> Self {
        self.references.extend(paths.into_iter().cloned());
        self
    }

    /// Refers to itself.
    pub fn self_reference(mut self) -> Self {
        self.references.push(self.path.clone());
        self
    }

    pub fn deriver(mut self, path: &StorePath) -> Self {
        self.deriver = Some(path.clone());
        self
    }

    /// Built here.
    pub fn ultimate(mut self) -> Self {
        self.ultimate = true;
        self
    }

    /// `name:base64`; may be called again.
    pub fn signature(mut self, signature: impl ToString) -> Self {
        self.signatures.push(signature.to_string());
        self
    }

    pub fn ca(mut self, ca: impl ToString) -> Self {
        self.ca = Some(ca.to_string());
        self
    }

    /// Registers a NarHash that the files do not have.
    pub fn wrong_nar_hash(mut self, hash: Sha256) -> Self {
        self.nar_hash = Some(hash);
        self
    }

    /// `narSize` is NULL, as in rows of very old stores.
    pub fn unknown_nar_size(mut self) -> Self {
        self.size_known = false;
        self
    }

    /// Writes the files and no registration: a path that is being built.
    pub fn unregistered(mut self) -> Self {
        self.registered = false;
        self
    }

    /// The path that `finish` will return.
    pub fn path(&self) -> &StorePath {
        &self.path
    }

    /// Writes the files, then registers the path.
    pub fn finish(mut self) -> StorePath {
        self.tree.write_to(&self.store.real_path(&self.path));
        let mut nar = Vec::new();
        write_nar(&self.tree, &mut nar);
        self.references.sort();
        self.references.dedup();
        let info = PathInfo {
            path: self.path.clone(),
            nar_hash: self.nar_hash.unwrap_or_else(|| Sha256::of(&nar)),
            nar_size: if self.size_known { NonZeroU64::new(nar.len() as u64) } else { None },
            references: self.references,
            deriver: self.deriver,
            ultimate: self.ultimate,
            signatures: Vec::new(),
            ca: None,
        };
        let mut state = self.store.state();
        if self.registered {
            register(&mut state.db, &self.store.dir, &info, &self.signatures, self.ca.as_deref());
        }
        state.added.insert(self.path.clone(), Added { info, signatures: self.signatures, ca: self.ca, nar });
        self.path
    }
}

/// Path and references in one transaction, as `registerValidPaths` of Nix does.
fn register(db: &mut Connection, dir: &StoreDir, info: &PathInfo, signatures: &[String], ca: Option<&str>) {
    let transaction = db.transaction().unwrap();
    let sigs = (!signatures.is_empty()).then(|| signatures.join(" "));
    transaction
        .execute(
            "insert into ValidPaths (path, hash, registrationTime, deriver, narSize, ultimate, sigs, ca)
             values (?, ?, 1700000000, ?, ?, ?, ?, ?)",
            (
                dir.join(&info.path),
                format!("sha256:{}", info.nar_hash.to_hex()),
                info.deriver.as_ref().map(|path| dir.join(path)),
                info.nar_size.map(|size| size.get() as i64),
                info.ultimate.then_some(1),
                sigs,
                ca,
            ),
        )
        .unwrap();
    for reference in &info.references {
        let rows = transaction
            .execute(
                "insert into Refs (referrer, reference)
                 select a.id, b.id from ValidPaths a, ValidPaths b where a.path = ? and b.path = ?",
                (dir.join(&info.path), dir.join(reference)),
            )
            .unwrap();
        assert_eq!(rows, 1, "reference {reference} is not valid");
    }
    transaction.commit().unwrap();
}

enum Node {
    File { bytes: Vec<u8>, executable: bool },
    Symlink(Vec<u8>),
    Directory(BTreeMap<Vec<u8>, Node>),
}

impl Node {
    fn put(&mut self, at: &Path, node: Node) {
        let mut components: Vec<_> = at.iter().map(|name| name.as_bytes().to_vec()).collect();
        let last = components.pop().unwrap();
        let mut here = self;
        for name in components {
            let Node::Directory(entries) = here else { panic!("{} is below a file", at.display()) };
            here = entries.entry(name).or_insert_with(|| Node::Directory(BTreeMap::new()));
        }
        let Node::Directory(entries) = here else { panic!("{} is below a file", at.display()) };
        entries.insert(last, node);
    }

    /// Directories stay writable, unlike Nix's, so that an ordinary user can delete them again.
    fn write_to(&self, at: &Path) {
        match self {
            Node::File { bytes, executable } => {
                std::fs::write(at, bytes).unwrap();
                let mode = if *executable { 0o555 } else { 0o444 };
                std::fs::set_permissions(at, std::fs::Permissions::from_mode(mode)).unwrap();
            }
            Node::Symlink(target) => symlink(OsStr::from_bytes(target), at).unwrap(),
            Node::Directory(entries) => {
                std::fs::create_dir(at).unwrap();
                for (name, node) in entries {
                    node.write_to(&at.join(OsStr::from_bytes(name)));
                }
            }
        }
    }
}

/// The NAR of a whole store path, after the grammar in the Nix manual ("Nix Archive (NAR) format").
fn write_nar(node: &Node, nar: &mut Vec<u8>) {
    nar_string(nar, b"nix-archive-1");
    nar_node(node, nar);
}

fn nar_node(node: &Node, nar: &mut Vec<u8>) {
    nar_string(nar, b"(");
    nar_string(nar, b"type");
    match node {
        Node::File { bytes, executable } => {
            nar_string(nar, b"regular");
            if *executable {
                nar_string(nar, b"executable");
                nar_string(nar, b"");
            }
            nar_string(nar, b"contents");
            nar_string(nar, bytes);
        }
        Node::Symlink(target) => {
            nar_string(nar, b"symlink");
            nar_string(nar, b"target");
            nar_string(nar, target);
        }
        Node::Directory(entries) => {
            nar_string(nar, b"directory");
            for (name, node) in entries {
                nar_string(nar, b"entry");
                nar_string(nar, b"(");
                nar_string(nar, b"name");
                nar_string(nar, name);
                nar_string(nar, b"node");
                nar_node(node, nar);
                nar_string(nar, b")");
            }
        }
    }
    nar_string(nar, b")");
}

fn nar_string(nar: &mut Vec<u8>, bytes: &[u8]) {
    nar.extend((bytes.len() as u64).to_le_bytes());
    nar.extend(bytes);
    nar.resize(nar.len().next_multiple_of(8), 0);
}
