//! The doctor finds why this machine's Nix does not read from the cache, or does not believe it; and caches in directories.

use crate::support::patient::Ward;
use crate::support::wire_faults::{Action, Proxy, reply};
use loft::doctor::{Check, Code};
use loft::nix::{KeyName, SecretKey};
use std::fs;

#[tokio::test]
async fn an_upstream_that_is_gone() {
    let mut ward = Ward::new().await;
    let up = Proxy::start(&ward.server.endpoint, |_| Action::Reply(reply(200, "text/plain", "StoreDir: /nix/store\n")))
        .await;
    let gone = Proxy::start(&ward.server.endpoint, |_| Action::Reply(reply(404, "text/plain", "no"))).await;
    ward.loft.insert("upstreams", format!("[{:?}]", up.endpoint));
    ward.examine().await.blames(&[], &[], "").are_fine(&[Check::Upstreams]);
    ward.loft.insert("upstreams", format!("[{:?}, {:?}]", up.endpoint, gone.endpoint));
    let found = ward.examine().await;
    found.blames(&[Code::UpstreamUnreachable], &[gone.endpoint.as_str(), "404"], "correct upstreams");
    // Where nobody answers, the list need not be wrong.
    ward.loft.insert("upstreams", "[\"http://127.0.0.1:1\"]".to_owned());
    let found = ward.examine().await;
    found.blames(&[Code::UpstreamUnreachable], &["http://127.0.0.1:1"], "check this machine's network");
}

#[tokio::test]
async fn a_nix_conf_that_includes_what_is_not_there() {
    let ward = Ward::new().await;
    ward.nix_conf("include gone.conf");
    ward.examine().await.blames(&[Code::NixConfUnreadable], &["gone.conf"], "mend");
}

#[tokio::test]
async fn a_nix_conf_that_leads_nowhere_and_one_with_bytes_that_are_no_text() {
    let ward = Ward::new().await;
    // As for Nix, they are bytes.
    let mut bytes = fs::read(ward.at("etc/nix.conf")).unwrap();
    bytes.extend(b"# f\xfcr uns\n");
    fs::write(ward.at("etc/nix.conf"), bytes).unwrap();
    ward.examine().await.blames(&[], &[], "").are_fine(&[Check::Trust]);
    fs::create_dir_all(ward.at(".config/nix")).unwrap();
    std::os::unix::fs::symlink("gone.conf", ward.at(".config/nix/nix.conf")).unwrap();
    ward.examine().await.blames(&[Code::NixConfUnreadable], &["is a link to gone.conf"], "mend");
}

#[tokio::test]
async fn a_line_that_is_no_setting_is_named_and_not_repeated() {
    let ward = Ward::new().await;
    ward.nix_conf("access-tokens github.com=s3cr3t");
    let found = ward.examine().await;
    found.blames(&[Code::NixConfUnreadable], &["nix.conf:3: this line is no setting"], "mend");
    assert!(!format!("{:?}", found.0).contains("s3cr3t"));
}

#[tokio::test]
async fn a_machine_that_reads_from_elsewhere() {
    let ward = Ward::new().await;
    ward.nix_conf("substituters = https://cache.nixos.invalid");
    let found = ward.examine().await;
    found.blames(&[Code::NotSubstituter], &["does not read"], "loft use");
    assert_eq!(found.because().get(&Check::Trust), Some(&Check::Substituter));
}

#[tokio::test]
async fn a_key_that_nix_does_not_trust() {
    let ward = Ward::new().await;
    ward.nix_conf("trusted-public-keys =");
    ward.examine().await.blames(&[Code::KeyUntrusted], &["ignores"], &ward.key.public().to_string());
}

#[tokio::test]
async fn another_key_of_the_same_name_is_trusted() {
    let ward = Ward::new().await;
    let other = SecretKey::generate(KeyName::parse("cache-1").unwrap()).unwrap().public();
    ward.nix_conf(&format!("trusted-public-keys = {other}"));
    let own = ward.key.public().to_string();
    let way_out = format!("write {own} in the place of {other}");
    ward.examine().await.blames(&[Code::TrustedKeyDiffers], &[&own, &other.to_string()], &way_out);
    // Of several keys of one name, Nix heeds the first.
    ward.nix_conf(&format!("trusted-public-keys = {other} {own}"));
    ward.examine().await.blames(&[Code::TrustedKeyDiffers], &[&own], &way_out);
    ward.nix_conf(&format!("trusted-public-keys = {own} {other}"));
    ward.examine().await.blames(&[], &[], "").are_fine(&[Check::Trust]);
}

