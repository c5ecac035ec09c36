//! The bucket, from the first packet to what is in it.

use super::endpoint::Endpoint;
use super::finding::{Check, Code, Notes};
use super::judge::Owner;
use super::{Patient, credentials, directory, first_answer, samples, storage};
use crate::bucket::{Bucket, BucketError, Cause, DEFAULT_REGION, Key, Prefix, S3, S3Settings, Target};
use crate::config::Loaded;
use crate::nix::{NarInfo, PublicKey, StoreDir};
use crate::prune::CLOCK_TOLERANCE;
use crate::remedy::chain;
use bytes::Bytes;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

/// AWS and others refuse requests that are off by more than this.
const REFUSED: Duration = Duration::from_secs(15 * 60);

pub(super) const OFFLINE: &str = "nobody was to be asked over the network";

/// All that needs a bucket that answers.
pub(super) const AFTER_ANSWER: [Check; 9] = [
    Check::Permissions,
    Check::Consistency,
    Check::Conditions,
    Check::Checksums,
    Check::Lifecycle,
    Check::CacheInfo,
    Check::Record,
    Check::Signatures,
    Check::Clock,
];

/// What readers are compared with.
#[derive(Default)]
pub struct Cache {
    /// `bucket.json` as it stands.
    pub record: Option<Bytes>,
    pub upstreams: Vec<String>,
    /// Of the store that its paths are for.
    pub dir: StoreDir,
    /// A few narinfos of the cache.
    pub samples: Vec<NarInfo>,
    /// A key of this machine under whose name another one has signed there.
    pub ambiguous: Option<PublicKey>,
    /// Where `nix-cache-info` is, for readers without credentials.
    pub url: Option<String>,
    /// It was read with credentials.
    pub has_info: bool,
}

pub async fn look(patient: &Patient, loaded: &Loaded, keys: &[PublicKey], notes: &mut Notes) -> Cache {
    let remote = [Check::Endpoint, Check::Headers, Check::Credentials, Check::Region];
    match &loaded.settings.bucket {
        None => {
            notes.skip(&remote, Check::Configuration, "no bucket is named");
            notes.skip(&[Check::Bucket], Check::Configuration, "no bucket is named");
            notes.skip(&AFTER_ANSWER, Check::Configuration, "no bucket is named");
            Cache::default()
        }
        Some(Target::Directory(root)) => {
            remote.into_iter().for_each(|check| notes.without(check, "the cache is a directory"));
            directory::look(patient, loaded, root, keys, notes).await
        }
        Some(Target::S3(_)) if patient.offline => {
            remote
                .into_iter()
                .chain([Check::Bucket])
                .chain(AFTER_ANSWER)
                .for_each(|check| notes.without(check, OFFLINE));
            Cache::default()
        }
        Some(Target::S3(settings)) => server(patient, loaded, settings, keys, notes).await,
    }
}

async fn server(
    patient: &Patient,
    loaded: &Loaded,
    settings: &S3Settings,
    keys: &[PublicKey],
    notes: &mut Notes,
) -> Cache {
    let opened = open(patient, settings).await;
    let opened = opened.and_then(|bucket| Ok((bucket.url(&Key::cache_info())?, bucket)));
    let (url, bucket) = match opened {
        Ok(opened) => opened,
        Err(error) => {
            let way_out = "correct the setting; docs/configuration.md tells what it takes";
            notes.fault(Code::EndpointSetting, chain(&error.cause), way_out);
            let rest = [Check::Headers, Check::Credentials, Check::Region, Check::Bucket];
            notes.skip(&rest, Check::Endpoint, "the endpoint cannot be used");
            notes.skip(&AFTER_ANSWER, Check::Endpoint, "the endpoint cannot be used");
            return Cache::default();
        }
    };
    let mut cache = Cache { url: Some(url.clone()), ..Cache::default() };
    // Both, since either may take its time.
    let mut of_credentials = Notes::default();
    let endpoint = Endpoint::of(&url);
    let reached = async {
        match &endpoint {
            Some(endpoint) => endpoint.answers(patient, notes).await,
            None => true,
        }
    };
    let (is_there, whose) = tokio::join!(reached, credentials::look(patient, loaded, settings, &mut of_credentials));
    notes.0.extend(of_credentials.0);
    if !is_there || whose.is_none() {
        let (because, why) = match is_there {
            false => (Check::Endpoint, "nobody answers at the endpoint"),
            true => (Check::Credentials, "there are no credentials"),
        };
        if is_there && endpoint.is_some_and(|endpoint| endpoint.has_proxy(patient)) {
            notes.skip(&[Check::Endpoint], because, "it is reached by an HTTP proxy, and there are no credentials");
        } else if is_there {
            notes.fine(Check::Endpoint, format!("{} takes connections", bucket.describe()));
        } else if let Some(whose) = whose {
            notes.fine(Check::Credentials, format!("{}; not tried yet", whose.says));
        }
        notes.skip(&[Check::Headers, Check::Region, Check::Bucket], because, why);
        notes.skip(&AFTER_ANSWER, because, why);
        return cache;
    }
    let answer = limited(patient, bucket.check_access()).await;
    let is_mute = answer.as_ref().err().is_some_and(|error| {
        matches!(error.cause, Cause::Unreachable(_) | Cause::Broken(_) | Cause::Stalled(_) | Cause::Certificate(_))
    });
    let is_open = first_answer::judge(patient, settings, &endpoint, answer, notes).await;
    match is_mute {
        // Another question would be waited for as long.
        true => notes.without(Check::Clock, "the server gave no answer"),
        false => clock(patient, &bucket, is_open, notes).await,
    }
    if !is_open {
        return cache;
    }
    headers(patient, settings, notes).await;
    credentials::are_fine(&whose, notes);
    notes.fine(Check::Endpoint, format!("{} answers as S3 does", bucket.describe()));
    notes.fine(Check::Region, settings.region.as_deref().unwrap_or(DEFAULT_REGION));
    notes.fine(Check::Bucket, format!("{} is there", settings.bucket));
    let is_plain = endpoint.is_some_and(|endpoint| !endpoint.is_https);
    let owner = Owner::Key { bucket: &settings.bucket, key: whose.as_ref().map_or("KEY", |whose| &whose.access_key) };
    storage::look(patient, loaded, &bucket, &owner, is_plain, notes).await;
    samples::look(patient, loaded, &bucket, keys, &mut cache, notes).await;
    cache
}

