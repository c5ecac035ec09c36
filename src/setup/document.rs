//! A `loft.toml` for who has none. It holds no secrets: those stay where they are.

use crate::bucket::{AddressingStyle, S3Settings, Target};
use std::fmt::Write as _;
use std::path::Path;

/// What of the configuration does not stand in a file yet.
#[derive(Debug, Clone, Copy, Default)]
pub struct Missing<'a> {
    pub target: Option<&'a Target>,
    pub public_url: Option<&'a str>,
    pub signing_key: Option<&'a Path>,
    /// What other caches serve is left to them. For a new file alone: in an old one its absence was chosen.
    pub upstream: bool,
}

/// The official cache, which clients have anyway.
pub const UPSTREAM_URL: &str = "https://cache.nixos.org";
const UPSTREAM_KEY: &str = "cache.nixos.org-1";

impl Missing<'_> {
    pub fn is_empty(&self) -> bool {
        self.target.is_none() && self.public_url.is_none() && self.signing_key.is_none()
    }

    /// Sections with what is missing in each.
    pub fn text(&self) -> String {
        let mut text = String::new();
        if let Some(Target::S3(settings)) = self.target {
            text.push_str("[s3]\n");
            s3(&mut text, settings);
            text.push('\n');
        }
        let mut own = String::new();
        if let Some(Target::Directory(path)) = self.target {
            line(&mut own, "cache", &format!("file://{}", path.display().to_string().replace('%', "%25")));
        }
        if let Some(url) = self.public_url {
            line(&mut own, "public_url", url);
        }
        if let Some(file) = self.signing_key {
            line(&mut own, "signing_key_path", &file.display().to_string());
        }
        if self.upstream {
            own.push_str("# What cache.nixos.org serves is left to it; remove these two lines to push everything.\n");
            let _ = writeln!(own, "skip_signed_by_keys = [{}]", quote(UPSTREAM_KEY));
            let _ = writeln!(own, "upstreams = [{}]", quote(UPSTREAM_URL));
        }
        if !own.is_empty() {
            let _ = write!(text, "[loft]\n{own}");
        }
        text
    }
}

fn s3(text: &mut String, settings: &S3Settings) {
    line(text, "bucket", &settings.bucket);
    let style = settings.addressing_style;
    let optional = [
        ("prefix", Some(settings.prefix.as_str()).filter(|prefix| !prefix.is_empty())),
        ("endpoint", settings.endpoint.as_deref()),
        ("region", settings.region.as_deref()),
        ("addressing_style", (style != AddressingStyle::Auto).then(|| style.as_str())),
        ("profile", settings.profile.as_deref()),
        ("storage_class", settings.storage_class.as_deref()),
    ];
    for (key, value) in optional {
        match value {
            // In a file the scheme must stand.
            Some(host) if key == "endpoint" && !host.contains("://") => line(text, key, &format!("https://{host}")),
            Some(value) => line(text, key, value),
            None => {}
        }
    }
}

fn line(text: &mut String, key: &str, value: &str) {
    let _ = writeln!(text, "{key} = {}", quote(value));
}

/// TOML's basic string.
fn quote(text: &str) -> String {
    let mut quoted = String::from("\"");
    for c in text.chars() {
        match c {
            '"' | '\\' => quoted.extend(['\\', c]),
            c if c.is_control() => {
                let _ = write!(quoted, "\\u{:04X}", u32::from(c));
            }
            c => quoted.push(c),
        }
    }
    quoted.push('"');
    quoted
}
