//! The S3 client on the wire: what it sends, and what it makes of answers, good and hostile.

use crate::support::memory::{Fault, Memory, Moment};
use crate::support::s3_server::S3Server;
use crate::support::tls::TlsProxy;
use crate::support::wire_faults::{Action, Canned, Proxy, reply};
use bytes::Bytes;
use loft::bucket::{
    Body, Bucket, BucketError, Cause, Directory, Headers, Key, Part, Prefix, RequestKind, Requests, RetryPolicy,
    Retrying, S3, S3Settings, Secret, Target, Upload, list_all, open,
};
use loft::clock::{Clock, SystemClock};
use loft::nix::Sha256;
use loft::remedy::Remedy;
use loft::report::Silent;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant, SystemTime};

fn client(settings: &S3Settings) -> S3 {
    S3::new(settings, &BTreeMap::new(), Arc::new(SystemClock), Arc::default()).unwrap()
}

async fn server(memory: Memory) -> S3Server {
    memory.clock.set_wall(SystemTime::now());
    S3Server::start(memory).await
}

fn body(bytes: impl Into<Bytes>) -> Body {
    let bytes = bytes.into();
    Body { sha256: Some(Sha256::of(&bytes)), bytes }
}

fn key(text: &str) -> Key {
    Key::listed(text)
}

/// What a user is told: the message and its causes.
fn told(error: &BucketError) -> String {
    let mut text = error.to_string();
    let mut next = std::error::Error::source(error);
    while let Some(cause) = next {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        next = cause.source();
    }
    text
}

// -- what is sent ------------------------------------------------------------------------------------

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

// -- refusals ----------------------------------------------------------------------------------------

#[tokio::test]
async fn wrong_settings_are_named() {
    let server = server(Memory::garage()).await;
    type Change = fn(&mut S3Settings);
    let cases: [(&str, Change, &str); 4] = [
        ("access key", |s| s.access_key = Some(Secret::new("GKother")), "InvalidAccessKeyId"),
        ("secret", |s| s.secret_key = Some(Secret::new("wrong")), "SignatureDoesNotMatch"),
        ("region", |s| s.region = Some("eu".into()), "AuthorizationHeaderMalformed"),
        ("bucket", |s| s.bucket = "other".into(), "NoSuchBucket"),
    ];
    for (name, change, code) in cases {
        let mut settings = server.settings();
        change(&mut settings);
        let bucket = client(&settings);
        let errors = [
            bucket.check_access().await.unwrap_err(),
            bucket.put(&key("a"), body("x"), Headers::default()).await.unwrap_err(),
            bucket.get(&key("a"), 10).await.unwrap_err(),
            bucket.list(&Prefix::all(), None).await.unwrap_err(),
            bucket.start_upload(&key("a"), Headers::default()).await.unwrap_err(),
            bucket.delete(&key("a")).await.unwrap_err(),
        ];
        for error in errors {
            let text = told(&error);
            assert_eq!(error.remedy(), Remedy::FixConfig, "{name}: {text}");
            assert!(text.contains(code), "{name}: {text}");
            assert!(!text.contains("s3cr3t"), "{text}");
        }
        // A HEAD has no body to say it, and is still no "absent".
        let error = bucket.head(&key("a")).await.unwrap_err();
        assert_eq!(error.remedy(), Remedy::FixConfig, "{name}: {error:?}");
        let text = told(&error);
        assert!(text.contains(code), "{name}: {text}");
    }
}

