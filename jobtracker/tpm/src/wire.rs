//! Numbers and buffers as a TPM encodes them: big-endian, buffers behind their length in two bytes.
//!
//! A reader takes whatever bytes a chip sent, and never panics; a chip that lies gets an error.

/// What is written so far.
#[derive(Default)]
pub(crate) struct Writer(Vec<u8>);

impl Writer {
    pub(crate) fn new() -> Self {
        Self::default()
    }
    pub(crate) fn u8(mut self, value: u8) -> Self {
        self.0.push(value);
        self
    }
    pub(crate) fn u16(self, value: u16) -> Self {
        self.bytes(&value.to_be_bytes())
    }
    pub(crate) fn u32(self, value: u32) -> Self {
        self.bytes(&value.to_be_bytes())
    }
    pub(crate) fn bytes(mut self, bytes: &[u8]) -> Self {
        self.0.extend_from_slice(bytes);
        self
    }
    /// A buffer behind its length.
    ///
    /// # Panics
    /// Above 65,535 bytes: what is sent is ours.
    pub(crate) fn sized(self, bytes: &[u8]) -> Self {
        let length = u16::try_from(bytes.len()).expect("what is sent to a chip is short");
        self.u16(length).bytes(bytes)
    }
    pub(crate) fn done(self) -> Vec<u8> {
        self.0
    }
}

/// The bytes are not what they should be.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Malformed;

type Read<T> = Result<T, Malformed>;

/// What is left to read.
#[derive(Clone, Copy)]
pub(crate) struct Reader<'a>(pub(crate) &'a [u8]);

impl<'a> Reader<'a> {
    pub(crate) fn take(&mut self, bytes: usize) -> Read<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(bytes).ok_or(Malformed)?;
        self.0 = rest;
        Ok(taken)
    }
    pub(crate) fn array<const N: usize>(&mut self) -> Read<[u8; N]> {
        self.take(N)?.try_into().map_err(|_| Malformed)
    }
    pub(crate) fn u8(&mut self) -> Read<u8> {
        self.array().map(|[byte]| byte)
    }
    pub(crate) fn u16(&mut self) -> Read<u16> {
        self.array().map(u16::from_be_bytes)
    }
    pub(crate) fn u32(&mut self) -> Read<u32> {
        self.array().map(u32::from_be_bytes)
    }
    pub(crate) fn sized(&mut self) -> Read<&'a [u8]> {
        let bytes = self.u16()?;
        self.take(bytes.into())
    }
    /// A number of exactly 32 bytes, from a buffer that may leave leading zeros out.
    pub(crate) fn coordinate(&mut self) -> Read<[u8; 32]> {
        let number = self.sized()?;
        let mut padded = [0; 32];
        let zeros = padded.len().checked_sub(number.len()).ok_or(Malformed)?;
        padded.get_mut(zeros..).ok_or(Malformed)?.copy_from_slice(number);
        Ok(padded)
    }
    /// Nothing may be left.
    pub(crate) fn end(self) -> Read<()> {
        if self.0.is_empty() { Ok(()) } else { Err(Malformed) }
    }
}
