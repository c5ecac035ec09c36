//! The doctor finds what is broken between this machine and a bucket: a test for each kind, and nothing else is blamed.

use crate::support::memory::{Fault, Memory, Moment};
use crate::support::patient::{Ward, quoted};
use crate::support::s3_server::{ACCESS_KEY, BUCKET, SECRET_KEY};
use crate::support::tls::TlsProxy;
use crate::support::wire_faults::{Action, Head, Proxy, reply};
use jiff::{SignedDuration, Timestamp};
use loft::bucket::{Key, LifecycleRule, RequestKind};
use loft::doctor::{Check, Code};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, SystemTime};

/// What needs a bucket that answers.
const CONTENT: [Check; 8] = [
    Check::Permissions,
    Check::Consistency,
    Check::Conditions,
    Check::Checksums,
    Check::Lifecycle,
    Check::CacheInfo,
    Check::Record,
    Check::Signatures,
];

#[tokio::test]
async fn where_all_is_well_nothing_is_blamed_and_nothing_stays() {
    for memory in [Memory::aws(), Memory::garage()] {
        let ward = Ward::with(memory).await;
        let found = ward.examine().await;
        found.blames(&[], &[], "").are_fine(&[
            Check::Configuration,
            Check::SigningKey,
            Check::Endpoint,
            Check::Credentials,
            Check::Region,
            Check::Bucket,
            Check::Clock,
            Check::Store,
            Check::Ledger,
            Check::Disk,
            Check::Memory,
            Check::Descriptors,
            Check::NixConf,
            Check::Substituter,
            Check::Trust,
        ]);
        found.are_fine(&CONTENT);
        assert!(found.because().is_empty());
        assert_eq!(ward.server.memory.contents().len(), 3);
        assert!(ward.server.memory.open_parts().is_empty() && !ward.at("ledger.db").exists());
    }
}

#[tokio::test]
async fn nothing_is_written_where_that_is_not_wanted_and_nobody_asked() {
    let mut ward = Ward::new().await;
    ward.probe = false;
    let found = ward.examine().await;
    found.blames(&[], &[], "").are_fine(&[Check::Bucket, Check::CacheInfo]);
    assert!(ward.server.seen().iter().all(|seen| seen.method == "GET"));
    ward.server.forget();
    ward.offline = true;
    ward.examine().await.blames(&[], &[], "").are_fine(&[Check::Store, Check::Trust]);
    assert_eq!(ward.server.seen().len(), 0);
}

// -- the way there ----------------------------------------------------------------------------------

#[tokio::test]
async fn nobody_listens() {
    let mut ward = Ward::new().await;
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    drop(listener);
    ward.endpoint(&endpoint);
    let found = ward.examine().await;
    found.blames(&[Code::EndpointRefused], &["127.0.0.1", "refused"], "start the server");
    for check in CONTENT.into_iter().chain([Check::Bucket, Check::Region, Check::Clock]) {
        assert_eq!(found.because().get(&check), Some(&Check::Endpoint), "{check:?}");
    }
}

#[tokio::test]
async fn a_name_that_does_not_resolve() {
    let mut ward = Ward::new().await;
    ward.endpoint("http://no-such-host.invalid:3900");
    let found = ward.examine().await;
    found.blames(&[Code::EndpointName], &["no-such-host.invalid"], "spelling");
}

#[tokio::test]
async fn a_server_that_says_nothing_is_not_waited_for_long() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut ward = Ward::new().await;
    ward.patience = Duration::from_millis(300);
    ward.endpoint(&format!("http://{}", listener.local_addr().unwrap()));
    let began = std::time::Instant::now();
    let found = ward.examine().await;
    assert!(began.elapsed() < Duration::from_secs(4), "{:?}", began.elapsed());
    found.blames(&[Code::EndpointSilent], &["says nothing"], "log");
}

