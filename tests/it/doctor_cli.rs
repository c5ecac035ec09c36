//! `loft doctor` by the program itself: what it prints, what it exits with, and that no secret is among it.

use crate::support::local_cache::{Ran, ended};
use crate::support::memory::{Fault, Moment};
use crate::support::patient::{Ward, quoted};
use std::process::{Command, Stdio};

async fn run(ward: &Ward, code: i32, args: &[&str]) -> Ran {
    ward.write("loft.toml", &ward.toml());
    let mut command = Command::new(env!("CARGO_BIN_EXE_loft"));
    command.args(args).current_dir(ward.at("")).env_clear().envs(&ward.environment).stdin(Stdio::null());
    let output = tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap();
    ended(code, output)
}

#[tokio::test]
async fn all_is_well_and_exits_0() {
    let ward = Ward::new().await;
    let ran = run(&ward, 0, &["doctor"]).await;
    ran.prints(&["ok       endpoint", "ok       trusted key", "Nothing is broken: "]);
    assert!(!ran.stdout.contains("BROKEN") && ran.stderr.is_empty(), "{ran:?}");
}

#[tokio::test]
async fn what_is_broken_exits_3_with_the_way_out() {
    let mut ward = Ward::new().await;
    ward.bucket("elsewhere");
    let ran = run(&ward, 3, &["doctor"]).await;
    ran.prints(&[
        "BROKEN   bucket",
        "[bucket-missing]",
        "to do: correct bucket",
        "since the bucket stands in the way",
        "1 broken: ",
    ]);
    let json = run(&ward, 3, &["doctor", "--json"]).await;
    let found = json.events("finding");
    let broken: Vec<_> = found.iter().filter(|event| event["verdict"] == "broken").collect();
    assert_eq!(broken.len(), 1);
    assert_eq!((&broken[0]["check"], &broken[0]["code"]), (&"bucket".into(), &"bucket-missing".into()));
    assert!(broken[0]["way_out"].as_str().unwrap().contains("loft init"));
    let unlooked = found.iter().find(|event| event["check"] == "permissions").unwrap();
    assert_eq!((&unlooked["verdict"], &unlooked["because_of"]), (&"unlooked".into(), &"bucket".into()));
}

#[tokio::test]
async fn a_url_leads_elsewhere_and_a_broken_configuration_is_a_finding() {
    let mut ward = Ward::new().await;
    let url = format!("file://{}", ward.at("cache").display());
    run(&ward, 0, &["doctor", "--to", &url, "--offline"]).await.prints(&["from --to", "first push makes it"]);
    ward.loft.insert("upload_threads", quoted("many"));
    run(&ward, 3, &["doctor"]).await.prints(&["BROKEN   configuration", "upload_threads", "config-unusable"]);
}

#[tokio::test]
async fn no_secret_is_printed() {
    let mut ward = Ward::new().await;
    ward.more = "[s3.extra_headers]\nx-pass = \"s3cr3t-header\"\n".to_owned();
    ward.write(".config/nix/nix.conf", "netrc-file = /nonexistent\n");
    ward.environment.insert("NIX_CONFIG".into(), "access-tokens = github.com=s3cr3t-token\n".into());
    let secret = ward.key.to_secret_text();
    let secret = secret.trim().split_once(':').unwrap().1;
    let right = ward.s3["secret_key"].clone();
    for wrong in [right, quoted("wr0ng-s3cr3t"), "\"s3cr3t with a mistake".to_owned()] {
        ward.s3.insert("secret_key", wrong);
        for args in [&["doctor"][..], &["doctor", "--json"], &["doctor", "--debug"]] {
            ward.write("loft.toml", &ward.toml());
            let mut command = Command::new(env!("CARGO_BIN_EXE_loft"));
            command.args(args).current_dir(ward.at("")).env_clear().envs(&ward.environment).stdin(Stdio::null());
            let output = tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap();
            let told =
                format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
            assert!(!told.contains("s3cr3t") && !told.contains(secret), "{told}");
            assert!(told.contains("configuration"));
        }
    }
}

#[tokio::test]
async fn errors_on_the_way_to_the_bucket_name_the_doctor_once() {
    let told = async |ward: &Ward, args: &[&str]| {
        let ran = run(ward, 1, args).await;
        let hints: Vec<&str> = ran.stderr.lines().filter(|line| line.contains("doctor")).collect();
        assert_eq!(hints.len(), 1, "{}", ran.stderr);
        assert_eq!(ran.stderr.lines().last(), Some(hints[0]));
        hints[0].trim().to_owned()
    };
    let mut ward = Ward::new().await;
    let path = ward.store.logical(&ward.path);
    let plain = "hint: `loft doctor` tests each step on the way to the bucket";

    ward.s3.insert("secret_key", quoted("wrong"));
    assert_eq!(told(&ward, &["push", &path]).await, plain);
    assert_eq!(told(&ward, &["init"]).await, plain);
    ward.bucket("elsewhere");
    ward.s3.insert("secret_key", quoted(crate::support::s3_server::SECRET_KEY));
    assert_eq!(told(&ward, &["push", &path]).await, plain);
    // Nobody may make it, and the doctor could but say again that it is not there.
    assert!(!run(&ward, 1, &["init"]).await.stderr.contains("doctor"));
    // It looks where this invocation went.
    let url = "s3://cache?endpoint=http://127.0.0.1:1";
    let to = format!("hint: `loft doctor --to '{url}'` tests each step on the way to the bucket");
    assert_eq!(told(&ward, &["push", "--to", url, &path]).await, to);
    assert_eq!(told(&ward, &["-c", "loft.toml", "init", url]).await, to.replacen("loft", "loft -c loft.toml", 1));

    let ward = Ward::new().await;
    ward.server.memory.set_faults(|moment, _| (moment == Moment::Before).then_some(Fault::Denied));
    assert_eq!(told(&ward, &["push", &path]).await, plain);
    assert_eq!(told(&ward, &["init"]).await, plain);
    assert!(run(&ward, 1, &["init"]).await.stderr.contains("hint: garage bucket allow"));
}
