//! `loft init`: bucket → rights → nix-cache-info and record → who can read → key → loft.toml.
//!
//! What can be tried is tried before something is made that rests on it. Each step is told when it is done, so that a later one that fails leaves nothing unsaid. What is there is never
//! overwritten; a second run changes nothing.

use super::document::{Missing, UPSTREAM_URL};
use super::key_pair::{self, KeyPair, Wanted};
use super::new_file::{check_place, write_new};
use super::public::{Access, Obstacle, Question, look};
use super::reading::{Reading, Substituter};
use super::{SetupError, hints};
use crate::bucket::permissions::{self, Action, Permissions};
use crate::bucket::{Bucket, BucketError, CacheInfo, Cause, Key, Lifecycle, Quirks, Switch, Target, check_web_address};
use crate::clock::Clock;
use crate::config::{KeyFile, Loaded, Problem};
use crate::nix::{KeyName, PublicKey};
use crate::push::{ensure_cache_info, read_record, write_record};
use crate::store::Location;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use ulid::Ulid;

/// A request that is not answered for so long counts as failed.
const PATIENCE: Duration = Duration::from_secs(30);

/// What no push can do without. Deleting is for leases, which expire by themselves, and aborting for what prunes clear away.
const PUSHING: [Action; 8] = [
    Action::Put,
    Action::Get,
    Action::Head,
    Action::List,
    Action::TimedPut,
    Action::StartUpload,
    Action::PutPart,
    Action::FinishUpload,
];

/// What became of one thing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Made {
    New,
    /// It was there, and stays as it is.
    Found,
    /// A dry run would have made it.
    Would,
}

/// What else there is, for who has mistyped a name and got a new bucket.
#[derive(Debug, Default)]
pub struct Others {
    /// The cache that the configuration file names.
    pub in_file: Option<String>,
    /// Buckets of the same store.
    pub known: Vec<String>,
}

