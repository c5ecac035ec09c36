//! The network and the files, as reqsign's providers want them.

use crate::bucket::http::{Trust, transport};
use crate::remedy::chain;
use bytes::{Bytes, BytesMut};
use reqsign_core::{Error, FileRead, HttpSend, Result};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::OnceCell;

/// Metadata services are plain HTTP on this very machine. Where there is none, nobody may wait long
/// for it; and no proxy may come between, it would answer for another machine.
const LOCAL_CONNECT: Duration = Duration::from_secs(1);
const LOCAL_TOTAL: Duration = Duration::from_secs(2);

/// For STS and SSO.
const REMOTE_TOTAL: Duration = Duration::from_secs(30);

/// Credentials are a kilobyte or two.
const LARGEST_ANSWER: usize = 256 * 1024;

/// Two HTTP clients, made when first needed: most users have static keys and need none.
#[derive(Debug, Clone)]
pub(super) struct Web(Arc<Clients>);

#[derive(Debug)]
struct Clients {
    trust: Trust,
    local: OnceCell<reqwest::Client>,
    remote: OnceCell<reqwest::Client>,
}

impl Web {
    pub fn new(trust: Trust) -> Self {
        Self(Arc::new(Clients { trust, local: OnceCell::new(), remote: OnceCell::new() }))
    }

    async fn client(&self, is_https: bool) -> Result<&reqwest::Client> {
        let cell = if is_https { &self.0.remote } else { &self.0.local };
        cell.get_or_try_init(|| async {
            let builder = self.0.trust.builder(is_https).map_err(|cause| Error::config_invalid(chain(&cause)))?;
            let builder = match is_https {
                true => builder.timeout(REMOTE_TOTAL),
                false => builder.no_proxy().connect_timeout(LOCAL_CONNECT).timeout(LOCAL_TOTAL),
            };
            builder.build().map_err(|error| Error::config_invalid(chain(&error)))
        })
        .await
    }
}

impl HttpSend for Web {
    async fn http_send(&self, request: http::Request<Bytes>) -> Result<http::Response<Bytes>> {
        let client = self.client(request.uri().scheme_str() == Some("https")).await?;
        let failed = |error| Error::unexpected(chain(&transport(error)));
        let request = reqwest::Request::try_from(request).map_err(failed)?;
        let mut response = client.execute(request).await.map_err(failed)?;
        let mut body = BytesMut::new();
        while let Some(chunk) = response.chunk().await.map_err(failed)? {
            if body.len() + chunk.len() > LARGEST_ANSWER {
                return Err(Error::unexpected("the answer is too large"));
            }
            body.extend_from_slice(&chunk);
        }
        let mut answer = http::Response::new(body.freeze());
        *answer.status_mut() = response.status();
        *answer.headers_mut() = std::mem::take(response.headers_mut());
        Ok(answer)
    }
}

/// Token files.
#[derive(Debug)]
pub(super) struct Files;

impl FileRead for Files {
    async fn file_read(&self, path: &str) -> Result<Vec<u8>> {
        tokio::fs::read(path).await.map_err(|error| Error::config_invalid(format!("{path:?} cannot be read: {error}")))
    }
}
