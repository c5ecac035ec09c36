//! What builds printed, as Nix keeps it: a file for each derivation, mostly compressed with bzip2.
//!
//! `<log dir>/drvs/<two characters>/<rest of the base name>`, with `.bz2` unless `compress-build-log` is off; old versions
//! made no folders of two characters. Source: `LocalFSStore::getBuildLogExact` of Nix.

use super::Location;
use crate::nix::StorePath;
use bzip2::read::MultiBzDecoder;
use rustix::fs::{Mode, OFlags};
use std::fs::File;
use std::io::{self, BufReader, Read};
use std::path::{Path, PathBuf};

/// The log of one build, as text whatever its file is.
pub struct BuildLog {
    pub file: PathBuf,
    text: Box<dyn Read + Send>,
}

/// Why a log that is there cannot be had.
#[derive(Debug, thiserror::Error)]
#[error("Could not read the build log {}", file.display())]
pub struct BuildLogError {
    pub file: PathBuf,
    source: io::Error,
}

impl BuildLogError {
    /// This user may not read it, and so most likely none.
    pub fn is_denied(&self) -> bool {
        self.source.kind() == io::ErrorKind::PermissionDenied
    }
}

impl BuildLog {
    /// Nothing where this machine has not built it.
    pub fn open(location: &Location, derivation: &StorePath) -> Result<Option<Self>, BuildLogError> {
        let folder = location.log_dir.join("drvs");
        let (first, rest) = derivation.as_str().split_at(2);
        for plain in [folder.join(first).join(rest), folder.join(derivation.as_str())] {
            let mut compressed = plain.clone().into_os_string();
            compressed.push(".bz2");
            for (file, is_compressed) in [(plain, false), (PathBuf::from(compressed), true)] {
                match open(&file) {
                    Ok(opened) if is_compressed => {
                        let text = Box::new(MultiBzDecoder::new(BufReader::new(opened)));
                        return Ok(Some(Self { file, text }));
                    }
                    Ok(opened) => return Ok(Some(Self { file, text: Box::new(opened) })),
                    Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                    Err(source) => return Err(BuildLogError { file, source }),
                }
            }
        }
        Ok(None)
    }

    /// The next `limit` bytes; fewer at the end alone.
    pub fn read(&mut self, limit: usize) -> Result<Vec<u8>, BuildLogError> {
        let mut text = Vec::new();
        match self.text.by_ref().take(limit as u64).read_to_end(&mut text) {
            Ok(_) => Ok(text),
            Err(source) => Err(BuildLogError { file: self.file.clone(), source }),
        }
    }
}

/// Without waiting for a writer, should it be a fifo.
fn open(file: &Path) -> io::Result<File> {
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let opened = File::from(rustix::fs::open(file, flags, Mode::empty())?);
    match opened.metadata()?.is_file() {
        true => Ok(opened),
        false => Err(io::Error::other("it is no regular file")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bzip2::{Compression, read::BzEncoder};

    const DRV: &str = "gps48vzz2pp5mfkv4dgmar2p1f20aald-bb.drv";

    fn location(log_dir: &Path) -> Location {
        Location {
            store_dir: Default::default(),
            real_store_dir: PathBuf::new(),
            state_dir: PathBuf::new(),
            log_dir: log_dir.to_owned(),
            daemon_socket: PathBuf::new(),
        }
    }

    fn put(dir: &Path, file: &str, bytes: &[u8]) {
        let file = dir.join("drvs").join(file);
        std::fs::create_dir_all(file.parent().unwrap()).unwrap();
        std::fs::write(file, bytes).unwrap();
    }

    fn bz2(text: &[u8]) -> Vec<u8> {
        let mut bytes = Vec::new();
        BzEncoder::new(text, Compression::best()).read_to_end(&mut bytes).unwrap();
        bytes
    }

    fn all(dir: &Path) -> Result<Option<Vec<u8>>, BuildLogError> {
        let drv = StorePath::parse(DRV).unwrap();
        let Some(mut log) = BuildLog::open(&location(dir), &drv)? else { return Ok(None) };
        let mut text = Vec::new();
        loop {
            let piece = log.read(1000)?;
            text.extend_from_slice(&piece);
            if piece.len() < 1000 {
                return Ok(Some(text));
            }
        }
    }

    #[test]
    fn every_form_that_nix_has_written_is_read() {
        let text = b"building\xff\n".repeat(700);
        let (first, rest) = DRV.split_at(2);
        for (file, bytes) in [
            (format!("{first}/{rest}"), text.clone()),
            (format!("{first}/{rest}.bz2"), bz2(&text)),
            // bzip2 files may be put one after the other.
            (format!("{first}/{rest}.bz2"), [bz2(&text[..100]), bz2(&text[100..])].concat()),
            (DRV.to_owned(), text.clone()),
            (format!("{DRV}.bz2"), bz2(&text)),
        ] {
            let dir = tempfile::tempdir().unwrap();
            assert_eq!(all(dir.path()).unwrap(), None);
            put(dir.path(), &file, &bytes);
            assert_eq!(all(dir.path()).unwrap().as_deref(), Some(&text[..]), "{file}");
        }
    }

    /// A fifo would be waited for without end.
    #[test]
    fn what_is_no_file_is_an_error_that_names_it() {
        let make_fifo = |path: &Path| {
            rustix::fs::mknodat(rustix::fs::CWD, path, rustix::fs::FileType::Fifo, 0o600.into(), 0).unwrap();
        };
        let make_folder = |path: &Path| std::fs::create_dir(path).unwrap();
        for make in [&make_fifo as &dyn Fn(&Path), &make_folder] {
            let dir = tempfile::tempdir().unwrap();
            std::fs::create_dir(dir.path().join("drvs")).unwrap();
            make(&dir.path().join("drvs").join(DRV));
            let error = all(dir.path()).unwrap_err();
            assert!(error.to_string().contains(DRV), "{error}");
        }
    }

    #[test]
    fn a_damaged_log_is_an_error_that_names_it() {
        let (first, rest) = DRV.split_at(2);
        let whole = bz2(&b"building\n".repeat(3000));
        for bytes in [&b"not bzip2"[..], &whole[..whole.len() / 2], b""] {
            let dir = tempfile::tempdir().unwrap();
            put(dir.path(), &format!("{first}/{rest}.bz2"), bytes);
            match all(dir.path()) {
                Err(error) => assert!(error.to_string().contains(&format!("{first}/{rest}.bz2")), "{error}"),
                // Of no bytes at all bzip2 makes no text, and so does bunzip2.
                Ok(text) => assert!(bytes.is_empty() && text == Some(Vec::new()), "{text:?}"),
            }
        }
    }
}
