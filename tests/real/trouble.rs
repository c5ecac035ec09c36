//! What cannot work ends within seconds, with one error that says what to do, and exit status 1.

use crate::support::corpus::Corpus;
use crate::support::loft::Loft;
use crate::support::place::Place;
use crate::support::proxy::Proxy;
use crate::support::s3::Bucket;
use crate::support::server::free_ports;
use std::time::{Duration, Instant};

fn stops_at_once(bucket: &Bucket, tells: &[&str]) {
    let (corpus, loft) = (Corpus::odd(), Loft::new());
    let mut command = loft.command();
    command.args(["push", "--store", &corpus.store.url(), "--to", &bucket.url(), &corpus.root]);
    let since = Instant::now();
    let ended = crate::support::process::end_of(command.envs(bucket.environment()));
    assert_eq!(ended.code, Some(1), "{}", ended.stderr);
    assert!(since.elapsed() < Duration::from_secs(30), "took {:?}: {}", since.elapsed(), ended.stderr);
    let errors = ended.stderr.lines().filter(|line| line.starts_with("error")).count();
    assert_eq!(errors, 1, "one clear error, please:\n{}", ended.stderr);
    for word in tells {
        assert!(ended.stderr.contains(word), "it does not tell {word:?}:\n{}", ended.stderr);
    }
    assert!(!ended.stderr.contains(&bucket.secret_key), "the secret key was shown");
}

#[test]
#[ignore = "needs Garage: ./test --full"]
fn wrong_credentials_for_garage() {
    let place = Place::garage();
    let right = place.bucket().unwrap().clone();
    let secret_key = right.secret_key.replace('6', "7");
    stops_at_once(&Bucket { secret_key, ..right.clone() }, &[&right.name]);
    let access_key = right.access_key.replace("6c", "7d");
    stops_at_once(&Bucket { access_key, ..right.clone() }, &[&right.name]);
    assert_eq!(place.cache().keys(), Vec::<String>::new());
}

#[test]
#[ignore = "needs Garage: ./test --full"]
fn missing_bucket_in_garage() {
    let place = Place::garage();
    let right = place.bucket().unwrap().clone();
    stops_at_once(&Bucket { name: "no-such-bucket".into(), ..right }, &["no-such-bucket"]);
}

#[test]
#[ignore = "needs Garage: ./test --full"]
fn everything_forbidden_before_garage() {
    let place = Place::garage();
    let right = place.bucket().unwrap().clone();
    let proxy = Proxy::start(&right.endpoint, Some(("x-pass", "nobody-knows")));
    stops_at_once(&Bucket { endpoint: proxy.endpoint.clone(), ..right }, &["403"]);
}

#[test]
#[ignore = "needs Nix: ./test"]
fn nobody_listens() {
    let [port] = free_ports::<1>();
    let endpoint = format!("http://127.0.0.1:{port}");
    let bucket = Bucket {
        endpoint: endpoint.clone(),
        region: "garage".into(),
        name: "nix-cache".into(),
        access_key: "GK000000000000000000000001".into(),
        secret_key: "0123456789abcdef".into(),
        time: None,
    };
    stops_at_once(&bucket, &[&endpoint]);
}
