//! The store paths that everybody pushes. They are made once and kept.
//!
//! A: about a thousand Debian packages with their dependencies among them, 1.5 GB of NARs. B: 3 000 tiny paths, each
//! referring to two others. C: one path of 1 GiB. The same input makes the same bytes; which versions of A's packages
//! there are is Debian's business, and `packages.txt` beside the store says it.

use crate::measure::measure;
use crate::programs::Programs;
use loft::nix::{Sha256, base32};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Raise it when what is made here changes.
const VERSION: u32 = 1;

/// A's packages are these with what they depend on, in an order that only their names decide, until there are enough.
const PACKAGES: &[&str] = &[
    "build-essential",
    "git",
    "python3-scipy",
    "python3-matplotlib",
    "texlive-latex-recommended",
    "imagemagick",
    "ffmpeg",
    "golang-go",
    "rustc",
    "default-jdk-headless",
    "libdist-zilla-perl",
    "libmojolicious-perl",
    "graphviz",
    "inkscape",
    "postgresql",
    "nginx",
    "emacs-nox",
    "vim-nox",
    "ruby",
    "nodejs",
    "gdb",
    "valgrind",
    "octave",
    "r-base-core",
    "ghc",
    "texlive-fonts-recommended",
    "gnome-terminal",
    "qemu-system-x86",
    "subversion",
    "cmake",
    "libreoffice-calc",
    "gimp",
    "evolution",
    "mesa-utils",
    "konsole",
    "libcatalyst-perl",
    "python3-pandas",
    "python3-django",
    "python3-sphinx",
    "ansible-core",
    "mariadb-server",
    "openjdk-17-jre",
    "libghc-aeson-dev",
    "gstreamer1.0-plugins-good",
    "wireshark-qt",
];

/// Enough.
const PATHS: usize = 1000;
const NAR_BYTES: u64 = 1_560_000_000;
/// Larger ones are left out: a few would be most of the bytes.
const MOST_KIB: u64 = 26_000;

const TINY: usize = 3000;
const LARGE: u64 = 1 << 30;

pub struct Corpora {
    pub a: Corpus,
    pub b: Corpus,
    pub c: Corpus,
}

pub struct Corpus {
    /// The root folder of a chroot store.
    pub store: PathBuf,
    /// Refers to all the others.
    pub root: String,
    /// Refers to the root.
    pub one_more: String,
    /// A cache with all of it in a folder, compressed by loft.
    pub ready_made: PathBuf,
    pub secret_key: PathBuf,
}

/// A path to be: its files are made by whoever adds it.
struct Member {
    name: String,
    references: Vec<String>,
}

impl Corpora {
    pub fn make(home: &Path, programs: &Programs) -> Self {
        std::fs::create_dir_all(home).expect("the folder for corpora");
        let key = home.join("secret-key");
        if !key.exists() {
            let secret = measure_output(programs.nix("nix").args(["key", "generate-secret", "--key-name", "bench-1"]));
            std::fs::write(&key, secret).expect("a key");
            std::fs::set_permissions(&key, PermissionsExt::from_mode(0o600)).expect("a key");
        }
        Self {
            a: Corpus::make(home, "a", programs, debian),
            b: Corpus::make(home, "b", programs, tiny),
            c: Corpus::make(home, "c", programs, large),
        }
    }
}

impl Corpus {
    fn make(home: &Path, name: &str, programs: &Programs, fill: fn(&mut Store) -> ()) -> Self {
        let folder = home.join(format!("{name}-{VERSION}"));
        let done = folder.join("done");
        let corpus = |root: String, one_more: String| Self {
            store: folder.join("store"),
            root,
            one_more,
            ready_made: folder.join("ready-made"),
            secret_key: home.join("secret-key"),
        };
        if let Ok(text) = std::fs::read_to_string(&done)
            && let Some((root, one_more)) = text.trim().split_once('\n')
        {
            return corpus(root.to_owned(), one_more.to_owned());
        }
        eprintln!("making corpus {name} in {}", folder.display());
        let _ = Command::new("chmod").args(["-R", "u+w"]).arg(&folder).stderr(Stdio::null()).status();
        let _ = std::fs::remove_dir_all(&folder);
        let mut store = Store::new(folder.join("store"));
        fill(&mut store);
        let all: Vec<String> = store.members.iter().map(|(path, _)| path.clone()).collect();
        let root = store.add(Member { name: "root".into(), references: all }, |at| write(at, b"all of it\n"));
        let more = Member { name: "one-more".into(), references: vec![root.clone()] };
        let one_more = store.add(more, |at| write(at, b"and one more\n"));
        store.register(programs);
        let corpus = corpus(root, one_more);
        let mut push = Command::new(&programs.loft);
        push.args(["push", "--quiet", "--store", &format!("local?root={}", corpus.store.display())]);
        push.arg("--to").arg(format!("file://{}", corpus.ready_made.display()));
        push.arg("--signing-key").arg(&corpus.secret_key).arg(&corpus.root);
        let memory = tempfile::tempdir().expect("a temporary folder");
        std::fs::write(memory.path().join("loft.toml"), "[loft]\nlocal_cache_path = \"ledger.db\"\n")
            .expect("loft.toml");
        measure(push.current_dir(memory.path()));
        std::fs::write(done, format!("{}\n{}\n", corpus.root, corpus.one_more)).expect("done");
        corpus
    }