#[tokio::test]
async fn signatures_that_are_not_required() {
    let ward = Ward::new().await;
    ward.nix_conf("require-sigs = false");
    ward.examine().await.blames(&[Code::SignaturesNotRequired], &["require-sigs"], "remove");
}

/// The web address before a bucket: it is known by the record that it hands out.
async fn web(ward: &Ward, status: u16) -> Proxy {
    let record = String::from_utf8(ward.server.memory.object("loft/v1/bucket.json").unwrap().to_vec()).unwrap();
    Proxy::start(&ward.server.endpoint, move |head| {
        let is_open = status == 200 || head.headers.contains_key("authorization");
        match (is_open, head.target.as_str()) {
            (true, "/loft/v1/bucket.json") => Action::Reply(reply(200, "application/json", &record)),
            (true, "/nix-cache-info") => Action::Reply(reply(200, "text/plain", "StoreDir: /nix/store\n")),
            (true, _) => Action::Reply(reply(404, "text/plain", "no")),
            (false, _) => Action::Reply(reply(status, "text/plain", "no")),
        }
    })
    .await
}

#[tokio::test]
async fn a_web_address_is_recognised_and_a_password_is_missed() {
    let ward = Ward::new().await;
    let open = web(&ward, 200).await;
    ward.nix_conf(&format!("substituters = {}", open.endpoint));
    ward.examine().await.blames(&[], &[], "").says(Check::Substituter, &open.endpoint);

    let closed = web(&ward, 401).await;
    ward.write("etc/netrc", "machine elsewhere.example login u password s3cr3t-of-netrc\n");
    let netrc = ward.at("etc/netrc").display().to_string();
    ward.nix_conf(&format!("extra-substituters = {}\nnetrc-file = {netrc}", closed.endpoint));
    let found = ward.examine().await;
    found.blames(&[Code::NetrcMissing], &["127.0.0.1"], "machine 127.0.0.1 login");
    assert!(!format!("{:?}", found.0).contains("s3cr3t"));
    ward.write("etc/netrc", "machine 127.0.0.1 login u password p\n");
    ward.examine().await.blames(&[], &[], "").are_fine(&[Check::Netrc]);
}

#[tokio::test]
async fn names_below_localhost_are_this_machine_as_for_nix() {
    let ward = Ward::new().await;
    let open = web(&ward, 200).await;
    let url = open.endpoint.replace("127.0.0.1", "nix-cache.localhost");
    ward.nix_conf(&format!("substituters = {url}"));
    ward.examine().await.blames(&[], &[], "").says(Check::Substituter, &url);
}

#[tokio::test]
async fn the_public_address_is_where_readers_are_looked_for() {
    let mut ward = Ward::new().await;
    let open = web(&ward, 200).await;
    ward.loft.insert("public_url", format!("{:?}", open.endpoint));
    ward.nix_conf(&format!("substituters = {}/", open.endpoint));
    ward.examine().await.blames(&[], &[], "").says(Check::PublicReading, &open.endpoint);
    // What is configured needs nobody's answer.
    ward.offline = true;
    ward.examine().await.blames(&[], &[], "").says(Check::Substituter, &open.endpoint);
    ward.offline = false;

    // With a password only: that may be meant.
    let closed = web(&ward, 401).await;
    ward.loft.insert("public_url", format!("{:?}", closed.endpoint));
    ward.examine().await.blames(&[], &[], "").says(Check::PublicReading, "401");
    let empty = web(&ward, 404).await;
    ward.loft.insert("public_url", format!("{:?}", empty.endpoint));
    ward.examine().await.blames(&[Code::PublicUrlUnreadable], &[empty.endpoint.as_str(), "404"], "public_url");
    let others = Proxy::start(&ward.server.endpoint, |head| {
        let record = r#"{"format":1,"generation":"01ARZ3NDEKTSV4RRFFQ69G5FAX","created":7,"upstreams":[]}"#;
        match head.target.as_str() {
            "/loft/v1/bucket.json" => Action::Reply(reply(200, "application/json", record)),
            _ => Action::Reply(reply(200, "text/plain", "StoreDir: /nix/store\n")),
        }
    })
    .await;
    ward.loft.insert("public_url", format!("{:?}", others.endpoint));
    ward.examine().await.blames(&[Code::PublicUrlUnreadable], &["another cache is there"], "public_url");
}

