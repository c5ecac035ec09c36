//! A reverse proxy in front of a server: it counts requests, and may demand a header as authenticating ones do.
//!
//! One request a connection keeps it small: it asks both sides to close, then copies bytes both ways.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Instant;

/// One request as the proxy saw it.
#[derive(Debug, Clone)]
pub struct Seen {
    pub method: String,
    /// Path and query.
    pub target: String,
    /// The names that the signature covers, lower case.
    pub signed_headers: Vec<String>,
    /// Whether it carried what is demanded and was passed on.
    pub passed: bool,
    /// When.
    pub at: Instant,
}

/// Asked about each request, twice; it may take its time, and the request waits for so long.
pub type Gate = dyn Fn(Moment, &Seen) -> Verdict + Send + Sync;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Moment {
    /// Nothing of it has reached the server.
    Arrived,
    /// The server has carried it out and answers with this status; the client has heard nothing.
    Answered(u16),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    Pass,
    /// The connection ends here.
    Drop,
    /// This status instead, and an empty body.
    Answer(u16),
    /// No more of the answer than so many bytes, then the connection ends.
    Cut(u64),
}

pub struct Proxy {
    pub endpoint: String,
    seen: Arc<Mutex<Vec<Seen>>>,
    stop: Arc<AtomicBool>,
    away: Arc<AtomicBool>,
    turned_away: Arc<AtomicUsize>,
    accepting: Option<JoinHandle<()>>,
}

impl Proxy {
    /// Stands in front of `endpoint`; refuses with 403 what lacks the demanded header, and strips it from the rest.
    pub fn start(endpoint: &str, demanded: Option<(&str, &str)>) -> Self {
        let open = |_: Moment, _: &Seen| Verdict::Pass;
        Self::begin(endpoint, demanded, Arc::new(open))
    }

    /// Stands in front of `endpoint` and asks `gate`.
    pub fn gated(endpoint: &str, gate: impl Fn(Moment, &Seen) -> Verdict + Send + Sync + 'static) -> Self {
        Self::begin(endpoint, None, Arc::new(gate))
    }

    fn begin(endpoint: &str, demanded: Option<(&str, &str)>, gate: Arc<Gate>) -> Self {
        let upstream = endpoint.trim_start_matches("http://").to_owned();
        let demanded = demanded.map(|(name, value)| (name.to_lowercase(), value.to_owned()));
        let listener = TcpListener::bind(("127.0.0.1", 0)).expect("loopback port");
        let address = listener.local_addr().expect("bound address");
        let (seen, stop) = (Arc::new(Mutex::new(Vec::new())), Arc::new(AtomicBool::new(false)));
        let (away, turned_away) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
        let accepting = std::thread::spawn({
            let (seen, stop) = (seen.clone(), stop.clone());
            let (away, turned_away) = (away.clone(), turned_away.clone());
            move || {
                for client in listener.incoming() {
                    if stop.load(Ordering::SeqCst) {
                        return;
                    }
                    if away.load(Ordering::SeqCst) {
                        turned_away.fetch_add(1, Ordering::SeqCst);
                        continue;
                    }
                    let (seen, upstream, demanded) = (seen.clone(), upstream.clone(), demanded.clone());
                    let gate = gate.clone();
                    // A broken connection is the client's to notice.
                    std::thread::spawn(move || {
                        client.and_then(|client| pass(client, &upstream, demanded, &seen, gate.as_ref()))
                    });
                }
            }
        });
        Self { endpoint: format!("http://{address}"), seen, stop, away, turned_away, accepting: Some(accepting) }
    }

    /// The requests so far.
    pub fn seen(&self) -> Vec<Seen> {
        self.seen.lock().expect("not poisoned").clone()
    }

    /// From now on connections are closed as soon as they are made, until told otherwise.
    pub fn go_away(&self, away: bool) {
        self.away.store(away, Ordering::SeqCst);
    }

    /// How many connections were closed that way.
    pub fn turned_away(&self) -> usize {
        self.turned_away.load(Ordering::SeqCst)
    }

    pub fn forget(&self) {
        self.seen.lock().expect("not poisoned").clear();
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
        let _ = TcpStream::connect(self.endpoint.trim_start_matches("http://"));
        if let Some(accepting) = self.accepting.take() {
            let _ = accepting.join();
        }
    }
}