/// Callers without `s3:ListBucket` hear 403 for absent objects: asked once, said, never guessed.
#[tokio::test]
async fn forbidden_is_never_absent() {
    let server = server(Memory::garage()).await;
    server.memory.plant("there", "x");
    server.memory.set_faults(|moment, request| {
        let is_absent = !request.on.starts_with("there");
        (moment == Moment::Before && is_absent).then_some(Fault::Denied)
    });
    let bucket = client(&server.settings());
    assert!(bucket.head(&key("there")).await.unwrap().is_some());
    for _ in 0..3 {
        for error in [bucket.head(&key("a")).await.unwrap_err(), bucket.get(&key("a"), 10).await.unwrap_err()] {
            assert_eq!(error.remedy(), Remedy::FixConfig);
            assert!(told(&error).contains("s3:ListBucket"), "{}", told(&error));
        }
    }
    let probes = server.seen().iter().filter(|seen| seen.path.ends_with("/loft/v1/absent")).count();
    assert_eq!(probes, 1);

    // One forbidden object among others is only that.
    server
        .memory
        .set_faults(|moment, request| (moment == Moment::Before && request.on == "secret").then_some(Fault::Denied));
    let bucket = client(&server.settings());
    let error = bucket.head(&key("secret")).await.unwrap_err();
    assert_eq!(error.remedy(), Remedy::FixConfig);
    assert!(!told(&error).contains("s3:ListBucket"), "{}", told(&error));
}

#[tokio::test]
async fn without_credentials_nothing_is_sent() {
    let server = server(Memory::garage()).await;
    let mut settings = server.settings();
    settings.secret_key = None;
    let requests = Arc::new(Requests::default());
    let bucket = S3::new(&settings, &BTreeMap::new(), Arc::new(SystemClock), requests.clone()).unwrap();
    let error = bucket.head(&key("a")).await.unwrap_err();
    assert_eq!(error.remedy(), Remedy::FixConfig);
    assert!(told(&error).contains("secret_key is missing"), "{}", told(&error));
    assert_eq!((requests.total(), server.seen().len()), (0, 0));
}

/// Plain HTTP needs no certificates; https with none, or with rubbish, is said when opening.
#[tokio::test]
async fn certificates_matter_for_https_alone() {
    let home = tempfile::tempdir().unwrap();
    let rubbish = home.path().join("ca.pem");
    std::fs::write(&rubbish, "rubbish").unwrap();
    let mut settings = S3Settings::new("c");
    settings.ca_file = Some(rubbish);
    settings.endpoint = Some("http://127.0.0.1:1".into());
    assert!(S3::new(&settings, &BTreeMap::new(), Arc::new(SystemClock), Arc::default()).is_ok());
    settings.endpoint = Some("https://127.0.0.1:1".into());
    let error = S3::new(&settings, &BTreeMap::new(), Arc::new(SystemClock), Arc::default()).err().unwrap();
    assert_eq!(error.remedy(), Remedy::FixConfig);
    assert!(told(&error).contains("ca.pem") && told(&error).contains("no PEM certificate"), "{}", told(&error));
}

/// A server behind TLS whose certificate a private authority has signed.
#[tokio::test]
async fn a_private_authority_is_trusted_when_named() {
    let server = server(Memory::garage()).await;
    let tls = TlsProxy::start(&server.endpoint).await;
    let mut settings = server.settings();
    settings.endpoint = Some(tls.endpoint.clone());
    // Not trusted by itself, and told what to do. (A machine with no authority at all says so when opening.)
    match S3::new(&settings, &BTreeMap::new(), Arc::new(SystemClock), Arc::default()) {
        Ok(stranger) => {
            let error = stranger.put(&key("a"), body("x"), Headers::default()).await.unwrap_err();
            assert!(matches!(error.cause, Cause::Certificate(_)), "{error:?}");
            assert_eq!(error.remedy(), Remedy::FixConfig);
            assert!(told(&error).contains("ca_file"), "{}", told(&error));
        }
        Err(error) => assert!(told(&error).contains("ca_file"), "{}", told(&error)),
    }
    settings.ca_file = Some(tls.ca_file.clone());
    let bucket = client(&settings);
    bucket.put(&key("a"), body("x"), Headers::default()).await.unwrap();
    bucket.put(&key("b"), Body::from(Bytes::from("y")), Headers::default()).await.unwrap();
    let hashes: Vec<_> =
        server.seen().iter().map(|seen| seen.headers["x-amz-content-sha256"].to_str().unwrap().to_owned()).collect();
    // TLS protects what has no digest yet; a digest that is at hand is sent all the same.
    assert_eq!(hashes, [Sha256::of(b"x").to_hex(), "UNSIGNED-PAYLOAD".to_owned()]);
    assert_eq!(bucket.get(&key("b"), 10).await.unwrap().unwrap().1, "y");
}

