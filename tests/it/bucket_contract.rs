//! What every bucket promises, whatever is behind it: one suite for the fakes, a directory, the S3
//! client against a server in this process, and (from `tests/real`) real servers.
//!
//! Each case works below a prefix of its own, so that a shared bucket may be used.

use bytes::Bytes;
use futures_util::future::join_all;
use futures_util::stream::{self, StreamExt};
use loft::bucket::{Body, Bucket, Cause, Headers, Key, Part, Prefix, list_all};
use loft::nix::Sha256;
use std::sync::Arc;
use std::time::Duration;

/// A bucket and what is known to differ between them.
pub struct Subject {
    pub bucket: Arc<dyn Bucket>,
    /// Stands before every key of this run; ends in a slash.
    pub base: String,
    /// Compares a body with its digest.
    pub checks_digests: bool,
    /// Parts but the last must have 5 MiB.
    pub wants_large_parts: bool,
    /// Lists in the order of the keys' bytes.
    pub sorts_by_bytes: bool,
}

const MIB: usize = 1 << 20;

fn body(bytes: impl Into<Bytes>) -> Body {
    let bytes = bytes.into();
    Body { sha256: Some(Sha256::of(&bytes)), bytes }
}

/// Bytes that no compression or deduplication makes smaller, and that differ by seed.
fn noise(size: usize, seed: u64) -> Bytes {
    let mut state = seed.wrapping_mul(2).wrapping_add(1);
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state as u8
    };
    (0..size).map(|_| next()).collect::<Vec<u8>>().into()
}

struct Case<'a> {
    subject: &'a Subject,
    base: String,
}

impl Case<'_> {
    fn key(&self, name: &str) -> Key {
        Key::listed(format!("{}{name}", self.base))
    }

    fn prefix(&self, name: &str) -> Prefix {
        Prefix::listed(format!("{}{name}", self.base))
    }

    fn bucket(&self) -> &dyn Bucket {
        self.subject.bucket.as_ref()
    }

    async fn put(&self, name: &str, bytes: impl Into<Bytes>) {
        self.bucket().put(&self.key(name), body(bytes), Headers::default()).await.unwrap();
    }

    async fn get(&self, name: &str) -> Option<Bytes> {
        self.bucket().get(&self.key(name), u64::MAX).await.unwrap().map(|(_, bytes)| bytes)
    }

    /// Names listed below `prefix`.
    async fn listed(&self, prefix: &str) -> Vec<String> {
        let objects = list_all(self.bucket(), &self.prefix(prefix)).await.unwrap();
        objects.iter().map(|object| object.key.as_str().strip_prefix(&self.base).unwrap().to_owned()).collect()
    }
}

/// Runs everything; a failure names its case.
pub async fn keeps_the_contract(subject: &Subject) {
    macro_rules! cases {
        ($($name:ident),* $(,)?) => { $(
            eprintln!("{}: {}", subject.bucket.describe(), stringify!($name));
            $name(Case { subject, base: format!("{}{}/", subject.base, stringify!($name)) }).await;
        )* };
    }
    cases!(
        absent_is_said_not_guessed,
        what_was_put_is_seen_by_all,
        a_put_replaces,
        empty_objects_exist,
        odd_names_are_kept,
        names_that_leave_the_bucket_are_refused,
        get_is_bounded,
        ranges_end_with_the_object,
        listings_turn_their_pages,
        prefixes_are_plain_text,
        parts_become_one_object,
        unfinished_uploads_are_known,
        aborted_uploads_are_gone,
        wrong_parts_make_nothing_visible,
        copies_are_new_objects,
        deletions_have_deadlines,
        puts_have_deadlines,
        damaged_bodies_are_refused,
        many_requests_at_once,
        objects_are_never_seen_in_part,
        the_clock_is_right,
    );
}

async fn absent_is_said_not_guessed(case: Case<'_>) {
    let (bucket, key) = (case.bucket(), case.key("absent"));
    bucket.check_access().await.unwrap();
    assert_eq!(bucket.head(&key).await.unwrap(), None);
    assert_eq!(bucket.get(&key, 10).await.unwrap(), None);
    assert_eq!(bucket.get_range(&key, 0, 10).await.unwrap(), None);
    assert_eq!(bucket.get_range(&key, 5, 0).await.unwrap(), None);
    bucket.delete(&key).await.unwrap();
    assert!(case.listed("").await.is_empty());
    let page = bucket.list(&case.prefix(""), None).await.unwrap();
    assert!(page.objects.is_empty() && page.next.is_none());
}

