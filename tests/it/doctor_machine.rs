//! The doctor finds what is wrong with this machine: configuration, keys, store, daemon, ledger, service, resources.

use crate::support::fake_daemon::{Answer, FakeDaemon, Script};
use crate::support::patient::{Ward, quoted};
use loft::doctor::{Check, Code, Space};
use loft::service::{Lock, socket_path};
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::time::Duration;

// -- configuration ----------------------------------------------------------------------------------

#[tokio::test]
async fn a_configuration_that_is_no_toml() {
    let mut ward = Ward::new().await;
    ward.more = "this is not TOML".to_owned();
    let found = ward.examine().await;
    found.blames(&[Code::ConfigUnusable], &["loft.toml:", "Not valid TOML"], "docs/configuration.md");
    assert!(Check::ALL.iter().skip(1).all(|check| found.because()[check] == Check::Configuration));
    // The line may hold a secret.
    assert!(!format!("{:?}", found.0).contains("this is not"));
}

#[tokio::test]
async fn a_mistyped_key() {
    let mut ward = Ward::new().await;
    ward.loft.insert("upload_treads", "7".to_owned());
    ward.examine().await.blames(&[Code::ConfigWarning], &["upload_treads"], "upload_threads");
}

#[tokio::test]
async fn settings_that_contradict_each_other() {
    let mut ward = Ward::new().await;
    ward.s3.insert("secret_key_file", quoted("/x"));
    ward.examine().await.blames(&[Code::ConfigUnusable], &["both set"], "remove one");
    ward.s3.remove("secret_key_file");
    ward.s3.insert("ca_file", quoted("/x"));
    ward.examine().await.blames(&[Code::CaFileUnused], &["plain http"], "https://");
    ward.s3.remove("ca_file");
    ward.s3.insert("storage_class", quoted("GLACIER"));
    ward.examine().await.blames(&[Code::ArchivingClass], &["GLACIER"], "STANDARD_IA");
    ward.s3.remove("storage_class");
    ward.loft.insert("skip_signed_by_keys", "[\"cache-1\"]".to_owned());
    ward.examine().await.blames(&[Code::SkipsOwnKey], &["cache-1"], "never be pushed");
}

#[tokio::test]
async fn no_bucket_is_named() {
    let mut ward = Ward::new().await;
    ward.s3.clear();
    let found = ward.examine().await;
    found
        .blames(&[Code::NoBucketNamed], &["LOFT_CACHE is not set"], "--to URL")
        .are_fine(&[Check::Store, Check::Ledger]);
    assert_eq!(found.because().get(&Check::Endpoint), Some(&Check::Configuration));
}

// -- keys -------------------------------------------------------------------------------------------

#[tokio::test]
async fn a_signing_key_that_is_missing_malformed_writable_or_readable_by_others() {
    let ward = Ward::new().await;
    let key = ward.at("key");
    let mode = |mode| fs::set_permissions(&key, fs::Permissions::from_mode(mode)).unwrap();
    mode(0o644);
    ward.examine().await.blames(&[Code::KeyExposed], &["0644"], "chmod 600");
    mode(0o660);
    ward.examine().await.blames(&[Code::KeyUnusable], &["0660"], "chmod 600");
    mode(0o600);
    fs::write(&key, "cache-1:c2VjcmV0\n").unwrap();
    let found = ward.examine().await;
    found.blames(&[Code::KeyUnusable], &["not a secret key file"], "NAME:BASE64");
    assert!(!format!("{:?}", found.0).contains("c2VjcmV0"));
    fs::remove_file(&key).unwrap();
    ward.examine().await.blames(&[Code::KeyUnusable], &["key", "No such file"], "loft key generate");
}

#[tokio::test]
async fn nothing_is_signed() {
    let mut ward = Ward::new().await;
    ward.loft.remove("signing_key_path");
    let found = ward.examine().await;
    found.blames(&[Code::Unsigned], &["not signed"], "loft key generate").says(Check::Signatures, "signed by cache-1");
    // What others have signed is believed.
    found.are_fine(&[Check::Trust]);
}

