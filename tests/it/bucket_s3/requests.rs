//! What is sent.

use super::{body, client, key, server, told, xml};
use crate::support::memory::{Fault, Memory, Moment};
use crate::support::wire_faults::{Action, Proxy};
use bytes::Bytes;
use loft::bucket::{Body, Bucket, Cause, Headers, Prefix, RequestKind, Requests, S3, list_all};
use loft::clock::SystemClock;
use loft::nix::Sha256;
use loft::remedy::Remedy;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

#[tokio::test]
async fn requests_are_plain_signed_and_hashed_once() {
    let server = server(Memory::garage()).await;
    let mut settings = server.settings();
    settings.storage_class = Some("STANDARD_IA".into());
    let bucket = client(&settings);
    bucket.put(&key("nar/a"), body("bytes"), Headers::NAR).await.unwrap();
    let [put] = &server.seen()[..] else { panic!() };
    let header = |name: &str| put.headers.get(name).map(|value| value.to_str().unwrap());
    assert_eq!(header("x-amz-content-sha256"), Some(Sha256::of(b"bytes").to_hex().as_str()));
    assert_eq!(header("content-length"), Some("5"));
    assert_eq!(header("content-type"), Headers::NAR.content_type);
    assert_eq!(header("cache-control"), Headers::NAR.cache_control);
    assert_eq!(header("x-amz-storage-class"), Some("STANDARD_IA"));
    assert_eq!(header("user-agent"), Some(concat!("loft/", env!("CARGO_PKG_VERSION"))));
    for name in ["content-encoding", "transfer-encoding", "x-amz-trailer", "accept-encoding", "expect"] {
        assert_eq!(header(name), None, "{name}");
    }
    assert_eq!(server.memory.objects()[&key("nar/a")].headers, Headers::NAR);

    // Without a digest, over plain HTTP, the payload is hashed and signed here; large ones too.
    let large = Bytes::from(vec![7; 1 << 20]);
    bucket.put(&key("nar/b"), Body::from(large.clone()), Headers::NAR).await.unwrap();
    let seen = server.seen();
    assert_eq!(seen[1].headers["x-amz-content-sha256"].to_str().unwrap(), Sha256::of(&large).to_hex());
}

#[tokio::test]
async fn extra_headers_open_a_proxy_and_are_not_signed() {
    let server = server(Memory::garage()).await;
    let proxy = Proxy::demanding(&server.endpoint, "x-loft-auth", "s3cr3t").await;
    let mut settings = server.settings();
    settings.endpoint = Some(proxy.endpoint.clone());
    let error = client(&settings).put(&key("a"), body("x"), Headers::default()).await.unwrap_err();
    assert_eq!(error.remedy(), Remedy::FixConfig);
    assert!(told(&error).contains("extra headers"), "{}", told(&error));
    let error = client(&settings).head(&key("a")).await.unwrap_err();
    assert!(told(&error).contains("extra headers"), "{}", told(&error));

    settings.extra_headers.insert("X-Loft-Auth", "s3cr3t").unwrap();
    let bucket = client(&settings);
    bucket.put(&key("a"), body("x"), Headers::NAR).await.unwrap();
    bucket.put(&key("deleted"), body("x"), Headers::NAR).await.unwrap();
    let upload = bucket.start_upload(&key("b"), Headers::NAR).await.unwrap();
    let part = bucket.put_part(&upload, 1, body("x")).await.unwrap();
    bucket.finish_upload(&upload, &[part]).await.unwrap();
    bucket.delete_before(&key("deleted"), Duration::from_secs(60)).await.unwrap();
    assert_eq!(list_all(&bucket, &Prefix::all()).await.unwrap().len(), 2);
    assert!(bucket.head(&key("b")).await.unwrap().is_some());
    assert!(bucket.get(&key("a"), 10).await.unwrap().is_some());
    assert_eq!(server.seen().len(), 9);
    for seen in server.seen() {
        assert!(!seen.headers.contains_key("x-loft-auth"), "the proxy strips it");
        assert!(!seen.signed_headers.iter().any(|name| name == "x-loft-auth"));
    }
}

