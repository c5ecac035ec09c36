//! HTTP clients and their trust.
//!
//! Two things here read the environment by themselves, as users expect of every HTTP client, and are
//! the library's only exceptions: `reqwest` its proxies (`HTTPS_PROXY`, `NO_PROXY`), and
//! `rustls-native-certs` the places of certificates (`SSL_CERT_FILE`, `SSL_CERT_DIR`).

use super::error::{Cause, Source};
use reqwest::Url;
use rustls::pki_types::{CertificateDer, pem::PemObject};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// A server that does not even take the connection within this time is out of reach.
const CONNECT: Duration = Duration::from_secs(10);

/// Shorter than the 60 s after which common servers and proxies close an idle connection, so that
/// requests seldom meet one that is being closed.
const IDLE: Duration = Duration::from_secs(50);

/// Whom to trust; read only when a client for https is built.
#[derive(Debug, Clone, Default)]
pub(super) struct Trust {
    /// PEM, besides the system's certificates.
    pub ca_file: Option<PathBuf>,
}

impl Trust {
    /// A client for one bucket: HTTP/1.1, many connections, no total time-out (requests bring their own).
    pub fn client(&self, is_https: bool) -> Result<reqwest::Client, Cause> {
        self.builder(is_https)?.build().map_err(|error| Cause::Setting(crate::remedy::chain(&error)))
    }

    pub fn builder(&self, is_https: bool) -> Result<reqwest::ClientBuilder, Cause> {
        // Plain HTTP must work where there is no certificate at all.
        let roots = if is_https { self.roots()? } else { rustls::RootCertStore::empty() };
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let tls = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|error| Cause::Setting(format!("TLS cannot be set up: {error}")))?
            .with_root_certificates(roots)
            .with_no_client_auth();
        Ok(reqwest::Client::builder()
            .tls_backend_preconfigured(tls)
            .user_agent(concat!("loft/", env!("CARGO_PKG_VERSION")))
            .http1_only()
            .redirect(reqwest::redirect::Policy::none())
            .referer(false)
            .tcp_nodelay(true)
            .connect_timeout(CONNECT)
            .pool_idle_timeout(IDLE)
            .pool_max_idle_per_host(128))
    }

    /// A builder for reading `url` without credentials, as Nix does.
    pub fn reader(&self, url: &Url) -> Result<reqwest::ClientBuilder, Cause> {
        let builder = self.builder(url.scheme() == "https")?;
        Ok(match url.host_str().filter(|host| host.ends_with(".localhost")) {
            Some(host) => {
                // Nix takes these names for this machine whatever the resolver says. Port 0: the URL's own.
                let here = [SocketAddr::from((Ipv4Addr::LOCALHOST, 0)), SocketAddr::from((Ipv6Addr::LOCALHOST, 0))];
                builder.resolve_to_addrs(host, &here)
            }
            None => builder,
        })
    }

    /// The system's certificates and the user's. The system's may be missing where the user gave some.
    fn roots(&self) -> Result<rustls::RootCertStore, Cause> {
        let mut roots = rustls::RootCertStore::empty();
        let system = rustls_native_certs::load_native_certs();
        roots.add_parsable_certificates(system.certs);
        self.add_own(&mut roots)?;
        if roots.is_empty() {
            // Why none could be read, where one was named in SSL_CERT_FILE, say.
            let trouble = system.errors.first().map(|error| format!(" ({error})")).unwrap_or_default();
            return Err(Cause::Setting(format!(
                "No certificate authority is known, so no server can be trusted: this system has none{trouble}; install \
                 its package ca-certificates, or name a PEM file as ca_file in [s3] or in SSL_CERT_FILE"
            )));
        }
        Ok(roots)
    }

    /// Whether the user's certificates can be read, also where they are not needed yet.
    pub fn check(&self) -> Result<(), Cause> {
        self.add_own(&mut rustls::RootCertStore::empty())
    }

    fn add_own(&self, roots: &mut rustls::RootCertStore) -> Result<(), Cause> {
        let Some(file) = &self.ca_file else { return Ok(()) };
        for certificate in read_certificates(file)? {
            roots.add(certificate).map_err(|error| ca_file(file, &error.to_string()))?;
        }
        Ok(())
    }
}

fn read_certificates(file: &Path) -> Result<Vec<CertificateDer<'static>>, Cause> {
    let pem = std::fs::read(file).map_err(|error| ca_file(file, &error.to_string()))?;
    let certificates = CertificateDer::pem_slice_iter(&pem)
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| ca_file(file, &error.to_string()))?;
    match certificates.is_empty() {
        true => Err(ca_file(file, "it holds no PEM certificate")),
        false => Ok(certificates),
    }
}

fn ca_file(file: &Path, why: &str) -> Cause {
    Cause::Setting(format!("The certificates in ca_file {file:?} cannot be used: {why}"))
}

/// An answer to a request without credentials.
#[derive(Debug)]
pub struct Fetched {
    pub status: u16,
    /// Its beginning.
    pub body: Vec<u8>,
}

/// A plain GET, as a reader without credentials sends it: of the body at most `limit` bytes, and nothing for longer than
/// `patience`.
pub async fn fetch(url: &str, ca_file: Option<&Path>, patience: Duration, limit: usize) -> Result<Fetched, Cause> {
    let trust = Trust { ca_file: ca_file.map(Path::to_owned) };
    let url = Url::parse(url).map_err(|error| Cause::Setting(format!("The URL cannot be used: {error}")))?;
    let asked = url.clone();
    let builder = tokio::task::spawn_blocking(move || trust.reader(&asked))
        .await
        .map_err(|error| Cause::Io(std::io::Error::other(error)))??;
    let client = builder.build().map_err(|error| Cause::Setting(crate::remedy::chain(&error)))?;
    let answer = async {
        let mut response = client.get(url).send().await.map_err(transport)?;
        let status = response.status().as_u16();
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(transport)? {
            let room = limit.saturating_sub(body.len());
            body.extend_from_slice(chunk.get(..room.min(chunk.len())).unwrap_or_default());
            if body.len() >= limit {
                break;
            }
        }
        Ok(Fetched { status, body })
    };
    tokio::time::timeout(patience, answer).await.map_err(|_| Cause::Stalled(patience))?
}

/// What a failed request means. Its URL, which may hold a signature, is dropped.
pub(super) fn transport(error: reqwest::Error) -> Cause {
    let error = error.without_url();
    if error.is_builder() {
        return Cause::Setting(crate::remedy::chain(&error));
    }
    let untrusted = has_untrusted_certificate(&error);
    let is_connect = error.is_connect();
    let source: Source = Box::new(error);
    match () {
        () if untrusted => Cause::Certificate(source),
        () if is_connect => Cause::Unreachable(source),
        () => Cause::Broken(source),
    }
}

fn has_untrusted_certificate(error: &(dyn std::error::Error + 'static)) -> bool {
    let mut next = Some(error);
    while let Some(error) = next {
        if matches!(error.downcast_ref(), Some(rustls::Error::InvalidCertificate(_))) {
            return true;
        }
        // An io::Error's `source` skips the very error that it wraps.
        next = match error.downcast_ref::<std::io::Error>().and_then(|error| error.get_ref()) {
            Some(inner) => Some(inner),
            None => error.source(),
        };
    }
    false
}