async fn what_was_put_is_seen_by_all(case: Case<'_>) {
    let (bucket, key) = (case.bucket(), case.key("object"));
    bucket.put(&key, body("hello"), Headers::NAR_INFO).await.unwrap();
    let head = bucket.head(&key).await.unwrap().unwrap();
    let (got, bytes) = bucket.get(&key, 100).await.unwrap().unwrap();
    assert_eq!(&bytes[..], b"hello");
    let page = bucket.list(&case.prefix("ob"), None).await.unwrap();
    let [listed] = &page.objects[..] else { panic!("{page:?}") };
    for info in [&head, &got, listed] {
        assert_eq!((&info.key, info.size), (&key, 5));
        assert_eq!(info.etag, head.etag);
        let seconds = |a: std::time::SystemTime, b: std::time::SystemTime| a.duration_since(b).unwrap_or_default();
        let apart = seconds(info.modified, head.modified) + seconds(head.modified, info.modified);
        assert!(apart < Duration::from_secs(1), "{info:?} {head:?}");
        let now = bucket.now().await.unwrap();
        let age = seconds(now, info.modified) + seconds(info.modified, now);
        assert!(age < Duration::from_secs(60), "{age:?}");
    }
    bucket.delete(&key).await.unwrap();
    assert_eq!(bucket.head(&key).await.unwrap(), None);
    assert_eq!(case.get("object").await, None);
    assert!(case.listed("").await.is_empty());
}

async fn a_put_replaces(case: Case<'_>) {
    case.put("a", "a longer text").await;
    let before = case.bucket().head(&case.key("a")).await.unwrap().unwrap();
    case.put("a", "short").await;
    assert_eq!(case.get("a").await.unwrap(), "short");
    let after = case.bucket().head(&case.key("a")).await.unwrap().unwrap();
    assert_ne!(before.etag, after.etag);
    assert_eq!(case.listed("").await, ["a"]);
    // Without a digest as well.
    case.bucket().put(&case.key("a"), Body::from(Bytes::from("third")), Headers::default()).await.unwrap();
    assert_eq!(case.get("a").await.unwrap(), "third");
}

async fn empty_objects_exist(case: Case<'_>) {
    case.put("empty", "").await;
    assert_eq!(case.bucket().head(&case.key("empty")).await.unwrap().unwrap().size, 0);
    assert_eq!(case.get("empty").await.unwrap(), "");
    assert_eq!(case.bucket().get_range(&case.key("empty"), 0, 10).await.unwrap().unwrap(), "");
}

/// Store names may hold `?=+`, pins what users type. (No backslash: SeaweedFS takes it for a slash.)
async fn odd_names_are_kept(case: Case<'_>) {
    let mut names = [
        "log/abc-gtk+3-1.2?x=y_z.drv",
        "pin/ä ö/1",
        "pin/a~b!c'(d)*,;:@&=$/1",
        "pin/%41%2F/1",
        "pin/a\"b<c>d&e/1",
        "pin/#x/1",
    ];
    for name in names {
        case.put(name, name.to_owned()).await;
    }
    for name in names {
        assert_eq!(case.get(name).await.unwrap(), name, "{name}");
        assert_eq!(case.bucket().head(&case.key(name)).await.unwrap().unwrap().size, name.len() as u64, "{name}");
    }
    names.sort_unstable();
    assert_eq!(case.listed("").await, names);
    for name in names {
        case.bucket().delete(&case.key(name)).await.unwrap();
    }
    assert!(case.listed("").await.is_empty());
}

async fn names_that_leave_the_bucket_are_refused(case: Case<'_>) {
    for name in ["../x", "a/../../x", "./x", "a//b", "a/", ""] {
        let key = match name {
            "" => Key::listed(""),
            "../x" => Key::listed("../x"),
            name => case.key(name),
        };
        let put = case.bucket().put(&key, body("x"), Headers::default()).await.unwrap_err();
        assert!(matches!(put.cause, Cause::Key(_)), "{name}: {put:?}");
        let head = case.bucket().head(&key).await.unwrap_err();
        assert!(matches!(head.cause, Cause::Key(_)), "{name}: {head:?}");
        let delete = case.bucket().delete(&key).await.unwrap_err();
        assert!(matches!(delete.cause, Cause::Key(_)), "{name}: {delete:?}");
    }
}