#[tokio::test]
async fn every_wire_request_is_counted() {
    let server = server(Memory::garage()).await;
    let requests = Arc::new(Requests::default());
    let bucket = S3::new(&server.settings(), &BTreeMap::new(), Arc::new(SystemClock), requests.clone()).unwrap();
    bucket.put(&key("a"), body("x"), Headers::default()).await.unwrap();
    bucket.head(&key("a")).await.unwrap();
    bucket.delete(&key("a")).await.unwrap();
    bucket.list(&Prefix::all(), None).await.unwrap();
    assert_eq!(requests.total(), 4);
    assert_eq!(server.seen().len(), 4);
    for kind in [RequestKind::Put, RequestKind::Head, RequestKind::Delete, RequestKind::List] {
        assert_eq!(requests.of(kind), 1, "{kind:?}");
    }
}

/// Our clock and the server's may differ by minutes; the deadline is the server's.
#[tokio::test]
async fn deadlines_are_kept_by_the_servers_clock() {
    for (offset, sign) in [(200, 1), (200, -1), (0, 1)] {
        let offset = Duration::from_secs(offset);
        let server = server(Memory::garage()).await;
        let now = SystemTime::now();
        server.memory.clock.set_wall(if sign > 0 { now + offset } else { now - offset });
        let bucket = client(&server.settings());
        bucket.put(&key("a"), body("x"), Headers::default()).await.unwrap();
        bucket.put(&key("b"), body("x"), Headers::default()).await.unwrap();
        bucket.delete_before(&key("a"), Duration::from_secs(60)).await.unwrap();
        assert!(!server.memory.objects().contains_key(&key("a")));
        let query = server.seen().last().unwrap().query.clone();
        assert!(query.contains("X-Amz-Expires=60&"), "{query}");
        // The request is held up on its way for longer than that.
        server.memory.clock.advance(Duration::from_secs(62));
        let error = bucket.delete_before(&key("b"), Duration::from_secs(60)).await.unwrap_err();
        assert!(matches!(error.cause, Cause::Expired), "{error:?}");
        assert!(server.memory.objects().contains_key(&key("b")), "too late is never carried out");

        let put = |name| bucket.put_before(name, body("x"), Headers::NAR_INFO, Duration::from_secs(60));
        let [in_time, late] = ["hash.narinfo", "late.narinfo"].map(key);
        put(&in_time).await.unwrap();
        server.memory.clock.advance(Duration::from_secs(62));
        let error = put(&late).await.unwrap_err();
        assert!(matches!(error.cause, Cause::Expired), "{error:?}");
        assert!(!server.memory.objects().contains_key(&late), "too late is never carried out");
        // A refusal in time is what it says.
        server.memory.set_faults(|moment, _| (moment == Moment::Before).then_some(Fault::Denied));
        let error = put(&late).await.unwrap_err();
        assert!(matches!(error.cause, Cause::Denied { .. }), "{error:?}");
    }
}

