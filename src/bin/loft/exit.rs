//! What the exit status says: the one place that spells the numbers.

use std::io;
use std::os::unix::process::ExitStatusExt as _;
use std::process::{ExitCode, ExitStatus};

/// How a run ended. Scripts rely on these numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// All that was asked for has landed.
    Done,
    /// Stopped before or during the work, and nothing more was tried: usage, configuration, no bucket, a bug.
    Stopped,
    /// Finished, but some paths did not land; each was named.
    Unfinished,
    /// `loft check` found damage, or `loft doctor` something broken.
    Damaged,
    /// Interrupted by the user; what was in flight was settled first. 128 + SIGINT, as shells have it.
    Interrupted,
    /// `loft run`: the command's own failure, and how shells tell what a signal ended or what could not be started.
    Command(u8),
}

impl Exit {
    pub const fn code(self) -> u8 {
        match self {
            Self::Done => 0,
            Self::Stopped => 1,
            Self::Unfinished => 2,
            Self::Damaged => 3,
            Self::Interrupted => 130,
            Self::Command(code) => code,
        }
    }

    /// How a command failed; nothing when it did not. 128 + n when signal n ended it.
    pub fn failure_of(status: ExitStatus) -> Option<Self> {
        let code = status.code().or_else(|| Some(128 + status.signal()?)).unwrap_or(1);
        // Signals go up to 64 and codes to 255.
        (code != 0).then(|| Self::Command(u8::try_from(code).unwrap_or(u8::MAX)))
    }

    /// A command that could not be started.
    pub fn not_started(why: &io::Error) -> Self {
        match why.kind() {
            io::ErrorKind::NotFound => Self::Command(127),
            _ => Self::Command(126),
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit.code())
    }
}
