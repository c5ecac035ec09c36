use super::*;
use crate::bucket::Secret;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// Nothing on this machine answers: no profile, no instance.
fn env(home: &Path, more: &[(&str, &str)]) -> BTreeMap<String, String> {
    let base = [("HOME", home.to_str().unwrap()), ("AWS_EC2_METADATA_DISABLED", "true")];
    base.iter().chain(more).map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

async fn get(settings: &S3Settings, env: &BTreeMap<String, String>) -> Result<Credential, CredentialsError> {
    let credentials = Credentials::new(settings, env, Trust::default());
    credentials.get().await.map(|credential| (*credential).clone())
}

fn names(credential: &Credential) -> (&str, &str, Option<&str>) {
    (&credential.access_key_id, &credential.secret_access_key, credential.session_token.as_deref())
}

fn write(home: &Path, file: &str, text: &str) -> PathBuf {
    let path = home.join(file);
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(&path, text).unwrap();
    path
}

/// A server that answers every request with `body` and says what it was asked.
async fn serve(answer: impl Fn(&str) -> String + Send + 'static) -> String {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut request = vec![0; 8192];
            let read = stream.read(&mut request).await.unwrap();
            let body = answer(&String::from_utf8_lossy(&request[..read]));
            let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", body.len());
            stream.write_all(format!("{head}{body}").as_bytes()).await.unwrap();
        }
    });
    format!("http://{address}")
}

#[tokio::test]
async fn nothing_found_lists_every_source_and_why() {
    let home = tempfile::tempdir().unwrap();
    let error = get(&S3Settings::new("c"), &env(home.path(), &[])).await.unwrap_err();
    assert!(!error.had_some);
    let text = error.to_string();
    for part in [
        "the settings: access_key and secret_key are not set",
        "the environment: AWS_ACCESS_KEY_ID is not set",
        "profile: \"default\" is neither in",
        ".aws/config",
        "web identity: AWS_WEB_IDENTITY_TOKEN_FILE is not set",
        "container role: neither AWS_CONTAINER_CREDENTIALS_FULL_URI",
        "instance role: AWS_EC2_METADATA_DISABLED is true",
    ] {
        assert!(text.contains(part), "{part} is not in {text}");
    }
}

#[tokio::test]
async fn a_silent_metadata_service_is_not_waited_for() {
    let home = tempfile::tempdir().unwrap();
    // Takes connections and never answers.
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    let mut env = env(home.path(), &[("AWS_EC2_METADATA_SERVICE_ENDPOINT", &endpoint)]);
    env.remove("AWS_EC2_METADATA_DISABLED");
    let started = std::time::Instant::now();
    let error = get(&S3Settings::new("c"), &env).await.unwrap_err();
    assert!(started.elapsed() < Duration::from_secs(4), "{:?}", started.elapsed());
    assert!(error.to_string().contains("instance role: failed to connect to IMDS"), "{error}");
}

#[tokio::test]
async fn the_first_source_wins_and_halves_may_come_from_the_environment() {
    let home = tempfile::tempdir().unwrap();
    write(home.path(), ".aws/credentials", "[default]\naws_access_key_id=PA\naws_secret_access_key=PS\n");
    let all = [("AWS_ACCESS_KEY_ID", "EA"), ("AWS_SECRET_ACCESS_KEY", "ES"), ("AWS_SESSION_TOKEN", "ET")];
    let with_env = env(home.path(), &all);
    let mut settings = S3Settings::new("c");
    assert_eq!(names(&get(&settings, &env(home.path(), &[])).await.unwrap()), ("PA", "PS", None));
    assert_eq!(names(&get(&settings, &with_env).await.unwrap()), ("EA", "ES", Some("ET")));
    settings.access_key = Some(Secret::new("SA"));
    assert_eq!(names(&get(&settings, &with_env).await.unwrap()), ("SA", "ES", Some("ET")));
    settings.secret_key = Some(Secret::new("SS"));
    assert_eq!(names(&get(&settings, &with_env).await.unwrap()), ("SA", "SS", None));
    // A named profile is meant to be used whatever the environment holds.
    let mut named = S3Settings::new("c");
    named.profile = Some("default".into());
    assert_eq!(names(&get(&named, &with_env).await.unwrap()), ("PA", "PS", None));
}

