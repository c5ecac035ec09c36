//! The listener for Prometheus. Whoever connects gets little and holds little: one request a connection, bounded
//! in size and time, few connections at once, and one reading of the ledger at a time, on a thread of its own.

use super::CONTENT_TYPE;
use bytes::Bytes;
use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

/// More scrapers than this wait in the listener's queue.
const CONNECTIONS: usize = 16;
/// For a request's head.
const HEAD: Duration = Duration::from_secs(5);
/// For all of a connection; scrapers give up after ten seconds themselves.
const CONNECTION: Duration = Duration::from_secs(15);
/// A scraper's request has some hundred bytes.
const BUFFER: usize = 16 * 1024;
/// When no connection can be accepted, the process lacks descriptors, and asking at once would find the same.
const PAUSE: Duration = Duration::from_secs(1);

const HINT: &str = "loft: metrics for Prometheus are at /metrics\n";

/// Answers `GET /metrics` with what `snapshot` says, until it is dropped; connections end with it.
pub async fn serve(listener: TcpListener, snapshot: impl Fn() -> String + Send + Sync + 'static) -> Infallible {
    let source = Source { snapshot: Arc::new(snapshot), one: Arc::new(Semaphore::new(1)) };
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept(), if connections.len() < CONNECTIONS => match accepted {
                Ok((stream, _)) => drop(connections.spawn(answer(stream, source.clone()))),
                Err(_) => tokio::time::sleep(PAUSE).await,
            },
            Some(_) = connections.join_next() => {}
        }
    }
}

/// What metrics are made from.
#[derive(Clone)]
struct Source {
    snapshot: Arc<dyn Fn() -> String + Send + Sync>,
    one: Arc<Semaphore>,
}

impl Source {
    /// Reads a file, perhaps a locked one. Whoever asked may be gone before the answer is there; the permit is
    /// held by the reading itself, so that no number of them can pile up.
    async fn read(&self) -> Option<String> {
        let permit = self.one.clone().acquire_owned().await.ok()?;
        let snapshot = self.snapshot.clone();
        let reading = tokio::task::spawn_blocking(move || {
            let text = snapshot();
            drop(permit);
            text
        });
        reading.await.ok()
    }
}

async fn answer(stream: TcpStream, source: Source) {
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD)
        .max_buf_size(BUFFER)
        .keep_alive(false)
        .serve_connection(TokioIo::new(stream), service_fn(|request| respond(request, &source)));
    // That a scraper went away is its own business.
    let _ = tokio::time::timeout(CONNECTION, connection).await;
}

async fn respond(request: Request<Incoming>, source: &Source) -> Result<Response<Full<Bytes>>, Infallible> {
    let mut response = match (request.method(), request.uri().path()) {
        (&Method::GET, "/metrics") => match source.read().await {
            Some(text) => typed(StatusCode::OK, CONTENT_TYPE, text),
            None => plain(StatusCode::INTERNAL_SERVER_ERROR, "The metrics could not be read\n"),
        },
        // A HEAD is a look whether somebody is there; the body is left out by the HTTP library.
        (&Method::HEAD, "/metrics") => typed(StatusCode::OK, CONTENT_TYPE, String::new()),
        (&Method::GET | &Method::HEAD, "/") => plain(StatusCode::OK, HINT),
        (&Method::GET | &Method::HEAD, _) => plain(StatusCode::NOT_FOUND, HINT),
        _ => {
            let mut refused = plain(StatusCode::METHOD_NOT_ALLOWED, HINT);
            refused.headers_mut().insert(header::ALLOW, HeaderValue::from_static("GET, HEAD"));
            refused
        }
    };
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    Ok(response)
}

fn plain(status: StatusCode, text: &'static str) -> Response<Full<Bytes>> {
    typed(status, "text/plain; charset=utf-8", text.to_owned())
}

fn typed(status: StatusCode, content_type: &'static str, text: String) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(text)));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}
