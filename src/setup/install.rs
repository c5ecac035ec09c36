//! `loft use --write`: a cache's lines into a `nix.conf`, once, with a copy of what was there before.

use super::SetupError;
use super::new_file::{replace, write_new};
use super::nix_conf::{NixConf, Said, Setting};
use super::reading::{Reading, Substituter};
use crate::nix::PublicKey;
use std::fs::{DirBuilder, File, Permissions};
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

/// What was done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Installed {
    /// The file itself: where a link leads, or what the named one leaves to its owner.
    pub file: PathBuf,
    /// Nothing where all was there already.
    pub changed: bool,
    /// Where the contents from before are.
    pub backup: Option<PathBuf>,
    /// How the same cache was named before, where it was.
    pub replaced: Option<String>,
    /// Files that it includes and that could not be read, so that something may be there twice.
    pub unread: Vec<PathBuf>,
}

/// Installers that write `nix.conf` anew with each update include this one for its owner.
const FOR_THE_OWNER: &str = "nix.custom.conf";

/// Adds to `file` what it does not say yet. `store_dir` is where nothing can be written.
pub fn install(reading: &Reading, file: &Path, store_dir: &Path) -> Result<Installed, SetupError> {
    prepare_folder(file)?;
    // Two of these at once must not lose each other's lines.
    let _lock = lock_folder(file)?;
    let Planned { file, before, after, replaced, unread } = plan(reading, file, store_dir)?;
    let failed = |source| SetupError::Write { file: file.clone(), source };
    let mut installed =
        Installed { file: file.clone(), changed: before.as_deref() != Some(&after), backup: None, replaced, unread };
    match before {
        Some(before) if before == after => {}
        Some(before) => {
            installed.backup = Some(replace(&file, before.as_bytes(), after.as_bytes()).map_err(failed)?);
        }
        None => write_new(&file, after.as_bytes(), 0o644).map_err(failed)?,
    }
    Ok(installed)
}

struct Planned {
    file: PathBuf,
    before: Option<String>,
    after: String,
    replaced: Option<String>,
    unread: Vec<PathBuf>,
}

fn plan(reading: &Reading, named: &Path, store_dir: &Path) -> Result<Planned, SetupError> {
    let (file, before) = read(named, store_dir)?;
    let conf = NixConf::parse(before.as_deref().unwrap_or_default());
    // What the whole of it says, as Nix reads it from the file that was named.
    let (said_conf, said_file) = (conf.clone(), file.clone());
    let (file, before, mut conf) = match conf.includes(FOR_THE_OWNER) {
        Some(owners) => {
            let owners = file.parent().unwrap_or(Path::new("/")).join(owners);
            let (file, before) = read(&owners, store_dir)?;
            let conf = NixConf::parse(before.as_deref().unwrap_or_default());
            (file, before, conf)
        }
        None => (file, before, conf),
    };
    let substituters = said_conf.said(Setting::Substituters, &said_file);
    let unread = substituters.unread.clone();
    let replaced = list(&reading.substituter, &substituters, &mut conf, &file)?;
    let trusted = said_conf.said(Setting::TrustedPublicKeys, &said_file);
    let known: Vec<PublicKey> = trusted.values().1.iter().filter_map(|key| PublicKey::parse(key).ok()).collect();
    for key in &reading.public_keys {
        match known.iter().find(|known| known.name() == key.name()) {
            Some(same) if same == key => {}
            Some(_) => return Err(SetupError::OtherKey { file: said_file, name: key.name().clone() }),
            None => conf.add(Setting::TrustedPublicKeys, &key.to_string(), &file),
        }
    }
    if let Some(netrc) = &reading.netrc_file {
        let netrc = netrc.display().to_string();
        let said = said_conf.said(Setting::NetrcFile, &said_file);
        match said.values().1.last() {
            Some(same) if *same == netrc => {}
            Some(other) => return Err(SetupError::OtherNetrc { found: (*other).to_owned(), file: said_file }),
            None => conf.append(&format!("{} = {netrc}", Setting::NetrcFile.name())),
        }
    }
    Ok(Planned { file, before, after: conf.text(), replaced, unread })
}

/// Lists the substituter once: in the place of one that reaches the same cache by another way, which is returned.
fn list(own: &Substituter, said: &Said, conf: &mut NixConf, file: &Path) -> Result<Option<String>, SetupError> {
    let listed: Vec<(&Path, &str)> = said.places().filter(|(_, word)| own.is_same(word)).collect();
    if listed.is_empty() {
        conf.add(Setting::Substituters, own.as_str(), file);
        return Ok(None);
    }
    let Some((new, old)) = listed.iter().find_map(|(_, word)| Some((own.in_place_of(word)?, *word))) else {
        return Ok(None);
    };
    let is_here = |place: &Path| place == file || place.canonicalize().is_ok_and(|place| place == file);
    if let Some((place, word)) = listed.iter().find(|(place, _)| !is_here(place)) {
        return Err(SetupError::OtherWay { file: place.to_path_buf(), found: (*word).to_owned() });
    }
    conf.unite(Setting::Substituters, file, |word| own.is_same(word), new.as_str());
    Ok(Some(old.to_owned()))
}

/// Where the file really is, and what is in it.
fn read(named: &Path, store_dir: &Path) -> Result<(PathBuf, Option<String>), SetupError> {
    let failed = |source| SetupError::Read { file: named.to_owned(), source };
    let file = match named.canonicalize() {
        Ok(real) if real.starts_with(store_dir) => {
            return Err(SetupError::Generated { file: named.to_owned(), real });
        }
        Ok(real) => real,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return match std::fs::read_link(named) {
                Ok(target) => Err(SetupError::Dangling { file: named.to_owned(), target }),
                Err(_) => Ok((named.to_owned(), None)),
            };
        }
        Err(error) => return Err(failed(error)),
    };
    let bytes = std::fs::read(&file).map_err(failed)?;
    let text = String::from_utf8(bytes).map_err(|error| {
        let before = &error.as_bytes()[..error.utf8_error().valid_up_to()];
        let line = before.iter().filter(|byte| **byte == b'\n').count() + 1;
        SetupError::NotUtf8 { file: file.clone(), line }
    })?;
    Ok((file, Some(text)))
}

/// A folder of Nix's own (`/etc/nix`, `~/.config/nix`) is made; any other must be there.
fn prepare_folder(file: &Path) -> Result<(), SetupError> {
    match file.parent() {
        // Readable by all, whatever the umask, as what is in it must be.
        Some(folder) if folder.ends_with("nix") && !folder.exists() => DirBuilder::new()
            .recursive(true)
            .create(folder)
            .and_then(|()| std::fs::set_permissions(folder, Permissions::from_mode(0o755)))
            .map_err(|source| SetupError::Write { file: file.to_owned(), source }),
        _ => Ok(()),
    }
}

fn lock_folder(file: &Path) -> Result<File, SetupError> {
    let folder = file.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let locked = File::open(folder).and_then(|folder| folder.lock().map(|()| folder));
    locked.map_err(|source| SetupError::Write { file: file.to_owned(), source })
}
