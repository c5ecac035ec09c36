//! `loft hook` as Nix's `post-build-hook`: no build fails or waits for it, and nothing is lost by it.

use crate::support::machine::Machine;
use crate::support::nix::Nix;
use crate::support::place::Place;
use crate::support::process::{end_of, stdout_of};
use crate::support::service::Site;
use crate::support::small_disk::SmallDisk;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::os::unix::net::UnixListener;
use std::process::Command;
use std::time::{Duration, Instant};

const SOON: Duration = Duration::from_secs(30);
/// Over building alone, in which a few hundredths are noise.
const LONGEST_HOLD_UP: Duration = Duration::from_millis(1500);

/// Puts the hook into `nix.conf`, as documented.
fn install(machine: &Machine, site: &Site) {
    let script = machine.at("loft-hook");
    let (command, config) = (site.loft.command(), site.loft.home().join("loft.toml"));
    let program = command.get_program().to_str().expect("text").to_owned();
    // Nix 2.8 tells its hook no paths, a fault that later ones have not.
    let mend = match machine.nix.version() < (2, 9) {
        true => "OUT_PATHS=$(nix-store -q --outputs \"$DRV_PATH\")\nexport OUT_PATHS\n",
        false => "",
    };
    let text = format!("#!/bin/sh\n{mend}exec {program} -c {} hook 2>>{}.log\n", config.display(), script.display());
    std::fs::write(&script, text).expect("script");
    std::fs::set_permissions(&script, std::fs::Permissions::from_mode(0o755)).expect("mode");
    machine.configure(&format!("post-build-hook = {}", script.display()));
}

fn told(machine: &Machine) -> String {
    std::fs::read_to_string(machine.at("loft-hook.log")).unwrap_or_default()
}

fn rendered(site: &Site) -> Vec<String> {
    let ledger = site.ledger();
    let mut statement = ledger.prepare("SELECT path FROM queue ORDER BY path").expect("queue");
    let rows = statement.query_map([], |row| row.get::<_, String>(0)).expect("queue");
    rows.map(|path| format!("/nix/store/{}", path.expect("a path"))).collect()
}

/// With the service up and down; in between the paths wait in the queue.
fn builds_are_queued(machine: &Machine, site: &Site) {
    // Down, before it ever ran.
    let mut paths = machine.build("down", 0..5);
    let mut expected = paths.clone();
    expected.sort();
    assert_eq!(rendered(site), expected, "{}", told(machine));
    let mut service = site.watch();
    site.await_all(&paths, &mut service, SOON);
    paths.extend(machine.build("up", 0..5));
    site.await_all(&paths, &mut service, SOON);
    service.stop();
    paths.extend(machine.build("down-again", 0..5));
    assert_eq!(site.queued(), 5);
    let mut service = site.watch();
    site.await_all(&paths, &mut service, SOON);
    service.stop();
    assert_eq!(told(machine), "", "the hook has nothing to complain about");
    site.expect_fetchable(&paths);
}

fn builds_are_queued_by(nix: Nix, through_daemon: bool) {
    let mut machine = Machine::of(nix);
    let site = Site::new(&machine.store.url(), Place::folder());
    install(&machine, &site);
    if through_daemon {
        // It reads its configuration when it starts.
        machine.start_daemon();
    }
    builds_are_queued(&machine, &site);
}

#[test]
#[ignore = "needs Nix: ./test"]
fn builds_of_a_single_user_are_queued() {
    builds_are_queued_by(Nix::installed(), false);
}

#[test]
#[ignore = "needs Nix: ./test"]
fn builds_through_a_daemon_are_queued() {
    builds_are_queued_by(Nix::installed(), true);
}

#[test]
#[ignore = "needs a recent Nix: ./test --full"]
fn builds_of_a_recent_nix_are_queued() {
    builds_are_queued_by(Nix::recent(), false);
}

#[test]
#[ignore = "needs a recent Nix: ./test --full"]
fn builds_through_the_daemon_of_a_recent_nix_are_queued() {
    builds_are_queued_by(Nix::recent(), true);
}

