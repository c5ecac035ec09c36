//! Nix's base-32 ("nix32"): the alphabet leaves out `e o u t`, and the bits run
//! from the last byte to the first, so the text of a hash reads backwards.
//!
//! Source: `libutil/base-nix-32` in Nix; checked here against hashes that Nix printed.

const ALPHABET: &[u8; 32] = b"0123456789abcdfghijklmnpqrsvwxyz";

/// Whether `byte` may stand in a nix32 text.
pub fn is_digit(byte: u8) -> bool {
    ALPHABET.contains(&byte)
}

/// The 32 digits, in order.
pub fn digits() -> impl Iterator<Item = char> {
    ALPHABET.iter().map(|digit| char::from(*digit))
}

/// Number of characters that `bytes` bytes take.
pub const fn encoded_len(bytes: usize) -> usize {
    (bytes * 8).div_ceil(5)
}

/// Prints `bytes` as nix32.
pub fn encode(bytes: &[u8]) -> String {
    let len = encoded_len(bytes.len());
    (0..len)
        .rev()
        .map(|position| {
            let bit = position * 5;
            let (byte, shift) = (bit / 8, bit % 8);
            let low = u16::from(bytes[byte]);
            let high = bytes.get(byte + 1).map_or(0, |b| u16::from(*b));
            let digit = ((high << 8 | low) >> shift) & 0x1f;
            char::from(ALPHABET[usize::from(digit)])
        })
        .collect()
}

/// Reads exactly `N` bytes, or says nothing: a wrong length, a foreign character and
/// bits beyond the last byte are all refused.
pub fn decode<const N: usize>(text: &str) -> Option<[u8; N]> {
    if text.len() != encoded_len(N) {
        return None;
    }
    let mut bytes = [0u8; N];
    for (position, character) in text.bytes().rev().enumerate() {
        let digit = ALPHABET.iter().position(|c| *c == character)? as u16;
        let bit = position * 5;
        let (byte, shift) = (bit / 8, bit % 8);
        let wide = digit << shift;
        bytes[byte] |= (wide & 0xff) as u8;
        let carry = (wide >> 8) as u8;
        match bytes.get_mut(byte + 1) {
            Some(next) => *next |= carry,
            None if carry != 0 => return None,
            None => {}
        }
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn agrees_with_nix_on_the_hash_of_nothing() {
        let empty = data_encoding::HEXLOWER
            .decode(b"e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855")
            .unwrap();
        assert_eq!(encode(&empty), "0mdqa9w1p6cmli6976v4wi0sw9r4p5prkj7lzfd1877wk11c9c73");
    }

    #[test]
    fn refuses_what_does_not_fit() {
        assert_eq!(decode::<32>("0mdqa9w1p6cmli6976v4wi0sw9r4p5prkj7lzfd1877wk11c9c7"), None);
        assert_eq!(decode::<32>("emdqa9w1p6cmli6976v4wi0sw9r4p5prkj7lzfd1877wk11c9c73"), None);
        // 52 digits hold 260 bits; the four spare ones must be zero.
        assert_eq!(decode::<32>(&"z".repeat(52)), None);
        assert_eq!(decode::<32>("ä".repeat(26).as_str()), None);
    }

    proptest! {
        #[test]
        fn reads_what_it_printed(bytes: [u8; 32]) {
            prop_assert_eq!(decode::<32>(&encode(&bytes)), Some(bytes));
        }

        #[test]
        fn has_one_text_per_value(text in "[0-9a-z]{32}") {
            if let Some(bytes) = decode::<20>(&text) {
                prop_assert_eq!(encode(&bytes), text);
            }
        }
    }
}
