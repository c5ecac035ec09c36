//! What the rest of loft is told: the typed result of all sources.

use super::document::Value;
use super::reader::{Given, Reader};
use super::signing::{KeyFile, SigningSettings};
use super::value::{Schedule, parse_schedule, parse_size, print_size};
use crate::bucket::Target;
use crate::nar::Packing;
use crate::nix::{Compression, KeyName, PublicKey, Signature};
use crate::plan::{Pattern, UpstreamKey};
use crate::prune::MaxSize;
use crate::push::Extras;
use serde_json::json;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Everything a user can set, checked.
#[derive(Debug, Clone)]
pub struct Settings {
    /// `None` where nobody named one; see [`Loaded::bucket`](super::Loaded::bucket).
    pub bucket: Option<Target>,
    /// Whether the bucket gets a page for browsers.
    pub status_page: bool,
    /// Where everybody may read the bucket, for those who set up readers.
    pub public_url: Option<String>,
    pub store: crate::store::Settings,
    pub packing: Packing,
    pub signing: SigningSettings,
    pub push: PushSettings,
    /// The ledger's file.
    pub ledger: PathBuf,
    pub service: ServiceSettings,
    pub prune: PruneSettings,
}

#[derive(Debug, Clone)]
pub struct PushSettings {
    /// Uploads in flight, at least 1.
    pub upload_threads: usize,
    /// Bytes that may be in flight at once, all NARs together.
    pub memory_limit: u64,
    /// Paths that these keys have signed are left to their caches.
    pub skip_signed_by: Vec<UpstreamKey>,
    pub exclude: Vec<Pattern>,
    /// URLs of the caches that clients have anyway.
    pub upstreams: Vec<String>,
    /// `Priority` of a new bucket's `nix-cache-info`; lower is asked first, cache.nixos.org says 40.
    pub priority: u32,
    pub extras: Extras,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServiceSettings {
    pub scan_on_startup: bool,
    pub populate_cache_on_startup: bool,
    pub metrics_address: Option<SocketAddr>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PruneSettings {
    pub enabled: bool,
    pub retention_days: u32,
    pub max_size_gb: Option<u32>,
    pub target_percentage: u32,
    pub schedule: Schedule,
}

/// `prune_max_size_gb` counts these: of the two readings of a gigabyte the one that removes less.
const GIGABYTE: u64 = 1 << 30;

impl PruneSettings {
    pub fn retention(&self) -> Duration {
        Duration::from_secs(u64::from(self.retention_days) * 24 * 60 * 60)
    }

    /// The configured limit, or `instead` in bytes.
    pub fn max_size(&self, instead: Option<u64>) -> Option<MaxSize> {
        let max = instead.or(self.max_size_gb.map(|max| u64::from(max) * GIGABYTE))?;
        // In parts of a hundred first, where the product would not fit.
        let percentage = u64::from(self.target_percentage);
        let target = max.checked_mul(percentage).map_or_else(|| max / 100 * percentage, |product| product / 100);
        Some(MaxSize { max, target })
    }
}

/// Below this, a handful of parts of the smallest size that S3 allows (5 MiB) do not fit.
const MIN_MEMORY: u64 = 32 << 20;
/// With the compressors and all the rest, a process stays below 150 MiB.
const DEFAULT_MEMORY: u64 = 64 << 20;
/// Beyond this, servers and descriptors give out before anything gets faster.
const MAX_UPLOAD_THREADS: u32 = 512;
/// A century.
const MAX_RETENTION_DAYS: u32 = 36_500;
/// More often than this a prune would only wait for itself; rarer than this it is a typing error.
const INTERVALS: RangeInclusive<Duration> = Duration::from_secs(60)..=Duration::from_secs(366 * 24 * 3600);

pub fn read_store(reader: &mut Reader, environment: &BTreeMap<String, String>) -> crate::store::Settings {
    const VARIABLES: [&str; 8] = [
        "NIX_REMOTE",
        "NIX_STORE",
        "NIX_STORE_DIR",
        "NIX_STATE_DIR",
        "NIX_LOG_DIR",
        "NIX_DAEMON_SOCKET_PATH",
        "HOME",
        "XDG_DATA_HOME",
    ];
    let store = reader.text(("loft", "store"), "a Nix store such as \"auto\", \"daemon\" or \"local\"", |_| true);
    let environment =
        environment.iter().filter(|(name, _)| VARIABLES.contains(&name.as_str())).map(|(n, v)| (n.clone(), v.clone()));
    crate::store::Settings {
        store: store.map(|given| given.value),
        environment: environment.collect(),
        ..Default::default()
    }
}

pub fn read_packing(reader: &mut Reader) -> Packing {
    let compression = reader.parsed_or(
        ("loft", "compression"),
        "\"zstd\", \"xz\" or \"none\"",
        Compression::Zstd,
        |value| match value {
            Value::Text(text) => match text.as_str() {
                "zstd" => Some(Compression::Zstd),
                "xz" => Some(Compression::Xz),
                "none" => Some(Compression::None),
                _ => None,
            },
            _ => None,
        },
        |compression| json!(word(*compression)),
    );
    let name = ("loft", "compression_level");
    let level = match compression {
        Compression::Xz => reader.integer(name, 0..=9),
        Compression::Zstd => reader.integer(name, 1..=22),
        Compression::None | Compression::Bzip2 => {
            let level = reader.integer(name, 0..=22);
            if let Some(level) = &level {
                let message = format!("`compression` is \"{}\", which has no levels", word(compression));
                reader.refuse(level, message, "remove compression_level, or choose \"zstd\" or \"xz\"");
            }
            None
        }
    };
    Packing { compression, level: level.and_then(|given| i32::try_from(given.value).ok()), workers: 0 }
}

/// As `loft.toml` spells it.
const fn word(compression: Compression) -> &'static str {
    match compression {
        Compression::Zstd => "zstd",
        Compression::Xz => "xz",
        Compression::None => "none",
        Compression::Bzip2 => "bzip2",
    }
}

pub fn read_signing(reader: &mut Reader) -> SigningSettings {
    let single = reader.path(("loft", "signing_key_path"));
    let name =
        reader.text(("loft", "signing_key_name"), "a key's name in quotes, such as \"cache.example.org-1\"", |_| true);
    let several = reader.list(("loft", "signing_key_paths"), "paths in quotes", |text| match text {
        "" => Err("A path in `signing_key_paths` is empty".to_owned()),
        _ => Ok(PathBuf::from(text)),
    });
    let name = name.and_then(|given| match KeyName::parse(&given.value) {
        Ok(name) => Some((name, given)),
        Err(error) => {
            reader.refuse(
                &given,
                format!("`signing_key_name` is no key name: {error}"),
                "for example \"cache.example.org-1\"",
            );
            None
        }
    });
    if let (Some((_, given)), None) = (&name, &single) {
        reader.warn(
            given,
            "`signing_key_name` has no effect without `signing_key_path`",
            "keys in `signing_key_paths` and --signing-key go by the names in their files",
        );
    }
    let first = single.map(|given| KeyFile {
        path: given.value,
        origin: given.origin,
        name: name.as_ref().map(|(name, _)| name.clone()),
    });
    let others = several.into_iter().map(|given| KeyFile { path: given.value, origin: given.origin, name: None });
    let mut files: Vec<KeyFile> = first.into_iter().collect();
    for file in others {
        if !files.iter().any(|known| known.path == file.path) {
            files.push(file);
        }
    }
    SigningSettings { files }
}

pub fn read_push(reader: &mut Reader) -> PushSettings {
    let upload_threads = reader.integer_or(("loft", "upload_threads"), 1..=MAX_UPLOAD_THREADS, 12);
    let memory_limit = reader.parsed_or(
        ("loft", "memory_limit"),
        "a size of at least 32 MiB, such as \"256MiB\" or a number of bytes",
        DEFAULT_MEMORY,
        |value| {
            let bytes = match value {
                Value::Text(text) => parse_size(text),
                Value::Integer(bytes) => u64::try_from(*bytes).ok(),
                _ => None,
            };
            bytes.filter(|bytes| *bytes >= MIN_MEMORY)
        },
        |bytes| json!(print_size(*bytes)),
    );
    let skip_signed_by = reader.list(("loft", "skip_signed_by_keys"), "key names in quotes", upstream_key);
    let exclude = reader.list(("loft", "exclude"), "patterns in quotes", |text| {
        Pattern::parse(text).map_err(|error| error.to_string())
    });
    let upstreams = reader.list(("loft", "upstreams"), "URLs in quotes", upstream_url);
    PushSettings {
        upload_threads: usize::try_from(upload_threads).unwrap_or(1),
        memory_limit,
        skip_signed_by: values(skip_signed_by),
        exclude: values(exclude),
        upstreams: values(upstreams),
        priority: reader.integer_or(("loft", "priority"), 0..=1_000_000, 41),
        extras: Extras {
            nar_listings: reader.boolean(("loft", "nar_listings"), false),
            build_logs: reader.boolean(("loft", "build_logs"), false),
            debug_info: reader.boolean(("loft", "debug_info"), false),
        },
    }
}

/// `name`, or `name:base64` as in `trusted-public-keys`.
fn upstream_key(text: &str) -> Result<UpstreamKey, String> {
    let refused = |error: &dyn std::fmt::Display| {
        format!("An item of `skip_signed_by_keys` is {text:?}, which is neither a key's name nor a public key: {error}")
    };
    if text.contains(':') {
        let public = PublicKey::parse(text).map_err(|error| {
            // Somebody may have pasted the secret half; 64 bytes of base64 look like a signature.
            match Signature::parse(text) {
                Ok(_) => "An item of `skip_signed_by_keys` is a secret key or a signature, but must be a public key; \
                          if it was a secret key, make a new one"
                    .to_owned(),
                Err(_) => refused(&error),
            }
        })?;
        return Ok(UpstreamKey { name: public.name().clone(), public: Some(public) });
    }
    KeyName::parse(text).map(|name| UpstreamKey { name, public: None }).map_err(|error| refused(&error))
}

fn upstream_url(text: &str) -> Result<String, String> {
    let known = ["https://", "http://", "s3://", "file://"];
    let rest = known.iter().find_map(|scheme| text.strip_prefix(scheme));
    match rest {
        Some(rest) if rest.split(['/', '?']).next().unwrap_or_default().contains('@') => {
            Err("An upstream's URL holds a user name or password, which would be written to the bucket".to_owned())
        }
        Some(rest) if !rest.is_empty() && !text.chars().any(|c| c.is_whitespace() || c.is_control()) => {
            Ok(text.trim_end_matches('/').to_owned())
        }
        _ => Err(format!(
            "An item of `upstreams` is {}, but must be a URL such as \"https://cache.nixos.org\"",
            super::reader::describe(&Value::Text(text.to_owned()))
        )),
    }
}

pub fn read_public_url(reader: &mut Reader) -> Option<String> {
    let name = ("loft", "public_url");
    let given = reader.text(name, "the web address that clients read, such as \"https://cache.example.org\"", |text| {
        let rest = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://"));
        rest.is_some_and(|rest| {
            !rest.is_empty() && !rest.contains(['@', '?', '#']) && !rest.contains(char::is_whitespace)
        })
    });
    given.map(|given| given.value.trim_end_matches('/').to_owned())
}

pub fn read_service(reader: &mut Reader) -> ServiceSettings {
    let metrics_address = reader.parsed(
        ("loft", "metrics_address"),
        "an IP address and a port, such as \"127.0.0.1:9100\" or \"[::]:9100\"",
        |value| match value {
            Value::Text(text) => text.parse::<SocketAddr>().ok(),
            _ => None,
        },
        |address| json!(address.to_string()),
    );
    reader.record_unset(("loft", "metrics_address"));
    ServiceSettings {
        scan_on_startup: reader.boolean(("loft", "scan_on_startup"), false),
        populate_cache_on_startup: reader.boolean(("loft", "populate_cache_on_startup"), false),
        metrics_address: metrics_address.map(|given| given.value),
    }
}

pub fn read_prune(reader: &mut Reader) -> PruneSettings {
    PruneSettings {
        enabled: reader.boolean(("loft", "prune_enabled"), false),
        retention_days: reader.integer_or(("loft", "prune_retention_days"), 1..=MAX_RETENTION_DAYS, 30),
        max_size_gb: reader.integer(("loft", "prune_max_size_gb"), 1..=u32::MAX).map(|given| given.value),
        target_percentage: reader.integer_or(("loft", "prune_target_percentage"), 1..=100, 80),
        schedule: reader.parsed_or(
            ("loft", "prune_schedule"),
            "in quotes, an interval from a minute to a year (\"90m\", \"24h\", \"7d\") or a time of day (\"00:00\")",
            Schedule::Every(Duration::from_secs(24 * 3600)),
            |value| match value {
                Value::Text(text) => parse_schedule(text)
                    .filter(|schedule| !matches!(schedule, Schedule::Every(interval) if !INTERVALS.contains(interval))),
                _ => None,
            },
            |schedule| json!(schedule.to_string()),
        ),
    }
}

/// Where the ledger is: as set, else where the service has it, else in the user's own cache.
pub fn read_ledger(reader: &mut Reader, environment: &BTreeMap<String, String>) -> PathBuf {
    const SYSTEM: &str = "/var/lib/loft/cache.db";
    let name = ("loft", "local_cache_path");
    if let Some(given) = reader.path(name) {
        return given.value;
    }
    reader.effective.pop();
    let system = PathBuf::from(SYSTEM);
    let own = |variable: &str| environment.get(variable).map(PathBuf::from).filter(|path| path.is_absolute());
    let cache = own("XDG_CACHE_HOME").or_else(|| own("HOME").map(|home| home.join(".cache")));
    let file = match cache {
        Some(cache) if !usable(&system) => cache.join("loft/cache.db"),
        _ => system,
    };
    reader.record(name, json!(file.display().to_string()), crate::config::Origin::Default);
    file
}

/// An existing file that can be written, or none in an existing directory. `/var/lib/loft` of a service with a
/// dynamic user cannot be looked into by others, and so does not count.
fn usable(file: &Path) -> bool {
    match std::fs::OpenOptions::new().append(true).open(file) {
        Ok(_) => true,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => file.parent().is_some_and(Path::is_dir),
        Err(_) => false,
    }
}

fn values<T>(given: Vec<Given<T>>) -> Vec<T> {
    given.into_iter().map(|given| given.value).collect()
}
