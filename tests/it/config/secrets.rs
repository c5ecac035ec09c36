//! No secret gets out: not into a message, not to another server.

use super::{Setup, s3, to};
use loft::config::{Sources, load, show};
use proptest::prelude::*;
use std::fs;

#[test]
fn shows_every_setting_once_and_no_secret() {
    let setup = Setup::new(
        "[s3]\nbucket = \"b\"\naccess_key = \"GKabcdefghijkl\"\nsecret_key = \"hunter2hunter2\"\n\
         [s3.extra_headers]\nX-Token = \"hunter3hunter3\"\n",
    );
    let loaded = setup.load().unwrap();
    let (table, json) = (show::table(&loaded.effective), show::json(&loaded.effective));
    let everything = format!("{table}{json}{loaded:?}");
    assert!(!everything.contains("hunter"), "{everything}");
    assert!(!everything.contains("GKabc") && table.contains("GKab…"), "{everything}");
    let settings = json["settings"].as_array().unwrap();
    let keys: Vec<_> = settings.iter().map(|entry| entry["key"].as_str().unwrap()).collect();
    let mut unique = keys.clone();
    unique.sort_unstable();
    unique.dedup();
    assert_eq!(unique.len(), keys.len(), "{keys:?}");
    // 41 keys are known; extra_headers shows as its one header.
    assert_eq!(keys.len(), 42, "{keys:?}");
    assert_eq!(settings[0]["origin"]["line"], 2);
}

/// Of a URL that is refused nothing is repeated that might be a password.
#[test]
fn a_refused_url_keeps_its_password() {
    for url in [
        "https://u:pa55word@h/b",
        "s3://u:pa55word@b",
        "s3://b?endpoint=http://u:pa55word@h",
        "s3:u:pa55word@b",
        "s3://b?endpoint=http://h&nonsense=u:pa55word@h",
    ] {
        let error = Setup::new("").flags(to(url)).load().unwrap_err();
        assert!(!format!("{error} {error:?}").contains("pa55word"), "{url}: {error}");
    }
}

/// The file's secrets are for the file's server.
#[test]
fn secrets_do_not_follow_to_another_server() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("other");
    fs::write(&file, "o").unwrap();
    let text = format!(
        "[s3]\nbucket = \"b\"\nendpoint = \"http://home:80/\"\naccess_key = \"GKhome\"\nsecret_key = \"s\"\n\
                [s3.extra_headers]\nX-Token = \"t\"\n[s3.extra_header_files]\nX-Other = {file:?}\n"
    );
    for (url, kept) in [
        ("s3://b", true),
        ("s3://other?endpoint=http://HOME", true),
        ("s3://b?endpoint=https://home:80", false),
        ("s3://b?endpoint=http://elsewhere", false),
    ] {
        let loaded = Setup::new(&text).flags(to(url)).load().unwrap();
        let s3 = s3(&loaded);
        assert_eq!(s3.access_key.is_some(), kept, "{url}");
        assert_eq!(s3.secret_key.is_some(), kept, "{url}");
        assert_eq!(!s3.extra_headers.is_empty(), kept, "{url}");
        assert_eq!(loaded.warnings.is_empty(), kept, "{url}");
        if !kept {
            let told = loaded.warnings[0].to_string();
            assert!(told.contains("extra_header_files, extra_headers"), "{told}");
        }
    }
    // What the environment gives is given for this run.
    let setup = Setup::new(&text).variable("LOFT_EXTRA_HEADER_X_TOKEN", "mine");
    let loaded = setup.flags(to("s3://b?endpoint=http://elsewhere")).load().unwrap();
    assert_eq!(s3(&loaded).extra_headers.names().collect::<Vec<_>>(), ["x-token"]);
}

/// A file with secrets of every kind, and the secrets.
const SECRETS: [&str; 4] = ["abcdefghijklmnopAKEY", "S3CR3T+base64/text==", "T0KEN+of-proxy+xyz==", "pa55word-in-url"];

fn with_secrets() -> String {
    format!(
        "[s3]\nbucket = \"nix-cache\"\nendpoint = \"http://u:{3}@h\"\naccess_key = \"{0}\"\nsecret_key = \"{1}\"\n\
         region = \"x y\"\n[s3.extra_headers]\nX-Token = \"{2}\"\nHost = \"{2}\"\n[loft]\nupload_threads = 0\n\
         exclude = [\"a\", 3]\nupstreams = [\"https://u:{3}@h/\"]\ncompression = \"zst\"\n",
        SECRETS[0], SECRETS[1], SECRETS[2], SECRETS[3],
    )
}

/// A line of a value that was torn off its key may look like a table's header.
#[test]
fn what_looks_like_a_header_shows_no_secret() {
    for torn in [
        "upstreams =\n[\"https://u:pa55word-in-url@h/\"]",
        "upstreams \n[\"https://u:pa55word-in-url@h/\"]",
        "upstreams \n= [\"https://u:pa55word-in-url@h/\"]",
        "upstreams \n= [\"https://u:pa55word-in-url h/\"]",
        "\n= [\"https://u:pa55word-in-url h/\"]",
        "x\n[\"https://u:pa55word-in-url h/\"]",
        "x = {\n[\"https://u:pa55word-in-url h/\"]",
        "x = 1\n[\"https://u:pa55word-in-url h/\"] ]",
        "x = 1\n[\"https://u:pa55word-in-url h/\"",
    ] {
        let error = Setup::new(&format!("[loft]\n{torn}\n")).load();
        assert!(!format!("{error:?}").contains("pa55word"), "{torn}: {error:?}");
        if let Err(error) = error {
            assert!(!error.to_string().contains("pa55word"), "{torn}: {error}");
        }
    }
    let error = Setup::new("[loft\n").load().unwrap_err();
    assert!(error.to_string().contains("loft.toml:1"), "{error}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    /// Mistakes anywhere but in a secret itself never bring one into a message.
    #[test]
    fn no_mistake_shows_a_secret(edits in prop::collection::vec((0usize..400, 0u8..3, "[\"'=\\[\\]{}#\n@a,. 0]"), 1..4)) {
        let mut text = with_secrets();
        for (at, kind, new) in edits {
            let at = at % text.len();
            let in_secret = SECRETS.iter().any(|secret| {
                text.match_indices(secret).any(|(start, _)| (start..=start + secret.len()).contains(&at))
            });
            if in_secret || !text.is_char_boundary(at) || !text.is_char_boundary(at + 1) {
                continue;
            }
            match kind {
                0 => text.replace_range(at..=at, ""),
                1 => text.insert_str(at, &new),
                _ => text.replace_range(at..=at, &new),
            }
        }
        let setup = Setup::new(&text);
        for strict in [false, true] {
            let told = match load(&Sources { strict, ..setup.sources.clone() }) {
                Ok(loaded) => format!("{loaded:?} {}", show::table(&loaded.effective)),
                Err(error) => {
                    let warnings: String = error.warnings.iter().map(ToString::to_string).collect();
                    format!("{error} {warnings} {error:?}")
                }
            };
            for secret in SECRETS {
                prop_assert!(!told.contains(&secret[..8]), "{text}\n----\n{told}");
            }
        }
    }

    #[test]
    fn no_text_makes_it_panic(text in "\\PC{0,200}") {
        let _ = Setup::new(&text).load();
    }
}
