//! `s3://BUCKET?…` and `file:///DIRECTORY`: Nix's own form and parameter names.

use crate::bucket::{AddressingStyle, S3Settings, Target};
use std::path::PathBuf;

pub fn parse(url: &str) -> Result<Target, String> {
    if let Some(path) = url.strip_prefix("file://") {
        let path = decode(path).filter(|path| path.starts_with('/'));
        return path
            .map(|path| Target::Directory(PathBuf::from(path)))
            .ok_or("A file:// URL needs an absolute path: file:///DIRECTORY".to_owned());
    }
    let Some(rest) = url.strip_prefix("s3://") else {
        return Err("The URL of a bucket starts with s3:// or file://".to_owned());
    };
    let (place, query) = rest.split_once('?').unwrap_or((rest, ""));
    let (bucket, prefix) = place.split_once('/').unwrap_or((place, ""));
    if bucket.is_empty() {
        return Err("The URL names no bucket".to_owned());
    }
    if bucket.contains('@') {
        return Err("The URL holds a user name or password".to_owned());
    }
    let mut s3 = S3Settings::new(bucket);
    let mut scheme = None;
    s3.prefix = decode(prefix).ok_or("The URL's prefix is not valid percent-encoding")?;
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        let value =
            decode(value).ok_or_else(|| format!("The URL's parameter {name:?} is not valid percent-encoding"))?;
        match name {
            "endpoint" => s3.endpoint = Some(value),
            "region" => s3.region = Some(value),
            "profile" => s3.profile = Some(value),
            "scheme" => scheme = Some(value),
            "storage-class" => s3.storage_class = Some(value),
            "addressing-style" => {
                s3.addressing_style =
                    AddressingStyle::parse(&value).ok_or("addressing-style is auto, path or virtual")?;
            }
            _ => return Err(format!("The URL has a parameter {name:?} that loft does not know")),
        }
    }
    if let (Some(endpoint), Some(scheme)) = (&s3.endpoint, scheme) {
        if !endpoint.contains("://") {
            s3.endpoint = Some(format!("{scheme}://{endpoint}"));
        }
    }
    Ok(Target::S3(s3))
}

fn decode(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [byte, tail @ ..] = rest {
        rest = tail;
        if *byte == b'%' {
            let [high, low, tail @ ..] = rest else { return None };
            let digit = |byte: u8| char::from(byte).to_digit(16);
            bytes.push(u8::try_from(digit(*high)? * 16 + digit(*low)?).ok()?);
            rest = tail;
        } else {
            bytes.push(*byte);
        }
    }
    String::from_utf8(bytes).ok()
}
