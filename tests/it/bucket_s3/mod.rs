//! The S3 client on the wire: what it sends, and what it makes of answers, good and hostile.

mod answers;
mod certificates;
mod refusals;
mod requests;
mod trouble;

use crate::support::memory::Memory;
use crate::support::s3_server::S3Server;
use crate::support::wire_faults::reply;
use bytes::Bytes;
use loft::bucket::{Body, Bucket, BucketError, Directory, Headers, Key, S3, S3Settings, Target, open};
use loft::clock::SystemClock;
use loft::nix::Sha256;
use loft::report::Silent;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::SystemTime;

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

fn xml(status: u16, body: &str) -> String {
    reply(status, "application/xml", body)
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
