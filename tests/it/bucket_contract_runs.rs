//! The contract suite on everything that needs no other program.

use crate::bucket_contract::{Subject, keeps_the_contract};
use crate::support::memory::Memory;
use crate::support::s3_server::S3Server;
use loft::bucket::{Bucket, Directory, Requests, S3};
use loft::clock::SystemClock;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::SystemTime;

fn subject(bucket: impl Bucket + 'static) -> Subject {
    Subject {
        bucket: Arc::new(bucket),
        base: "t/".to_owned(),
        checks_digests: true,
        wants_large_parts: false,
        sorts_by_bytes: true,
    }
}

#[tokio::test]
async fn memory_as_garage() {
    keeps_the_contract(&subject(Memory::garage())).await;
}

#[tokio::test]
async fn memory_as_aws() {
    keeps_the_contract(&Subject { wants_large_parts: true, ..subject(Memory::aws()) }).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn directory() {
    let home = tempfile::tempdir().unwrap();
    let directory = Directory::with_page_size(home.path().join("cache"), Arc::new(SystemClock), 100);
    keeps_the_contract(&Subject { checks_digests: false, ..subject(directory) }).await;
}

async fn s3(memory: Memory, prefix: &str) -> (S3Server, Subject) {
    memory.clock.set_wall(SystemTime::now());
    let server = S3Server::start(memory).await;
    let mut settings = server.settings();
    settings.prefix = prefix.to_owned();
    let s3 = S3::new(&settings, &BTreeMap::new(), Arc::new(SystemClock), Arc::new(Requests::default())).unwrap();
    (server, subject(s3))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn s3_client() {
    let (_server, subject) = s3(Memory::garage(), "").await;
    keeps_the_contract(&subject).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn s3_client_below_a_prefix_on_a_strict_server() {
    let (server, subject) = s3(Memory::aws(), "/team a/nix+/").await;
    keeps_the_contract(&Subject { wants_large_parts: true, ..subject }).await;
    assert!(server.memory.objects().keys().all(|key| key.as_str().starts_with("team a/nix+/t/")));
}
