//! The configuration: found, understood, free of contradictions; and the signing keys that it names.

use super::Patient;
use super::finding::{Check, Code, Notes};
use crate::bucket::Target;
use crate::config::{ConfigError, Loaded, Origin, Problem, load};
use crate::nix::PublicKey;
use std::collections::BTreeSet;

/// Storage classes from which nobody can read at once.
const ARCHIVES: [&str; 2] = ["GLACIER", "DEEP_ARCHIVE"];

/// Without a configuration there is nothing that could be looked at. Also the public halves of the signing keys.
pub fn look(patient: &Patient, notes: &mut Notes) -> Option<(Loaded, Vec<PublicKey>)> {
    let loaded = match load(&patient.sources) {
        Ok(loaded) => loaded,
        Err(ConfigError { problems, warnings }) => {
            problems.iter().for_each(|problem| tell(notes, Code::ConfigUnusable, problem));
            warnings.iter().for_each(|problem| tell(notes, Code::ConfigWarning, problem));
            return None;
        }
    };
    loaded.warnings.iter().for_each(|problem| tell(notes, Code::ConfigWarning, problem));
    let before = notes.0.len();
    match loaded.bucket() {
        Ok(target) => contradictions(&loaded, target, notes),
        Err(error) => error.problems.iter().for_each(|problem| tell(notes, Code::NoBucketNamed, problem)),
    }
    let keys = keys(&loaded, notes);
    for skipped in &loaded.settings.push.skip_signed_by {
        if keys.iter().any(|key| key.name() == &skipped.name) {
            let says = format!("skip_signed_by_keys has {}, the name of the own signing key", skipped.name);
            notes.fault(Code::SkipsOwnKey, says, "remove it there: what this key has signed would never be pushed");
        }
    }
    let is_blamed = notes.0.iter().skip(before).any(|finding| finding.check == Check::Configuration);
    if !is_blamed {
        notes.fine(Check::Configuration, found(&loaded));
    }
    Some((loaded, keys))
}

/// Which places spoke, and where to.
fn found(loaded: &Loaded) -> String {
    let mut places = BTreeSet::new();
    for entry in &loaded.effective {
        match &entry.origin {
            Origin::Default => continue,
            Origin::File(place) => places.insert(place.file.display().to_string()),
            Origin::Environment(variable) => places.insert(variable.clone()),
            Origin::Flag(flag) => places.insert((*flag).to_owned()),
        };
    }
    let places: Vec<String> = places.into_iter().collect();
    let target = loaded.settings.bucket.as_ref().map(ToString::to_string).unwrap_or_default();
    match places.is_empty() {
        true => format!("{target}, all by default"),
        false => format!("{target}, from {}", places.join(", ")),
    }
}

fn contradictions(loaded: &Loaded, target: &Target, notes: &mut Notes) {
    let Target::S3(settings) = target else { return };
    if let Some(class) = settings.storage_class.as_deref().filter(|class| ARCHIVES.contains(class)) {
        let says = format!("storage_class is {class}, from which nobody can read at once");
        notes.fault(
            Code::ArchivingClass,
            says,
            "take a class such as STANDARD_IA, or GLACIER_IR where it must be Glacier",
        );
    }
    let is_plain = settings.endpoint.as_deref().is_some_and(|endpoint| endpoint.starts_with("http://"));
    if let Some(file) = settings.ca_file.as_ref().filter(|_| is_plain) {
        let says = format!("ca_file is {}, but the endpoint is plain http", file.display());
        notes.fault(Code::CaFileUnused, says, "write https:// in endpoint, or remove ca_file");
    }
    if loaded.settings.prune.enabled && loaded.settings.prune.retention_days == 0 {
        let says = "prune_retention_days is 0: what is older than a day and not pinned goes with each prune";
        notes.fault(Code::ConfigWarning, says, "set the days for which a path shall stay after its last push");
    }
}

fn keys(loaded: &Loaded, notes: &mut Notes) -> Vec<PublicKey> {
    let signing = match loaded.signing_keys() {
        Ok(signing) => signing,
        Err(error) => {
            error.problems.iter().for_each(|problem| tell(notes, Code::KeyUnusable, problem));
            return Vec::new();
        }
    };
    signing.warnings.iter().for_each(|problem| tell(notes, Code::KeyExposed, problem));
    let keys: Vec<PublicKey> = signing.keys.iter().map(crate::nix::SecretKey::public).collect();
    if keys.is_empty() {
        let way_out = "make one with `loft key generate NAME-1 --out FILE`, and name FILE as signing_key_path";
        notes.fault(Code::Unsigned, "no signing key is set, so that what is pushed is not signed", way_out);
    } else if signing.warnings.is_empty() {
        notes.fine(Check::SigningKey, format!("public key {}", super::key_lines(&keys)));
    }
    keys
}

fn tell(notes: &mut Notes, code: Code, problem: &Problem) {
    let origin = match &problem.origin {
        Origin::Default => String::new(),
        origin => format!("{origin}: "),
    };
    let way_out = problem.help.clone().unwrap_or_else(|| "docs/configuration.md tells about each key".to_owned());
    notes.fault(code, format!("{origin}{}", problem.message), way_out);
}
