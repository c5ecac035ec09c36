//! Reading signing keys: a configured key that cannot be used is an error, never an unsigned push.

use super::credentials;
use super::origin::Origin;
use super::problem::{ConfigError, Problem};
use crate::nix::{KeyError, KeyName, SecretKey};
use std::fs::File;
use std::io::{self, Read as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use zeroize::Zeroizing;

/// Which keys sign, in order. Empty: pushes are unsigned, which callers should say.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SigningSettings {
    pub files: Vec<KeyFile>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyFile {
    pub path: PathBuf,
    pub origin: Origin,
    /// `signing_key_name`: clients trust the key by this name, whatever the file says.
    pub name: Option<KeyName>,
}

/// Keys that are ready to sign, and what users should know about them.
#[derive(Debug, Default)]
pub struct SigningKeys {
    pub keys: Vec<SecretKey>,
    pub warnings: Vec<Problem>,
}

/// Why a key file cannot be used. Never holds a part of the file.
#[derive(Debug, thiserror::Error)]
pub enum KeyFileError {
    #[error("Could not read the signing key {}", path.display())]
    Read { path: PathBuf, source: io::Error },
    #[error("Signing key {} is not a secret key file", path.display())]
    Malformed { path: PathBuf, source: KeyError },
    #[error("Signing key {} is not text", path.display())]
    NotText { path: PathBuf },
    #[error("Signing key {} is longer than any key", path.display())]
    TooLong { path: PathBuf },
    #[error(
        "Signing key {} is refused: its mode {mode:04o} lets others write to it, so somebody else may have chosen it",
        path.display()
    )]
    Writable { path: PathBuf, mode: u32 },
    #[error(
        "Signing key {} is refused: it is in the Nix store, where everyone on this machine can read it and from \
         where it may be copied to caches",
        path.display()
    )]
    InStore { path: PathBuf },
}

impl KeyFileError {
    /// What to do about it.
    pub fn help(&self) -> String {
        match self {
            Self::Read { path, source } if source.kind() == io::ErrorKind::NotFound => {
                format!("make a key with: loft key generate NAME --out {}", path.display())
            }
            Self::Read { path, .. } => {
                format!("the user that runs loft must be able to read it: ls -l {}", path.display())
            }
            Self::Malformed { .. } | Self::NotText { .. } | Self::TooLong { .. } => {
                "the file must hold NAME:BASE64, as `loft key generate` and `nix key generate-secret` write it"
                    .to_owned()
            }
            Self::Writable { path, .. } => format!("check who wrote it, then: chmod 600 {}", path.display()),
            Self::InStore { .. } => {
                "treat it as leaked: make a new key outside the store and hand it over with sops, agenix or \
                 LoadCredential"
                    .to_owned()
            }
        }
    }
}

/// A key file is about 120 bytes.
const MAX_LENGTH: u64 = 16 * 1024;

/// Where Nix keeps its store unless told otherwise.
const STORE_DIR: &str = "/nix/store";

/// Reads a secret key file without asking who else can reach it. Also gives the file's permission bits.
pub fn read_key_file(path: &Path) -> Result<(SecretKey, u32), KeyFileError> {
    let failed = |source| KeyFileError::Read { path: path.to_owned(), source };
    // The file that was opened is the one that is judged: the path may point elsewhere a moment later.
    let file = File::open(path).map_err(failed)?;
    let mode = file.metadata().map_err(failed)?.mode() & 0o7777;
    // Room for all of it at once, so that no half-grown copy stays behind unwiped.
    let mut bytes = Zeroizing::new(Vec::with_capacity(MAX_LENGTH as usize + 1));
    file.take(MAX_LENGTH + 1).read_to_end(&mut bytes).map_err(failed)?;
    if bytes.len() as u64 > MAX_LENGTH {
        return Err(KeyFileError::TooLong { path: path.to_owned() });
    }
    let text = std::str::from_utf8(&bytes).map_err(|_| KeyFileError::NotText { path: path.to_owned() })?;
    let key = SecretKey::parse(text).map_err(|source| KeyFileError::Malformed { path: path.to_owned(), source })?;
    Ok((key, mode))
}

/// As `read_key_file`, and refuses a key that cannot be a secret of this user.
fn read_guarded(path: &Path, store_dirs: &[&Path]) -> Result<(SecretKey, u32), KeyFileError> {
    let real = path.canonicalize().map_err(|source| KeyFileError::Read { path: path.to_owned(), source })?;
    if store_dirs.iter().any(|dir| real.starts_with(dir)) {
        return Err(KeyFileError::InStore { path: path.to_owned() });
    }
    let (key, mode) = read_key_file(path)?;
    if mode & 0o022 != 0 {
        return Err(KeyFileError::Writable { path: path.to_owned(), mode });
    }
    Ok((key, mode))
}

impl SigningSettings {
    /// Reads every key; tells all that are wrong at once. `store_dir` is a Nix store besides `/nix/store`.
    pub fn read_keys(&self, store_dir: Option<&Path>) -> Result<SigningKeys, ConfigError> {
        let store_dirs: Vec<&Path> = [Path::new(STORE_DIR)].into_iter().chain(store_dir).collect();
        let mut read = SigningKeys::default();
        let mut problems = Vec::new();
        for file in &self.files {
            match read_guarded(&file.path, &store_dirs) {
                Ok((key, mode)) => {
                    if mode & 0o044 != 0 && !credentials::is_origin(&file.origin) {
                        read.warnings.push(readable_by_others(file, mode));
                    }
                    read.keys.push(named(file, key, &mut read.warnings));
                }
                Err(error) => problems.push(told(file, &error)),
            }
        }
        if problems.is_empty() { Ok(read) } else { Err(ConfigError { problems, warnings: read.warnings }) }
    }
}

/// The key under the configured name.
fn named(file: &KeyFile, key: SecretKey, warnings: &mut Vec<Problem>) -> SecretKey {
    let Some(name) = file.name.as_ref().filter(|name| *name != key.name()) else {
        return key;
    };
    let in_file = key.name().clone();
    let key = key.renamed(name.clone());
    warnings.push(
        Problem::new(
            file.origin.clone(),
            format!(
                "Signing key {} calls itself `{in_file}`, but signs as `{name}`, the configured signing_key_name",
                file.path.display()
            ),
        )
        .help(format!("clients need this line in trusted-public-keys: {}", key.public())),
    );
    key
}

fn readable_by_others(file: &KeyFile, mode: u32) -> Problem {
    Problem::new(
        file.origin.clone(),
        format!("Signing key {} can be read by other users (mode {mode:04o})", file.path.display()),
    )
    .help(format!("chmod 600 {}", file.path.display()))
}

fn told(file: &KeyFile, error: &KeyFileError) -> Problem {
    let cause = std::error::Error::source(error).map(|cause| format!(": {cause}")).unwrap_or_default();
    Problem::new(file.origin.clone(), format!("{error}{cause}")).help(error.help())
}