async fn open(patient: &Patient, settings: &S3Settings) -> Result<S3, BucketError> {
    let (settings, environment) = (settings.clone(), patient.sources.environment.clone());
    let clock = patient.clock.clone();
    // Certificates are read from disk.
    let opened = tokio::task::spawn_blocking(move || S3::new(&settings, &environment, clock, Arc::default())).await;
    opened.map_err(|error| BucketError::new("open", "the bucket", "s3", Cause::Io(std::io::Error::other(error))))?
}

/// Whether the extra headers are needed at all, which shows that they come through.
async fn headers(patient: &Patient, settings: &S3Settings, notes: &mut Notes) {
    let names: Vec<&str> = settings.extra_headers.names().collect();
    if names.is_empty() {
        return notes.fine(Check::Headers, "none are set, and none are wanted");
    }
    let mut without = settings.clone();
    without.extra_headers = Default::default();
    let answer = match open(patient, &without).await {
        Ok(bucket) => limited(patient, bucket.check_access()).await,
        Err(error) => Err(error),
    };
    let names = names.join(", ");
    notes.fine(
        Check::Headers,
        match answer {
            Err(_) => format!("{names} come through: without them nobody answers"),
            Ok(()) => format!("{names} are sent; the server answers without them too"),
        },
    );
}

/// By the server's `Date`, which every answer has.
async fn clock(patient: &Patient, bucket: &S3, is_open: bool, notes: &mut Notes) {
    let now = match limited(patient, bucket.now()).await {
        Ok(now) => now,
        Err(_) if is_open => return notes.without(Check::Clock, "the server's answers have no date"),
        Err(_) => return notes.without(Check::Clock, "the server gave no answer"),
    };
    let here = patient.clock.wall();
    let (apart, which) = match now.duration_since(here) {
        Ok(behind) => (behind, "behind"),
        Err(ahead) => (ahead.duration(), "ahead of"),
    };
    let says = format!("this machine's clock is {} s {which} the server's", apart.as_secs());
    let way_out = "set the clock that is wrong, by NTP: timedatectl set-ntp true";
    match apart {
        apart if apart >= REFUSED => notes.fault(Code::ClockWrong, says, way_out),
        apart if apart > CLOCK_TOLERANCE => {
            notes.fault(Code::ClockOff, format!("{says}; prunes refuse to work so"), way_out);
        }
        _ if is_open => notes.fine(Check::Clock, format!("{} s apart from the server's", apart.as_secs())),
        _ => notes.fine(Check::Clock, format!("{} s apart from that of who answers", apart.as_secs())),
    }
}

pub(super) async fn limited<T>(
    patient: &Patient,
    call: impl Future<Output = Result<T, BucketError>>,
) -> Result<T, BucketError> {
    let stalled = || Err(BucketError::new("hear from", "the server", "s3", Cause::Stalled(patient.patience)));
    tokio::time::timeout(patient.patience, call).await.unwrap_or_else(|_| stalled())
}

/// Whether anything is there, in loft's words or Nix's.
pub(super) async fn is_cache(bucket: &dyn Bucket) -> Result<bool, BucketError> {
    let listed = bucket.list(&Prefix::own(), None).await?;
    Ok(!listed.objects.is_empty() || bucket.head(&Key::cache_info()).await?.is_some())
}
