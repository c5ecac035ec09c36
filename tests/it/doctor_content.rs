//! The doctor looks at what lies in the bucket: what says what it is, and who has signed what.

use crate::support::patient::Ward;
use loft::bucket::CacheInfo;
use loft::doctor::{Check, Code};
use loft::nix::{KeyName, SecretKey, StoreDir};

#[tokio::test]
async fn an_empty_bucket_is_not_broken() {
    let ward = Ward::new().await;
    for key in ward.server.memory.contents().keys() {
        ward.server.memory.lose(key.as_str());
    }
    ward.examine().await.blames(&[], &[], "").says(Check::CacheInfo, "loft init");
    assert!(ward.server.memory.contents().is_empty());
}

#[tokio::test]
async fn a_cache_info_that_is_missing_malformed_vague_or_of_another_store() {
    let ward = Ward::new().await;
    let memory = &ward.server.memory;
    memory.lose("nix-cache-info");
    ward.examine().await.blames(&[Code::CacheInfoMissing], &["no nix-cache-info"], "loft check --repair");
    memory.plant("nix-cache-info", "<html>\n");
    ward.examine().await.blames(&[Code::CacheInfoMalformed], &["Line 1"], "loft check --repair");
    memory.plant("nix-cache-info", "WantMassQuery: 1\n");
    ward.examine().await.blames(&[Code::CacheInfoVague], &["no StoreDir"], "StoreDir: /nix/store");
    memory.plant("nix-cache-info", CacheInfo::new(StoreDir::parse("/gnu/store").unwrap(), 41).print());
    let found = ward.examine().await;
    assert!(found.codes().contains(&Code::CacheInfoOtherStore), "{:?}", found.0);
    found.says(Check::CacheInfo, "/gnu/store");
}

#[tokio::test]
async fn a_record_that_is_newer_or_garbage() {
    let ward = Ward::new().await;
    let memory = &ward.server.memory;
    memory.plant("loft/v1/bucket.json", r#"{"format":9,"generation":"x","created":1,"upstreams":[]}"#);
    ward.examine().await.blames(&[Code::RecordNewer], &["format 9"], "newer loft");
    memory.plant("loft/v1/bucket.json", "{");
    ward.examine().await.blames(&[Code::RecordUnreadable], &["loft/v1/bucket.json"], "--repair");
}

#[tokio::test]
async fn paths_that_others_have_signed_and_another_key_of_the_same_name() {
    let ward = Ward::new().await;
    let key = |name: &str| SecretKey::generate(KeyName::parse(name).unwrap()).unwrap();
    let name = format!("{}.narinfo", ward.hash());
    ward.server.memory.plant(&name, ward.narinfo(&key("other-1")));
    let found = ward.examine().await;
    found.blames(&[Code::SignedByOthers], &["newest path is signed by other-1, not by"], "loft sign");

    // One story of two keys, whichever of them nix.conf trusts.
    let first = key("cache-1");
    ward.server.memory.plant(&name, ward.narinfo(&first));
    let (own, third) = (ward.key.public().to_string(), key("cache-1").public());
    let trusting = |line: String| format!("trusted-public-keys = {line}");
    for (line, which) in [
        (own.clone(), "trusts the one of this machine"),
        (first.public().to_string(), "trusts the one that has signed here"),
        // Nix heeds the first of a name.
        (format!("{} {own}", first.public()), "trusts the one that has signed here"),
        (third.to_string(), "trusts a third one"),
        (String::new(), "trusts neither"),
    ] {
        ward.nix_conf(&trusting(line));
        let found = ward.examine().await;
        found.blames(&[Code::KeyDiffers], &["two keys have the name cache-1", &own], "new name");
        found.says(Check::Trust, which);
        assert_eq!(found.because().get(&Check::Trust), Some(&Check::Signatures));
    }
}

#[tokio::test]
async fn a_path_with_two_signatures_of_this_machine_makes_up_for_no_other() {
    let mut ward = Ward::new().await;
    let key = |name: &str| SecretKey::generate(KeyName::parse(name).unwrap()).unwrap();
    let second = key("second-1");
    ward.write("second", second.to_secret_text().trim_end());
    std::fs::set_permissions(ward.at("second"), std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    ward.loft.remove("signing_key_path");
    ward.loft.insert("signing_key_paths", format!("[{:?}, {:?}]", ward.at("key"), ward.at("second")));
    let both = ward.narinfo(&ward.key) + ward.narinfo(&second).lines().last().unwrap() + "\n";
    ward.server.memory.plant(&format!("{}.narinfo", ward.hash()), both);
    ward.examine().await.blames(&[], &[], "").says(Check::Signatures, "signed by this machine's key");
    ward.path = ward.store.add("lib").file("f", "lib").finish();
    ward.server.memory.plant(&format!("{}.narinfo", ward.hash()), ward.narinfo(&key("other-1")));
    ward.examine().await.blames(&[Code::SignedByOthers], &["the 2 newest paths are", "but only 1 by"], "loft sign");
}
