//! What a machine must be told to read from a cache, in the forms that people keep it in.

use crate::bucket::{AddressingStyle, CacheUrl, S3Settings, Target};
use crate::nix::PublicKey;
use std::fmt::Write as _;
use std::path::PathBuf;

/// Where to read, whom to believe.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reading {
    pub substituter: Substituter,
    /// At least one: Nix takes nothing unsigned.
    pub public_keys: Vec<PublicKey>,
    /// Names and passwords for web servers that want them.
    pub netrc_file: Option<PathBuf>,
}

/// A cache's URL as Nix takes it: one word in `nix.conf`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Substituter(String);

/// Why a text is none.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SubstituterError {
    #[error("{0:?} is not a cache's URL: https://HOST, s3://BUCKET?endpoint=… and file:///DIRECTORY are")]
    Scheme(String),
    #[error("{0:?} cannot stand in nix.conf: it has white space, a `#` or a control character")]
    Word(String),
    #[error(
        "A cache's URL must not hold a user name or a password: name a netrc file (--netrc) or a profile (--profile)"
    )]
    Secret,
    #[error(transparent)]
    Cache(#[from] crate::bucket::UrlError),
}

/// Where the lines are to stand.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Form {
    #[default]
    NixConf,
    /// A module's attributes, for NixOS, nix-darwin and Home Manager.
    NixOs,
    /// `nixConfig` of a flake.
    Flake,
    /// Options of one command.
    Options,
}

impl Substituter {
    /// A URL as somebody typed it; a profile is for `s3://` alone.
    pub fn parse(text: &str, profile: Option<&str>) -> Result<Self, SubstituterError> {
        let Some((scheme, rest)) = text.split_once("://") else {
            return Err(SubstituterError::Scheme(text.to_owned()));
        };
        if rest.split(['/', '?']).next().unwrap_or_default().contains('@') {
            return Err(SubstituterError::Secret);
        }
        if text.chars().any(|c| c.is_whitespace() || c.is_control() || c == '#') {
            return Err(SubstituterError::Word(text.to_owned()));
        }
        match scheme {
            "http" | "https" if !rest.is_empty() => Ok(Self(text.trim_end_matches('/').to_owned())),
            "s3" | "file" => Self::of(&CacheUrl::parse(text)?.target, profile),
            _ => Err(SubstituterError::Scheme(text.to_owned())),
        }
    }

