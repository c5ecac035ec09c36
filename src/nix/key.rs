//! The ed25519 keys that sign paths and check signatures, in Nix's text forms.
//!
//! A secret must not leak through an error: somebody may swap the files, or put the secret where
//! the name belongs. So errors about a key's text say what is wrong with it and repeat none of it.

use super::excerpt::excerpt;
use super::{Fingerprint, Signature};
use data_encoding::BASE64;
use ed25519_dalek::{KEYPAIR_LENGTH, PUBLIC_KEY_LENGTH, SECRET_KEY_LENGTH, Signer as _, SigningKey, VerifyingKey};
use std::fmt;
use zeroize::Zeroizing;

/// The name part of a key, for example `cache.nixos.org-1`: not empty, no `:`, no white space.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct KeyName(String);

/// A signing key. `Debug` prints the name alone; the key is wiped from memory when dropped.
pub struct SecretKey {
    name: KeyName,
    // Boxed, so that moving a `SecretKey` leaves no copies of the seed behind; wipes itself on drop.
    key: Box<SigningKey>,
}

/// What clients put into `trusted-public-keys`: `name:base64(32 bytes)`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PublicKey {
    name: KeyName,
    key: VerifyingKey,
}

/// Why there is no key. Nothing of a key's text is repeated.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// A name by itself, so nothing secret: repeated.
    #[error("Key name {0:?} is empty or has a colon, white space or a control character")]
    Name(String),
    #[error("The {0} has no colon between its name and its base64 part")]
    NoColon(KeyKind),
    #[error("The name in the {0} is empty or has white space or a control character")]
    NameOfKey(KeyKind),
    #[error("The part of the {0} after the colon is not base64")]
    Base64(KeyKind),
    #[error("The {kind} holds {found} bytes where {} belong{}", kind.len(), kind.hint(*found))]
    Length { kind: KeyKind, found: usize },
    #[error("The two halves of the secret key do not belong together")]
    Halves,
    #[error("The public key is not a point on the curve")]
    Point,
    #[error("The operating system gave no randomness for a new key")]
    Randomness(#[source] getrandom::Error),
}

/// Which of the two kinds a text was to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyKind {
    Secret,
    Public,
}

impl KeyKind {
    const fn len(self) -> usize {
        match self {
            Self::Secret => KEYPAIR_LENGTH,
            Self::Public => PUBLIC_KEY_LENGTH,
        }
    }

    fn hint(self, found: usize) -> &'static str {
        match self {
            Self::Secret if found == PUBLIC_KEY_LENGTH => "; this looks like a public key",
            Self::Public if found == KEYPAIR_LENGTH => "; this looks like a secret key",
            _ => "",
        }
    }

    /// Splits `name:base64` and decodes exactly `N` bytes, wiping what it used on the way.
    fn split<const N: usize>(self, text: &str) -> Result<(KeyName, Zeroizing<[u8; N]>), KeyError> {
        let (name, base64) = text.trim().split_once(':').ok_or(KeyError::NoColon(self))?;
        let name = KeyName::parse(name).map_err(|_| KeyError::NameOfKey(self))?;
        let not_base64 = || KeyError::Base64(self);
        let len = BASE64.decode_len(base64.len()).map_err(|_| not_base64())?;
        let mut buffer = Zeroizing::new(vec![0; len]);
        let found = BASE64.decode_mut(base64.as_bytes(), &mut buffer).map_err(|_| not_base64())?;
        let mut bytes = Zeroizing::new([0; N]);
        if found != N {
            return Err(KeyError::Length { kind: self, found });
        }
        bytes.copy_from_slice(&buffer[..found]);
        Ok((name, bytes))
    }
}

impl fmt::Display for KeyKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Secret => "secret key",
            Self::Public => "public key",
        })
    }
}

