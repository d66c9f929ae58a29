//! What verifiers know of a TPM 2.0: its attestation key, the PCR that is its chain, and the boot that an epoch belongs to. Pure, and in
//! every build, so that what replicas encode does not depend on features.
//!
//! The chain of an epoch **is** a PCR of the SHA-256 bank. Beginning an epoch extends the PCR once, from whatever value it has, by the
//! digest of the epoch's record; each position extends it by the position's digest:
//!
//! ```text
//! chain_0 = SHA-256(start ‖ H("quorate-ui epoch", record))        chain_c = SHA-256(chain_{c-1} ‖ digest_c)
//! ```
//!
//! What must hold: the PCRs 0 to 15 cannot be reset but by resetting the chip, which counts that. So a PCR has one history for each pair of
//! reset and restart counts, the record's digest stands at one place of it, and the c-th extend after that is the one digest of position
//! c. An epoch ends with its boot. The host may issue every command with the authorisations of owner, endorsement and lockout;
//! what it cannot do is to make a restricted key sign a quote that the chip did not make.
//!
//! The key must be a primary key of the *owner* hierarchy. In the endorsement hierarchy, clearing the chip sets the counts back to zero and
//! leaves the key as it was: after enough restarts, the same counts come with an empty PCR. A quote names its signer by the *qualified*
//! name, which is a digest over the hierarchy, the key's attributes and its point, so every quote shows that the key is what it must be.

use quorate_protocol::{
    canonical,
    digest::Digest,
    enrolled::EnrolledTpm,
    ids::ReplicaId,
    sign::{PublicKey, SecretKey, Signed, Statement},
};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

pub use quorate_protocol::enrolled::STATIC_PCRS;

/// `TPM_ALG_SHA256`: the digest of names, and the bank of the PCR.
const SHA256: u16 = 0x000b;
/// The handle of the owner hierarchy, which is its name.
const OWNER: u32 = 0x4000_0001;
/// fixedTPM, fixedParent, sensitiveDataOrigin, userWithAuth, noDA, restricted, sign: exactly these.
const KEY_ATTRIBUTES: u32 = 0x0005_0472;

/// The SHA-256 of two halves: what extending a PCR does.
pub(crate) fn fold(chain: Digest, digest: Digest) -> Digest {
    sha256(&[chain.as_bytes(), digest.as_bytes()])
}

pub(crate) fn sha256(parts: &[&[u8]]) -> Digest {
    let hash = parts.iter().fold(Sha256::new(), |hash, part| hash.chain_update(part));
    Digest::from_bytes(hash.finalize().into())
}

/// An attestation key's public point on P-256: two big-endian coordinates.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub struct TpmPoint {
    /// The first coordinate.
    pub x: [u8; 32],
    /// The second one.
    pub y: [u8; 32],
}

impl TpmPoint {
    /// The public area of the attestation key with this point, as the chip encodes it (`TPMT_PUBLIC`).
    pub fn public_area(&self) -> Vec<u8> {
        key_area(&self.x, &self.y)
    }

    /// The key's name: a digest over its public area, and so over its attributes.
    pub fn name(&self) -> Vec<u8> {
        let area = sha256(&[&self.public_area()]);
        [&SHA256.to_be_bytes(), area.as_bytes().as_slice()].concat()
    }

    /// The name with the hierarchy that the key is in: what a quote calls its signer.
    pub fn qualified_name(&self) -> Vec<u8> {
        let qualified = sha256(&[&OWNER.to_be_bytes(), &self.name()]);
        [&SHA256.to_be_bytes(), qualified.as_bytes().as_slice()].concat()
    }
}

/// The template of the attestation key: what the chip makes the key of the owner hierarchy from, the same one each time.
pub fn key_template() -> Vec<u8> {
    key_area(&[], &[])
}

/// An ECC key (0x23) that is named by SHA-256, has no policy and no symmetric part (0x10), signs by ECDSA (0x18) with SHA-256 on
/// P-256 (3), and derives nothing (0x10).
fn key_area(x: &[u8], y: &[u8]) -> Vec<u8> {
    let mut area = Vec::with_capacity(88);
    area.extend_from_slice(&[0x00, 0x23]);
    area.extend_from_slice(&SHA256.to_be_bytes());
    area.extend_from_slice(&KEY_ATTRIBUTES.to_be_bytes());
    area.extend_from_slice(&[0, 0, 0x00, 0x10, 0x00, 0x18]);
    area.extend_from_slice(&SHA256.to_be_bytes());
    area.extend_from_slice(&[0x00, 0x03, 0x00, 0x10]);
    for coordinate in [x, y] {
        area.extend_from_slice(&[0, coordinate.len() as u8]);
        area.extend_from_slice(coordinate);
    }
    area
}

