//! Where a store is: Nix's settings and environment turned into plain paths.
//!
//! Logical (what the database, narinfos and signatures say) and physical (where the bytes are) differ
//! in chroot stores, so they never share a variable. The rules are those of Nix's `openStore`,
//! `LocalFSStoreConfig` and `StoreReference`, checked against Nix 2.8 and 2.34.

use super::StoreError;
use crate::nix::{StoreDir, StorePath};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

const STATE_DIR: &str = "/nix/var/nix";
const LOG_DIR: &str = "/nix/var/log/nix";
const SOCKET_BELOW_STATE: &str = "daemon-socket/socket";

/// What the caller knows of where the store is; empty fields follow Nix's own rules.
#[derive(Debug, Clone, Default)]
pub struct Settings {
    /// As in `store = …` of the configuration or `--store`: `auto`, `daemon`, `local`, `unix://…`,
    /// `local?root=…`, or an absolute path of a chroot store.
    pub store: Option<String>,
    /// Variables that Nix obeys (`NIX_REMOTE`, `NIX_STORE_DIR`, `NIX_STATE_DIR`, `NIX_LOG_DIR`,
    /// `NIX_DAEMON_SOCKET_PATH`, `HOME`, `XDG_DATA_HOME`), handed in by the binary.
    pub environment: BTreeMap<String, String>,
    /// How long the daemon may be silent; ten minutes when not given.
    pub daemon_timeout: Option<std::time::Duration>,
}

/// Where one store's parts are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Location {
    /// Logical.
    pub store_dir: StoreDir,
    /// Where the files of the store directory are.
    pub real_store_dir: PathBuf,
    pub state_dir: PathBuf,
    /// Where builds' logs are.
    pub log_dir: PathBuf,
    pub daemon_socket: PathBuf,
}

/// A location, and whether its state directory belongs to the same store as its socket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Place {
    pub location: Location,
    /// False for a socket given by itself (`unix://…`), which may be another machine's or another
    /// store's: then only the daemon may be asked.
    pub state_is_ours: bool,
}

impl Location {
    /// Where the store of `settings` is, or would be: nothing is opened.
    pub fn find(settings: &Settings) -> Result<Self, StoreError> {
        Ok(Place::find(settings)?.location)
    }

    /// The files of `path` on this machine.
    pub fn real_path(&self, path: &StorePath) -> PathBuf {
        self.real_store_dir.join(path.as_str())
    }

    pub(super) fn database(&self) -> PathBuf {
        self.state_dir.join("db/db.sqlite")
    }
}

impl Place {
    pub fn find(settings: &Settings) -> Result<Self, StoreError> {
        let environment = Environment(&settings.environment);
        let setting = settings
            .store
            .as_deref()
            .filter(|setting| !setting.is_empty())
            .or_else(|| environment.get("NIX_REMOTE"))
            .unwrap_or("auto");
        let (base, query) = setting.split_once('?').unwrap_or((setting, ""));
        match base {
            "auto" | "" => auto(setting, query, &environment),
            "daemon" | "local" | "local://" | "unix://" => build(setting, query, &environment, None, None),
            _ => {
                if let Some(socket) = base.strip_prefix("unix://") {
                    let socket = PathBuf::from(percent_decode(setting, socket)?);
                    build(setting, query, &environment, None, Some(socket))
                } else if let Some(root) = base.strip_prefix("local://") {
                    build(setting, query, &environment, Some(percent_decode(setting, root)?), None)
                } else if base.contains('/') && !base.contains("://") {
                    build(setting, query, &environment, Some(base.to_owned()), None)
                } else {
                    Err(StoreError::Unsupported { setting: setting.to_owned(), why: unsupported(base) })
                }
            }
        }
    }
}

/// The variables, with empty ones counting as unset, as in Nix.
struct Environment<'a>(&'a BTreeMap<String, String>);

impl Environment<'_> {
    fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str).filter(|value| !value.is_empty())
    }
}

