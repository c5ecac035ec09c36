//! What anybody may read: one GET without a signature, as Nix sends it to a cache's web address.

use super::Key;
use super::error::Cause;
use super::http::{Trust, transport};
use bytes::{Bytes, BytesMut};
use reqwest::Url;
use std::path::PathBuf;
use std::time::Duration;

/// Nobody waits longer for one small object.
const PATIENCE: Duration = Duration::from_secs(20);

/// CDNs send from one address to another, and Nix follows.
const REDIRECTS: usize = 5;

/// What came back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Public {
    Read(Bytes),
    /// 404 and 410: nothing there, or a web server that does not know the bucket.
    Absent,
    /// 401 and 403.
    Refused,
    /// Any other status.
    Odd(u16),
}

/// What became of [`open_to_all`](super::Bucket::open_to_all).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Switch {
    /// Switched now.
    On,
    /// It was on before.
    WasOn,
    /// This store has none; its policies are for its owner to weigh.
    None,
}

/// Why nobody can tell.
#[derive(Debug, thiserror::Error)]
pub enum PublicError {
    #[error("{0:?} is no web address: http://HOST or https://HOST is, with a path but no query, name or password")]
    Url(String),
    #[error("Could not read {url}")]
    Request {
        url: String,
        #[source]
        cause: Cause,
    },
}

/// Reads `key` below `base`, at most `limit` bytes of it.
pub async fn read_publicly(
    base: &str,
    key: &Key,
    ca_file: Option<PathBuf>,
    limit: usize,
) -> Result<Public, PublicError> {
    let base = parse(base)?;
    let url = format!("{}/{key}", base.as_str().trim_end_matches('/'));
    let failed = |cause| PublicError::Request { url: url.clone(), cause };
    let builder = Trust { ca_file }
        .reader(&base)
        .map_err(failed)?
        .redirect(reqwest::redirect::Policy::limited(REDIRECTS))
        .timeout(PATIENCE);
    let client = builder.build().map_err(|error| failed(Cause::Setting(crate::remedy::chain(&error))))?;
    let mut response = client.get(&url).send().await.map_err(|error| failed(transport(error)))?;
    match response.status().as_u16() {
        200..=299 => {}
        404 | 410 => return Ok(Public::Absent),
        401 | 403 => return Ok(Public::Refused),
        other => return Ok(Public::Odd(other)),
    }
    let mut body = BytesMut::new();
    while let Some(chunk) = response.chunk().await.map_err(|error| failed(transport(error)))? {
        if body.len() + chunk.len() > limit {
            return Err(failed(Cause::TooLarge { limit: limit as u64 }));
        }
        body.extend_from_slice(&chunk);
    }
    Ok(Public::Read(body.freeze()))
}

/// Whether a text is an address at which anybody could read.
pub fn check_web_address(text: &str) -> Result<(), PublicError> {
    parse(text).map(drop)
}

fn parse(text: &str) -> Result<Url, PublicError> {
    // Before an `@` may stand a password.
    let shown = || PublicError::Url(if text.contains('@') { "…@…".to_owned() } else { text.to_owned() });
    let url = Url::parse(text).map_err(|_| shown())?;
    // What the parser mends, a white space before it, say, would be no such address in loft.toml.
    let is_plain = (text.starts_with("http://") || text.starts_with("https://"))
        && !text.contains(char::is_whitespace)
        && url.host_str().is_some()
        && url.username().is_empty()
        && url.password().is_none()
        && url.query().is_none()
        && url.fragment().is_none();
    is_plain.then_some(url).ok_or_else(shown)
}
