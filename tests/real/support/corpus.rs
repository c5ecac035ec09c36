//! Stores with real contents, made once by a real Nix and kept in the user's cache.
//!
//! `everything` is 330 or so Debian packages, each a store path that refers to the packages it depends on, with
//! a collection of odd paths (see `corpus.nix`). `bulk` is one huge path beside a thousand tiny ones.

use super::local_store::LocalStore;
use super::nix::Nix;
use super::process::stdout_of;
use super::user_cache;
use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::process::Command;

/// Raise it when what is built below changes.
const VERSION: u32 = 1;

/// Debian packages whose dependencies make up the closure; small, and hundreds of them.
const PACKAGES: &[&str] = &[
    "libmojolicious-perl",
    "libdbd-sqlite3-perl",
    "libmoose-perl",
    "libtemplate-perl",
    "libxml-libxml-perl",
    "libdatetime-perl",
    "libdist-zilla-perl",
    "git",
    "python3-requests",
    "graphviz",
    "tmux",
    "curl",
    "openssh-client",
    "rsync",
];

pub struct Corpus {
    pub store: LocalStore,
    /// The path that refers to all the others.
    pub root: String,
}

impl Corpus {
    /// Packages and odd paths: at least 300 store paths.
    pub fn everything() -> Self {
        Self::make("everything", |folder| {
            let packages = download(&folder.join("inputs"));
            std::fs::write(folder.join("packages.nix"), to_nix(&packages)).expect("packages.nix");
            write_noise(&folder.join("inputs/large"), 120 << 20);
        })
    }

    /// The odd paths without the packages: seconds to make, and nothing is downloaded.
    pub fn odd() -> Self {
        Self::make("odd", |folder| {
            std::fs::write(folder.join("packages.nix"), "[ ]").expect("packages.nix");
            write_noise(&folder.join("inputs/large"), 9 << 20);
        })
    }

    /// A NAR of two GiB next to a thousand small ones.
    pub fn bulk() -> Self {
        Self::make("bulk", |folder| {
            std::fs::write(folder.join("packages.nix"), "[ ]").expect("packages.nix");
            write_noise(&folder.join("inputs/huge"), 2 << 30);
        })
    }

    /// The full path of the member with this name.
    pub fn path_named(&self, name: &str) -> String {
        let closure = self.store.closure(&[&self.root]);
        let mut found = closure.into_iter().filter(|path| path.split_once('-').is_some_and(|(_, rest)| rest == name));
        found.next().unwrap_or_else(|| panic!("no {name} in the corpus"))
    }

    /// Builds `attribute` of `corpus.nix` unless an earlier run did; one process at a time.
    fn make(attribute: &str, prepare: impl FnOnce(&Path)) -> Self {
        let home = user_cache();
        std::fs::create_dir_all(&home).expect("the user's cache");
        let folder = home.join(format!("corpus-{VERSION}-{attribute}"));
        let lock = File::create(home.join(format!("corpus-{VERSION}-{attribute}.lock"))).expect("lock file");
        lock.lock().expect("lock");
        if let Ok(root) = std::fs::read_to_string(folder.join("root-path")) {
            return Self { store: LocalStore::at(folder.join("store")), root };
        }
        remove_tree(&folder);
        for part in ["inputs", "tree/below/empty", "store"] {
            std::fs::create_dir_all(folder.join(part)).expect("corpus folder");
        }
        std::fs::write(folder.join("corpus.nix"), include_str!("corpus.nix")).expect("corpus.nix");
        std::fs::write(folder.join("tree/below/file"), "a source tree\n").expect("source file");
        std::fs::write(folder.join("inputs/script"), "#!/bin/sh\necho run\n").expect("script");
        prepare(&folder);

        let store = LocalStore::at(folder.join("store"));
        let nix = Nix::installed();
        let root = nix.build(&store, &folder.join("corpus.nix"), attribute, &folder.join("inputs"));
        nix.verify(&store);
        remove_tree(&folder.join("inputs"));
        std::fs::write(folder.join("root-path"), &root).expect("root-path");
        Self { store, root }
    }
}

/// A Debian package: its file, and the packages of the set that it depends on.
struct Package {
    file: String,
    version: String,
    needs: BTreeSet<String>,
}

