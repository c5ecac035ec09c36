//! Multipart uploads: a directory of part files, put together at the end.
//!
//! The parts are copied rather than written in place at offsets, since their sizes are not known
//! beforehand and a crash while finishing must leave them as they were. File systems that can share
//! blocks between files do so; elsewhere a large NAR is written twice.

use super::{Cause, Key, Part, Root, Upload, file, random_name};
use crate::bucket::error::Refusal;
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;
use std::time::SystemTime;

/// Holds the key that the upload is for.
const KEY: &str = "key";

/// Keys have at most 1024 bytes.
const LONGEST_KEY: u64 = 4096;

impl Root {
    pub(super) fn start_upload(&self, key: &Key) -> Result<Upload, Cause> {
        self.place(key)?;
        let id = random_name().map_err(Cause::Io)?;
        let directory = self.prepare()?.join(upload_name(&id));
        std::fs::create_dir(&directory).map_err(Cause::Io)?;
        std::fs::write(directory.join(KEY), key.as_str()).map_err(Cause::Io)?;
        Ok(Upload { key: key.clone(), id })
    }

    pub(super) fn put_part(&self, upload: &Upload, number: u32, bytes: &[u8]) -> Result<Part, Cause> {
        if !(1..=10_000).contains(&number) {
            return Err(refused("InvalidArgument", "part numbers go from 1 to 10000"));
        }
        let directory = self.upload_directory(upload)?;
        let temporary = directory.join(random_name().map_err(Cause::Io)?);
        let place = directory.join(part_name(number));
        let write = || -> io::Result<Part> {
            let mut new = OpenOptions::new().write(true).create_new(true).mode(0o644).open(&temporary)?;
            new.write_all(bytes)?;
            // A resumed upload trusts the parts that it finds, after a power cut too.
            new.sync_all()?;
            std::fs::rename(&temporary, &place)?;
            let metadata = new.metadata()?;
            Ok(Part { number, etag: file::etag(&metadata), size: metadata.len() })
        };
        write().map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => Cause::NoUpload,
            _ => Cause::Io(error),
        })
    }

    pub(super) fn finish_upload(&self, upload: &Upload, parts: &[Part]) -> Result<(), Cause> {
        let directory = self.upload_directory(upload)?;
        let place = self.place(&upload.key)?;
        if parts.is_empty() || !parts.is_sorted_by(|a, b| a.number < b.number) {
            return Err(refused("InvalidPartOrder", "parts must be at least one, and in ascending order"));
        }
        let mut files = Vec::new();
        for part in parts {
            let path = directory.join(part_name(part.number));
            let metadata = std::fs::metadata(&path);
            if !metadata.is_ok_and(|metadata| file::etag(&metadata) == part.etag) {
                return Err(refused("InvalidPart", &format!("part {} is not there as it was sent", part.number)));
            }
            files.push(path);
        }
        let unfinished = self.prepare()?;
        file::publish(&unfinished, &self.path, &place, |new| {
            for path in &files {
                io::copy(&mut File::open(path)?, new)?;
            }
            Ok(())
        })
        .map_err(Cause::Io)?;
        self.abort_upload(upload)
    }

    pub(super) fn abort_upload(&self, upload: &Upload) -> Result<(), Cause> {
        let directory = match self.upload_directory(upload) {
            Ok(directory) => directory,
            Err(Cause::NoUpload) => return Ok(()),
            Err(cause) => return Err(cause),
        };
        // A part may still be on its way to disk: under another name nothing new finds the directory,
        // and what was being written meanwhile goes with a second try.
        let doomed = directory.with_extension("aborted");
        let gone = |error: &io::Error| error.kind() == io::ErrorKind::NotFound;
        match std::fs::rename(&directory, &doomed) {
            Err(error) if gone(&error) => return Ok(()),
            Err(error) => return Err(Cause::Io(error)),
            Ok(()) => {}
        }
        let mut tries = 0;
        loop {
            match std::fs::remove_dir_all(&doomed) {
                Err(error) if error.kind() == io::ErrorKind::DirectoryNotEmpty && tries < 10 => tries += 1,
                Err(error) if !gone(&error) => return Err(Cause::Io(error)),
                _ => return Ok(()),
            }
        }
    }

    pub(super) fn list_parts(&self, upload: &Upload) -> Result<Option<Vec<Part>>, Cause> {
        let directory = match self.upload_directory(upload) {
            Ok(directory) => directory,
            Err(Cause::NoUpload) => return Ok(None),
            Err(cause) => return Err(cause),
        };
        let read = || -> io::Result<Vec<Part>> {
            let mut parts = Vec::new();
            for entry in std::fs::read_dir(directory)? {
                let entry = entry?;
                let number = entry.file_name().to_str().and_then(|name| name.strip_prefix("part-")?.parse().ok());
                if let Some(number) = number {
                    let metadata = entry.metadata()?;
                    parts.push(Part { number, etag: file::etag(&metadata), size: metadata.len() });
                }
            }
            parts.sort_by_key(|part| part.number);
            Ok(parts)
        };
        read().map(Some).map_err(Cause::Io)
    }

    pub(super) fn list_uploads(&self, prefix: &str) -> Result<Vec<(Upload, SystemTime)>, Cause> {
        let entries = match std::fs::read_dir(self.path.join(super::UNFINISHED)) {
            Ok(entries) => entries,
            Err(error) => return self.absent::<()>(error).map(|_| Vec::new()),
        };
        let mut uploads = Vec::new();
        for entry in entries {
            let entry = entry.map_err(Cause::Io)?;
            let name = entry.file_name();
            let Some(id) = name.to_str().and_then(|name| name.strip_prefix("upload-")) else { continue };
            let read = || -> io::Result<(Vec<u8>, SystemTime)> {
                let file = File::open(entry.path().join(KEY))?;
                let began = file.metadata()?.modified()?;
                Ok((file::read(file, 0, LONGEST_KEY)?.into(), began))
            };
            let (key, began) = match read() {
                Ok(read) => read,
                // Finished meanwhile, or only just begun.
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(error) => return Err(Cause::Io(error)),
            };
            let key = String::from_utf8(key).unwrap_or_default();
            if key.starts_with(prefix) {
                uploads.push((Upload { key: Key::listed(key), id: id.to_owned() }, began));
            }
        }
        uploads.sort_by(|(a, _), (b, _)| (&a.key, &a.id).cmp(&(&b.key, &b.id)));
        Ok(uploads)
    }

    /// Where an upload's parts are. Ids are ours, so anything else names no upload.
    fn upload_directory(&self, upload: &Upload) -> Result<PathBuf, Cause> {
        let is_id = upload.id.len() == 32 && upload.id.bytes().all(|byte| byte.is_ascii_hexdigit());
        let directory = self.path.join(super::UNFINISHED).join(upload_name(&upload.id));
        if !is_id {
            return Err(Cause::NoUpload);
        }
        match std::fs::read(directory.join(KEY)) {
            Ok(key) if key == upload.key.as_str().as_bytes() => Ok(directory),
            Ok(_) => Err(Cause::NoUpload),
            Err(error) => {
                self.absent::<()>(error)?;
                Err(Cause::NoUpload)
            }
        }
    }
}

fn upload_name(id: &str) -> String {
    format!("upload-{id}")
}

fn part_name(number: u32) -> String {
    format!("part-{number:05}")
}

/// In S3's words, so that callers see one meaning.
fn refused(code: &str, message: &str) -> Cause {
    Cause::Refused(Box::new(Refusal {
        status: 400,
        code: code.to_owned(),
        message: message.to_owned(),
        retry_after: None,
    }))
}
