//! The service notices everything that becomes valid, by whatever way, and Nix can fetch it afterwards.

use crate::support::machine::Machine;
use crate::support::nix::Nix;
use crate::support::place::Place;
use crate::support::process::stdout_of;
use crate::support::service::{Service, Site, narinfo_key};
use std::collections::BTreeSet;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

#[test]
#[ignore = "needs Nix: ./test"]
fn what_is_built_reaches_a_folder() {
    built_while_running_and_stopped(&Machine::single_user());
}

#[test]
#[ignore = "needs a recent Nix: ./test --full"]
fn what_a_recent_nix_builds_reaches_a_folder() {
    built_while_running_and_stopped(&Machine::of(Nix::recent()));
}

#[test]
#[ignore = "needs a recent Nix: ./test --full"]
fn what_the_daemon_of_a_recent_nix_builds_reaches_a_folder() {
    let mut machine = Machine::of(Nix::recent());
    machine.start_daemon();
    built_through_a_daemon(&machine);
}

fn built_while_running_and_stopped(machine: &Machine) {
    let before = machine.build("before", 0..3);
    let site = Site::new(&machine.store.url(), Place::folder());
    let mut service = site.watch();
    let mut paths = machine.build("running", 0..20);
    site.await_all(&paths, &mut service, Duration::from_secs(30));
    service.stop();
    paths.extend(machine.build("stopped", 0..20));
    assert_eq!(site.missing(&paths).len(), 20);
    let mut service = site.watch();
    site.await_all(&paths, &mut service, Duration::from_secs(30));
    service.stop();
    site.expect_fetchable(&paths);
    assert_eq!(site.missing(&before).len(), before.len(), "watching begins with the first start");
    let keys = site.place.cache().keys();
    let known: BTreeSet<String> = paths.iter().map(|path| narinfo_key(path)).collect();
    let strange = keys.iter().filter(|key| key.ends_with(".narinfo") && !known.contains(*key));
    assert_eq!(strange.count(), 0, "derivations and the like are not pushed by themselves");
}

#[test]
#[ignore = "needs Nix: ./test"]
fn what_a_daemon_builds_reaches_a_folder() {
    built_through_a_daemon(&Machine::with_daemon());
}

fn built_through_a_daemon(machine: &Machine) {
    for (number, (what, store)) in machine.settings().into_iter().enumerate() {
        let site = Site::new(&store, Place::folder());
        let mut service = site.watch();
        assert!(service.log().contains(if number == 0 { "database" } else { "daemon" }), "{}", service.log());
        let mut paths = machine.build(&format!("running-{number}"), 0..20);
        site.await_all(&paths, &mut service, Duration::from_secs(90));
        service.kill();
        paths.extend(machine.build(&format!("killed-{number}"), 0..5));
        let mut service = site.watch();
        site.await_all(&paths, &mut service, Duration::from_secs(90));
        service.stop();
        println!("{what}");
        site.expect_fetchable(&paths);
    }
}

/// A GET by hand: starting a program would take longer than what is measured.
fn is_served(web: &str, key: &str) -> bool {
    let host = web.trim_start_matches("http://");
    let port = host.rsplit(':').next().expect("a port");
    let read = || -> std::io::Result<String> {
        let mut stream = TcpStream::connect(format!("127.0.0.1:{port}"))?;
        write!(stream, "GET /{key} HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\r\n")?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        Ok(answer)
    };
    read().expect("Garage answers").starts_with("HTTP/1.1 200")
}

