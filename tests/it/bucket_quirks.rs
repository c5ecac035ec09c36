//! What stores do differently, told by loft's own client.

use crate::support::memory::Memory;
use crate::support::s3_server::S3Server;
use loft::bucket::{Bucket, Key, Lifecycle, LifecycleRule, RequestKind, Requests, S3, S3Settings};
use loft::clock::SystemClock;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::SystemTime;

fn rule(id: &str, prefix: &str) -> LifecycleRule {
    LifecycleRule {
        id: id.to_owned(),
        prefix: prefix.to_owned(),
        expires: Some("after 30 days".to_owned()),
        archives: None,
        aborts_uploads_after: None,
    }
}

fn client(settings: &S3Settings, requests: Arc<Requests>) -> S3 {
    S3::new(settings, &BTreeMap::new(), Arc::new(SystemClock), requests).unwrap()
}

async fn server(mut memory: Memory, rules: &[LifecycleRule]) -> S3Server {
    memory.lifecycle = rules.to_vec();
    memory.clock.set_wall(SystemTime::now());
    S3Server::start(memory).await
}

#[tokio::test]
async fn a_second_put_tells_whether_conditions_are_heeded_and_nothing_stays() {
    for (memory, heeds) in [(Memory::aws(), true), (Memory::garage(), false)] {
        let server = server(memory, &[]).await;
        let requests = Arc::new(Requests::default());
        let quirks = client(&server.settings(), requests.clone()).quirks(&Key::listed("scratch")).await.unwrap();
        assert_eq!(quirks.conditional_writes, Some(heeds));
        assert_eq!(quirks.lifecycle, Lifecycle::default());
        assert!(server.memory.contents().is_empty());
        let of = |kind| requests.of(kind);
        let sent = (of(RequestKind::Put), of(RequestKind::Delete), of(RequestKind::Get), requests.total());
        assert_eq!(sent, (2, 1, 1, 4));
    }
}

#[tokio::test]
async fn lifecycle_rules_are_told_where_they_may_concern_the_cache() {
    let all = [rule("all", ""), rule("team", "team/"), rule("nars", "team/nix/nar/"), rule("other", "other/")];
    let server = server(Memory::garage(), &all).await;
    for (prefix, expected) in [("", &all[..]), ("team/nix", &all[..3]), ("teams", &all[..1])] {
        let mut settings = server.settings();
        settings.prefix = prefix.to_owned();
        let quirks = client(&settings, Arc::default()).quirks(&Key::listed("scratch")).await.unwrap();
        assert_eq!(quirks.lifecycle, Lifecycle::Rules(expected.to_vec()), "{prefix}");
    }
}
