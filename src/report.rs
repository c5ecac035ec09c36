//! What work tells those who watch it: a terminal, a log, a JSON stream or a test.
//!
//! The library never prints. Every path that was considered ends in exactly one [`Outcome`], so
//! that a summary adds up: considered = pushed + present + upstream + ignored + failed + interrupted
//! (+ what a dry run would push).

use crate::nix::{KeyName, StorePath};
use std::time::Duration;

/// Receives events; must not block for long.
pub trait Report: Send + Sync {
    fn event(&self, event: Event<'_>);
}

/// Something worth telling. Sizes are in bytes.
#[derive(Debug, Clone)]
pub enum Event<'a> {
    /// The plan is made; nothing has been sent yet.
    Planned(&'a Counts),
    /// A NAR starts to be read, for a second time perhaps; `nar_size` is 0 where the store does not know it.
    Started { path: &'a StorePath, nar_size: u64 },
    /// `nar_bytes` more of the path's NAR have been read and compressed.
    Progress { path: &'a StorePath, nar_bytes: u64 },
    /// The path's narinfo was written; its fate is told after a last look at all of them.
    Landed { path: &'a StorePath },
    /// The path's fate; told once for each path considered.
    Settled { path: &'a StorePath, outcome: &'a Outcome },
    /// A request failed for now and will be tried again.
    Retrying { what: &'a str, error: &'a str, attempt: u32, delay: Duration },
    /// A long look at the bucket goes on: so many of `what` (narinfos, NARs) so far.
    Looked { what: &'a str, count: u64 },
    /// The work waits for something outside, for example another machine's prune.
    Waiting { reason: &'a str },
    /// A service begins; `what` says which store it watches for which bucket.
    Watching { what: &'a str },
    /// A watcher saw `paths` become valid that are to be pushed.
    Noticed { paths: u64 },
    /// All that a scan of the whole store had found has landed.
    Scanned,
    /// A path that did not land stays queued; it is tried again after `delay`.
    Postponed { path: &'a StorePath, attempt: u32, delay: Duration },
    /// A service's prune has ended; `freed` are bytes of the NARs that were deleted.
    Pruned { removed: u64, restored: u64, failed: u64, nars: u64, freed: u64 },
    /// Something that a service needs (`what`: the bucket, the store) does not work; it tries again after `delay`.
    Outage { what: &'a str, error: &'a str, delay: Duration },
    /// And works again, after `lasted`.
    Recovered { what: &'a str, lasted: Duration },
    /// A service works with configuration and keys as they are now.
    Reread,
    /// Something the user should know, which stops nothing.
    Warning { message: &'a str },
    /// All is settled.
    Finished(&'a Summary),
}

/// What became of one path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// Its narinfo landed. `file_size` is what was sent for the NAR: 0 when all of it was there.
    Pushed { nar_size: u64, file_size: u64 },
    /// Its narinfo was in the bucket already.
    Present,
    /// It carries a signature of a key whose paths clients get elsewhere.
    Upstream { key: KeyName },
    /// Left out on purpose; the reason is for users.
    Ignored { why: String },
    /// It did not land; the text names the step and the cause. `blocked_by` is the reference that
    /// failed first where this path itself was not at fault.
    Failed { why: String, blocked_by: Option<StorePath> },
    /// Asked for, but not valid in the store (any more).
    Invalid,
    /// The user stopped the push before it landed.
    Interrupted,
    /// A dry run would push it.
    WouldPush { nar_size: u64 },
}

/// [`Outcome::Invalid`] in words.
pub const NOT_VALID: &str = "It is not valid in the store; build or fetch it first";

/// Paths by verdict, and the bytes ahead.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    pub considered: u64,
    pub upload: u64,
    pub present: u64,
    pub upstream: u64,
    pub ignored: u64,
    /// Not valid in the store (any more).
    pub invalid: u64,
    /// Cannot land: a reference is nowhere to be had.
    pub dangling: u64,
    /// NAR bytes of the paths to upload, where known.
    pub upload_nar_size: u64,
}

/// The numbers at the end.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Summary {
    pub considered: u64,
    pub pushed: u64,
    pub present: u64,
    pub upstream: u64,
    pub ignored: u64,
    pub failed: u64,
    /// Only in a dry run.
    pub would_push: u64,
    /// Of the pushed: those for which nothing of the NAR had to be sent.
    pub reused: u64,
    /// NAR bytes of the pushed paths, before compression.
    pub nar_size: u64,
    /// Bytes of NARs sent, after compression.
    pub file_size: u64,
    pub requests: u64,
    pub duration: Duration,
    /// Did not land because the user stopped the push.
    pub interrupted: u64,
}

/// Tells nobody.
#[derive(Debug, Clone, Copy, Default)]
pub struct Silent;

impl Report for Silent {
    fn event(&self, _event: Event<'_>) {}
}