/// A step that is done.
#[derive(Debug)]
pub enum Step<'a> {
    Bucket {
        made: Made,
        /// Garage knows a bucket that a key has made by that key's name for it alone.
        is_private_name: bool,
        /// Where it was made: what may have been meant instead.
        others: Others,
    },
    Rights(&'a Permissions),
    CacheInfo {
        made: Made,
        /// What is there, if it says something else than is configured.
        differs: Option<(CacheInfo, CacheInfo)>,
    },
    Record(Made),
    Key {
        file: &'a Path,
        public: Option<&'a PublicKey>,
        made: Made,
        /// The cache was there, and the file names a key that was not: readers know another by its name.
        was_lost: bool,
    },
    /// Something about a key that people should know.
    Warning(&'a Problem),
    Config {
        file: &'a Path,
        made: Made,
        /// Lines that a file that was there lacks.
        missing: Option<String>,
    },
    /// Rules by which the store deletes, if that could be asked.
    Quirks(&'a Quirks),
    Access(&'a Access),
}

/// What is to be prepared, and how.
pub struct Options<'a> {
    /// All sources together.
    pub loaded: &'a Loaded,
    /// What the file alone says; nothing where there is none yet.
    pub in_file: Option<&'a Loaded>,
    pub config_file: PathBuf,
    /// Where a new key goes for which no file is named.
    pub key_folder: Option<PathBuf>,
    pub key_name: Option<KeyName>,
    /// This machine's name, for a new key's.
    pub host: String,
    /// How an access key is named in a shell, for hints.
    pub access_key: &'a str,
    /// Let everybody read, at this address.
    pub public: Option<&'a str>,
    pub dry_run: bool,
}

/// What readers are told, and whether pushing will work.
#[derive(Debug)]
pub struct Prepared {
    /// `None` where a dry run has made no key, or nobody can read at the address that was asked for.
    pub reading: Option<Reading>,
    /// Everybody was to be able to read, and cannot.
    pub is_shut: bool,
    /// Nothing but scratch objects was written.
    pub unchanged: bool,
    /// What these credentials may not do although a push needs it.
    pub denied: Vec<Action>,
    /// The configuration file was there, and lacks what was told.
    pub lacks: bool,
}

impl Prepared {
    /// Whether pushes will work, and reading as far as it was asked for.
    pub fn is_ready(&self) -> bool {
        self.denied.is_empty() && !self.is_shut
    }
}

pub async fn prepare(
    bucket: &Arc<dyn Bucket>,
    clock: &dyn Clock,
    options: &Options<'_>,
    told: &dyn Fn(Step<'_>),
) -> Result<Prepared, SetupError> {
    let settings = &options.loaded.settings;
    let target = options.loaded.bucket()?;
    let location = Location::find(&settings.store)?;
    // Before it stands in a file, where a password would be for all to read.
    options.public.map_or(Ok(()), check_web_address)?;
    check_machine(options, target, &location)?;
    let mut unchanged = true;
    let mut done = |made: Made| {
        unchanged &= made == Made::Found;
        made
    };

    let made = done(ensure_bucket(bucket.as_ref(), target, options).await?);
    let is_private_name = made == Made::New && hints::is_garage(target);
    let others = if made == Made::New { others(bucket.as_ref(), target, options).await } else { Others::default() };
    told(Step::Bucket { made, is_private_name, others });
    let is_there = made != Made::Would;

    let mut denied = Vec::new();
    let mut can_remove = false;
    if !options.dry_run {
        let rights = permissions::probe(bucket.as_ref(), clock.wall(), PATIENCE).await;
        denied = rights.failures().map(|(action, ..)| action).filter(|action| PUSHING.contains(action)).collect();
        can_remove = rights.allows(Action::Delete);
        told(Step::Rights(&rights));
    }

    let writes = is_there && !options.dry_run;
    let found = match is_there {
        true => ensure_cache_info(bucket.as_ref(), &location.store_dir, settings.push.priority, writes).await?,
        false => None,
    };
    let made = done(outcome(found.is_some(), writes));
    let wanted = CacheInfo::new(location.store_dir.clone(), settings.push.priority);
    let differs = found.filter(|found| *found != wanted).map(|found| (found, wanted));
    told(Step::CacheInfo { made, differs });

    let is_new_file = options.in_file.is_none();
    let found = if is_there { read_record(bucket.as_ref()).await? } else { None };
    told(Step::Record(done(outcome(found.is_some(), writes))));
    let is_old = found.is_some();
    let record = match found {
        None if writes => Some(write_record(bucket.as_ref(), clock, upstreams(options)).await?),
        found => found,
    };

    if writes && !denied.contains(&Action::Put) {
        // Who may not delete leaves one object, however often this is done.
        let scratch = if can_remove { Key::probe(Ulid::from_datetime(clock.wall())) } else { Key::kept_probe() };
        // Nothing rests on it; what cannot be asked is not told.
        if let Ok(quirks) = bucket.quirks(&scratch).await
            && matches!(&quirks.lifecycle, Lifecycle::Rules(_))
        {
            told(Step::Quirks(&quirks));
        }
    }

    let url = options.public.or(settings.public_url.as_deref());
    let generation = record.as_ref().map(|record| record.generation.as_str());
    let question = Question { target, url, switch: options.public.is_some(), generation, dry_run: options.dry_run };
    let access = if is_there { look(bucket.as_ref(), &question).await? } else { not_yet(&question) };
    if matches!(access, Access::Everybody { switched: true, .. } | Access::Nobody { tried: Some(Ok(Switch::On)), .. }) {
        done(Made::New);
    }
    told(Step::Access(&access));
    // A wrong address would stay in the file, and in the key's name.
    let is_shut = options.public.is_some() && matches!(access, Access::Nobody { .. });
    if is_shut {
        return Ok(Prepared { reading: None, is_shut, unchanged, denied, lacks: false });
    }

    let pairs = keys(options, target, &location, options.dry_run)?;
    let has_named = |pair: &KeyPair| {
        let named = options.in_file.map(|file| &file.settings.signing.files);
        named.is_some_and(|files| files.iter().any(|file| file.path == pair.file))
    };
    for pair in &pairs {
        let made = done(pair.made);
        let was_lost = made != Made::Found && is_old && has_named(pair);
        told(Step::Key { file: &pair.file, public: pair.public.as_ref(), made, was_lost });
        pair.warnings.iter().for_each(|warning| told(Step::Warning(warning)));
    }

    let missing = missing(options, target, &pairs, is_new_file);
    let text = missing.text();
    let made = done(match (is_new_file, options.dry_run) {
        (true, false) => write_config(&options.config_file, &text)?,
        (true, true) => Made::Would,
        (false, _) => Made::Found,
    });
    let lacks = (made == Made::Found && !missing.is_empty()).then_some(text);
    let has_gaps = lacks.is_some();
    told(Step::Config { file: &options.config_file, made, missing: lacks });

    let public_keys: Vec<PublicKey> = pairs.into_iter().filter_map(|pair| pair.public).collect();
    let substituter = match (&access, url) {
        (Access::Everybody { url, .. }, _) => Substituter::parse(url, None),
        (Access::Nobody { why: Obstacle::AnotherCache, .. }, _) => Substituter::of(target, None),
        (_, Some(url)) => Substituter::parse(url, None),
        _ => Substituter::of(target, None),
    };
    let reading = match (public_keys.is_empty(), substituter) {
        (false, Ok(substituter)) => Some(Reading { substituter, public_keys, netrc_file: None }),
        _ => None,
    };
    Ok(Prepared { reading, is_shut, unchanged, denied, lacks: has_gaps })
}

const fn outcome(was_there: bool, writes: bool) -> Made {
    match (was_there, writes) {
        (true, _) => Made::Found,
        (false, true) => Made::New,
        (false, false) => Made::Would,
    }
}

async fn ensure_bucket(bucket: &dyn Bucket, target: &Target, options: &Options<'_>) -> Result<Made, SetupError> {
    let cannot_create = |error: BucketError| {
        let hint = hints::create(target, options.access_key, &error.cause);
        Err(SetupError::Create { error: error.into(), hint })
    };
    match bucket.check_access().await {
        // An absent directory is an empty one as long as it can be made.
        Ok(()) if matches!(target, Target::Directory(path) if !path.exists()) => {}
        Ok(()) => return Ok(Made::Found),
        Err(BucketError { cause: Cause::NoBucket(_), .. }) => {}
        Err(error) if matches!(error.cause, Cause::NoDirectory(_)) => return cannot_create(error),
        Err(error) if permissions::Why::of(&error.cause) == permissions::Why::Denied => {
            let hint = hints::allow(target, options.access_key);
            return Err(SetupError::Access { error: error.into(), hint });
        }
        Err(error) => return Err(error.into()),
    }
    if options.dry_run {
        return Ok(Made::Would);
    }
    match bucket.create().await {
        Ok(true) => Ok(Made::New),
        Ok(false) => Ok(Made::Found),
        Err(error) => cannot_create(error),
    }
}

/// What would stop it half-way, told before anything is made: keys that cannot be used, places where nothing can be written.
fn check_machine(options: &Options<'_>, target: &Target, location: &Location) -> Result<(), SetupError> {
    let pairs = keys(options, target, location, true)?;
    let places = pairs.iter().filter(|pair| pair.made == Made::Would).map(|pair| pair.file.as_path());
    let config = options.in_file.is_none().then_some(options.config_file.as_path());
    for file in places.chain(config) {
        check_place(file).map_err(|source| SetupError::Write { file: file.to_owned(), source })?;
    }
    Ok(())
}

/// Asked once something new was made; what cannot be asked is not told.
async fn others(bucket: &dyn Bucket, target: &Target, options: &Options<'_>) -> Others {
    let in_file = options.in_file.and_then(|file| file.settings.bucket.as_ref());
    let mut known = bucket.siblings().await.unwrap_or_default();
    known.retain(|name| !matches!(target, Target::S3(settings) if settings.bucket == *name));
    Others { in_file: in_file.filter(|named| !named.is_same_place(target)).map(ToString::to_string), known }
}

/// Caches whose paths may be missing in this one, as they stand in the bucket's record.
fn upstreams(options: &Options<'_>) -> Vec<String> {
    let configured = &options.loaded.settings.push.upstreams;
    match configured.is_empty() && options.in_file.is_none() {
        // As in the file that is about to be written.
        true => vec![UPSTREAM_URL.to_owned()],
        false => configured.clone(),
    }
}

/// All configured keys, made where they are missing; one if none is configured.
fn keys(
    options: &Options<'_>,
    target: &Target,
    location: &Location,
    dry_run: bool,
) -> Result<Vec<KeyPair>, SetupError> {
    let default = default_name(options, target)?;
    let wanted = Wanted {
        name: options.key_name.as_ref().unwrap_or(&default),
        name_is_asked_for: options.key_name.is_some(),
        store_dir: Some(Path::new(location.store_dir.as_str())),
        dry_run,
    };
    let mut files: Vec<KeyFile> = options.loaded.settings.signing.files.clone();
    if files.is_empty() {
        let folder = options.key_folder.as_deref().ok_or(SetupError::NoKeyFolder)?;
        files.push(key_pair::default_file(folder, wanted.name));
    }
    files.iter().map(|file| key_pair::find_or_make(file, &wanted)).collect()
}

/// Clients tell keys apart by name, so it should not be found elsewhere: the public host's, else the cache's
/// own with this machine's.
fn default_name(options: &Options<'_>, target: &Target) -> Result<KeyName, SetupError> {
    let url = options.public.or(options.loaded.settings.public_url.as_deref());
    let host = url.and_then(|url| url.split_once("://")?.1.split(['/', ':']).next()).unwrap_or_default();
    let is_name = host.contains('.') && !host.ends_with("localhost") && !host.ends_with(|c: char| c.is_ascii_digit());
    let text = if is_name {
        format!("{host}-1")
    } else {
        let cache = match target {
            Target::S3(settings) => format!("{}-{}", settings.bucket, settings.prefix.trim_matches('/')),
            Target::Directory(path) => path.file_name().unwrap_or_default().to_string_lossy().into_owned(),
        };
        format!("{}-{}-1", cache.trim_end_matches('-'), options.host)
    };
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    let text: String = text.chars().map(|c| if plain(c) { c } else { '-' }).collect();
    Ok(KeyName::parse(text.trim_start_matches(['-', '.']))?)
}

/// What a configuration file lacks, so that a push needs nothing else.
fn missing<'a>(options: &'a Options<'_>, target: &'a Target, pairs: &'a [KeyPair], is_new_file: bool) -> Missing<'a> {
    let in_file = options.in_file.map(|loaded| &loaded.settings);
    let names_target = in_file.and_then(|file| file.bucket.as_ref()).is_some_and(|known| known.is_same_place(target));
    let has_keys = in_file.is_some_and(|file| !file.signing.files.is_empty());
    let url = options
        .public
        .filter(|url| in_file.and_then(|file| file.public_url.as_deref()) != Some(url.trim_end_matches('/')));
    Missing {
        target: (!names_target).then_some(target),
        public_url: url,
        signing_key: pairs.first().filter(|_| !has_keys).map(|pair| pair.file.as_path()),
        upstream: is_new_file,
    }
}

fn write_config(file: &Path, text: &str) -> Result<Made, SetupError> {
    let text = format!(
        "# Written by `loft init`. `loft config show` tells all settings, docs/configuration.md what they mean.\n\n{text}"
    );
    match write_new(file, text.as_bytes(), 0o644) {
        Ok(()) => Ok(Made::New),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(Made::Found),
        Err(source) => Err(SetupError::Write { file: file.to_owned(), source }),
    }
}

/// Before there is a bucket.
fn not_yet(question: &Question<'_>) -> Access {
    match (question.url, question.target) {
        (Some(url), _) if question.switch => Access::WouldSwitch { url: url.to_owned() },
        (_, Target::Directory(_)) => Access::Directory,
        (url, _) => Access::Nobody {
            url: url.unwrap_or_default().to_owned(),
            why: Obstacle::Other("the bucket is not there yet".to_owned()),
            tried: None,
        },
    }
}
