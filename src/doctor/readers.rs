//! Reading: whether this machine's Nix uses the cache and believes it, and who else can read it.

use super::cache::{Cache, OFFLINE};
use super::endpoint::Endpoint;
use super::finding::{Check, Code, Notes};
use super::nix_conf::{Settings, netrc_knows};
use super::{Patient, is_remote, key_lines};
use crate::bucket::{Fetched, Key, Target, fetch};
use crate::config::Loaded;
use crate::nix::{NarInfo, PublicKey};
use crate::record::BucketRecord;
use crate::setup::target_of;
use std::collections::BTreeSet;
use std::path::Path;

/// `nix-cache-info` and records are short.
const SHORT: usize = 64 * 1024;

/// More caches than this are not asked.
const MOST: usize = 8;

pub async fn look(patient: &Patient, loaded: &Loaded, keys: &[PublicKey], cache: &Cache, notes: &mut Notes) {
    upstreams(patient, loaded, cache, notes).await;
    public(patient, loaded, cache, notes).await;
    let conf = Settings::read(&patient.sources.environment);
    let rest = [Check::Substituter, Check::Trust, Check::Netrc];
    let places = conf.places();
    if places.is_empty() && conf.problems.is_empty() {
        let why = "there is no nix.conf on this machine";
        return [Check::NixConf].into_iter().chain(rest).for_each(|check| notes.without(check, why));
    }
    if !conf.problems.is_empty() {
        let way_out = "mend the file: Nix may ignore it, or refuse to run";
        notes.fault(Code::NixConfUnreadable, conf.problems.join("; "), way_out);
    } else {
        notes.fine(Check::NixConf, places.join(", "));
    }
    let Some(target) = &loaded.settings.bucket else {
        return notes.skip(&rest, Check::Configuration, "no bucket is named");
    };
    let substituters = conf.substituters();
    let asked = netrc(patient, &conf, &substituters, notes).await;
    let public = loaded.settings.public_url.as_deref();
    let listed = substituters.iter().find(|url| is_this(url, target, public, cache, &asked));
    match listed {
        Some(url) => {
            notes.fine(Check::Substituter, format!("nix.conf has {url}"));
            trust(&conf, keys, cache, notes);
        }
        None => {
            let says = "this machine's Nix does not read from this cache, as far as its nix.conf shows";
            notes.fault(Code::NotSubstituter, says, "if it is meant to, `loft use` prints the lines to add");
            notes.skip(&[Check::Trust], Check::Substituter, "this machine does not read from this cache");
        }
    }
}

async fn upstreams(patient: &Patient, loaded: &Loaded, cache: &Cache, notes: &mut Notes) {
    let urls: BTreeSet<&String> = loaded.settings.push.upstreams.iter().chain(&cache.upstreams).collect();
    let urls: Vec<&String> = urls.into_iter().filter(|url| is_http(url)).take(MOST).collect();
    if urls.is_empty() {
        return notes.without(Check::Upstreams, "none is declared by a URL");
    }
    if patient.offline {
        return notes.without(Check::Upstreams, OFFLINE);
    }
    let asked = futures_util::future::join_all(urls.iter().map(|url| get(patient, None, url, "nix-cache-info"))).await;
    let mut fine = Vec::new();
    for (url, answer) in urls.into_iter().zip(asked) {
        match answer {
            Ok(Fetched { status: 200, .. }) => fine.push(url.as_str()),
            Ok(Fetched { status, .. }) => fault(notes, url, &format!("it answers {status}"), MISTAKEN),
            Err(why) => fault(notes, url, &why, UNREACHED),
        }
    }
    if !fine.is_empty() {
        notes.fine(Check::Upstreams, fine.join(", "));
    }
    const MISTAKEN: &str = "correct upstreams in [loft]: readers get from there what loft leaves out";
    const UNREACHED: &str =
        "check this machine's network, DNS and proxies; if others are reached, the address in upstreams in [loft]";
    fn fault(notes: &mut Notes, url: &str, why: &str, way_out: &str) {
        let says = format!("the upstream cache {url} cannot be read: {why}");
        notes.fault(Code::UpstreamUnreachable, says, way_out);
    }
}

