//! From settings and keys to URLs.
//!
//! What stands in the URL is signed byte for byte, so keys are percent-encoded here, once, as SigV4
//! canonicalises them: everything but letters, digits, `-._~` and the slashes.

use crate::bucket::error::Cause;
use crate::bucket::settings::{AddressingStyle, S3Settings};
use reqwest::Url;

/// The bucket's own URL, to which keys are appended.
#[derive(Debug, Clone)]
pub(super) struct Address {
    /// `scheme://authority`, without a path.
    origin: String,
    /// Before the key, percent-encoded: `/bucket` or empty, then the endpoint's own path before it.
    path: String,
    /// `/bucket`, for the sources of copies.
    bucket: String,
    /// Empty, or ends in a slash.
    pub prefix: String,
    pub is_https: bool,
    description: String,
}

impl Address {
    pub fn new(settings: &S3Settings, region: &str) -> Result<Self, Cause> {
        let bucket = settings.bucket.as_str();
        if !is_bucket_name(bucket) {
            return Err(Cause::Setting(format!("{bucket:?} is not a bucket name")));
        }
        let endpoint = endpoint(settings.endpoint.as_deref(), region)?;
        let host = endpoint.host_str().unwrap_or_default();
        let in_host = match settings.addressing_style {
            AddressingStyle::Path => false,
            AddressingStyle::Virtual => true,
            AddressingStyle::Auto => settings.endpoint.is_none() && !bucket.contains('.'),
        };
        let host = if in_host { format!("{bucket}.{host}") } else { host.to_owned() };
        let port = endpoint.port().map(|port| format!(":{port}")).unwrap_or_default();
        let base = endpoint.path().trim_end_matches('/');
        let prefix = settings.prefix.trim_matches('/');
        if !prefix.is_empty() {
            check_segments(prefix).map_err(|why| Cause::Setting(format!("Prefix {prefix:?} cannot be used: {why}")))?;
        }
        let slash = if prefix.is_empty() { "" } else { "/" };
        Ok(Self {
            origin: format!("{}://{host}{port}", endpoint.scheme()),
            path: if in_host { base.to_owned() } else { format!("{base}/{bucket}") },
            bucket: format!("/{bucket}"),
            prefix: format!("{prefix}{slash}"),
            is_https: endpoint.scheme() == "https",
            description: match &settings.endpoint {
                Some(_) => {
                    let host = endpoint.host_str().unwrap_or_default();
                    format!("s3://{bucket}{}{prefix} at {}://{host}{port}{base}", slash, endpoint.scheme())
                }
                None => format!("s3://{bucket}{slash}{prefix} in {region}"),
            },
        })
    }

    pub fn is_aws(&self) -> bool {
        let host = self.origin.split(':').nth(1).unwrap_or_default();
        host.trim_end_matches(".cn").ends_with(".amazonaws.com")
    }

    /// For users; holds no secrets.
    pub fn describe(&self) -> &str {
        &self.description
    }

    /// The URL of an object; `key` is below the prefix.
    pub fn object(&self, key: &str, query: &[(&str, &str)]) -> Result<String, Cause> {
        check_segments(key).map_err(Cause::Key)?;
        let key = encode(&format!("{}{key}", self.prefix), true);
        Ok(format!("{}{}/{key}{}", self.origin, self.path, encode_query(query)))
    }

    /// The URL of the bucket itself.
    pub fn bucket(&self, query: &[(&str, &str)]) -> String {
        // A virtual host has no path left, and HTTP wants at least a slash.
        let slash = if self.path.is_empty() { "/" } else { "" };
        format!("{}{}{slash}{}", self.origin, self.path, encode_query(query))
    }

    /// The URL of the service, where all buckets are; nothing where the host is this bucket's own.
    pub fn service(&self) -> Option<String> {
        let base = self.path.strip_suffix(&self.bucket)?;
        Some(format!("{}{base}/", self.origin))
    }

    /// An object as `x-amz-copy-source` names it.
    pub fn copy_source(&self, key: &str) -> Result<String, Cause> {
        check_segments(key).map_err(Cause::Key)?;
        Ok(format!("{}/{}", self.bucket, encode(&format!("{}{key}", self.prefix), true)))
    }
}

fn endpoint(setting: Option<&str>, region: &str) -> Result<Url, Cause> {
    let text = match setting {
        None => {
            let suffix = if region.starts_with("cn-") { ".cn" } else { "" };
            format!("https://s3.{region}.amazonaws.com{suffix}")
        }
        Some(text) if text.contains("://") => text.to_owned(),
        Some(bare) => format!("https://{bare}"),
    };
    let wrong = |why: &str| Cause::Setting(format!("Endpoint {text:?} cannot be used: {why}"));
    let url = Url::parse(&text).map_err(|error| wrong(&error.to_string()))?;
    if !matches!(url.scheme(), "http" | "https") {
        return Err(wrong("it must begin with http:// or https://"));
    }
    if !url.username().is_empty() || url.password().is_some() {
        // The text is not repeated: it holds a secret.
        return Err(Cause::Setting("The endpoint must not hold a user name or a password".to_owned()));
    }
    if url.query().is_some() || url.fragment().is_some() {
        return Err(wrong("it must not have a query or a fragment"));
    }
    Ok(url)
}