/// Nix's own choice between `local` and `daemon` needs no copying here, since both back ends are tried;
/// what remains is the chroot store of a user on a machine without `/nix`.
fn auto(setting: &str, query: &str, environment: &Environment) -> Result<Place, StoreError> {
    let usual = build(setting, query, environment, None, None)?;
    let location = &usual.location;
    let redirected = ["NIX_STORE_DIR", "NIX_STATE_DIR"].iter().any(|name| environment.get(name).is_some());
    if !query.is_empty() || redirected || location.state_dir.exists() || location.daemon_socket.exists() || is_root() {
        return Ok(usual);
    }
    let data = environment
        .get("XDG_DATA_HOME")
        .map(str::to_owned)
        .or_else(|| environment.get("HOME").map(|home| format!("{home}/.local/share")));
    match data.map(|data| format!("{data}/nix/root")) {
        Some(root) if Path::new(&root).is_dir() => build(setting, "", environment, Some(root), None),
        _ => Ok(usual),
    }
}

/// Effective user, without `unsafe`; Nix has chroot stores only where `/proc` is.
fn is_root() -> bool {
    use std::os::unix::fs::MetadataExt as _;
    std::fs::metadata("/proc/self").is_ok_and(|metadata| metadata.uid() == 0)
}

fn build(
    setting: &str,
    query: &str,
    environment: &Environment,
    root: Option<String>,
    socket: Option<PathBuf>,
) -> Result<Place, StoreError> {
    let parameters = parameters(setting, query)?;
    let parameter = |name| parameters.get(name).filter(|value| !value.is_empty());
    let root = root.or_else(|| parameter("root").cloned()).map(|root| absolute(setting, &root)).transpose()?;
    let below_root = |path: &str| root.as_ref().map(|root| root.join(path));

    let store_dir = store_dir(setting, parameter("store"), environment)?;
    let real = parameter("real").map(|real| absolute(setting, real)).transpose()?;
    let real_store_dir = real.or_else(|| below_root("nix/store")).unwrap_or_else(|| PathBuf::from(store_dir.as_str()));
    let default_state = PathBuf::from(environment.get("NIX_STATE_DIR").unwrap_or(STATE_DIR));
    let state = parameter("state").map(|state| absolute(setting, state)).transpose()?;
    let state_is_given = state.is_some() || root.is_some();
    let state_dir = state.or_else(|| below_root("nix/var/nix")).unwrap_or(default_state);
    let default_log = PathBuf::from(environment.get("NIX_LOG_DIR").unwrap_or(LOG_DIR));
    let log = parameter("log").map(|log| absolute(setting, log)).transpose()?;
    let log_dir = log.or_else(|| below_root("nix/var/log/nix")).unwrap_or(default_log);

    // A daemon of the default store must not be asked about another one.
    let default_socket = match environment.get("NIX_DAEMON_SOCKET_PATH") {
        Some(socket) if !state_is_given => PathBuf::from(socket),
        _ => state_dir.join(SOCKET_BELOW_STATE),
    };
    let socket_is_elsewhere = socket.as_ref().is_some_and(|socket| *socket != default_socket);
    let daemon_socket = socket.unwrap_or(default_socket);
    let location = Location { store_dir, real_store_dir, state_dir, log_dir, daemon_socket };
    Ok(Place { location, state_is_ours: !socket_is_elsewhere || state_is_given })
}

fn store_dir(setting: &str, parameter: Option<&String>, environment: &Environment) -> Result<StoreDir, StoreError> {
    if let Some(dir) = parameter {
        let malformed = |error: crate::nix::StorePathError| malformed(setting, error.to_string());
        return StoreDir::parse(dir).map_err(malformed);
    }
    for name in ["NIX_STORE_DIR", "NIX_STORE"] {
        if let Some(value) = environment.get(name) {
            let refused = |source| StoreError::StoreDir { name, value: value.to_owned(), source };
            return StoreDir::parse(value).map_err(refused);
        }
    }
    Ok(StoreDir::default())
}

