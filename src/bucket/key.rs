//! Every key that loft writes or reads, spelled here and nowhere else; but for NARs, whose keys are
//! their URLs (`nix::NarUrl`).

use crate::nix::{BuildId, NarUrl, PathHash, StorePath};
use std::fmt;
use ulid::Ulid;

/// An object's key below the configured prefix. Only this file makes one (tests apart).
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Key(String);

/// A beginning of keys, for listings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Prefix(String);

/// What a listed key is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kind {
    NarInfo(PathHash),
    /// `<hash>.ls`: what is in a NAR.
    Listing(PathHash),
    Nar,
    /// `log/<derivation>`: what its build printed.
    Log(StorePath),
    /// `debuginfo/<build id>`: which NAR has the debug information. `nix copy` writes `<build id>.debug`.
    DebugInfo,
    Lease,
    Sweep,
    Push,
    Pin,
    Trash,
    /// Not loft's; never touched.
    Foreign,
}

impl Key {
    pub fn cache_info() -> Self {
        Self("nix-cache-info".to_owned())
    }

    pub fn nar_info(hash: &PathHash) -> Self {
        Self(format!("{hash}.narinfo"))
    }

    /// What is in the NAR of this path.
    pub fn listing(hash: &PathHash) -> Self {
        Self(format!("{hash}.ls"))
    }

    /// What the build of this derivation printed.
    pub fn log(derivation: &StorePath) -> Self {
        Self(format!("log/{derivation}"))
    }

    /// Which NAR has the debug information of the program with this build id. Without the `.debug` that `nix copy`
    /// appends: that form dwarffs does not read, this one every reader does.
    pub fn debug_info(id: &BuildId) -> Self {
        Self(format!("debuginfo/{id}"))
    }

    /// The object that a narinfo's `URL` names.
    pub fn nar(url: &NarUrl) -> Self {
        Self(url.as_str().to_owned())
    }

    /// For whoever opens the bucket in a browser.
    pub fn status_page() -> Self {
        Self("index.html".to_owned())
    }

    pub fn bucket_record() -> Self {
        Self("loft/v1/bucket.json".to_owned())
    }

    pub fn lease(id: Ulid) -> Self {
        Self(format!("loft/v1/lease/{id}"))
    }

    pub fn push_record(id: Ulid) -> Self {
        Self(format!("loft/v1/push/{id}"))
    }

    pub fn pin(name: &str, id: Ulid) -> Self {
        Self(format!("loft/v1/pin/{name}/{id}"))
    }

    pub fn sweep(id: Ulid) -> Self {
        Self(format!("loft/v1/sweep/{id}"))
    }

    /// What the sweep of this id removes.
    pub fn trash(id: Ulid) -> Self {
        Self(format!("loft/v1/trash/{id}"))
    }

    /// An object that is put to see whether it is listed.
    pub fn probe(id: Ulid) -> Self {
        Self(format!("loft/v1/probe/{id}"))
    }

    /// The same for who may not delete it again: one for all times.
    pub fn kept_probe() -> Self {
        Self("loft/v1/probe/kept".to_owned())
    }

    /// A key that nobody ever writes: what an absent object looks like to these credentials.
    pub fn never_written() -> Self {
        Self("loft/v1/absent".to_owned())
    }

    /// A key as a listing or a test spells it.
    pub fn listed(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Where a listing of narinfos goes on after this key: past the folder that it stands in, since
    /// folders hold NARs and records alone and stand among the narinfos in key order.
    pub fn past_folder(&self) -> Option<Self> {
        let (folder, _) = self.0.split_once('/')?;
        // `0` is the character after the slash.
        Some(Self(format!("{folder}0")))
    }

    /// The name of a pin.
    pub fn pin_name(&self) -> Option<&str> {
        let (name, _) = self.0.strip_prefix("loft/v1/pin/")?.rsplit_once('/')?;
        Some(name)
    }

    /// The id that ends a record's key; it says when the record was made, by its maker's clock.
    pub fn id(&self) -> Option<Ulid> {
        let (_, last) = self.0.rsplit_once('/')?;
        Ulid::from_string(last).ok()
    }

    /// Whose debug information it tells the place of.
    pub fn build_id(&self) -> Option<BuildId> {
        let id = self.0.strip_prefix("debuginfo/")?;
        BuildId::parse(id.strip_suffix(".debug").unwrap_or(id))
    }

    /// Whether it is one of loft's own objects.
    pub fn is_record(&self) -> bool {
        self.0.starts_with("loft/v1/")
    }

    pub fn kind(&self) -> Kind {
        let text = self.0.as_str();
        if let Some(hash) = text.strip_suffix(".narinfo").and_then(PathHash::parse) {
            return Kind::NarInfo(hash);
        }
        if let Some(hash) = text.strip_suffix(".ls").and_then(PathHash::parse) {
            return Kind::Listing(hash);
        }
        if let Some(name) = text.strip_prefix("log/")
            && let Some(derivation) = StorePath::parse(name).ok().filter(StorePath::is_derivation)
        {
            return Kind::Log(derivation);
        }
        match text {
            _ if self.build_id().is_some() => Kind::DebugInfo,
            _ if text.starts_with("nar/") => Kind::Nar,
            _ if text.starts_with("loft/v1/lease/") => Kind::Lease,
            _ if text.starts_with("loft/v1/sweep/") => Kind::Sweep,
            _ if text.starts_with("loft/v1/push/") => Kind::Push,
            _ if text.starts_with("loft/v1/pin/") => Kind::Pin,
            _ if text.starts_with("loft/v1/trash/") => Kind::Trash,
            _ => Kind::Foreign,
        }
    }
}

impl Prefix {
    pub fn all() -> Self {
        Self(String::new())
    }

    /// A prefix as a test or a user spells it.
    pub fn listed(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// All that is loft's own.
    pub fn own() -> Self {
        Self("loft/v1/".to_owned())
    }

    pub fn sweeps() -> Self {
        Self("loft/v1/sweep/".to_owned())
    }

    pub fn leases() -> Self {
        Self("loft/v1/lease/".to_owned())
    }

    pub fn pushes() -> Self {
        Self("loft/v1/push/".to_owned())
    }

    pub fn pins() -> Self {
        Self("loft/v1/pin/".to_owned())
    }

    pub fn nars() -> Self {
        Self("nar/".to_owned())
    }

    /// Where pushes send objects in parts.
    pub fn of_uploads() -> [Self; 2] {
        [Self::nars(), Self::logs()]
    }

    pub fn logs() -> Self {
        Self("log/".to_owned())
    }

    pub fn debug_info() -> Self {
        Self("debuginfo/".to_owned())
    }

    /// The records of one pin.
    pub fn pin(name: &str) -> Self {
        Self(format!("loft/v1/pin/{name}/"))
    }

    pub fn trash() -> Self {
        Self("loft/v1/trash/".to_owned())
    }

    pub fn probes() -> Self {
        Self("loft/v1/probe/".to_owned())
    }

    /// Where the NARs can be cut into pieces of about one size, in key order: their names begin with a hash. A NAR
    /// of any other name is in some piece as well.
    pub fn nar_cuts() -> impl Iterator<Item = String> {
        crate::nix::base32::digits().skip(1).map(|digit| format!("nar/{digit}"))
    }

    /// The store paths by the first character of their hash part: 32 listings side by side.
    pub fn nar_info_shards() -> impl Iterator<Item = Self> {
        crate::nix::base32::digits().map(|digit| Self(digit.to_string()))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
