//! The TPM of a replica, as it was enrolled and as the cluster's configuration has it.

use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error};
use std::fmt::Write;

/// PCRs below this number are static: nothing but a reset of the chip resets them. 16 and 23 anybody may reset.
pub const STATIC_PCRS: u8 = 16;

/// A TPM that is a replica's trusted log.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EnrolledTpm {
    /// The PCR that is the chain, below [`STATIC_PCRS`].
    pub pcr: u8,
    /// The version of the chip's firmware, as the attestation key's quotes tell it, big-endian.
    #[serde(with = "hex")]
    pub firmware: [u8; 8],
    /// The attestation key: its two coordinates on P-256, big-endian.
    #[serde(with = "hex")]
    pub key: [u8; 64],
}

/// Bytes as hexadecimal digits.
mod hex {
    use super::{Deserialize, Deserializer, Error, Serializer, Write};

    pub(super) fn serialize<S: Serializer, const N: usize>(bytes: &[u8; N], to: S) -> Result<S::Ok, S::Error> {
        let digits = bytes.iter().fold(String::with_capacity(2 * N), |mut digits, byte| {
            // Writing to a string cannot fail.
            let _ = write!(digits, "{byte:02x}");
            digits
        });
        to.serialize_str(&digits)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>, const N: usize>(from: D) -> Result<[u8; N], D::Error> {
        let text = String::deserialize(from)?;
        let digits: Option<Vec<u8>> = text.chars().map(|digit| digit.to_digit(16).map(|digit| digit as u8)).collect();
        let digits = digits.filter(|digits| digits.len() == 2 * N);
        let digits = digits.ok_or_else(|| D::Error::custom(format!("not {} hexadecimal digits", 2 * N)))?;
        let bytes: Vec<u8> =
            digits.chunks(2).map(|pair| pair.iter().fold(0, |byte, digit| byte << 4 | digit)).collect();
        bytes.try_into().map_err(|_| D::Error::custom("another number of digits than belongs here"))
    }
}