/// Downloads the packages with all that they depend on, as for a machine that has none.
fn download(into: &Path) -> BTreeMap<String, Package> {
    let state = tempfile::tempdir().expect("temporary folder");
    // An apt of our own: nothing is installed for it, its lists are new, and it needs no root.
    let apt = |arguments: &[&str]| {
        let mut apt = Command::new("apt-get");
        apt.args(arguments);
        for (name, below) in [("Dir::State", "state"), ("Dir::State::status", "status"), ("Dir::Cache", "cache")] {
            apt.args(["-o", &format!("{name}={}", state.path().join(below).display())]);
        }
        apt.args(["-o", &format!("Dir::Cache::archives={}", into.display())]);
        apt.args(["-o", "APT::Install-Recommends=false", "-o", "APT::Sandbox::User=", "-o", "Debug::NoLocking=1"]);
        stdout_of(apt.args(["-o", "Acquire::Languages=none", "-o", "Acquire::Retries=3"]));
    };
    File::create(state.path().join("status")).expect("status file");
    for folder in [state.path().join("state/lists/partial"), state.path().join("cache"), into.join("partial")] {
        std::fs::create_dir_all(folder).expect("folder for apt");
    }
    apt(&["update"]);
    apt(&[&["install", "--yes", "--download-only"], PACKAGES].concat());

    let mut packages = BTreeMap::new();
    let mut wishes = BTreeMap::new();
    let mut provided = BTreeMap::new();
    for entry in std::fs::read_dir(into).expect("downloads") {
        let path = entry.expect("download").path();
        if path.extension().is_none_or(|extension| extension != "deb") {
            continue;
        }
        let field = |name: &str| stdout_of(Command::new("dpkg-deb").arg("-f").arg(&path).arg(name)).trim().to_owned();
        let name = field("Package");
        for virtual_name in relations(&field("Provides")) {
            provided.insert(virtual_name, name.clone());
        }
        wishes.insert(name.clone(), relations(&format!("{}, {}", field("Pre-Depends"), field("Depends"))));
        let file = path.file_name().and_then(|name| name.to_str()).expect("a plain file name").to_owned();
        packages.insert(name, Package { file, version: field("Version"), needs: BTreeSet::new() });
    }
    assert!(packages.len() >= 300, "only {} packages were downloaded", packages.len());

    let names: BTreeSet<String> = packages.keys().cloned().collect();
    let wanted: BTreeMap<String, BTreeSet<String>> = wishes
        .into_iter()
        .map(|(name, wishes)| {
            let real = wishes
                .into_iter()
                .map(|wish| if names.contains(&wish) { Some(wish) } else { provided.get(&wish).cloned() });
            let needs = real.flatten().filter(|need| *need != name).collect();
            (name, needs)
        })
        .collect();
    for (name, needs) in without_cycles(&wanted) {
        packages.get_mut(&name).expect("a package of the set").needs = needs;
    }
    packages
}

/// The names in a Debian relation field, every alternative of each.
fn relations(field: &str) -> Vec<String> {
    let alternatives = field.split([',', '|']).map(str::trim).filter(|text| !text.is_empty());
    alternatives.map(|text| text.split([' ', '(', ':']).next().unwrap_or_default().to_owned()).collect()
}

/// The same graph without the edges that lead back to a package whose needs are still being followed.
fn without_cycles(wanted: &BTreeMap<String, BTreeSet<String>>) -> BTreeMap<String, BTreeSet<String>> {
    fn follow(
        name: &str,
        wanted: &BTreeMap<String, BTreeSet<String>>,
        above: &mut BTreeSet<String>,
        done: &mut BTreeMap<String, BTreeSet<String>>,
    ) {
        if done.contains_key(name) {
            return;
        }
        above.insert(name.to_owned());
        let needs: BTreeSet<String> = wanted[name].iter().filter(|need| !above.contains(*need)).cloned().collect();
        for need in &needs {
            follow(need, wanted, above, done);
        }
        above.remove(name);
        done.insert(name.to_owned(), needs);
    }
    let mut done = BTreeMap::new();
    for name in wanted.keys() {
        follow(name, wanted, &mut BTreeSet::new(), &mut done);
    }
    done
}

fn to_nix(packages: &BTreeMap<String, Package>) -> String {
    let mut text = String::from("[\n");
    for (name, package) in packages {
        // Of a Debian version Nix's store path names refuse `:` and `~` alone.
        let store_name = format!("{name}-{}", package.version.replace([':', '~'], "_"));
        let needs: String = package.needs.iter().map(|need| format!("{need:?} ")).collect();
        let file = &package.file;
        text.push_str(&format!(
            "  {{ name = {name:?}; storeName = {store_name:?}; file = {file:?}; needs = [ {needs}]; }}\n"
        ));
    }
    text.push_str("]\n");
    text
}

/// A file of `size` bytes, half of it noise that no compressor shrinks, the same on every machine.
fn write_noise(path: &Path, size: u64) {
    let mut file = BufWriter::with_capacity(1 << 20, File::create(path).expect("a file of noise"));
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut block = vec![0_u8; 1 << 16];
    for number in 0..size.div_ceil(1 << 16) {
        if number % 2 == 0 {
            for word in block.chunks_exact_mut(8) {
                state ^= state << 13;
                state ^= state >> 7;
                state ^= state << 17;
                word.copy_from_slice(&state.to_le_bytes());
            }
        } else {
            block.fill(number as u8);
        }
        file.write_all(&block).expect("a file of noise");
    }
    file.flush().expect("a file of noise");
}

/// Removes a tree whose folders may be read-only, as those of a store are.
fn remove_tree(path: &PathBuf) {
    if path.exists() {
        stdout_of(Command::new("chmod").args(["-R", "u+w"]).arg(path));
        std::fs::remove_dir_all(path).expect("remove an unfinished corpus");
    }
}
