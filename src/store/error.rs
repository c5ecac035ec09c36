//! What can go wrong between loft and the local store.

use crate::nix::{StorePath, StorePathError};
use crate::remedy::Remedy;
use std::error::Error;
use std::io;
use std::path::PathBuf;

#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    #[error("Store {setting:?} cannot be read by loft: {why}")]
    Unsupported { setting: String, why: &'static str },
    #[error("Store setting {setting:?} is malformed: {why}")]
    Setting { setting: String, why: String },
    #[error("Variable {name}={value:?} does not name a store directory")]
    StoreDir { name: &'static str, value: String, source: StorePathError },
    #[error(
        "No Nix store can be reached. Database {}: {database_reason}. Daemon socket {}: {daemon_reason}. Start the daemon, or name \
         another store with --store or `store` in loft.toml",
        database.display(), socket.display()
    )]
    Unreachable {
        database: PathBuf,
        database_reason: String,
        socket: PathBuf,
        daemon_reason: String,
        /// `Retry` where either may come back by itself.
        remedy: Remedy,
    },

    #[error("Could not open the store database {}", file.display())]
    DatabaseFile { file: PathBuf, source: io::Error },
    #[error("Could not read the store database {}", file.display())]
    Database { file: PathBuf, source: rusqlite::Error },
    /// Read without locks (see `database`), and every time somebody wrote meanwhile.
    #[error("Store database {} kept changing while it was read", file.display())]
    DatabaseBusy { file: PathBuf },
    /// `path` is what the row says, as far as that can be told.
    #[error("Store database is damaged: table {table}, row {row}, path {path:?}: {what}")]
    Damaged { table: &'static str, row: i64, path: String, what: String },

    #[error("Could not connect to the Nix daemon at {}", socket.display())]
    DaemonConnect { socket: PathBuf, source: io::Error },
    #[error("The Nix daemon at {} did not answer while {doing}", socket.display())]
    DaemonLost { socket: PathBuf, doing: &'static str, source: io::Error },
    #[error("The Nix daemon at {} broke the protocol while {doing}: {what}", socket.display())]
    DaemonProtocol { socket: PathBuf, doing: &'static str, what: String },
    #[error("The Nix daemon at {} reported an error while {doing}: {message}", socket.display())]
    DaemonRefused { socket: PathBuf, doing: &'static str, message: String },

    #[error("Path {path} is not valid in the store{}; build or fetch it first", referrer_text(referrer.as_ref()))]
    NotValid { path: StorePath, referrer: Option<StorePath> },
    #[error("Store paths refer to each other in a circle, which no valid store contains: {}", circle(paths))]
    Cycle { paths: Vec<StorePath> },

    #[error("{} does not exist", typed.display())]
    NotFound { typed: PathBuf },
    #[error("Could not look at {}", at.display())]
    Look { at: PathBuf, source: io::Error },
    #[error("{} leads to {path}, which is not in the store (any more): build it again", typed.display())]
    Gone { typed: PathBuf, path: StorePath },
    #[error("{} leads to {}, which is outside of the store directory {store_dir}", typed.display(), reached.display())]
    Outside { typed: PathBuf, reached: PathBuf, store_dir: String },
    #[error("{} is the store directory itself: name a path in it", typed.display())]
    WholeStore { typed: PathBuf },
    #[error("{} does not lead to a store path", typed.display())]
    NotAStorePath { typed: PathBuf, source: StorePathError },
    #[error("{} goes through too many symbolic links", typed.display())]
    Links { typed: PathBuf },
    #[error(
        "{typed:?} is an installable, which loft does not evaluate: \
         give the output path, for example what `nix build --print-out-paths` prints"
    )]
    Installable { typed: String },
}

impl StoreError {
    pub fn remedy(&self) -> Remedy {
        use rusqlite::ErrorCode::{DatabaseBusy, DatabaseLocked};
        match self {
            Self::Unsupported { .. } | Self::Setting { .. } | Self::StoreDir { .. } => Remedy::FixConfig,
            Self::Database { source, .. } => match source.sqlite_error_code() {
                Some(DatabaseBusy | DatabaseLocked) => Remedy::Retry,
                _ => Remedy::Stop,
            },
            Self::DatabaseFile { source, .. } | Self::DaemonConnect { source, .. } => match source.kind() {
                io::ErrorKind::PermissionDenied => Remedy::FixConfig,
                io::ErrorKind::ConnectionRefused => Remedy::Retry,
                _ => Remedy::Stop,
            },
            Self::DatabaseBusy { .. } | Self::DaemonLost { .. } => Remedy::Retry,
            Self::Unreachable { remedy, .. } => *remedy,
            Self::DaemonProtocol { .. } => Remedy::Stop,
            Self::Damaged { .. }
            | Self::DaemonRefused { .. }
            | Self::NotValid { .. }
            | Self::Cycle { .. }
            | Self::NotFound { .. }
            | Self::Look { .. }
            | Self::Gone { .. }
            | Self::Outside { .. }
            | Self::WholeStore { .. }
            | Self::NotAStorePath { .. }
            | Self::Links { .. }
            | Self::Installable { .. } => Remedy::GiveUpOnItem,
        }
    }

    /// Whether the database itself is out of reach, so that the daemon may still know.
    pub(super) fn is_database_access(&self) -> bool {
        matches!(self, Self::DatabaseFile { .. } | Self::Database { .. } | Self::DatabaseBusy { .. })
    }

    /// Whether the daemon itself is out of reach.
    pub(super) fn is_daemon_access(&self) -> bool {
        matches!(self, Self::DaemonConnect { .. } | Self::DaemonLost { .. } | Self::DaemonProtocol { .. })
    }

    /// Message and causes on one line, for a reason inside another message.
    pub(super) fn reason(&self) -> String {
        let mut text = self.to_string();
        let mut cause = self.source();
        while let Some(error) = cause {
            text.push_str(": ");
            text.push_str(&error.to_string());
            cause = error.source();
        }
        text
    }
}

fn referrer_text(referrer: Option<&StorePath>) -> String {
    referrer.map(|path| format!(", though {path} refers to it")).unwrap_or_default()
}

/// A circle may run through a million paths; the first few tell where to look.
fn circle(paths: &[StorePath]) -> String {
    const SHOWN: usize = 10;
    let mut names: Vec<_> = paths.iter().take(SHOWN).map(StorePath::as_str).collect();
    if paths.len() > SHOWN {
        names.push("…");
    }
    names.extend(paths.first().map(StorePath::as_str));
    names.join(" → ")
}
