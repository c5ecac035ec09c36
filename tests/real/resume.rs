//! A push that ends in the middle of a GiB goes on where it was: what the bucket has is not sent again.

use crate::support::local_store::LocalStore;
use crate::support::loft::{Loft, Pushed};
use crate::support::nix::Nix;
use crate::support::place::Place;
use crate::support::process::Ended;
use crate::support::proxy::{Proxy, Seen};
use crate::support::s3::Bucket;
use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

const GIB: u64 = 1 << 30;
const PART: u64 = 8 << 20;
/// Requests for parts that the proxy must have seen before the push is ended: a good third.
const BEGUN: usize = 45;

/// Random bytes, with a run of zeros now and then so that the compressor has something to do.
fn write_large(path: &Path) {
    let mut file = BufWriter::with_capacity(1 << 20, File::create(path).expect("a large file"));
    let mut state = 0x2545_f491_4f6c_dd1d_u64;
    let mut block = vec![0_u8; 1 << 16];
    for number in 0..GIB >> 16 {
        for word in block.chunks_exact_mut(8) {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            word.copy_from_slice(&state.to_le_bytes());
        }
        if number % 16 == 0 {
            block[..1 << 15].fill(0);
        }
        file.write_all(&block).expect("a large file");
    }
    file.flush().expect("a large file");
}

fn is_part(seen: &Seen) -> bool {
    seen.method == "PUT" && seen.target.contains("partNumber=")
}

fn parts_seen(proxy: &Proxy) -> usize {
    proxy.seen().iter().filter(|seen| is_part(seen)).count()
}

fn send(child: &Child, signal: &str) {
    let status = Command::new("kill").args([&format!("-{signal}"), &child.id().to_string()]).status();
    assert!(status.expect("kill starts").success());
}

fn ended_in_the_middle(place: &Place, signal: &str) {
    let nix = Nix::installed();
    let (store, key) = (LocalStore::empty(), nix.generate_key("resume-1"));
    let folder = tempfile::tempdir().unwrap();
    write_large(&folder.path().join("large"));
    let path = nix.add(&store, &folder.path().join("large"));
    assert!(store.registrations()[&path].nar_size > GIB);

    let direct = place.bucket().expect("a server");
    let proxy = Proxy::start(&direct.endpoint, None);
    let bucket = Bucket { endpoint: proxy.endpoint.clone(), ..direct.clone() };
    // A second value is a machine that knows nothing of the first.
    let command = |loft: &Loft| {
        let mut command = loft.push_command(&store, &[&path]);
        command.args(["--to", &bucket.url(), "--signing-key"]).arg(key.secret_file()).envs(bucket.environment());
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    };
    let (first, second) = (Loft::new(), Loft::new());
    let child = command(&first).spawn().expect("loft starts");
    let patience = Instant::now() + Duration::from_secs(300);
    while parts_seen(&proxy) < BEGUN {
        assert!(Instant::now() < patience, "only {} parts after five minutes", parts_seen(&proxy));
        std::thread::sleep(Duration::from_millis(10));
    }
    send(&child, signal);
    let first = read(child);
    match signal {
        "KILL" => assert_eq!(first.code, None),
        _ => {
            assert_eq!(first.code, Some(130));
            assert_eq!(Pushed::read(first).number("interrupted"), 1);
        }
    }
    // The server may still be storing what had reached it.
    std::thread::sleep(Duration::from_secs(2));
    let there = direct.open_parts();
    assert!(there > BEGUN / 2, "only {there} parts arrived of {BEGUN} that were begun");
    assert_eq!(place.cache().narinfos().len(), 0);

    proxy.forget();
    let pushed = Pushed::read(read(command(&second).spawn().expect("loft starts"))).expect_success();
    let narinfo = &place.cache().narinfos()[&path];
    let size: u64 = narinfo.fields["FileSize"].parse().unwrap();
    let all = size.div_ceil(PART) as usize;
    let sent = parts_seen(&proxy);
    println!("{there} of {all} parts were there, {sent} were sent, {} bytes", pushed.number("file_size"));
    assert!(all > 100 && there < all, "it was to end in the middle: {there} of {all}");
    assert_eq!(sent, all - there, "parts that the bucket has were sent again");
    assert!(pushed.number("file_size") <= sent as u64 * PART);
    let uploads = |seen: &Seen| seen.target.contains("uploads=") || seen.target.ends_with("?uploads");
    let listings = proxy.seen().iter().filter(|seen| seen.method == "GET" && uploads(seen)).count();
    let begun = proxy.seen().iter().filter(|seen| seen.method == "POST" && uploads(seen)).count();
    assert_eq!((listings, begun, direct.open_uploads()), (1, 0, 0));

    nix.fetch(&place.substituter(), &[&path], &key.public);
}

fn read(child: Child) -> Ended {
    let output = child.wait_with_output().expect("its end");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    Ended { code: output.status.code(), stdout: text(&output.stdout), stderr: text(&output.stderr) }
}

#[test]
#[ignore = "needs Garage and gigabytes of disk: ./test --full"]
fn long_kill_in_the_middle_of_a_gib_to_garage() {
    ended_in_the_middle(&Place::garage(), "KILL");
}

#[test]
#[ignore = "needs Garage and gigabytes of disk: ./test --full"]
fn long_sigterm_in_the_middle_of_a_gib_to_garage() {
    ended_in_the_middle(&Place::garage(), "TERM");
}

#[test]
#[ignore = "needs SeaweedFS and gigabytes of disk: ./test --full"]
fn long_kill_in_the_middle_of_a_gib_to_seaweedfs() {
    ended_in_the_middle(&Place::seaweedfs(), "KILL");
}

#[test]
#[ignore = "needs SeaweedFS and gigabytes of disk: ./test --full"]
fn long_sigterm_in_the_middle_of_a_gib_to_seaweedfs() {
    ended_in_the_middle(&Place::seaweedfs(), "TERM");
}
