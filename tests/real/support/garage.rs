//! A real Garage on loopback: one node, one bucket, one key, public reading over its web endpoint.

use super::process::{end_of, stdout_of};
use super::s3::Bucket;
use super::server::{Server, listens};
use super::time::Time;
use super::user_cache;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, MutexGuard};
use std::time::Duration;

const ACCESS_KEY: &str = "GK6c6f66740000000000000001";
const SECRET_KEY: &str = "6c6f66746c6f66746c6f66746c6f66746c6f66746c6f66746c6f66746c6f6674";
const BUCKET: &str = "nix-cache";

pub struct Garage {
    pub bucket: Bucket,
    /// Where Nix reads over plain HTTP: `http://nix-cache.localhost:PORT`.
    pub web: String,
    /// The same without the bucket's name in the host, as a mistyped endpoint has it.
    pub web_port: u16,
    /// Where its nodes talk to each other, which is not HTTP.
    pub rpc_port: u16,
    program: PathBuf,
    server: Mutex<Server>,
}

impl Garage {
    pub fn start() -> Self {
        Self::start_in(None)
    }

    /// Lives in `time`.
    pub fn start_at(time: &Time) -> Self {
        Self::start_in(Some(time))
    }

    fn start_in(time: Option<&Time>) -> Self {
        let program = find();
        let bucket = |api| Bucket { time: time.cloned(), ..bucket(api) };
        let (server, [api, rpc, web]) = Server::start(
            &program,
            Duration::from_secs(20),
            |command, data, ports| {
                std::fs::write(data.join("garage.toml"), configuration(data, ports)).expect("garage.toml");
                command
                    .arg("-c")
                    .arg(data.join("garage.toml"))
                    .args(["server", "--single-node", "--default-bucket"])
                    .env("GARAGE_DEFAULT_ACCESS_KEY", ACCESS_KEY)
                    .env("GARAGE_DEFAULT_SECRET_KEY", SECRET_KEY)
                    .env("GARAGE_DEFAULT_BUCKET", BUCKET)
                    .env("RUST_LOG", "garage=warn");
                if let Some(time) = time {
                    time.apply(command);
                }
            },
            |_, [api, rpc, web]| listens(api) && listens(rpc) && listens(web) && bucket(api).answers(),
        );
        let garage = Self {
            bucket: bucket(api),
            // Garage takes the bucket's name from the host; curl resolves names below localhost to loopback.
            web: format!("http://{BUCKET}.localhost:{web}"),
            web_port: web,
            rpc_port: rpc,
            program,
            server: Mutex::new(server),
        };
        garage.admin(&["bucket", "website", "--allow", BUCKET]);
        garage
    }

    /// Ends the server; what it stores stays.
    pub fn halt(&self) {
        self.server().halt();
    }

    /// Starts it again after `halt`.
    pub fn resume(&self) {
        self.server().resume();
        let patience = std::time::Instant::now() + Duration::from_secs(20);
        while !self.bucket.answers() {
            assert!(std::time::Instant::now() < patience, "Garage does not come back");
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    fn server(&self) -> MutexGuard<'_, Server> {
        self.server.lock().expect("not poisoned")
    }

    /// Runs one of Garage's own commands against this server.
    pub fn admin(&self, arguments: &[&str]) -> String {
        let configuration = self.server().data.path().join("garage.toml");
        stdout_of(Command::new(&self.program).arg("-c").arg(configuration).args(arguments))
    }
}

fn bucket(api: u16) -> Bucket {
    Bucket {
        endpoint: format!("http://127.0.0.1:{api}"),
        region: "garage".into(),
        name: BUCKET.into(),
        access_key: ACCESS_KEY.into(),
        secret_key: SECRET_KEY.into(),
        time: None,
    }
}

fn configuration(data: &Path, [api, rpc, web]: [u16; 3]) -> String {
    let data = data.display();
    format!(
        r#"
metadata_dir = "{data}/meta"
data_dir = "{data}/data"
db_engine = "sqlite"
replication_factor = 1
rpc_bind_addr = "127.0.0.1:{rpc}"
rpc_public_addr = "127.0.0.1:{rpc}"
rpc_secret = "{SECRET_KEY}"

[s3_api]
s3_region = "garage"
api_bind_addr = "127.0.0.1:{api}"
root_domain = ".s3.localhost"

[s3_web]
bind_addr = "127.0.0.1:{web}"
root_domain = ".localhost"
"#
    )
}

/// The same order as `tests/tools/garage`, which also knows how to get one.
pub fn find() -> PathBuf {
    if let Some(named) = std::env::var_os("LOFT_TEST_GARAGE") {
        return named.into();
    }
    let on_path = PathBuf::from("garage");
    if is_garage(&on_path) {
        return on_path;
    }
    let cached = user_cache().join("garage-2.5.0/garage");
    assert!(is_garage(&cached), "No Garage 2.x at hand: run tests/tools/garage, or name one in LOFT_TEST_GARAGE");
    cached
}

fn is_garage(program: &Path) -> bool {
    let found = Command::new(program).arg("--version").output().is_ok();
    found && end_of(Command::new(program).arg("--version")).stdout.contains("2.")
}
