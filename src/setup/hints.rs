//! What to type where loft may not do it itself.

use crate::bucket::{S3Settings, Target};

/// Garage's region by default; other servers hardly ever have it.
fn is_garages(settings: &S3Settings) -> bool {
    settings.region.as_deref() == Some("garage")
}

pub fn is_garage(target: &Target) -> bool {
    matches!(target, Target::S3(settings) if is_garages(settings))
}

/// How to make the bucket. `key` names the access key in a shell.
pub fn create(target: &Target, key: &str) -> String {
    match target {
        Target::S3(settings) if is_garages(settings) => format!(
            "make it with Garage's own program, then run this again:\n    \
             garage bucket create {bucket}\n    \
             garage bucket allow --read --write --owner {bucket} --key {key}",
            bucket = settings.bucket
        ),
        Target::S3(settings) => format!(
            "make a bucket of the name {} where you manage the store (docs/providers.md tells what it needs), then run \
             this again",
            settings.bucket
        ),
        Target::Directory(path) => {
            let parent = path.parent().unwrap_or(path).display();
            format!("mkdir -p {parent}, if no mount is missing there")
        }
    }
}

/// How to be let in.
pub fn allow(target: &Target, key: &str) -> String {
    match target {
        Target::S3(settings) if is_garages(settings) => {
            format!("garage bucket allow --read --write --owner {} --key {key}", settings.bucket)
        }
        Target::S3(_) => "grant the rights that docs/providers.md lists for pushing".to_owned(),
        Target::Directory(path) => format!("this user must be able to read and write {}", path.display()),
    }
}

/// How to let everybody read.
pub fn publish(settings: &S3Settings) -> String {
    match is_garages(settings) {
        true => format!("garage bucket website --allow {}", settings.bucket),
        false => "docs/providers.md tells how, for each kind of store".to_owned(),
    }
}
