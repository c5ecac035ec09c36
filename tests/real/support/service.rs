//! `loft watch` as a supervisor runs it: started, known to be ready, stopped or killed.

use super::garage::Garage;
use super::local_store::LocalStore;
use super::loft::Loft;
use super::nix::{KeyPair, Nix};
use super::place::Place;
use super::process::{Ended, end_of};
use super::proxy::Proxy;
use rusqlite::{Connection, OpenFlags};
use std::collections::BTreeSet;
use std::fs::File;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// What a service needs: a store to watch, a place to push to, a key, a configuration.
pub struct Site {
    pub loft: Loft,
    pub place: Place,
    pub key: KeyPair,
    /// Between the service and a bucket.
    pub proxy: Option<Proxy>,
}

/// A service that runs; killed when dropped.
pub struct Service {
    child: Child,
    log: PathBuf,
}

/// How the service is started.
pub struct Start {
    command: Command,
    home: PathBuf,
}

impl Site {
    pub fn new(store: &str, place: Place) -> Self {
        let site = Self { loft: Loft::new(), place, key: Nix::installed().generate_key("watch-1"), proxy: None };
        site.configure(store, "");
        site
    }

    /// Pushes to a Garage through a proxy that counts.
    pub fn behind_proxy(store: &str) -> Self {
        let garage = Garage::start();
        let proxy = Proxy::start(&garage.bucket.endpoint, None);
        Self { proxy: Some(proxy), ..Self::new(store, Place::Garage(garage)) }
    }

    pub fn configure(&self, store: &str, more: &str) {
        let secret = self.key.secret_file();
        self.loft.configure(&format!("store = {store:?}\nsigning_key_path = {secret:?}\n{more}"));
    }

    pub fn proxy(&self) -> &Proxy {
        self.proxy.as_ref().expect("a proxy")
    }

    /// The program with what it needs to reach the place.
    pub fn command(&self) -> Command {
        let mut command = self.loft.command();
        match (&self.place, self.place.bucket()) {
            (Place::Folder(folder), _) => {
                command.env("LOFT_CACHE", format!("file://{}", folder.path().display()));
            }
            (_, Some(bucket)) => {
                let endpoint = self.proxy.as_ref().map_or(&bucket.endpoint, |proxy| &proxy.endpoint);
                command.env("LOFT_CACHE", bucket.url().replace(&bucket.endpoint, endpoint));
                command.envs(bucket.environment());
            }
            (_, None) => unreachable!("servers have buckets"),
        }
        command
    }

    /// Runs the program to its end.
    pub fn run(&self, arguments: &[&str]) -> Ended {
        end_of(self.command().args(arguments))
    }

    /// `loft watch`, ready.
    pub fn watch(&self) -> Service {
        self.start(&["watch"]).ready()
    }

    pub fn start(&self, arguments: &[&str]) -> Start {
        let mut command = self.command();
        command.args(arguments);
        Start { command, home: self.loft.home() }
    }

    /// Names another ledger in the configuration.
    pub fn move_ledger(&self, to: &Path) {
        let file = self.loft.home().join("loft.toml");
        let text = std::fs::read_to_string(&file).expect("loft.toml");
        let lines = text.lines().map(|line| match line.starts_with("local_cache_path") {
            true => format!("local_cache_path = {to:?}\n"),
            false => format!("{line}\n"),
        });
        std::fs::write(&file, lines.collect::<String>()).expect("loft.toml");
    }

    /// The ledger's file, as another process may read it.
    pub fn ledger(&self) -> Connection {
        let text = std::fs::read_to_string(self.loft.home().join("loft.toml")).expect("loft.toml");
        let file = text.lines().find_map(|line| line.strip_prefix("local_cache_path = ")).expect("a ledger");
        let ledger =
            Connection::open_with_flags(file.trim_matches('"'), OpenFlags::SQLITE_OPEN_READ_WRITE).expect("ledger");
        ledger.busy_timeout(Duration::from_secs(5)).expect("ledger");
        ledger
    }

