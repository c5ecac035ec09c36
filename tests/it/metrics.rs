//! The endpoint answers scrapers, and nobody who connects can hold it up or make it work more than once at a time.

use loft::ledger::Ledger;
use loft::metrics::{of_file, serve};
use loft::nix::StorePath;
use std::net::SocketAddr;
use std::os::unix::fs::MetadataExt as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant, SystemTime};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

async fn start(snapshot: impl Fn() -> String + Send + Sync + 'static) -> (SocketAddr, JoinHandle<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let serving = tokio::spawn(async move {
        serve(listener, snapshot).await;
    });
    (address, serving)
}

/// Everything that comes back until the connection ends.
async fn send(address: SocketAddr, request: &[u8]) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    // Whoever is refused early may not get all of it out.
    let _ = stream.write_all(request).await;
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer).await;
    String::from_utf8(answer).unwrap()
}

async fn ask(address: SocketAddr, what: &str) -> String {
    send(address, format!("{what} HTTP/1.1\r\nHost: a\r\n\r\n").as_bytes()).await
}

#[tokio::test]
async fn answers_what_scrapers_and_people_ask() {
    let (address, _serving) = start(|| "loft_x 1\n".to_owned()).await;
    let answer = ask(address, "GET /metrics").await;
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n") && answer.ends_with("\r\n\r\nloft_x 1\n"), "{answer}");
    assert!(answer.contains("content-type: text/plain; version=0.0.4; charset=utf-8\r\n"), "{answer}");
    assert!(ask(address, "GET /metrics?collect=all").await.ends_with("loft_x 1\n"));
    let answer = ask(address, "HEAD /metrics").await;
    assert!(answer.starts_with("HTTP/1.1 200") && answer.ends_with("\r\n\r\n"), "{answer}");
    assert!(ask(address, "GET /").await.contains("/metrics"));
    for (what, status) in [
        ("GET /favicon.ico", 404),
        ("HEAD /x", 404),
        ("GET /metrics/", 404),
        ("POST /metrics", 405),
        ("DELETE /", 405),
        ("nonsense", 400),
    ] {
        let answer = ask(address, what).await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{what}: {answer}");
    }
    let old = send(address, b"GET /metrics HTTP/1.0\r\n\r\n").await;
    assert!(old.starts_with("HTTP/1.0 200") && old.ends_with("loft_x 1\n"), "{old}");
}

/// As the service uses it: the ledger is open and written to meanwhile, in the same process.
#[tokio::test]
async fn a_scrape_sees_a_ledger_that_is_being_written() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("cache.db");
    let ledger = Ledger::open(&file);
    let (address, _serving) = start(move || of_file(&file, SystemTime::now())).await;
    for n in 0..20u64 {
        let path = StorePath::parse(&format!("{n:032}-p")).unwrap();
        ledger.queue().add(&[path], SystemTime::now()).unwrap();
        let answer = ask(address, "GET /metrics").await;
        assert!(answer.contains(&format!("\nloft_queue_paths {}\n", n + 1)), "{answer}");
    }
    // The lock by which other processes know that somebody has it open is still there: opening and closing the file
    // beside SQLite would have dropped it.
    if cfg!(target_os = "linux") {
        let inode = format!(":{} ", std::fs::metadata(dir.path().join("cache.db")).unwrap().ino());
        let locks = std::fs::read_to_string("/proc/locks").unwrap();
        assert!(locks.lines().any(|lock| lock.contains("POSIX") && lock.contains(&inode)), "{inode}: {locks}");
    }
    assert_eq!(ledger.trouble(), None);
}

#[tokio::test]
async fn a_request_without_end_is_cut_off() {
    let (address, _serving) = start(String::new).await;
    let endless = format!("GET /metrics HTTP/1.1\r\nX: {}", "x".repeat(1 << 20));
    let answer = send(address, endless.as_bytes()).await;
    assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 431"), "{answer}");
    let garbage: Vec<u8> = (0..100_000u32).map(|n| (n * 7 % 251) as u8).collect();
    send(address, &garbage).await;
    assert!(ask(address, "GET /metrics").await.starts_with("HTTP/1.1 200"));
}

/// The time limits are the real ones, so this takes five seconds.
#[tokio::test]
async fn who_says_nothing_is_put_out() {
    let (address, _serving) = start(String::new).await;
    let mut silent = Vec::new();
    for n in 0..20 {
        let mut stream = TcpStream::connect(address).await.unwrap();
        if n % 2 == 0 {
            stream.write_all(b"GET /met").await.unwrap();
        }
        silent.push(stream);
    }
    let started = Instant::now();
    let answer = tokio::time::timeout(Duration::from_secs(30), ask(address, "GET /metrics")).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    assert!(started.elapsed() >= Duration::from_secs(4), "so many should not be served at once");
}

#[tokio::test]
async fn a_slow_ledger_is_read_once_at_a_time_and_holds_nobody_else_up() {
    let reading = Arc::new(AtomicUsize::new(0));
    let most = Arc::new(AtomicUsize::new(0));
    let (now, peak) = (reading.clone(), most.clone());
    let (address, _serving) = start(move || {
        peak.fetch_max(now.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
        std::thread::sleep(Duration::from_millis(100));
        now.fetch_sub(1, Ordering::SeqCst);
        "x 1\n".to_owned()
    })
    .await;
    let asking: Vec<_> = (0..10).map(|_| tokio::spawn(ask(address, "GET /metrics"))).collect();
    // The runtime has one thread: a reading on it would make this wait for all of them.
    let started = Instant::now();
    assert!(ask(address, "GET /").await.starts_with("HTTP/1.1 200"));
    assert!(started.elapsed() < Duration::from_millis(500), "{:?}", started.elapsed());
    for answer in asking {
        assert!(answer.await.unwrap().ends_with("x 1\n"));
    }
    assert_eq!(most.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn a_reading_that_panics_is_an_answer() {
    let (address, _serving) = start(|| std::panic::resume_unwind(Box::new("bug"))).await;
    assert!(ask(address, "GET /metrics").await.starts_with("HTTP/1.1 500"));
    assert!(ask(address, "GET /metrics").await.starts_with("HTTP/1.1 500"), "the next one is not blocked");
}

#[tokio::test]
async fn connections_end_with_the_service() {
    let (address, serving) = start(String::new).await;
    let mut open = TcpStream::connect(address).await.unwrap();
    open.write_all(b"GET /").await.unwrap();
    tokio::time::sleep(Duration::from_millis(50)).await;
    serving.abort();
    let mut rest = Vec::new();
    let ended = tokio::time::timeout(Duration::from_secs(2), open.read_to_end(&mut rest)).await;
    assert!(ended.is_ok() && rest.is_empty(), "{ended:?}");
    assert!(TcpStream::connect(address).await.is_err());
}
