//! Reads and checks what a TPM 2.0 signs: `TPMS_ATTEST` of a quote, TPM 2.0 Library part 2, 10.12.
//!
//! A certificate is the attested structure, followed by the ECDSA signature's r and s, 32 bytes each. Whatever the bytes are, reading them
//! ends, and never panics.

use crate::{
    chain::Head,
    tpm::{STATIC_PCRS, TpmFault, TpmKey, TpmPoint, sha256},
};
use ring::signature::{ECDSA_P256_SHA256_FIXED, UnparsedPublicKey};

/// What a structure of the chip's own begins with: `TPM_GENERATED_VALUE`.
const MAGIC: u32 = 0xff54_4347;
/// `TPM_ST_ATTEST_QUOTE`.
const QUOTE: u16 = 0x8018;
const SIGNATURE_BYTES: usize = 64;
/// Banks that a selection may name.
const BANKS_MAX: u32 = 16;

/// A quote, as read and not yet believed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Quote<'a> {
    /// The signing key's qualified name.
    pub signer: &'a [u8],
    /// What whoever asked for the quote put into it.
    pub extra: &'a [u8],
    /// Resets of the chip.
    pub reset_count: u32,
    /// Restarts and resumptions of the chip.
    pub restart_count: u32,
    /// The version of its firmware.
    pub firmware: u64,
    /// The banks and PCRs, encoded as `TPML_PCR_SELECTION`.
    pub selection: &'a [u8],
    /// The digest over their values.
    pub value: &'a [u8],
}

/// What is left to read.
struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    fn take(&mut self, bytes: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(bytes)?;
        self.0 = rest;
        Some(taken)
    }
    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        self.take(N)?.try_into().ok()
    }
    fn u16(&mut self) -> Option<u16> {
        self.array().map(u16::from_be_bytes)
    }
    fn u32(&mut self) -> Option<u32> {
        self.array().map(u32::from_be_bytes)
    }
    fn sized(&mut self) -> Option<&'a [u8]> {
        let bytes = self.u16()?;
        self.take(bytes.into())
    }
    fn selection(&mut self) -> Option<&'a [u8]> {
        let whole = self.0;
        for _ in 0..self.u32().filter(|banks| *banks <= BANKS_MAX)? {
            self.take(2)?;
            let [bitmap] = self.array()?;
            self.take(bitmap.into())?;
        }
        whole.get(..whole.len().checked_sub(self.0.len())?)
    }
}

impl<'a> Quote<'a> {
    /// Reads a quote: all of the bytes, and nothing else.
    pub fn read(bytes: &'a [u8]) -> Option<Self> {
        let mut fields = Fields(bytes);
        if (fields.u32()?, fields.u16()?) != (MAGIC, QUOTE) {
            return None;
        }
        let (signer, extra) = (fields.sized()?, fields.sized()?);
        // The chip's clock, in milliseconds.
        fields.take(8)?;
        let (reset_count, restart_count) = (fields.u32()?, fields.u32()?);
        // Whether the clock may have gone back.
        fields.take(1)?;
        let firmware = fields.array().map(u64::from_be_bytes)?;
        let (selection, value) = (fields.selection()?, fields.sized()?);
        fields.0.is_empty().then_some(Self { signer, extra, reset_count, restart_count, firmware, selection, value })
    }
}

/// The selection of one PCR of the SHA-256 bank, as a chip with 24 PCRs encodes it.
pub fn selection_of(pcr: u8) -> [u8; 10] {
    let mut selection = [0, 0, 0, 1, 0, 0x0b, 3, 0, 0, 0];
    if let Some(byte) = selection.get_mut(7 + usize::from(pcr / 8)) {
        *byte = 1 << (pcr % 8);
    }
    selection
}

/// Takes a certificate apart into the quote's bytes and the signature.
pub fn split(certificate: &[u8]) -> Option<(&[u8], &[u8])> {
    certificate.split_at_checked(certificate.len().checked_sub(SIGNATURE_BYTES)?)
}

/// Reads a certificate's quote, and checks that this key signed it, as a primary key of the owner hierarchy with the attributes that it must
/// have.
///
/// # Errors
/// [`TpmFault::Form`], [`TpmFault::Signer`] or [`TpmFault::Signature`].
pub fn genuine<'a>(key: &TpmPoint, certificate: &'a [u8]) -> Result<Quote<'a>, TpmFault> {
    let (bytes, signature) = split(certificate).ok_or(TpmFault::Form)?;
    let quote = Quote::read(bytes).ok_or(TpmFault::Form)?;
    if quote.signer != key.qualified_name() {
        return Err(TpmFault::Signer);
    }
    let point = [&[4], key.x.as_slice(), &key.y].concat();
    let key = UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, point);
    key.verify(bytes, signature).map_err(|_| TpmFault::Signature)?;
    Ok(quote)
}

/// Checks that a certificate attests a head in an epoch of this key. Everything that the record says of the chip must stand in the quote;
/// what the host could put there by itself is not looked at.
pub(crate) fn verify(key: &TpmKey, head: Head, certificate: &[u8]) -> Result<(), TpmFault> {
    let device = &key.device;
    if device.pcr >= STATIC_PCRS {
        return Err(TpmFault::Pcr(device.pcr));
    }
    let quote = genuine(&device.key, certificate)?;
    let Quote { reset_count, restart_count, .. } = quote;
    if (reset_count, restart_count) != (key.reset_count, key.restart_count) {
        return Err(TpmFault::Boot { reset_count, restart_count });
    }
    if quote.firmware != device.firmware {
        return Err(TpmFault::Firmware);
    }
    if quote.selection != selection_of(device.pcr) {
        return Err(TpmFault::Selection);
    }
    if quote.value != sha256(&[head.chain.as_bytes()]).as_bytes() {
        return Err(TpmFault::Value);
    }
    Ok(())
}
