//! Checking a bucket: whether all that it promises holds, and mending what does not (docs/checking.md).
//!
//! what the bucket is → narinfos, each by itself → the NARs' listing → logs and debug information → records → what refers
//! to what → the NARs' data
//!
//! Findings are told as they come; what can be mended is kept for [`repair`].

mod data;
mod error;
mod examine;
mod extras;
mod finding;
mod links;
mod narinfos;
mod nars;
mod opening;
mod records;
mod repair;
mod scan;
mod set_aside;
mod store;
mod tables;
mod verified;

pub use data::Portion;
pub(crate) use data::fault_of;
pub use error::CheckError;
pub use finding::{Finding, Found, Kind, Severity};
pub use repair::{Mended, Repair, repair};

use crate::bucket::{Bucket, Key, Quirks};
use crate::catalog::Reader;
use crate::clock::Clock;
use crate::ledger::Ledger;
use crate::nix::{PathHash, PublicKey, Sha256, StorePath};
use crate::push::Interrupt;
use crate::report::Report;
use examine::Judge;
use extras::Extras;
use opening::Opened;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;
use tables::Tables;

/// What does the work.
#[derive(Clone)]
pub struct Ends {
    pub bucket: Arc<dyn Bucket>,
    pub ledger: Arc<Ledger>,
    pub clock: Arc<dyn Clock>,
    pub report: Arc<dyn Report>,
    pub found: Arc<dyn Found>,
}

/// What a user can set.
#[derive(Clone)]
pub struct Options {
    /// Signatures are judged by these.
    pub public_keys: Vec<PublicKey>,
    /// Caches that clients use beside this one, by the configuration; the bucket's own record may name more.
    pub upstreams: Vec<String>,
    /// Which NARs to read.
    pub read_data: Option<Portion>,
    /// Also those that were read, and found sound, within the last day.
    pub read_again: bool,
    /// Writes a small object and looks whether it is listed.
    pub probe: bool,
    pub interrupt: Interrupt,
}

/// What a check came to.
#[derive(Debug, Default)]
pub struct Checked {
    pub counts: Counts,
    /// What can be mended.
    pub damages: Damages,
    /// F9, where it was probed; what is bad among it is a finding, too.
    pub quirks: Option<Quirks>,
}

/// A check in numbers.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Counts {
    /// Narinfos.
    pub paths: u64,
    /// NARs, and their bytes as stored.
    pub nars: u64,
    pub stored: u64,
    /// NARs whose data was read in this run, and their bytes.
    pub read: u64,
    pub read_bytes: u64,
    /// NARs that were found sound within the last day and not read again.
    pub remembered: u64,
    /// Findings by kind.
    pub findings: BTreeMap<Kind, u64>,
}

impl Counts {
    pub fn of(&self, severity: Severity) -> u64 {
        self.findings.iter().filter(|(kind, _)| kind.severity() == severity).map(|(_, count)| count).sum()
    }
}

/// Everything that is damaged, for a repair.
#[derive(Debug, Default)]
pub struct Damages {
    pub paths: HashMap<PathHash, Ruin>,
    /// Referred to and not there; with its name, where that is known.
    pub missing: HashMap<PathHash, Option<StorePath>>,
    /// What pins keep and is not there.
    pub pinned: HashMap<PathHash, StorePath>,
    pub records: HashSet<Key>,
    pub cache_info: bool,
    pub bucket_record: bool,
}

/// A path whose narinfo promises what is not so.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ruin {
    /// Of the narinfo that was judged.
    pub etag: String,
    /// What its NAR must hash to; `None` where the narinfo's word is worth nothing.
    pub nar_hash: Option<Sha256>,
}

impl Checked {
    pub fn is_clean(&self) -> bool {
        self.counts.of(Severity::Damage) == 0
    }
}

/// Looks at all of the bucket. An error means that it could not be looked at.
pub async fn check(ends: &Ends, options: &Options) -> Result<Checked, CheckError> {
    tokio::select! {
        checked = Check::run(ends, options) => checked,
        () = options.interrupt.raised() => Err(CheckError::Interrupted),
    }
}

/// A check under way.
struct Check<'a> {
    ends: &'a Ends,
    options: &'a Options,
    opened: Opened,
    reader: Reader,
    tables: Tables,
    extras: Extras,
    checked: Checked,
}

impl<'a> Check<'a> {
    async fn run(ends: &'a Ends, options: &'a Options) -> Result<Checked, CheckError> {
        let mut checked = Checked::default();
        let mut early = Vec::new();
        let mut opened = opening::open(ends, options, &mut early, &mut checked.damages).await?;
        let reader = Reader::new(ends.bucket.clone(), ends.ledger.clone(), opened.identity.clone());
        checked.quirks = opened.quirks.take();
        let mut check =
            Self { ends, options, opened, reader, tables: Tables::default(), extras: Extras::default(), checked };
        early.into_iter().for_each(|finding| check.tell(finding));
        let judge = Judge { dir: check.opened.dir.clone(), keys: options.public_keys.clone() };
        check.extras = Extras::look(ends).await?;
        narinfos::look(&mut check, Arc::new(judge)).await?;
        nars::look(&mut check).await?;
        extras::judge(&mut check).await?;
        check.judge_absent_cache_info().await?;
        let records = records::look(&mut check).await?;
        nars::confirm(&mut check).await?;
        links::look(&mut check, &records).await?;
        // Shared with the threads that read NARs.
        let tables = Arc::new(std::mem::take(&mut check.tables));
        data::look(&mut check, &tables).await?;
        check.tidy_ledger(tables).await;
        Ok(check.checked)
    }

    fn tell(&mut self, finding: Finding) {
        *self.checked.counts.findings.entry(finding.kind).or_default() += 1;
        self.ends.found.found(&finding);
    }

    fn find(&mut self, kind: Kind, key: &Key, path: Option<StorePath>, problem: impl Into<String>) {
        self.tell(Finding { kind, object: key.to_string(), path, problem: problem.into() });
    }
}