#[tokio::test]
async fn a_port_that_answers_no_http() {
    use tokio::io::AsyncReadExt as _;
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut ward = Ward::new().await;
    ward.endpoint(&format!("http://{}", listener.local_addr().unwrap()));
    // As Garage's nodes do among themselves: what is no greeting of theirs ends the connection.
    let asked = Arc::new(AtomicUsize::new(0));
    let counted = asked.clone();
    let serving = tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut greeting = [0; 32];
            counted.fetch_add(stream.read(&mut greeting).await.unwrap().min(1), Ordering::SeqCst);
        }
    });
    let found = ward.examine().await;
    found.blames(&[Code::EndpointNotS3], &["takes connections, but does not answer in HTTP"], "the S3 API");
    // Once in S3's way, once to hear who that is.
    assert_eq!(asked.load(Ordering::SeqCst), 2, "it was asked again and again");
    serving.abort();
}

#[tokio::test]
async fn https_to_a_server_of_plain_http() {
    let mut ward = Ward::new().await;
    let endpoint = ward.server.endpoint.replace("http://", "https://");
    ward.endpoint(&endpoint);
    let found = ward.examine().await;
    found.blames(&[Code::EndpointSpeaksHttp], &["speaks plain http"], "http://");
}

#[tokio::test]
async fn plain_http_to_a_server_of_tls() {
    let mut ward = Ward::new().await;
    let tls = TlsProxy::start(&ward.server.endpoint).await;
    ward.endpoint(&tls.endpoint.replace("https://", "http://"));
    let found = ward.examine().await;
    found.blames(&[Code::EndpointSpeaksHttps], &["speaks https"], "https://");
}

#[tokio::test]
async fn an_authority_that_is_not_trusted_and_one_that_is() {
    let mut ward = Ward::new().await;
    let tls = TlsProxy::start(&ward.server.endpoint).await;
    ward.endpoint(&tls.endpoint);
    ward.s3.insert(
        "ca_file",
        quoted(
            std::path::Path::new(env!("CARGO_MANIFEST_DIR"))
                .join("tests/data/tls/expired-ca.pem")
                .display()
                .to_string(),
        ),
    );
    ward.examine().await.blames(&[Code::EndpointCertificate], &["UnknownIssuer"], "ca_file");
    ward.s3.insert("ca_file", quoted(tls.ca_file.display().to_string()));
    ward.examine().await.blames(&[], &[], "").are_fine(&CONTENT);
}

#[tokio::test]
async fn a_certificate_that_has_expired() {
    let mut ward = Ward::new().await;
    let tls = TlsProxy::expired(&ward.server.endpoint).await;
    ward.endpoint(&tls.endpoint);
    ward.s3.insert("ca_file", quoted(tls.ca_file.display().to_string()));
    ward.examine().await.blames(&[Code::EndpointCertificate], &["expired"], "renew");
}

#[tokio::test]
async fn a_ca_file_that_is_none() {
    let mut ward = Ward::new().await;
    ward.endpoint("https://127.0.0.1:1");
    ward.s3.insert("ca_file", quoted("/does/not/exist.pem"));
    ward.examine().await.blames(&[Code::EndpointSetting], &["/does/not/exist.pem"], "setting");
}

async fn answering(answer: String) -> (Ward, Proxy) {
    let mut ward = Ward::new().await;
    let proxy = Proxy::start(&ward.server.endpoint, move |_| Action::Reply(answer.clone())).await;
    ward.endpoint(&proxy.endpoint);
    (ward, proxy)
}

#[tokio::test]
async fn a_web_server_where_s3_should_be() {
    let (ward, _proxy) = answering(reply(404, "text/html", "<html><body>Not found</body></html>")).await;
    let found = ward.examine().await;
    found.blames(&[Code::EndpointNotS3], &["404", "text/html"], "S3 API");
    assert_eq!(found.because().get(&Check::Bucket), Some(&Check::Endpoint));
}

#[tokio::test]
async fn a_server_that_is_out_of_order() {
    let (ward, _proxy) = answering(reply(503, "text/plain", "later")).await;
    ward.examine().await.blames(&[Code::EndpointUnavailable], &["503"], "log");
}

