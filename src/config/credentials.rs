//! Secrets that systemd hands to a service (`LoadCredential=` in its unit), in the directory that
//! `CREDENTIALS_DIRECTORY` names.
//!
//! Each stands in the place of the setting that names such a file. So one `loft.toml` serves the service, which can
//! read nothing but its credentials, and root, who can read the files themselves. Like the variables of
//! credentials they were given to this very process, and go with whatever server it is told to use.

use super::document::{Located, Name, Value};
use super::origin::Origin;
use super::problem::Problem;
use super::target::Layers;
use std::collections::BTreeMap;
use std::io;
use std::path::Path;

pub const DIRECTORY_VARIABLE: &str = "CREDENTIALS_DIRECTORY";

/// Name of the credential, the setting that it stands for, and the one that would contradict it.
const SINGLE: [(&str, Name, Option<Name>); 4] = [
    ("loft.access-key", ("s3", "access_key_file"), Some(("s3", "access_key"))),
    ("loft.secret-key", ("s3", "secret_key_file"), Some(("s3", "secret_key"))),
    ("loft.extra-headers", ("s3", "extra_headers_file"), None),
    (SIGNING_KEY, ("loft", "signing_key_path"), None),
];

/// Followed by a dot and anything: one of `signing_key_paths`, in the order of names.
const SIGNING_KEY: &str = "loft.signing-key";

/// Followed by a header's name: the value of that header alone.
const HEADER: &str = "loft.extra-header.";

/// Lays the credentials that there are over the values.
pub fn lay(layers: &mut Layers, environment: &BTreeMap<String, String>, problems: &mut Vec<Problem>) {
    let Some(directory) = environment.get(DIRECTORY_VARIABLE).filter(|path| !path.is_empty()) else { return };
    let directory = Path::new(directory);
    let located = |value| Located::new(value, Origin::Environment(DIRECTORY_VARIABLE.to_owned()));
    let text = |name: &str| located(Value::Text(directory.join(name).display().to_string()));
    for (name, setting, contradiction) in SINGLE {
        if is_there(&directory.join(name)) {
            layers.values.insert(setting, text(name));
            contradiction.map(|setting| layers.values.remove(&setting));
        }
    }
    let names = match names(directory) {
        Ok(names) => names,
        // One that is not seen would be missed in silence: a push without its signing key, say.
        Err(error) => {
            let origin = Origin::Environment(DIRECTORY_VARIABLE.to_owned());
            let message = format!("Could not look which credentials are in {}: {error}", directory.display());
            problems.push(Problem::new(origin, message));
            return;
        }
    };
    for credential in names.iter().filter(|name| name.starts_with(HEADER)) {
        let header = &credential[HEADER.len()..];
        // Names of headers do not care for case.
        layers.header_files.retain(|(name, _)| !name.eq_ignore_ascii_case(header));
        layers.header_files.push((header.to_owned(), text(credential)));
    }
    let is_more = |name: &&String| name.strip_prefix(SIGNING_KEY).is_some_and(|rest| rest.starts_with('.'));
    let more: Vec<&String> = names.iter().filter(is_more).collect();
    if !more.is_empty() {
        let list = more.into_iter().map(|name| text(name)).collect();
        layers.values.insert(("loft", "signing_key_paths"), located(Value::List(list)));
    }
}

/// Whether a file is one of the service's own credentials: systemd sees to who can read it, by means that its mode
/// does not show.
pub fn is_origin(origin: &Origin) -> bool {
    matches!(origin, Origin::Environment(variable) if variable == DIRECTORY_VARIABLE)
}

/// One that cannot be looked at is there: whoever reads it tells why it cannot be used.
fn is_there(file: &Path) -> bool {
    !matches!(std::fs::symlink_metadata(file), Err(error) if error.kind() == io::ErrorKind::NotFound)
}

/// Names of credentials, in order. A directory that does not exist holds none.
fn names(directory: &Path) -> io::Result<Vec<String>> {
    let entries = match std::fs::read_dir(directory) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries?,
    };
    let mut names = Vec::new();
    for entry in entries {
        // A name that is no text is none of loft's.
        names.extend(entry?.file_name().into_string());
    }
    names.sort();
    Ok(names)
}
