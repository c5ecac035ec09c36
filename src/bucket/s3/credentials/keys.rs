//! Keys that stand somewhere as they are: in the settings, in files, in the environment.

use super::{Miss, not_set};
use crate::bucket::{S3Settings, Secret};
use reqsign_aws_v4::Credential;
use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

const ACCESS_KEY: &str = "AWS_ACCESS_KEY_ID";
const SECRET_KEY: &str = "AWS_SECRET_ACCESS_KEY";
const SESSION_TOKEN: &str = "AWS_SESSION_TOKEN";

/// A key is a line; whoever names a disk image by mistake should not wait for it.
const LARGEST_KEY_FILE: u64 = 4096;

/// What the settings say of keys.
pub(super) struct Keys {
    access_key: Option<Secret>,
    secret_key: Option<Secret>,
    session_token: Option<Secret>,
    access_key_file: Option<PathBuf>,
    secret_key_file: Option<PathBuf>,
}

impl Keys {
    pub fn new(settings: &S3Settings) -> Self {
        Self {
            access_key: settings.access_key.clone(),
            secret_key: settings.secret_key.clone(),
            session_token: settings.session_token.clone(),
            access_key_file: settings.access_key_file.clone(),
            secret_key_file: settings.secret_key_file.clone(),
        }
    }

    /// What is wrong with the files, by their settings.
    pub async fn check_files(&self) -> Vec<(&'static str, String)> {
        let mut problems = Vec::new();
        for (setting, half, file) in [
            ("s3.access_key_file", "access_key", &self.access_key_file),
            ("s3.secret_key_file", "secret_key", &self.secret_key_file),
        ] {
            if let Err(Miss::Broken(why)) = self::half(half, &None, file).await {
                problems.push((setting, why));
            }
        }
        problems
    }

    /// One half may come from the environment, as the original loft allowed.
    pub async fn of_settings(&self, env: &BTreeMap<String, String>) -> Result<Credential, Miss> {
        let access = half("access_key", &self.access_key, &self.access_key_file).await?;
        let secret = half("secret_key", &self.secret_key, &self.secret_key_file).await?;
        let session_token = self.session_token.as_ref().map(|token| token.expose().to_owned());
        let missing = |half: &str, variable: &str| {
            Miss::Broken(format!("{half} is missing: neither {half} nor {half}_file is set, nor {variable}"))
        };
        let (access_key_id, secret_access_key, from_env) = match (access, secret) {
            (None, None) => return Err(Miss::Absent("access_key and secret_key are not set".to_owned())),
            (Some(access), Some(secret)) => (access, secret, false),
            (Some(access), None) => {
                (access, get(env, SECRET_KEY).ok_or_else(|| missing("secret_key", SECRET_KEY))?, true)
            }
            (None, Some(secret)) => {
                (get(env, ACCESS_KEY).ok_or_else(|| missing("access_key", ACCESS_KEY))?, secret, true)
            }
        };
        // A token belongs to its keys: that of the environment never goes with keys from elsewhere.
        let session_token = session_token.or_else(|| get(env, SESSION_TOKEN).filter(|_| from_env));
        Ok(Credential { access_key_id, secret_access_key, session_token, expires_in: None })
    }
}

pub(super) fn of_environment(env: &BTreeMap<String, String>) -> Result<Credential, Miss> {
    match (get(env, ACCESS_KEY), get(env, SECRET_KEY)) {
        (Some(access_key_id), Some(secret_access_key)) => Ok(Credential {
            access_key_id,
            secret_access_key,
            session_token: get(env, SESSION_TOKEN),
            expires_in: None,
        }),
        (None, _) => Err(not_set(ACCESS_KEY)),
        (Some(_), None) => Err(Miss::Broken(format!("{ACCESS_KEY} is set, but {SECRET_KEY} is not"))),
    }
}

fn get(env: &BTreeMap<String, String>, name: &str) -> Option<String> {
    env.get(name).filter(|value| !value.is_empty()).cloned()
}

async fn half(name: &str, text: &Option<Secret>, file: &Option<PathBuf>) -> Result<Option<String>, Miss> {
    match (text, file) {
        (Some(_), Some(file)) => Err(Miss::Broken(format!("both {name} and {name}_file ({file:?}) are set"))),
        (Some(text), None) => Ok(Some(text.expose().trim().to_owned())),
        (None, Some(file)) => {
            let broken = |why: String| Miss::Broken(format!("{name}_file {file:?} cannot be used: {why}"));
            read_key_file(file).await.map(Some).map_err(broken)
        }
        (None, None) => Ok(None),
    }
}

/// Refuses files whose content is not a secret or not the owner's.
async fn read_key_file(file: &Path) -> Result<String, String> {
    let real = tokio::fs::canonicalize(file).await.map_err(|error| error.to_string())?;
    if real.starts_with("/nix/store") {
        return Err("it stands in the Nix store, where everybody can read it".to_owned());
    }
    let metadata = tokio::fs::metadata(&real).await.map_err(|error| error.to_string())?;
    if !metadata.is_file() {
        return Err("it is not a file".to_owned());
    }
    if metadata.permissions().mode() & 0o002 != 0 {
        return Err("others may write it (chmod o-w), so its content may be anybody's".to_owned());
    }
    if metadata.len() > LARGEST_KEY_FILE {
        return Err(format!("it is larger than {LARGEST_KEY_FILE} bytes"));
    }
    let text = tokio::fs::read_to_string(&real).await.map_err(|error| error.to_string())?;
    match text.trim() {
        "" => Err("it is empty".to_owned()),
        key if key.contains(char::is_whitespace) => Err("it holds more than one word".to_owned()),
        key => Ok(key.to_owned()),
    }
}
