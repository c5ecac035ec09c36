//! What stands between client and Garage: it counts requests, adds latency and signs for those that cannot.
//!
//! Everybody goes through it, also where it adds nothing, so that all pay for the same hop. Latency is added to each
//! request: its head waits for so long before it is passed on. Connections, bodies and answers are not slowed down, so
//! this is a round trip for each request and none for a new connection.
//!
//! Debian builds Nix without S3; it speaks plain HTTP here, and this signs for it (`UNSIGNED-PAYLOAD`, so without hashing).

use crate::garage::{ACCESS_KEY, BUCKET, REGION, SECRET_KEY};
use bytes::Bytes;
use http::{HeaderValue, Request, Response, StatusCode, Uri, header};
use http_body_util::{BodyExt as _, Empty, combinators::BoxBody};
use hyper::body::{Body as _, Incoming};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioIo};
use reqsign_aws_v4::{Credential, RequestSigner};
use reqsign_core::{Context, SignRequest as _};
use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::{Arc, Mutex};
use std::time::Duration;

type Answer = Response<BoxBody<Bytes, hyper::Error>>;

/// Requests by method, and the bytes of bodies that were sent.
#[derive(Debug, Clone, Default)]
pub struct Seen {
    pub requests: BTreeMap<String, u64>,
    pub bytes: u64,
}

/// Lives on its own threads until it is dropped.
pub struct Proxy {
    /// `127.0.0.1:PORT`.
    pub address: String,
    seen: Arc<Mutex<Seen>>,
    runtime: Option<tokio::runtime::Runtime>,
}

struct Shared {
    client: Client<HttpConnector, Incoming>,
    server: String,
    latency: Duration,
    seen: Arc<Mutex<Seen>>,
}

impl Proxy {
    pub fn start(server: &str, latency: Duration) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
        let runtime = runtime.expect("a runtime");
        let listener = runtime.block_on(tokio::net::TcpListener::bind("127.0.0.1:0")).expect("a port");
        let address = listener.local_addr().expect("an address").to_string();
        let mut connector = HttpConnector::new();
        connector.set_nodelay(true);
        let seen = Arc::<Mutex<Seen>>::default();
        let shared = Arc::new(Shared {
            client: Client::builder(TokioExecutor::new()).build(connector),
            server: server.to_owned(),
            latency,
            seen: seen.clone(),
        });
        runtime.spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let _ = stream.set_nodelay(true);
                let shared = shared.clone();
                let service = hyper::service::service_fn(move |request| answer(shared.clone(), request));
                tokio::spawn(async move {
                    let _ = hyper::server::conn::http1::Builder::new()
                        .serve_connection(TokioIo::new(stream), service)
                        .await;
                });
            }
        });
        Self { address, seen, runtime: Some(runtime) }
    }

    /// What has come so far, and is forgotten then.
    pub fn take(&self) -> Seen {
        std::mem::take(&mut self.seen.lock().expect("not poisoned"))
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

async fn answer(shared: Arc<Shared>, request: Request<Incoming>) -> Result<Answer, Infallible> {
    {
        let mut seen = shared.seen.lock().expect("not poisoned");
        *seen.requests.entry(request.method().to_string()).or_default() += 1;
        seen.bytes += request.body().size_hint().exact().unwrap_or_default();
    }
    if !shared.latency.is_zero() {
        tokio::time::sleep(shared.latency).await;
    }
    Ok(match passed_on(&shared, request).await {
        Ok(answer) => answer.map(|body| body.boxed()),
        Err(why) => {
            eprintln!("proxy: {why}");
            let nothing = Empty::new().map_err(|never| match never {}).boxed();
            let mut bad = Response::new(nothing);
            *bad.status_mut() = StatusCode::BAD_GATEWAY;
            bad
        }
    })
}

async fn passed_on(shared: &Shared, request: Request<Incoming>) -> Result<Response<Incoming>, String> {
    let (mut parts, body) = request.into_parts();
    let target = parts.uri.path_and_query().map_or("/", |target| target.as_str()).to_owned();
    parts.uri = format!("http://{}{target}", shared.server).parse::<Uri>().map_err(|error| error.to_string())?;
    let is_signed = parts.headers.contains_key(header::AUTHORIZATION) || target.contains("X-Amz-Signature=");
    if !is_signed {
        parts.headers.insert(header::HOST, HeaderValue::from_str(&shared.server).map_err(|error| error.to_string())?);
        parts.headers.insert("x-amz-content-sha256", HeaderValue::from_static("UNSIGNED-PAYLOAD"));
        // What HTTP itself needs is none of the signature's business.
        let kept = [header::CONTENT_LENGTH, header::TRANSFER_ENCODING, header::EXPECT, header::CONNECTION];
        let unsigned = kept.map(|name| (name.clone(), parts.headers.remove(&name)));
        let credential = Credential {
            access_key_id: ACCESS_KEY.to_owned(),
            secret_access_key: SECRET_KEY.to_owned(),
            session_token: None,
            expires_in: None,
        };
        RequestSigner::new("s3", REGION)
            .sign_request(&Context::new(), &mut parts, Some(&credential), None)
            .await
            .map_err(|error| error.to_string())?;
        for (name, value) in unsigned {
            if let Some(value) = value {
                parts.headers.insert(name, value);
            }
        }
    }
    // The server answers this by itself before it reads; it need not be told twice.
    parts.headers.remove(header::EXPECT);
    shared.client.request(Request::from_parts(parts, body)).await.map_err(|error| format!("{target}: {error:?}"))
}

/// The bucket as a plain HTTP store.
pub fn http_store(address: &str) -> String {
    format!("http://{address}/{BUCKET}")
}
