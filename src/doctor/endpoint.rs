//! Who is at the other end: a name that resolves, a port that somebody listens on, and which protocol is spoken there.

use super::Patient;
use super::finding::{Code, Notes};
use crate::bucket::{BucketError, Cause};
use crate::remedy::chain;
use http::Uri;
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// Servers that speak first or answer a plain question do so at once.
const HEARING: Duration = Duration::from_secs(2);

/// A server's first words are enough.
const FIRST_WORDS: usize = 512;

/// Host and port of a URL, and whether it is to speak TLS.
#[derive(Debug, Clone)]
pub struct Endpoint {
    pub host: String,
    pub port: u16,
    pub is_https: bool,
}

/// Who speaks there, when asked in plain HTTP.
#[derive(Debug, PartialEq, Eq)]
enum Voice {
    Http,
    Tls,
    Unclear,
}

impl Endpoint {
    pub fn of(url: &str) -> Option<Self> {
        let uri: Uri = url.parse().ok()?;
        let is_https = uri.scheme_str() == Some("https");
        let host = uri.host()?.trim_matches(['[', ']']).to_owned();
        Some(Self { host, port: uri.port_u16().unwrap_or(if is_https { 443 } else { 80 }), is_https })
    }

    /// `false` when nobody is there, which was told. A proxy of the environment reaches more than this machine does.
    pub async fn answers(&self, patient: &Patient, notes: &mut Notes) -> bool {
        if self.has_proxy(patient) {
            return true;
        }
        let Self { host, port, .. } = self;
        let found = tokio::time::timeout(patient.patience, tokio::net::lookup_host((host.as_str(), *port))).await;
        let addresses: Vec<_> = match found {
            Ok(Ok(addresses)) => addresses.collect(),
            Ok(Err(error)) => {
                let says = format!("the name {host} does not resolve: {error}");
                notes.fault(Code::EndpointName, says, "check the spelling in endpoint, and this machine's DNS");
                return false;
            }
            Err(_) => {
                let says = format!("the name servers did not answer for {host}");
                notes.fault(Code::EndpointName, says, "check this machine's network and DNS");
                return false;
            }
        };
        let mut refusal = None;
        let trying = async {
            for address in addresses {
                match TcpStream::connect(address).await {
                    Ok(_) => return true,
                    Err(error) => refusal = Some(error),
                }
            }
            false
        };
        // All of them together: a host may have many addresses that swallow packets.
        if tokio::time::timeout(patient.patience, trying).await.unwrap_or(false) {
            return true;
        }
        match refusal {
            Some(error) => notes.fault(
                Code::EndpointRefused,
                format!("nobody takes connections at {host}:{port}: {error}"),
                "start the server, or correct host and port in endpoint; a firewall may also refuse",
            ),
            None => notes.fault(
                Code::EndpointSilent,
                format!("{host}:{port} did not answer within {} s", patient.patience.as_secs_f64()),
                "check the address in endpoint, and firewalls and VPNs between here and there",
            ),
        }
        false
    }

    /// Whether the HTTP library goes through somebody else, as the environment says.
    pub fn has_proxy(&self, patient: &Patient) -> bool {
        let names = if self.is_https { ["https_proxy", "HTTPS_PROXY"] } else { ["http_proxy", "HTTP_PROXY"] };
        let all = names.iter().chain(&["all_proxy", "ALL_PROXY"]);
        let is_set = |name: &str| patient.sources.environment.get(name).is_some_and(|value| !value.is_empty());
        all.into_iter().any(|name| is_set(name))
    }

    async fn voice(&self, patience: Duration) -> Voice {
        let asking = async {
            let mut stream = TcpStream::connect((self.host.as_str(), self.port)).await?;
            let hello = format!("GET / HTTP/1.1\r\nHost: {}:{}\r\nConnection: close\r\n\r\n", self.host, self.port);
            stream.write_all(hello.as_bytes()).await?;
            let mut words = Vec::new();
            // A server that resets the connection afterwards has said what it had to say.
            let _ = stream.take(FIRST_WORDS as u64).read_to_end(&mut words).await;
            std::io::Result::Ok(words)
        };
        let Ok(Ok(words)) = tokio::time::timeout(patience, asking).await else { return Voice::Unclear };
        let text = String::from_utf8_lossy(&words);
        match () {
            // An alert of TLS; Go's servers and nginx say it in plain words.
            () if words.first() == Some(&0x15) => Voice::Tls,
            () if text.starts_with("HTTP/") && text.contains("HTTPS") => Voice::Tls,
            () if text.starts_with("HTTP/") => Voice::Http,
            () => Voice::Unclear,
        }
    }

