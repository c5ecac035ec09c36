//! The configuration: defaults < `loft.toml` < environment < flags, merged by hand.
//!
//! All four layers become located values first (`document`), are laid over one another by key
//! (here and in `target`), and are checked once, whoever set them (`reader`, `settings`). So every
//! effective value knows its origin, and one run tells all problems. The environment arrives as a
//! map; files are read, nothing is printed.

mod credentials;
mod document;
mod header_file;
pub mod keys;
mod origin;
mod problem;
mod reader;
mod schema;
mod settings;
pub mod show;
mod signing;
mod target;
mod value;
pub mod variables;

pub use origin::{Origin, Place, Snippet};
pub use problem::{ConfigError, Problem};
pub use reader::Effective;
pub use settings::{PruneSettings, PushSettings, ServiceSettings, Settings};
pub use signing::{KeyFile, KeyFileError, SigningKeys, SigningSettings, read_key_file};
pub use value::{Schedule, parse_size};

use crate::bucket::Target;
use document::{Document, Located, Value};
use origin::Source;
use reader::Reader;
use std::collections::BTreeMap;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use target::Layers;

/// The file that is read where none is named, if it is there.
pub const DEFAULT_FILE: &str = "loft.toml";
/// Names the file, below `-c`.
pub const FILE_VARIABLE: &str = "LOFT_CONFIG";
/// Holds the bucket's URL, below `--to`.
pub const URL_VARIABLE: &str = "LOFT_CACHE";

/// Nobody writes a configuration of this size.
const MAX_FILE: u64 = 1 << 20;

/// All that a configuration is made of.
#[derive(Debug, Clone, Default)]
pub struct Sources {
    /// `-c`: must exist,
    pub file: Option<PathBuf>,
    /// unless it is about to be written.
    pub file_may_be_missing: bool,
    pub environment: BTreeMap<String, String>,
    pub flags: Flags,
    /// Unknown keys are errors (`loft config check`) rather than warnings.
    pub strict: bool,
}

/// Settings that were typed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Flags {
    pub to: Option<String>,
    pub level: Option<i64>,
    pub jobs: Option<i64>,
    /// Replaces all configured keys.
    pub signing_keys: Vec<PathBuf>,
    pub store: Option<String>,
    pub retention_days: Option<i64>,
}

/// A configuration that can be used.
#[derive(Debug)]
pub struct Loaded {
    pub settings: Settings,
    pub warnings: Vec<Problem>,
    /// Every setting in effect, for `show`.
    pub effective: Vec<Effective>,
    /// Where a bucket was looked for, for the error when there is none.
    looked_at: Vec<String>,
}

impl Loaded {
    /// The bucket, or an error that says where it was looked for.
    pub fn bucket(&self) -> Result<&Target, ConfigError> {
        self.settings.bucket.as_ref().ok_or_else(|| {
            let looked = self.looked_at.join(", ");
            Problem::new(Origin::Default, format!("No bucket is named: {looked}"))
                .help(
                    "`loft init 's3://BUCKET?endpoint=http://HOST:PORT&region=REGION'` makes one, and loft.toml; one that is there is \
                     named as bucket in [s3] of loft.toml, by such a URL in LOFT_CACHE, or with `--to URL`",
                )
                .into()
        })
    }

    /// The signing keys; none are configured where the list is empty.
    pub fn signing_keys(&self) -> Result<SigningKeys, ConfigError> {
        let store_dir = self.settings.store.environment.get("NIX_STORE_DIR").map(Path::new);
        self.settings.signing.read_keys(store_dir.filter(|dir| dir.is_absolute()))
    }
}

/// Reads, merges and checks all sources.
pub fn load(sources: &Sources) -> Result<Loaded, ConfigError> {
    let (source, looked_at_file) = read_file(sources)?;
    let document = source.as_ref().map(Document::parse).unwrap_or_default();
    let Document { values, headers, header_files, mut problems, unknown, obsolete } = document;
    if !problems.is_empty() {
        return Err(ConfigError { problems, warnings: unknown });
    }
    let mut warnings = obsolete;
    if sources.strict {
        problems.extend(unknown)
    } else {
        warnings.extend(unknown)
    }

    let mut layers = Layers { values, headers, header_files };
    // The file's own URL first: one that was typed may name just another bucket of the same server.
    let (in_file, typed) = (target::url_in_file(&layers.values), url(sources));
    if typed.is_some() {
        layers.values.remove(&target::CACHE);
    }
    let mut directory = None;
    for (url, origin) in in_file.into_iter().chain(typed) {
        let found = target::lay_url(&mut layers, &url, &origin, &mut problems, &mut warnings);
        directory = found.map(|path| (path, origin));
    }
    credentials::lay(&mut layers, &sources.environment, &mut problems);
    target::lay_aws_variables(&mut layers.values, &sources.environment);
    lay_flags(&mut layers.values, &sources.flags);

    let mut reader = Reader::new(source, layers.values);
    let s3 = target::read(&mut reader, layers.headers, layers.header_files, &sources.environment);
    target::read_cache(&mut reader);
    let bucket = match directory {
        Some((path, origin)) => {
            reader.effective.retain(|entry| !entry.key.starts_with("s3."));
            reader.record_as("directory".to_owned(), path.display().to_string().into(), origin);
            Some(Target::Directory(path))
        }
        None => s3.map(Target::S3),
    };
    let settings = Settings {
        bucket,
        public_url: settings::read_public_url(&mut reader),
        status_page: reader.boolean(("loft", "status_page"), false),
        store: settings::read_store(&mut reader, &sources.environment),
        packing: settings::read_packing(&mut reader),
        signing: settings::read_signing(&mut reader),
        push: settings::read_push(&mut reader),
        ledger: settings::read_ledger(&mut reader, &sources.environment),
        service: settings::read_service(&mut reader),
        prune: settings::read_prune(&mut reader),
    };
    problems.extend(reader.problems);
    warnings.extend(reader.warnings);
    let warnings = in_file_order(warnings);
    if !problems.is_empty() {
        return Err(ConfigError { problems: in_file_order(problems), warnings });
    }
    let looked_at = vec!["--to is not given".to_owned(), "LOFT_CACHE is not set".to_owned(), looked_at_file];
    Ok(Loaded { settings, warnings, effective: reader.effective, looked_at })
}

