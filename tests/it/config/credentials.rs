//! Credentials: those of systemd, and those of the environment.

use super::{Setup, s3};
use loft::config::Flags;
use loft::nix::{KeyName, SecretKey};
use std::fs;
use std::os::unix::fs::PermissionsExt as _;

#[test]
fn credentials_of_systemd_stand_for_the_files_that_are_configured() {
    let dir = tempfile::tempdir().unwrap();
    let credential = |name: &str, text: &str| {
        let file = dir.path().join(name);
        fs::write(&file, text).unwrap();
        // As an access control list for one user looks.
        fs::set_permissions(&file, fs::Permissions::from_mode(0o440)).unwrap();
        file
    };
    let text = "[s3]\nbucket = \"b\"\naccess_key = \"inline-key\"\nsecret_key_file = \"/root/s\"\n\
                extra_headers_file = \"/root/h\"\n[loft]\nsigning_key_path = \"/root/k\"\nsigning_key_name = \"n-1\"\n\
                signing_key_paths = [\"/root/k2\"]\n";
    let setup = |directory: &str| Setup::new(text).variable("CREDENTIALS_DIRECTORY", directory);
    let here = dir.path().to_str().unwrap().to_owned();
    // None there: what is configured holds, and cannot be read.
    for directory in ["", here.as_str(), "/nowhere"] {
        assert!(setup(directory).load().unwrap_err().to_string().contains("/root/h"), "{directory}");
    }
    // That nobody can look is not that none is there.
    let unreadable = credential("no-directory", "");
    let error = setup(unreadable.to_str().unwrap()).load().unwrap_err().to_string();
    assert!(error.contains("Could not look which credentials are in"), "{error}");
    let access = credential("loft.access-key", "id\n");
    let secret = credential("loft.secret-key", "secret\n");
    credential("loft.extra-headers", "X-Token: t\n");
    let key = |name: &str| SecretKey::generate(KeyName::parse(name).unwrap()).unwrap().to_secret_text().to_string();
    let signing = credential("loft.signing-key", &key("n-1"));
    let more = [credential("loft.signing-key.0", &key("m-0")), credential("loft.signing-key.1", &key("m-1"))];
    credential("loft.signing-keys", "nonsense");
    let setup = setup(&here);
    let loaded = setup.load().unwrap();
    assert_eq!(loaded.warnings, []);
    let s3 = s3(&loaded);
    assert!(s3.access_key.is_none(), "it would contradict the credential");
    assert_eq!((s3.access_key_file.as_ref(), s3.secret_key_file.as_ref()), (Some(&access), Some(&secret)));
    assert_eq!(s3.extra_headers.names().collect::<Vec<_>>(), ["x-token"]);
    let files: Vec<_> = loaded.settings.signing.files.iter().map(|file| &file.path).collect();
    assert_eq!(files, [&signing, &more[0], &more[1]]);
    let keys = loaded.signing_keys().unwrap();
    assert_eq!(keys.warnings, [], "who can read a credential is systemd's business");
    assert_eq!(keys.keys.iter().map(|key| key.name().as_str()).collect::<Vec<_>>(), ["n-1", "m-0", "m-1"]);
    assert_eq!(setup.shown("s3.access_key_file").1, "CREDENTIALS_DIRECTORY");
    // A key that was typed replaces them all, as it does configured ones.
    let typed = setup.flags(Flags { signing_keys: vec!["/typed".into()], ..Flags::default() });
    assert_eq!(typed.load().unwrap().settings.signing.files.len(), 1);
}

#[test]
fn half_a_credential_may_come_from_the_environment() {
    let setup = Setup::new("[s3]\nbucket = \"b\"\naccess_key = \"GKx\"\n").variable("AWS_SECRET_ACCESS_KEY", "sec");
    assert_eq!(s3(&setup.load().unwrap()).secret_key.as_ref().unwrap().expose(), "sec");
}
