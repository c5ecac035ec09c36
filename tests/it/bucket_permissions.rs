//! What credentials may do, as `permissions::probe` finds it out, and that it leaves nothing.

use crate::support::memory::{Fault, Memory, Moment};
use crate::support::s3_server::S3Server;
use crate::support::wire_faults::{self, Proxy};
use loft::bucket::permissions::{Action, Oddity, Permissions, Verdict, Why, probe};
use loft::bucket::{Bucket, Directory, Key, RequestKind, S3, S3Settings, Secret};
use loft::clock::SystemClock;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

const PATIENCE: Duration = Duration::from_secs(10);

fn client(settings: &S3Settings) -> S3 {
    S3::new(settings, &BTreeMap::new(), Arc::new(SystemClock), Arc::default()).unwrap()
}

async fn server(memory: Memory) -> S3Server {
    memory.clock.set_wall(SystemTime::now());
    S3Server::start(memory).await
}

async fn tried(bucket: &dyn Bucket) -> Permissions {
    probe(bucket, SystemTime::now(), PATIENCE).await
}

/// Denies every request of this kind.
fn denying(memory: &Memory, denied: &'static [RequestKind]) {
    memory.set_faults(move |moment, request| {
        (moment == Moment::Before && denied.contains(&request.kind)).then_some(Fault::Denied)
    });
}

fn denied(permissions: &Permissions) -> Vec<Action> {
    permissions.failures().map(|(action, why, _)| (why == Why::Denied).then_some(action).unwrap()).collect()
}

fn untried(permissions: &Permissions) -> Vec<Action> {
    let untried = |verdict: &Verdict| matches!(verdict, Verdict::Untried(_));
    permissions.verdicts.iter().filter(|(_, verdict)| untried(verdict)).map(|(action, _)| *action).collect()
}

#[tokio::test]
async fn who_may_do_everything_hears_so_and_nothing_stays() {
    for memory in [Memory::aws(), Memory::garage()] {
        let server = server(memory).await;
        let permissions = tried(&client(&server.settings())).await;
        assert!(permissions.all_allowed(), "{permissions:?}");
        assert_eq!((permissions.odd, permissions.left_behind), (vec![], vec![]));
        assert!(server.memory.contents().is_empty() && server.memory.open_parts().is_empty());
        assert!(server.seen().iter().all(|seen| !seen.path.contains(".narinfo") && !seen.path.contains("/nar/")));
    }
    let folder = tempfile::tempdir().unwrap();
    let permissions = tried(&Directory::new(folder.path().to_owned(), Arc::new(SystemClock))).await;
    assert!(permissions.all_allowed(), "{permissions:?}");
    let files = walkdir(folder.path());
    assert!(files.is_empty(), "{files:?}");
}

fn walkdir(folder: &std::path::Path) -> Vec<std::path::PathBuf> {
    let entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    entries.flat_map(|path| if path.is_dir() { walkdir(&path) } else { vec![path] }).collect()
}

