//! The page for browsers: what is in the bucket, nothing of the machines around it, and nobody's markup.

use crate::support::local_cache::LocalCache;
use crate::support::memory::{Fault, Memory, Moment};
use crate::support::pruning::DAY;
use loft::bucket::{Key, RequestKind, S3Settings, Target};
use loft::nix::{KeyName, PublicKey, SecretKey, StorePath};
use loft::page::{self, Page, PageError};
use loft::survey::{Depth, Large, Push, Survey, Week, survey};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

const AT: Duration = Duration::from_secs(1_790_000_000);

fn key() -> PublicKey {
    SecretKey::generate(KeyName::parse("cache-1").unwrap()).unwrap().public()
}

/// Of an empty bucket, to be filled.
async fn nothing() -> Survey {
    let mut found = survey(&Memory::garage(), Depth::Sample).await.unwrap();
    found.at = UNIX_EPOCH + AT;
    found
}

fn path(name: &str) -> StorePath {
    StorePath::parse(&format!("0123456789abcdfghijklmnpqrsvwxyz-{name}")).unwrap()
}

#[tokio::test]
async fn it_tells_what_is_there_and_how_to_use_it() {
    let mut found = nothing().await;
    (found.paths, found.nars, found.stored) = (1234, 1000, 5 << 30);
    found.weeks[0] = Week { count: 10, bytes: 1 << 30 };
    found.weeks[3] = Week { count: 990, bytes: 4 << 30 };
    let large = |name: &str, size| Large {
        key: Key::listed("nar/abc.nar.zst"),
        size,
        modified: SystemTime::now(),
        path: Some(path(name)),
        nar_size: None,
    };
    found.largest = vec![large("firefox-1.0", 300 << 20), large("hello-2.12", 150 << 20)];
    let push =
        Push { at: found.at, who: "ann@secret-host".into(), pushed: 7, present: 3, roots: vec![path("hello-2.12")] };
    found.pushes = vec![push];
    let mut settings = S3Settings::new("nix-cache");
    settings.endpoint = Some("http://inside:3900".into());
    settings.profile = Some("my-profile".into());
    let key = key();
    let page = Page::new(&Target::S3(settings.clone()), Some("https://cache.example.org"), vec![key.clone()]);
    let html = page::html(&found, &page);
    for told in ["1234", "5.00 GiB", "firefox-1.0", "300 MiB", "width:50.0%", "7 new", "2026-08-24: 0 B", "2026-09-21 "]
    {
        assert!(html.contains(told), "{told} is not in {html}");
    }
    assert!(html.contains("extra-substituters = https://cache.example.org\n"), "{html}");
    // Base64 has characters that HTML does not care for, and some that are escaped.
    assert!(html.contains(&key.to_string()), "{html}");
    // Nothing of who pushed and from where, and nobody is asked for anything.
    for private in ["ann", "secret-host", "inside", "my-profile", "<script", "<link", "<img", "src=", "url(", "@import"]
    {
        assert!(!html.contains(private), "{private} is in {html}");
    }
    // Without a public address, those who may read have their own credentials.
    let html = page::html(&found, &Page::new(&Target::S3(settings), None, vec![key.clone()]));
    assert!(
        html.contains("s3://nix-cache?endpoint=inside:3900&amp;scheme=http\n") && !html.contains("my-profile"),
        "{html}"
    );
    // A directory of this machine is nobody else's.
    let html = page::html(&found, &Page::new(&Target::Directory("/srv/mine".into()), None, vec![key]));
    assert!(!html.contains("/srv/mine") && !html.contains("To use it"), "{html}");
}

#[tokio::test]
async fn markup_in_a_bucket_is_shown_not_heeded() {
    let mut found = nothing().await;
    let hostile = "nar/\"'><script>alert(1)</script>&amp;.nar";
    found.largest = vec![Large { key: Key::listed(hostile), size: 0, modified: found.at, path: None, nar_size: None }];
    let url = "https://x/'\"><script>alert(2)</script>&";
    let page = Page::new(&Target::Directory("/c".into()), Some(url), vec![key()]);
    let html = page::html(&found, &page);
    assert!(html.contains("&lt;script&gt;alert(1)") && html.contains("&lt;script&gt;alert(2)"), "{html}");
    assert!(!html.contains("<script") && !html.contains("'>") && html.contains("&amp;amp;.nar"), "{html}");
    let tags = html.matches("</").count();
    assert_eq!(html.matches('<').count() - tags, html.matches('>').count() - tags, "{html}");
}

#[tokio::test]
async fn another_index_is_never_written_over() {
    let bucket = Memory::garage();
    bucket.plant("index.html", "<h1>Ours</h1>");
    let result = page::write(&bucket, &Page::default()).await;
    assert!(matches!(&result, Err(PageError::Foreign { .. })), "{result:?}");
    assert_eq!(bucket.object("index.html").unwrap(), "<h1>Ours</h1>");
    bucket.plant("index.html", vec![b' '; 2 << 20]);
    assert!(matches!(page::write(&bucket, &Page::default()).await, Err(PageError::Foreign { .. })));
    // Could not look is no permission.
    let bucket = Memory::garage();
    bucket.set_faults(|moment, sent| {
        (moment == Moment::Before && sent.kind == RequestKind::Head).then_some(Fault::Unavailable(None))
    });
    assert!(matches!(page::write(&bucket, &Page::default()).await, Err(PageError::Bucket(_))));
    bucket.clear_hook();
    assert_eq!(bucket.object("index.html"), None);
    page::write(&bucket, &Page::default()).await.unwrap();
    page::write(&bucket, &Page::default()).await.unwrap();
    assert!(bucket.object("index.html").unwrap().starts_with(b"<!DOCTYPE html>"));
}

#[test]
fn prunes_write_it_where_it_is_asked_for_and_nobody_minds_it() {
    let cache = LocalCache::new("status_page = true\npublic_url = \"https://cache.example.org\"");
    let old = cache.store.add("old").file("f", "old").finish();
    let kept = cache.store.add("kept").file("f", "kept").finish();
    cache.push(&[&old]);
    cache.pass(40 * DAY);
    cache.push(&[&kept]);
    cache.run(0, &["prune", "--dry-run"]);
    assert_eq!(cache.keys("index.html"), Vec::<String>::new());
    cache.run(0, &["prune"]);
    let page = || std::fs::read_to_string(cache.at("index.html")).unwrap();
    assert!(page().contains("<dd>1</dd>") && page().contains("kept"), "{}", page());
    // It is part of the cache for checks and for later prunes.
    cache.pass(40 * DAY);
    cache.run(0, &["check"]);
    let other = cache.store.add("other").file("f", "other").finish();
    cache.push(&[&other]);
    cache.run(0, &["prune", "--retention", "90"]);
    assert!(page().contains("<dd>2</dd>"), "{}", page());

    std::fs::write(cache.at("index.html"), "mine").unwrap();
    cache.run(0, &["prune"]).tells(&[
        "warning: index.html of file://",
        "was not written by loft",
        "status_page = false",
    ]);
    assert_eq!(page(), "mine");
}

#[test]
fn without_being_asked_for_there_is_none() {
    let cache = LocalCache::new("");
    let kept = cache.store.add("kept").file("f", "kept").finish();
    cache.push(&[&kept]);
    cache.run(0, &["prune"]);
    assert_eq!(cache.keys("index.html"), Vec::<String>::new());
}
