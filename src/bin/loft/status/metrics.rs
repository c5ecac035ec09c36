//! `--prometheus`: the metrics as a text, or as a file for node_exporter's textfile collector.

use super::local::Local;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::output::print;
use loft::metrics::render;
use std::ffi::OsString;
use std::fs::{self, OpenOptions, Permissions};
use std::io::{self, Write as _};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

pub fn write(local: Local, to: Option<&Path>) -> Result<Exit, Failure> {
    let snapshot = local.snapshot.as_ref().ok().and_then(Option::as_ref);
    let text = render(snapshot, local.at);
    match to {
        None => print(&text)?,
        Some(file) => replace(file, &text).map_err(|source| FileError { file: file.to_owned(), source })?,
    }
    match local.failure() {
        Some(failure) => Err(failure),
        None => Ok(Exit::Done),
    }
}

/// The collector may read at any moment, as another user: it sees the old text or the new one, never half of it.
fn replace(file: &Path, text: &str) -> io::Result<()> {
    // Names that do not end in `.prom` are not collected.
    let mut name = OsString::from(".");
    name.push(file.file_name().ok_or_else(|| io::Error::other("it names no file"))?);
    name.push(format!(".{}", std::process::id()));
    let unfinished = file.with_file_name(name);
    let write = || {
        let mut options = OpenOptions::new();
        let mut opened = options.write(true).create_new(true).mode(0o600).open(&unfinished)?;
        opened.write_all(text.as_bytes())?;
        opened.set_permissions(Permissions::from_mode(0o644))?;
        fs::rename(&unfinished, file)
    };
    write().inspect_err(|_| drop(fs::remove_file(&unfinished)))
}

#[derive(Debug, thiserror::Error)]
#[error("Could not write the metrics to {}", file.display())]
struct FileError {
    file: PathBuf,
    source: io::Error,
}