async fn get_is_bounded(case: Case<'_>) {
    case.put("ten", "0123456789").await;
    assert_eq!(case.bucket().get(&case.key("ten"), 10).await.unwrap().unwrap().1.len(), 10);
    let error = case.bucket().get(&case.key("ten"), 9).await.unwrap_err();
    assert!(matches!(error.cause, Cause::TooLarge { limit: 9 }), "{error:?}");
}

async fn ranges_end_with_the_object(case: Case<'_>) {
    case.put("ten", "0123456789").await;
    for (offset, length, expected) in
        [(0, 4, "0123"), (3, 4, "3456"), (8, 100, "89"), (0, 100, "0123456789"), (10, 5, ""), (99, 5, ""), (3, 0, "")]
    {
        let found = case.bucket().get_range(&case.key("ten"), offset, length).await.unwrap().unwrap();
        assert_eq!(found, expected, "{offset} {length}");
    }
}

/// More than one page on every server, and a folder in the middle that callers skip.
async fn listings_turn_their_pages(case: Case<'_>) {
    let mut names: Vec<String> = (0..1005).map(|n| format!("m{n:04}")).collect();
    names.extend((0..7).map(|n| format!("nar/{n}")));
    names.extend((0..5).map(|n| format!("z{n}")));
    stream::iter(&names).for_each_concurrent(32, |name| case.put(name, "x")).await;
    assert_eq!(case.listed("").await, names);

    let mut paged = Vec::new();
    let mut after: Option<String> = None;
    for _ in 0..=names.len() {
        let page = case.bucket().list(&case.prefix(""), after.as_deref()).await.unwrap();
        paged.extend(page.objects.iter().map(|object| object.key.as_str()[case.base.len()..].to_owned()));
        if let Some(next) = &page.next {
            assert_eq!(page.objects.last().unwrap().key.as_str(), next, "the last key leads on");
        }
        after = page.next;
        if after.is_none() {
            break;
        }
    }
    if case.subject.sorts_by_bytes {
        assert_eq!(paged, names);
    } else {
        paged.sort_unstable();
        assert_eq!(paged, names);
    }

    for (after, expected) in [("m1003", vec!["m1004"]), ("m1003x", vec!["m1004"]), ("m1004", vec![])] {
        let after = format!("{}{after}", case.base);
        let page = case.bucket().list(&case.prefix("m"), Some(&after)).await.unwrap();
        let found: Vec<_> = page.objects.iter().map(|object| &object.key.as_str()[case.base.len()..]).collect();
        assert_eq!(found, expected, "{after}");
    }
    let past = Key::listed(format!("{}nar", case.base));
    let past = format!("{}0", past.as_str());
    let page = case.bucket().list(&case.prefix(""), Some(&past)).await.unwrap();
    assert_eq!(page.objects.len(), 5, "a listing may skip a folder");
    let delete = async |name: &String| case.bucket().delete(&case.key(name)).await.unwrap();
    stream::iter(&names).for_each_concurrent(32, delete).await;
}

/// Not folders. (One name as object and folder at once is left out: no directory can, and loft never does.)
async fn prefixes_are_plain_text(case: Case<'_>) {
    for name in ["ab", "abc", "abcd/e", "abc-d", "abd", "b/abc"] {
        case.put(name, "x").await;
    }
    assert_eq!(case.listed("abc").await, ["abc", "abc-d", "abcd/e"]);
    assert_eq!(case.listed("abcd").await, ["abcd/e"]);
    assert_eq!(case.listed("abcd/").await, ["abcd/e"]);
    assert_eq!(case.listed("b").await, ["b/abc"]);
    assert_eq!(case.listed("c").await, Vec::<String>::new());
}

