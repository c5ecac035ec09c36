//! What a bad network does: answers that are lost, wires that break, nobody there.

use super::{body, client, key, server, told, xml};
use crate::support::memory::Memory;
use crate::support::wire_faults::{Action, Proxy, reply};
use loft::bucket::{
    Bucket, Cause, Headers, Part, Prefix, RequestKind, Requests, RetryPolicy, Retrying, S3, S3Settings, Secret, Target,
    list_all, open,
};
use loft::clock::{Clock, SystemClock};
use loft::report::Silent;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

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
