//! The store of this machine through whichever back end works.
//!
//! Questions go to the database, which is several times quicker, and to the daemon where the database
//! cannot be read. Protection comes from the daemon, which any user may ask, and without one from Nix's own
//! files. Neither is chosen once and for all: a daemon restarts, an old Nix's database becomes readable.

use super::daemon::Daemon;
use super::database::Database;
use super::location::Place;
use super::temp_roots::TempRoots;
use super::{Cursor, Location, Protection, Registrations, Settings, Stamp, Store, StoreError};
use crate::nix::{PathInfo, StorePath};
use crate::remedy::Remedy;
use std::cell::Cell;
use std::sync::{Mutex, PoisonError};

/// Opens the store that `settings` point at, and makes sure that it answers.
pub fn open(settings: &Settings) -> Result<Box<dyn Store>, StoreError> {
    let store = LocalStore::new(Place::find(settings)?, settings);
    store.ask(Database::probe, Daemon::greet)?;
    Ok(Box::new(store))
}

struct LocalStore {
    location: Location,
    daemon: Daemon,
    /// Nothing where only a socket is known, which may be another store's.
    files: Option<Files>,
    /// Why the database was passed over the last time.
    database_reason: Mutex<Option<String>>,
}

/// What is below the state directory.
struct Files {
    database: Database,
    temp_roots: TempRoots,
}

impl LocalStore {
    fn new(place: Place, settings: &Settings) -> Self {
        let Place { location, state_is_ours } = place;
        let dir = &location.store_dir;
        let files = state_is_ours.then(|| Files {
            database: Database::new(location.database(), dir.clone()),
            temp_roots: TempRoots::new(location.state_dir.clone(), dir.clone()),
        });
        let daemon = Daemon::new(location.daemon_socket.clone(), dir.clone(), settings.daemon_timeout);
        Self { location, daemon, files, database_reason: Mutex::new(None) }
    }

    /// Asks the database or, where that is out of reach, the daemon.
    fn ask<T>(
        &self,
        database: impl Fn(&Database) -> Result<T, StoreError>,
        daemon: impl Fn(&Daemon) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        let Some(files) = &self.files else { return daemon(&self.daemon) };
        let first = match database(&files.database) {
            Err(error) if error.is_database_access() => error,
            answer => {
                self.note(None);
                return answer;
            }
        };
        // Up to Nix 2.21 an ordinary user can read the database only while somebody has it open, as the
        // daemon's process of a connection has.
        let error = match self.daemon.greet() {
            Ok(()) => match database(&files.database) {
                Err(error) if error.is_database_access() => error,
                answer => {
                    self.note(None);
                    return answer;
                }
            },
            Err(daemon) => return Err(self.unreachable(&first, &daemon)),
        };
        self.note(Some(error.reason()));
        daemon(&self.daemon).map_err(|daemon| match daemon.is_daemon_access() {
            true => self.unreachable(&error, &daemon),
            false => daemon,
        })
    }

    fn unreachable(&self, database: &StoreError, daemon: &StoreError) -> StoreError {
        let retry = [database, daemon].iter().any(|error| error.remedy() == Remedy::Retry);
        StoreError::Unreachable {
            database: self.location.database(),
            database_reason: database.reason(),
            socket: self.location.daemon_socket.clone(),
            daemon_reason: daemon.reason(),
            remedy: if retry { Remedy::Retry } else { Remedy::Stop },
        }
    }

    fn note(&self, reason: Option<String>) {
        *self.database_reason.lock().unwrap_or_else(PoisonError::into_inner) = reason;
    }
}

impl Store for LocalStore {
    fn location(&self) -> &Location {
        &self.location
    }

    fn describe(&self) -> String {
        let Location { store_dir, real_store_dir, .. } = &self.location;
        let place = match real_store_dir.as_os_str() == store_dir.as_str() {
            true => store_dir.to_string(),
            false => format!("{store_dir} in {}", real_store_dir.display()),
        };
        let reason = self.database_reason.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let reads_database = self.files.is_some() && reason.is_none();
        let daemon = self.daemon.version().map(|version| format!("daemon {version}"));
        let ends: Vec<_> = reads_database.then(|| "database".to_owned()).into_iter().chain(daemon).collect();
        match reason {
            Some(reason) => format!("{place} ({}; {reason})", ends.join(", ")),
            None => format!("{place} ({})", ends.join(", ")),
        }
    }

    fn path_infos(&self, paths: &[StorePath]) -> Result<Vec<Option<PathInfo>>, StoreError> {
        self.ask(|database| database.path_infos(paths), |daemon| daemon.path_infos(paths))
    }

    fn all_valid_paths(&self) -> Result<Vec<StorePath>, StoreError> {
        self.ask(Database::all_valid_paths, Daemon::all_valid_paths)
    }

    fn protect(&self, path: &StorePath) -> Result<Protection, StoreError> {
        let error = match self.daemon.add_temp_root(path) {
            Ok(()) => return Ok(Protection::Held),
            // It would refuse the path in any other way, too.
            Err(error @ StoreError::DaemonRefused { .. }) => return Err(error),
            Err(error) => error.reason(),
        };
        let Some(files) = &self.files else { return Ok(Protection::Unheld(error)) };
        Ok(match files.temp_roots.add(path) {
            Ok(()) => Protection::Held,
            Err(own) => {
                let folder = self.location.state_dir.join("temproots");
                Protection::Unheld(format!(
                    "{error}; writing a temporary root below {} failed: {own}",
                    folder.display()
                ))
            }
        })
    }

    fn reachable(&self, roots: &[StorePath]) -> Result<Vec<PathInfo>, StoreError> {
        self.ask(
            |database| database.reachable(roots),
            |daemon| super::closure::by_batches(&DaemonOnly(self, daemon), roots),
        )
    }

    fn stamp(&self) -> Option<Stamp> {
        self.files.as_ref().and_then(|files| Stamp::of(files.database.file()))
    }

    fn registered_since(&self, cursor: Option<&Cursor>) -> Result<Option<Registrations>, StoreError> {
        let busy = Cell::new(false);
        let from_database = |database: &Database| {
            let found = database.registered_since(cursor);
            busy.set(found.as_ref().is_err_and(|error| error.remedy() == Remedy::Retry));
            found.map(Some)
        };
        self.ask(from_database, |_daemon| match busy.get() {
            // The next look gets an answer; the daemon's list would make everything look new.
            true => Err(StoreError::DatabaseBusy { file: self.location.database() }),
            false => Ok(None),
        })
    }
}

/// The walk over a daemon, without asking a database that has just failed at every level.
struct DaemonOnly<'a>(&'a LocalStore, &'a Daemon);

impl Store for DaemonOnly<'_> {
    fn location(&self) -> &Location {
        &self.0.location
    }

    fn describe(&self) -> String {
        self.0.describe()
    }

    fn path_infos(&self, paths: &[StorePath]) -> Result<Vec<Option<PathInfo>>, StoreError> {
        self.1.path_infos(paths)
    }

    fn all_valid_paths(&self) -> Result<Vec<StorePath>, StoreError> {
        self.1.all_valid_paths()
    }

    fn protect(&self, path: &StorePath) -> Result<Protection, StoreError> {
        self.0.protect(path)
    }
}
