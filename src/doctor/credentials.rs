//! Whose requests these would be.

use super::Patient;
use super::finding::{Check, Code, Notes};
use crate::bucket::{CredentialsError, S3, S3Settings, Whose};
use crate::config::{Loaded, Origin};
use std::time::Duration;

/// Temporary credentials with less than this left may not outlive a long push.
const SOON: Duration = Duration::from_secs(15 * 60);

/// Those that are there.
pub struct Held {
    pub says: String,
    pub access_key: String,
}

/// Whether there are any. A fault of theirs that only the server knows comes later.
pub async fn look(patient: &Patient, loaded: &Loaded, settings: &S3Settings, notes: &mut Notes) -> Option<Held> {
    let asking = S3::whose(settings, &patient.sources.environment);
    match tokio::time::timeout(patient.patience * 2, asking).await {
        Ok(Ok(whose)) => judge(patient, loaded, &whose, notes),
        Ok(Err(error)) => {
            notes.fault(Code::CredentialsMissing, told(&error), way_out(&error));
            None
        }
        Err(_) => {
            let says = "the sources of credentials did not answer in time (an instance role, a helper program?)";
            notes.fault(Code::CredentialsMissing, says, NAME_THEM);
            None
        }
    }
}

const NAME_THEM: &str = "set access_key_file and secret_key_file in [s3], or AWS_ACCESS_KEY_ID and \
                         AWS_SECRET_ACCESS_KEY, or a profile";

fn judge(patient: &Patient, loaded: &Loaded, whose: &Whose, notes: &mut Notes) -> Option<Held> {
    let id: String = whose.access_key.chars().take(4).chain(['…']).collect();
    let mut says = format!("{id} from {}{}", whose.source, places(loaded, whose.source));
    let held = |says: String| Some(Held { says, access_key: whose.access_key.clone() });
    let Some(expires) = whose.expires else {
        if whose.is_temporary {
            says.push_str(", temporary");
        }
        return held(says);
    };
    match expires.duration_since(patient.clock.wall()) {
        Err(_) => {
            notes.fault(Code::CredentialsExpired, format!("{says}, have expired"), "get new ones where they came from");
            None
        }
        Ok(left) if left < SOON => {
            let minutes = left.as_secs() / 60;
            let way_out = "loft renews what it gets from a role or helper; what was copied by hand must be renewed so";
            notes.fault(Code::CredentialsExpiring, format!("{says}, expire in {minutes} min"), way_out);
            held(says)
        }
        Ok(_) => held(says),
    }
}

/// Files and variables that they stand in.
fn places(loaded: &Loaded, source: &str) -> String {
    if source != "the settings" {
        return String::new();
    }
    let mut places = Vec::new();
    for entry in &loaded.effective {
        let is_key = matches!(entry.key.as_str(), "s3.access_key" | "s3.secret_key");
        let is_file = matches!(entry.key.as_str(), "s3.access_key_file" | "s3.secret_key_file");
        match (&entry.origin, entry.value.as_str()) {
            (Origin::Default, _) => {}
            (_, Some(file)) if is_file => places.push(file.to_owned()),
            (origin, _) if is_key => places.push(origin.to_string()),
            _ => {}
        }
    }
    if places.is_empty() { String::new() } else { format!(" ({})", places.join(", ")) }
}

fn told(error: &CredentialsError) -> String {
    let tried: Vec<String> = error.tried.iter().map(|(source, why)| format!("{source}: {why}")).collect();
    format!("there are no usable credentials; tried {}", tried.join("; "))
}

/// A source that is meant to be used ends the search.
fn way_out(error: &CredentialsError) -> String {
    match error.tried.last() {
        Some((source, _)) if *source != "instance role" => {
            format!("mend the last of these ({source}), or set another that is asked before it")
        }
        _ => NAME_THEM.to_owned(),
    }
}

/// That they are what they should be is known once the server has said so.
pub fn are_fine(held: &Option<Held>, notes: &mut Notes) {
    let is_told = notes.0.iter().any(|finding| finding.check == Check::Credentials);
    if let Some(held) = held
        && !is_told
    {
        notes.fine(Check::Credentials, held.says.clone());
    }
}