async fn parts_become_one_object(case: Case<'_>) {
    let (bucket, key) = (case.bucket(), case.key("large"));
    let size = if case.subject.wants_large_parts { 5 * MIB } else { 70_000 };
    let pieces = [noise(size, 1), noise(size + 1, 2), noise(1234, 3)];
    let upload = bucket.start_upload(&key, Headers::NAR).await.unwrap();
    assert_eq!(upload.key, key);
    // In any order, and one twice.
    let third = bucket.put_part(&upload, 3, body(pieces[2].clone())).await.unwrap();
    bucket.put_part(&upload, 1, body(noise(size, 9))).await.unwrap();
    let (first, second) = tokio::join!(
        bucket.put_part(&upload, 1, body(pieces[0].clone())),
        bucket.put_part(&upload, 2, Body::from(pieces[1].clone())),
    );
    let parts = [first.unwrap(), second.unwrap(), third];
    assert_eq!(
        parts.iter().map(|part| (part.number, part.size)).collect::<Vec<_>>(),
        [(1, size as u64), (2, size as u64 + 1), (3, 1234)]
    );
    assert_eq!(bucket.head(&key).await.unwrap(), None, "nothing is visible before the end");
    bucket.finish_upload(&upload, &parts).await.unwrap();
    let whole = pieces.concat();
    let info = bucket.head(&key).await.unwrap().unwrap();
    assert_eq!(info.size, whole.len() as u64);
    assert!(case.get("large").await.unwrap() == whole, "the parts are in order");
    let across = bucket.get_range(&key, size as u64 - 2, 4).await.unwrap().unwrap();
    assert_eq!(across, whole[size - 2..size + 2]);
    assert!(bucket.list_uploads(&case.prefix("")).await.unwrap().is_empty());
    assert_eq!(bucket.list_parts(&upload).await.unwrap(), None);
    bucket.abort_upload(&upload).await.unwrap();
    assert!(bucket.head(&key).await.unwrap().is_some(), "an abort that comes too late harms nothing");
}

async fn unfinished_uploads_are_known(case: Case<'_>) {
    let bucket = case.bucket();
    let one = bucket.start_upload(&case.key("a/one"), Headers::default()).await.unwrap();
    let two = bucket.start_upload(&case.key("b/two"), Headers::default()).await.unwrap();
    let mut sent = Vec::new();
    for number in [1, 2, 5] {
        sent.push(bucket.put_part(&one, number, body(noise(1000 + number as usize, 7))).await.unwrap());
    }
    let found = bucket.list_uploads(&case.prefix("")).await.unwrap();
    assert_eq!(found.iter().map(|(upload, _)| upload.clone()).collect::<Vec<_>>(), [one.clone(), two.clone()]);
    let now = bucket.now().await.unwrap();
    for (upload, began) in &found {
        let age = now.duration_since(*began).unwrap_or_else(|early| early.duration());
        assert!(age < Duration::from_secs(60), "{upload:?} began {age:?} ago");
    }
    let only = bucket.list_uploads(&case.prefix("b/")).await.unwrap();
    assert_eq!(only.iter().map(|(upload, _)| upload).collect::<Vec<_>>(), [&two]);
    let bare = |part: &Part| (part.number, part.etag.trim_matches('"').to_owned(), part.size);
    let listed = bucket.list_parts(&one).await.unwrap().unwrap();
    assert_eq!(listed.iter().map(bare).collect::<Vec<_>>(), sent.iter().map(bare).collect::<Vec<_>>());
    assert!(bucket.list_parts(&two).await.unwrap().unwrap().is_empty());
    for upload in [one, two] {
        bucket.abort_upload(&upload).await.unwrap();
    }
    assert!(bucket.list_uploads(&case.prefix("")).await.unwrap().is_empty());
}

async fn aborted_uploads_are_gone(case: Case<'_>) {
    let (bucket, key) = (case.bucket(), case.key("gone"));
    let upload = bucket.start_upload(&key, Headers::default()).await.unwrap();
    let part = bucket.put_part(&upload, 1, body("x")).await.unwrap();
    bucket.abort_upload(&upload).await.unwrap();
    bucket.abort_upload(&upload).await.unwrap();
    let error = bucket.put_part(&upload, 2, body("y")).await.unwrap_err();
    assert!(matches!(error.cause, Cause::NoUpload), "{error:?}");
    let error = bucket.finish_upload(&upload, &[part]).await.unwrap_err();
    assert!(matches!(error.cause, Cause::NoUpload), "{error:?}");
    assert_eq!(bucket.list_parts(&upload).await.unwrap(), None);
    assert_eq!(bucket.head(&key).await.unwrap(), None);
}

async fn wrong_parts_make_nothing_visible(case: Case<'_>) {
    let (bucket, key) = (case.bucket(), case.key("wrong"));
    let upload = bucket.start_upload(&key, Headers::default()).await.unwrap();
    let part = bucket.put_part(&upload, 1, body("x")).await.unwrap();
    let other = Part { etag: "\"d41d8cd98f00b204e9800998ecf8427e\"".to_owned(), ..part.clone() };
    let absent = Part { number: 7, ..part.clone() };
    for parts in [vec![], vec![other], vec![part.clone(), absent]] {
        assert!(bucket.finish_upload(&upload, &parts).await.is_err(), "{parts:?}");
        assert_eq!(bucket.head(&key).await.unwrap(), None, "{parts:?}");
    }
    bucket.abort_upload(&upload).await.unwrap();
}