/// SigV4 names them in a header, or in the query of a URL that was signed for a while.
fn signed_headers(authorization: &str, target: &str) -> Vec<String> {
    let in_header = authorization.split("SignedHeaders=").nth(1).and_then(|rest| rest.split(',').next());
    let in_query = target.split("X-Amz-SignedHeaders=").nth(1).and_then(|rest| rest.split('&').next());
    let names = in_header.or(in_query).unwrap_or_default().replace("%3B", ";").replace("%3b", ";");
    names.trim().split(';').filter(|name| !name.is_empty()).map(str::to_owned).collect()
}

/// Reads what the client still sends, so that closing does not reset the answer away.
fn answer(mut client: TcpStream, rest: impl Read, status: u16) -> std::io::Result<()> {
    client.write_all(format!("HTTP/1.1 {status} So\r\nconnection: close\r\ncontent-length: 0\r\n\r\n").as_bytes())?;
    client.shutdown(Shutdown::Write)?;
    std::io::copy(&mut rest.take(1 << 30), &mut std::io::sink())?;
    Ok(())
}

fn pass(
    client: TcpStream,
    upstream: &str,
    demanded: Option<(String, String)>,
    seen: &Mutex<Vec<Seen>>,
    gate: &Gate,
) -> std::io::Result<()> {
    let mut reader = BufReader::new(client.try_clone()?);
    let mut lines = Vec::new();
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line)? == 0 {
            return Ok(());
        }
        if line == "\r\n" {
            break;
        }
        lines.push(line.trim_end().to_owned());
    }
    let Some((request, headers)) = lines.split_first() else { return Ok(()) };
    let headers: Vec<(String, &str)> = headers
        .iter()
        .filter_map(|line| line.split_once(':'))
        .map(|(name, value)| (name.to_lowercase(), value.trim()))
        .collect();
    let passed = demanded.as_ref().is_none_or(|(name, value)| headers.iter().any(|(n, v)| n == name && v == value));
    let mut parts = request.split(' ').map(str::to_owned);
    let (method, target) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
    let authorization = headers.iter().find(|(name, _)| name == "authorization").map_or("", |(_, value)| *value);
    let this =
        Seen { signed_headers: signed_headers(authorization, &target), method, target, passed, at: Instant::now() };
    seen.lock().expect("not poisoned").push(this.clone());
    let mut client = client;
    match gate(Moment::Arrived, &this) {
        Verdict::Answer(status) => return answer(client, reader, status),
        Verdict::Drop => return Ok(()),
        Verdict::Pass | Verdict::Cut(_) => {}
    }
    if !passed {
        client.write_all(b"HTTP/1.1 403 Forbidden\r\nconnection: close\r\ncontent-length: 7\r\n\r\nno pass")?;
        // Read what the client still sends, so that closing does not reset the answer away.
        client.shutdown(Shutdown::Write)?;
        std::io::copy(&mut reader.take(1 << 30), &mut std::io::sink())?;
        return Ok(());
    }

    let mut server = TcpStream::connect(upstream)?;
    let mut head = format!("{request}\r\n");
    for (name, value) in &headers {
        let strip = name == "connection" || demanded.as_ref().is_some_and(|(demanded, _)| demanded == name);
        if !strip {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
    }
    head.push_str("connection: close\r\n\r\n");
    server.write_all(head.as_bytes())?;
    let mut to_server = server.try_clone()?;
    let sending = std::thread::spawn(move || {
        let sent = std::io::copy(&mut reader, &mut to_server);
        // A client that died must not look like one that is slow.
        let _ = to_server.shutdown(Shutdown::Write);
        sent
    });
    let mut first = vec![0; 1 << 14];
    let length = server.read(&mut first)?;
    first.truncate(length);
    let status = std::str::from_utf8(first.get(9..12).unwrap_or_default()).ok().and_then(|text| text.parse().ok());
    let end = match gate(Moment::Answered(status.unwrap_or_default()), &this) {
        Verdict::Pass => u64::MAX,
        Verdict::Cut(length) => length,
        Verdict::Answer(status) => return answer(client, std::io::empty(), status),
        Verdict::Drop => return client.shutdown(Shutdown::Both),
    };
    std::io::copy(&mut first.as_slice().chain(&mut server).take(end), &mut client)?;
    client.shutdown(Shutdown::Both)?;
    let _ = sending.join();
    Ok(())
}