// -- proxies in front -------------------------------------------------------------------------------

#[tokio::test]
async fn a_proxy_that_wants_headers_gets_none_then_wrong_ones_then_the_right_ones() {
    let mut ward = Ward::new().await;
    let proxy = Proxy::demanding(&ward.server.endpoint, "x-pass", "s3cr3t-of-the-proxy").await;
    ward.endpoint(&proxy.endpoint);
    ward.examine().await.blames(&[Code::HeadersMissing], &["403"], "extra_headers");
    ward.more = "[s3.extra_headers]\nx-pass = \"wrong\"\n".to_owned();
    let found = ward.examine().await;
    found.blames(&[Code::HeadersRefused], &["x-pass"], "token may have expired");
    assert_eq!(found.because().get(&Check::Permissions), Some(&Check::Headers));
    ward.more = "[s3.extra_headers]\nx-pass = \"s3cr3t-of-the-proxy\"\n".to_owned();
    let found = ward.examine().await;
    found.blames(&[], &[], "").says(Check::Headers, "come through").are_fine(&CONTENT);
    assert!(!format!("{:?}", found.0).contains("s3cr3t"));
}

#[tokio::test]
async fn a_redirect_to_a_login() {
    let login = "HTTP/1.1 302 Found\r\nLocation: https://login.example\r\nContent-Length: 0\r\n\r\n";
    let (ward, _proxy) = answering(login.to_owned()).await;
    ward.examine().await.blames(&[Code::HeadersMissing], &["login.example"], "extra_headers");
}

// -- who we are -------------------------------------------------------------------------------------

#[tokio::test]
async fn no_credentials_at_all() {
    let mut ward = Ward::new().await;
    ward.s3.retain(|key, _| !key.ends_with("_key"));
    let found = ward.examine().await;
    found.blames(&[Code::CredentialsMissing], &["AWS_ACCESS_KEY_ID is not set", "profile"], "access_key_file");
    found.are_fine(&[Check::Endpoint]);
    assert_eq!(found.because().get(&Check::Bucket), Some(&Check::Credentials));
}

#[tokio::test]
async fn half_of_the_credentials() {
    let mut ward = Ward::new().await;
    ward.s3.retain(|key, _| !key.ends_with("_key"));
    ward.environment.insert("AWS_ACCESS_KEY_ID".into(), "GK".into());
    ward.examine().await.blames(&[Code::CredentialsMissing], &["AWS_SECRET_ACCESS_KEY is not"], "mend the last");
}

#[tokio::test]
async fn a_file_of_a_secret_that_is_not_there() {
    let mut ward = Ward::new().await;
    ward.s3.remove("secret_key");
    ward.s3.insert("secret_key_file", quoted("/no/such/secret"));
    ward.examine().await.blames(&[Code::CredentialsMissing], &["/no/such/secret"], "mend");
}

#[tokio::test]
async fn an_access_key_that_nobody_knows() {
    let mut ward = Ward::new().await;
    ward.s3.insert("access_key", quoted("GKunknown"));
    let found = ward.examine().await;
    found
        .blames(&[Code::CredentialsUnknown], &["InvalidAccessKeyId"], "access key")
        .are_fine(&[Check::Endpoint, Check::Clock]);
    assert_eq!(found.because().get(&Check::Permissions), Some(&Check::Credentials));
}

#[tokio::test]
async fn a_wrong_secret() {
    let mut ward = Ward::new().await;
    ward.s3.insert("secret_key", quoted("wr0ng-s3cr3t"));
    let found = ward.examine().await;
    found.blames(&[Code::CredentialsWrongSecret], &["SignatureDoesNotMatch"], "copy the secret");
    found.says(Check::Permissions, "the credentials stand in the way");
    assert!(!format!("{:?}", found.0).contains("wr0ng"));
}