async fn copies_are_new_objects(case: Case<'_>) {
    let bucket = case.bucket();
    let bytes = noise(200_000, 5);
    case.put("from+?", bytes.clone()).await;
    assert!(bucket.copy(&case.key("from+?"), &case.key("to"), Headers::NAR).await.unwrap());
    assert!(case.get("to").await.unwrap() == bytes);
    bucket.delete(&case.key("from+?")).await.unwrap();
    assert!(case.get("to").await.unwrap() == bytes, "a copy does not need its source");
    assert!(!bucket.copy(&case.key("absent"), &case.key("to2"), Headers::NAR).await.unwrap());
    assert_eq!(case.get("to2").await, None);
}

async fn deletions_have_deadlines(case: Case<'_>) {
    case.put("a", "x").await;
    let error = case.bucket().delete_before(&case.key("a"), Duration::ZERO).await.unwrap_err();
    assert!(matches!(error.cause, Cause::Expired), "{error:?}");
    assert!(case.get("a").await.is_some());
    case.bucket().delete_before(&case.key("a"), Duration::from_secs(60)).await.unwrap();
    assert_eq!(case.get("a").await, None);
    case.bucket().delete_before(&case.key("a"), Duration::from_secs(60)).await.unwrap();
}

async fn puts_have_deadlines(case: Case<'_>) {
    // No space: SeaweedFS lists one as a plus.
    let name = "odd+name.narinfo";
    let (bucket, key) = (case.bucket(), case.key(name));
    let put = |text: &'static str, within| bucket.put_before(&key, body(text), Headers::NAR_INFO, within);
    let error = put("too late", Duration::ZERO).await.unwrap_err();
    assert!(matches!(error.cause, Cause::Expired), "{error:?}");
    assert_eq!(case.get(name).await, None);
    put("in time", Duration::from_secs(60)).await.unwrap();
    assert_eq!(case.get(name).await.unwrap(), "in time");
    put("again", Duration::from_secs(365 * 24 * 3600)).await.unwrap();
    assert_eq!(case.get(name).await.unwrap(), "again");
    put("too late", Duration::ZERO).await.unwrap_err();
    assert_eq!(case.get(name).await.unwrap(), "again");
    assert_eq!(case.listed("").await, [name]);
}

async fn damaged_bodies_are_refused(case: Case<'_>) {
    if !case.subject.checks_digests {
        return;
    }
    let damaged = Body { bytes: Bytes::from("damaged on the way"), sha256: Some(Sha256::of(b"as it was")) };
    assert!(case.bucket().put(&case.key("a"), damaged, Headers::default()).await.is_err());
    assert_eq!(case.get("a").await, None);
}

async fn many_requests_at_once(case: Case<'_>) {
    let names: Vec<String> = (0..64).map(|n| format!("{n:02}")).collect();
    join_all(names.iter().map(|name| case.put(name, noise(50_000, name.parse().unwrap())))).await;
    let got = join_all(names.iter().map(|name| case.get(name))).await;
    for (name, bytes) in names.iter().zip(got) {
        assert!(bytes.unwrap() == noise(50_000, name.parse().unwrap()), "{name}");
    }
    assert_eq!(case.listed("").await, names);
}

async fn objects_are_never_seen_in_part(case: Case<'_>) {
    let versions = [noise(300_000, 11), noise(400_000, 12)];
    case.put("a", versions[0].clone()).await;
    let writer = async {
        for n in 0..20 {
            case.put("a", versions[n % 2].clone()).await;
        }
    };
    let reader = async {
        for _ in 0..20 {
            let seen = case.get("a").await.expect("always there");
            assert!(versions.contains(&seen), "{} bytes of something else", seen.len());
        }
    };
    tokio::join!(writer, reader);
}

async fn the_clock_is_right(case: Case<'_>) {
    case.put("a", "x").await;
    let stored = case.bucket().head(&case.key("a")).await.unwrap().unwrap().modified;
    let now = case.bucket().now().await.unwrap();
    let apart = now.duration_since(stored).unwrap_or_else(|early| early.duration());
    assert!(apart < Duration::from_secs(10), "{apart:?}");
}