    /// Reads every file, so that the page cache has them.
    pub fn warm(&self) {
        for folder in [self.store.join("nix/store"), self.ready_made.clone()] {
            let mut read = Command::new("tar");
            read.args(["--create", "--file=-", "--directory"]).arg(&folder).arg(".");
            let mut child = read.stdout(Stdio::piped()).spawn().expect("tar");
            let mut out = child.stdout.take().expect("a pipe");
            std::io::copy(&mut out, &mut std::io::sink()).expect("tar");
            assert!(child.wait().expect("tar").success(), "tar could not read {}", folder.display());
        }
    }
}

/// A chroot store in the making.
struct Store {
    root: PathBuf,
    members: Vec<(String, Vec<String>)>,
}

impl Store {
    fn new(root: PathBuf) -> Self {
        std::fs::create_dir_all(root.join("nix/store")).expect("a store");
        Self { root, members: Vec::new() }
    }

    /// Adds a path whose hash part comes from its name.
    fn add(&mut self, member: Member, fill: impl FnOnce(&Path)) -> String {
        let hash = Sha256::of(format!("{VERSION} {}", member.name).as_bytes());
        let path = format!("/nix/store/{}-{}", base32::encode(&hash.as_bytes()[..20]), member.name);
        fill(&self.root.join(&path[1..]));
        self.members.push((path.clone(), member.references));
        path
    }

    /// Puts all into Nix's database, with the hashes that Nix itself computes.
    fn register(&self, programs: &Programs) {
        let mut dump = String::new();
        for (path, references) in &self.members {
            let file = self.root.join(&path[1..]);
            seal(&file);
            let hash = measure_output(programs.nix("nix-hash").args(["--type", "sha256"]).arg(&file));
            let size = nar_size(programs, &file);
            let _ = write!(dump, "{path}\n{}\n{size}\n\n{}\n", hash.trim(), references.len());
            references.iter().for_each(|reference| dump.push_str(&format!("{reference}\n")));
        }
        let mut load = programs.nix("nix-store");
        load.args(["--store", &format!("local?root={}", self.root.display()), "--load-db"]);
        let mut child = load.stdin(Stdio::piped()).spawn().expect("nix-store");
        child.stdin.take().expect("a pipe").write_all(dump.as_bytes()).expect("nix-store --load-db");
        assert!(child.wait().expect("nix-store").success(), "nix-store --load-db failed");
    }
}

/// As Nix leaves them: read-only, and from 1970.
fn seal(path: &Path) {
    for command in ["find \"$0\" ! -type l -exec chmod a-w,u-s,g-s,a+r {} +", "find \"$0\" -exec touch -h -d @1 {} +"] {
        let done = Command::new("sh").arg("-c").arg(command).arg(path).status().expect("sh");
        assert!(done.success(), "{command} failed for {}", path.display());
    }
}

fn nar_size(programs: &Programs, file: &Path) -> u64 {
    let mut child =
        programs.nix("nix-store").arg("--dump").arg(file).stdout(Stdio::piped()).spawn().expect("nix-store");
    let size = std::io::copy(child.stdout.as_mut().expect("a pipe"), &mut std::io::sink()).expect("nix-store --dump");
    assert!(child.wait().expect("nix-store").success(), "nix-store --dump {}", file.display());
    size
}

fn write(at: &Path, bytes: &[u8]) {
    std::fs::write(at, bytes).expect("a file");
}

fn measure_output(command: &mut Command) -> String {
    let output = command.stderr(Stdio::inherit()).output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    assert!(output.status.success(), "{command:?} failed");
    String::from_utf8(output.stdout).expect("text")
}

fn tiny(store: &mut Store) {
    let mut paths: Vec<String> = Vec::new();
    for n in 0..TINY {
        let below = n / 2;
        let references: BTreeSet<String> =
            [below, below / 3].into_iter().filter_map(|n| paths.get(n).cloned()).collect();
        let text = format!("the contents of {n}\n").repeat(n % 40 + 1);
        let member = Member { name: format!("tiny-{n}"), references: references.into_iter().collect() };
        paths.push(store.add(member, |at| write(at, text.as_bytes())));
    }
}