/// The chip of a trusted log, as it was enrolled.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub struct TpmDevice {
    /// The attestation key.
    pub key: TpmPoint,
    /// The version of the chip's firmware, as this key's quotes tell it: a chip adds a number of its own for each key.
    pub firmware: u64,
    /// The PCR that is the chain, below [`STATIC_PCRS`].
    pub pcr: u8,
}

impl From<&EnrolledTpm> for TpmDevice {
    fn from(enrolled: &EnrolledTpm) -> Self {
        let (mut x, mut y) = ([0; 32], [0; 32]);
        x.copy_from_slice(&enrolled.key[..32]);
        y.copy_from_slice(&enrolled.key[32..]);
        Self { key: TpmPoint { x, y }, firmware: u64::from_be_bytes(enrolled.firmware), pcr: enrolled.pcr }
    }
}

impl From<TpmDevice> for EnrolledTpm {
    fn from(TpmDevice { key: TpmPoint { x, y }, firmware, pcr }: TpmDevice) -> Self {
        let mut key = [0; 64];
        key[..32].copy_from_slice(&x);
        key[32..].copy_from_slice(&y);
        Self { pcr, firmware: firmware.to_be_bytes(), key }
    }
}

/// An epoch of a chip. It ends with the boot that it began in.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub struct TpmKey {
    /// Which chip.
    pub device: TpmDevice,
    /// How often the chip was reset, as this key's quotes tell it.
    pub reset_count: u32,
    /// How often it was restarted or resumed without a reset, told likewise.
    pub restart_count: u32,
    /// The PCR's value when the epoch began.
    pub start: Digest,
    /// Who may bring another chip, key or firmware into the cluster. The same in each of a replica's epochs.
    pub authority: Option<PublicKey>,
    /// The authority's approval of this device, when it is not the one that the cluster is configured with.
    pub approval: Option<Approval>,
}

/// An authority's signature over a device that was enrolled for a replica: R and s of Ed25519.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub struct Approval(pub [u8; 32], pub [u8; 32]);

/// What the authority signs.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
struct Approved {
    cluster: Digest,
    replica: ReplicaId,
    device: TpmDevice,
}

impl Statement for Approved {
    const CONTEXT: &'static str = "quorate 2026 trusted log device v1";
    const BYTES_MAX: usize = 128;
}

impl Approval {
    /// Approves a device for a replica of a cluster.
    pub fn of(device: TpmDevice, cluster: Digest, replica: ReplicaId, authority: &SecretKey) -> Self {
        let signature = Signed::seal(&Approved { cluster, replica, device }, authority).signature();
        let (mut r, mut s) = ([0; 32], [0; 32]);
        r.copy_from_slice(&signature[..32]);
        s.copy_from_slice(&signature[32..]);
        Self(r, s)
    }

    /// Whether the authority approved this device for this replica.
    pub fn is_of(&self, device: TpmDevice, cluster: Digest, replica: ReplicaId, authority: &PublicKey) -> bool {
        let mut signature = [0; 64];
        signature[..32].copy_from_slice(&self.0);
        signature[32..].copy_from_slice(&self.1);
        let bytes = canonical::encode(&Approved { cluster, replica, device });
        Signed::<Approved>::from_parts(bytes, &signature).verify_signature(authority).is_ok()
    }
}

impl TpmKey {
    /// The chain of an epoch of this key, before its first digest. `begin` is the digest of the epoch's record.
    pub(crate) fn genesis(&self, begin: Digest) -> Digest {
        fold(self.start, begin)
    }

    /// Whether an epoch of this key may come after one that the cluster is configured with: the chip is the same one, or the authority
    /// approved the other one. A reboot and a suspension change the counts only, and ask for nobody's approval.
    pub(crate) fn may_follow(&self, configured: &Self, cluster: Digest, replica: ReplicaId) -> bool {
        let approved = || match (&self.approval, &configured.authority) {
            (Some(approval), Some(authority)) => approval.is_of(self.device, cluster, replica, authority),
            (None, _) | (_, None) => false,
        };
        self.authority == configured.authority && (self.device == configured.device || approved())
    }
}