#[tokio::test]
async fn each_denied_request_is_named_and_the_others_are_tried() {
    use Action::{AbortUpload, Delete, EndLease, FinishUpload, Get, Head, List, ListParts, ListUploads, Put, PutPart};
    use Action::{StartUpload, TimedDelete, TimedPut};
    let cases: [(&'static [RequestKind], &[Action], &[Action]); 8] = [
        (&[RequestKind::Put], &[Put, TimedPut], &[]),
        (&[RequestKind::Get], &[Get], &[]),
        (&[RequestKind::Head], &[Head], &[]),
        (&[RequestKind::List], &[List], &[]),
        (&[RequestKind::ListUploads], &[ListUploads], &[]),
        (&[RequestKind::AbortUpload], &[AbortUpload], &[]),
        (&[RequestKind::CreateUpload], &[StartUpload], &[PutPart, ListParts, FinishUpload, AbortUpload]),
        (&[RequestKind::Delete], &[Delete, EndLease, TimedDelete], &[]),
    ];
    for (kinds, expected, not_tried) in cases {
        let server = server(Memory::aws()).await;
        denying(&server.memory, kinds);
        let permissions = tried(&client(&server.settings())).await;
        assert_eq!(
            (denied(&permissions).as_slice(), untried(&permissions).as_slice()),
            (expected, not_tried),
            "{kinds:?}"
        );
        assert_eq!(permissions.odd, [], "{kinds:?}");
        assert_eq!(permissions.obstacle().map(|(why, _)| why), None);
        let words = permissions.verdicts[&expected[0]].words().unwrap();
        // The answer to a HEAD has no words.
        assert!(words.contains("403") && (words.contains("AccessDenied") || expected == [Head]), "{words}");
        // What may be deleted is.
        assert!(permissions.left_behind.iter().all(|key| key.as_str().starts_with("loft/v1/probe/")));
        let stays = server.memory.contents().len() + server.memory.open_parts().len();
        assert_eq!(stays, permissions.left_behind.len(), "{kinds:?}: {permissions:?}");
        assert_eq!(stays > 0, kinds == [RequestKind::Delete] || kinds == [RequestKind::AbortUpload], "{kinds:?}");
    }
}

#[tokio::test]
async fn read_only_credentials_are_seen_reading_what_is_there() {
    let server = server(Memory::garage()).await;
    server.memory.plant("nix-cache-info", "StoreDir: /nix/store\n");
    denying(&server.memory, &[RequestKind::Put, RequestKind::CreateUpload, RequestKind::Delete]);
    let permissions = tried(&client(&server.settings())).await;
    assert!([Action::Get, Action::Head, Action::List].into_iter().all(|action| permissions.allows(action)));
    assert!(!permissions.allows(Action::Put) && permissions.left_behind.is_empty());
    assert_eq!(server.memory.contents().len(), 1);
}

#[tokio::test]
async fn an_obstacle_to_everything_is_told_once() {
    let server = server(Memory::garage()).await;
    let change = |change: &dyn Fn(&mut S3Settings)| {
        let mut settings = server.settings();
        change(&mut settings);
        settings
    };
    let closed = {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        format!("http://{}", listener.local_addr().unwrap())
    };
    let login = Proxy::demanding(&server.endpoint, "x-pass", "v").await;
    let page = Proxy::start(&server.endpoint, |_| {
        wire_faults::Action::Reply(wire_faults::reply(404, "text/html", "<html>Not found</html>"))
    })
    .await;
    for (settings, expected, words) in [
        (change(&|s| s.bucket = "elsewhere".into()), Why::NoBucket, "404 NoSuchBucket: no such bucket"),
        (change(&|s| s.region = Some("eu-9".into())), Why::WrongRegion, "400 AuthorizationHeaderMalformed"),
        (change(&|s| s.secret_key = Some(Secret::new("wrong"))), Why::Credentials, "403 SignatureDoesNotMatch"),
        (change(&|s| s.access_key = Some(Secret::new("GKwrong"))), Why::Credentials, "403 InvalidAccessKeyId"),
        (change(&|s| s.endpoint = Some(closed.clone())), Why::Unreachable, "refused"),
        (change(&|s| s.endpoint = Some(login.endpoint.clone())), Why::NotS3, "403"),
        (change(&|s| s.endpoint = Some(page.endpoint.clone())), Why::NotS3, "404"),
    ] {
        let permissions = tried(&client(&settings)).await;
        let failures: Vec<_> = permissions.failures().map(|(action, why, _)| (action, why)).collect();
        assert_eq!(failures, [(Action::Delete, expected)]);
        assert_eq!(untried(&permissions).len(), Action::ALL.len() - 1);
        let says = permissions.verdicts[&Action::Delete].words().unwrap();
        assert!(says.contains(words), "{says}");
        assert_eq!(permissions.left_behind, []);
    }
    assert!(server.memory.contents().is_empty());
}

#[tokio::test]
async fn a_server_that_says_nothing_is_not_waited_for() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut settings = S3Settings::new("nix-cache");
    settings.endpoint = Some(format!("http://{}", listener.local_addr().unwrap()));
    settings.access_key = Some(Secret::new("a"));
    settings.secret_key = Some(Secret::new("b"));
    let began = Instant::now();
    let permissions = probe(&client(&settings), SystemTime::now(), Duration::from_millis(200)).await;
    assert_eq!(permissions.obstacle().map(|(why, _)| why), Some(Why::Unreachable));
    assert!(began.elapsed() < Duration::from_secs(5));
}

