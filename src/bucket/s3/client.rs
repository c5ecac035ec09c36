//! One request: build, sign, add the user's headers, send, read the answer within bounds.
//!
//! The order matters. The user's headers come after signing, so that a proxy may strip them. The
//! payload hash that SigV4 signs is the body's own digest where the caller has it, so that nothing is
//! hashed twice; without one, TLS protects the body and the payload stays unsigned, while over plain
//! HTTP it is hashed here.

use super::address::Address;
use super::answer::{Answer, ERROR_LIMIT};
use super::credentials::Credentials;
use super::presign::presign;
use crate::bucket::error::Cause;
use crate::bucket::{Body, ExtraHeaders, RequestKind, Requests, http as transport};
use crate::clock::Clock;
use crate::nix::Sha256;
use bytes::{Bytes, BytesMut};
use http::{HeaderValue, Method, header};
use reqsign_aws_v4::{EMPTY_STRING_SHA256, RequestSigner};
use reqsign_core::SignRequest;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

/// No byte of the answer for so long means that none will come.
const SILENCE: Duration = Duration::from_secs(60);

/// The slowest line that is still worth waiting for, in bytes a second.
const SLOWEST_UPLOAD: u64 = 16 * 1024;

/// Hashing more than this is not done between two polls of other tasks.
const SMALL: usize = 256 * 1024;

pub(super) struct Client {
    pub address: Address,
    pub http: reqwest::Client,
    pub signer: RequestSigner,
    pub region: String,
    pub credentials: Credentials,
    pub extra_headers: ExtraHeaders,
    pub requests: Arc<Requests>,
    pub clock: Arc<dyn Clock>,
    pub heard: Mutex<Option<Heard>>,
    /// The server has acted as one that has this bucket: from then on, a HEAD's bare 404 means the key.
    pub has_seen_bucket: AtomicBool,
}

/// The last answer's `Date`, and our own clocks when it came.
#[derive(Debug, Clone, Copy)]
pub(super) struct Heard {
    pub date: SystemTime,
    pub boot: Duration,
}

pub(super) struct Request {
    pub kind: RequestKind,
    pub method: Method,
    pub url: String,
    /// Signed.
    pub headers: Vec<(&'static str, String)>,
    pub body: Body,
    /// The most that is read of a successful answer.
    pub limit: u64,
    /// For requests that the server needs long for.
    pub patience: Duration,
    /// Signed in the URL, worthless after this time by the server's clock.
    pub expires_in: Option<Duration>,
}

impl Request {
    pub fn new(kind: RequestKind, method: Method, url: String) -> Self {
        Self {
            kind,
            method,
            url,
            headers: Vec::new(),
            body: Bytes::new().into(),
            limit: ERROR_LIMIT,
            patience: SILENCE,
            expires_in: None,
        }
    }
}

impl Client {
    /// Sends it once. `Ok` is any answer, of whatever status, whose body arrived whole.
    pub async fn send(&self, request: Request) -> Result<Answer, Cause> {
        let Request { kind, method, mut url, headers, body, limit, patience, expires_in } = request;
        let is_head = method == Method::HEAD;
        let credential = self.credentials.get().await.map_err(|error| Cause::Credentials(Box::new(error)))?;
        if let Some(lifetime) = expires_in {
            url = presign(&method, &url, &credential, &self.region, self.server_time(), lifetime)?;
        }
        let mut builder = http::Request::builder().method(method).uri(url);
        for (name, value) in headers {
            builder = builder.header(name, value);
        }
        let unusable = |error: http::Error| Cause::Setting(format!("A request cannot be built: {error}"));
        let (mut parts, ()) = builder.body(()).map_err(unusable)?.into_parts();
        if expires_in.is_none() {
            parts.headers.insert("x-amz-content-sha256", self.payload_hash(&body).await?);
            self.signer
                .sign_request(&reqsign_core::Context::new(), &mut parts, Some(credential.as_ref()), None)
                .await
                .map_err(|error| Cause::Setting(format!("A request cannot be signed: {error}")))?;
        }
        parts.headers.extend(self.extra_headers.iter().map(|(name, value)| (name.clone(), value.clone())));

        self.requests.add(kind);
        let size = body.size();
        // Until the answer begins nothing tells a slow upload from a dead line, so the size decides.
        let patience = patience + Duration::from_secs(size / SLOWEST_UPLOAD);
        let sending = http::Request::from_parts(parts, body.bytes);
        let sending = reqwest::Request::try_from(sending).map_err(transport::transport)?;
        let response = tokio::time::timeout(patience, self.http.execute(sending))
            .await
            .map_err(|_| Cause::Stalled(patience))?
            .map_err(transport::transport)?;
        let answer = read(response, limit, is_head).await?;
        self.note(&answer);
        Ok(answer)
    }