/// From the end of `nix-store --add` to a visible narinfo.
fn latencies(site: &Site, machine: &Machine, visible: impl Fn(&str) -> bool) {
    let service = site.watch();
    let mut measured: Vec<Duration> = (0..50)
        .map(|number| {
            let path = machine.add(&format!("small-{number}"), "small\n");
            let (since, key) = (Instant::now(), narinfo_key(&path));
            while !visible(&key) {
                assert!(since.elapsed() < Duration::from_secs(30), "{path}\n{}", service.log());
                std::thread::sleep(Duration::from_millis(5));
            }
            let elapsed = since.elapsed();
            // Otherwise each would be noticed by the push of the one before.
            std::thread::sleep(Duration::from_millis(300));
            elapsed
        })
        .collect();
    service.stop();
    measured.sort();
    let [median, ninety, longest] = [25, 45, 49].map(|index| measured[index]);
    println!("registered to fetchable: median {median:?}, p90 {ninety:?}, max {longest:?}");
    // Polling alone would take 2.5 seconds on average.
    assert!(median < Duration::from_millis(1500), "noticed by polling, it seems: {median:?}");
}

#[test]
#[ignore = "needs Nix: ./test"]
fn small_paths_are_soon_in_a_folder() {
    let machine = Machine::single_user();
    let site = Site::new(&machine.store.url(), Place::folder());
    let Place::Folder(folder) = &site.place else { unreachable!() };
    let root = folder.path().to_owned();
    latencies(&site, &machine, |key| root.join(key).exists());
}

#[test]
#[ignore = "needs Garage: ./test --full"]
fn small_paths_are_soon_in_garage() {
    let machine = Machine::single_user();
    let site = Site::new(&machine.store.url(), Place::garage());
    let web = site.place.substituter();
    latencies(&site, &machine, |key| is_served(&web, key));
}

