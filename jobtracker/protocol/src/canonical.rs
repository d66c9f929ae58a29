//! The one encoding of everything that is hashed or signed: postcard, decoded strictly.
//!
//! Postcard's varints have several encodings of one number, so [`decode`] encodes again what it read and refuses bytes
//! that differ: one value, one encoding.

use crate::digest::Digest;
use postcard::ser_flavors::Flavor;
use serde::{Serialize, de::DeserializeOwned};

/// Why bytes were refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// Longer than the limit of its type.
    #[error("{got} bytes, and at most {max} are allowed")]
    TooLong {
        /// Bytes received.
        got: usize,
        /// The limit.
        max: usize,
    },
    /// Not an encoding of the type.
    #[error("not an encoding of {0}")]
    Malformed(&'static str),
    /// Readable, but not the one encoding that counts.
    #[error("not the canonical encoding of {0}")]
    NotCanonical(&'static str),
}

/// Room for most of what is encoded, in bytes: votes, and reports of one vote.
const USUAL_BYTES: usize = 256;

/// The canonical bytes of a value.
///
/// # Panics
/// Never for the types of this crate: they hold only what postcard can encode.
pub fn encode<T: Serialize + ?Sized>(value: &T) -> Vec<u8> {
    let bytes = Vec::with_capacity(USUAL_BYTES);
    postcard::to_extend(value, bytes).expect("postcard encodes every type of the protocol")
}

/// What is left of some bytes when an encoding is taken off their front, as far as they are alike.
struct Rest<'a>(&'a [u8]);

impl Flavor for Rest<'_> {
    type Output = bool;

    fn try_push(&mut self, byte: u8) -> postcard::Result<()> {
        self.try_extend(&[byte])
    }
    fn try_extend(&mut self, bytes: &[u8]) -> postcard::Result<()> {
        self.0 = self.0.strip_prefix(bytes).ok_or(postcard::Error::SerializeBufferFull)?;
        Ok(())
    }
    fn finalize(self) -> postcard::Result<bool> {
        Ok(self.0.is_empty())
    }
}

/// Whether these are the canonical bytes of a value.
fn is_encoding<T: Serialize>(value: &T, bytes: &[u8]) -> bool {
    postcard::serialize_with_flavor(value, Rest(bytes)) == Ok(true)
}

/// Decodes canonical bytes of at most `bytes_max`.
///
/// # Errors
/// [`DecodeError`] when the bytes are too long, malformed, or another encoding of the same value.
pub fn decode<T: Serialize + DeserializeOwned>(bytes: &[u8], bytes_max: usize) -> Result<T, DecodeError> {
    let name = std::any::type_name::<T>();
    if bytes.len() > bytes_max {
        return Err(DecodeError::TooLong { got: bytes.len(), max: bytes_max });
    }
    let (value, rest) = postcard::take_from_bytes::<T>(bytes).map_err(|_| DecodeError::Malformed(name))?;
    if !rest.is_empty() || !is_encoding(&value, bytes) {
        return Err(DecodeError::NotCanonical(name));
    }
    Ok(value)
}

/// The digest of a value's canonical bytes.
pub fn digest<T: Serialize + ?Sized>(value: &T) -> Digest {
    Digest::of(&encode(value))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_encoding_of_the_same_number_is_refused() {
        assert_eq!(encode(&5u64), [5]);
        assert_eq!(decode::<u64>(&[5], 8), Ok(5));
        assert!(matches!(decode::<u64>(&[0x85, 0x00], 8), Err(DecodeError::NotCanonical(_))));
        assert!(matches!(decode::<u64>(&[5, 0], 8), Err(DecodeError::NotCanonical(_))));
        assert!(matches!(decode::<u64>(&[0x85], 8), Err(DecodeError::Malformed(_))));
    }

    #[test]
    fn the_limit_holds_at_the_bound_and_one_above() {
        let bytes = encode(&vec![7u8; 10]);
        assert!(decode::<Vec<u8>>(&bytes, bytes.len()).is_ok());
        assert!(matches!(decode::<Vec<u8>>(&bytes, bytes.len() - 1), Err(DecodeError::TooLong { .. })));
    }

    #[test]
    fn a_length_that_lies_allocates_nothing() {
        // A vector that claims 2^60 elements.
        let bytes = [0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x10];
        assert!(matches!(decode::<Vec<u8>>(&bytes, 64), Err(DecodeError::Malformed(_))));
    }
}
