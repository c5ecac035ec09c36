//! Which bucket, and how to reach it: `[s3]`, a URL over it, and the environment beneath it.
//!
//! A URL (`--to`, else `LOFT_CACHE`) wins over `[s3]` key by key, so that it may name just another bucket of
//! the same server. Where it names another server, nothing that the file says of its own server applies:
//! above all not its credentials and extra headers, which would be handed to a stranger.
//! `AWS_*` variables are not loft's own and fill gaps only; credentials from them are found by `bucket`.

use super::document::{Located, Name, Value};
use super::header_file::HeaderFile;
use super::origin::Origin;
use super::problem::Problem;
use super::reader::{Given, Reader};
use crate::bucket::{AddressingStyle, CacheUrl, DEFAULT_REGION, ExtraHeaders, S3Settings, Secret, Target, UrlError};
use serde_json::json;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Variables that name headers begin so.
pub const HEADER_VARIABLE: &str = "LOFT_EXTRA_HEADER_";

/// The setting that holds a URL, for those who would rather write one than `[s3]`, and for directories.
pub const CACHE: Name = ("loft", "cache");

/// `[s3]` as merged so far.
pub struct Layers {
    pub values: BTreeMap<Name, Located>,
    /// `[s3.extra_headers]`.
    pub headers: Vec<(String, Located)>,
    /// `[s3.extra_header_files]`.
    pub header_files: Vec<(String, Located)>,
}

/// The URL that stands in the file. What is no text is refused when it is read.
pub fn url_in_file(values: &BTreeMap<Name, Located>) -> Option<(String, Origin)> {
    match values.get(&CACHE) {
        Some(Located { value: Value::Text(url), origin, .. }) if !url.is_empty() => Some((url.clone(), origin.clone())),
        _ => None,
    }
}

/// Records the file's URL, which was laid before.
pub fn read_cache(reader: &mut Reader) {
    // One that cannot be parsed was refused then, and may hold a password.
    reader.parsed(
        CACHE,
        "a URL in quotes: \"s3://BUCKET?endpoint=…\" or \"file:///DIRECTORY\"",
        |value| match value {
            Value::Text(url) if !url.is_empty() => Some(url.clone()),
            _ => None,
        },
        |url| if url.contains('@') { json!("(not usable)") } else { json!(url) },
    );
    reader.record_unset(CACHE);
}

/// Lays the URL over the file's values. A directory needs none of `[s3]` and is returned; the parts of a bucket's URL
/// are among the values afterwards.
pub fn lay_url(
    layers: &mut Layers,
    url: &str,
    origin: &Origin,
    problems: &mut Vec<Problem>,
    warnings: &mut Vec<Problem>,
) -> Option<PathBuf> {
    let url = match CacheUrl::parse(url) {
        Ok(url) => url,
        Err(error) => {
            // Before an `@` may stand a password, wherever the parser stumbled.
            let told = if url.contains('@') { UrlError::Secret.to_string() } else { error.to_string() };
            problems.push(Problem::new(origin.clone(), told).help(
                "for example s3://nix-cache?endpoint=http://localhost:3900&region=garage (in quotes, for the shell), \
                 or file:///srv/cache",
            ));
            return None;
        }
    };
    lay_writing(&mut layers.values, &url, origin);
    match url.target {
        Target::Directory(directory) => Some(directory),
        Target::S3(s3) => {
            lay_s3(layers, s3, origin, warnings);
            None
        }
    }
}

/// How to write, as Nix's parameters say it. `parallel-compression` has no counterpart: loft decides that by itself.
fn lay_writing(values: &mut BTreeMap<Name, Located>, url: &CacheUrl, origin: &Origin) {
    if url.compression.is_some() {
        // The level was for the kind that the file names.
        values.remove(&("loft", "compression_level"));
    }
    let mut lay = |key, value: Option<Value>| {
        if let Some(value) = value {
            values.insert(("loft", key), Located::new(value, origin.clone()));
        }
    };
    lay("compression", url.compression.map(|compression| Value::Text(compression.to_string())));
    lay("compression_level", url.compression_level.map(|level| Value::Integer(level.into())));
    lay("nar_listings", url.write_nar_listing.map(Value::Boolean));
    lay("debug_info", url.index_debug_info.map(Value::Boolean));
    lay_signing_keys(values, &url.secret_keys, origin);
}

/// Keys that were named for this run replace all configured ones.
pub fn lay_signing_keys(values: &mut BTreeMap<Name, Located>, files: &[PathBuf], origin: &Origin) {
    if files.is_empty() {
        return;
    }
    values.remove(&("loft", "signing_key_path"));
    values.remove(&("loft", "signing_key_name"));
    let text = |file: &PathBuf| Located::new(Value::Text(file.display().to_string()), origin.clone());
    let list = Value::List(files.iter().map(text).collect());
    values.insert(("loft", "signing_key_paths"), Located::new(list, origin.clone()));
}