#[tokio::test]
async fn half_configured_sources_end_the_search() {
    let home = tempfile::tempdir().unwrap();
    write(home.path(), ".aws/credentials", "[default]\naws_access_key_id=PA\naws_secret_access_key=PS\n");
    let half = env(home.path(), &[("AWS_ACCESS_KEY_ID", "EA")]);
    let error = get(&S3Settings::new("c"), &half).await.unwrap_err().to_string();
    assert!(error.contains("AWS_ACCESS_KEY_ID is set, but AWS_SECRET_ACCESS_KEY is not"), "{error}");
    let mut settings = S3Settings::new("c");
    settings.access_key = Some(Secret::new("SA"));
    let error = get(&settings, &env(home.path(), &[])).await.unwrap_err().to_string();
    assert!(error.contains("secret_key is missing"), "{error}");
}

#[tokio::test]
async fn key_files_are_trimmed_and_must_be_the_owners() {
    let home = tempfile::tempdir().unwrap();
    let access = write(home.path(), "access", " GK01\n");
    let secret = write(home.path(), "secret", "s3cr3t\n\n");
    let mut settings = S3Settings::new("c");
    settings.access_key_file = Some(access.clone());
    settings.secret_key_file = Some(secret.clone());
    let env = env(home.path(), &[]);
    assert_eq!(names(&get(&settings, &env).await.unwrap()), ("GK01", "s3cr3t", None));

    let refusal = async |settings: &S3Settings| get(settings, &env).await.unwrap_err().to_string();
    std::fs::set_permissions(&secret, std::fs::Permissions::from_mode(0o666)).unwrap();
    assert!(refusal(&settings).await.contains("others may write it"));
    std::fs::set_permissions(&secret, std::fs::Permissions::from_mode(0o600)).unwrap();
    for (text, why) in [("", "it is empty"), ("a b", "more than one word"), (&"x".repeat(5000) as &str, "larger than")]
    {
        std::fs::write(&secret, text).unwrap();
        let error = refusal(&settings).await;
        assert!(error.contains(why) && error.contains("secret_key_file"), "{error}");
    }
    settings.secret_key_file = Some(home.path().join("absent"));
    assert!(refusal(&settings).await.contains("No such file"));
    settings.secret_key = Some(Secret::new("s3cr3t"));
    let both = refusal(&settings).await;
    assert!(both.contains("both secret_key and secret_key_file") && !both.contains("s3cr3t"), "{both}");
}

#[tokio::test]
async fn profiles_follow_the_rules_of_the_aws_tools() {
    let home = tempfile::tempdir().unwrap();
    let helper = write(
        home.path(),
        "my helper",
        "#!/bin/sh\necho '{\"Version\":1,\"AccessKeyId\":\"'$1'\",\"SecretAccessKey\":\"HS\",\"Expiration\":\"2099-01-01T00:00:00Z\"}'\n",
    );
    std::fs::set_permissions(&helper, std::fs::Permissions::from_mode(0o755)).unwrap();
    let config = format!(
        "[default]\nregion = x\n[profile both]\naws_access_key_id = C\naws_secret_access_key = C\n\
         [profile helper]\ncredential_process = \"{}\" HA\n[profile broken]\ncredential_process = false\n\
         [profile mfa]\nrole_arn = r\nmfa_serial = m\nsource_profile = both\n\
         [profile a]\nrole_arn = r\nsource_profile = b\n[profile b]\nrole_arn = r\nsource_profile = a\n\
         [profile dangling]\nrole_arn = r\nsource_profile = nobody\n[profile lonely]\nrole_arn = r\n\
         [profile odd]\nrole_arn = r\ncredential_source = Moon\n[profile sso]\nsso_session = gone\n",
        helper.display()
    );
    write(home.path(), ".aws/config", &config);
    write(
        home.path(),
        ".aws/credentials",
        "[both]\naws_access_key_id=A\naws_secret_access_key=S\naws_session_token=T\n",
    );
    let profile = async |name: &str| get(&S3Settings::new("c"), &env(home.path(), &[("AWS_PROFILE", name)])).await;
    assert_eq!(names(&profile("both").await.unwrap()), ("A", "S", Some("T")));
    let helped = profile("helper").await.unwrap();
    assert_eq!(names(&helped), ("HA", "HS", None));
    assert!(helped.expires_in.is_some());
    for (name, why) in [
        ("absent", "\"absent\" is neither in"),
        ("default", "\"default\" has no keys"),
        ("broken", "\"false\" failed"),
        ("mfa", "needs an MFA code"),
        ("a", "leads back to \"a\""),
        ("dangling", "\"nobody\" is neither in"),
        ("lonely", "neither source_profile nor credential_source"),
        ("odd", "unknown credential_source \"Moon\""),
        ("sso", "names an sso_session"),
    ] {
        let error = profile(name).await.unwrap_err().to_string();
        assert!(error.contains(why), "{name}: {error}");
    }
}

