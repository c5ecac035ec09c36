//! The key pair that signs: the one that is configured, else one that was made before, else a new one.

use super::new_file::{own_folder, write_new};
use super::{Made, SetupError};
use crate::config::{KeyFile, Origin, Problem, SigningSettings};
use crate::nix::{KeyName, PublicKey, SecretKey};
use std::fs::DirBuilder;
use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use zeroize::Zeroizing;

/// A key in its file.
#[derive(Debug)]
pub struct KeyPair {
    pub file: PathBuf,
    /// `None` where a dry run would have made it.
    pub public: Option<PublicKey>,
    pub made: Made,
    pub warnings: Vec<Problem>,
}

/// How to find or make it.
pub struct Wanted<'a> {
    /// Its name if it is made; one that was asked for must be that of a key that is there.
    pub name: &'a KeyName,
    pub name_is_asked_for: bool,
    /// A Nix store besides `/nix/store`, where no key may stand.
    pub store_dir: Option<&'a Path>,
    pub dry_run: bool,
}

/// The key of this file, made if the file is not there.
pub fn find_or_make(file: &KeyFile, wanted: &Wanted<'_>) -> Result<KeyPair, SetupError> {
    let path = &file.path;
    let mut made = Made::Found;
    let absent = [io::ErrorKind::NotFound, io::ErrorKind::NotADirectory];
    if std::fs::symlink_metadata(path).is_err_and(|error| absent.contains(&error.kind())) {
        if wanted.dry_run {
            return Ok(KeyPair { file: path.clone(), public: None, made: Made::Would, warnings: Vec::new() });
        }
        made = make(path, file.name.as_ref().unwrap_or(wanted.name))?;
    }
    let read = SigningSettings { files: vec![file.clone()] }.read_keys(wanted.store_dir)?;
    let public = read.keys.first().map(SecretKey::public);
    match &public {
        Some(public) if wanted.name_is_asked_for && public.name() != wanted.name => {
            Err(SetupError::KeyName { file: path.clone(), found: public.name().clone(), wanted: wanted.name.clone() })
        }
        _ => Ok(KeyPair { file: path.clone(), public, made, warnings: read.warnings }),
    }
}

/// The file for a key that nobody has named one for.
pub fn default_file(folder: &Path, name: &KeyName) -> KeyFile {
    let plain = |c: char| if c == '/' { '-' } else { c };
    let file = format!("{}.secret", name.as_str().chars().map(plain).collect::<String>());
    KeyFile { path: folder.join(file), origin: Origin::Default, name: None }
}

fn make(path: &Path, name: &KeyName) -> Result<Made, SetupError> {
    let failed = |source| SetupError::Write { file: path.to_owned(), source };
    let key = SecretKey::generate(name.clone())?;
    if let Some(parent) = own_folder(path) {
        DirBuilder::new().recursive(true).mode(0o700).create(parent).map_err(failed)?;
    }
    match write_key(path, &key) {
        Ok(()) => Ok(Made::New),
        // Somebody else was quicker; theirs it is.
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(Made::Found),
        Err(error) => Err(failed(error)),
    }
}

/// Makes a key's file, which must not be there. At no moment can others read it.
pub fn write_key(path: &Path, key: &SecretKey) -> io::Result<()> {
    let text = key.to_secret_text();
    // Room for all of it, since growing would leave a copy behind.
    let mut bytes = Zeroizing::new(Vec::with_capacity(text.len() + 1));
    bytes.extend_from_slice(text.as_bytes());
    bytes.push(b'\n');
    write_new(path, &bytes, 0o600)
}
