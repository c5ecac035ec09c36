//! Texts of arguments that are more than text.

use loft::config::parse_size;

pub fn size(text: &str) -> Result<u64, String> {
    let size = parse_size(text).filter(|size| *size > 0);
    size.ok_or_else(|| "use a number and a unit: 500GiB, 2TiB, 800GB".to_owned())
}

pub fn portion(text: &str) -> Result<loft::check::Portion, String> {
    text.parse()
}

pub fn key_name(text: &str) -> Result<loft::nix::KeyName, String> {
    loft::nix::KeyName::parse(text).map_err(|error| error.to_string())
}

pub fn public_key(text: &str) -> Result<loft::nix::PublicKey, String> {
    loft::nix::PublicKey::parse(text).map_err(|error| error.to_string())
}

pub fn sweep_id(text: &str) -> Result<ulid::Ulid, String> {
    text.parse().map_err(|_| "it is no prune's; `loft prune --list-trash` tells those that there are".to_owned())
}

/// A pin's name becomes part of an object's key, so it is kept plain.
pub fn pin_name(text: &str) -> Result<String, String> {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    if text.is_empty() || text.len() > 100 || text.starts_with('.') || !text.chars().all(plain) {
        return Err("use 1 to 100 letters, digits, `-`, `_` and `.`, not starting with `.`".to_owned());
    }
    Ok(text.to_owned())
}

/// A cache's URL, as text still: it is laid over the configuration as a whole.
pub fn cache_url(text: &str) -> Result<String, String> {
    loft::bucket::CacheUrl::parse(text).map(|_| text.to_owned()).map_err(|error| error.to_string())
}
