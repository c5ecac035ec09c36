//! A path is never held in memory: the peak stays within bounds that do not know the size of a NAR.

use crate::support::corpus::Corpus;
use crate::support::loft::Loft;
use crate::support::nix::Nix;
use crate::support::place::Place;
use std::fs::File;
use std::process::Stdio;
use std::time::Duration;

/// MiB; a NAR of 2 GiB goes through.
const BOUND: u64 = 150;

fn peak_while_pushing_bulk(place: &Place) {
    let corpus = Corpus::bulk();
    let (nix, loft) = (Nix::installed(), Loft::new());
    let key = nix.generate_key("memory-1");
    let sizes = corpus.store.registrations();
    assert!(sizes.values().any(|registration| registration.nar_size >= 2 << 30) && sizes.len() >= 1000);

    let mut command = loft.push_command(&corpus.store, &[&corpus.root]);
    place.write(&mut command);
    let log = loft.home().join("log");
    command.arg("--signing-key").arg(key.secret_file()).stdin(Stdio::null());
    command.stdout(File::create(loft.home().join("events")).unwrap()).stderr(File::create(&log).unwrap());
    let mut child = command.spawn().expect("loft starts");
    let status = format!("/proc/{}/status", child.id());
    let mut peak = 0;
    let ended = loop {
        // The kernel keeps the highest value by itself; the last look is at most a moment before the end.
        peak = std::fs::read_to_string(&status).ok().and_then(|text| high_water_mark(&text)).unwrap_or(0).max(peak);
        if let Some(ended) = child.try_wait().expect("its state") {
            break ended;
        }
        std::thread::sleep(Duration::from_millis(10));
    };
    assert!(ended.success(), "{ended}: {}", std::fs::read_to_string(&log).unwrap());
    println!("peak memory: {} MiB", peak >> 10);
    assert!(peak > 0 && peak >> 10 <= BOUND, "peak memory {} MiB, more than {BOUND}", peak >> 10);
    nix.fetch(&place.substituter(), &[&corpus.root], &key.public);
}

/// KiB.
fn high_water_mark(status: &str) -> Option<u64> {
    status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?.split_whitespace().next()?.parse().ok()
}

#[test]
#[ignore = "needs Nix and gigabytes of disk: ./test --full"]
fn long_huge_nar_to_a_folder() {
    peak_while_pushing_bulk(&Place::folder());
}

#[test]
#[ignore = "needs Garage and gigabytes of disk: ./test --full"]
fn long_huge_nar_to_garage() {
    peak_while_pushing_bulk(&Place::garage());
}