// -- hostile answers ---------------------------------------------------------------------------------

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Call {
    Get,
    Range,
    Head,
    List,
    Put,
    Start,
    PutPart,
    Finish,
    ListParts,
    ListUploads,
    Copy,
    Delete,
}

/// `Ok` with what the call made of the answer.
async fn call(bucket: &S3, call: Call) -> Result<String, BucketError> {
    let upload = Upload { key: key("nar/x"), id: "id".into() };
    let part = Part { number: 1, etag: "\"e\"".into(), size: 1 };
    let x = &key("nar/x");
    Ok(match call {
        Call::Get => format!("{:?}", bucket.get(x, 100).await?),
        Call::Range => format!("{:?}", bucket.get_range(x, 10, 10).await?),
        Call::Head => format!("{:?}", bucket.head(x).await?),
        Call::List => format!("{:?}", list_all(bucket, &Prefix::nars()).await?),
        Call::Put => format!("{:?}", bucket.put(x, body("x"), Headers::default()).await?),
        Call::Start => format!("{:?}", bucket.start_upload(x, Headers::default()).await?),
        Call::PutPart => format!("{:?}", bucket.put_part(&upload, 1, body("x")).await?),
        Call::Finish => format!("{:?}", bucket.finish_upload(&upload, &[part]).await?),
        Call::ListParts => format!("{:?}", bucket.list_parts(&upload).await?),
        Call::ListUploads => format!("{:?}", bucket.list_uploads(&Prefix::nars()).await?),
        Call::Copy => format!("{:?}", bucket.copy(x, &key("nar/y"), Headers::default()).await?),
        Call::Delete => format!("{:?}", bucket.delete(x).await?),
    })
}

fn xml(status: u16, body: &str) -> String {
    reply(status, "application/xml", body)
}

fn listing(rest: &str) -> String {
    xml(200, &format!("<ListBucketResult>{rest}</ListBucketResult>"))
}

fn listed(key: &str) -> String {
    format!("<Contents><Key>{key}</Key><LastModified>2026-11-22T10:00:00Z</LastModified><Size>1</Size></Contents>")
}

