//! Digests: what content is called by, and what content comes to while it is read.
//!
//! SHA-256 alone, as every image in use has it; anything else is refused by its name.

use std::fmt;
use std::io::{self, Read};

use sha2::{Digest as _, Sha256};

/// Hexadecimal digits of a SHA-256.
const DIGITS: usize = 64;

/// The SHA-256 of some content, written `sha256:` and 64 digits.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Digest(String);

impl Digest {
    /// Reads `sha256:` and its digits; the error says what is wrong with the text.
    pub fn parse(text: &str) -> Result<Self, String> {
        let Some((algorithm, digits)) = text.split_once(':') else {
            return Err(format!("'{text}' is no digest"));
        };
        if algorithm != "sha256" {
            return Err(format!("the digest '{text}' is of algorithm '{algorithm}'; only sha256 is supported"));
        }
        let is_digit = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
        if digits.len() != DIGITS || !digits.bytes().all(is_digit) {
            return Err(format!("'{text}' is no sha256 digest"));
        }
        Ok(Self(digits.to_owned()))
    }

    /// The digest of these bytes.
    pub fn of(content: &[u8]) -> Self {
        Self::finished(Sha256::new_with_prefix(content))
    }

    fn finished(sum: Sha256) -> Self {
        Self(sum.finalize().iter().map(|byte| format!("{byte:02x}")).collect())
    }

    /// The digits alone: lower-case, safe as a file's name.
    pub fn hex(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "sha256:{}", self.0)
    }
}

/// Sums what is read through it.
pub(super) struct Summing<R> {
    inner: R,
    sum: Sha256,
}

impl<R: Read> Summing<R> {
    pub fn new(inner: R) -> Self {
        Self { inner, sum: Sha256::new() }
    }

    /// The digest of all that was read.
    pub fn finish(self) -> Digest {
        Digest::finished(self.sum)
    }
}

impl<R: Read> Read for Summing<R> {
    fn read(&mut self, piece: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(piece)?;
        self.sum.update(&piece[..read]);
        Ok(read)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digest_of_another_algorithm_or_form_is_refused_by_name() {
        let empty = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
        assert_eq!(Digest::of(b"").to_string(), empty);
        assert_eq!(Digest::parse(empty), Ok(Digest::of(b"")));
        let longer = format!("sha512:{}", "0".repeat(128));
        assert!(Digest::parse(&longer).unwrap_err().contains("algorithm 'sha512'"));
        for bad in ["", "sha256", "sha256:", "sha256:../../etc/passwd", &empty.to_uppercase(), &empty[..70]] {
            assert!(Digest::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn content_is_summed_while_it_is_read() {
        let mut summing = Summing::new(&b"some content"[..]);
        io::copy(&mut summing, &mut io::sink()).unwrap();
        assert_eq!(summing.finish(), Digest::of(b"some content"));
    }
}