    /// The bucket or directory itself, for those who may read it: with credentials of this profile, if one is named.
    pub fn of(target: &Target, profile: Option<&str>) -> Result<Self, SubstituterError> {
        let text = match target {
            Target::Directory(path) => format!("file://{}", encode(&path.display().to_string())),
            Target::S3(settings) => s3_url(settings, profile.or(settings.profile.as_deref())),
        };
        Ok(Self(text))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether a word of `nix.conf` names the same cache, whatever else it says of it.
    pub fn is_same(&self, word: &str) -> bool {
        match (target_of(&self.0), target_of(word)) {
            (Some(own), Some(theirs)) => own.is_same_place(&theirs),
            (None, None) => bare(&self.0) == bare(word),
            _ => false,
        }
    }

    /// What should stand where another word for the same cache stands: this way to it, and what else that one says of it
    /// (a priority). Nothing where that word will do.
    pub fn in_place_of(&self, word: &str) -> Option<Self> {
        let (own, theirs) = (target_of(&self.0)?, target_of(word)?);
        if Self::of(&own, None).ok()? == Self::of(&theirs, None).ok()? {
            return None;
        }
        let mut text = self.0.clone();
        let query = word.split_once('?').map_or("", |(_, query)| query);
        for pair in query.split('&').filter(|pair| !pair.is_empty() && !is_way(pair)) {
            text.push(if text.contains('?') { '&' } else { '?' });
            text.push_str(pair);
        }
        Some(Self(text))
    }
}

/// Parameters about how to reach a bucket.
const WAYS: [&str; 5] = ["endpoint", "scheme", "region", "profile", "addressing-style"];

fn is_way(pair: &str) -> bool {
    WAYS.contains(&pair.split('=').next().unwrap_or_default())
}

/// The bucket or directory that a substituter of `nix.conf` names; nothing for a web address. Parameters that this loft does
/// not know do not matter.
pub fn target_of(word: &str) -> Option<Target> {
    let (place, query) = word.split_once('?').unwrap_or((word, ""));
    let scheme = if place.starts_with('/') { "file://" } else { "" };
    let place = place.trim_end_matches('/');
    let ways: Vec<&str> = query.split('&').filter(|pair| is_way(pair)).collect();
    let query = if place.starts_with("s3://") { ways.join("&") } else { String::new() };
    Some(CacheUrl::parse(&format!("{scheme}{place}?{query}")).ok()?.target)
}

/// A web address without parameters.
fn bare(url: &str) -> &str {
    url.split('?').next().unwrap_or_default().trim_end_matches('/')
}

/// In the form that every Nix takes: recent ones know a whole URL as endpoint, older ones want its scheme apart.
fn s3_url(settings: &S3Settings, profile: Option<&str>) -> String {
    let mut url = format!("s3://{}", settings.bucket);
    let prefix = settings.prefix.trim_matches('/');
    if !prefix.is_empty() {
        let _ = write!(url, "/{}", encode(prefix));
    }
    let endpoint = settings.endpoint.as_deref().map(|endpoint| endpoint.trim_end_matches('/'));
    let (scheme, host) = match endpoint.map(|endpoint| endpoint.split_once("://").unwrap_or(("https", endpoint))) {
        Some((scheme, host)) => (Some(scheme), Some(host)),
        None => (None, None),
    };
    let style = (settings.addressing_style == AddressingStyle::Virtual).then_some("virtual");
    let parameters = [
        ("endpoint", host),
        ("scheme", scheme.filter(|scheme| *scheme != "https")),
        ("region", settings.region.as_deref()),
        ("profile", profile),
        ("addressing-style", style),
    ];
    for (index, (name, value)) in parameters.iter().filter_map(|(name, value)| Some((name, (*value)?))).enumerate() {
        let _ = write!(url, "{}{name}={}", if index == 0 { '?' } else { '&' }, encode(value));
    }
    url
}

/// All but what stands in URLs for itself.
fn encode(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' | b'/' | b':' => {
                encoded.push(char::from(byte));
            }
            _ => {
                let _ = write!(encoded, "%{byte:02X}");
            }
        }
    }
    encoded
}

impl Reading {
    /// In the order of reading them; a list is added to what others have said.
    fn settings(&self) -> Vec<(&'static str, Vec<String>)> {
        let keys = self.public_keys.iter().map(ToString::to_string).collect();
        let mut settings = vec![("substituters", vec![self.substituter.0.clone()]), ("trusted-public-keys", keys)];
        settings.extend(self.netrc_file.iter().map(|file| (NETRC_FILE, vec![file.display().to_string()])));
        settings
    }

    /// Complete lines.
    pub fn print(&self, form: Form) -> String {
        let lines = self.settings().into_iter().map(|(name, values)| {
            let extra = if name == NETRC_FILE { "" } else { "extra-" };
            match form {
                Form::NixConf => format!("{extra}{name} = {}\n", values.join(" ")),
                Form::Options => format!(" --option {extra}{name} '{}'", values.join(" ").replace('\'', "'\\''")),
                Form::NixOs => format!("  {name} = {};\n", nix_value(name, &values)),
                Form::Flake => format!("  {extra}{name} = {};\n", nix_value(name, &values)),
            }
        });
        let lines = lines.collect::<String>();
        match form {
            Form::NixConf => lines,
            Form::Options => format!("{}\n", lines.trim_start()),
            Form::NixOs => format!("nix.settings = {{\n{lines}}};\n"),
            Form::Flake => format!("nixConfig = {{\n{lines}}};\n"),
        }
    }
}

/// No list, and so nothing to add to.
const NETRC_FILE: &str = "netrc-file";

/// As Nix's language spells it.
fn nix_value(name: &str, values: &[String]) -> String {
    let quoted = |text: &String| {
        let text = text.replace('\\', "\\\\").replace('"', "\\\"").replace("${", "\\${");
        format!("\"{text}\"")
    };
    let all = values.iter().map(quoted).collect::<Vec<_>>().join(" ");
    if name == NETRC_FILE { all } else { format!("[ {all} ]") }
}
