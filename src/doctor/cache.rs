//! The bucket, from the first packet to what is in it.

use super::endpoint::Endpoint;
use super::finding::{Check, Code, Notes};
use super::{Patient, credentials, directory, judge, samples};
use crate::bucket::permissions::{self, Permissions};
use crate::bucket::{Body, Bucket, BucketError, Cause, Denial, Headers, Key, Prefix, S3, S3Settings, Target};
use crate::config::Loaded;
use crate::nix::{NarInfo, PublicKey, Sha256, StoreDir};
use crate::prune::CLOCK_TOLERANCE;
use crate::remedy::chain;
use bytes::Bytes;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;
use ulid::Ulid;

/// AWS and others refuse requests that are off by more than this.
const REFUSED: Duration = Duration::from_secs(15 * 60);

pub(super) const OFFLINE: &str = "nobody was to be asked over the network";

/// All that needs a bucket that answers.
const AFTER_ANSWER: [Check; 9] = [
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
        if is_there {
            notes.fine(Check::Endpoint, format!("{} takes connections", bucket.describe()));
        } else if let Some(whose) = whose {
            notes.fine(Check::Credentials, format!("{whose}; not tried yet"));
        }
        notes.skip(&[Check::Headers, Check::Region, Check::Bucket], because, why);
        notes.skip(&AFTER_ANSWER, because, why);
        return cache;
    }
    let answer = limited(patient, bucket.check_access()).await;
    let is_open = judge_answer(patient, settings, &endpoint, answer, notes).await;
    clock(patient, &bucket, is_open, notes).await;
    if !is_open {
        return cache;
    }
    headers(patient, settings, notes).await;
    credentials::are_fine(&whose, notes);
    notes.fine(Check::Endpoint, format!("{} answers as S3 does", bucket.describe()));
    notes.fine(
        Check::Region,
        settings.region.clone().unwrap_or_else(|| "as the environment says, or us-east-1".to_owned()),
    );
    notes.fine(Check::Bucket, format!("{} is there", settings.bucket));
    let is_plain = endpoint.is_some_and(|endpoint| !endpoint.is_https);
    storage(patient, loaded, &bucket, is_plain, notes).await;
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

/// Whether the bucket can be looked into; what stands in the way was told.
async fn judge_answer(
    patient: &Patient,
    settings: &S3Settings,
    endpoint: &Option<Endpoint>,
    answer: Result<(), BucketError>,
    notes: &mut Notes,
) -> bool {
    let Err(error) = answer else { return true };
    let words = error.cause.refusal().map_or_else(|| chain(&error.cause), ToString::to_string);
    let because = match &error.cause {
        Cause::Denied { refusal, .. } if permissions::Why::of(&error.cause) != permissions::Why::NotS3 => {
            match refusal.denial() {
                // Which requests exactly is found out next.
                Denial::NotPermitted => return true,
                Denial::UnknownKey => notes.fault(
                    Code::CredentialsUnknown,
                    format!("the server does not know this access key id ({words})"),
                    "check the access key, and that it is one of this server",
                ),
                Denial::WrongSecret => notes.fault(
                    Code::CredentialsWrongSecret,
                    format!("the secret key does not fit the access key ({words})"),
                    "copy the secret key again; if it is right, a proxy on the way changes requests",
                ),
                Denial::ExpiredToken => notes.fault(
                    Code::CredentialsExpired,
                    format!("the session token has expired ({words})"),
                    "get new credentials where these came from",
                ),
                // The clock tells it by itself.
                Denial::Clock => {}
            }
            if refusal.denial() == Denial::Clock { Check::Clock } else { Check::Credentials }
        }
        Cause::NoBucket(_) => {
            notes.fault(
                Code::BucketMissing,
                format!("there is no bucket {} ({words})", settings.bucket),
                "correct bucket in [s3], or create it: `loft init`, or the server's own tool",
            );
            Check::Bucket
        }
        Cause::WrongRegion { right, .. } => {
            let set = settings.region.as_deref().unwrap_or("not set");
            let way_out = match right {
                Some(right) => format!("set region = {right:?} in [s3]"),
                None => "set region in [s3] to the one that the server's words name".to_owned(),
            };
            notes.fault(Code::RegionWrong, format!("region is {set}, and the server has another ({words})"), way_out);
            Check::Region
        }
        Cause::NotS3(_) | Cause::Denied { .. } if is_gate(&error.cause) => gate(settings, &words, notes),
        Cause::Setting(why) => {
            notes.fault(
                Code::EndpointSetting,
                why.clone(),
                "correct the setting; docs/configuration.md tells about it",
            );
            Check::Endpoint
        }
        Cause::Refused(_) | Cause::NotImplemented(_) => {
            let way_out = "look at the server's log, and whether endpoint, bucket and addressing_style are meant so";
            notes.fault(Code::BucketOdd, format!("the server does not answer as S3 does ({words})"), way_out);
            Check::Bucket
        }
        _ => {
            match endpoint {
                Some(endpoint) => endpoint.blame(patient, &error, notes).await,
                None => notes.fault(Code::EndpointUnavailable, words, "look at the server's log"),
            }
            Check::Endpoint
        }
    };
    let told: Vec<Check> = notes.0.iter().map(|finding| finding.check).collect();
    let reason = format!("the {because} stands in the way");
    let rest = [Check::Endpoint, Check::Headers, Check::Credentials, Check::Region, Check::Bucket];
    for check in rest.into_iter().filter(|check| !told.contains(check) && *check != because) {
        // What the server's answer shows to be in order.
        match check {
            Check::Endpoint if because != Check::Headers => {
                notes.fine(check, format!("{} answers as S3 does", place(settings)));
            }
            _ => notes.skip(&[check], because, &reason),
        }
    }
    let rest: Vec<Check> = AFTER_ANSWER.into_iter().filter(|check| *check != Check::Clock).collect();
    notes.skip(&rest, because, &reason);
    false
}

