//! TLS: who is trusted, and what is said where nobody is.

use super::{body, client, key, server, told};
use crate::support::memory::Memory;
use crate::support::tls::TlsProxy;
use bytes::Bytes;
use loft::bucket::{Body, Bucket, Cause, Headers, S3, S3Settings};
use loft::clock::SystemClock;
use loft::nix::Sha256;
use loft::remedy::Remedy;
use std::collections::BTreeMap;
use std::sync::Arc;

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