/// The file that these sources name or imply, whether it is there or not.
pub fn file(sources: &Sources) -> PathBuf {
    let variable = || sources.environment.get(FILE_VARIABLE).filter(|path| !path.is_empty()).map(PathBuf::from);
    sources.file.clone().or_else(variable).unwrap_or_else(|| PathBuf::from(DEFAULT_FILE))
}

/// The file, if there is one, and what to say of it when it names no bucket.
fn read_file(sources: &Sources) -> Result<(Option<Source>, String), ConfigError> {
    let variable = sources.environment.get(FILE_VARIABLE).filter(|path| !path.is_empty());
    let (path, origin) = match (&sources.file, variable) {
        (Some(path), _) => (path.clone(), Some(Origin::Flag("--config"))),
        (None, Some(path)) => (PathBuf::from(path), Some(Origin::Environment(FILE_VARIABLE.to_owned()))),
        (None, None) => (PathBuf::from(DEFAULT_FILE), None),
    };
    let shown = path.display();
    match (read_limited(&path), origin) {
        (Ok(text), _) => {
            let looked = format!("{shown} has no bucket in [s3]");
            Ok((Some(Source::new(path, text)), looked))
        }
        (Err(error), Some(_)) if error.kind() == io::ErrorKind::NotFound && sources.file_may_be_missing => {
            Ok((None, format!("there is no {shown}")))
        }
        (Err(error), None) if error.kind() == io::ErrorKind::NotFound => {
            Ok((None, format!("there is no {DEFAULT_FILE} in the current directory")))
        }
        (Err(error), origin) => {
            let problem = Problem::new(
                origin.unwrap_or(Origin::Default),
                format!("Could not read the configuration file {shown}: {error}"),
            );
            Err(match error.kind() {
                io::ErrorKind::NotFound => {
                    problem.help("a file that is named must exist; without -c, loft.toml is optional")
                }
                _ => problem.help(format!("loft must be able to read it: ls -l {shown}")),
            }
            .into())
        }
    }
}

fn read_limited(path: &Path) -> io::Result<String> {
    let mut bytes = Vec::new();
    std::fs::File::open(path)?.take(MAX_FILE + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > MAX_FILE {
        return Err(io::Error::other("it is larger than 1 MiB, which no configuration is"));
    }
    String::from_utf8(bytes).map_err(|error| {
        let valid = error.as_bytes().get(..error.utf8_error().valid_up_to()).unwrap_or_default();
        let line = valid.iter().filter(|byte| **byte == b'\n').count() + 1;
        io::Error::other(format!("line {line} is not valid UTF-8"))
    })
}

/// The URL that names the bucket for this run.
fn url(sources: &Sources) -> Option<(String, Origin)> {
    let flag = sources.flags.to.clone().map(|url| (url, Origin::Flag("--to")));
    let variable = || sources.environment.get(URL_VARIABLE).filter(|url| !url.is_empty());
    flag.or_else(|| variable().map(|url| (url.clone(), Origin::Environment(URL_VARIABLE.to_owned()))))
}

fn lay_flags(values: &mut BTreeMap<document::Name, Located>, flags: &Flags) {
    let mut lay = |key, flag, value: Option<Value>| {
        if let Some(value) = value {
            values.insert(("loft", key), Located::new(value, Origin::Flag(flag)));
        }
    };
    lay("compression_level", "--level", flags.level.map(Value::Integer));
    lay("upload_threads", "--jobs", flags.jobs.map(Value::Integer));
    lay("store", "--store", flags.store.clone().map(Value::Text));
    lay("prune_retention_days", "--retention", flags.retention_days.map(Value::Integer));
    target::lay_signing_keys(values, &flags.signing_keys, &Origin::Flag("--signing-key"));
}

/// Problems in the order of the file, then the others.
fn in_file_order(mut problems: Vec<Problem>) -> Vec<Problem> {
    problems.sort_by_key(|problem| match &problem.origin {
        Origin::File(place) => (0, place.line, place.column),
        _ => (1, 0, 0),
    });
    problems
}
