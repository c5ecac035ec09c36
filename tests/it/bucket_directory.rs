//! A directory as a bucket: what it leaves on the disk, and what it refuses.

use bytes::Bytes;
use loft::bucket::{Body, Bucket, Cause, Directory, Headers, Key, Prefix, list_all};
use loft::clock::SystemClock;
use loft::remedy::Remedy;
use std::collections::BTreeSet;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime};

fn directory(path: &Path) -> Directory {
    Directory::new(path.to_owned(), Arc::new(SystemClock))
}

fn key(text: &str) -> Key {
    Key::listed(text)
}

async fn put(bucket: &Directory, name: &str) {
    bucket.put(&key(name), Body::from(Bytes::from("x")), Headers::default()).await.unwrap();
}

async fn names(bucket: &Directory) -> Vec<String> {
    let objects = list_all(bucket, &Prefix::all()).await.unwrap();
    objects.into_iter().map(|object| object.key.as_str().to_owned()).collect()
}

#[tokio::test]
async fn a_new_directory_is_made_but_not_its_parents() {
    let home = tempfile::tempdir().unwrap();
    let bucket = directory(&home.path().join("cache"));
    bucket.check_access().await.unwrap();
    assert!(names(&bucket).await.is_empty());
    assert_eq!(bucket.head(&key("nar/a")).await.unwrap(), None);
    assert!(bucket.list_uploads(&Prefix::all()).await.unwrap().is_empty());
    assert!(!home.path().join("cache").exists(), "looking makes nothing");
    put(&bucket, "nar/a").await;
    assert_eq!(names(&bucket).await, ["nar/a"]);

    // A mount that is not there must not pass for an empty cache.
    let missing = directory(&home.path().join("mount/cache"));
    let errors = [
        missing.check_access().await.unwrap_err(),
        missing.head(&key("a")).await.unwrap_err(),
        missing.get(&key("a"), 9).await.unwrap_err(),
        missing.list(&Prefix::all(), None).await.unwrap_err(),
        missing.delete(&key("a")).await.unwrap_err(),
        missing.list_uploads(&Prefix::all()).await.unwrap_err(),
        missing.put(&key("a"), Body::from(Bytes::new()), Headers::default()).await.unwrap_err(),
        missing.start_upload(&key("a"), Headers::default()).await.unwrap_err(),
    ];
    for error in errors {
        assert!(matches!(error.cause, Cause::NoDirectory(_)), "{error:?}");
        assert_eq!(error.remedy(), Remedy::FixConfig);
    }
    std::fs::write(home.path().join("file"), "").unwrap();
    let error = directory(&home.path().join("file")).head(&key("a")).await.unwrap_err();
    assert_eq!(error.remedy(), Remedy::FixConfig, "{error:?}");
}

#[tokio::test]
async fn files_are_readable_and_nothing_else_is_left() {
    let home = tempfile::tempdir().unwrap();
    let bucket = directory(home.path());
    put(&bucket, "nar/a.nar.zst").await;
    let upload = bucket.start_upload(&key("nar/b"), Headers::default()).await.unwrap();
    let part = bucket.put_part(&upload, 1, Body::from(Bytes::from("part"))).await.unwrap();
    bucket.finish_upload(&upload, &[part]).await.unwrap();
    for name in ["nar/a.nar.zst", "nar/b"] {
        let mode = std::fs::metadata(home.path().join(name)).unwrap().permissions().mode();
        // As far as this process's umask allows.
        assert_eq!(mode & 0o133, 0, "{mode:o}");
        assert_ne!(mode & 0o400, 0, "{mode:o}");
    }
    assert_eq!(std::fs::read_dir(home.path().join(".loft")).unwrap().count(), 0);
}

