//! What a check can find: one kind for each way in which a bucket can be out of order.

use crate::nix::StorePath;

/// One thing that is not as it should be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    pub kind: Kind,
    /// The object's key, or what else it is about.
    pub object: String,
    pub path: Option<StorePath>,
    /// What is wrong with this very object.
    pub problem: String,
}

/// How bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Severity {
    /// Some client fails, or nobody can tell any more what must be kept.
    Damage,
    /// Of no use to anybody; prunes remove it.
    Garbage,
    /// Worth knowing; nothing breaks.
    Note,
}

/// Receives findings as they come.
pub trait Found: Send + Sync {
    fn found(&self, finding: &Finding);
}

macro_rules! kinds {
    ($($(#[$doc:meta])* $kind:ident = $topic:literal $name:literal $severity:ident, $meaning:literal, $advice:literal;)*) => {
        /// What is wrong, in kind.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Kind { $($(#[$doc])* $kind,)* }

        impl Kind {
            pub const ALL: &[Self] = &[$(Self::$kind),*];

            /// The chapter of docs/checking.md: `F1` to `F10`.
            pub const fn topic(self) -> &'static str {
                match self { $(Self::$kind => $topic,)* }
            }

            /// For programs.
            pub const fn name(self) -> &'static str {
                match self { $(Self::$kind => $name,)* }
            }

            pub const fn severity(self) -> Severity {
                match self { $(Self::$kind => Severity::$severity,)* }
            }

            /// What it means for clients and prunes.
            pub const fn meaning(self) -> &'static str {
                match self { $(Self::$kind => $meaning,)* }
            }

            /// What to do about it.
            pub const fn advice(self) -> &'static str {
                match self { $(Self::$kind => $advice,)* }
            }
        }
    };
}

