//! The worker protocol's primitives: 64-bit little-endian numbers; strings as length, bytes and zero
//! padding to eight; lists as count and items.
//!
//! The peer may be broken or hostile, so nothing is allocated because a number says so: buffers grow
//! with the bytes that arrive, a string has a cap, and every answer has a budget.

use std::io::{self, Read};

/// Longest string taken. Paths and signatures are far shorter; error messages have been seen near 100 KB.
pub const STRING_CAP: u64 = 1 << 20;

/// Why an answer could not be read.
#[derive(Debug)]
pub enum WireError {
    Io(io::Error),
    Malformed(String),
}

/// Reads answers within a budget.
pub struct WireReader<R> {
    inner: R,
    budget: u64,
}

impl<R: Read> WireReader<R> {
    pub fn new(inner: R) -> Self {
        Self { inner, budget: 0 }
    }

    /// Allows `bytes` for what is read from now on.
    pub fn allow(&mut self, bytes: u64) {
        self.budget = bytes;
    }

    pub fn number(&mut self) -> Result<u64, WireError> {
        self.spend(8)?;
        let mut bytes = [0; 8];
        self.inner.read_exact(&mut bytes).map_err(WireError::Io)?;
        Ok(u64::from_le_bytes(bytes))
    }

    pub fn flag(&mut self) -> Result<bool, WireError> {
        match self.number()? {
            0 => Ok(false),
            1 => Ok(true),
            other => Err(WireError::Malformed(format!("{other} is neither 0 nor 1"))),
        }
    }

    pub fn bytes(&mut self) -> Result<Vec<u8>, WireError> {
        let len = self.number()?;
        if len > STRING_CAP {
            return Err(WireError::Malformed(format!("a string of {len} bytes (at most {STRING_CAP} are taken)")));
        }
        self.spend(len.next_multiple_of(8))?;
        let mut bytes = Vec::new();
        (&mut self.inner).take(len).read_to_end(&mut bytes).map_err(WireError::Io)?;
        if bytes.len() as u64 != len {
            return Err(WireError::Io(io::ErrorKind::UnexpectedEof.into()));
        }
        let mut padding = [0; 8];
        let padding = &mut padding[..(len.next_multiple_of(8) - len) as usize];
        self.inner.read_exact(padding).map_err(WireError::Io)?;
        match padding.iter().all(|byte| *byte == 0) {
            true => Ok(bytes),
            false => Err(WireError::Malformed("padding that is not zero".to_owned())),
        }
    }

    pub fn string(&mut self) -> Result<String, WireError> {
        String::from_utf8(self.bytes()?).map_err(|_| WireError::Malformed("a string that is not UTF-8".to_owned()))
    }

    /// A list; an item takes at least eight bytes, so the budget bounds the count.
    pub fn list<T>(&mut self, mut item: impl FnMut(&mut Self) -> Result<T, WireError>) -> Result<Vec<T>, WireError> {
        let count = self.number()?;
        if count > self.budget / 8 {
            return Err(WireError::Malformed(format!("a list of {count} items, more than fit an answer")));
        }
        let mut items = Vec::new();
        for _ in 0..count {
            items.push(item(self)?);
        }
        Ok(items)
    }

    fn spend(&mut self, bytes: u64) -> Result<(), WireError> {
        let over = || WireError::Malformed("an answer longer than any that makes sense".to_owned());
        self.budget = self.budget.checked_sub(bytes).ok_or_else(over)?;
        Ok(())
    }
}

pub fn put_number(out: &mut Vec<u8>, number: u64) {
    out.extend_from_slice(&number.to_le_bytes());
}

pub fn put_string(out: &mut Vec<u8>, text: &str) {
    put_number(out, text.len() as u64);
    out.extend_from_slice(text.as_bytes());
    out.resize(out.len() + (text.len().next_multiple_of(8) - text.len()), 0);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reader(bytes: &[u8]) -> WireReader<&[u8]> {
        let mut reader = WireReader::new(bytes);
        reader.allow(1 << 16);
        reader
    }

    #[test]
    fn reads_what_it_wrote() {
        for text in ["", "a", "1234567", "12345678", "123456789"] {
            let mut out = Vec::new();
            put_string(&mut out, text);
            put_number(&mut out, 7);
            assert_eq!(out.len() % 8, 0);
            let mut reader = reader(&out);
            assert_eq!(reader.string().unwrap(), text);
            assert_eq!(reader.number().unwrap(), 7);
            assert!(matches!(reader.number(), Err(WireError::Io(_))));
        }
    }

    #[test]
    fn refuses_lengths_that_lie() {
        for len in [u64::MAX, u64::MAX - 7, i64::MIN as u64, STRING_CAP + 1, 1 << 17] {
            assert!(matches!(reader(&len.to_le_bytes()).bytes(), Err(WireError::Malformed(_))), "{len}");
        }
        for count in [u64::MAX, i64::MIN as u64, (1 << 13) + 1] {
            let list = reader(&count.to_le_bytes()).list(WireReader::number);
            assert!(matches!(list, Err(WireError::Malformed(_))), "{count}");
        }
        assert!(matches!(reader(&2u64.to_le_bytes()).flag(), Err(WireError::Malformed(_))));
        let mut padded = Vec::new();
        put_string(&mut padded, "a");
        padded[10] = 1;
        assert!(matches!(reader(&padded).bytes(), Err(WireError::Malformed(_))));
        assert!(matches!(
            reader(&[1, 0, 0, 0, 0, 0, 0, 0, 0xff, 0, 0, 0, 0, 0, 0, 0]).string(),
            Err(WireError::Malformed(_))
        ));
    }

    #[test]
    fn an_answer_stays_within_its_budget() {
        let mut out = Vec::new();
        put_number(&mut out, 4);
        (0..4).for_each(|_| put_string(&mut out, "12345678"));
        let mut reader = WireReader::new(out.as_slice());
        reader.allow(8 + 4 * 16);
        assert_eq!(reader.list(WireReader::string).unwrap().len(), 4);
        let mut reader = WireReader::new(out.as_slice());
        reader.allow(8 + 4 * 16 - 1);
        assert!(matches!(reader.list(WireReader::string), Err(WireError::Malformed(_))));
    }

    proptest::proptest! {
        #[test]
        fn never_panics(bytes: Vec<u8>) {
            let mut input = reader(&bytes);
            let _ = input.list(WireReader::string);
            let _ = reader(&bytes).list(|input| { input.flag()?; input.bytes() });
        }
    }
}