// -- store ------------------------------------------------------------------------------------------

fn socket(ward: &Ward) -> PathBuf {
    ward.store.state_dir().join("daemon-socket/socket")
}

#[tokio::test]
async fn a_store_that_is_not_there() {
    let mut ward = Ward::new().await;
    ward.loft.insert("store", quoted("unix:///no/socket/here"));
    let found = ward.examine().await;
    found.blames(&[Code::StoreUnreachable], &["/no/socket/here"], "start the daemon");
    assert_eq!(found.because().get(&Check::Daemon), Some(&Check::Store));
    ward.loft.insert("store", quoted("ssh://elsewhere"));
    ward.examine().await.blames(&[Code::StoreUnreachable], &["ssh://elsewhere"], "--store");
}

#[tokio::test]
async fn a_database_that_is_damaged_with_and_without_a_daemon() {
    let ward = Ward::new().await;
    let folder = ward.store.state_dir().join("db");
    ward.write("garbage", &"no database ".repeat(1000));
    fs::rename(ward.at("garbage"), folder.join("db.sqlite")).unwrap();
    ["db.sqlite-wal", "db.sqlite-shm"].iter().for_each(|file| fs::remove_file(folder.join(file)).unwrap());
    ward.examine().await.blames(&[Code::StoreUnreachable], &["not a database"], "daemon");
    let daemon = FakeDaemon::start_at(&socket(&ward), Script::truthful([]));
    let found = ward.examine().await;
    found.blames(&[Code::StoreUnreadable], &["not a database"], "slower").are_fine(&[Check::Daemon]);
    drop(daemon);
}

#[tokio::test]
async fn a_schema_that_loft_does_not_know() {
    let ward = Ward::new().await;
    fs::write(ward.store.state_dir().join("db/schema"), "11").unwrap();
    ward.examine().await.blames(&[Code::StoreSchema], &["schema 11"], "newer loft");
}

#[tokio::test]
async fn a_daemon_that_answers_is_silent_or_is_none() {
    let mut ward = Ward::new().await;
    let daemon = FakeDaemon::start_at(&socket(&ward), Script::truthful([]));
    ward.examine().await.blames(&[], &[], "").are_fine(&[Check::Daemon]);
    drop(daemon);
    ward.examine().await.blames(&[], &[], "").says(Check::Daemon, "temporary roots");
    let daemon = FakeDaemon::start_at(&socket(&ward), Script::raw(b"HTTP/1.1 400 Bad Request\r\n\r\n".to_vec()));
    ward.examine().await.blames(&[Code::DaemonSilent], &["not a Nix daemon"], "restart");
    drop(daemon);
    let daemon =
        FakeDaemon::start_at(&socket(&ward), Script { cut: Some((None, 8)), ..Script::answering(|_| Answer::Silence) });
    ward.patience = Duration::from_secs(2);
    ward.examine().await.blames(&[Code::DaemonSilent], &["socket"], "allowed-users");
    drop(daemon);
}

#[tokio::test]
async fn no_daemon_and_no_way_to_hold_paths() {
    let ward = Ward::new().await;
    fs::remove_dir(ward.store.state_dir().join("temproots")).unwrap();
    ward.examine().await.blames(&[Code::DaemonUnreachable], &["collected"], "nix-daemon.socket");
}

// -- ledger and service -----------------------------------------------------------------------------

#[tokio::test]
async fn a_ledger_that_cannot_be_used() {
    let mut ward = Ward::new().await;
    fs::create_dir(ward.at("ledger.db")).unwrap();
    ward.examine().await.blames(&[Code::LedgerUnusable], &["is not a file"], "local_cache_path");
    fs::remove_dir(ward.at("ledger.db")).unwrap();
    fs::write(ward.at("ledger.db"), "no database ".repeat(1000)).unwrap();
    ward.examine().await.blames(&[Code::LedgerUnusable], &["damaged"], "delete it");
    ward.loft.insert("local_cache_path", quoted(ward.at("key/ledger.db").display().to_string()));
    ward.examine().await.blames(&[Code::LedgerUnusable], &["key/ledger.db"], "local_cache_path");
}