/// What the service did not see itself: the hook, not the watcher, hands it over.
#[test]
#[ignore = "needs Nix: ./test"]
fn service_takes_what_only_the_hook_knows() {
    let machine = Machine::single_user();
    let old = machine.build("old", 0..3);
    let site = Site::new(&machine.store.url(), Place::folder());
    let mut service = site.watch();
    let hook = end_of(site.loft.command().arg("hook").env("OUT_PATHS", old.join(" ")));
    assert_eq!((hook.code, hook.stderr.as_str()), (Some(0), ""));
    site.await_all(&old, &mut service, SOON);
    assert_eq!(service.log().matches("warning").count(), 0, "{}", service.log());
    service.stop();
    site.expect_fetchable(&old);
}

/// Builds succeed without delay whatever is wrong; the trouble is told, and the service pushes them later.
#[test]
#[ignore = "needs Nix: ./test"]
fn builds_succeed_whatever_is_wrong() {
    let machine = Machine::single_user();
    let site = Site::new(&machine.store.url(), Place::folder());
    site.watch().stop();
    let home = site.loft.home();
    let configuration = std::fs::read_to_string(home.join("loft.toml")).expect("loft.toml");
    let alone = {
        let since = Instant::now();
        machine.build("without-hook", 0..1);
        since.elapsed()
    };
    install(&machine, &site);
    let mut paths = Vec::new();
    let mut build = |what: &str, is_told: bool| {
        let before = told(&machine).len();
        let since = Instant::now();
        paths.extend(machine.build(what, 0..1));
        let took = since.elapsed().saturating_sub(alone);
        let said = told(&machine)[before..].to_owned();
        println!("{what}: {took:?} more than without a hook; {said:?}");
        assert!(took < LONGEST_HOLD_UP, "{what}: the hook held the build up for {took:?}");
        assert_eq!(!said.is_empty(), is_told, "{what}: {said}");
        assert!(!is_told || said.contains("the build is fine"), "{what}: {said}");
    };

    let socket = home.join("ledger.db.socket");
    drop(UnixListener::bind(&socket).expect("socket"));
    assert!(socket.exists());
    build("stale-socket", false);
    assert_eq!(site.queued(), 1);
    std::fs::remove_file(&socket).expect("socket");

    let deaf = UnixListener::bind(&socket).expect("socket");
    build("deaf-socket", false);
    assert_eq!(site.queued(), 2);
    drop(deaf);
    std::fs::remove_file(&socket).expect("socket");
    std::fs::write(&socket, "no socket").expect("file");
    build("file-for-socket", false);
    std::fs::remove_file(&socket).expect("file");

    let locked = site.ledger();
    locked.execute_batch("BEGIN IMMEDIATE").expect("lock");
    build("locked-ledger", true);
    locked.execute_batch("ROLLBACK").expect("unlock");

    let fifo = home.join("fifo");
    stdout_of(Command::new("mkfifo").arg(&fifo));
    std::fs::write(home.join("file"), "").expect("file");
    for (what, ledger) in [("fifo", fifo), ("below-a-file", home.join("file/ledger.db")), ("folder", home.clone())] {
        site.move_ledger(&ledger);
        build(what, true);
    }
    let small = SmallDisk::mount(&home.join("small"), "64k");
    small.fill();
    site.move_ledger(&home.join("small/ledger.db"));
    build("full-disk", true);
    drop(small);

    for (what, text) in
        [("broken-configuration", "[loft\n"), ("senseless-configuration", "[loft]\nlocal_cache_path = 7\n")]
    {
        std::fs::write(home.join("loft.toml"), text).expect("loft.toml");
        build(what, true);
    }
    std::fs::remove_file(home.join("loft.toml")).expect("loft.toml");
    build("no-configuration", true);

    std::fs::write(home.join("loft.toml"), configuration).expect("loft.toml");
    let mut service = site.watch();
    site.await_all(&paths, &mut service, SOON);
    service.stop();
    site.expect_fetchable(&paths);
}

/// The disk fills up while the service runs: neither of the two can write the queue.
#[test]
#[ignore = "needs Nix: ./test"]
fn builds_succeed_and_land_while_the_disk_of_a_service_is_full() {
    let machine = Machine::single_user();
    let site = Site::new(&machine.store.url(), Place::folder());
    let small = SmallDisk::mount(&site.loft.home().join("small"), "512k");
    site.move_ledger(&site.loft.home().join("small/ledger.db"));
    install(&machine, &site);
    let mut service = site.watch();
    small.fill();
    let paths = machine.build("full", 0..5);
    site.await_all(&paths, &mut service, Duration::from_secs(90));
    drop((service, small));
}