fn unsupported(base: &str) -> &'static str {
    match base.split_once("://").map(|(scheme, _)| scheme) {
        Some("ssh" | "ssh-ng" | "mounted-ssh-ng") => "it is on another machine; run loft there",
        Some("http" | "https" | "s3" | "file") => {
            "it is a binary cache, and loft pushes from the store of this machine"
        }
        Some("local-overlay") => "its database lacks the lower store's paths; run a daemon on it and use unix://",
        _ => {
            "known are auto, daemon, local, unix://SOCKET, local?root=DIRECTORY and the absolute path of a chroot store"
        }
    }
}

/// `a=b&c=d`, percent-decoded; what Nix does with unknown ones does not concern where the store is.
fn parameters(setting: &str, query: &str) -> Result<BTreeMap<String, String>, StoreError> {
    query
        .split('&')
        .filter(|part| !part.is_empty())
        .map(|part| {
            let (name, value) =
                part.split_once('=').ok_or_else(|| malformed(setting, format!("parameter {part:?} has no value")))?;
            Ok((percent_decode(setting, name)?, percent_decode(setting, value)?))
        })
        .collect()
}

fn percent_decode(setting: &str, text: &str) -> Result<String, StoreError> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, tail @ ..] = rest {
        rest = tail;
        if *first != b'%' {
            bytes.push(*first);
            continue;
        }
        let digits = tail.first_chunk::<2>().and_then(|digits| std::str::from_utf8(digits).ok());
        let byte = digits
            .filter(|digits| digits.bytes().all(|digit| digit.is_ascii_hexdigit()))
            .and_then(|digits| u8::from_str_radix(digits, 16).ok())
            .ok_or_else(|| malformed(setting, format!("a % in {text:?} is not followed by two hexadecimal digits")))?;
        bytes.push(byte);
        rest = tail.get(2..).unwrap_or_default();
    }
    String::from_utf8(bytes).map_err(|_| malformed(setting, format!("{text:?} does not decode to UTF-8")))
}

fn absolute(setting: &str, path: &str) -> Result<PathBuf, StoreError> {
    std::path::absolute(path).map_err(|error| malformed(setting, format!("{path:?} has no absolute form: {error}")))
}

