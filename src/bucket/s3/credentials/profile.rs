//! Shared profiles: static keys, `credential_process`, SSO, and roles on top of any of them.

use super::ini::Ini;
use super::{Miss, Sources, keys, sso};
use crate::remedy::chain;
use reqsign_aws_v4::{
    AssumeRoleCredentialProvider, AssumeRoleWithWebIdentityCredentialProvider, Credential, ECSCredentialProvider,
    RequestSigner, StaticCredentialProvider,
};
use reqsign_core::Signer;
use serde::Deserialize;
use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

/// A helper may ask an agent or a hardware token, but nobody sits in front of it.
const HELPER: Duration = Duration::from_secs(60);

/// Both files of one user.
#[derive(Debug)]
pub(super) struct Profiles {
    config: Ini,
    credentials: Ini,
    config_file: PathBuf,
    credentials_file: PathBuf,
}

type Settings<'a> = HashMap<&'a str, &'a str>;

impl Profiles {
    /// Files that do not exist are empty; files that cannot be read are errors.
    pub async fn read(env: &BTreeMap<String, String>) -> Result<Self, Miss> {
        let home = env.get("HOME").filter(|home| !home.is_empty()).map(PathBuf::from);
        let place = |variable: &str, file: &str| match env.get(variable).filter(|path| !path.is_empty()) {
            Some(path) => match (path.strip_prefix("~/"), &home) {
                (Some(below), Some(home)) => Ok(home.join(below)),
                _ => Ok(PathBuf::from(path)),
            },
            None => match &home {
                Some(home) => Ok(home.join(file)),
                None => Err(Miss::Absent(format!("neither HOME nor {variable} is set"))),
            },
        };
        let config_file = place("AWS_CONFIG_FILE", ".aws/config")?;
        let credentials_file = place("AWS_SHARED_CREDENTIALS_FILE", ".aws/credentials")?;
        let config = read(&config_file).await?;
        let credentials = read(&credentials_file).await?;
        Ok(Self { config, credentials, config_file, credentials_file })
    }

    /// `named` is what the user asked for; without it `default` is taken, and may be missing.
    pub async fn resolve(&self, named: Option<&str>, sources: &Sources) -> Result<Credential, Miss> {
        let mut name = named.unwrap_or("default");
        let mut roles: Vec<Settings> = Vec::new();
        let mut seen = vec![name];
        // Down the chain of `source_profile` to whoever has credentials of his own, then up again through the roles.
        let mut credential = loop {
            let Some(profile) = self.profile(name) else {
                let why = format!("{name:?} is neither in {:?} nor in {:?}", self.credentials_file, self.config_file);
                return Err(if seen.len() > 1 || named.is_some() { Miss::Broken(why) } else { Miss::Absent(why) });
            };
            if !profile.contains_key("role_arn") {
                break self.own(name, &profile, sources).await?;
            }
            if profile.contains_key("mfa_serial") {
                return Err(Miss::Broken(format!("{name:?} needs an MFA code, for which nobody can be asked")));
            }
            if let Some(file) = profile.get("web_identity_token_file") {
                break web_identity(&profile, file, sources).await?;
            }
            if let Some(source) = profile.get("credential_source").copied() {
                roles.push(profile);
                break by_name(name, source, sources).await?;
            }
            let Some(source) = profile.get("source_profile").copied() else {
                return Err(Miss::Broken(format!(
                    "{name:?} has a role_arn, but neither source_profile nor credential_source"
                )));
            };
            if source == name {
                let base = self.own(name, &profile, sources).await?;
                roles.push(profile);
                break base;
            }
            if seen.contains(&source) {
                return Err(Miss::Broken(format!("{name:?} leads back to {source:?} through source_profile")));
            }
            roles.push(profile);
            seen.push(source);
            name = source;
        };
        for role in roles.iter().rev() {
            credential = assume(credential, role, sources).await?;
        }
        Ok(credential)
    }