/// A program that reads `input`.
fn feed(mut command: Command, input: &[u8]) -> String {
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("starts");
    child.stdin.take().expect("a pipe").write_all(input).expect("its input");
    let output = child.wait_with_output().expect("its end");
    assert!(output.status.success(), "{command:?}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[test]
#[ignore = "needs Nix: ./test"]
fn every_way_to_become_valid_is_noticed() {
    let (machine, elsewhere) = (Machine::single_user(), Machine::single_user());
    let site = Site::new(&machine.store.url(), Place::folder());
    let mut service = site.watch();
    let within = Duration::from_secs(20);
    let mut all = Vec::new();
    let mut noticed = |what: &str, paths: Vec<String>| {
        println!("{what}: {}", paths.len());
        site.await_all(&paths, &mut service, within);
        all.extend(paths);
    };

    noticed("added", vec![machine.add("added", "by nix-store --add\n")]);

    // Files that are put there by other means, then registered in the database alone.
    let put = |path: &str| {
        let file = machine.store.on_disk(path);
        stdout_of(Command::new("cp").arg("-a").arg(elsewhere.store.on_disk(path)).arg(file));
    };
    let loaded = elsewhere.build("loaded", 0..3);
    for path in &loaded {
        put(path);
    }
    let loaded_refs: Vec<&str> = loaded.iter().map(String::as_str).collect();
    let dump = elsewhere.run("nix-store", &[&["--dump-db"], &loaded_refs[..]].concat()).join("\n") + "\n";
    let mut load = machine.command("nix-store");
    load.arg("--load-db");
    feed(load, dump.as_bytes());
    noticed("loaded", loaded);

    let imported = elsewhere.build("imported", 4..7);
    let mut export = elsewhere.command("nix-store");
    let exported = export.arg("--export").args(&imported).output().expect("exports").stdout;
    let mut import = machine.command("nix-store");
    import.arg("--import").args(["--option", "require-sigs", "false"]);
    assert_eq!(feed(import, &exported).lines().count(), 3);
    noticed("imported", imported);

    let substituted = elsewhere.build("substituted", 0..4);
    let cache = tempfile::tempdir().expect("temporary folder");
    let url = format!("file://{}", cache.path().display());
    let paths: Vec<&str> = substituted.iter().map(String::as_str).collect();
    elsewhere.nix.copy_to(&elsewhere.store, &url, &paths);
    let mut realise = machine.command("nix-store");
    realise.args(["--realise", "--option", "substituters", &url, "--option", "require-sigs", "false"]);
    stdout_of(realise.args(&paths));
    noticed("substituted", substituted);

    // What fails leaves nothing, and does not hide what comes with it.
    let failed = machine.try_build("failing", 0..6, "case $name in *-3) exit 1;; esac");
    assert_ne!(failed.code, Some(0));
    let kept = machine.try_build("failing", 0..3, "");
    assert_eq!(kept.code, Some(0), "{}", kept.stderr);
    noticed("beside failed ones", kept.stdout.lines().map(str::to_owned).collect());

    service.stop();
    site.expect_fetchable(&all);
}

/// An idle service looks at the database's files alone: it must see every way in which they change.
fn noticed_after_idling(machine: &Machine) {
    let site = Site::new(&machine.store.url(), Place::folder());
    let mut service = site.watch();
    let mut all = Vec::new();
    for round in 0..3 {
        // Two polls, and a third that finds nothing.
        std::thread::sleep(Duration::from_secs(17));
        service.halt();
        let path = machine.add(&format!("round-{round}"), &format!("{round}\n"));
        // The events of that registration are drowned.
        for number in 0..=20_000 {
            let file = machine.store.root().join(format!("nix/store/{number}.lock"));
            std::fs::write(&file, "").and_then(|()| std::fs::remove_file(&file)).expect("file");
        }
        service.signal("CONT");
        all.push(path);
        site.await_all(&all, &mut service, Duration::from_secs(12));
    }
    service.stop();
    site.expect_fetchable(&all);
}

#[test]
#[ignore = "needs Nix: ./test --full"]
fn long_idling_misses_nothing() {
    noticed_after_idling(&Machine::single_user());
}

#[test]
#[ignore = "needs a recent Nix: ./test --full"]
fn long_idling_misses_nothing_of_a_recent_nix() {
    noticed_after_idling(&Machine::of(Nix::recent()));
}

/// Nix looks for the files of `--register-validity` below the logical store directory, so that this takes a store
/// whose directory is elsewhere rather than one in a folder.
#[test]
#[ignore = "needs Nix: ./test"]
fn registration_by_hand_is_noticed() {
    let (machine, folder) = (Machine::single_user(), tempfile::tempdir().expect("temporary folder"));
    let [store, state] = ["store", "var"].map(|below| folder.path().join(below));
    let variables = [("NIX_STORE_DIR", &store), ("NIX_STATE_DIR", &state)];
    let command = || {
        let mut command = machine.command("nix-store");
        command.env("NIX_REMOTE", "local").envs(variables);
        command
    };
    stdout_of(command().arg("--init"));
    let site = Site::new("local", Place::folder());
    let mut service = site.start(&["watch"]).with(|command| _ = command.envs(variables)).ready();
    let path = store.join(format!("{}-registered", "a".repeat(32)));
    std::fs::create_dir_all(&store).expect("store");
    std::fs::write(&path, "by nix-store --register-validity\n").expect("file");
    let mut register = command();
    register.arg("--register-validity");
    feed(register, format!("{}\n\n0\n", path.display()).as_bytes());
    let same_name = format!("/nix/store/{}", path.file_name().and_then(|name| name.to_str()).expect("text"));
    site.await_all(&[same_name], &mut service, Duration::from_secs(20));
    service.stop();
}

#[test]
#[ignore = "needs Nix: ./test"]
fn two_services_refuse_each_other_and_a_push_beside_one_works() {
    let machine = Machine::single_user();
    let old = machine.build("old", 0..2);
    let site = Site::new(&machine.store.url(), Place::folder());
    let mut service: Service = site.watch();
    let second = site.run(&["watch"]);
    assert_eq!(second.code, Some(1), "{}", second.stderr);
    assert!(second.stderr.contains(&service.pid().to_string()), "whose the lock is: {}", second.stderr);
    assert_eq!(site.run(&["push", &old[0]]).code, Some(0));
    let new = machine.build("new", 0..2);
    site.await_all(&new, &mut service, Duration::from_secs(20));
    assert_eq!(site.missing(&old), BTreeSet::from([old[1].clone()]));
}