/// Anybody may read, or nobody without credentials: either may be meant. An address to which readers are sent should be
/// this cache's.
async fn public(patient: &Patient, loaded: &Loaded, cache: &Cache, notes: &mut Notes) {
    if let Some(url) = &loaded.settings.public_url {
        return match patient.offline {
            true => notes.without(Check::PublicReading, OFFLINE),
            false => public_url(patient, loaded, url, cache, notes).await,
        };
    }
    let (Some(Target::S3(settings)), Some(url)) = (&loaded.settings.bucket, &cache.url) else {
        let why =
            if is_remote(loaded) { "nobody was asked for the cache" } else { "the cache is no bucket of a server" };
        return notes.without(Check::PublicReading, why);
    };
    if !cache.has_info {
        return notes.skip(&[Check::PublicReading], Check::CacheInfo, "no nix-cache-info was read");
    }
    match fetch(url, settings.ca_file.as_deref(), patient.patience, SHORT).await {
        Ok(Fetched { status: 200, .. }) => {
            notes.fine(
                Check::PublicReading,
                format!("anybody may read at the endpoint: {}", url.trim_end_matches("/nix-cache-info")),
            );
        }
        Ok(Fetched { status, .. }) => {
            let says = format!(
                "not at the endpoint ({status}): readers need s3:// with credentials, or a web address before it"
            );
            notes.fine(Check::PublicReading, says);
        }
        Err(cause) => {
            notes.without(Check::PublicReading, &format!("it could not be tried: {}", crate::remedy::chain(&cause)))
        }
    }
}

async fn public_url(patient: &Patient, loaded: &Loaded, url: &str, cache: &Cache, notes: &mut Notes) {
    let ca_file = match &loaded.settings.bucket {
        Some(Target::S3(settings)) => settings.ca_file.as_deref(),
        _ => None,
    };
    let (info, record) = (Key::cache_info(), Key::bucket_record());
    let (info, record) =
        tokio::join!(get(patient, ca_file, url, info.as_str()), get(patient, ca_file, url, record.as_str()));
    // The record may be kept from the public.
    let generation = |bytes: &[u8]| BucketRecord::parse("bucket.json", bytes).ok().map(|record| record.generation);
    let own = cache.record.as_deref().and_then(generation);
    let theirs = record.ok().filter(|answer| answer.status == 200).and_then(|answer| generation(&answer.body));
    let why = match info {
        _ if own.is_some() && theirs.is_some() && own != theirs => "another cache is there".to_owned(),
        Ok(Fetched { status: 200, .. }) => {
            return notes.fine(Check::PublicReading, format!("anybody may read at {url}"));
        }
        Ok(Fetched { status: 401, .. }) => {
            let says = format!("with a name and a password (401), at {url}");
            return notes.fine(Check::PublicReading, says);
        }
        Ok(Fetched { status, .. }) => format!("nix-cache-info is answered by {status}"),
        Err(why) => why,
    };
    let says = format!("public_url is {url}, and this cache cannot be read there: {why}");
    let way_out = "correct public_url in [loft], or let readers in there: docs/providers.md tells how";
    notes.fault(Code::PublicUrlUnreadable, says, way_out);
}

/// What a substituter answers.
type Asked = Vec<(String, Vec<u8>)>;

/// Asks the substituters for this cache's record, which names it, and finds out who wants a password on the way.
async fn netrc(patient: &Patient, conf: &Settings, substituters: &[String], notes: &mut Notes) -> Asked {
    let urls: Vec<&String> = substituters.iter().filter(|url| is_http(url)).take(MOST).collect();
    if patient.offline || urls.is_empty() {
        notes.without(Check::Netrc, if patient.offline { OFFLINE } else { "no substituter is read by http" });
        return Vec::new();
    }
    let key = Key::bucket_record();
    let asking = urls.iter().map(|url| get(patient, None, url, key.as_str()));
    let answers = futures_util::future::join_all(asking).await;
    let file = conf.netrc_file();
    let known = std::fs::read_to_string(&file);
    let mut asked = Vec::new();
    let mut blamed = false;
    for (url, answer) in urls.into_iter().zip(answers) {
        match answer {
            Ok(Fetched { status: 200, body }) => asked.push((url.clone(), body)),
            Ok(Fetched { status: 401, .. }) => {
                let host = Endpoint::of(url).map(|endpoint| endpoint.host).unwrap_or_default();
                let why = match &known {
                    Ok(netrc) if netrc_knows(netrc, &host) => continue,
                    Ok(_) => format!("{} has nothing for {host}", file.display()),
                    Err(error) => format!("{} cannot be read: {error}", file.display()),
                };
                let way_out = format!("add the line: machine {host} login USER password PASSWORD");
                notes.fault(Code::NetrcMissing, format!("{url} wants a name and a password, and {why}"), way_out);
                blamed = true;
            }
            _ => {}
        }
    }
    if !blamed {
        notes.fine(Check::Netrc, "no substituter wants a password that is not there");
    }
    asked
}

