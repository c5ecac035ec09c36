//! When the service pruned last and what came of it, over all restarts.

use super::rows::{seconds, system_time};
use super::{LedgerError, Watch};
use rusqlite::{Connection, OptionalExtension as _, params};
use std::time::SystemTime;

/// What the service's prunes have done so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Prunes {
    /// When one was begun that ended, well or refused; a schedule counts from here.
    pub last: Option<SystemTime>,
    /// When one was begun that ended well.
    pub last_success: Option<SystemTime>,
    /// Store paths that were removed.
    pub removed: u64,
    /// Bytes of NARs that were deleted.
    pub freed: u64,
}

impl Watch<'_> {
    /// A prune that was begun at `at` has ended well.
    pub fn note_prune(&self, at: SystemTime, removed: u64, freed: u64) -> Result<(), LedgerError> {
        self.write(|transaction| {
            set(transaction, "prune_last", seconds(at))?;
            set(transaction, "prune_success", seconds(at))?;
            count(transaction, removed, freed)
        })
    }

    /// One did so much and then stopped half-way: for the schedule it is still due.
    pub fn note_part_of_prune(&self, removed: u64, freed: u64) -> Result<(), LedgerError> {
        self.write(|transaction| count(transaction, removed, freed))
    }

    /// It was refused, and is not to be tried before its next turn.
    pub fn note_refused_prune(&self, at: SystemTime) -> Result<(), LedgerError> {
        self.write(|transaction| set(transaction, "prune_last", seconds(at)))
    }

    pub fn prunes(&self) -> Result<Prunes, LedgerError> {
        self.read(|connection| {
            let count = |name| -> rusqlite::Result<u64> {
                Ok(value(connection, name)?.and_then(|value| u64::try_from(value).ok()).unwrap_or_default())
            };
            Ok(Prunes {
                last: value(connection, "prune_last")?.and_then(system_time),
                last_success: value(connection, "prune_success")?.and_then(system_time),
                removed: count("prune_removed")?,
                freed: count("prune_freed")?,
            })
        })
    }
}

fn value(connection: &Connection, name: &str) -> rusqlite::Result<Option<i64>> {
    connection.query_row("SELECT value FROM total WHERE name = ?1", [name], |row| row.get(0)).optional()
}

fn set(connection: &Connection, name: &str, value: i64) -> rusqlite::Result<()> {
    connection.execute("INSERT OR REPLACE INTO total (name, value) VALUES (?1, ?2)", params![name, value]).map(drop)
}

fn count(connection: &Connection, removed: u64, freed: u64) -> rusqlite::Result<()> {
    add(connection, "prune_removed", removed)?;
    add(connection, "prune_freed", freed)
}

fn add(connection: &Connection, name: &str, more: u64) -> rusqlite::Result<()> {
    let more = i64::try_from(more).unwrap_or(i64::MAX);
    let sum = value(connection, name)?.unwrap_or_default().saturating_add(more);
    set(connection, name, sum)
}

#[cfg(test)]
mod tests {
    use crate::ledger::{Ledger, Prunes};
    use std::time::{Duration, SystemTime};

    #[test]
    fn prunes_add_up_and_for_the_schedule_count_those_that_ended() {
        let ledger = Ledger::in_memory();
        let at = |seconds| Some(SystemTime::UNIX_EPOCH + Duration::from_secs(seconds));
        assert_eq!(ledger.watch().prunes().unwrap(), Prunes::default());
        ledger.watch().note_prune(at(100).unwrap(), 3, 50).unwrap();
        ledger.watch().note_prune(at(200).unwrap(), 4, 5).unwrap();
        ledger.watch().note_refused_prune(at(300).unwrap()).unwrap();
        ledger.watch().note_part_of_prune(1, 1).unwrap();
        let expected = Prunes { last: at(300), last_success: at(200), removed: 8, freed: 56 };
        assert_eq!(ledger.watch().prunes().unwrap(), expected);
    }
}