fn malformed(setting: &str, why: String) -> StoreError {
    StoreError::Setting { setting: setting.to_owned(), why }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn find(store: &str, environment: &[(&str, &str)]) -> Result<Place, StoreError> {
        Place::find(&Settings {
            store: (!store.is_empty()).then(|| store.to_owned()),
            environment: environment.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect(),
            daemon_timeout: None,
        })
    }

    /// Logical, real, state, socket.
    fn parts(store: &str, environment: &[(&str, &str)]) -> [String; 4] {
        let place = find(store, environment).unwrap();
        let location = place.location;
        [
            location.store_dir.to_string(),
            location.real_store_dir.display().to_string(),
            location.state_dir.display().to_string(),
            location.daemon_socket.display().to_string(),
        ]
    }

    #[test]
    fn keeps_logical_and_physical_apart() {
        let usual = ["/nix/store", "/nix/store", "/nix/var/nix", "/nix/var/nix/daemon-socket/socket"];
        for store in ["daemon", "local", "unix://", "local?trusted=1"] {
            assert_eq!(parts(store, &[]), usual, "{store}");
        }
        let chroot = ["/nix/store", "/r/nix/store", "/r/nix/var/nix", "/r/nix/var/nix/daemon-socket/socket"];
        for store in ["/r", "/r/", "local?root=/r", "local://?root=/r", "local:///r", "local?root=%2Fr", "auto?root=/r"]
        {
            assert_eq!(parts(store, &[]), chroot, "{store}");
            // The default store's socket is no business of a chroot store.
            assert_eq!(parts(store, &[("NIX_DAEMON_SOCKET_PATH", "/s")]), chroot, "{store}");
            assert_eq!(parts("", &[("NIX_REMOTE", store)]), chroot, "{store}");
        }
        assert_eq!(
            parts("local?real=/a%20b&state=/s%26t", &[]),
            ["/nix/store", "/a b", "/s&t", "/s&t/daemon-socket/socket"]
        );
        assert_eq!(parts("local?store=/gnu/store", &[])[..2], ["/gnu/store", "/gnu/store"]);
    }

    #[test]
    fn obeys_the_variables_that_nix_obeys() {
        let redirected = [("NIX_STORE_DIR", "/s/store"), ("NIX_STATE_DIR", "/s/var"), ("NIX_REMOTE", "")];
        for store in ["", "auto", "local", "daemon"] {
            assert_eq!(
                parts(store, &redirected),
                ["/s/store", "/s/store", "/s/var", "/s/var/daemon-socket/socket"],
                "{store}"
            );
        }
        assert_eq!(parts("daemon", &[("NIX_DAEMON_SOCKET_PATH", "/sock")])[3], "/sock");
        assert_eq!(parts("unix:///other%20sock", &[("NIX_DAEMON_SOCKET_PATH", "/sock")])[3], "/other sock");
        // A setting wins over the environment.
        assert_eq!(parts("local", &[("NIX_REMOTE", "/elsewhere")])[1], "/nix/store");
    }

    #[test]
    fn logs_are_where_nix_keeps_them() {
        let log_dir = |store: &str, environment: &[(&str, &str)]| find(store, environment).unwrap().location.log_dir;
        for (store, environment, expected) in [
            ("", &[][..], "/nix/var/log/nix"),
            ("daemon", &[("NIX_LOG_DIR", "/l"), ("NIX_STATE_DIR", "/s")], "/l"),
            ("local?log=/a%20b", &[("NIX_LOG_DIR", "/l")], "/a b"),
            ("/r", &[("NIX_LOG_DIR", "/l")], "/r/nix/var/log/nix"),
        ] {
            assert_eq!(log_dir(store, environment), Path::new(expected), "{store}");
        }
    }

    #[test]
    fn a_socket_by_itself_says_nothing_about_the_database_here() {
        let ours = |store: &str| find(store, &[]).unwrap().state_is_ours;
        assert!(!ours("unix:///forwarded/socket"));
        assert!(ours("unix:///nix/var/nix/daemon-socket/socket"));
        assert!(ours("unix:///some/socket?state=/some/state"));
        assert!(ours("daemon"));
    }

    #[test]
    fn an_ordinary_user_without_nix_has_a_store_at_home() {
        let home = tempfile::tempdir().unwrap();
        let root = home.path().join(".local/share/nix/root");
        std::fs::create_dir_all(&root).unwrap();
        let home = home.path().to_str().unwrap();
        let place = find("", &[("HOME", home)]).unwrap();
        let expected = if is_root() || Path::new(STATE_DIR).exists() {
            PathBuf::from("/nix/store")
        } else {
            root.join("nix/store")
        };
        assert_eq!(place.location.real_store_dir, expected);
    }

    #[test]
    fn says_what_to_do_about_other_stores() {
        for (store, hint) in [
            ("ssh://host", "run loft there"),
            ("ssh-ng://host", "run loft there"),
            ("https://cache.nixos.org", "binary cache"),
            ("s3://bucket?region=x", "binary cache"),
            ("file:///cache", "binary cache"),
            ("local-overlay://?lower-store=/x", "unix://"),
            ("dummy://", "known are"),
            ("nonsense", "known are"),
        ] {
            let error = find(store, &[]).unwrap_err();
            assert!(error.to_string().contains(hint), "{error}");
            assert!(error.to_string().contains(store), "{error}");
        }
        for store in
            ["local?root=%zz", "local?root=%", "local?root=%f", "local?root", "local?root=%ff", "local?root=%+1"]
        {
            assert!(matches!(find(store, &[]), Err(StoreError::Setting { .. })), "{store}");
        }
        assert!(matches!(find("local", &[("NIX_STORE_DIR", "relative")]), Err(StoreError::StoreDir { .. })));
        assert!(matches!(find("local?store=x", &[]), Err(StoreError::Setting { .. })));
    }

    proptest::proptest! {
        #[test]
        fn never_panics(store in "\\PC*", query in "[%a-f0-9=&?]*") {
            let _ = find(&store, &[]);
            let _ = find(&format!("local?{query}"), &[]);
        }
    }
}