/// As docs/providers.md grants it to pushers.
#[tokio::test]
async fn a_pusher_may_delete_leases_alone_and_leaves_one_object_for_good() {
    let server = server(Memory::aws()).await;
    server.memory.set_faults(|moment, request| {
        let denied = request.kind == RequestKind::Delete && !request.on.starts_with("loft/v1/lease/");
        (moment == Moment::Before && denied).then_some(Fault::Denied)
    });
    for _ in 0..2 {
        let permissions = tried(&client(&server.settings())).await;
        assert_eq!(denied(&permissions), [Action::Delete, Action::TimedDelete]);
        assert_eq!(permissions.left_behind, [Key::kept_probe()]);
        assert_eq!(server.memory.contents().keys().collect::<Vec<_>>(), [&Key::kept_probe()]);
        assert!(server.memory.open_parts().is_empty());
    }
}

/// The answer is lost, the object is there: it is removed all the same.
#[tokio::test]
async fn what_may_have_landed_is_removed() {
    let server = server(Memory::aws()).await;
    server.memory.set_faults(|moment, request| {
        (moment == Moment::After && request.kind == RequestKind::Put).then_some(Fault::Unavailable(None))
    });
    let permissions = tried(&client(&server.settings())).await;
    let failures: Vec<_> = permissions.failures().map(|(action, why, _)| (action, why)).collect();
    assert_eq!(failures, [(Action::Put, Why::Other), (Action::TimedPut, Why::Other)]);
    assert!(server.memory.contents().is_empty() && permissions.left_behind.is_empty());
}

#[tokio::test]
async fn promises_that_are_not_kept_are_told() {
    let server = server(Memory::garage()).await;
    let stale = Proxy::start(&server.endpoint, |head| match (head.method.as_str(), head.target.as_str()) {
        ("GET", target) if target.contains("list-type") => wire_faults::Action::Reply(wire_faults::reply(
            200,
            "application/xml",
            "<ListBucketResult><IsTruncated>false</IsTruncated></ListBucketResult>",
        )),
        ("GET", target) if target.contains("/probe/") => wire_faults::Action::Reply(
            "HTTP/1.1 200 OK\r\nLast-Modified: Sun, 22 Nov 2026 10:00:00 GMT\r\nETag: \"e\"\r\nContent-Length: 3\r\n\r\nold"
                .to_owned(),
        ),
        _ => wire_faults::Action::Pass,
    })
    .await;
    let mut settings = server.settings();
    settings.endpoint = Some(stale.endpoint.clone());
    let permissions = tried(&client(&settings)).await;
    // A list of parts is answered so as well: it has the key in its path.
    let mut odd = permissions.odd;
    odd.retain(|odd| !matches!(odd, Oddity::UploadNotListed(_)));
    assert_eq!(odd, [Oddity::Changed(Action::Get), Oddity::NotListed, Oddity::StillThere]);
    assert!(server.memory.contents().is_empty());
}

#[tokio::test]
async fn a_directory_that_cannot_be_made_is_no_bucket() {
    let folder = tempfile::tempdir().unwrap();
    let directory = Directory::new(folder.path().join("mount/cache"), Arc::new(SystemClock));
    let permissions = tried(&directory).await;
    assert_eq!(permissions.obstacle().map(|(why, _)| why), Some(Why::NoBucket));
    assert!(std::fs::read_dir(folder.path()).unwrap().next().is_none());
}