fn s3_error(status: u16, code: &str) -> String {
    reply(status, "application/xml", &format!("<Error><Code>{code}</Code><Message>no</Message></Error>"))
}

#[tokio::test]
async fn a_session_that_has_expired() {
    let (ward, _proxy) = answering(s3_error(403, "ExpiredToken")).await;
    ward.examine().await.blames(&[Code::CredentialsExpired], &["ExpiredToken"], "new credentials");
}

#[tokio::test]
async fn credentials_that_are_about_to_expire() {
    let mut ward = Ward::new().await;
    ward.s3.retain(|key, _| !key.ends_with("_key"));
    let expiring_in = |minutes: i64| {
        let expires = Timestamp::now() + SignedDuration::from_mins(minutes);
        let told = format!(
            r#"{{"Version":1,"AccessKeyId":"{ACCESS_KEY}","SecretAccessKey":"{SECRET_KEY}","SessionToken":"t","Expiration":"{expires}"}}"#
        );
        ward.write("told", &told);
        ward.write(".aws/config", &format!("[default]\ncredential_process = cat {}\n", ward.at("told").display()));
    };
    expiring_in(12);
    let found = ward.examine().await;
    found.blames(&[Code::CredentialsExpiring], &["expire in 11 min"], "renewed").are_fine(&[Check::Bucket]);
    expiring_in(60);
    ward.examine().await.blames(&[], &[], "").are_fine(&[Check::Credentials]);
}

#[tokio::test]
async fn the_simplest_request_is_refused() {
    let (ward, _proxy) = answering(s3_error(409, "OddRequest")).await;
    let found = ward.examine().await;
    found.blames(&[Code::BucketOdd], &["409 OddRequest"], "addressing_style");
    assert_eq!(found.because().get(&Check::Permissions), Some(&Check::Bucket));
}

#[tokio::test]
async fn a_wrong_region() {
    let mut ward = Ward::new().await;
    ward.s3.insert("region", quoted("eu-9"));
    let found = ward.examine().await;
    found.blames(&[Code::RegionWrong], &["eu-9", "AuthorizationHeaderMalformed"], "region");
    assert_eq!(found.because().get(&Check::Bucket), Some(&Check::Region));
}

#[tokio::test]
async fn a_bucket_that_does_not_exist() {
    let mut ward = Ward::new().await;
    ward.bucket("elsewhere");
    let found = ward.examine().await;
    found.blames(&[Code::BucketMissing], &["elsewhere", "NoSuchBucket"], "loft init");
    found.are_fine(&[Check::Endpoint]);
    assert_eq!(found.because().get(&Check::Permissions), Some(&Check::Bucket));
}

#[tokio::test]
async fn clocks_that_differ() {
    let ward = Ward::new().await;
    let ahead = |seconds| ward.server.memory.clock.set_wall(SystemTime::now() + Duration::from_secs(seconds));
    ahead(3600);
    ward.examine().await.blames(&[Code::ClockWrong], &["behind", "3"], "timedatectl");
    ahead(500);
    ward.examine().await.blames(&[Code::ClockOff], &["behind"], "timedatectl");
}

#[tokio::test]
async fn a_clock_so_wrong_that_nothing_is_answered() {
    let refusal = "<Error><Code>RequestTimeTooSkewed</Code><Message>no</Message></Error>";
    let answer = format!(
        "HTTP/1.1 403 No\r\nDate: Sun, 22 Nov 2020 10:00:00 GMT\r\nContent-Length: {}\r\n\r\n{refusal}",
        refusal.len()
    );
    let (ward, _proxy) = answering(answer).await;
    let found = ward.examine().await;
    found.blames(&[Code::ClockWrong], &["ahead"], "timedatectl");
    assert_eq!(found.because().get(&Check::Credentials), Some(&Check::Clock));
}

// -- what we may do ---------------------------------------------------------------------------------