fn place(settings: &S3Settings) -> String {
    settings.endpoint.clone().unwrap_or_else(|| "AWS".to_owned())
}

/// A login page or a bare no: somebody stands before the server.
fn is_gate(cause: &Cause) -> bool {
    match cause {
        Cause::NotS3(what) => ["301", "302", "303", "307", "308"].iter().any(|status| what.starts_with(status)),
        Cause::Denied { refusal, .. } => matches!(refusal.status, 401 | 403),
        _ => false,
    }
}

fn gate(settings: &S3Settings, words: &str, notes: &mut Notes) -> Check {
    let names: Vec<&str> = settings.extra_headers.names().collect();
    match names.is_empty() {
        true => notes.fault(
            Code::HeadersMissing,
            format!("a proxy in front of the server does not let requests through ({words})"),
            "put the headers that it wants into [s3.extra_headers], extra_headers_file or LOFT_EXTRA_HEADER_…",
        ),
        false => notes.fault(
            Code::HeadersRefused,
            format!("a proxy in front does not let requests through, with the headers {} ({words})", names.join(", ")),
            "check names and values of the extra headers; the token may have expired",
        ),
    }
    Check::Headers
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

/// What writing shows.
pub(super) async fn storage(
    patient: &Patient,
    loaded: &Loaded,
    bucket: &dyn Bucket,
    is_plain: bool,
    notes: &mut Notes,
) {
    if !patient.probe {
        for check in [Check::Permissions, Check::Consistency, Check::Conditions, Check::Checksums, Check::Lifecycle] {
            notes.without(check, "nothing was to be written");
        }
        return;
    }
    let found = permissions::probe(bucket, patient.clock.wall(), patient.patience).await;
    judge::permissions(&found, loaded.settings.prune.enabled, notes);
    judge::oddities(&found, notes);
    let scratch = scratch(patient, &found);
    checksums(patient, bucket, &scratch, &found, is_plain, notes).await;
    match limited(patient, bucket.quirks(&scratch)).await {
        Ok(quirks) => judge::quirks(&quirks, notes),
        Err(error) => {
            let why = format!("it could not be tried: {}", chain(&error));
            notes.skip(&[Check::Conditions, Check::Lifecycle], Check::Permissions, &why);
        }
    }
}

fn scratch(patient: &Patient, found: &Permissions) -> Key {
    match found.allows(permissions::Action::Delete) {
        true => Key::probe(Ulid::from_datetime(patient.clock.wall())),
        false => Key::kept_probe(),
    }
}

/// Whether a body that is not what its signed digest says is refused.
async fn checksums(
    patient: &Patient,
    bucket: &dyn Bucket,
    scratch: &Key,
    found: &Permissions,
    is_plain: bool,
    notes: &mut Notes,
) {
    if notes.0.iter().any(|finding| finding.check == Check::Checksums) {
        return;
    }
    if !found.allows(permissions::Action::Put) {
        return notes.skip(&[Check::Checksums], Check::Permissions, "nothing could be written");
    }
    let body = Body { bytes: Bytes::from_static(b"{}"), sha256: Some(Sha256::of(b"something else")) };
    let put = limited(patient, bucket.put(scratch, body, Headers::RECORD)).await;
    if put.is_ok() {
        // What cannot be removed was told as a permission that is missing.
        let _ = limited(patient, bucket.delete(scratch)).await;
    }
    match put {
        Err(error) if error.cause.refusal().is_some() => {
            notes.fine(Check::Checksums, "a body that is not what its digest says is refused");
        }
        Err(error) => notes.without(Check::Checksums, &format!("it could not be tried: {}", chain(&error))),
        Ok(()) if is_plain => {
            let says =
                "the server takes bodies that are not what their digest says, and nothing else guards plain http";
            notes.fault(Code::DigestsUnchecked, says, "use https; `loft check --read-data` finds what was damaged");
        }
        Ok(()) => notes.fine(Check::Checksums, "the server does not compare digests; TLS guards what is sent"),
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