/// Other programs read the files as they are, at any moment.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn files_appear_whole() {
    let home = tempfile::tempdir().unwrap();
    let bucket = directory(home.path());
    let sizes = [4 << 20, (5 << 20) + 1];
    let put = async |size: usize| {
        let body = Body::from(Bytes::from(vec![7; size]));
        bucket.put(&key("nar/a"), body, Headers::default()).await.unwrap();
    };
    put(sizes[0]).await;
    let done = Arc::new(AtomicBool::new(false));
    let (file, stop) = (home.path().join("nar/a"), done.clone());
    let reader = std::thread::spawn(move || {
        let mut seen = BTreeSet::new();
        while !stop.load(Ordering::Relaxed) {
            seen.insert(std::fs::metadata(&file).expect("always there").len() as usize);
        }
        seen
    });
    for n in 0..10 {
        put(sizes[n % 2]).await;
    }
    done.store(true, Ordering::Relaxed);
    assert_eq!(reader.join().unwrap().into_iter().collect::<Vec<_>>(), sizes);
}

#[tokio::test]
async fn keys_stay_inside_and_out_of_the_unfinished() {
    let home = tempfile::tempdir().unwrap();
    std::fs::write(home.path().join("outside"), "secret").unwrap();
    let bucket = directory(&home.path().join("cache"));
    put(&bucket, "a").await;
    for name in ["../outside", "a/../../outside", "/etc/passwd", ".loft/x", ".loft", "nul\0", "."] {
        for error in [
            bucket.get(&key(name), 100).await.unwrap_err(),
            bucket.put(&key(name), Body::from(Bytes::new()), Headers::default()).await.unwrap_err(),
            bucket.delete(&key(name)).await.unwrap_err(),
            bucket.start_upload(&key(name), Headers::default()).await.unwrap_err(),
            bucket.copy(&key("a"), &key(name), Headers::default()).await.unwrap_err(),
        ] {
            assert!(matches!(error.cause, Cause::Key(_)), "{name}: {error:?}");
        }
    }
    // An upload's id comes from a resumed journal perhaps: it leads nowhere else, whatever is there.
    let upload = bucket.start_upload(&key("b"), Headers::default()).await.unwrap();
    let elsewhere = home.path().join("elsewhere");
    std::fs::create_dir(&elsewhere).unwrap();
    std::fs::write(elsewhere.join("key"), "b").unwrap();
    let forged = format!("{}/../../../elsewhere", upload.id);
    for id in ["", "..", "../../outside", &upload.id[..31], &format!("{}/", &upload.id[..31]), &forged] {
        let forged = loft::bucket::Upload { id: id.to_owned(), ..upload.clone() };
        bucket.abort_upload(&forged).await.unwrap();
        assert_eq!(bucket.list_parts(&forged).await.unwrap(), None);
    }
    assert!(home.path().join("outside").exists() && elsewhere.exists());
    assert!(bucket.list_parts(&upload).await.unwrap().is_some());
    assert_eq!(names(&bucket).await, ["a"]);
}

#[tokio::test]
async fn a_refused_write_names_itself_and_leaves_nothing() {
    let home = tempfile::tempdir().unwrap();
    let bucket = directory(home.path());
    put(&bucket, "a").await;
    // A file stands where a folder would have to be.
    let error = bucket.put(&key("a/b"), Body::from(Bytes::new()), Headers::default()).await.unwrap_err();
    assert!(error.to_string().contains("Could not put a/b in file://"), "{error}");
    assert_eq!(bucket.head(&key("a/b")).await.unwrap(), None);
    let long = "x".repeat(300);
    assert!(bucket.put(&key(&long), Body::from(Bytes::new()), Headers::default()).await.is_err());
    assert_eq!(names(&bucket).await, ["a"]);
    assert_eq!(std::fs::read_dir(home.path().join(".loft")).unwrap().count(), 0);
}