    /// The settings of both files; those in `credentials` win.
    fn profile(&self, name: &str) -> Option<Settings<'_>> {
        let in_config = match name {
            "default" => self.config.section("default").or_else(|| self.config.section("profile default")),
            name => self.config.section(&format!("profile {name}")),
        };
        let in_credentials = self.credentials.section(name);
        in_config.or(in_credentials)?;
        let both = in_config.into_iter().chain(in_credentials).flatten();
        Some(both.map(|(name, value)| (name.as_str(), value.as_str())).collect())
    }

    /// What a profile has without any role.
    async fn own(&self, name: &str, profile: &Settings<'_>, sources: &Sources) -> Result<Credential, Miss> {
        if let (Some(access), Some(secret)) = (profile.get("aws_access_key_id"), profile.get("aws_secret_access_key")) {
            return Ok(Credential {
                access_key_id: (*access).to_owned(),
                secret_access_key: (*secret).to_owned(),
                session_token: profile.get("aws_session_token").map(|token| (*token).to_owned()),
                expires_in: None,
            });
        }
        if let Some(command) = profile.get("credential_process") {
            return from_process(command)
                .await
                .map_err(|why| Miss::Broken(format!("{name:?}, credential_process: {why}")));
        }
        let session = profile.get("sso_session").copied();
        let section = session.and_then(|session| self.config.section(&format!("sso-session {session}")));
        if session.is_some() && section.is_none() {
            return Err(Miss::Broken(format!(
                "{name:?} names an sso_session that {:?} does not have",
                self.config_file
            )));
        }
        if session.is_some() || profile.contains_key("sso_start_url") {
            let setting = |key: &str| {
                let found = section.and_then(|section| section.get(key).map(String::as_str));
                let found = found.or_else(|| profile.get(key).copied());
                found.ok_or_else(|| Miss::Broken(format!("{name:?} has no {key}")))
            };
            let request = sso::Request {
                session,
                start_url: setting("sso_start_url")?,
                region: setting("sso_region")?,
                account: setting("sso_account_id")?,
                role: setting("sso_role_name")?,
            };
            return sso::credential(&request, sources).await;
        }
        Err(Miss::Broken(format!("{name:?} has no keys, credential_process, SSO or role")))
    }
}

async fn read(file: &PathBuf) -> Result<Ini, Miss> {
    match tokio::fs::read(file).await {
        Ok(bytes) => Ok(Ini::parse(&String::from_utf8_lossy(&bytes))),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Ini::default()),
        Err(error) => Err(Miss::Broken(format!("{file:?} cannot be read: {error}"))),
    }
}

async fn by_name(name: &str, source: &str, sources: &Sources) -> Result<Credential, Miss> {
    match source {
        "Environment" => keys::of_environment(&sources.env),
        "EcsContainer" => sources.provide(&ECSCredentialProvider::new()).await,
        "Ec2InstanceMetadata" => sources.instance().await,
        other => Err(Miss::Broken(format!("{name:?} has the unknown credential_source {other:?}"))),
    }
    .map_err(|miss| match miss {
        Miss::Absent(why) | Miss::Broken(why) => Miss::Broken(format!("{name:?}, credential_source {source}: {why}")),
    })
}

async fn web_identity(profile: &Settings<'_>, file: &str, sources: &Sources) -> Result<Credential, Miss> {
    let role = profile.get("role_arn").copied().unwrap_or_default();
    let mut provider = AssumeRoleWithWebIdentityCredentialProvider::with_config(role.to_owned(), file.into())
        .with_role_session_name(profile.get("role_session_name").copied().unwrap_or("loft").to_owned());
    if let Some(region) = sts_region(profile, sources) {
        provider = provider.with_region(region.to_owned()).with_regional_sts_endpoint();
    }
    sources.provide(&provider).await
}