#[tokio::test]
async fn puts_with_a_deadline_are_plain_and_signed_in_the_query() {
    let server = server(Memory::garage()).await;
    let mut settings = server.settings();
    settings.storage_class = Some("STANDARD_IA".into());
    settings.extra_headers.insert("X-Loft-Auth", "s3cr3t").unwrap();
    let narinfo = key("hash.narinfo");
    let requests = Arc::new(Requests::default());
    let bucket = S3::new(&settings, &BTreeMap::new(), Arc::new(SystemClock), requests.clone()).unwrap();
    let put = |within| bucket.put_before(&narinfo, body("StorePath"), Headers::NAR_INFO, within);
    put(Duration::from_millis(90_500)).await.unwrap();
    put(Duration::from_secs(1 << 40)).await.unwrap();
    let error = put(Duration::ZERO).await.unwrap_err();
    assert!(matches!(error.cause, Cause::Expired), "{error:?}");
    assert_eq!((requests.of(RequestKind::Put), requests.total()), (2, 2), "too late is not sent at all");
    let seen = server.seen();
    // The time of signing is cut to a whole second, and then there may be one more until the end.
    for (seen, lifetimes) in seen.iter().zip([["90", "91"], ["604800", "604800"]]) {
        let said = |lifetime| seen.query.contains(&format!("X-Amz-Expires={lifetime}&"));
        assert!(lifetimes.into_iter().any(said), "{}", seen.query);
        assert_eq!(seen.signed_headers, ["host"]);
        assert_eq!(seen.headers["x-loft-auth"], "s3cr3t");
        assert_eq!(seen.headers["content-length"], "9");
        for name in ["authorization", "x-amz-storage-class", "x-amz-content-sha256", "transfer-encoding"] {
            assert!(!seen.headers.contains_key(name), "{name}");
        }
    }
    assert_eq!(seen.len(), 2);
    let objects = server.memory.objects();
    assert_eq!((objects[&narinfo].headers, &objects[&narinfo].bytes[..]), (Headers::NAR_INFO, &b"StorePath"[..]));
}

#[tokio::test]
async fn the_servers_clock_is_told() {
    let server = server(Memory::garage()).await;
    let theirs = SystemTime::now() + Duration::from_secs(5000);
    server.memory.clock.set_wall(theirs);
    let bucket = client(&server.settings());
    let now = bucket.now().await.unwrap();
    let apart = now.duration_since(theirs).unwrap_or_else(|early| early.duration());
    assert!(apart < Duration::from_secs(3), "{apart:?}");
    bucket.now().await.unwrap();
    assert_eq!(server.seen().len(), 1, "an answer of a moment ago will do");
}
/// CopyObject ends at 5 GiB on AWS; a larger NAR is copied in ranges that leave nothing out.
#[tokio::test]
async fn very_large_copies_go_in_parts() {
    let size = (6_u64 << 30) + 5;
    let server = server(Memory::garage()).await;
    let proxy = Proxy::start(&server.endpoint, move |head| {
        let is_part = head.target.contains("partNumber");
        Action::Reply(match head.method.as_str() {
            "HEAD" => format!(
                "HTTP/1.1 200 OK\r\nLast-Modified: Sun, 22 Nov 2026 10:00:00 GMT\r\nContent-Length: {size}\r\n\r\n"
            ),
            "PUT" if is_part => xml(200, "<CopyPartResult><ETag>e</ETag></CopyPartResult>"),
            "PUT" => xml(400, "<Error><Code>InvalidRequest</Code><Message>larger than the maximum</Message></Error>"),
            "POST" if head.target.contains("uploads=") => {
                xml(200, "<InitiateMultipartUploadResult><UploadId>id</UploadId></InitiateMultipartUploadResult>")
            }
            "POST" => xml(200, "<CompleteMultipartUploadResult/>"),
            other => panic!("{other}"),
        })
    })
    .await;
    let mut settings = server.settings();
    settings.endpoint = Some(proxy.endpoint.clone());
    assert!(client(&settings).copy(&key("nar/a"), &key("nar/b"), Headers::NAR).await.unwrap());
    let mut end = 0;
    let mut parts = 0;
    for head in proxy.seen().iter().filter(|head| head.headers.contains_key("x-amz-copy-source-range")) {
        assert_eq!(head.headers["x-amz-copy-source"], "/nix-cache/nar/a");
        let range = head.headers["x-amz-copy-source-range"].strip_prefix("bytes=").unwrap();
        let (from, to) = range.split_once('-').unwrap();
        assert_eq!(from.parse::<u64>().unwrap(), end);
        end = to.parse::<u64>().unwrap() + 1;
        parts += 1;
    }
    assert_eq!((end, parts), (size, 7));
}