#[tokio::test]
async fn listings_take_what_users_and_other_programs_left() {
    let home = tempfile::tempdir().unwrap();
    let root = home.path().join("cache");
    let bucket = Directory::with_page_size(root.clone(), Arc::new(SystemClock), 2);
    for name in ["a/b", "a-b", "a0", "a/c", "b"] {
        put(&bucket, name).await;
    }
    std::fs::create_dir_all(root.join("empty/folder")).unwrap();
    std::fs::create_dir(home.path().join("disk")).unwrap();
    std::fs::write(home.path().join("disk/x"), "elsewhere").unwrap();
    symlink(home.path().join("disk"), root.join("linked")).unwrap();
    symlink("/nowhere", root.join("dangling")).unwrap();
    // In the order of the keys' bytes: `-` before `/` before `0`.
    assert_eq!(names(&bucket).await, ["a-b", "a/b", "a/c", "a0", "b", "linked/x"]);
    let page = bucket.list(&Prefix::all(), Some("a-b")).await.unwrap();
    assert_eq!(page.objects.iter().map(|object| object.key.as_str()).collect::<Vec<_>>(), ["a/b", "a/c"]);
    assert_eq!(page.next.as_deref(), Some("a/c"));
    assert_eq!(bucket.get(&key("linked/x"), 100).await.unwrap().unwrap().1, "elsewhere");

    symlink("..", root.join("zz")).unwrap();
    let error = list_all(&bucket, &Prefix::all()).await.unwrap_err();
    assert!(matches!(&error.cause, Cause::Io(_)), "a circle is an error, not an endless listing: {error:?}");
}

/// More entries than a page, in one folder, beside many folders: memory is bounded, nothing is missed.
#[tokio::test]
async fn large_folders_are_listed_in_pages() {
    let home = tempfile::tempdir().unwrap();
    for n in 0..300 {
        std::fs::write(home.path().join(format!("f{n:03}")), "").unwrap();
        std::fs::create_dir(home.path().join(format!("d{n:03}"))).unwrap();
        std::fs::write(home.path().join(format!("d{n:03}/x")), "").unwrap();
    }
    for page in [1, 7, 100, 1000] {
        let bucket = Directory::with_page_size(home.path().into(), Arc::new(SystemClock), page);
        let found = names(&bucket).await;
        assert_eq!(found.len(), 600, "pages of {page}");
        assert!(found.is_sorted());
    }
}

#[tokio::test]
async fn leftovers_of_dead_processes_are_removed_after_a_day() {
    let home = tempfile::tempdir().unwrap();
    let unfinished = home.path().join(".loft");
    std::fs::create_dir(&unfinished).unwrap();
    for (name, age) in [("put-old", 25), ("put-new", 1)] {
        let file = std::fs::File::create(unfinished.join(name)).unwrap();
        file.set_modified(SystemTime::now() - Duration::from_secs(age * 3600)).unwrap();
    }
    let bucket = directory(home.path());
    let upload = bucket.start_upload(&key("a"), Headers::default()).await.unwrap();
    assert!(!unfinished.join("put-old").exists());
    assert!(unfinished.join("put-new").exists());
    // Uploads have owners; whoever prunes decides.
    assert_eq!(bucket.list_uploads(&Prefix::all()).await.unwrap()[0].0, upload);
}

/// Nothing that is unfinished is ever visible, and a part that was sent survives for a later process.
#[tokio::test]
async fn uploads_go_on_in_another_process() {
    let home = tempfile::tempdir().unwrap();
    let (upload, first) = {
        let bucket = directory(home.path());
        let upload = bucket.start_upload(&key("nar/a"), Headers::default()).await.unwrap();
        let part = bucket.put_part(&upload, 1, Body::from(Bytes::from("one "))).await.unwrap();
        (upload, part)
    };
    let bucket = directory(home.path());
    let [(found, _)] = &bucket.list_uploads(&Prefix::nars()).await.unwrap()[..] else { panic!() };
    assert_eq!(*found, upload);
    assert_eq!(bucket.list_parts(found).await.unwrap().unwrap(), std::slice::from_ref(&first));
    assert!(names(&bucket).await.is_empty());
    let second = bucket.put_part(found, 2, Body::from(Bytes::from("two"))).await.unwrap();
    bucket.finish_upload(found, &[first, second]).await.unwrap();
    assert_eq!(std::fs::read(home.path().join("nar/a")).unwrap(), b"one two");
}