impl KeyName {
    pub fn parse(text: &str) -> Result<Self, KeyError> {
        if text.is_empty() || text.chars().any(|c| c == ':' || c.is_whitespace() || c.is_control()) {
            return Err(KeyError::Name(excerpt(text)));
        }
        Ok(Self(text.to_owned()))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for KeyName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl SecretKey {
    /// Makes a new key from the operating system's randomness.
    pub fn generate(name: KeyName) -> Result<Self, KeyError> {
        let mut seed = Zeroizing::new([0; SECRET_KEY_LENGTH]);
        getrandom::fill(seed.as_mut_slice()).map_err(KeyError::Randomness)?;
        Ok(Self { name, key: Box::new(SigningKey::from_bytes(&seed)) })
    }

    /// Reads a secret key file's text: `name:base64(seed ‖ public)`, white space around it ignored.
    pub fn parse(text: &str) -> Result<Self, KeyError> {
        let (name, pair) = KeyKind::Secret.split::<KEYPAIR_LENGTH>(text)?;
        let key = SigningKey::from_keypair_bytes(&pair).map_err(|_| KeyError::Halves)?;
        Ok(Self { name, key: Box::new(key) })
    }

    /// The same key under another name (`signing_key_name`).
    pub fn renamed(self, name: KeyName) -> Self {
        Self { name, ..self }
    }

    pub fn name(&self) -> &KeyName {
        &self.name
    }

    pub fn public(&self) -> PublicKey {
        PublicKey { name: self.name.clone(), key: self.key.verifying_key() }
    }

    /// Deterministic: the same key and fingerprint give the signature that Nix gives.
    pub fn sign(&self, fingerprint: &Fingerprint) -> Signature {
        let bytes = self.key.sign(fingerprint.as_str().as_bytes()).to_bytes();
        Signature::new(self.name.clone(), bytes)
    }

    /// The text of a secret key file; the only way the key leaves this type.
    pub fn to_secret_text(&self) -> Zeroizing<String> {
        let mut pair = Zeroizing::new([0; KEYPAIR_LENGTH]);
        pair[..SECRET_KEY_LENGTH].copy_from_slice(self.key.as_bytes());
        pair[SECRET_KEY_LENGTH..].copy_from_slice(self.key.verifying_key().as_bytes());
        // Room for all of it, since growing would leave a copy behind.
        let mut text = Zeroizing::new(String::with_capacity(self.name.0.len() + 1 + BASE64.encode_len(KEYPAIR_LENGTH)));
        text.push_str(&self.name.0);
        text.push(':');
        BASE64.encode_append(pair.as_slice(), &mut text);
        text
    }
}

impl fmt::Debug for SecretKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SecretKey({})", self.name)
    }
}

impl PublicKey {
    /// Reads `name:base64(32 bytes)`, white space around it ignored.
    pub fn parse(text: &str) -> Result<Self, KeyError> {
        let (name, bytes) = KeyKind::Public.split::<PUBLIC_KEY_LENGTH>(text)?;
        let key = VerifyingKey::from_bytes(&bytes).map_err(|_| KeyError::Point)?;
        Ok(Self { name, key })
    }

    pub fn name(&self) -> &KeyName {
        &self.name
    }

    /// Whether `signature` is by this key (name and bytes) over `fingerprint`.
    pub fn verifies(&self, fingerprint: &Fingerprint, signature: &Signature) -> bool {
        let bytes = ed25519_dalek::Signature::from_bytes(signature.bytes());
        *signature.key() == self.name && self.key.verify_strict(fingerprint.as_str().as_bytes(), &bytes).is_ok()
    }
}

