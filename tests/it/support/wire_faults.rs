//! A proxy on raw TCP that breaks things on the wire, by rule.
//!
//! It reads whole requests, asks the rule what shall happen, and talks to the server behind it over
//! a connection of its own for each request.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// What is known of a request when the rule is asked.
#[derive(Debug, Clone)]
pub struct Head {
    pub method: String,
    /// With the query, percent-encoded.
    pub target: String,
    /// Names in lower case.
    pub headers: HashMap<String, String>,
    /// From 0, counting requests of this method and target.
    pub nth: usize,
}

/// What happens to a request.
#[derive(Debug, Clone)]
pub enum Action {
    Pass,
    /// Answers so, without asking the server.
    Reply(String),
    /// Resets the connection before the server hears of it.
    Reset,
    /// The server carries it out; then the connection is reset without an answer.
    LoseAnswer,
    /// As above, after so many bytes of the answer.
    ResetAnswer(usize),
    /// Closes in an orderly way after so many bytes of the answer.
    TruncateAnswer(usize),
    /// Says nothing for ever. Pauses the runtime's clock, so that waits are over at once.
    Silence,
}

type Rule = Arc<dyn Fn(&Head) -> Action + Send + Sync>;

pub struct Proxy {
    pub endpoint: String,
    seen: Arc<Mutex<Vec<Head>>>,
    task: tokio::task::JoinHandle<()>,
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Proxy {
    /// In front of `server` (`http://host:port`).
    pub async fn start(server: &str, rule: impl Fn(&Head) -> Action + Send + Sync + 'static) -> Self {
        Self::stripping(server, None, Arc::new(rule)).await
    }

    /// As an authenticating proxy does: 403 unless the header is there, and the server never sees it.
    pub async fn demanding(server: &str, name: &'static str, value: &'static str) -> Self {
        let rule = move |head: &Head| match head.headers.get(name).map(String::as_str) == Some(value) {
            true => Action::Pass,
            false => Action::Reply(reply(403, "text/html", "<html><body>Sign in</body></html>")),
        };
        Self::stripping(server, Some(name), Arc::new(rule)).await
    }

    async fn stripping(server: &str, strip: Option<&'static str>, rule: Rule) -> Self {
        let server: SocketAddr = server.strip_prefix("http://").unwrap().parse().unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        let seen = Arc::new(Mutex::new(Vec::new()));
        let log = seen.clone();
        let task = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let (rule, log) = (rule.clone(), log.clone());
                tokio::spawn(async move {
                    // A side that hangs up ends it; that is what this proxy is for.
                    let _ = serve(client, server, strip, rule, log).await;
                });
            }
        });
        Self { endpoint, seen, task }
    }

    pub fn seen(&self) -> Vec<Head> {
        self.seen.lock().unwrap().clone()
    }
}

pub fn reply(status: u16, content_type: &str, body: &str) -> String {
    format!("HTTP/1.1 {status} Said so\r\nContent-Type: {content_type}\r\nContent-Length: {}\r\n\r\n{body}", body.len())
}

async fn serve(
    mut client: TcpStream,
    server: SocketAddr,
    strip: Option<&str>,
    rule: Rule,
    log: Arc<Mutex<Vec<Head>>>,
) -> std::io::Result<()> {
    loop {
        let Some((head, body)) = read_message(&mut client, false).await? else { return Ok(()) };
        let head_text = String::from_utf8_lossy(&head).into_owned();
        let mut parsed = parse(&head_text);
        {
            let mut seen = log.lock().unwrap();
            parsed.nth = seen.iter().filter(|h| h.method == parsed.method && h.target == parsed.target).count();
            seen.push(parsed.clone());
        }
        let is_head = parsed.method == "HEAD";
        let forward = async {
            let kept: String = head_text
                .split_inclusive("\r\n")
                .filter(|line| strip.is_none_or(|name| !line.to_lowercase().starts_with(&format!("{name}:"))))
                .collect();
            let mut upstream = TcpStream::connect(server).await?;
            upstream.write_all(kept.as_bytes()).await?;
            upstream.write_all(&body).await?;
            let answer = read_message(&mut upstream, is_head).await?.unwrap_or_default();
            std::io::Result::Ok([answer.0, answer.1].concat())
        };
        match rule(&parsed) {
            Action::Pass => client.write_all(&forward.await?).await?,
            Action::Reply(text) => client.write_all(text.as_bytes()).await?,
            Action::Reset => return reset(client),
            Action::LoseAnswer => {
                forward.await?;
                return reset(client);
            }
            Action::ResetAnswer(bytes) => {
                let answer = forward.await?;
                client.write_all(&answer[..bytes.min(answer.len())]).await?;
                // Not before the client has read them: a reset overtakes.
                tokio::time::sleep(std::time::Duration::from_millis(50)).await;
                return reset(client);
            }
            Action::TruncateAnswer(bytes) => {
                let answer = forward.await?;
                client.write_all(&answer[..bytes.min(answer.len())]).await?;
                return client.shutdown().await;
            }
            Action::Silence => {
                tokio::time::pause();
                std::future::pending::<()>().await;
            }
        }
    }
}

fn reset(stream: TcpStream) -> std::io::Result<()> {
    stream.set_zero_linger()
}

fn parse(head: &str) -> Head {
    let mut lines = head.lines();
    let mut first = lines.next().unwrap_or_default().split(' ');
    let headers = lines.filter_map(|line| line.split_once(':'));
    Head {
        method: first.next().unwrap_or_default().to_owned(),
        target: first.next().unwrap_or_default().to_owned(),
        headers: headers.map(|(name, value)| (name.to_lowercase(), value.trim().to_owned())).collect(),
        nth: 0,
    }
}

/// Head and body of the next message; `None` at the end of the stream. Only `Content-Length` frames.
async fn read_message(stream: &mut TcpStream, is_head: bool) -> std::io::Result<Option<(Vec<u8>, Vec<u8>)>> {
    let mut bytes = Vec::new();
    let head = loop {
        if let Some(at) = bytes.windows(4).position(|window| window == b"\r\n\r\n") {
            break at + 4;
        }
        if stream.read_buf(&mut bytes).await? == 0 {
            return Ok(None);
        }
    };
    let mut body = bytes.split_off(head);
    let length = parse(&String::from_utf8_lossy(&bytes)).headers.get("content-length").and_then(|v| v.parse().ok());
    let length: usize = if is_head { 0 } else { length.unwrap_or(0) };
    while body.len() < length {
        if stream.read_buf(&mut body).await? == 0 {
            return Ok(None);
        }
    }
    Ok(Some((bytes, body)))
}

/// A server that sends these bytes to whoever asks, whatever he asks, and hangs up.
pub struct Canned {
    pub endpoint: String,
    task: tokio::task::JoinHandle<()>,
}

impl Drop for Canned {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Canned {
    pub async fn start(answer: impl Into<Vec<u8>>) -> Self {
        let answer = answer.into();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        let task = tokio::spawn(async move {
            while let Ok((mut client, _)) = listener.accept().await {
                let answer = answer.clone();
                tokio::spawn(async move {
                    if let Ok(Some(_)) = read_message(&mut client, false).await {
                        let _ = client.write_all(&answer).await;
                        let _ = client.shutdown().await;
                    }
                });
            }
        });
        Self { endpoint, task }
    }
}
