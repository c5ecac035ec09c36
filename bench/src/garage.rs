//! A Garage of its own for each run: one node on loopback with one empty bucket.

use crate::programs::Programs;
use std::net::TcpListener;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use tempfile::TempDir;

pub const BUCKET: &str = "bench";
pub const REGION: &str = "garage";
pub const ACCESS_KEY: &str = "GK0123456789abcdef01234567";
pub const SECRET_KEY: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

pub struct Garage {
    /// `127.0.0.1:PORT` of its S3 interface.
    pub address: String,
    process: Child,
    folder: TempDir,
}

impl Garage {
    pub fn start(programs: &Programs) -> Self {
        let folder = tempfile::Builder::new().prefix("loft-bench-garage-").tempdir().expect("a temporary folder");
        let [api, rpc, web] = ports();
        let data = folder.path().display();
        let configuration = format!(
            "metadata_dir = \"{data}/meta\"\ndata_dir = \"{data}/data\"\ndb_engine = \"lmdb\"\nreplication_factor = 1\n\
             rpc_bind_addr = \"127.0.0.1:{rpc}\"\nrpc_public_addr = \"127.0.0.1:{rpc}\"\nrpc_secret = \"{SECRET_KEY}\"\n\
             [s3_api]\ns3_region = \"{REGION}\"\napi_bind_addr = \"127.0.0.1:{api}\"\nroot_domain = \".s3.localhost\"\n\
             [s3_web]\nbind_addr = \"127.0.0.1:{web}\"\nroot_domain = \".localhost\"\n"
        );
        let file = folder.path().join("garage.toml");
        std::fs::write(&file, configuration).expect("garage.toml");
        let process = Command::new(&programs.garage)
            .arg("-c")
            .arg(&file)
            .args(["server", "--single-node", "--default-bucket"])
            .env("GARAGE_DEFAULT_ACCESS_KEY", ACCESS_KEY)
            .env("GARAGE_DEFAULT_SECRET_KEY", SECRET_KEY)
            .env("GARAGE_DEFAULT_BUCKET", BUCKET)
            .env("RUST_LOG", "garage=warn")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(std::fs::File::create(folder.path().join("log")).expect("a log"))
            .spawn()
            .expect("Garage");
        let mut garage = Self { address: format!("127.0.0.1:{api}"), process, folder };
        garage.wait();
        garage
    }

    fn wait(&mut self) {
        let since = Instant::now();
        // The bucket is made after it has begun to listen.
        while !self.has_bucket() {
            let log = || std::fs::read_to_string(self.folder.path().join("log")).unwrap_or_default();
            assert!(since.elapsed() < Duration::from_secs(30), "Garage is not ready: {}", log());
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    fn has_bucket(&self) -> bool {
        let url = format!("http://{}/{BUCKET}?list-type=2&max-keys=1", self.address);
        let mut curl = Command::new("curl");
        curl.args(["--silent", "--fail", "--output", "/dev/null", "--aws-sigv4", &format!("aws:amz:{REGION}:s3")]);
        curl.args(["--user", &format!("{ACCESS_KEY}:{SECRET_KEY}"), &url]);
        curl.args(["--header", "x-amz-content-sha256: UNSIGNED-PAYLOAD"]);
        curl.status().expect("curl").success()
    }
}

impl Drop for Garage {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Free ones, as far as anybody can tell.
fn ports() -> [u16; 3] {
    let listeners = [(); 3].map(|()| TcpListener::bind("127.0.0.1:0").expect("a port"));
    listeners.map(|listener| listener.local_addr().expect("an address").port())
}