fn lay_s3(layers: &mut Layers, s3: S3Settings, origin: &Origin, warnings: &mut Vec<Problem>) {
    if let Some(endpoint) = &s3.endpoint {
        let file = layers.values.get(&("s3", "endpoint")).map(|located| &located.value);
        let same = matches!(file, Some(Value::Text(text)) if same_server(text, endpoint));
        if !same {
            leave_server(layers, origin, warnings);
        }
    }
    layers.values.remove(&("s3", "prefix"));
    let mut lay = |key, value: Option<String>| {
        if let Some(value) = value {
            layers.values.insert(("s3", key), Located::new(Value::Text(value), origin.clone()));
        }
    };
    let style = s3.addressing_style;
    lay("bucket", Some(s3.bucket));
    lay("prefix", Some(s3.prefix).filter(|prefix| !prefix.is_empty()));
    lay("region", s3.region);
    lay("endpoint", s3.endpoint);
    lay("addressing_style", (style != AddressingStyle::Auto).then(|| style.as_str().to_owned()));
    lay("profile", s3.profile);
    lay("storage_class", s3.storage_class);
}

/// Drops what belongs to the file's server.
fn leave_server(layers: &mut Layers, origin: &Origin, warnings: &mut Vec<Problem>) {
    let secrets = ["access_key", "secret_key", "access_key_file", "secret_key_file", "profile", "extra_headers_file"];
    let mut left: Vec<&str> = secrets.into_iter().filter(|key| layers.values.contains_key(&("s3", *key))).collect();
    for (table, name) in [(&mut layers.header_files, "extra_header_files"), (&mut layers.headers, "extra_headers")] {
        if !table.is_empty() {
            left.push(name);
        }
        table.clear();
    }
    layers.values.retain(|(section, _), _| *section != "s3");
    if !left.is_empty() {
        warnings.push(
            Problem::new(
                origin.clone(),
                format!("The URL names another server than [s3], so that {} of [s3] are not used", left.join(", ")),
            )
            .help("give credentials for it in AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"),
        );
    }
}

fn same_server(a: &str, b: &str) -> bool {
    let server = |text: &str| {
        let text = text.trim().trim_end_matches('/').to_ascii_lowercase();
        let full = if text.contains("://") { text } else { format!("https://{text}") };
        match full.split_once("://") {
            Some(("http", host)) => format!("http://{}", host.strip_suffix(":80").unwrap_or(host)),
            Some(("https", host)) => format!("https://{}", host.strip_suffix(":443").unwrap_or(host)),
            _ => full,
        }
    };
    server(a) == server(b)
}

/// Fills what neither the file nor a URL says from the general variables of AWS tools.
pub fn lay_aws_variables(values: &mut BTreeMap<Name, Located>, environment: &BTreeMap<String, String>) {
    let mut fill = |key: &'static str, variables: &[&str]| {
        let set = variables.iter().find_map(|name| environment.get_key_value(*name).filter(|(_, v)| !v.is_empty()));
        if let Some((name, value)) = set {
            let located = Located::new(Value::Text(value.clone()), Origin::Environment(name.clone()));
            values.entry(("s3", key)).or_insert(located);
        }
    };
    fill("region", &["AWS_REGION", "AWS_DEFAULT_REGION"]);
    fill("endpoint", &["AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL"]);
}