/// A third of it is noise; the rest compresses as programs do.
fn large(store: &mut Store) {
    store.add(Member { name: "large".into(), references: Vec::new() }, |at| {
        let mut file = std::io::BufWriter::new(std::fs::File::create(at).expect("a file"));
        let mut state = 0x9e37_79b9_7f4a_7c15_u64;
        let mut random = || {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state
        };
        let mut written = 0;
        while written < LARGE {
            let mut block = Vec::with_capacity(4096);
            while block.len() < 4096 {
                match random() % 3 {
                    0 => block.extend((0..16).flat_map(|_| random().to_le_bytes())),
                    _ => {
                        let word = random() % 5000;
                        block.extend_from_slice(
                            format!("word {word} of a sentence that others know as well; ").repeat(3).as_bytes(),
                        );
                    }
                }
            }
            block.truncate(4096);
            file.write_all(&block).expect("a file");
            written += 4096;
        }
    });
}

/// Downloads with an apt of its own: nothing is installed for it, and it needs no root.
fn debian(store: &mut Store) {
    let work = tempfile::tempdir().expect("a temporary folder");
    let archives = work.path().join("archives");
    for folder in [work.path().join("state/lists/partial"), work.path().join("cache"), archives.join("partial")] {
        std::fs::create_dir_all(folder).expect("a folder for apt");
    }
    std::fs::write(work.path().join("status"), "").expect("a status file");
    let apt = |arguments: &[&str]| {
        let mut apt = Command::new("apt-get");
        apt.args([
            "-q",
            "-o",
            "APT::Install-Recommends=false",
            "-o",
            "APT::Sandbox::User=",
            "-o",
            "Debug::NoLocking=1",
        ]);
        apt.args(["-o", "Acquire::Languages=none", "-o", "Acquire::Retries=3"]);
        for (name, below) in [
            ("Dir::State", "state"),
            ("Dir::State::status", "status"),
            ("Dir::Cache", "cache"),
            ("Dir::Cache::archives", "archives"),
        ] {
            apt.args(["-o", &format!("{name}={}", work.path().join(below).display())]);
        }
        measure_output(apt.args(arguments));
    };
    apt(&["update"]);
    apt(&[&["install", "--yes", "--download-only"], PACKAGES].concat());

    let mut packages: BTreeMap<String, (PathBuf, Vec<String>)> = BTreeMap::new();
    for entry in std::fs::read_dir(&archives).expect("downloads") {
        let file = entry.expect("a download").path();
        if file.extension().is_some_and(|extension| extension == "deb") {
            let field = |name: &str| measure_output(Command::new("dpkg-deb").arg("-f").arg(&file).arg(name));
            if field("Installed-Size").trim().parse().is_ok_and(|size: u64| size > MOST_KIB) {
                continue;
            }
            let needs = relations(&format!("{},{}", field("Pre-Depends").trim(), field("Depends").trim()));
            packages.insert(field("Package").trim().to_owned(), (file, needs));
        }
    }
    let (mut bytes, mut list) = (0, String::new());
    let mut added: BTreeMap<String, String> = BTreeMap::new();
    for name in PACKAGES {
        add_package(store, name, &packages, &mut added, &mut bytes, &mut list);
    }
    std::fs::write(store.root.join("../packages.txt"), list).expect("packages.txt");
    eprintln!("{} packages, {bytes} bytes", added.len());
    assert!(added.len() >= PATHS * 9 / 10, "only {} packages", added.len());
}

/// After what it depends on; where packages depend on each other in a circle, whoever comes first has no reference.
fn add_package(
    store: &mut Store,
    name: &str,
    packages: &BTreeMap<String, (PathBuf, Vec<String>)>,
    added: &mut BTreeMap<String, String>,
    bytes: &mut u64,
    list: &mut String,
) {
    let mut stack = vec![(name.to_owned(), false)];
    let mut begun = BTreeSet::new();
    while let Some((name, is_ready)) = stack.pop() {
        let Some((file, needs)) = packages.get(&name) else { continue };
        if !is_ready {
            if !added.contains_key(&name) && begun.insert(name.clone()) {
                stack.push((name, true));
                stack.extend(needs.iter().map(|need| (need.clone(), false)));
            }
            continue;
        }
        if added.len() >= PATHS || *bytes >= NAR_BYTES {
            return;
        }
        let references: BTreeSet<String> = needs.iter().filter_map(|need| added.get(need).cloned()).collect();
        let member = Member { name: name.clone(), references: references.into_iter().collect() };
        let mut size = 0;
        let path = store.add(member, |at| {
            let done = Command::new("dpkg-deb").arg("--extract").arg(file).arg(at).status().expect("dpkg-deb");
            assert!(done.success(), "dpkg-deb --extract {}", file.display());
            let told = measure_output(Command::new("du").args(["--summarize", "--bytes"]).arg(at));
            size = told.split_whitespace().next().and_then(|size| size.parse().ok()).unwrap_or(0);
        });
        *bytes += size;
        let file = file.file_name().unwrap_or_default().to_string_lossy();
        let _ = writeln!(list, "{file}");
        added.insert(name, path);
    }
}

/// The first alternative of each, without versions and architectures.
fn relations(text: &str) -> Vec<String> {
    let first = |relation: &str| relation.split(['|', '(', ':']).next().unwrap_or_default().trim().to_owned();
    text.split(',').map(first).filter(|name| !name.is_empty()).collect()
}
