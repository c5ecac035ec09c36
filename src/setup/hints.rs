//! What to type where loft may not do it itself.

use crate::bucket::permissions::Why;
use crate::bucket::{BucketError, Cause, S3Settings, Switch, Target};

/// Garage's region by default; other servers hardly ever have it.
fn is_garages(settings: &S3Settings) -> bool {
    settings.region.as_deref() == Some("garage")
}

pub fn is_garage(target: &Target) -> bool {
    matches!(target, Target::S3(settings) if is_garages(settings))
}

/// How to make the bucket, after an attempt that ended so. `key` names the access key in a shell.
pub fn create(target: &Target, key: &str, cause: &Cause) -> String {
    match target {
        Target::S3(settings) if !may_name_a_bucket(&settings.bucket) => {
            "correct the name: 3 to 63 of a-z, 0-9, `-` and `.`, with a letter or digit at both ends".to_owned()
        }
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
        Target::Directory(path) if Why::of(cause) == Why::Denied => {
            format!("make it yours, then run this again: sudo install -d -o \"$USER\" {}", path.display())
        }
        Target::Directory(path) => {
            let parent = path.parent().unwrap_or(path).display();
            format!("mkdir -p {parent}, if no mount is missing there")
        }
    }
}

/// By the rules of S3. Some servers have buckets of other names all the same; this is for those that refused one.
fn may_name_a_bucket(name: &str) -> bool {
    let is_plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    (3..=63).contains(&name.len())
        && name.chars().all(|c| is_plain(c) || matches!(c, '-' | '.'))
        && name.starts_with(is_plain)
        && name.ends_with(is_plain)
}

/// How to take away what was just made by mistake.
pub fn remove(target: &Target) -> String {
    match target {
        Target::S3(settings) => {
            let endpoint = settings.endpoint.as_ref().map(|url| format!(" --endpoint-url {url}")).unwrap_or_default();
            format!("aws s3 rb --force s3://{}{endpoint}", settings.bucket)
        }
        // In quotes: half of a path with a space may be somebody's.
        Target::Directory(path) => format!("rm -r '{}'", path.display().to_string().replace('\'', "'\\''")),
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

/// How to let everybody read, where nobody has asked for it yet.
pub fn public(settings: &S3Settings) -> String {
    match is_garages(settings) {
        true => {
            format!("loft init --public http://{}.ROOT_DOMAIN:3902, the address of Garage's [s3_web]", settings.bucket)
        }
        false => "docs/providers.md tells how; then loft init --public URL".to_owned(),
    }
}

/// What to do where it was asked for and did not work.
pub fn publish(target: &Target, tried: Option<&Result<Switch, BucketError>>) -> String {
    match (target, tried) {
        (Target::S3(settings), Some(Ok(Switch::On | Switch::WasOn))) => format!(
            "the bucket's website is on, so the address is another: {} followed by root_domain of Garage's [s3_web], or a name \
             given by garage bucket alias",
            settings.bucket
        ),
        (Target::S3(settings), _) if is_garages(settings) => {
            format!("garage bucket website --allow {}", settings.bucket)
        }
        (Target::S3(_), _) => "docs/providers.md tells how, for each kind of store".to_owned(),
        (Target::Directory(_), _) => "let a web server hand out the directory at this address".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io;
    use std::path::PathBuf;

    #[test]
    fn a_name_that_no_bucket_may_have_is_to_be_corrected() {
        for name in ["nix-cache", "n1x.cache", "abc", &"a".repeat(63)] {
            assert!(may_name_a_bucket(name), "{name}");
        }
        for name in ["nix_cache", "Nix-Cache", "-nix", "nix.", "ab", "", "nix cache", &"a".repeat(64)] {
            assert!(!may_name_a_bucket(name), "{name}");
        }
    }

    #[test]
    fn a_directory_that_may_not_be_made_is_no_folder_that_is_missing() {
        let path = PathBuf::from("/srv/cache");
        let target = Target::Directory(path.clone());
        let denied = Cause::Io(io::ErrorKind::PermissionDenied.into());
        assert!(create(&target, "KEY", &denied).ends_with("sudo install -d -o \"$USER\" /srv/cache"));
        assert!(create(&target, "KEY", &Cause::NoDirectory(path)).starts_with("mkdir -p /srv,"));
    }
}