    /// As `send`; anything but success is an error.
    pub async fn send_ok(&self, request: Request) -> Result<Answer, Cause> {
        let answer = self.send(request).await?;
        if answer.status.is_success() { Ok(answer) } else { Err(answer.cause()) }
    }

    async fn payload_hash(&self, body: &Body) -> Result<HeaderValue, Cause> {
        let hash = match body.sha256 {
            Some(hash) => hash,
            None if body.bytes.is_empty() => return Ok(HeaderValue::from_static(EMPTY_STRING_SHA256)),
            None if self.address.is_https => return Ok(HeaderValue::from_static("UNSIGNED-PAYLOAD")),
            None if body.bytes.len() <= SMALL => Sha256::of(&body.bytes),
            None => {
                let bytes = body.bytes.clone();
                tokio::task::spawn_blocking(move || Sha256::of(&bytes))
                    .await
                    .map_err(|error| Cause::Setting(format!("A body could not be hashed: {error}")))?
            }
        };
        HeaderValue::try_from(hash.to_hex()).map_err(|error| Cause::Setting(error.to_string()))
    }

    fn note(&self, answer: &Answer) {
        if let Some(date) = answer.date(header::DATE) {
            let heard = Heard { date, boot: self.clock.boot() };
            *self.heard.lock().unwrap_or_else(PoisonError::into_inner) = Some(heard);
        }
        if answer.status.is_success() {
            self.has_seen_bucket.store(true, Ordering::Relaxed);
        }
    }

    /// The server's clock as far as we know it; ours before it has ever answered.
    fn server_time(&self) -> SystemTime {
        match self.heard() {
            Some(heard) => heard.date + self.clock.boot().saturating_sub(heard.boot),
            None => self.clock.wall(),
        }
    }

    pub fn heard(&self) -> Option<Heard> {
        *self.heard.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The whole answer: of success at most `limit` bytes, of an error its beginning.
async fn read(mut response: reqwest::Response, limit: u64, is_head: bool) -> Result<Answer, Cause> {
    let status = response.status();
    let headers = std::mem::take(response.headers_mut());
    if is_head {
        return Ok(Answer { status, headers, body: Bytes::new() });
    }
    let expected = headers.get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse::<u64>().ok());
    if status.is_success() && expected.is_some_and(|size| size > limit) {
        return Err(Cause::TooLarge { limit });
    }
    let mut body = BytesMut::new();
    loop {
        let chunk = tokio::time::timeout(SILENCE, response.chunk()).await.map_err(|_| Cause::Stalled(SILENCE))?;
        match chunk.map_err(transport::transport)? {
            None => break,
            Some(chunk) if status.is_success() => {
                if body.len() as u64 + chunk.len() as u64 > limit {
                    return Err(Cause::TooLarge { limit });
                }
                body.extend_from_slice(&chunk);
            }
            Some(chunk) => {
                let room = (ERROR_LIMIT as usize).saturating_sub(body.len());
                body.extend_from_slice(chunk.get(..room.min(chunk.len())).unwrap_or_default());
                if body.len() as u64 >= ERROR_LIMIT {
                    return Ok(Answer { status, headers, body: body.freeze() });
                }
            }
        }
    }
    match expected {
        // The HTTP library ends with an error before; an object cut short must not depend on that.
        Some(expected) if expected != body.len() as u64 => {
            Err(Cause::Truncated { expected, received: body.len() as u64 })
        }
        _ => Ok(Answer { status, headers, body: body.freeze() }),
    }
}