/// The daemon runs as root, so its hook does; the service and its ledger are another user's.
#[test]
#[ignore = "needs Nix: ./test"]
fn hook_of_root_serves_a_service_of_another_user() {
    const NOBODY: u32 = 65534;
    let mut machine = Machine::single_user();
    assert_eq!(std::fs::metadata("/proc/self").expect("proc").uid(), 0, "this test changes users: run it as root");
    let site = Site::new(&machine.store.url(), Place::folder());
    install(&machine, &site);
    machine.start_daemon();
    let Place::Folder(folder) = &site.place else { unreachable!() };
    let key = site.key.secret_file();
    for path in
        [folder.path(), &site.loft.home(), &site.loft.home().join("loft.toml"), key.parent().expect("folder"), &key]
    {
        stdout_of(Command::new("chown").arg(format!("{NOBODY}:{NOBODY}")).arg(path));
    }
    std::fs::set_permissions(machine.store.root(), std::fs::Permissions::from_mode(0o755)).expect("mode");
    // The program as nobody may run it.
    let program = site.loft.home().join("loft");
    stdout_of(Command::new("install").arg("-m755").arg(site.loft.command().get_program()).arg(&program));
    let as_nobody = || {
        let user = ["setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups"];
        site.start(&["watch"]).of_program(&program).under(&user).ready()
    };

    // The hook of root makes the ledger, before the service has ever run.
    let mut paths = machine.build("first", 0..3);
    let owned_by_nobody = || {
        for entry in std::fs::read_dir(site.loft.home()).expect("home") {
            let path = entry.expect("file").path();
            let name = path.file_name().expect("a name").to_string_lossy().into_owned();
            let owner = std::fs::metadata(&path).expect("file").uid();
            assert!(!name.starts_with("ledger.db") || owner == NOBODY, "{name} is of user {owner}");
        }
    };
    owned_by_nobody();
    assert_eq!(site.queued(), 3, "{}", told(&machine));
    let mut service = as_nobody();
    site.await_all(&paths, &mut service, SOON);
    paths.extend(machine.build("up", 0..3));
    site.await_all(&paths, &mut service, SOON);
    owned_by_nobody();
    service.stop();
    paths.extend(machine.build("down", 0..3));
    owned_by_nobody();
    let mut service = as_nobody();
    site.await_all(&paths, &mut service, SOON);
    service.stop();
    assert_eq!(told(&machine), "");
    site.expect_fetchable(&paths);
}

/// The hook by itself, fifty times: what a build pays for it.
#[test]
#[ignore = "needs Nix: ./test"]
fn hook_takes_milliseconds() {
    let machine = Machine::single_user();
    let site = Site::new(&machine.store.url(), Place::folder());
    let measure = |what: &str| {
        let mut took: Vec<Duration> = (0..50)
            .map(|number| {
                let path = format!("/nix/store/{:0>32}-{what}-{number}", number);
                let mut hook = site.loft.command();
                hook.arg("hook").env("OUT_PATHS", path);
                let since = Instant::now();
                let ended = end_of(&mut hook);
                let took = since.elapsed();
                assert_eq!((ended.code, ended.stderr.as_str()), (Some(0), ""));
                took
            })
            .collect();
        took.sort();
        println!("service {what}: median {:?}, p90 {:?}, max {:?}", took[25], took[45], took[49]);
        took[25]
    };
    let mut nothing: Vec<Duration> = (0..50)
        .map(|_| {
            let since = Instant::now();
            end_of(site.loft.command().arg("--version"));
            since.elapsed()
        })
        .collect();
    nothing.sort();
    println!("loft --version: median {:?}", nothing[25]);
    let down = measure("down");
    let service = site.watch();
    let up = measure("up");
    service.stop();
    // Generous, for a loaded machine and a program that is not optimised.
    for (what, median) in [("down", down), ("up", up)] {
        assert!(median < Duration::from_millis(100), "service {what}: {median:?}");
    }
}
