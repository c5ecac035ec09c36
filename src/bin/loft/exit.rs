//! What the exit status says: the one place that spells the numbers.

use std::process::ExitCode;

/// How a run ended. Scripts rely on these numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// All that was asked for has landed.
    Done,
    /// Stopped before or during the work, and nothing more was tried: usage, configuration, no bucket, a bug.
    Stopped,
    /// Finished, but some paths did not land; each was named.
    Unfinished,
    /// `loft check` found damage.
    Damaged,
    /// Interrupted by the user; what was in flight was settled first. 128 + SIGINT, as shells have it.
    Interrupted,
}

impl Exit {
    pub const fn code(self) -> u8 {
        match self {
            Self::Done => 0,
            Self::Stopped => 1,
            Self::Unfinished => 2,
            Self::Damaged => 3,
            Self::Interrupted => 130,
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit.code())
    }
}
