//! What can be wrong with the ledger, in words for users.

use rusqlite::ErrorCode;
use std::path::Path;

/// Why something that must not be lost could not be written or read.
#[derive(Debug, thiserror::Error)]
#[error("Could not {doing} the ledger {file}")]
pub struct LedgerError {
    pub doing: &'static str,
    pub file: String,
    #[source]
    pub cause: LedgerCause,
}

#[derive(Debug, thiserror::Error)]
pub enum LedgerCause {
    #[error(transparent)]
    Database(rusqlite::Error),
    /// It could not be opened; the text is its trouble.
    #[error("{0}")]
    Unusable(String),
}

/// Database errors by what follows from them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Damaged,
    Locked,
    Full,
    Other,
}

impl Kind {
    pub fn of(error: &rusqlite::Error) -> Self {
        match error {
            // A value of another type than the schema says: pages were mixed up.
            rusqlite::Error::FromSqlConversionFailure(..)
            | rusqlite::Error::IntegralValueOutOfRange(..)
            | rusqlite::Error::InvalidColumnType(..)
            | rusqlite::Error::Utf8Error(..) => Self::Damaged,
            // "no such table" and its like: the schema was there when the file was opened.
            rusqlite::Error::SqlInputError { .. } => Self::Damaged,
            error => match error.sqlite_error_code() {
                Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => Self::Damaged,
                Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => Self::Locked,
                Some(ErrorCode::DiskFull) => Self::Full,
                _ => Self::Other,
            },
        }
    }

    pub fn sentence(self, file: &Path, error: &rusqlite::Error) -> String {
        let file = file.display();
        match self {
            Self::Damaged => format!(
                "The ledger {file} is damaged ({error}); a service puts it aside when it is started again and looks at \
                 the whole store; where none works with it, delete it: that costs requests alone"
            ),
            Self::Locked => format!(
                "The ledger {file} is locked by another process for too long, so that this run asks the bucket \
                 instead; see who holds it with: fuser {file}"
            ),
            Self::Full => {
                format!("The disk of the ledger {file} is full, so that nothing more is remembered; make room there")
            }
            Self::Other => format!(
                "The ledger {file} cannot be used ({error}), so that this run asks the bucket instead; make it and \
                 its directory writable, or set local_cache_path to another file"
            ),
        }
    }
}