#[tokio::test]
async fn a_request_that_fails_although_it_is_allowed() {
    let ward = Ward::new().await;
    ward.server.memory.set_faults(|moment, request| {
        (moment == Moment::Before && request.kind == RequestKind::CreateUpload).then_some(Fault::Unavailable(None))
    });
    let found = ward.examine().await;
    found.blames(&[Code::RequestFails], &["could not start multipart uploads", "503"], "server's log");
}

async fn denying(kinds: &'static [RequestKind]) -> Ward {
    let ward = Ward::new().await;
    ward.server.memory.set_faults(move |moment, request| {
        (moment == Moment::Before && kinds.contains(&request.kind)).then_some(Fault::Denied)
    });
    ward
}

#[tokio::test]
async fn a_key_that_may_not_write() {
    let ward = denying(&[RequestKind::Put, RequestKind::CreateUpload, RequestKind::Delete]).await;
    let found = ward.examine().await;
    found.blames(&[Code::MayNotWrite], &["put objects", "AccessDenied"], "s3:PutObject").are_fine(&[Check::CacheInfo]);
    let way_out = format!("garage bucket allow --write {BUCKET} --key {ACCESS_KEY} ");
    found.blames(&[Code::MayNotWrite], &[], &way_out);
    assert_eq!(found.because().get(&Check::Consistency), Some(&Check::Permissions));
}

#[tokio::test]
async fn a_key_that_may_not_read() {
    let ward = denying(&[RequestKind::Get, RequestKind::Head, RequestKind::List]).await;
    let found = ward.examine().await;
    found.blames(&[Code::MayNotRead], &["get objects", "list objects"], "s3:GetObject");
    assert_eq!(found.because().get(&Check::CacheInfo), Some(&Check::Permissions));
}

#[tokio::test]
async fn a_key_that_may_not_list() {
    let ward = denying(&[RequestKind::List]).await;
    ward.examine().await.blames(&[Code::MayNotList], &["list objects"], "s3:ListBucket");
}

#[tokio::test]
async fn a_key_that_may_not_upload_in_parts() {
    let ward = denying(&[RequestKind::CreateUpload]).await;
    ward.examine().await.blames(&[Code::MayNotUpload], &["start multipart uploads"], "larger NARs");
}

#[tokio::test]
async fn a_key_that_may_not_abort_uploads() {
    let mut ward = denying(&[RequestKind::AbortUpload]).await;
    ward.leaves_uploads = 1;
    ward.examine().await.blames(&[Code::MayNotTidy], &["abort"], "s3:AbortMultipartUpload");
}

#[tokio::test]
async fn a_pruner_that_may_not_delete_and_a_pusher_that_need_not() {
    let mut ward = Ward::new().await;
    ward.server.memory.set_faults(|moment, request| {
        let denied = request.kind == RequestKind::Delete && !request.on.starts_with("loft/v1/lease/");
        (moment == Moment::Before && denied).then_some(Fault::Denied)
    });
    // The same one, however often it is done.
    ward.leaves.insert(Key::kept_probe());
    ward.examine().await.blames(&[], &[], "").says(Check::Permissions, "not delete");
    assert!(ward.server.memory.contents().contains_key(&Key::kept_probe()));
    ward.loft.insert("prune_enabled", "true".to_owned());
    ward.examine().await.blames(&[Code::MayNotDelete], &["delete objects"], "s3:DeleteObject");
}

#[tokio::test]
async fn a_pusher_that_may_not_end_its_leases() {
    let mut ward = denying(&[RequestKind::Delete]).await;
    ward.leaves.insert(Key::kept_probe());
    ward.examine().await.blames(&[Code::MayNotEndLeases], &["delete leases"], "loft/v1/lease/");
}

async fn through(rule: impl Fn(&Head) -> Action + Send + Sync + 'static) -> (Ward, Proxy) {
    let mut ward = Ward::new().await;
    let proxy = Proxy::start(&ward.server.endpoint, rule).await;
    ward.endpoint(&proxy.endpoint);
    (ward, proxy)
}

