//! What can be wrong with a chip, in words that an operator can act on.

use quorate_counter::{DeviceError, OpenError, TpmFault};
use std::{io, path::PathBuf};

/// Why a TPM does not do what it is asked for.
#[derive(Debug, thiserror::Error)]
pub enum TpmError {
    /// The address is none.
    #[error(
        "\"{0}\" is not the address of a TPM: it is device:/dev/tpmrm0, swtpm:path=/path/of/a/socket or \
         swtpm:host=127.0.0.1,port=2321"
    )]
    Address(String),
    /// There is none.
    #[error(
        "there is no TPM at {0}: the machine has none, it is turned off in the firmware's settings, \
         or the kernel has no driver for it"
    )]
    Absent(PathBuf),
    /// It may not be used.
    #[error("this user may not use the TPM at {0}: add the user to the group tss, and log in again")]
    Permission(PathBuf),
    /// The connection failed. It is not used again.
    #[error("the TPM cannot be reached")]
    Io(#[source] io::Error),
    /// It sent what is no answer to the command.
    #[error("the TPM's answer to {0} cannot be read")]
    Answer(&'static str),
    /// It refused a command.
    #[error("the TPM refuses {command}: code 0x{code:03x}{}", meaning(*code))]
    Refused {
        /// Which one.
        command: &'static str,
        /// `TPM_RC`.
        code: u32,
    },
    /// The PCR has no value in the bank.
    #[error(
        "the TPM keeps no SHA-256 digest in PCR {0}: the bank is not allocated (tpm2_pcrallocate sha256:all, and a reboot)"
    )]
    Bank(u8),
    /// The PCR cannot be a chain.
    #[error("PCR {0} cannot be used: only 0 to 15 keep their history until a reboot")]
    Pcr(u8),
    /// It says that it is not a chip.
    #[error(
        "this is a software or virtual TPM ({0}), which is as trustworthy as whoever can put its state back; \
         it must be allowed explicitly"
    )]
    Virtual(String),
    /// The attestation key that it makes is not the enrolled one.
    #[error("this is not the TPM that was enrolled, or it was cleared since: enrol it again")]
    OtherKey,
    /// The firmware is not the enrolled one.
    #[error("the TPM's firmware is not the one that was enrolled: enrol it again")]
    OtherFirmware,
    /// The key that it made is not what was asked for.
    #[error("the TPM made a key with another public area than it was told to")]
    PublicArea,
    /// The quote does not verify.
    #[error("the TPM's own quote does not count: {fault}{}", hint(fault))]
    Quote {
        /// What is wrong with it.
        #[source]
        fault: TpmFault,
    },
    /// The PCR moved without the log.
    #[error("PCR {0} is used by something else: give the trusted log a PCR of its own")]
    InUse(u8),
    /// The file that it keeps its place in cannot be used.
    #[error(transparent)]
    Place(#[from] OpenError),
    /// The place cannot be written.
    #[error("the trusted log cannot keep its place")]
    Storage(#[source] io::Error),
    /// After a failure nobody knows where the chip stands.
    #[error("the trusted log has failed before: open it again")]
    Failed,
    /// There is no randomness.
    #[error("the operating system gives no randomness")]
    Randomness,
}

impl TpmError {
    /// The code of a refusal, without the number of the handle, parameter or session that it is about.
    pub fn code(&self) -> Option<u32> {
        match self {
            Self::Refused { code, .. } => Some(base(*code)),
            Self::Address(_)
            | Self::Absent(_)
            | Self::Permission(_)
            | Self::Io(_)
            | Self::Answer(_)
            | Self::Bank(_)
            | Self::Pcr(_)
            | Self::Virtual(_)
            | Self::OtherKey
            | Self::OtherFirmware
            | Self::PublicArea
            | Self::Quote { .. }
            | Self::InUse(_)
            | Self::Place(_)
            | Self::Storage(_)
            | Self::Failed
            | Self::Randomness => None,
        }
    }
}

impl From<TpmError> for DeviceError {
    fn from(error: TpmError) -> Self {
        match error {
            TpmError::Io(cause) => Self::Unreachable(cause),
            TpmError::Storage(cause) => Self::Storage(cause),
            other => Self::Malfunction(other.to_string()),
        }
    }
}

/// Codes about a handle, parameter or session (bit 7) tell which one in bits 6 and 8 to 11.
fn base(code: u32) -> u32 {
    if code & 0x80 == 0 { code } else { code & 0xbf }
}

fn meaning(code: u32) -> &'static str {
    match base(code) {
        0x100 => " (it was not started: the firmware or swtpm's startup-clear does that)",
        0x101 => " (it is in failure mode: power the machine off and on)",
        0x921 => " (locked out after wrong authorisations: wait, or reset the lockout with tpm2_dictionarylockout)",
        0x901..=0x903 => " (no room for another key or session: something else left its own loaded)",
        0x907 => " (not allowed at this locality)",
        0x08e | 0x0a2 => " (wrong authorisation: the hierarchy has a password, and Quorate uses the empty one)",
        0x085 => " (the hierarchy is turned off)",
        0x082 | 0x083 | 0x0a6 => " (it does not know the algorithm or the curve)",
        0x08b | 0x910 => " (what was loaded is gone: it was suspended or reset since)",
        0x09d => " (a policy was not satisfied)",
        0x143 => " (it does not know the command)",
        _ => "",
    }
}

fn hint(fault: &TpmFault) -> &'static str {
    match fault {
        TpmFault::Boot { .. } => {
            " (it was suspended or reset while it was in use; the trusted log begins a new epoch when it is opened)"
        }
        TpmFault::Value => " (the PCR is used by something else: give the trusted log one of its own)",
        TpmFault::NotBuilt
        | TpmFault::Pcr(_)
        | TpmFault::Form
        | TpmFault::Signer
        | TpmFault::Firmware
        | TpmFault::Selection
        | TpmFault::Signature => "",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusals_are_told_apart_and_explained_whatever_they_are_about() {
        let refused = |code| TpmError::Refused { command: "TPM2_Quote", code };
        assert_eq!(refused(0x98e).code(), Some(0x08e));
        assert_eq!(refused(0x1cb).code(), Some(0x08b));
        assert_eq!(refused(0x902).code(), Some(0x902));
        for (code, words) in [(0x921, "lockout"), (0x902, "no room"), (0x98e, "password"), (0x100, "not started")] {
            let text = refused(code).to_string();
            assert!(text.contains(words) && text.contains("TPM2_Quote"), "{text}");
        }
    }
}