#[tokio::test]
async fn sso_exchanges_the_cached_token() {
    let home = tempfile::tempdir().unwrap();
    let settings = "sso_account_id = 1\nsso_role_name = pusher\n";
    write(
        home.path(),
        ".aws/config",
        &format!(
            "[profile new]\nsso_session = corp\n{settings}[sso-session corp]\nsso_region = eu-west-1\nsso_start_url = https://x\n"
        ),
    );
    let portal = serve(|request| {
        assert!(request.starts_with("GET /?role_name=pusher&account_id=1 "), "{request}");
        assert!(request.contains("x-amz-sso_bearer_token: TOKEN"), "{request}");
        r#"{"roleCredentials":{"accessKeyId":"A","secretAccessKey":"S","sessionToken":"T","expiration":4000000000000}}"#
            .into()
    })
    .await;
    let env = env(home.path(), &[("AWS_PROFILE", "new"), ("AWS_SSO_ENDPOINT", &portal)]);
    let error = get(&S3Settings::new("c"), &env).await.unwrap_err().to_string();
    assert!(error.contains("aws sso login"), "{error}");
    let name = reqsign_core::hash::hex_sha1(b"corp");
    let cache = format!(".aws/sso/cache/{name}.json");
    write(home.path(), &cache, r#"{"accessToken":"TOKEN","expiresAt":"2020-01-01T00:00:00UTC"}"#);
    assert!(get(&S3Settings::new("c"), &env).await.unwrap_err().to_string().contains("expired"));
    write(home.path(), &cache, r#"{"accessToken":"TOKEN","expiresAt":"2099-01-01T00:00:00Z"}"#);
    assert_eq!(names(&get(&S3Settings::new("c"), &env).await.unwrap()), ("A", "S", Some("T")));
}

#[tokio::test]
async fn temporary_credentials_are_renewed_in_time_and_asked_for_once() {
    let home = tempfile::tempdir().unwrap();
    let asked = Arc::new(AtomicUsize::new(0));
    let counter = asked.clone();
    // The first ones are about to expire, the next live long.
    let endpoint = serve(move |_| {
        let n = counter.fetch_add(1, Ordering::SeqCst);
        let expires =
            if n == 0 { Timestamp::now() + Duration::from_secs(60) } else { "2099-01-01T00:00:00Z".parse().unwrap() };
        format!(r#"{{"AccessKeyId":"A{n}","SecretAccessKey":"S","Token":"T","Expiration":"{expires}"}}"#)
    })
    .await;
    let env = env(home.path(), &[("AWS_CONTAINER_CREDENTIALS_FULL_URI", &endpoint)]);
    let credentials = Credentials::new(&S3Settings::new("c"), &env, Trust::default());
    assert_eq!(credentials.get().await.unwrap().access_key_id, "A0");
    let many = futures_util::future::join_all((0..20).map(|_| credentials.get())).await;
    assert!(many.into_iter().all(|credential| credential.unwrap().access_key_id == "A1"));
    assert_eq!(asked.load(Ordering::SeqCst), 2);
}

#[tokio::test]
async fn old_credentials_serve_while_new_ones_cannot_be_had() {
    let home = tempfile::tempdir().unwrap();
    let script = write(home.path(), "helper", "#!/bin/sh\nexit 1\n");
    std::fs::set_permissions(&script, std::fs::Permissions::from_mode(0o755)).unwrap();
    write(home.path(), ".aws/config", &format!("[default]\ncredential_process = {}\n", script.display()));
    let credentials = Credentials::new(&S3Settings::new("c"), &env(home.path(), &[]), Trust::default());
    let expiring = |seconds| {
        let expires_in = Some(Timestamp::now() + Duration::from_secs(seconds));
        Some(Arc::new(Credential {
            access_key_id: "A".into(),
            secret_access_key: "S".into(),
            session_token: None,
            expires_in,
        }))
    };
    *credentials.current.lock().await = expiring(60);
    assert_eq!(credentials.get().await.unwrap().access_key_id, "A");
    *credentials.current.lock().await = expiring(5);
    let error = credentials.get().await.unwrap_err();
    assert!(error.had_some, "these may come back, so a retry makes sense");
}