    pub fn queued(&self) -> u64 {
        let count: i64 = self.ledger().query_row("SELECT count(*) FROM queue", [], |row| row.get(0)).expect("queue");
        count.try_into().expect("a count")
    }

    /// What does not work, since when (seconds since 1970), and why.
    pub fn outages(&self) -> Vec<(String, i64, String)> {
        let ledger = self.ledger();
        let mut statement = ledger.prepare("SELECT what, since, error FROM outage").expect("outages");
        let rows = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?))).expect("outages");
        rows.collect::<Result<_, _>>().expect("outages")
    }

    /// Which of `paths` the cache does not show.
    pub fn missing(&self, paths: &[String]) -> BTreeSet<String> {
        let keys: BTreeSet<String> = self.place.cache().keys().into_iter().collect();
        paths.iter().filter(|path| !keys.contains(&narinfo_key(path))).cloned().collect()
    }

    /// Waits until the cache shows all of `paths`.
    #[track_caller]
    pub fn await_all(&self, paths: &[String], service: &mut Service, within: Duration) {
        let end = Instant::now() + within;
        loop {
            let missing = self.missing(paths);
            if missing.is_empty() {
                return;
            }
            let log = || service.log();
            assert!(Instant::now() < end, "{} not there in {within:?}: {missing:?}\n{}", missing.len(), log());
            assert!(service.is_running(), "the service ended\n{}", service.log());
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    /// All of `paths` can be fetched by Nix into an empty store, signatures required; the cache is whole.
    #[track_caller]
    pub fn expect_fetchable(&self, paths: &[String]) -> LocalStore {
        assert_eq!(self.place.cache().violations(&BTreeSet::new()), Vec::<String>::new());
        let paths: Vec<&str> = paths.iter().map(String::as_str).collect();
        Nix::installed().fetch(&self.place.substituter(), &paths, &self.key.public)
    }
}

/// Under which key a path's narinfo stands.
pub fn narinfo_key(path: &str) -> String {
    format!("{}.narinfo", &path["/nix/store/".len()..][..32])
}

impl Start {
    /// Changes the command.
    pub fn with(mut self, change: impl FnOnce(&mut Command)) -> Self {
        change(&mut self.command);
        self
    }

    /// Another copy of the program.
    pub fn of_program(self, program: &Path) -> Self {
        self.rebuilt(Command::new(program), false)
    }

    /// Under another program, such as `setpriv`.
    pub fn under(self, outer: &[&str]) -> Self {
        let mut command = Command::new(outer[0]);
        command.args(&outer[1..]);
        self.rebuilt(command, true)
    }

    fn rebuilt(self, mut command: Command, with_program: bool) -> Self {
        if with_program {
            command.arg(self.command.get_program());
        }
        command.args(self.command.get_args()).env_clear().current_dir(&self.home);
        command.envs(self.command.get_envs().filter_map(|(name, value)| Some((name, value?))));
        Self { command, home: self.home }
    }

    /// Starts it and does not wait until it is ready.
    pub fn now(mut self) -> Service {
        let log = self.home.join("service.log");
        let sink = File::options().create(true).append(true).open(&log).expect("log");
        // The kernel ends it with the test, however that ends.
        self = self.under(&["setpriv", "--pdeathsig", "KILL", "--"]);
        let child = self.command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(sink).spawn().expect("loft starts");
        Service { child, log }
    }

    /// Starts it and waits until it says `READY=1` to its supervisor.
    #[track_caller]
    pub fn ready(self) -> Service {
        let folder = tempfile::tempdir().expect("temporary folder");
        let name = folder.path().join("notify");
        let supervisor = UnixDatagram::bind(&name).expect("socket");
        let mode = std::os::unix::fs::PermissionsExt::from_mode;
        std::fs::set_permissions(folder.path(), mode(0o755)).expect("mode");
        std::fs::set_permissions(&name, mode(0o777)).expect("mode");
        supervisor.set_read_timeout(Some(Duration::from_millis(100))).expect("time limit");
        let mut service = self.with(|command| _ = command.env("NOTIFY_SOCKET", &name)).now();
        let (end, mut buffer) = (Instant::now() + Duration::from_secs(30), [0; 4096]);
        loop {
            if let Ok(length) = supervisor.recv(&mut buffer)
                && String::from_utf8_lossy(&buffer[..length]).lines().any(|line| line == "READY=1")
            {
                return service;
            }
            assert!(service.is_running() && Instant::now() < end, "not ready:\n{}", service.log());
        }
    }
}

impl Service {
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    pub fn is_running(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// Everything that services of this home have told.
    pub fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    pub fn signal(&self, name: &str) {
        let sent = Command::new("sh").args(["-c", &format!("kill -{name} {}", self.pid())]).status().expect("sh");
        assert!(sent.success(), "kill -{name}");
    }

    /// SIGSTOP, but not in the middle of a look at the store: who is stopped with a lock on its database keeps Nix from writing.
    pub fn halt(&self) {
        let holds_a_lock = || {
            let locks = std::fs::read_to_string("/proc/locks").expect("proc");
            locks.lines().any(|line| {
                let fields: Vec<&str> = line.split_whitespace().collect();
                fields.contains(&"POSIX")
                    && fields.contains(&"WRITE")
                    && fields.contains(&self.pid().to_string().as_str())
            })
        };
        let settle = || std::thread::sleep(Duration::from_millis(20));
        self.signal("STOP");
        settle();
        while holds_a_lock() {
            self.signal("CONT");
            settle();
            self.signal("STOP");
            settle();
        }
    }

    /// SIGKILL.
    pub fn kill(mut self) {
        self.child.kill().expect("SIGKILL");
        self.child.wait().expect("its end");
    }

    /// SIGTERM; its exit code and how long it took.
    #[track_caller]
    pub fn stop(mut self) -> Duration {
        let since = Instant::now();
        self.signal("TERM");
        loop {
            if let Some(status) = self.child.try_wait().expect("its end") {
                assert_eq!(status.code(), Some(0), "{}", self.log());
                return since.elapsed();
            }
            assert!(since.elapsed() < Duration::from_secs(60), "SIGTERM is ignored:\n{}", self.log());
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// What the kernel knows of it.
    pub fn usage(&self) -> Usage {
        let read = |file: &str| std::fs::read_to_string(format!("/proc/{}/{file}", self.pid())).expect("proc");
        let number = |text: &str, name: &str| -> u64 {
            let line = text.lines().find_map(|line| line.strip_prefix(name)).expect("a field");
            line.trim().trim_end_matches(" kB").parse().expect("a number")
        };
        let (stat, status, io) = (read("stat"), read("status"), read("io"));
        let fields: Vec<&str> = stat.rsplit(')').next().expect("stat").split_whitespace().collect();
        let ticks = |index: usize| fields[index].parse::<u64>().expect("ticks");
        Usage {
            cpu: Duration::from_millis((ticks(11) + ticks(12)) * 10),
            resident: number(&status, "VmRSS:") << 10,
            peak: number(&status, "VmHWM:") << 10,
            switches: number(&status, "voluntary_ctxt_switches:"),
            written_bytes: number(&io, "write_bytes:"),
            written_calls: number(&io, "syscw:"),
        }
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// A process in numbers.
#[derive(Debug, Clone, Copy)]
pub struct Usage {
    /// Ticks are hundredths of a second on every Linux that Nix runs on.
    pub cpu: Duration,
    pub resident: u64,
    pub peak: u64,
    pub switches: u64,
    pub written_bytes: u64,
    pub written_calls: u64,
}
