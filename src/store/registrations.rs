//! What was registered since last time: the truth that a watcher needs.
//!
//! Row ids of `ValidPaths` are `autoincrement` and allotted inside the one writer's transaction, so they grow in
//! the order of commits and are never used twice: what has an id above the cursor is new, and nothing
//! that becomes visible later has an id below it. Times are no such order: they are whole seconds, and imports set them.

use super::StoreError;
use super::database::Database;
use super::row;
use crate::nix::StorePath;
use rusqlite::OptionalExtension as _;

/// How far a reader of registrations has come. Durable: it may be kept across restarts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cursor {
    /// Which database file the id is of; another one makes a cursor worthless.
    pub database: String,
    /// The last row id seen or skipped.
    pub id: i64,
}

/// What was registered after a cursor.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Registrations {
    /// In the order of registration. Some may have been collected since.
    pub paths: Vec<StorePath>,
    /// Where to go on.
    pub cursor: Cursor,
    /// `paths` is all that is valid: there was no cursor, or it is of another database.
    pub from_start: bool,
}

impl Database {
    /// As `Store::registered_since`.
    pub fn registered_since(&self, cursor: Option<&Cursor>) -> Result<Registrations, StoreError> {
        let database = self.identity()?;
        let registrations = self.read(|db| {
            let mut statement = db.prepare("select id, path from ValidPaths where id > ? order by id")?;
            let _snapshot = db.unchecked_transaction()?;
            let last: Option<i64> = db
                .query_row("select seq from sqlite_sequence where name = 'ValidPaths'", [], |row| row.get(0))
                .optional()?;
            let last = last.unwrap_or(0);
            // An older copy of the database put in its place has not come as far.
            let usable = cursor.filter(|cursor| cursor.database == database && cursor.id <= last);
            let mut rows = statement.query([usable.map_or(0, |cursor| cursor.id)])?;
            let mut paths = Vec::new();
            while let Some(found) = rows.next()? {
                paths.push(row::store_path(self.dir(), "ValidPaths", found.get(0)?, found.get_ref(1)?)?);
            }
            let cursor = Cursor { database: database.clone(), id: last };
            Ok(Registrations { paths, cursor, from_start: usable.is_none() })
        })?;
        match self.identity()? == registrations.cursor.database {
            true => Ok(registrations),
            false => Err(StoreError::DatabaseBusy { file: self.file().to_owned() }),
        }
    }
}
