//! One row of `ValidPaths` as a [`PathInfo`], with every doubt said aloud.
//!
//! SQLite columns hold any type whatever the schema says, and stores outlive many Nix versions and
//! power cuts: nothing about a row is taken on trust.

use super::StoreError;
use crate::nix::{ContentAddress, PathInfo, Sha256, Signature, StoreDir, StorePath};
use rusqlite::Row;
use rusqlite::types::ValueRef;
use std::fmt::Display;
use std::num::NonZeroU64;

/// The columns that [`read`] expects, in its order. Named one by one: Determinate Nix adds some.
pub const COLUMNS: &str = "id, path, hash, deriver, narSize, ultimate, sigs, ca";

/// What both queries and this module fail with.
pub enum RowError {
    Sqlite(rusqlite::Error),
    /// Already an error of ours: damage, or a path that is not valid.
    Store(StoreError),
}

impl From<rusqlite::Error> for RowError {
    fn from(error: rusqlite::Error) -> Self {
        Self::Sqlite(error)
    }
}

/// A registration without references, and its row's id.
pub fn read(dir: &StoreDir, row: &Row<'_>) -> Result<(i64, PathInfo), RowError> {
    let id: i64 = row.get(0)?;
    let cells = Cells { row, id, path: lossy(row.get_ref(1)?) };
    let path = store_path(dir, "ValidPaths", id, row.get_ref(1)?)?;
    let hash = cells.text(2, "hash")?.unwrap_or_default();
    let nar_size = match row.get_ref(4)? {
        ValueRef::Null => None,
        ValueRef::Integer(size) => {
            NonZeroU64::new(u64::try_from(size).map_err(|_| cells.damaged(format!("narSize {size} is negative")))?)
        }
        other => return Err(cells.damaged(format!("narSize is of type {}", other.data_type()))),
    };
    let deriver = match row.get_ref(3)? {
        ValueRef::Null | ValueRef::Text(b"") => None,
        value => Some(store_path(dir, "ValidPaths", id, value).map_err(|error| cells.about("deriver", error))?),
    };
    let signatures = cells.text(6, "sigs")?.unwrap_or_default();
    let info = PathInfo {
        path,
        nar_hash: Sha256::parse(hash).map_err(|error| cells.damaged(error))?,
        nar_size,
        references: Vec::new(),
        deriver,
        // NULL is Nix's "false".
        ultimate: matches!(row.get_ref(5)?, ValueRef::Integer(1)),
        signatures: signatures
            .split_ascii_whitespace()
            .map(|text| Signature::parse(text).map_err(|error| cells.damaged(format!("signature {text:?}: {error}"))))
            .collect::<Result<_, _>>()?,
        ca: cells
            .text(7, "ca")?
            .filter(|text| !text.is_empty())
            .map(|text| ContentAddress::parse(text).map_err(|error| cells.damaged(error)))
            .transpose()?,
    };
    Ok((id, info))
}

/// A cell that holds a full, logical store path.
pub fn store_path(dir: &StoreDir, table: &'static str, id: i64, value: ValueRef<'_>) -> Result<StorePath, RowError> {
    let damaged = |what: String| RowError::Store(StoreError::Damaged { table, row: id, path: lossy(value), what });
    let ValueRef::Text(bytes) = value else {
        return Err(damaged(format!("the path is of type {}", value.data_type())));
    };
    let text = std::str::from_utf8(bytes).map_err(|_| damaged("the path is not UTF-8".to_owned()))?;
    dir.parse_path(text).map_err(|error| damaged(error.to_string()))
}

struct Cells<'a> {
    row: &'a Row<'a>,
    id: i64,
    path: String,
}

impl<'a> Cells<'a> {
    fn text(&self, index: usize, name: &str) -> Result<Option<&'a str>, RowError> {
        match self.row.get_ref(index)? {
            ValueRef::Null => Ok(None),
            ValueRef::Text(bytes) => match std::str::from_utf8(bytes) {
                Ok(text) => Ok(Some(text)),
                Err(_) => Err(self.damaged(format!("{name} is not UTF-8"))),
            },
            other => Err(self.damaged(format!("{name} is of type {}", other.data_type()))),
        }
    }

    fn damaged(&self, what: impl Display) -> RowError {
        let (row, path) = (self.id, self.path.clone());
        RowError::Store(StoreError::Damaged { table: "ValidPaths", row, path, what: what.to_string() })
    }

    /// `error` is about another cell of this row.
    fn about(&self, name: &str, error: RowError) -> RowError {
        match error {
            RowError::Store(StoreError::Damaged { path, what, .. }) => self.damaged(format!("{name} {path:?}: {what}")),
            other => other,
        }
    }
}

fn lossy(value: ValueRef<'_>) -> String {
    match value {
        ValueRef::Text(bytes) | ValueRef::Blob(bytes) => String::from_utf8_lossy(bytes).chars().take(300).collect(),
        ValueRef::Null => "NULL".to_owned(),
        ValueRef::Integer(number) => number.to_string(),
        ValueRef::Real(number) => number.to_string(),
    }
}