kinds! {
    NarInfoMalformed = "F1" "narinfo_malformed" Damage,
        "clients stop with an error at this path or take it for absent, and a prune keeps what it may need, as far as that can be read",
        "loft check --repair";
    NarInfoOtherPath = "F1" "narinfo_other_path" Damage,
        "clients that ask for one path are answered with another",
        "loft check --repair";
    NarInfoUnsupported = "F1" "narinfo_unsupported" Note,
        "loft cannot read NARs of this compression; Nix may",
        "nothing";
    NarInfoUnusual = "F1" "narinfo_unusual" Note,
        "Nix reads it; other programs may read it differently, and loft does not add signatures to it",
        "nothing, or push the path again";
    NarMissing = "F2" "nar_missing" Damage,
        "clients are promised a path and then fail to fetch it",
        "loft check --repair";
    NarSize = "F2" "nar_size" Damage,
        "clients fetch it and then refuse it",
        "loft check --repair";
    ReferenceMissing = "F3" "reference_missing" Damage,
        "clients cannot fetch a path that refers to it unless another of their caches has it",
        "loft check --repair";
    ReferenceUnexplained = "F3" "reference_unexplained" Note,
        "clients need another cache that has it; no push record that is still there says that one does",
        "push the referring path again: that records what comes from upstream";
    SignatureInvalid = "F4" "signature_invalid" Damage,
        "clients that trust this key refuse the path",
        "loft check --repair";
    Unsigned = "F4" "unsigned" Note,
        "clients that trust these keys alone refuse the path, unless they do not require signatures",
        "loft sign";
    NarUnreferenced = "F5" "nar_unreferenced" Garbage,
        "it takes room; what a push has sent in the last minutes looks the same",
        "loft prune, again and again: it deletes NARs seven days after nothing points at them any more";
    ListingUnreferenced = "F5" "listing_unreferenced" Garbage,
        "it takes room",
        "loft prune: it deletes listings once no undo can bring their paths back";
    LogUnreferenced = "F5" "log_unreferenced" Garbage,
        "it takes room; somebody may have put it there by hand, as nix store copy-log does of a build that failed",
        "loft prune: it deletes logs that are older than the retention";
    DebugInfoDangling = "F5" "debug_info_dangling" Garbage,
        "debuggers that ask for this build id fail to fetch what they are told to",
        "loft prune; pushing the path again writes it anew where debug_info is set";
    DebugInfoMalformed = "F5" "debug_info_malformed" Note,
        "debuggers that ask for this build id find nothing; no prune touches it",
        "push the path that has this debug information again, or remove the object";
    LeaseStale = "F6" "lease_stale" Garbage,
        "a push ended without its goodbye; nothing heeds the lease any more",
        "loft prune";
    SweepStale = "F6" "sweep_stale" Garbage,
        "a prune ended without its goodbye; nothing heeds its announcement any more",
        "loft prune";
    UploadStale = "F6" "upload_stale" Garbage,
        "parts of a NAR that nobody goes on with take room",
        "loft prune";
    PinnedMissing = "F6" "pinned_missing" Damage,
        "what a pin was to keep is not in the cache",
        "loft check --repair, or loft pin rm";
    PinEmpty = "F6" "pin_empty" Note,
        "a pin keeps nothing: its path is not in the cache, or comes from upstream",
        "push the path again, or remove the pin";
    RootMissing = "F6" "root_missing" Note,
        "it was pushed and is gone, though no prune has it in its trash: something else deletes from this bucket",
        "push it again, and find out who deletes";
    RecordUnreadable = "F6" "record_unreadable" Damage,
        "what it keeps is unknown, so no prune works before it is gone",
        "loft check --repair";
    SweepUnreadable = "F6" "sweep_unreadable" Note,
        "pushes and prunes wait for it until it expires, 11 minutes after it was written",
        "wait";
    TrashUnreadable = "F6" "trash_unreadable" Note,
        "what that prune removed cannot be brought back",
        "nothing; a prune collects its NARs";
    NarDuplicate = "F7" "nar_duplicate" Note,
        "the same content is stored more than once",
        "nothing: it happens when two machines push at once";
    CacheInfoMissing = "F8" "cache_info_missing" Damage,
        "clients do not take it for a Nix cache, and no prune works",
        "loft check --repair";
    CacheInfoMalformed = "F8" "cache_info_malformed" Damage,
        "clients ignore the cache or stop with an error, and neither pushes nor prunes work",
        "loft check --repair";
    CacheInfoVague = "F8" "cache_info_vague" Note,
        "clients assume that the cache is for their own store directory",
        "write StoreDir into it";
    BucketRecordUnreadable = "F8" "bucket_record_unreadable" Damage,
        "neither pushes nor prunes work",
        "loft check --repair";
    Clock = "F9" "clock" Note,
        "ages are wrong by as much; prunes and repairs refuse to work",
        "set the clock (NTP)";
    ListingLags = "F9" "listing_lags" Note,
        "what other machines push is not seen, so prunes refuse to work",
        "use storage that lists what was written";
    LifecycleExpires = "F9" "lifecycle_expires" Note,
        "the store itself deletes by age what is still needed, and then clients fail",
        "remove the rule; retention is for loft prune";
    LifecycleArchives = "F9" "lifecycle_archives" Note,
        "NARs that clients still fetch become unreadable for hours or for good",
        "remove the transition";
    LifecycleAborts = "F9" "lifecycle_aborts" Note,
        "uploads of large NARs that were cut short begin anew instead of going on",
        "give the rule two days or more";
    CouldNotTell = "F9" "could_not_tell" Note,
        "this was not looked at",
        "nothing";
    NarData = "F10" "nar_data" Damage,
        "clients fetch it and then refuse it",
        "loft check --repair";
    DataUnsupported = "F10" "data_unsupported" Note,
        "loft cannot read it, so its data was not looked at",
        "nothing";
    ReferenceUnlisted = "F10" "reference_unlisted" Note,
        "its data names a path that it does not declare; where that matters, the path breaks on machines that lack the other",
        "nothing where the build discards references on purpose; else build and push it anew";
    ReferenceNotInData = "F10" "reference_not_in_data" Note,
        "it declares references that its data does not name; clients fetch more than they need",
        "nothing";
}

impl Severity {
    pub const fn name(self) -> &'static str {
        match self {
            Self::Damage => "damage",
            Self::Garbage => "garbage",
            Self::Note => "note",
        }
    }
}