/// Every answer that is wrong in some way is an error with the right remedy that names the request;
/// none is taken for success or for "absent".
#[tokio::test]
async fn hostile_answers_are_errors() {
    use Call::*;
    use Remedy::*;
    let error_xml = "<Error><Code>InternalError</Code><Message>m</Message></Error>";
    let date = "Last-Modified: Sun, 22 Nov 2026 10:00:00 GMT";
    let table: Vec<(&str, Call, String, Remedy)> = vec![
        ("nothing at all", Get, String::new(), Retry),
        ("not HTTP", Get, "SSH-2.0-OpenSSH_9.9\r\n".into(), Retry),
        ("cut in the headers", Head, "HTTP/1.1 200 OK\r\nContent-Le".into(), Retry),
        ("body shorter than said", Get, format!("HTTP/1.1 200 OK\r\n{date}\r\nContent-Length: 50\r\n\r\nhalf"), Retry),
        (
            "chunks that do not end",
            Get,
            format!("HTTP/1.1 200 OK\r\n{date}\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n"),
            Retry,
        ),
        ("larger than allowed", Get, format!("HTTP/1.1 200 OK\r\n{date}\r\nContent-Length: 101\r\n\r\n"), GiveUpOnItem),
        (
            "larger than allowed, in chunks",
            Get,
            format!(
                "HTTP/1.1 200 OK\r\n{date}\r\nTransfer-Encoding: chunked\r\n\r\nff\r\n{}\r\n0\r\n\r\n",
                "x".repeat(255)
            ),
            GiveUpOnItem,
        ),
        ("a web page that says 404", Get, reply(404, "text/html", "<html>Not found</html>"), FixConfig),
        (
            "a web page that says 404 to HEAD",
            Head,
            "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n".into(),
            FixConfig,
        ),
        ("the bucket is missing", Get, xml(404, "<Error><Code>NoSuchBucket</Code></Error>"), FixConfig),
        ("404 without a code", Get, xml(404, ""), FixConfig),
        ("no date", Get, "HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nx".into(), Retry),
        (
            "a date that is none",
            Head,
            "HTTP/1.1 200 OK\r\nLast-Modified: yesterday\r\nContent-Length: 1\r\n\r\n".into(),
            Retry,
        ),
        ("a size that is none", Head, format!("HTTP/1.1 200 OK\r\n{date}\r\n\r\n"), Retry),
        (
            "a redirect to a login",
            Head,
            "HTTP/1.1 302 Found\r\nLocation: https://login.example/\r\nContent-Length: 0\r\n\r\n".into(),
            FixConfig,
        ),
        (
            "another region",
            Head,
            "HTTP/1.1 301 Moved\r\nx-amz-bucket-region: eu-west-1\r\nContent-Length: 0\r\n\r\n".into(),
            FixConfig,
        ),
        ("busy", Put, xml(503, "<Error><Code>SlowDown</Code></Error>"), Retry),
        ("busy, says a proxy", Put, reply(502, "text/html", "<html>Bad gateway</html>"), Retry),
        ("a garbled error", Put, xml(500, "<Error><Code>Inter"), Retry),
        ("an endless error", Put, xml(400, &"x".repeat(1 << 20)), FixConfig),
        ("time-out as 400", Put, xml(400, "<Error><Code>RequestTimeout</Code></Error>"), Retry),
        ("refused for good", Put, xml(400, "<Error><Code>EntityTooLarge</Code></Error>"), GiveUpOnItem),
        ("not implemented", ListUploads, xml(501, "<Error><Code>NotImplemented</Code></Error>"), FixConfig),
        (
            "another range",
            Range,
            "HTTP/1.1 206 P\r\nContent-Range: bytes 0-9/20\r\nContent-Length: 10\r\n\r\n0123456789".into(),
            Retry,
        ),
        ("the whole for a range", Range, "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n0123456789".into(), Retry),
        (
            "more than the range",
            Range,
            "HTTP/1.1 206 P\r\nContent-Range: bytes 10-30/40\r\nContent-Length: 21\r\n\r\n012345678901234567890".into(),
            GiveUpOnItem,
        ),
        ("an empty listing body", List, xml(200, ""), Retry),
        ("a web page as listing", List, reply(200, "text/html", "<html><body>Welcome</body></html>"), Retry),
        ("half a listing", List, xml(200, "<ListBucketResult><IsTruncated>false</IsTruncated>"), Retry),
        ("a listing that does not say whether it ends", List, listing(""), Retry),
        ("a listing with an error inside", List, xml(200, error_xml), Retry),
        ("more, but not where", List, listing("<IsTruncated>true</IsTruncated>"), Retry),
        ("a listing in a circle", List, listing(&format!("<IsTruncated>true</IsTruncated>{}", listed("nar/a"))), Retry),
        (
            "a token in a circle",
            List,
            listing("<IsTruncated>true</IsTruncated><NextContinuationToken>t</NextContinuationToken>"),
            Retry,
        ),
        ("another prefix", List, listing(&format!("<IsTruncated>false</IsTruncated>{}", listed("other/a"))), Retry),
        (
            "a negative size",
            List,
            listing(&format!("<IsTruncated>false</IsTruncated>{}", listed("nar/a").replace(">1<", ">-1<"))),
            Retry,
        ),
        (
            "a key that is not UTF-8",
            List,
            listing(&format!("<IsTruncated>false</IsTruncated><EncodingType>url</EncodingType>{}", listed("nar/%ff"))),
            Retry,
        ),
        (
            "an endless listing",
            List,
            format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", 1_u64 << 40),
            GiveUpOnItem,
        ),
        (
            "entities",
            List,
            xml(
                200,
                "<!DOCTYPE a [<!ENTITY a \"aaaa\"><!ENTITY b \"&a;&a;\">]><ListBucketResult><IsTruncated>&b;</IsTruncated></ListBucketResult>",
            ),
            Retry,
        ),
        (
            "an upload without an id",
            Start,
            xml(200, "<InitiateMultipartUploadResult><UploadId></UploadId></InitiateMultipartUploadResult>"),
            Retry,
        ),
        ("a part without an ETag", PutPart, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n".into(), Retry),
        ("a Complete that failed after 200", Finish, xml(200, error_xml), Retry),
        ("a Complete that says nothing", Finish, xml(200, ""), Retry),
        (
            "a Complete that was cut",
            Finish,
            "HTTP/1.1 200 OK\r\nContent-Length: 90\r\n\r\n<CompleteMultipart".into(),
            Retry,
        ),
        ("a copy that failed after 200", Copy, xml(200, error_xml), Retry),
        (
            "parts out of order",
            ListParts,
            xml(
                200,
                "<ListPartsResult><IsTruncated>false</IsTruncated><Part><PartNumber>2</PartNumber><ETag>a</ETag><Size>1</Size></Part><Part><PartNumber>1</PartNumber><ETag>a</ETag><Size>1</Size></Part></ListPartsResult>",
            ),
            Retry,
        ),
        (
            "parts without end",
            ListParts,
            xml(200, "<ListPartsResult><IsTruncated>true</IsTruncated></ListPartsResult>"),
            Retry,
        ),
        (
            "uploads without end",
            ListUploads,
            xml(
                200,
                "<ListMultipartUploadsResult><IsTruncated>true</IsTruncated><NextKeyMarker>a</NextKeyMarker></ListMultipartUploadsResult>",
            ),
            Retry,
        ),
        ("forbidden", Delete, xml(403, "<Error><Code>AccessDenied</Code></Error>"), FixConfig),
        ("404 for a deletion, of the bucket", Delete, xml(404, "<Error><Code>NoSuchBucket</Code></Error>"), FixConfig),
    ];
    for (name, what, answer, remedy) in table {
        let server = Canned::start(answer).await;
        let mut settings = S3Settings::new("c");
        settings.endpoint = Some(server.endpoint.clone());
        settings.access_key = Some(Secret::new("a"));
        settings.secret_key = Some(Secret::new("s3cr3t"));
        let error = match call(&client(&settings), what).await {
            Ok(taken) => panic!("{name}: taken for {taken}"),
            Err(error) => error,
        };
        let text = told(&error);
        assert_eq!(error.remedy(), remedy, "{name}: {text}");
        assert!(text.contains("nar/") && text.contains(&server.endpoint), "{name}: {text}");
        assert!(text.len() < 1500 && !text.contains("s3cr3t"), "{name}: {text}");
    }
}

/// What is odd but right must work.
#[tokio::test]
async fn unusual_answers_are_understood() {
    use Call::*;
    let date = "Last-Modified: Sun, 22 Nov 2026 10:00:00 GMT";
    for (name, what, answer, expected) in [
        (
            "in chunks",
            Get,
            format!("HTTP/1.1 200 OK\r\n{date}\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n"),
            "size: 5",
        ),
        (
            "absent, in words of a namespace",
            Get,
            xml(404, "<?xml version='1.0'?><Error xmlns='urn:x'><Code>NoSuchKey</Code><Else/></Error>"),
            "None",
        ),
        ("absent for a deletion", Delete, xml(404, "<Error><Code>NoSuchKey</Code></Error>"), "()"),
        ("absent for a copy", Copy, xml(404, "<Error><Code>NoSuchKey</Code></Error>"), "false"),
        ("an empty listing", List, listing("<IsTruncated>false</IsTruncated>"), "[]"),
        (
            "unencoded keys",
            List,
            listing(&format!("<IsTruncated>false</IsTruncated>{}", listed("nar/a%2Bb"))),
            "nar/a%2Bb",
        ),
        ("the upload is gone", ListParts, xml(404, "<Error><Code>NoSuchUpload</Code></Error>"), "None"),
        (
            "a prolog and spaces before Complete's answer",
            Finish,
            xml(200, "<?xml version='1.0'?>\n \n \n<CompleteMultipartUploadResult/>"),
            "()",
        ),
    ] {
        let server = Canned::start(answer).await;
        let mut settings = S3Settings::new("c");
        settings.endpoint = Some(server.endpoint.clone());
        settings.access_key = Some(Secret::new("a"));
        settings.secret_key = Some(Secret::new("b"));
        let taken = call(&client(&settings), what).await.unwrap_or_else(|error| panic!("{name}: {}", told(&error)));
        assert!(taken.contains(expected), "{name}: {taken}");
    }
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

#[tokio::test]
async fn a_silent_server_is_given_up() {
    let server = server(Memory::garage()).await;
    let proxy = Proxy::start(&server.endpoint, |_| Action::Silence).await;
    let mut settings = server.settings();
    settings.endpoint = Some(proxy.endpoint.clone());
    let began = Instant::now();
    let size = 16 * 1024 * 30;
    let put = client(&settings).put(&key("a"), body(vec![0; size]), Headers::default()).await.unwrap_err();
    // A minute, and half a minute more for 480 KiB at 16 KiB/s.
    assert!(matches!(put.cause, Cause::Stalled(waited) if waited == Duration::from_secs(90)), "{put:?}");
    assert!(began.elapsed() < Duration::from_secs(10), "the clock was paused");
}

// -- with retries ------------------------------------------------------------------------------------

fn retrying(settings: &S3Settings) -> Retrying<S3> {
    let policy = RetryPolicy { base: Duration::from_millis(1), ..RetryPolicy::default() };
    Retrying::new(client(settings), policy, Arc::new(SystemClock), Arc::new(Silent))
}

/// Applied, but the answer is lost: each kind of change, each way of losing it, is done once and said to be done.
#[tokio::test]
async fn lost_answers_do_no_harm() {
    for lose in [Action::LoseAnswer, Action::ResetAnswer(20), Action::TruncateAnswer(20), Action::TruncateAnswer(0)] {
        let server = server(Memory::garage()).await;
        let action = lose.clone();
        let proxy = Proxy::start(&server.endpoint, move |head| match (head.nth, head.method.as_str()) {
            (0, "PUT" | "POST" | "DELETE") => action.clone(),
            _ => Action::Pass,
        })
        .await;
        let mut settings = server.settings();
        settings.endpoint = Some(proxy.endpoint.clone());
        let bucket = retrying(&settings);
        bucket.put(&key("put"), body("bytes"), Headers::default()).await.unwrap();
        let upload = bucket.start_upload(&key("multipart"), Headers::default()).await.unwrap();
        let parts = [
            bucket.put_part(&upload, 1, body("one ")).await.unwrap(),
            bucket.put_part(&upload, 2, body("two")).await.unwrap(),
        ];
        bucket.finish_upload(&upload, &parts).await.unwrap();
        server.memory.plant("deleted", "x");
        bucket.delete(&key("deleted")).await.unwrap();
        bucket.put_before(&key("in time"), body("x"), Headers::default(), Duration::from_secs(60)).await.unwrap();
        assert!(server.memory.contents().contains_key(&key("in time")));
        let error = bucket.delete_before(&key("in time"), Duration::from_secs(60)).await.unwrap_err();
        assert!(error.is_ambiguous(), "who deletes must know that it may still happen: {error}");
        assert!(bucket.copy(&key("put"), &key("copy"), Headers::default()).await.unwrap());
        let objects = server.memory.contents();
        let found: Vec<_> = objects.iter().map(|(key, bytes)| (key.as_str(), &bytes[..])).collect();
        assert_eq!(found, [("copy", &b"bytes"[..]), ("multipart", b"one two"), ("put", b"bytes")], "{lose:?}");
        let again = bucket.list_uploads(&Prefix::all()).await.unwrap();
        assert_eq!(again.len(), 1, "the first start was lost: {lose:?}");
        bucket.abort_upload(&again[0].0).await.unwrap();
        assert_eq!(server.memory.count(RequestKind::CompleteUpload), 1, "looked before sending again: {lose:?}");
    }
}

/// Garage answers a repeated Complete with "no such upload"; that is success only if the object is there.
#[tokio::test]
async fn a_complete_that_was_not_applied_is_sent_again() {
    let server = server(Memory::garage()).await;
    let proxy = Proxy::start(&server.endpoint, |head| match (head.nth, head.method.as_str()) {
        (0 | 1, "POST") if head.target.contains("uploadId") => Action::Reset,
        _ => Action::Pass,
    })
    .await;
    let mut settings = server.settings();
    settings.endpoint = Some(proxy.endpoint.clone());
    let bucket = retrying(&settings);
    let upload = bucket.start_upload(&key("a"), Headers::default()).await.unwrap();
    let part = bucket.put_part(&upload, 1, body("x")).await.unwrap();
    bucket.finish_upload(&upload, std::slice::from_ref(&part)).await.unwrap();
    assert_eq!(&server.memory.contents()[&key("a")][..], b"x");
    // Repeated as a whole: the upload is gone, the object is there.
    bucket.finish_upload(&upload, std::slice::from_ref(&part)).await.unwrap();
    // Another object under that key is not ours.
    let other = Part { size: 77, ..part.clone() };
    let error = bucket.finish_upload(&upload, &[other]).await.unwrap_err();
    assert!(matches!(error.cause, Cause::NoUpload), "{error:?}");
    server.memory.lose("a");
    let error = bucket.finish_upload(&upload, &[part]).await.unwrap_err();
    assert!(matches!(error.cause, Cause::NoUpload), "{error:?}");
}

#[tokio::test]
async fn flaky_wires_are_ridden_out() {
    let server = server(Memory::garage()).await;
    let counter = Arc::new(AtomicUsize::new(0));
    let proxy = Proxy::start(&server.endpoint, move |_| match counter.fetch_add(1, Ordering::SeqCst) % 8 {
        1 => Action::Reset,
        2 => Action::LoseAnswer,
        3 => Action::TruncateAnswer(60),
        4 => Action::Reply(xml(503, "<Error><Code>SlowDown</Code></Error>")),
        5 => Action::Reply(reply(500, "text/plain", "oops")),
        _ => Action::Pass,
    })
    .await;
    let mut settings = server.settings();
    settings.endpoint = Some(proxy.endpoint.clone());
    let bucket = retrying(&settings);
    for n in 0..40 {
        let name = key(&format!("{n:02}"));
        bucket.put(&name, body(format!("body {n}")), Headers::default()).await.unwrap();
        assert_eq!(bucket.get(&name, 100).await.unwrap().unwrap().1, format!("body {n}"));
    }
    assert_eq!(list_all(&bucket, &Prefix::all()).await.unwrap().len(), 40);
}

/// "No network" is one clear error within seconds.
#[tokio::test]
async fn nobody_there_is_said_soon() {
    let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    for endpoint in [format!("http://{closed}"), "http://no-such-host.invalid:3900".to_owned()] {
        let mut settings = S3Settings::new("c");
        settings.endpoint = Some(endpoint.clone());
        settings.access_key = Some(Secret::new("a"));
        settings.secret_key = Some(Secret::new("b"));
        let (clock, requests): (Arc<dyn Clock>, _) = (Arc::new(SystemClock), Arc::new(Requests::default()));
        let target = Target::S3(settings);
        let bucket = open(&target, &BTreeMap::new(), clock, Arc::new(Silent), requests.clone()).await.unwrap();
        let began = Instant::now();
        let error = bucket.head(&key("a")).await.unwrap_err();
        assert!(began.elapsed() < Duration::from_secs(8), "{:?}", began.elapsed());
        assert!(matches!(error.cause, Cause::Unreachable(_)), "{error:?}");
        let text = told(&error);
        assert!(text.contains(&endpoint) && text.contains("tried 3 times"), "{text}");
        assert_eq!(requests.total(), 3);
    }
}

#[tokio::test]
async fn open_takes_directories() {
    let home = tempfile::tempdir().unwrap();
    let target = Target::Directory(home.path().join("cache"));
    let bucket =
        open(&target, &BTreeMap::new(), Arc::new(SystemClock), Arc::new(Silent), Arc::default()).await.unwrap();
    bucket.put(&key("nar/a"), body("x"), Headers::NAR).await.unwrap();
    assert_eq!(std::fs::read(home.path().join("cache/nar/a")).unwrap(), b"x");
    let _: &dyn Bucket = &Directory::new(home.path().into(), Arc::new(SystemClock));
}