/// What is wrong with a TPM's certificate.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum TpmFault {
    /// This build cannot tell.
    #[error("this build has no TPM verification: build with --features tpm")]
    NotBuilt,
    /// The record's PCR can be reset without a trace.
    #[error("PCR {0} is not static: only 0 to 15 keep their history")]
    Pcr(u8),
    /// The bytes are not a quote and a signature.
    #[error("the certificate is not a quote with its signature")]
    Form,
    /// Another key, the same in another hierarchy, or one with other attributes signed.
    #[error("the quote is not of the attestation key in the owner hierarchy")]
    Signer,
    /// The chip was reset, restarted or suspended since, or before.
    #[error("the quote is of another boot: reset count {reset_count}, restart count {restart_count}")]
    Boot {
        /// As the quote tells it.
        reset_count: u32,
        /// As the quote tells it.
        restart_count: u32,
    },
    /// The chip runs other firmware than was enrolled.
    #[error("the quote is of other firmware than was enrolled")]
    Firmware,
    /// The quote is over other PCRs, several ones, none, or another bank.
    #[error("the quote is not over exactly the one PCR of the SHA-256 bank")]
    Selection,
    /// The PCR has another value.
    #[error("the PCR does not have the value of this head")]
    Value,
    /// The chip did not sign this.
    #[error("the quote's signature is not of the attestation key")]
    Signature,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn device(first: u8) -> TpmDevice {
        TpmDevice { key: TpmPoint { x: [first; 32], y: [2; 32] }, firmware: 3, pcr: 14 }
    }

    fn key(device: TpmDevice, authority: Option<PublicKey>, approval: Option<Approval>) -> TpmKey {
        let start = Digest::from_bytes([0; 32]);
        TpmKey { device, reset_count: 1, restart_count: 2, start, authority, approval }
    }

    #[test]
    fn a_reboot_needs_nobody_and_another_chip_needs_the_authority() {
        let (authority, stranger) = (SecretKey::from_seed([1; 32]), SecretKey::from_seed([2; 32]));
        let (cluster, replica) = (Digest::of(b"cluster"), ReplicaId::new(1));
        let who = Some(authority.public());
        let configured = key(device(1), who, None);
        let follows = |key: TpmKey| key.may_follow(&configured, cluster, replica);
        assert!(follows(TpmKey { reset_count: 9, restart_count: 8, ..configured.clone() }), "a reboot");
        assert!(!follows(key(device(7), who, None)), "another chip");
        let firmware = TpmDevice { firmware: 4, ..device(1) };
        let pcr = TpmDevice { pcr: 13, ..device(1) };
        assert!(!follows(key(firmware, who, None)) && !follows(key(pcr, who, None)), "other firmware, another PCR");

        let approve = |cluster, replica, by: &SecretKey| Some(Approval::of(device(7), cluster, replica, by));
        assert!(follows(key(device(7), who, approve(cluster, replica, &authority))), "enrolled again");
        assert!(!follows(key(firmware, who, approve(cluster, replica, &authority))), "another device's approval");
        assert!(!follows(key(device(7), who, approve(cluster, replica, &stranger))), "a stranger's approval");
        assert!(!follows(key(device(7), who, approve(Digest::of(b"other"), replica, &authority))), "another cluster");
        assert!(!follows(key(device(7), who, approve(cluster, ReplicaId::new(2), &authority))), "another replica");
        let own = key(device(7), Some(stranger.public()), approve(cluster, replica, &stranger));
        assert!(!follows(own), "an authority of its own choice");
        let nobody = key(device(1), None, None);
        let approved = key(device(7), None, approve(cluster, replica, &authority));
        assert!(!approved.may_follow(&nobody, cluster, replica), "no authority, no other chip");
    }

    #[test]
    fn the_configuration_names_a_device() {
        let mut device = device(1);
        device.key.y = [9; 32];
        assert_eq!(TpmDevice::from(&EnrolledTpm::from(device)), device);
    }

    #[test]
    fn golden_names_of_a_key() {
        let point = device(1).key;
        assert_eq!(point.public_area().len(), 88);
        assert_eq!(key_template().len(), 24);
        let hex = |bytes: Vec<u8>| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
        assert_eq!(hex(point.name()), "000b15d484247d1c8f0f75bed9278b3adb25802fad7180f6b0dae75e6c19dbe0c87c");
        assert_eq!(hex(point.qualified_name()), "000b2def4052a19454067d1b46dfd51e3e6a6f531f219f738838954fb7f0077cd966");
    }
}
