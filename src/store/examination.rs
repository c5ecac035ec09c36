//! Each back end by itself, for a diagnosis: a store that works may do so by one of them alone.

use super::daemon::Daemon;
use super::database::Database;
use super::location::Place;
use super::{Location, Settings, StoreError};
use std::path::PathBuf;

/// The schema that Nix has had since 2.0.
const SCHEMA: &str = "10";

/// What each of them says.
#[derive(Debug)]
pub struct Examination {
    pub location: Location,
    pub database_file: PathBuf,
    /// `None` where only a socket is known.
    pub database: Option<Result<(), StoreError>>,
    /// Whether the database has a write-ahead log, as far as that can be told.
    pub has_log: Option<bool>,
    /// The schema's version, where it is another than loft knows.
    pub other_schema: Option<String>,
    pub daemon: Result<DaemonAnswer, StoreError>,
    /// Whether temporary roots can be written without a daemon.
    pub can_hold_roots: bool,
}

/// What the daemon says of itself and of us.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DaemonAnswer {
    pub version: Option<String>,
    pub is_trusted: Option<bool>,
}

/// Asks both. Waits as long as `settings` allow the daemon to be silent.
pub fn examine(settings: &Settings) -> Result<Examination, StoreError> {
    let Place { location, state_is_ours } = Place::find(settings)?;
    let dir = &location.store_dir;
    let daemon = Daemon::new(location.daemon_socket.clone(), dir.clone(), settings.daemon_timeout);
    let trusted = daemon.is_trusted();
    let daemon = trusted.map(|is_trusted| DaemonAnswer { version: daemon.version(), is_trusted });
    let database = Database::new(location.database(), dir.clone());
    let schema = std::fs::read_to_string(location.state_dir.join("db/schema")).ok().map(|text| text.trim().to_owned());
    let roots = location.state_dir.join("temproots");
    Ok(Examination {
        database_file: location.database(),
        has_log: state_is_ours.then(|| database.has_log()).flatten(),
        database: state_is_ours.then(|| database.probe()),
        other_schema: schema.filter(|schema| schema != SCHEMA),
        daemon,
        can_hold_roots: state_is_ours && rustix::fs::access(&roots, rustix::fs::Access::WRITE_OK).is_ok(),
        location,
    })
}
