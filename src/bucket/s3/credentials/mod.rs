//! Whose requests these are: sources of credentials, asked in order, the first that has some wins.
//!
//! A source that is configured but broken ends the search: silently going on would use another
//! identity than the user meant. When nothing is found, one error lists every source and why it did
//! not do. The environment arrives as a map; nothing here reads the process's own.

mod ini;
mod keys;
mod profile;
mod sso;
mod web;

use crate::bucket::S3Settings;
use crate::bucket::http::Trust;
use crate::remedy::chain;
use keys::Keys;
use profile::Profiles;
use reqsign_aws_v4::{
    AssumeRoleWithWebIdentityCredentialProvider, Credential, ECSCredentialProvider, IMDSv2CredentialProvider,
};
use reqsign_core::time::Timestamp;
use reqsign_core::{Context, ProvideCredential, SigningCredential, StaticEnv};
use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};
use tokio::sync::Mutex;
use web::Web;

/// Temporary credentials are replaced when they have less than this left.
const REFRESH: Duration = Duration::from_secs(300);

/// And are used, when no new ones can be had, while they have this left.
const LAST_USE: Duration = Duration::from_secs(15);

/// Every source and why it did not do, in the order in which they were asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CredentialsError {
    pub tried: Vec<(&'static str, String)>,
    /// There were credentials before; these may come back.
    pub had_some: bool,
}

impl fmt::Display for CredentialsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Tried")?;
        for (n, (source, why)) in self.tried.iter().enumerate() {
            let separator = if n == 0 { " " } else { "; " };
            write!(f, "{separator}{source}: {why}")?;
        }
        Ok(())
    }
}

impl std::error::Error for CredentialsError {}

/// Why a source has no credentials.
#[derive(Debug, PartialEq, Eq)]
enum Miss {
    /// It is not in use here; ask the next.
    Absent(String),
    /// It is meant to be used, and does not work.
    Broken(String),
}

/// What is wrong with the files that the settings name, by setting. Asks no other source.
pub(super) async fn check_files(settings: &S3Settings) -> Vec<(&'static str, String)> {
    Keys::new(settings).check_files().await
}

/// Which source has credentials, for users; none of what is secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Whose {
    pub source: &'static str,
    /// The access key's id, which is no secret but need not be in every log.
    pub access_key: String,
    pub expires: Option<SystemTime>,
    pub is_temporary: bool,
    /// Sources that were asked before, and why they did not do.
    pub passed_over: Vec<(&'static str, String)>,
}

/// Asks the sources in order, as a request would.
pub(super) async fn whose(settings: &S3Settings, env: &BTreeMap<String, String>) -> Result<Whose, CredentialsError> {
    let trust = Trust { ca_file: settings.ca_file.clone() };
    let mut tried = Vec::new();
    match Sources::new(settings, env.clone(), trust).ask(&mut tried).await {
        Some((source, credential)) => Ok(Whose {
            source: source.name(),
            access_key: credential.access_key_id.clone(),
            expires: credential.expires_in.map(Timestamp::as_system_time),
            is_temporary: credential.session_token.is_some(),
            passed_over: tried,
        }),
        None => Err(CredentialsError { tried, had_some: false }),
    }
}

/// Credentials and where they come from; asked before each request.
pub(super) struct Credentials {
    sources: Sources,
    /// Locked while they are renewed, so that many requests ask once.
    current: Mutex<Option<Arc<Credential>>>,
}

impl Credentials {
    pub fn new(settings: &S3Settings, env: &BTreeMap<String, String>, trust: Trust) -> Self {
        Self { sources: Sources::new(settings, env.clone(), trust), current: Mutex::new(None) }
    }

    pub async fn get(&self) -> Result<Arc<Credential>, CredentialsError> {
        let mut current = self.current.lock().await;
        let lives = |left: Duration| move |held: &&Arc<Credential>| held.is_valid_at(Timestamp::now() + left);
        if let Some(fresh) = current.as_ref().filter(lives(REFRESH)) {
            return Ok(fresh.clone());
        }
        match self.sources.search().await {
            Ok(found) => Ok(current.insert(Arc::new(found)).clone()),
            Err(tried) => match current.as_ref().filter(lives(LAST_USE)) {
                Some(old) => Ok(old.clone()),
                None => Err(CredentialsError { tried, had_some: current.is_some() }),
            },
        }
    }
}

/// Where credentials may come from.
#[derive(Clone, Copy)]
enum Source {
    Settings,
    Environment,
    /// Static keys, `credential_process`, SSO, roles.
    Profile,
    /// OIDC, as CI systems and Kubernetes offer it.
    WebIdentity,
    /// ECS, EKS.
    Container,
    /// EC2.
    Instance,
}

impl Source {
    const IN_ORDER: [Self; 6] =
        [Self::Settings, Self::Environment, Self::Profile, Self::WebIdentity, Self::Container, Self::Instance];