/// Looser than AWS: other servers allow capitals and underscores. Strict enough to be one path segment.
fn is_bucket_name(name: &str) -> bool {
    (1..=255).contains(&name.len())
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_'))
        && !name.starts_with('.')
}

/// URLs cannot carry `.` and `..` (clients and proxies resolve them, and the signature breaks), nor
/// do all servers keep empty segments apart.
fn check_segments(key: &str) -> Result<(), &'static str> {
    if key.is_empty() {
        return Err("it is empty");
    }
    if key.len() > 1024 {
        return Err("it is longer than 1024 bytes");
    }
    match key.split('/').find(|segment| matches!(*segment, "" | "." | "..")) {
        Some("") => Err("it has an empty segment"),
        Some(_) => Err("it has a segment . or .."),
        None => Ok(()),
    }
}

fn encode(text: &str, keep_slashes: bool) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => encoded.push(char::from(byte)),
            b'/' if keep_slashes => encoded.push('/'),
            _ => encoded.push_str(&format!("%{byte:02X}")),
        }
    }
    encoded
}

pub(super) fn encode_query(pairs: &[(&str, &str)]) -> String {
    let mut query = String::new();
    for (name, value) in pairs {
        query.push(if query.is_empty() { '?' } else { '&' });
        query.push_str(&encode(name, false));
        query.push('=');
        query.push_str(&encode(value, false));
    }
    query
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(change: impl FnOnce(&mut S3Settings)) -> Result<Address, Cause> {
        let mut settings = S3Settings::new("cache");
        change(&mut settings);
        Address::new(&settings, "eu-central-1")
    }

    fn object_url(change: impl FnOnce(&mut S3Settings)) -> String {
        address(change).unwrap().object("nar/a", &[]).unwrap()
    }

    #[test]
    fn path_for_an_endpoint_and_virtual_host_on_aws() {
        assert_eq!(object_url(|_| {}), "https://cache.s3.eu-central-1.amazonaws.com/nar/a");
        assert_eq!(
            object_url(|s| s.bucket = "my.cache".into()),
            "https://s3.eu-central-1.amazonaws.com/my.cache/nar/a"
        );
        let at = |endpoint: &str| Some(endpoint.to_owned());
        assert_eq!(object_url(|s| s.endpoint = at("http://[::1]:3900/")), "http://[::1]:3900/cache/nar/a");
        assert_eq!(object_url(|s| s.endpoint = at("minio.example:9000")), "https://minio.example:9000/cache/nar/a");
        assert_eq!(object_url(|s| s.endpoint = at("https://a.example/s3/")), "https://a.example/s3/cache/nar/a");
        assert_eq!(
            object_url(|s| {
                s.endpoint = at("http://garage.example:80");
                s.addressing_style = AddressingStyle::Virtual;
                s.prefix = "/team/nix/".into();
            }),
            "http://cache.garage.example/team/nix/nar/a"
        );
    }

    #[test]
    fn encodes_every_byte_that_is_not_plain() {
        let address = address(|s| s.endpoint = Some("http://h".into())).unwrap();
        assert_eq!(
            address.object("log/gtk+3?x=ü.drv", &[("partNumber", "1"), ("uploadId", "a/b&c")]).unwrap(),
            "http://h/cache/log/gtk%2B3%3Fx%3D%C3%BC.drv?partNumber=1&uploadId=a%2Fb%26c"
        );
        assert_eq!(address.copy_source("nar/a b").unwrap(), "/cache/nar/a%20b");
        assert_eq!(address.bucket(&[("uploads", "")]), "http://h/cache?uploads=");
    }

    #[test]
    fn refuses_keys_that_would_leave_the_prefix_and_odd_settings() {
        let address_ = address(|_| {}).unwrap();
        for key in ["", "..", "../x", "nar/../../x", "nar//x", "./x", "nar/", &"x".repeat(1025)] {
            assert!(matches!(address_.object(key, &[]), Err(Cause::Key(_))), "{key}");
        }
        for bucket in ["", "a/b", "..", "a b", "a?b"] {
            assert!(address(|s| s.bucket = bucket.into()).is_err(), "{bucket}");
        }
        for endpoint in ["ftp://x", "http://", "http://u:s3cr3t@h", "http://h/?q=1", "http://h:99999"] {
            let error = address(|s| s.endpoint = Some(endpoint.into())).unwrap_err();
            assert!(matches!(error, Cause::Setting(_)), "{endpoint}");
            assert!(!error.to_string().contains("s3cr3t"));
        }
        assert!(address(|s| s.prefix = "a/../b".into()).is_err());
    }
}