#[tokio::test]
async fn requests_that_are_signed_in_their_url_do_not_pass() {
    let (ward, _proxy) = through(|head| match head.target.contains("X-Amz-Signature") {
        true => Action::Reply(s3_error(403, "AccessDenied")),
        false => Action::Pass,
    })
    .await;
    ward.examine().await.blames(&[Code::PresignedRefused], &["time limit"], "query");
}

// -- what the store does ----------------------------------------------------------------------------

#[tokio::test]
async fn a_listing_that_lags() {
    let empty = "<ListBucketResult><IsTruncated>false</IsTruncated></ListBucketResult>";
    let (ward, _proxy) = through(move |head| match head.target.contains("prefix=loft%2Fv1%2Fprobe%2F0") {
        true if head.target.contains("list-type") => Action::Reply(reply(200, "application/xml", empty)),
        _ => Action::Pass,
    })
    .await;
    ward.examine().await.blames(&[Code::Inconsistent], &["does not show in a listing"], "cache between");
}

#[tokio::test]
async fn a_proxy_that_changes_what_is_read() {
    let (ward, _proxy) = through(|head| match head.method.as_str() {
        "GET" if head.target.contains("/probe/0") && !head.target.contains('?') && head.nth == 0 => Action::Reply(
            "HTTP/1.1 200 OK\r\nLast-Modified: Sun, 22 Nov 2026 10:00:00 GMT\r\nContent-Length: 3\r\n\r\nold"
                .to_owned(),
        ),
        _ => Action::Pass,
    })
    .await;
    ward.examine().await.blames(&[Code::BytesChanged], &["other bytes"], "take it out");
}

#[tokio::test]
async fn a_server_that_takes_whatever_digest_is_told() {
    // What is sent to find out has two bytes.
    let (ward, _proxy) = through(|head| match head.headers.get("content-length").map(String::as_str) {
        Some("2") if head.method == "PUT" => Action::Reply(reply(200, "text/plain", "")),
        _ => Action::Pass,
    })
    .await;
    ward.examine().await.blames(&[Code::DigestsUnchecked], &["nothing else guards plain http"], "use https");
}

fn rule(expires: Option<&str>, aborts_uploads_after: Option<u32>) -> LifecycleRule {
    let expires = expires.map(str::to_owned);
    LifecycleRule { id: "tidy".into(), prefix: "nar/".into(), expires, archives: None, aborts_uploads_after }
}

#[tokio::test]
async fn a_rule_that_deletes_and_one_that_ends_uploads_early() {
    let mut memory = Memory::garage();
    memory.lifecycle = vec![rule(Some("after 30 days"), None)];
    let ward = Ward::with(memory).await;
    ward.examine().await.blames(&[Code::LifecycleExpires], &["tidy", "after 30 days"], "remove it");
    let mut memory = Memory::garage();
    memory.lifecycle = vec![rule(None, Some(1))];
    let ward = Ward::with(memory).await;
    ward.examine().await.blames(&[Code::LifecycleAborts], &["1 day"], "two days");
    let mut memory = Memory::garage();
    memory.lifecycle = vec![LifecycleRule { archives: Some("to GLACIER after 60 days".into()), ..rule(None, None) }];
    let ward = Ward::with(memory).await;
    ward.examine().await.blames(&[Code::LifecycleArchives], &["tidy", "to GLACIER after 60 days"], "choose a class");
}

#[test]
fn every_code_is_in_the_book_and_none_is_said_twice() {
    let page = include_str!("../../docs/doctor.md");
    let names: BTreeSet<&str> = Code::ALL.iter().map(|code| code.name()).collect();
    assert_eq!(names.len(), Code::ALL.len());
    for name in names {
        assert!(page.contains(&format!("| `{name}` |")), "docs/doctor.md has nothing of {name}");
    }
    for check in Check::ALL {
        assert!(page.contains(&format!("`{}`", check.name())), "docs/doctor.md has nothing of {}", check.name());
    }
}
