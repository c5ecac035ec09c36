//! A real SeaweedFS on loopback: a strict S3 server that also lets anybody read.
//!
//! Reading without a signature is what Debian's Nix 2.34 needs for `s3://`, being built without S3 signing.

use super::s3::Bucket;
use super::server::{Server, listens};
use super::user_cache;
use std::path::PathBuf;
use std::time::Duration;

const ACCESS_KEY: &str = "AKIALOFTTEST";
const SECRET_KEY: &str = "a-key-for-tests-alone";
const BUCKET: &str = "nix-cache";

pub struct SeaweedFs {
    pub bucket: Bucket,
    /// Where Nix reads over plain HTTP, without a signature.
    pub web: String,
    _server: Server,
}

impl SeaweedFs {
    pub fn start() -> Self {
        let (server, [s3, ..]) = Server::start(
            &find(),
            Duration::from_secs(60),
            |command, data, [s3, s3_grpc, master, master_grpc, volume, volume_grpc, filer, filer_grpc]: [u16; 8]| {
                std::fs::write(data.join("s3.json"), identities()).expect("s3.json");
                std::fs::create_dir(data.join("data")).expect("data folder");
                command
                    .args(["-logtostderr=true", "server", "-ip=127.0.0.1", "-ip.bind=127.0.0.1", "-filer", "-s3"])
                    .arg(format!("-dir={}", data.join("data").display()))
                    .arg(format!("-s3.config={}", data.join("s3.json").display()))
                    .args(["-s3.iam=false", "-s3.port.iceberg=0", "-s3.port.lance=0"])
                    .args(["-volume.max=200", "-master.volumeSizeLimitMB=256", "-master.telemetry=false"])
                    .args([format!("-s3.port={s3}"), format!("-s3.port.grpc={s3_grpc}")])
                    .args([format!("-master.port={master}"), format!("-master.port.grpc={master_grpc}")])
                    .args([format!("-volume.port={volume}"), format!("-volume.port.grpc={volume_grpc}")])
                    .args([format!("-filer.port={filer}"), format!("-filer.port.grpc={filer_grpc}")]);
            },
            |_, [s3, ..]| listens(s3) && bucket(s3).can_be_made(),
        );
        let bucket = bucket(s3);
        let web = format!("{}/{}", bucket.endpoint, bucket.name);
        Self { bucket, web, _server: server }
    }
}

fn bucket(s3: u16) -> Bucket {
    Bucket {
        endpoint: format!("http://127.0.0.1:{s3}"),
        region: "us-east-1".into(),
        name: BUCKET.into(),
        access_key: ACCESS_KEY.into(),
        secret_key: SECRET_KEY.into(),
        time: None,
    }
}

fn identities() -> String {
    serde_json::json!({ "identities": [
        {
            "name": "loft",
            "credentials": [{ "accessKey": ACCESS_KEY, "secretKey": SECRET_KEY }],
            "actions": ["Admin", "Read", "Write", "List", "Tagging"],
        },
        { "name": "anonymous", "actions": ["Read", "List"] },
    ] })
    .to_string()
}

fn find() -> PathBuf {
    if let Some(named) = std::env::var_os("LOFT_TEST_WEED") {
        return named.into();
    }
    let cached = user_cache().join("seaweedfs-4.48/bin/weed");
    assert!(cached.exists(), "No SeaweedFS at hand: run tests/tools/seaweedfs, or name `weed` in LOFT_TEST_WEED");
    cached
}