async fn assume(base: Credential, role: &Settings<'_>, sources: &Sources) -> Result<Credential, Miss> {
    let arn = role.get("role_arn").copied().unwrap_or_default();
    let region = sts_region(role, sources);
    let mut keys = StaticCredentialProvider::new(&base.access_key_id, &base.secret_access_key);
    if let Some(token) = &base.session_token {
        keys = keys.with_session_token(token);
    }
    let signer = Signer::new(
        sources.context.clone(),
        keys,
        RequestSigner::new("sts", region.unwrap_or(crate::bucket::DEFAULT_REGION)),
    );
    let mut provider = AssumeRoleCredentialProvider::new(arn.to_owned(), signer)
        .with_role_session_name(role.get("role_session_name").copied().unwrap_or("loft").to_owned());
    if let Some(region) = region {
        provider = provider.with_region(region.to_owned()).with_regional_sts_endpoint();
    }
    if let Some(id) = role.get("external_id") {
        provider = provider.with_external_id((*id).to_owned());
    }
    if let Some(seconds) = role.get("duration_seconds").and_then(|text| text.parse().ok()) {
        provider = provider.with_duration_seconds(seconds);
    }
    sources.provide(&provider).await.map_err(|miss| match miss {
        Miss::Absent(why) | Miss::Broken(why) => Miss::Broken(format!("assuming {arn}: {why}")),
    })
}

/// STS is AWS's, whatever region the bucket's server calls itself.
fn sts_region<'a>(profile: &Settings<'a>, sources: &'a Sources) -> Option<&'a str> {
    profile.get("region").copied().or_else(|| sources.set("AWS_REGION"))
}

/// What a `credential_process` prints.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Printed {
    version: u32,
    access_key_id: String,
    secret_access_key: String,
    session_token: Option<String>,
    expiration: Option<String>,
}

async fn from_process(command: &str) -> Result<Credential, String> {
    let words = split(command).ok_or("its quotes do not match")?;
    let (program, arguments) = words.split_first().ok_or("it is empty")?;
    let run = tokio::process::Command::new(program)
        .args(arguments)
        .stdin(Stdio::null())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .output();
    let output = tokio::time::timeout(HELPER, run)
        .await
        .map_err(|_| format!("{program:?} took longer than {} s", HELPER.as_secs()))?
        .map_err(|error| format!("{program:?} cannot be run: {error}"))?;
    if !output.status.success() {
        let stderr: String = String::from_utf8_lossy(&output.stderr).trim().chars().take(300).collect();
        return Err(format!("{program:?} failed ({}): {stderr}", output.status));
    }
    // The output holds secrets, so an error does not repeat it.
    let printed: Printed = serde_json::from_slice(&output.stdout).map_err(|error| {
        format!("{program:?} printed something else (line {}, column {})", error.line(), error.column())
    })?;
    if printed.version != 1 {
        return Err(format!("{program:?} printed version {}, not 1", printed.version));
    }
    let expires_in = printed
        .expiration
        .map(|text| {
            text.parse().map_err(|error: reqsign_core::Error| format!("Expiration {text:?}: {}", chain(&error)))
        })
        .transpose()?;
    Ok(Credential {
        access_key_id: printed.access_key_id,
        secret_access_key: printed.secret_access_key,
        session_token: printed.session_token,
        expires_in,
    })
}

/// Words as a shell splits them, with both quotes and the backslash; `None` when a quote stays open.
fn split(command: &str) -> Option<Vec<String>> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut quote = None;
    let mut letters = command.chars();
    while let Some(letter) = letters.next() {
        match (quote, letter) {
            (Some(open), _) if letter == open => quote = None,
            (None, '"' | '\'') => {
                quote = Some(letter);
                word.get_or_insert_default();
            }
            (None | Some('"'), '\\') => word.get_or_insert_default().push(letters.next()?),
            (None, _) if letter.is_whitespace() => words.extend(word.take()),
            _ => word.get_or_insert_default().push(letter),
        }
    }
    words.extend(word);
    quote.is_none().then_some(words)
}

#[cfg(test)]
mod tests {
    use super::split;

    #[test]
    fn splits_as_a_shell_does() {
        assert_eq!(split(r#"  /bin/a  "b c" d\ e 'f"g' "" "#).unwrap(), ["/bin/a", "b c", "d e", "f\"g", ""]);
        assert_eq!(split("a 'b"), None);
        assert_eq!(split("").unwrap(), Vec::<String>::new());
    }
}
