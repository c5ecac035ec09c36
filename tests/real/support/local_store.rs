//! A Nix store in a folder of its own (a chroot store: logical `/nix/store`, files below the root).

use rusqlite::{Connection, OpenFlags};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use tempfile::TempDir;

pub struct LocalStore {
    root: PathBuf,
    _temporary: Option<TempDir>,
}

/// What a store's database says about one path; enough to tell whether two stores agree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Registration {
    /// `sha256:` and 64 hexadecimal digits.
    pub nar_hash: String,
    pub nar_size: u64,
    pub deriver: Option<String>,
    pub content_address: Option<String>,
    /// Full paths, sorted.
    pub references: Vec<String>,
    /// Sorted.
    pub signatures: Vec<String>,
}

impl LocalStore {
    /// A new, empty store that goes away with this value.
    pub fn empty() -> Self {
        let folder = tempfile::Builder::new().prefix("loft-store-").tempdir().expect("temporary folder");
        Self { root: folder.path().to_owned(), _temporary: Some(folder) }
    }

    /// The store at `root`, which stays.
    pub fn at(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into(), _temporary: None }
    }

    pub fn root(&self) -> &Path {
        &self.root
    }

    /// What `NIX_REMOTE` and `--store` take.
    pub fn url(&self) -> String {
        format!("local?root={}", self.root.display())
    }

    /// Where the files of a logical store path are.
    pub fn on_disk(&self, store_path: &str) -> PathBuf {
        self.root.join(store_path.trim_start_matches('/'))
    }

    /// Everything that is registered, by full logical path.
    pub fn registrations(&self) -> BTreeMap<String, Registration> {
        let database = self.root.join("nix/var/nix/db/db.sqlite");
        let read = || -> rusqlite::Result<BTreeMap<String, Registration>> {
            // Written by Nix as this user: opening it for writing works with its write-ahead log whatever its state.
            let connection = Connection::open_with_flags(&database, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
            let mut references = connection.prepare(
                "select path from ValidPaths join Refs on ValidPaths.id = Refs.reference where referrer = ? order by path",
            )?;
            let mut rows = connection
                .prepare("select id, path, hash, narSize, deriver, ca, coalesce(sigs, '') from ValidPaths")?;
            let mut found = BTreeMap::new();
            let mut cursor = rows.query([])?;
            while let Some(row) = cursor.next()? {
                let id: i64 = row.get(0)?;
                let signatures: String = row.get(6)?;
                let mut signatures: Vec<_> = signatures.split_whitespace().map(str::to_owned).collect();
                signatures.sort();
                let registration = Registration {
                    nar_hash: row.get(2)?,
                    nar_size: row.get::<_, i64>(3)?.try_into().expect("a size"),
                    deriver: row.get(4)?,
                    content_address: row.get(5)?,
                    references: references.query_map([id], |row| row.get(0))?.collect::<Result<_, _>>()?,
                    signatures,
                };
                found.insert(row.get(1)?, registration);
            }
            Ok(found)
        };
        read().unwrap_or_else(|error| panic!("cannot read {}: {error}", database.display()))
    }

    /// `paths` and everything that they refer to, sorted.
    pub fn closure(&self, paths: &[&str]) -> Vec<String> {
        let registrations = self.registrations();
        let mut open: Vec<String> = paths.iter().map(|path| (*path).to_owned()).collect();
        let mut closure = std::collections::BTreeSet::new();
        while let Some(path) = open.pop() {
            let registration = registrations.get(&path).unwrap_or_else(|| panic!("{path} is not valid"));
            if closure.insert(path) {
                open.extend(registration.references.iter().cloned());
            }
        }
        closure.into_iter().collect()
    }
}