/// Reads `[s3]`. `None` where no bucket is named, or where a problem was found.
pub fn read(
    reader: &mut Reader,
    headers: Vec<(String, Located)>,
    header_files: Vec<(String, Located)>,
    environment: &BTreeMap<String, String>,
) -> Option<S3Settings> {
    let bucket = reader.text(("s3", "bucket"), "the bucket's name alone, such as \"nix-cache\"", is_bucket_name);
    let prefix = reader.text(("s3", "prefix"), "keys' beginning, such as \"nix/x86\"", is_prefix);
    let region = reader.text(("s3", "region"), "a region's name, such as \"us-east-1\" or \"garage\"", is_word);
    if region.is_none() {
        reader.effective.pop();
        reader.record(("s3", "region"), json!(DEFAULT_REGION), Origin::Default);
    }
    let endpoint = read_endpoint(reader);
    let style = reader.parsed_or(
        ("s3", "addressing_style"),
        "\"auto\", \"path\" or \"virtual\"",
        AddressingStyle::Auto,
        |value| match value {
            Value::Text(text) => AddressingStyle::parse(text),
            _ => None,
        },
        |style| json!(style.as_str()),
    );
    let access_key = reader.text(("s3", "access_key"), "a text in quotes, not empty", is_credential);
    let secret_key = reader.text(("s3", "secret_key"), "a text in quotes, not empty", is_credential);
    let access_key_file = reader.path(("s3", "access_key_file"));
    let secret_key_file = reader.path(("s3", "secret_key_file"));
    for (text, file, key) in
        [(&access_key, &access_key_file, "access_key"), (&secret_key, &secret_key_file, "secret_key")]
    {
        if let (Some(_), Some(file)) = (text, file) {
            reader.refuse(file, format!("`{key}` and `{key}_file` are both set"), "remove one of them");
        }
    }
    let (access_set, secret_set) =
        (access_key.is_some() || access_key_file.is_some(), secret_key.is_some() || secret_key_file.is_some());
    let mut settings = S3Settings::new(bucket.as_ref().map(|given| given.value.clone()).unwrap_or_default());
    settings.access_key = access_key.as_ref().map(|given| Secret::new(given.value.as_str()));
    settings.secret_key = secret_key.as_ref().map(|given| Secret::new(given.value.as_str()));
    // One half in the file and the other in the environment worked with the original loft.
    let variable =
        |name: &str| environment.get(name).filter(|value| !value.is_empty()).map(|v| Secret::new(v.as_str()));
    if access_set && !secret_set {
        settings.secret_key = variable("AWS_SECRET_ACCESS_KEY");
        if settings.secret_key.is_none() {
            let help = "set secret_key, secret_key_file or AWS_SECRET_ACCESS_KEY";
            refuse_half(reader, access_key.as_ref(), access_key_file.as_ref(), "access key", "secret key", help);
        }
    } else if secret_set && !access_set {
        settings.access_key = variable("AWS_ACCESS_KEY_ID");
        if settings.access_key.is_none() {
            let help = "set access_key, access_key_file or AWS_ACCESS_KEY_ID";
            refuse_half(reader, secret_key.as_ref(), secret_key_file.as_ref(), "secret key", "access key", help);
        }
    }
    settings.prefix = prefix.map(|given| given.value).unwrap_or_default();
    settings.region = region.map(|given| given.value);
    settings.endpoint = endpoint.map(|given| given.value);
    settings.addressing_style = style;
    settings.access_key_file = access_key_file.map(|given| given.value);
    settings.secret_key_file = secret_key_file.map(|given| given.value);
    settings.profile = reader.text(("s3", "profile"), "a profile's name in quotes", |_| true).map(|given| given.value);
    settings.ca_file = reader.path(("s3", "ca_file")).map(|given| given.value);
    settings.storage_class = reader
        .text(("s3", "storage_class"), "a storage class, such as \"STANDARD_IA\"", is_word)
        .map(|given| given.value);
    settings.extra_headers = read_headers(reader, headers, header_files, environment);
    bucket.map(|_| settings)
}

fn refuse_half<A, B>(
    reader: &mut Reader,
    text: Option<&Given<A>>,
    file: Option<&Given<B>>,
    is: &str,
    misses: &str,
    help: &str,
) {
    let message = format!("The {is} is set, but no {misses}");
    match (text, file) {
        (Some(given), _) => reader.refuse(given, message, help),
        (None, Some(given)) => reader.refuse(given, message, help),
        (None, None) => {}
    }
}

fn read_endpoint(reader: &mut Reader) -> Option<Given<String>> {
    let given = reader.text(("s3", "endpoint"), "a URL such as \"http://localhost:3900\"", |_| true)?;
    match endpoint_fault(&given.value, matches!(given.origin, Origin::File(_))) {
        None => {
            if !given.value.contains("://") {
                let message =
                    format!("The endpoint {:?} does not say http:// or https://; https:// is assumed", given.value);
                reader.warn(&given, message, "write http://HOST:PORT where the server does not speak TLS");
            }
            Some(given)
        }
        Some((message, help)) => {
            reader.effective.pop();
            reader.record(("s3", "endpoint"), json!("(not usable)"), given.origin.clone());
            reader.refuse(&given, message, help);
            None
        }
    }
}