#[tokio::test]
async fn a_machine_without_nix_conf() {
    let ward = Ward::new().await;
    fs::remove_file(ward.at("etc/nix.conf")).unwrap();
    ward.examine().await.blames(&[], &[], "").says(Check::Trust, "no nix.conf");
}

// -- directories ------------------------------------------------------------------------------------

async fn in_directory() -> Ward {
    let mut ward = Ward::new().await;
    for (key, bytes) in ward.server.memory.contents() {
        ward.write(&format!("cache/{key}"), std::str::from_utf8(&bytes).unwrap());
    }
    let url = format!("file://{}", ward.at("cache").display());
    ward.nix_conf(&format!("substituters = {url}"));
    ward.environment.insert("LOFT_CACHE".into(), url);
    ward
}

#[tokio::test]
async fn a_cache_in_a_directory_is_well() {
    let ward = in_directory().await;
    let found = ward.examine().await;
    let all =
        [Check::Bucket, Check::Permissions, Check::Consistency, Check::CacheInfo, Check::Signatures, Check::Trust];
    found.blames(&[], &[], "").are_fine(&all);
    found.says(Check::Checksums, "the cache is a directory");
    assert!(fs::read_dir(ward.at("cache/loft/v1/probe")).unwrap().next().is_none());
}

#[tokio::test]
async fn a_directory_that_this_user_may_not_write() {
    let mut ward = in_directory().await;
    ward.has.may_write = false;
    let found = ward.examine().await;
    found.blames(&[Code::DirectoryUnwritable], &["cannot be written by this user"], "ls -ld");
    assert_eq!(found.because().get(&Check::Permissions), Some(&Check::Bucket));
    let url = format!("file://{}", ward.at("new").display());
    ward.nix_conf(&format!("substituters = {url}"));
    ward.environment.insert("LOFT_CACHE".into(), url);
    ward.examine().await.blames(&[Code::DirectoryUnwritable], &["this user cannot make it"], "own it");
}

#[tokio::test]
async fn a_directory_that_is_not_mounted() {
    let mut ward = in_directory().await;
    let url = format!("file://{}", ward.at("mount/cache").display());
    ward.nix_conf(&format!("substituters = {url}"));
    ward.environment.insert("LOFT_CACHE".into(), url);
    let found = ward.examine().await;
    found.blames(&[Code::BucketMissing], &["mount/cache"], "mount what belongs there");
    assert_eq!(found.because().get(&Check::Permissions), Some(&Check::Bucket));
    assert!(!ward.at("mount").exists());
}

#[tokio::test]
async fn a_file_where_a_directory_should_be_and_a_place_that_is_not_yet_made() {
    let mut ward = in_directory().await;
    let to = |ward: &mut Ward, place: &str| {
        let url = format!("file://{}", ward.at(place).display());
        ward.nix_conf(&format!("substituters = {url}"));
        ward.environment.insert("LOFT_CACHE".into(), url);
    };
    to(&mut ward, "key");
    ward.examine().await.blames(&[Code::BucketMissing], &["is not a directory"], "directory");
    to(&mut ward, "new");
    ward.examine().await.blames(&[], &[], "").says(Check::Bucket, "first push makes it");
    assert!(!ward.at("new").exists());
    // Somebody else's directory is left as it is.
    fs::create_dir(ward.at("new")).unwrap();
    ward.write("new/file", "x");
    ward.examine().await.blames(&[], &[], "").says(Check::Permissions, "nothing has been pushed");
    assert_eq!(fs::read_dir(ward.at("new")).unwrap().count(), 1);
}
