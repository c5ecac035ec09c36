//! The ledger's file, and the service that works with it. Neither is made nor changed.

use super::Patient;
use super::finding::{Check, Code, Notes};
use crate::config::Loaded;
use crate::ledger::Ledger;
use crate::service::{Lock, socket_path};
use rustix::fs::{Access, access};
use std::fs::OpenOptions;
use std::io;
use std::path::{Path, PathBuf};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;

pub async fn look(patient: &Patient, loaded: &Loaded, notes: &mut Notes) {
    let file = loaded.settings.ledger.clone();
    let looking = tokio::task::spawn_blocking(move || {
        let state = state(&file);
        (state, Lock::is_held(&file), file)
    });
    let (state, is_held, file) = match tokio::time::timeout(patient.patience, looking).await {
        Ok(Ok(looked)) => looked,
        _ => {
            let says = "looking at the ledger's file took too long";
            notes.fault(Code::LedgerUnusable, says, "look at the disk that it is on, or set local_cache_path");
            return notes.skip(&[Check::Service], Check::Ledger, "the ledger does not answer");
        }
    };
    match state {
        Ok(says) => notes.fine(Check::Ledger, says),
        Err((says, way_out)) => notes.fault(Code::LedgerUnusable, says, way_out),
    }
    match is_held {
        true => service(patient, &file, notes).await,
        false => notes.without(Check::Service, "none works with this ledger, as far as this user can see"),
    }
}

fn state(file: &Path) -> Result<String, (String, String)> {
    let shown = file.display();
    let way_out = || "let this user write there, or set local_cache_path to another file".to_owned();
    match std::fs::metadata(file) {
        Ok(metadata) if !metadata.is_file() => {
            Err((format!("{shown} is not a file"), "set local_cache_path to a file".to_owned()))
        }
        Ok(_) => {
            OpenOptions::new()
                .append(true)
                .open(file)
                .map_err(|error| (format!("{shown} cannot be written: {error}"), way_out()))?;
            match Ledger::view(file).and_then(|ledger| ledger.trouble()) {
                None => Ok(format!("{shown} can be written")),
                Some(trouble) => {
                    Err((trouble, "delete it where no service runs: that costs requests alone".to_owned()))
                }
            }
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let above = existing(file);
            match access(&above, Access::WRITE_OK | Access::EXEC_OK) {
                Ok(()) => Ok(format!("{shown} is not there yet; the first push makes it")),
                Err(error) => Err((format!("{shown} cannot be made in {}: {error}", above.display()), way_out())),
            }
        }
        Err(error) => Err((format!("{shown} cannot be looked at: {error}"), way_out())),
    }
}

/// The nearest directory above that is there.
pub fn existing(file: &Path) -> PathBuf {
    let above = file.ancestors().skip(1).find(|above| above.is_dir());
    above.filter(|above| !above.as_os_str().is_empty()).unwrap_or(Path::new(".")).to_owned()
}

/// Asks it to queue nothing at all.
async fn service(patient: &Patient, ledger: &Path, notes: &mut Notes) {
    let socket = socket_path(ledger);
    let asking = async {
        let mut stream = UnixStream::connect(&socket).await?;
        stream.shutdown().await?;
        let mut answer = String::new();
        stream.take(100).read_to_string(&mut answer).await?;
        io::Result::Ok(answer)
    };
    let way_out = "look at its log (journalctl -u loft), and restart it; hooks queue by themselves meanwhile";
    match tokio::time::timeout(patient.patience, asking).await {
        Ok(Ok(answer)) if answer.starts_with("queued") => {
            notes.fine(Check::Service, format!("runs, and answers at {}", socket.display()));
        }
        Ok(Err(error)) if error.kind() == io::ErrorKind::PermissionDenied => {
            notes.without(Check::Service, "it runs, and only its own user and root may ask it");
        }
        Ok(Ok(_)) => notes.fault(Code::ServiceSilent, "the service runs, but cannot queue what it is handed", way_out),
        Ok(Err(error)) => {
            let says = format!("the service runs, but does not listen at {}: {error}", socket.display());
            notes.fault(Code::ServiceSilent, says, way_out);
        }
        Err(_) => notes.fault(Code::ServiceSilent, "the service runs, but does not answer", way_out),
    }
}
