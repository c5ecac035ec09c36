//! A real systemd as the first process of a container that sees this machine's files, and keeps what it changes
//! to itself.

use std::fs::{self, File};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// Starts as the first process of its namespaces, so that mounts and processes end with it. The first argument is
/// where to mount, the second holds what is put over this machine's files, the third is the folder that both sides
/// see, the fourth a name for control groups that no other container has.
const BOOT: &str = "set -e
    for groups in /sys/fs/cgroup /sys/fs/cgroup/systemd /sys/fs/cgroup/unified; do
      if [ -e $groups/cgroup.procs ]; then
        mkdir $groups/$4
        echo 0 >$groups/$4/cgroup.procs
      fi
    done
    mount -t tmpfs tmpfs \"$1\"
    mkdir \"$1/changed\" \"$1/work\" \"$1/root\"
    mount -t overlay overlay -o \"lowerdir=/,upperdir=$1/changed,workdir=$1/work\" \"$1/root\"
    : >\"$1/root/etc/machine-id\"
    mkdir -p \"$1/root/out\"
    cp -a \"$2/.\" \"$1/root/\"
    exec systemd-nspawn --quiet --directory \"$1/root\" --register=no --keep-unit --link-journal=no --console=pipe \
      --resolv-conf=off --timezone=off --bind=\"$3:/out\" --boot -- --unit=test.target";

/// For all of it.
const PATIENCE: Duration = Duration::from_secs(120);

/// What is put over this machine's files, and what a container left behind.
pub struct Container {
    files: TempDir,
    out: TempDir,
}

impl Container {
    pub fn new() -> Self {
        let folder = |prefix| tempfile::Builder::new().prefix(prefix).tempdir().expect("temporary folder");
        Self { files: folder("loft-container-"), out: folder("loft-out-") }
    }

    /// Where a file of the container is put.
    pub fn at(&self, file: &str) -> PathBuf {
        let path = self.files.path().join(file.trim_start_matches('/'));
        fs::create_dir_all(path.parent().expect("a folder")).expect("folder");
        path
    }

    /// A file that its script left in `/out`.
    pub fn left(&self, name: &str) -> String {
        fs::read_to_string(self.out.path().join(name)).unwrap_or_default()
    }

    /// Boots, runs `command` as a unit, and ends. The machine's own services are not started.
    pub fn run(&self, command: &str) {
        let units = [
            ("test.target", "[Unit]\nRequires=basic.target\nWants=test.service\n".to_owned()),
            ("test.service", format!("[Unit]\nAfter=basic.target\n[Service]\nExecStart={command}\n")),
        ];
        for (name, text) in units {
            fs::write(self.at(&format!("/etc/systemd/system/{name}")), text).expect("a unit");
        }
        let mounts = tempfile::tempdir().expect("temporary folder");
        let console = File::create(self.out.path().join("console")).expect("console");
        let mut boot = Command::new("setpriv");
        // The kernel ends it with the test.
        boot.args(["--pdeathsig", "KILL", "--", "unshare", "--mount", "--propagation", "private"]);
        boot.args(["--pid", "--kill-child", "--mount-proc"]);
        let groups = ControlGroups(format!("loft-test-{}", std::process::id()));
        boot.args(["sh", "-c", BOOT, "boot"]).arg(mounts.path()).arg(self.files.path()).arg(self.out.path());
        boot.arg(&groups.0);
        boot.stdin(Stdio::null()).stdout(console.try_clone().expect("console")).stderr(console);
        let mut booted = boot.spawn().expect("setpriv (util-linux) starts");
        let end = Instant::now() + PATIENCE;
        while booted.try_wait().expect("its end").is_none() {
            if Instant::now() > end {
                booted.kill().expect("SIGKILL");
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        assert!(
            self.left("results").contains("finished="),
            "systemd in a container did not come to its end (root and systemd-container are needed):\n{}\n{}\n{}",
            self.left("console"),
            self.left("results"),
            tail(&self.left("log"))
        );
    }
}

/// Removed when dropped; they are empty soon after the container has ended.
struct ControlGroups(String);

impl Drop for ControlGroups {
    fn drop(&mut self) {
        let remove = "for _ in $(seq 30); do
                        found=$(find /sys/fs/cgroup -maxdepth 2 -type d -name \"$1\")
                        [ -n \"$found\" ] || exit 0
                        find $found -depth -type d -exec rmdir {} +
                        sleep 0.1
                      done";
        let _ = Command::new("sh").args(["-c", remove, "remove", &self.0]).output();
    }
}

fn tail(text: &str) -> String {
    let lines: Vec<&str> = text.lines().collect();
    lines.get(lines.len().saturating_sub(60)..).unwrap_or_default().join("\n")
}