impl fmt::Display for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.name, BASE64.encode(self.key.as_bytes()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nix::{Sha256, StoreDir, StorePath};
    use proptest::prelude::*;
    use std::num::NonZeroU64;

    fn key(name: &str) -> SecretKey {
        SecretKey::generate(KeyName::parse(name).unwrap()).unwrap()
    }

    fn fingerprint() -> Fingerprint {
        let path = StorePath::parse("0c0ngrnyz7b7w2hzwzvhyzxqdqz3dnya-x").unwrap();
        Fingerprint::new(&StoreDir::default(), &path, &Sha256::of(b""), NonZeroU64::MIN, &[])
    }

    #[test]
    fn reads_what_it_printed_with_white_space_around() {
        let secret = key("a-1");
        let text = secret.to_secret_text();
        let again = SecretKey::parse(&format!("\n {}\r\n", text.as_str())).unwrap();
        assert_eq!(again.to_secret_text(), text);
        assert_eq!(again.sign(&fingerprint()), secret.sign(&fingerprint()));
        let public = secret.public();
        assert_eq!(PublicKey::parse(&format!(" {public}\n")).unwrap(), public);
        assert!(public.verifies(&fingerprint(), &secret.sign(&fingerprint())));
        assert_ne!(key("a-1").public(), public, "two new keys differ");
    }

    #[test]
    fn a_renamed_key_signs_and_verifies_under_its_new_name() {
        let secret = key("old");
        let old = secret.public();
        let secret = secret.renamed(KeyName::parse("new").unwrap());
        let signature = secret.sign(&fingerprint());
        assert_eq!(signature.key().as_str(), "new");
        assert!(secret.public().verifies(&fingerprint(), &signature));
        assert!(!old.verifies(&fingerprint(), &signature));
        assert!(secret.public().to_string().starts_with("new:"));
    }

    #[test]
    fn debug_shows_the_name_alone() {
        assert_eq!(format!("{:?}", key("cache-1")), "SecretKey(cache-1)");
    }

    #[test]
    fn errors_say_what_is_wrong_and_never_repeat_the_text() {
        let (secret, other) = (key("n"), key("n"));
        let text = secret.to_secret_text();
        let base64 = text.split_once(':').unwrap().1.to_owned();
        let mut halves = BASE64.decode(base64.as_bytes()).unwrap();
        halves[32..].copy_from_slice(other.key.verifying_key().as_bytes());
        for (bad, what) in [
            (base64.clone(), "no colon"),
            (format!(":{base64}"), "name"),
            (format!("a b:{base64}"), "name"),
            (format!("{base64}:n"), "not base64"),
            (format!("n:{base64}="), "not base64"),
            (format!("n:{}", &base64[..87]), "not base64"),
            (format!("n:{} {}", &base64[..40], &base64[40..]), "not base64"),
            (format!("n:{base64}\nn:{base64}"), "not base64"),
            (format!("n:{}", &base64[..80]), "60 bytes where 64 belong"),
            (format!("n:{}", BASE64.encode(&halves)), "halves"),
            (secret.public().to_string(), "looks like a public key"),
            ("n:".into(), "0 bytes"),
            (String::new(), "no colon"),
        ] {
            let error = SecretKey::parse(&bad).unwrap_err();
            let shown = format!("{error} {error:?}");
            assert!(shown.contains(what) || error.to_string().contains(what), "{shown}, not {what}");
            for piece in [&base64[..12], &base64[30..42]] {
                assert!(!shown.contains(piece), "{shown} leaks the key");
            }
        }
        let error = PublicKey::parse(&text).unwrap_err();
        assert!(error.to_string().contains("looks like a secret key"), "{error}");
        assert!(!format!("{error} {error:?}").contains(&base64[..12]));
        // y = 2 is on no point of the curve.
        let mut no_point = [0; 32];
        no_point[0] = 2;
        assert_eq!(PublicKey::parse(&format!("n:{}", BASE64.encode(&no_point))), Err(KeyError::Point));
    }

    #[test]
    fn refuses_bad_names() {
        for name in ["", ":", "a:b", "a b", "a\tb", "a\n", "\u{a0}", "a\0"] {
            assert_eq!(KeyName::parse(name), Err(KeyError::Name(name.to_owned())));
        }
    }

    proptest! {
        #[test]
        fn never_panics(text in "\\PC*:[A-Za-z0-9+/=]*") {
            let _ = SecretKey::parse(&text);
            let _ = PublicKey::parse(&text);
            let _ = Signature::parse(&text);
        }

        #[test]
        fn one_flipped_bit_breaks_a_signature(bit in 0..512usize) {
            let secret = key("n");
            let mut bytes = *secret.sign(&fingerprint()).bytes();
            bytes[bit / 8] ^= 1 << (bit % 8);
            let flipped = Signature::new(secret.name().clone(), bytes);
            prop_assert!(!secret.public().verifies(&fingerprint(), &flipped));
        }
    }
}
