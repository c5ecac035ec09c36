//! What was registered since last time: the truth that a watcher needs.
//!
//! Row ids of `ValidPaths` are `autoincrement` and allotted inside the one writer's transaction, so they grow in
//! the order of commits and are never used twice: what has an id above the cursor is new, and nothing
//! that becomes visible later has an id below it. Times are no such order: they are whole seconds, and imports set them.

use super::StoreError;
use super::database::Database;
use super::row::{self, RowError};
use crate::nix::StorePath;
use rusqlite::OptionalExtension as _;

/// How far a reader of registrations has come. Durable: it may be kept across restarts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cursor {
    /// Which database file the id is of: its inode. (Device numbers change with a reboot on some file systems.)
    pub database: String,
    /// The last row id seen or skipped.
    pub id: i64,
    /// The path in that row, where it was still there.
    pub path: Option<String>,
}

/// What was registered after a cursor.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Registrations {
    /// In the order of registration. Some may have been collected since.
    pub paths: Vec<StorePath>,
    /// Rows that are damaged, as errors; a watcher must not stand still before one.
    pub damaged: Vec<String>,
    /// Where to go on.
    pub cursor: Cursor,
    /// `paths` is all that is valid: there was no cursor, or it is of another database.
    pub from_start: bool,
}

impl Database {
    /// As `Store::registered_since`.
    pub fn registered_since(&self, cursor: Option<&Cursor>) -> Result<Registrations, StoreError> {
        let before = self.identity()?;
        let registrations = self.read(|db| {
            let mut statement = db.prepare("select id, path from ValidPaths where id > ? order by id")?;
            let _snapshot = db.unchecked_transaction()?;
            let last: Option<i64> = db
                .query_row("select seq from sqlite_sequence where name = 'ValidPaths'", [], |row| row.get(0))
                .optional()?;
            let last = last.unwrap_or(0);
            let path_of = |id: i64| {
                db.query_row("select cast(path as text) from ValidPaths where id = ?", [id], |row| row.get(0))
                    .optional()
            };
            let usable = match cursor {
                // An older copy of the database put in its place has not come as far.
                Some(cursor) if cursor.id <= last => match path_of(cursor.id)? {
                    // Or it has, with other paths: ids are never used twice.
                    Some(found) => cursor.path == Some(found),
                    None => cursor.database == before.inode(),
                },
                _ => false,
            };
            let since = cursor.filter(|_| usable).map_or(0, |cursor| cursor.id);
            let mut rows = statement.query([since])?;
            let (mut paths, mut damaged) = (Vec::new(), Vec::new());
            while let Some(found) = rows.next()? {
                match row::store_path(self.dir(), "ValidPaths", found.get(0)?, found.get_ref(1)?) {
                    Ok(path) => paths.push(path),
                    Err(RowError::Store(error)) => damaged.push(error.to_string()),
                    Err(error) => return Err(error),
                }
            }
            let cursor = Cursor { database: before.inode(), id: last, path: path_of(last)? };
            Ok(Registrations { paths, damaged, cursor, from_start: !usable })
        })?;
        match self.identity()? == before {
            true => Ok(registrations),
            false => Err(StoreError::DatabaseBusy { file: self.file().to_owned() }),
        }
    }
}
