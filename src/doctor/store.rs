//! The Nix store of this machine: its database and its daemon.

use super::Patient;
use super::finding::{Check, Code, Notes};
use crate::config::Loaded;
use crate::remedy::chain;
use crate::store::{self, DaemonAnswer, Examination, StoreError};
use std::error::Error as _;
use std::io;

pub async fn look(patient: &Patient, loaded: &Loaded, notes: &mut Notes) {
    let mut settings = loaded.settings.store.clone();
    settings.daemon_timeout = Some(patient.patience);
    let is_named = settings.store.is_some() || settings.environment.get("NIX_REMOTE").is_some_and(|it| !it.is_empty());
    // The database's own patience is longer than anybody's here.
    let examining = tokio::task::spawn_blocking(move || store::examine(&settings));
    match tokio::time::timeout(patient.patience * 3, examining).await {
        Ok(Ok(Ok(found))) => judge(&found, is_named, notes),
        Ok(Ok(Err(error))) => {
            notes.fault(Code::StoreUnreachable, chain(&error), "correct store in [loft], --store or NIX_REMOTE");
            notes.skip(&[Check::Daemon], Check::Store, "the store cannot be found");
        }
        Ok(Err(error)) => notes.without(Check::Store, &format!("looking failed: {error}")),
        Err(_) => {
            let says = "the store's database did not answer in time";
            notes.fault(Code::StoreUnreachable, says, "see who holds it: fuser /nix/var/nix/db/db.sqlite");
            notes.skip(&[Check::Daemon], Check::Store, "the store did not answer");
        }
    }
}

fn judge(found: &Examination, is_named: bool, notes: &mut Notes) {
    let is_empty = !found.location.real_store_dir.exists() && !found.database_file.exists();
    let place = found.location.real_store_dir.display();
    let Examination { database, daemon, .. } = found;
    match (database, daemon) {
        (Some(Ok(())), _) => {
            let log = match found.has_log {
                Some(true) => "with a write-ahead log",
                Some(false) => "with a rollback journal (use-sqlite-wal = false)",
                None => "as it stands",
            };
            match &found.other_schema {
                None => notes.fine(Check::Store, format!("{place}, its database is readable {log}")),
                Some(schema) => notes.fault(
                    Code::StoreSchema,
                    format!("the database {} has schema {schema}, and loft knows 10", found.database_file.display()),
                    "let Nix upgrade the store (run any nix command as root), or install a newer loft",
                ),
            }
        }
        (None, Ok(_)) => notes.fine(Check::Store, format!("{place}, through its daemon alone")),
        (Some(Err(error)), Ok(_)) => notes.fault(
            Code::StoreUnreadable,
            format!("the database cannot be read, only asked through the daemon: {}", chain(error)),
            "it works, but slower, and `loft watch` compares whole lists: let this user read it",
        ),
        (_, Err(_)) if is_empty && !is_named => {
            notes.without(Check::Store, "there is no Nix store on this machine: it can prune and check, not push");
            return notes.without(Check::Daemon, "there is no Nix store on this machine");
        }
        (database, Err(daemon)) => {
            let database = match database {
                Some(Err(error)) => format!("; its database: {}", chain(error)),
                _ => String::new(),
            };
            let says = format!("no store can be reached at {place}: {}{database}", chain(daemon));
            notes.fault(Code::StoreUnreachable, says, store_way_out(daemon));
            return notes.skip(&[Check::Daemon], Check::Store, "the store cannot be reached");
        }
    }
    match daemon {
        Ok(answer) => notes.fine(Check::Daemon, told(answer)),
        Err(error) if is_absent(error) && found.can_hold_roots => {
            notes.without(Check::Daemon, "none runs; temporary roots are written without it");
        }
        Err(error) if is_absent(error) => notes.fault(
            Code::DaemonUnreachable,
            format!("{}; nothing keeps paths from being collected while they are pushed", chain(error)),
            "start it: systemctl start nix-daemon.socket; a collection meanwhile costs a push that path, nothing else",
        ),
        Err(error) => notes.fault(
            Code::DaemonSilent,
            chain(error),
            "restart it: systemctl restart nix-daemon; see also allowed-users in nix.conf",
        ),
    }
}

fn told(answer: &DaemonAnswer) -> String {
    let version = answer.version.as_deref().unwrap_or("of unknown version");
    match answer.is_trusted {
        Some(true) => format!("{version}, trusts this user"),
        Some(false) => format!("{version}, does not trust this user, which loft does not need"),
        None => version.to_owned(),
    }
}

/// Nobody listens, and nothing is wrong beyond that.
fn is_absent(error: &StoreError) -> bool {
    let kind = error.source().and_then(|source| source.downcast_ref::<io::Error>()).map(io::Error::kind);
    matches!(error, StoreError::DaemonConnect { .. })
        || (matches!(error, StoreError::DaemonLost { .. })
            && matches!(kind, Some(io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused)))
}

fn store_way_out(daemon: &StoreError) -> &'static str {
    match is_absent(daemon) {
        true => "start the daemon (systemctl start nix-daemon.socket), or name the store in [loft] store or --store",
        false => "look at the daemon's log (journalctl -u nix-daemon), and at allowed-users in nix.conf",
    }
}
