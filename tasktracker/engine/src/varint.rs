//! Little-endian base-128 numbers in their shortest form: one number, one encoding.

/// The longest encoding of a `u64`, in bytes.
pub(crate) const VARINT_BYTES_MAX: usize = 10;

/// Appends a number.
#[inline]
pub(crate) fn append(mut number: u64, out: &mut Vec<u8>) {
    while number >= 0x80 {
        out.push(number as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}

/// What [`read`] found at the beginning of some bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Read {
    /// A number, and the bytes it takes.
    Number(u64, usize),
    /// The bytes end within the number.
    Cut,
    /// No shortest form of a `u64`.
    Malformed,
}

/// Reads the number at the beginning of `bytes`.
#[inline]
pub(crate) fn read(bytes: &[u8]) -> Read {
    let mut number = 0u64;
    for (index, &byte) in bytes.iter().take(VARINT_BYTES_MAX).enumerate() {
        let part = u64::from(byte & 0x7f);
        if index == VARINT_BYTES_MAX - 1 && byte > 1 {
            return Read::Malformed;
        }
        number |= part << (7 * index);
        if byte & 0x80 == 0 {
            // A last group of zero would be a longer form of the same number.
            let shortest = part != 0 || index == 0;
            return if shortest { Read::Number(number, index + 1) } else { Read::Malformed };
        }
    }
    if bytes.len() < VARINT_BYTES_MAX { Read::Cut } else { Read::Malformed }
}

/// Takes a number from the front of `bytes`.
pub(crate) fn take(bytes: &mut &[u8]) -> Option<u64> {
    match read(bytes) {
        Read::Number(number, length) => {
            *bytes = bytes.get(length..)?;
            Some(number)
        }
        Read::Cut | Read::Malformed => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_has_one_encoding() {
        for number in [0, 1, 127, 128, 300, 1 << 32, u64::MAX - 1, u64::MAX] {
            let mut bytes = Vec::new();
            append(number, &mut bytes);
            assert_eq!(read(&bytes), Read::Number(number, bytes.len()));
            for cut in 0..bytes.len() {
                assert_eq!(read(&bytes[..cut]), Read::Cut);
            }
        }
        assert_eq!(read(&[0x80, 0x00]), Read::Malformed);
        assert_eq!(read(&[0xff; 10]), Read::Malformed);
        assert_eq!(read(&[0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x02]), Read::Malformed);
    }
}
