//! Headers that a user wants on every request, for a proxy in front of the bucket.
//!
//! They are added after signing, so a proxy may strip them. That is also why some names cannot be
//! had: servers refuse unsigned `x-amz-*` headers, and a few belong to HTTP or to the signature.

use http::header::{HeaderMap, HeaderName, HeaderValue};
use std::fmt;

/// Checked headers; a name appears once. `Debug` shows names only: values are often secrets.
#[derive(Clone, Default, PartialEq)]
pub struct ExtraHeaders(HeaderMap);

/// Why a header cannot be sent with S3 requests. The value is never part of it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum HeaderError {
    #[error("Extra header name {0:?} is not a valid HTTP header name")]
    Name(String),
    #[error("The value of extra header {0:?} has characters that HTTP does not allow in headers")]
    Value(String),
    #[error("Extra header {name:?} cannot be used: {reason}")]
    Reserved { name: String, reason: &'static str },
}

impl ExtraHeaders {
    /// Adds a header, or replaces the one of that name (whatever its case).
    pub fn insert(&mut self, name: &str, value: &str) -> Result<(), HeaderError> {
        let parsed = HeaderName::try_from(name).map_err(|_| HeaderError::Name(name.to_owned()))?;
        if let Some(reason) = reserved(parsed.as_str()) {
            return Err(HeaderError::Reserved { name: name.to_owned(), reason });
        }
        let mut value = HeaderValue::try_from(value).map_err(|_| HeaderError::Value(name.to_owned()))?;
        value.set_sensitive(true);
        self.0.insert(parsed, value);
        Ok(())
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The names, for users to see.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(HeaderName::as_str)
    }

    pub fn iter(&self) -> impl Iterator<Item = (&HeaderName, &HeaderValue)> {
        self.0.iter()
    }
}

/// Why a (lower-case) name is not to be had.
fn reserved(name: &str) -> Option<&'static str> {
    match name {
        _ if name.starts_with("x-amz-") => {
            Some("servers require every x-amz-* header to be signed, and this would not be")
        }
        "host" | "authorization" | "date" => Some("it belongs to the request's signature"),
        "content-length" | "transfer-encoding" | "connection" | "expect" | "te" | "trailer" | "upgrade"
        | "keep-alive" | "proxy-connection" => Some("it says how the request is framed on the wire"),
        "content-type" | "content-encoding" | "content-md5" | "cache-control" | "range" => {
            Some("loft sets it where it belongs, and it would change what is stored or read")
        }
        _ if name.starts_with("if-") => Some("it would change what requests mean"),
        "accept-encoding" => Some("the answer's bytes would not be the stored ones"),
        _ => None,
    }
}

impl fmt::Debug for ExtraHeaders {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.names().map(|name| (name, "…"))).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn takes_any_other_name_and_the_last_value_wins() {
        let mut headers = ExtraHeaders::default();
        headers.insert("CF-Access-Client-Id", "from the file").unwrap();
        headers.insert("CF-ACCESS-CLIENT-ID", "from the environment").unwrap();
        let all: Vec<_> = headers.iter().map(|(n, v)| (n.as_str(), v.to_str().unwrap())).collect();
        assert_eq!(all, [("cf-access-client-id", "from the environment")]);
    }

    #[test]
    fn refuses_what_would_break_requests_and_never_shows_values() {
        for name in
            ["X-Amz-Meta-Foo", "Host", "Authorization", "Content-Length", "If-None-Match", "Transfer-Encoding", "Range"]
        {
            let error = ExtraHeaders::default().insert(name, "s3cr3t").unwrap_err();
            assert!(matches!(error, HeaderError::Reserved { .. }), "{name}");
            assert!(!format!("{error} {error:?}").contains("s3cr3t"));
        }
        assert_eq!(ExtraHeaders::default().insert("a b", "v"), Err(HeaderError::Name("a b".into())));
        let error = ExtraHeaders::default().insert("x-token", "s3cr3t\nx-other: 1").unwrap_err();
        assert!(!format!("{error} {error:?}").contains("s3cr3t"));
        let mut headers = ExtraHeaders::default();
        headers.insert("x-token", "s3cr3t").unwrap();
        assert_eq!(format!("{headers:?}"), r#"{"x-token": "…"}"#);
    }
}
