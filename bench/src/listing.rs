//! A server that knows one request: a bucket's listing, of as many narinfos as one likes.

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use std::convert::Infallible;
use std::ops::Range;
use std::sync::Arc;

/// What S3 answers at the most.
const PAGE: usize = 1000;

/// Lives on a thread of its own until it is dropped.
pub struct ListingServer {
    /// `127.0.0.1:PORT`.
    pub address: String,
    runtime: Option<tokio::runtime::Runtime>,
}

/// Keys in order, and all their entries' XML ready-made, so that serving costs little beside reading.
struct Objects {
    keys: Vec<String>,
    entries: String,
    /// Where each key's entry begins, and the end.
    starts: Vec<usize>,
}

impl ListingServer {
    pub fn start(mut keys: Vec<String>) -> Self {
        keys.sort_unstable();
        let objects = Arc::new(Objects::new(keys));
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
        let runtime = runtime.expect("a runtime");
        let listener = runtime.block_on(tokio::net::TcpListener::bind("127.0.0.1:0")).expect("a port");
        let address = listener.local_addr().expect("an address").to_string();
        runtime.spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let _ = stream.set_nodelay(true);
                let objects = objects.clone();
                let service = hyper::service::service_fn(move |request| {
                    let answer = objects.answer(&request);
                    async move { Ok::<_, Infallible>(answer) }
                });
                tokio::spawn(async move {
                    let _ = hyper::server::conn::http1::Builder::new()
                        .serve_connection(TokioIo::new(stream), service)
                        .await;
                });
            }
        });
        Self { address, runtime: Some(runtime) }
    }
}

impl Drop for ListingServer {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

impl Objects {
    fn new(keys: Vec<String>) -> Self {
        let mut entries = String::with_capacity(keys.len() * 240);
        let mut starts = Vec::with_capacity(keys.len() + 1);
        for (n, key) in keys.iter().enumerate() {
            starts.push(entries.len());
            entries.push_str(&format!(
                "<Contents><Key>{key}</Key><LastModified>2026-01-02T03:04:05.678Z</LastModified>\
                 <ETag>&quot;{n:032x}&quot;</ETag><Size>545</Size><StorageClass>STANDARD</StorageClass></Contents>"
            ));
        }
        starts.push(entries.len());
        Self { keys, entries, starts }
    }

    fn answer(&self, request: &Request<Incoming>) -> Response<Full<Bytes>> {
        let query = request.uri().query().unwrap_or_default();
        let parameter = |name: &str| {
            let value = query.split('&').find_map(|pair| pair.strip_prefix(name)?.strip_prefix('='));
            // Keys of narinfos need no escapes, prefixes with a slash match none of them.
            value.unwrap_or_default().to_owned()
        };
        let (prefix, after) = (parameter("prefix"), parameter("start-after"));
        let Range { start, end } = self.range(&prefix, &after);
        let page = start..end.min(start + PAGE);
        let body = format!(
            "<?xml version=\"1.0\" encoding=\"UTF-8\"?><ListBucketResult><Name>bench</Name><Prefix>{prefix}</Prefix>\
             <KeyCount>{}</KeyCount><MaxKeys>{PAGE}</MaxKeys><IsTruncated>{}</IsTruncated>{}</ListBucketResult>",
            page.len(),
            page.end < end,
            &self.entries[self.starts[page.start]..self.starts[page.end]],
        );
        Response::new(Full::new(body.into()))
    }

    /// The keys that begin with `prefix` and come after `after`.
    fn range(&self, prefix: &str, after: &str) -> Range<usize> {
        let begin = self.keys.partition_point(|key| key.as_str() < prefix || key.as_str() <= after);
        let end = self.keys.partition_point(|key| key.as_str() < prefix || key.starts_with(prefix));
        begin.min(end)..end
    }
}