fn is_http(url: &str) -> bool {
    url.starts_with("http://") || url.starts_with("https://")
}

async fn get(patient: &Patient, ca_file: Option<&Path>, url: &str, key: &str) -> Result<Fetched, String> {
    let url = format!("{}/{key}", url.split('?').next().unwrap_or_default().trim_end_matches('/'));
    fetch(&url, ca_file, patient.patience, SHORT).await.map_err(|cause| crate::remedy::chain(&cause))
}

/// Whether a substituter of nix.conf is the cache that is pushed to.
fn is_this(url: &str, target: &Target, public: Option<&str>, cache: &Cache, asked: &Asked) -> bool {
    if let Some(record) = &cache.record
        && asked.iter().any(|(answering, body)| answering == url && body == record)
    {
        return true;
    }
    if is_http(url) {
        let own = cache.url.as_deref().map(|own| own.trim_end_matches("/nix-cache-info"));
        let url = url.split('?').next().unwrap_or_default().trim_end_matches('/');
        return own == Some(url) || public == Some(url);
    }
    target_of(url).is_some_and(|theirs| theirs.is_same_place(target))
}

fn trust(conf: &Settings, keys: &[PublicKey], cache: &Cache, notes: &mut Notes) {
    if !conf.requires_signatures() {
        let way_out = "remove require-sigs = false: with it, Nix takes anything that the cache hands out";
        return notes.fault(Code::SignaturesNotRequired, "nix.conf says require-sigs = false", way_out);
    }
    let trusted = conf.trusted_keys();
    // Where this machine does not sign, what others have signed shows whether it is believed.
    let has_signed = |key: &PublicKey| {
        let by_it = |info: &NarInfo| {
            let print = info.fingerprint(&cache.dir);
            info.signatures.iter().any(|signature| key.verifies(&print, signature))
        };
        cache.samples.iter().any(by_it)
    };
    if let Some(own) = &cache.ambiguous {
        // Which of the two it is to be is settled there; until then a word on nix.conf could only contradict that.
        let trusts = match trusted.iter().find(|key| key.name() == own.name()) {
            Some(key) if key == own => "the one of this machine",
            Some(key) if has_signed(key) => "the one that has signed here",
            Some(_) => "a third one",
            None => "neither",
        };
        let why = format!("two keys have the name {}, of which nix.conf trusts {trusts}", own.name());
        return notes.skip(&[Check::Trust], Check::Signatures, &why);
    }
    let other = keys.iter().find_map(|key| {
        let same_name = trusted.iter().find(|trusted| trusted.name() == key.name())?;
        (same_name != key).then_some((key, same_name))
    });
    match other {
        Some((key, other)) => notes.fault(
            Code::TrustedKeyDiffers,
            format!("nix.conf trusts {other}, and this machine signs here with another key of that name, {key}"),
            format!("write {key} in the place of {other} in trusted-public-keys"),
        ),
        None if trusted.iter().any(|key| keys.contains(key) || has_signed(key)) => {
            notes.fine(Check::Trust, "nix.conf trusts a key that signs this cache");
        }
        None if keys.is_empty() && cache.samples.is_empty() => {
            notes.without(Check::Trust, "neither a key nor a signed path is at hand to compare with");
        }
        None => {
            let line = match keys.is_empty() {
                true => "the public key of whoever pushes".to_owned(),
                false => key_lines(keys),
            };
            let says =
                "nix.conf reads from this cache, but trusts none of the keys that sign it: Nix ignores its paths";
            notes.fault(Code::KeyUntrusted, says, format!("add to trusted-public-keys: {line}"));
        }
    }
}