    fn name(self) -> &'static str {
        match self {
            Self::Settings => "the settings",
            Self::Environment => "the environment",
            Self::Profile => "profile",
            Self::WebIdentity => "web identity",
            Self::Container => "container role",
            Self::Instance => "instance role",
        }
    }
}

struct Sources {
    keys: Keys,
    /// From the settings; then no other source is asked.
    profile: Option<String>,
    env: BTreeMap<String, String>,
    context: Context,
    web: Web,
    imds: IMDSv2CredentialProvider,
}

impl Sources {
    fn new(settings: &S3Settings, env: BTreeMap<String, String>, trust: Trust) -> Self {
        let web = Web::new(trust);
        let home_dir = env.get("HOME").map(PathBuf::from);
        let context = Context::new()
            .with_env(StaticEnv { home_dir, envs: env.clone().into_iter().collect() })
            .with_http_send(web.clone())
            .with_file_read(web::Files);
        Self {
            keys: Keys::new(settings),
            profile: settings.profile.clone(),
            env,
            context,
            web,
            imds: IMDSv2CredentialProvider::new(),
        }
    }

    async fn search(&self) -> Result<Credential, Vec<(&'static str, String)>> {
        let mut tried = Vec::new();
        match self.ask(&mut tried).await {
            Some((_, credential)) => Ok(credential),
            None => Err(tried),
        }
    }

    /// The first source that has some; the others are told in `tried`.
    async fn ask(&self, tried: &mut Vec<(&'static str, String)>) -> Option<(Source, Credential)> {
        for source in Source::IN_ORDER {
            if self.profile.is_some() && !matches!(source, Source::Settings | Source::Profile) {
                continue;
            }
            let outcome = match source {
                Source::Settings => self.keys.of_settings(&self.env).await,
                Source::Environment => keys::of_environment(&self.env),
                Source::Profile => self.profile().await,
                Source::WebIdentity => self.web_identity().await,
                Source::Container => self.container().await,
                Source::Instance => self.instance().await,
            };
            let name = source.name();
            match outcome {
                Ok(credential) if credential.access_key_id.is_empty() || credential.secret_access_key.is_empty() => {
                    tried.push((name, "the keys are empty".to_owned()));
                    return None;
                }
                Ok(credential) => return Some((source, credential)),
                Err(Miss::Absent(why)) => tried.push((name, why)),
                Err(Miss::Broken(why)) => {
                    tried.push((name, why));
                    return None;
                }
            }
        }
        None
    }

    async fn profile(&self) -> Result<Credential, Miss> {
        let named = self.profile.as_deref().or_else(|| self.set("AWS_PROFILE"));
        Profiles::read(&self.env).await?.resolve(named, self).await
    }

    async fn web_identity(&self) -> Result<Credential, Miss> {
        for name in ["AWS_WEB_IDENTITY_TOKEN_FILE", "AWS_ROLE_ARN"] {
            self.set(name).ok_or_else(|| not_set(name))?;
        }
        let mut provider = AssumeRoleWithWebIdentityCredentialProvider::new();
        if self.set("AWS_ROLE_SESSION_NAME").is_none() {
            provider = provider.with_role_session_name("loft".to_owned());
        }
        // The global endpoint is far away from most regions, and absent from some.
        if self.set("AWS_REGION").is_some() {
            provider = provider.with_regional_sts_endpoint();
        }
        self.provide(&provider).await
    }

    async fn container(&self) -> Result<Credential, Miss> {
        let names = ["AWS_CONTAINER_CREDENTIALS_FULL_URI", "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI"];
        if names.iter().all(|name| self.set(name).is_none()) {
            return Err(Miss::Absent(format!("neither {} is set", names.join(" nor "))));
        }
        self.provide(&ECSCredentialProvider::new()).await
    }

    /// Most machines are no EC2 instance: silence there means that this source is not in use.
    async fn instance(&self) -> Result<Credential, Miss> {
        if self.set("AWS_EC2_METADATA_DISABLED").is_some_and(|value| value.eq_ignore_ascii_case("true")) {
            return Err(Miss::Absent("AWS_EC2_METADATA_DISABLED is true".to_owned()));
        }
        self.provide(&self.imds).await.map_err(|miss| match miss {
            Miss::Broken(why) | Miss::Absent(why) => Miss::Absent(why),
        })
    }

    /// Asks one of reqsign's providers that is known to be configured.
    async fn provide(&self, provider: &impl ProvideCredential<Credential = Credential>) -> Result<Credential, Miss> {
        match provider.provide_credential(&self.context).await {
            Ok(Some(credential)) => Ok(credential),
            Ok(None) => Err(Miss::Broken("it gave nothing".to_owned())),
            Err(error) => Err(Miss::Broken(chain(&error))),
        }
    }

    /// An environment variable that is set and not empty.
    fn set(&self, name: &str) -> Option<&str> {
        self.env.get(name).map(String::as_str).filter(|value| !value.is_empty())
    }
}

fn not_set(name: &str) -> Miss {
    Miss::Absent(format!("{name} is not set"))
}

#[cfg(test)]
mod tests;