    /// Says what is wrong with an answer that no S3 server gave, or with the way to it.
    pub async fn blame(&self, patient: &Patient, error: &BucketError, notes: &mut Notes) {
        let place = format!("{}:{}", self.host, self.port);
        if !self.has_proxy(patient) {
            match (self.is_https, self.voice(patient.patience.min(HEARING)).await) {
                (true, Voice::Http) => {
                    let says = format!("{place} speaks plain http, and endpoint says https");
                    return notes.fault(
                        Code::EndpointSpeaksHttp,
                        says,
                        "write http:// in endpoint, or the port of TLS",
                    );
                }
                (false, Voice::Tls) => {
                    let says = format!("{place} speaks https, and endpoint says http");
                    return notes.fault(Code::EndpointSpeaksHttps, says, "write https:// in endpoint");
                }
                (_, Voice::Unclear) if matches!(error.cause, Cause::Broken(_)) => {
                    let says = format!("{place} takes connections, but does not answer in HTTP");
                    return notes.fault(Code::EndpointNotS3, says, self.s3_port().unwrap_or(S3_WANTED));
                }
                _ => {}
            }
        }
        match &error.cause {
            Cause::Certificate(_) => {
                let why = chain(&error.cause);
                notes.fault(Code::EndpointCertificate, format!("{place}: {why}"), certificate(&why));
            }
            Cause::NotS3(_) | Cause::Denied { .. } | Cause::Garbled(_) => {
                let way_out =
                    format!("{}; a proxy in front may want extra_headers", self.s3_port().unwrap_or(S3_WANTED));
                notes.fault(Code::EndpointNotS3, format!("{place}: {}", chain(&error.cause)), way_out);
            }
            Cause::Unreachable(_) | Cause::Broken(_) | Cause::Truncated { .. } => {
                let says = format!("{place}: {}", chain(&error.cause));
                notes.fault(Code::EndpointRefused, says, "check host, port and proxies between here and there");
            }
            Cause::Stalled(_) => {
                let says = format!("{place} takes connections, and then says nothing");
                let way_out = self.s3_port().unwrap_or("look at the server's log, and at proxies in front of it");
                notes.fault(Code::EndpointSilent, says, way_out);
            }
            _ => notes.fault(
                Code::EndpointUnavailable,
                format!("{place}: {}", chain(&error.cause)),
                "look at the server's log; pushes try again for minutes, and the service until it works",
            ),
        }
    }

    /// For ports that are known to be another of a server's.
    fn s3_port(&self) -> Option<&'static str> {
        Some(match self.port {
            3901 => "3901 is where Garage's nodes talk to each other; its S3 API is on 3900 by default",
            3902 => "3902 is Garage's web endpoint; its S3 API is on 3900 by default",
            3903 => "3903 is Garage's admin API; its S3 API is on 3900 by default",
            9001 => "9001 is MinIO's console; its S3 API is on 9000 by default",
            8888 => "8888 is SeaweedFS's filer; its S3 API is on 8333 by default",
            _ => return None,
        })
    }
}

const S3_WANTED: &str = "endpoint must name the S3 API, not a web page, a console or an admin port";

fn certificate(why: &str) -> &'static str {
    match () {
        () if why.contains("Expired") || why.contains("expired") => "renew the server's certificate; it has expired",
        () if why.contains("NotValidForName") || why.contains("not valid for") => {
            "write the name that is in the server's certificate in endpoint, or give it a certificate for this one"
        }
        () if why.contains("NotValidYet") || why.contains("not valid yet") => {
            "set this machine's clock: by it, the certificate is not valid yet"
        }
        () => "name the PEM file of the authority that has signed the server's certificate as ca_file in [s3]",
    }
}
