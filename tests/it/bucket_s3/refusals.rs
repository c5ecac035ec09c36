//! A refusal says what is wrong, and is never taken for "absent".

use super::{body, client, key, server, told};
use crate::support::memory::{Fault, Memory, Moment};
use loft::bucket::{Bucket, Headers, Prefix, Requests, S3, S3Settings, Secret};
use loft::clock::SystemClock;
use loft::remedy::Remedy;
use std::collections::BTreeMap;
use std::sync::Arc;

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
