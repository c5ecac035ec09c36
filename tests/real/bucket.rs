//! The bucket's contract, kept by loft's own client on real servers.

#[path = "../it/bucket_contract.rs"]
mod bucket_contract;

use crate::support::garage::Garage;
use crate::support::s3::Bucket;
use crate::support::seaweed::SeaweedFs;
use bucket_contract::{Subject, keeps_the_contract};
use loft::bucket::{Key, Lifecycle, Prefix, Quirks, Requests, S3, S3Settings, Secret, list_all};
use loft::clock::SystemClock;
use std::collections::BTreeMap;
use std::sync::Arc;

fn settings(bucket: &Bucket) -> S3Settings {
    let mut settings = S3Settings::new(&bucket.name);
    settings.endpoint = Some(bucket.endpoint.clone());
    settings.region = Some(bucket.region.clone());
    settings.access_key = Some(Secret::new(&bucket.access_key));
    settings.secret_key = Some(Secret::new(&bucket.secret_key));
    settings
}

fn subject(settings: &S3Settings) -> Subject {
    let s3 = S3::new(settings, &BTreeMap::new(), Arc::new(SystemClock), Arc::new(Requests::default()));
    Subject {
        bucket: Arc::new(s3.expect("a client")),
        base: "contract/".to_owned(),
        checks_digests: true,
        wants_large_parts: false,
        sorts_by_bytes: true,
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs Garage: ./test --full"]
async fn garage_keeps_the_contract() {
    let garage = tokio::task::block_in_place(Garage::start);
    let mut settings = settings(&garage.bucket);
    keeps_the_contract(&subject(&settings)).await;
    settings.prefix = "team a/nix+".to_owned();
    keeps_the_contract(&subject(&settings)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs Garage: ./test --full"]
async fn garage_tells_what_it_does_differently() {
    let garage = tokio::task::block_in_place(Garage::start);
    let client = subject(&settings(&garage.bucket)).bucket;
    let scratch = Key::listed("contract/scratch");
    let quirks = client.quirks(&scratch).await.unwrap();
    assert_eq!(quirks, Quirks { conditional_writes: Some(false), lifecycle: Lifecycle::Rules(Vec::new()) });

    let rules = "<LifecycleConfiguration><Rule><ID>old</ID><Status>Enabled</Status><Filter><Prefix>nar/</Prefix></Filter>\
                 <Expiration><Days>90</Days></Expiration></Rule><Rule><ID>parts</ID><Status>Enabled</Status><Filter/>\
                 <AbortIncompleteMultipartUpload><DaysAfterInitiation>3</DaysAfterInitiation>\
                 </AbortIncompleteMultipartUpload></Rule></LifecycleConfiguration>";
    tokio::task::block_in_place(|| garage.bucket.set("lifecycle", rules));
    let Lifecycle::Rules(rules) = client.quirks(&scratch).await.unwrap().lifecycle else { panic!("no rules") };
    let told: Vec<_> =
        rules.iter().map(|rule| (rule.prefix.as_str(), rule.expires.as_deref(), rule.aborts_uploads_after)).collect();
    assert_eq!(told, [("nar/", Some("after 90 days"), None), ("", None, Some(3))]);
    assert_eq!(list_all(client.as_ref(), &Prefix::all()).await.unwrap(), []);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs SeaweedFS: ./test --full"]
async fn seaweedfs_tells_what_it_does_differently() {
    let server = tokio::task::block_in_place(SeaweedFs::start);
    let client = subject(&settings(&server.bucket)).bucket;
    let quirks = client.quirks(&Key::listed("contract/scratch")).await.unwrap();
    assert_eq!(quirks, Quirks { conditional_writes: Some(true), lifecycle: Lifecycle::Rules(Vec::new()) });
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs SeaweedFS: ./test --full"]
async fn seaweedfs_keeps_the_contract() {
    let server = tokio::task::block_in_place(SeaweedFs::start);
    let subject = subject(&settings(&server.bucket));
    // It signs over the payload's hash without comparing it with the payload, and lists folders first.
    let seaweed = Subject { checks_digests: false, wants_large_parts: true, sorts_by_bytes: false, ..subject };
    keeps_the_contract(&seaweed).await;
}
