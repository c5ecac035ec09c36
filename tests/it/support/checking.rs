//! A check of a world's bucket, and what it tells.

use super::world::World;
use loft::bucket::Key;
use loft::check::{self, CheckError, Checked, Ends, Finding, Found, Kind, Mended, Options, Portion, Repair, Severity};
use loft::ledger::Ledger;
use loft::nix::{SecretKey, StoreDir, StorePath};
use loft::push::Interrupt;
use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};

pub struct Checker<'w> {
    pub world: &'w World,
    pub options: Options,
    pub ledger: Arc<Ledger>,
}

/// A check that came to its end.
#[derive(Debug)]
pub struct Told {
    pub checked: Checked,
    pub findings: Vec<Finding>,
}

#[derive(Default)]
pub struct Notebook(pub Mutex<Vec<Finding>>);

impl Found for Notebook {
    fn found(&self, finding: &Finding) {
        self.0.lock().unwrap().push(finding.clone());
    }
}

impl<'w> Checker<'w> {
    /// All data is read, and signatures are judged by the world's key.
    pub fn new(world: &'w World) -> Self {
        let options = Options {
            public_keys: world.options.keys.iter().map(SecretKey::public).collect(),
            upstreams: Vec::new(),
            read_data: Some(Portion::All),
            read_again: false,
            probe: true,
            interrupt: Interrupt::default(),
        };
        Self { world, options, ledger: world.ledger.clone() }
    }

    pub fn ends(&self, found: Arc<Notebook>) -> Ends {
        let ends = self.world.ends();
        Ends { bucket: ends.bucket, ledger: self.ledger.clone(), clock: ends.clock, report: ends.report, found }
    }

    pub async fn try_run(&self) -> Result<Told, CheckError> {
        let notebook = Arc::new(Notebook::default());
        let checked = check::check(&self.ends(notebook.clone()), &self.options).await?;
        let findings = std::mem::take(&mut *notebook.0.lock().unwrap());
        let count = |severity| findings.iter().filter(|finding| finding.kind.severity() == severity).count() as u64;
        for severity in [Severity::Damage, Severity::Garbage, Severity::Note] {
            assert_eq!(checked.counts.of(severity), count(severity), "the sum must add up");
        }
        Ok(Told { checked, findings })
    }

    pub async fn run(&self) -> Told {
        self.try_run().await.unwrap()
    }
}

impl Told {
    pub fn kinds(&self) -> BTreeSet<Kind> {
        self.findings.iter().map(|finding| finding.kind).collect()
    }

    /// Kinds of damage and garbage: what must not be there in a bucket in order.
    pub fn bad(&self) -> BTreeSet<Kind> {
        self.kinds().into_iter().filter(|kind| kind.severity() == Severity::Damage).collect()
    }

    /// What was found of this kind.
    pub fn of(&self, kind: Kind) -> Vec<&Finding> {
        self.findings.iter().filter(|finding| finding.kind == kind).collect()
    }
}

pub fn narinfo_key(path: &StorePath) -> String {
    Key::nar_info(&path.hash_part()).to_string()
}

/// An object's bytes.
pub fn bytes(world: &World, key: &str) -> Vec<u8> {
    world.bucket.contents()[&Key::listed(key)].to_vec()
}

pub fn text(world: &World, key: &str) -> String {
    String::from_utf8(bytes(world, key)).unwrap()
}

/// The key of a path's NAR, by its narinfo.
pub fn nar_key(world: &World, path: &StorePath) -> String {
    field(&text(world, &narinfo_key(path)), "URL").to_owned()
}

pub fn field<'t>(narinfo: &'t str, name: &str) -> &'t str {
    narinfo.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": ")).unwrap()
}

/// Changes a line of a narinfo.
pub fn set_field(world: &World, path: &StorePath, name: &str, value: &str) {
    let (key, start) = (narinfo_key(path), format!("{name}: "));
    let old = text(world, &key);
    let new: String = old
        .lines()
        .map(|line| if line.starts_with(&start) { format!("{start}{value}\n") } else { format!("{line}\n") })
        .collect();
    assert_ne!(old, new);
    world.bucket.plant(&key, new);
}

impl Checker<'_> {
    /// From the world's store, unless told that there is none.
    pub async fn repair(&self, checked: &Checked, has_store: bool) -> Result<Mended, CheckError> {
        let ends = self.ends(Arc::default());
        let store = has_store.then(|| self.world.ends().store);
        let repair = Repair { store, push: self.world.options.clone(), dir: StoreDir::default(), remove_most: true };
        let mut mended = Mended::default();
        check::repair(&ends, &repair, checked, &mut mended).await?;
        Ok(mended)
    }
}
