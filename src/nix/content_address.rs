//! The `CA` field: how a content-addressed path's hash is made.
//!
//! loft only carries it along, so it stays text; what is checked is that it is a text Nix could have printed.
//! Source: `content-address.cc` in Nix (`git:` since 2.20, blake3 since 2.31).

use super::base32;
use super::excerpt::excerpt;
use std::fmt;

/// A content address as Nix prints it, for example `fixed:r:sha256:<nix32>` or `text:sha256:<nix32>`.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct ContentAddress(String);

/// Holds the text, cut where it is long.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("Content address {0:?} is not of the form fixed:[r:|git:]ALGORITHM:HASH or text:sha256:HASH")]
pub struct ContentAddressError(pub String);

impl ContentAddress {
    pub fn parse(text: &str) -> Result<Self, ContentAddressError> {
        let fits = match text.split_once(':') {
            Some(("text", hash)) => hash.starts_with("sha256:") && is_hash(hash),
            Some(("fixed", rest)) => {
                is_hash(rest.strip_prefix("r:").or_else(|| rest.strip_prefix("git:")).unwrap_or(rest))
            }
            _ => false,
        };
        if fits { Ok(Self(text.to_owned())) } else { Err(ContentAddressError(excerpt(text))) }
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Whether `text` is `ALGORITHM:<nix32>` with as many digits as the algorithm gives.
fn is_hash(text: &str) -> bool {
    match text.split_once(':') {
        Some(("md5", digits)) => base32::decode::<16>(digits).is_some(),
        Some(("sha1", digits)) => base32::decode::<20>(digits).is_some(),
        Some(("sha256" | "blake3", digits)) => base32::decode::<32>(digits).is_some(),
        Some(("sha512", digits)) => base32::decode::<64>(digits).is_some(),
        _ => false,
    }
}

impl fmt::Display for ContentAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for ContentAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const SHA256: &str = "0mdqa9w1p6cmli6976v4wi0sw9r4p5prkj7lzfd1877wk11c9c73";

    #[test]
    fn takes_every_form_that_nix_prints() {
        for text in [
            format!("fixed:sha256:{SHA256}"),
            format!("fixed:r:sha256:{SHA256}"),
            format!("fixed:git:sha256:{SHA256}"),
            format!("fixed:r:blake3:{SHA256}"),
            format!("text:sha256:{SHA256}"),
            format!("fixed:md5:{}", base32::encode(&[1; 16])),
            format!("fixed:git:sha1:{}", base32::encode(&[2; 20])),
            format!("fixed:r:sha512:{}", base32::encode(&[3; 64])),
        ] {
            assert_eq!(ContentAddress::parse(&text).unwrap().as_str(), text);
        }
    }

    #[test]
    fn refuses_everything_else_naming_it() {
        for text in [
            String::new(),
            "fixed".into(),
            "fixed:".into(),
            "fixed:r:".into(),
            "fixed:sha256:".into(),
            SHA256.into(),
            format!("sha256:{SHA256}"),
            format!("text:r:sha256:{SHA256}"),
            format!("text:sha512:{}", base32::encode(&[3; 64])),
            format!("fixed:x:sha256:{SHA256}"),
            format!("fixed:r:git:sha256:{SHA256}"),
            format!("fixed:sha1:{SHA256}"),
            format!("fixed:sha3:{SHA256}"),
            format!("fixed:r:sha256:{SHA256} "),
            format!("fixed:r:sha256:{SHA256}\n"),
            format!(" fixed:r:sha256:{SHA256}"),
            format!("fixed:r:sha256:{}", "e".repeat(52)),
            format!("fixed:r:sha256:{}", "0".repeat(64)),
        ] {
            let error = ContentAddress::parse(&text).unwrap_err().to_string();
            assert!(error.contains(&format!("{text:?}")), "{error}");
        }
        let long = ContentAddress::parse(&"x".repeat(1 << 20)).unwrap_err();
        assert!(long.to_string().len() < 300);
    }

    proptest! {
        #[test]
        fn never_panics(text in "(fixed:|text:)?(r:|git:)?(sha256:|md5:)?\\PC*") {
            if let Ok(address) = ContentAddress::parse(&text) {
                prop_assert_eq!(address.to_string(), text);
            }
        }
    }
}