/// What is wrong with an endpoint. In a file the scheme must stand: without it, `localhost:3900` would mean TLS.
fn endpoint_fault(endpoint: &str, needs_scheme: bool) -> Option<(&'static str, &'static str)> {
    const URL: &str = "write http://HOST:PORT or https://HOST";
    let rest = match endpoint.split_once("://") {
        Some(("http" | "https", rest)) => rest,
        Some(_) => return Some(("`endpoint` is neither an http:// nor an https:// URL", URL)),
        None if needs_scheme => return Some(("`endpoint` does not say whether it is http:// or https://", URL)),
        None => endpoint,
    };
    let rest = rest.strip_suffix('/').unwrap_or(rest);
    if rest.contains('@') {
        return Some((
            "`endpoint` holds a user name or password",
            "put credentials into access_key and secret_key, or access_key_file and secret_key_file",
        ));
    }
    if rest.contains(['/', '?', '#']) {
        return Some((
            "`endpoint` has a path, which S3 requests cannot keep",
            "the bucket's name belongs in bucket, the keys' beginning in prefix",
        ));
    }
    match rest.parse::<http::uri::Authority>() {
        Ok(authority) if !authority.host().is_empty() => match authority.as_str().strip_prefix(authority.host()) {
            Some("") => None,
            Some(port) if port.strip_prefix(':').is_some_and(|port| port.parse::<u16>().is_ok_and(|p| p > 0)) => None,
            _ => Some(("`endpoint` has a port that is not one", "ports are from 1 to 65535")),
        },
        _ => Some(("`endpoint` has no valid host name", URL)),
    }
}

/// The headers of `loft.toml`, of the files that it names, of the variables: for one name the later wins.
fn read_headers(
    reader: &mut Reader,
    headers: Vec<(String, Located)>,
    header_files: Vec<(String, Located)>,
    environment: &BTreeMap<String, String>,
) -> ExtraHeaders {
    let variables = environment.iter().filter_map(|(variable, value)| {
        let name = variable.strip_prefix(HEADER_VARIABLE)?.replace('_', "-");
        Some((name, Located::new(Value::Text(value.clone()), Origin::Environment(variable.clone()))))
    });
    let file = reader.path(("s3", "extra_headers_file"));
    let mut file = file.map(|given| HeaderFile::read(&given.value, &given.origin)).unwrap_or_default();
    read_header_files(reader, header_files, &mut file);
    reader.problems.extend(file.problems);
    reader.warnings.extend(file.warnings);
    let mut extra = ExtraHeaders::default();
    let mut origins = BTreeMap::new();
    for (name, located) in headers.into_iter().chain(file.headers).chain(variables) {
        let inserted = match &located.value {
            Value::Text(value) => extra.insert(&name, value).map_err(|error| error.to_string()),
            _ => Err(format!("The value of extra header {name:?} must be a text in quotes")),
        };
        match inserted {
            Ok(()) => {
                origins.insert(name.to_ascii_lowercase(), located.origin);
            }
            Err(message) => {
                let problem = reader.problem_at(located.origin, located.span.as_ref(), message);
                reader.problems.push(problem);
            }
        }
    }
    // `extra_headers = …` that is no table.
    let _ = reader.parsed(("s3", "extra_headers"), "a table: [s3.extra_headers]", |_| None::<()>, |()| json!(null));
    if origins.is_empty() {
        reader.record(("s3", "extra_headers"), json!(null), Origin::Default);
    }
    for (name, origin) in origins {
        reader.record_as(format!("s3.extra_headers.{name}"), json!("(set)"), origin);
    }
    extra
}

/// The headers that have a file of their own each.
fn read_header_files(reader: &mut Reader, files: Vec<(String, Located)>, read: &mut HeaderFile) {
    const NAME: Name = ("s3", "extra_header_files");
    let _ = reader.parsed(NAME, "a table: [s3.extra_header_files]", |_| None::<()>, |()| json!(null));
    if files.is_empty() {
        reader.record(NAME, json!(null), Origin::Default);
    }
    for (name, located) in files {
        match &located.value {
            Value::Text(path) if !path.is_empty() && !path.contains('\0') => {
                let key = format!("s3.extra_header_files.{}", name.to_ascii_lowercase());
                reader.record_as(key, json!(path), located.origin.clone());
                read.add_value(Path::new(path), name, &located.origin);
            }
            _ => {
                let message = format!("The file of extra header {name:?} must be the path of a file, in quotes");
                let problem = reader.problem_at(located.origin.clone(), located.span.as_ref(), message);
                reader.problems.push(problem);
            }
        }
    }
}

/// Servers differ in what they allow, so only what cannot be a name is refused.
fn is_bucket_name(text: &str) -> bool {
    text.len() <= 255 && text.chars().all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c))
}

fn is_prefix(text: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./+=".contains(c);
    text.len() <= 512
        && text.chars().all(plain)
        && text.trim_matches('/').split('/').all(|part| !part.is_empty() && part != "." && part != "..")
}

fn is_word(text: &str) -> bool {
    text.chars().all(|c| c.is_ascii_alphanumeric() || "-_".contains(c))
}

fn is_credential(text: &str) -> bool {
    !text.chars().any(|c| c.is_whitespace() || c.is_control())
}