#[tokio::test]
async fn a_service_that_does_not_answer_and_one_that_does() {
    let ward = Ward::new().await;
    let ledger = ward.at("ledger.db");
    let lock = Lock::take(&ledger).unwrap();
    ward.examine().await.blames(&[Code::ServiceSilent], &["does not listen"], "journalctl");
    let listener = tokio::net::UnixListener::bind(socket_path(&ledger)).unwrap();
    let serving = tokio::spawn(async move {
        use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut asked = String::new();
            stream.read_to_string(&mut asked).await.unwrap();
            assert_eq!(asked, "");
            stream.write_all(b"queued 0\n").await.unwrap();
        }
    });
    ward.examine().await.blames(&[], &[], "").are_fine(&[Check::Service]);
    serving.abort();
    drop(lock);
}

// -- resources --------------------------------------------------------------------------------------

#[tokio::test]
async fn disks_that_are_full_or_nearly_so() {
    let mut ward = Ward::new().await;
    ward.has.space = Space { bytes: 1 << 20, files: None };
    ward.examine().await.blames(&[Code::DiskFull], &["1 MiB are free"], "make room");
    ward.has.space = Space { bytes: 300 << 20, files: None };
    ward.examine().await.blames(&[Code::DiskLow], &["300 MiB"], "make room");
    ward.has.space = Space { bytes: 1 << 40, files: Some(0) };
    ward.examine().await.blames(&[Code::DiskFull], &["no more files"], "df -i");
}

#[tokio::test]
async fn more_memory_than_there_is() {
    let mut ward = Ward::new().await;
    ward.loft.insert("memory_limit", quoted("6GiB"));
    ward.examine().await.blames(&[Code::MemoryTight], &["6144 MiB"], "memory_limit");
    ward.loft.insert("memory_limit", quoted("9GiB"));
    ward.examine().await.blames(&[Code::MemoryTooLittle], &["8192 MiB"], "memory_limit");
}

#[tokio::test]
async fn too_few_descriptors() {
    let mut ward = Ward::new().await;
    ward.has.descriptors = 256;
    ward.examine().await.blames(&[], &[], "");
    ward.loft.insert("upload_threads", "200".to_owned());
    ward.examine().await.blames(&[Code::DescriptorsTooFew], &["256", "upload_threads = 200"], "LimitNOFILE");
}

#[tokio::test]
async fn credentials_of_systemd() {
    let mut ward = Ward::new().await;
    ward.s3.retain(|key, _| !key.ends_with("_key"));
    ward.loft.remove("signing_key_path");
    for (name, text) in [("loft.access-key", "GK0123456789"), ("loft.secret-key", "s3cr3t-of-the-test")] {
        ward.write(&format!("credentials/{name}"), text);
    }
    fs::copy(ward.at("key"), ward.at("credentials/loft.signing-key")).unwrap();
    let folder = ward.at("credentials").display().to_string();
    ward.environment.insert("CREDENTIALS_DIRECTORY".into(), folder);
    let found = ward.examine().await;
    found.blames(&[], &[], "").says(Check::Secrets, "loft.access-key, loft.secret-key, loft.signing-key");
    found.says(Check::Credentials, "credentials/loft.secret-key");
    ward.write("credentials/loft.secretkey", "x");
    ward.examine().await.blames(&[Code::SecretUnknown], &["loft.secretkey"], "loft.secret-key");

    let mut ward = Ward::new().await;
    ward.environment.insert("CREDENTIALS_DIRECTORY".into(), "/no/such/folder".into());
    ward.examine().await.blames(&[Code::SecretsUnreadable], &["/no/such/folder"], "service's user");
}
