//! A server process on loopback that lives as long as its value.

use std::fs::File;
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// A running server with its data; dropping it kills the process and removes the data.
pub struct Server {
    child: Child,
    start: Command,
    pub data: TempDir,
}

/// How often a start is tried: between choosing a free port and the server's own bind another may take it.
const STARTS: usize = 5;

impl Server {
    /// Starts what `command` gives for a fresh data folder and free ports, and waits until `ready` says so.
    ///
    /// `setpriv` lets the kernel end the server with the test that started it, however that test ends.
    pub fn start<const N: usize>(
        program: &Path,
        within: Duration,
        command: impl Fn(&mut Command, &Path, [u16; N]),
        ready: impl Fn(&Path, [u16; N]) -> bool,
    ) -> (Self, [u16; N]) {
        let mut last_log = String::new();
        for _ in 0..STARTS {
            let data = tempfile::Builder::new().prefix("loft-server-").tempdir().expect("temporary folder");
            let ports = free_ports();
            let log = data.path().join("log");
            let sink = File::create(&log).expect("log file");
            let mut start = Command::new("setpriv");
            start.args(["--pdeathsig", "KILL", "--"]).arg(program);
            command(&mut start, data.path(), ports);
            let child = start
                .stdin(Stdio::null())
                .stdout(sink.try_clone().expect("log file"))
                .stderr(sink)
                .spawn()
                .expect("setpriv (util-linux) starts");
            let mut server = Self { child, start, data };
            let patience = Instant::now() + within;
            while Instant::now() < patience && server.is_running() {
                if ready(server.data.path(), ports) {
                    return (server, ports);
                }
                std::thread::sleep(Duration::from_millis(50));
            }
            last_log = std::fs::read_to_string(&log).unwrap_or_default();
        }
        panic!("{} did not become ready in {STARTS} starts; its last log:\n{last_log}", program.display());
    }

    /// Ends the process; its data stay.
    pub fn halt(&mut self) {
        self.child.kill().expect("SIGKILL");
        self.child.wait().expect("its end");
    }

    /// Starts it again after `halt`, on the same data and ports.
    pub fn resume(&mut self) {
        self.child = self.start.spawn().expect("starts again");
    }

    fn is_running(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Whether something listens on this loopback port.
pub fn listens(port: u16) -> bool {
    TcpStream::connect_timeout(&([127, 0, 0, 1], port).into(), Duration::from_millis(200)).is_ok()
}

/// Ports that nobody listened on a moment ago.
pub fn free_ports<const N: usize>() -> [u16; N] {
    let held = [(); N].map(|()| TcpListener::bind(("127.0.0.1", 0)).expect("loopback port"));
    std::array::from_fn(|index| held[index].local_addr().expect("bound address").port())
}
