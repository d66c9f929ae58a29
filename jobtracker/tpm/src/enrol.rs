//! Enrolment: how an operator learns, from another machine, that a key is in a TPM and may be a replica's trusted log.
//!
//! ```text
//! the replica's host                          the operator's machine
//! Request::of(chip, pcr)        ── Request ──►  Challenger::new(request)
//! Answer::to(chip, challenge)  ◄─ Challenge ─
//!                               ── Answer ───►  challenger.conclude(&answer)   ──►  Enrolment
//! ```
//!
//! The challenge is a secret that is encrypted for the chip's endorsement key and the *name* of the attestation key (TPM 2.0 Library,
//! part 1, 24). The operator's side computes the name from the key's point and the attributes that it must have, so a chip that opens the
//! secret has a key with exactly these: restricted, fixed to the chip, made by it. The answer also carries a quote with a fresh
//! number of the operator's, whose signer's qualified name tells the hierarchy: a key of the endorsement hierarchy, which would bring an old
//! chain back after a clear, is refused here and by every verifier later.
//!
//! What it does **not** show is who made the chip: a program can play one. For that the endorsement key's certificate must lead to a maker
//! whom the operator trusts. Enrolment reads it if the chip has one and records its digest; checking its chain is left to the
//! operator, who may also compare the endorsement key's name with a list of the machines' own.
//!
//! All four documents are text (TOML), so that they travel by whatever way there is. The challenger's own is secret until the enrolment.

use crate::{
    chip::{Chip, ENDORSEMENT, Loaded, point_of},
    credential,
    error::TpmError,
    platform::Platform,
};
use quorate_counter::{
    Approval, STATIC_PCRS, TpmDevice, TpmFault, TpmPoint,
    quote::{genuine, selection_of},
};
use quorate_protocol::{digest::Digest, ids::ReplicaId, sign::SecretKey};
use ring::{
    digest::{SHA256, digest},
    rand::{SecureRandom, SystemRandom},
};
use serde::{Deserialize, Serialize, de::DeserializeOwned};

/// The longest document in bytes.
pub const DOCUMENT_BYTES_MAX: usize = 32 << 10;
/// The NV index of the certificate of the P-256 endorsement key, TCG EK Credential Profile 2.2.1.4.
const CERTIFICATE_INDEX: u32 = 0x01c0_000a;
/// The longest certificate that is read.
const CERTIFICATE_BYTES_MAX: usize = 4096;
/// The same profile's template L-2 up to its point: restricted, decrypt, fixedTPM, fixedParent, sensitiveDataOrigin, adminWithPolicy; the policy
/// is the endorsement hierarchy's authorisation; AES-128 in CFB mode; P-256.
const ENDORSEMENT_TEMPLATE: [u8; 54] = [
    0x00, 0x23, 0x00, 0x0b, 0x00, 0x03, 0x00, 0xb2, 0x00, 0x20, 0x83, 0x71, 0x97, 0x67, 0x44, 0x84, 0xb3, 0xf8, 0x1a,
    0x90, 0xcc, 0x8d, 0x46, 0xa5, 0xd7, 0x24, 0xfd, 0x52, 0xd7, 0x6e, 0x06, 0x52, 0x0b, 0x64, 0xf2, 0xa1, 0xda, 0x1b,
    0x33, 0x14, 0x69, 0xaa, 0x00, 0x06, 0x00, 0x80, 0x00, 0x43, 0x00, 0x10, 0x00, 0x03, 0x00, 0x10,
];

/// Why a key is not enrolled.
#[derive(Debug, thiserror::Error)]
pub enum EnrolError {
    /// The chip does not do its part.
    #[error(transparent)]
    Tpm(#[from] TpmError),
    /// The text is no such document.
    #[error("this is not what belongs here")]
    Document(#[source] toml::de::Error),
    /// The text is longer than any document.
    #[error("a document of {got} bytes, and at most {DOCUMENT_BYTES_MAX} are allowed")]
    TooLong {
        /// Its length in bytes.
        got: usize,
    },
    /// The endorsement key is none.
    #[error("the endorsement key is not a point on P-256")]
    EndorsementKey,
    /// The chip did not open the challenge.
    #[error(
        "the challenge was not opened: the attestation key is not in the TPM of this endorsement key, or has other attributes than it must"
    )]
    Secret,
    /// The quote does not count.
    #[error("the quote does not count: {0}")]
    Quote(#[source] TpmFault),
    /// The quote was not made for this challenge.
    #[error("the quote is not the answer to this challenge")]
    Nonce,
}

/// What travels as text.
pub trait Document: Serialize + DeserializeOwned {
    /// The text.
    ///
    /// # Panics
    /// Never: the documents hold only what TOML can say.
    fn to_toml(&self) -> String {
        toml::to_string(self).expect("documents hold text and numbers")
    }

    /// Reads a text.
    ///
    /// # Errors
    /// [`EnrolError::TooLong`] or [`EnrolError::Document`].
    fn from_toml(text: &str) -> Result<Self, EnrolError> {
        if text.len() > DOCUMENT_BYTES_MAX {
            return Err(EnrolError::TooLong { got: text.len() });
        }
        toml::from_str(text).map_err(EnrolError::Document)
    }
}

impl Document for Request {}
impl Document for Challenge {}
impl Document for Challenger {}
impl Document for Answer {}
impl Document for Enrolment {}

/// A point on P-256.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Point {
    #[serde(with = "hex")]
    x: [u8; 32],
    #[serde(with = "hex")]
    y: [u8; 32],
}

impl From<TpmPoint> for Point {
    fn from(TpmPoint { x, y }: TpmPoint) -> Self {
        Self { x, y }
    }
}
impl From<Point> for TpmPoint {
    fn from(Point { x, y }: Point) -> Self {
        Self { x, y }
    }
}

/// What a replica's host asks to be enrolled.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Request {
    pcr: u8,
    /// DER; empty when the chip has none.
    #[serde(with = "hex")]
    endorsement_certificate: Vec<u8>,
    key: Point,
    endorsement_key: Point,
    /// In the chip's own words.
    platform: Platform,
}

/// What the operator asks back.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Challenge {
    pcr: u8,
    #[serde(with = "hex")]
    nonce: [u8; 32],
    #[serde(with = "hex")]
    credential: Vec<u8>,
    #[serde(with = "hex")]
    encrypted_seed: Vec<u8>,
}

/// What the chip makes of a challenge.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Answer {
    #[serde(with = "hex")]
    secret: Vec<u8>,
    /// With its signature.
    #[serde(with = "hex")]
    quote: Vec<u8>,
}

/// What the operator keeps while a challenge is on its way. It holds the secret.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Challenger {
    #[serde(with = "hex")]
    secret: [u8; 32],
    #[serde(with = "hex")]
    nonce: [u8; 32],
    request: Request,
}

/// A chip that was enrolled: what the other replicas admit.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Enrolment {
    pcr: u8,
    /// As the attestation key's quotes tell it.
    #[serde(with = "hex")]
    firmware: [u8; 8],
    /// SHA-256 over the endorsement key's public area.
    #[serde(with = "hex")]
    endorsement_key: [u8; 32],
    /// SHA-256 over its certificate; empty when the chip has none. Its chain was not checked.
    #[serde(with = "hex")]
    endorsement_certificate: Vec<u8>,
    /// R and s; empty when nobody signed.
    #[serde(with = "hex")]
    approval: Vec<u8>,
    key: Point,
    platform: Platform,
}

impl Request {
    /// Makes the two keys in a chip, and says which they are. On the replica's host.
    ///
    /// # Errors
    /// [`TpmError`].
    pub fn of(chip: &mut Chip, pcr: u8) -> Result<Self, TpmError> {
        if pcr >= STATIC_PCRS {
            return Err(TpmError::Pcr(pcr));
        }
        // Tells at once when the chip has no such bank.
        chip.read_pcr(pcr)?;
        let platform = Platform::of(chip)?;
        let endorsement_certificate = chip.read_nv(CERTIFICATE_INDEX, CERTIFICATE_BYTES_MAX)?.unwrap_or_default();
        let endorsement_key =
            chip.with_primary(ENDORSEMENT, &endorsement_template(), |_, key| endorsement_point(key))?;
        let (handle, key) = chip.attestation_key()?;
        chip.flush(handle)?;
        let (key, endorsement_key) = (key.into(), endorsement_key.into());
        Ok(Self { pcr, endorsement_certificate, key, endorsement_key, platform })
    }

    /// The endorsement key's certificate, DER: for whoever checks its chain.
    pub fn endorsement_certificate(&self) -> Option<&[u8]> {
        Some(self.endorsement_certificate.as_slice()).filter(|certificate| !certificate.is_empty())
    }

    /// What the chip says of itself. Nothing shows that it is true.
    pub fn platform(&self) -> &Platform {
        &self.platform
    }
}

impl Challenger {
    /// Makes a challenge to a request. On the operator's machine; no chip is needed.
    ///
    /// # Errors
    /// [`EnrolError`]: what is asked for can be no trusted log.
    pub fn new(request: Request) -> Result<(Self, Challenge), EnrolError> {
        if request.pcr >= STATIC_PCRS {
            return Err(TpmError::Pcr(request.pcr).into());
        }
        let (mut secret, mut nonce) = ([0; 32], [0; 32]);
        let random = SystemRandom::new();
        let filled = random.fill(&mut secret).and_then(|()| random.fill(&mut nonce));
        filled.map_err(|_| TpmError::Randomness)?;
        let name = TpmPoint::from(request.key).name();
        let made = credential::make(&request.endorsement_key.into(), &name, &secret);
        let made = made.ok_or(EnrolError::EndorsementKey)?;
        let (credential, encrypted_seed) = (made.object, made.encrypted_seed);
        let challenge = Challenge { pcr: request.pcr, nonce, credential, encrypted_seed };
        Ok((Self { secret, nonce, request }, challenge))
    }

    /// Checks the answer.
    ///
    /// # Errors
    /// [`EnrolError`]: the key is not enrolled.
    pub fn conclude(self, answer: &Answer) -> Result<Enrolment, EnrolError> {
        if answer.secret != self.secret {
            return Err(EnrolError::Secret);
        }
        let request = self.request;
        let quote = genuine(&request.key.into(), &answer.quote).map_err(EnrolError::Quote)?;
        if quote.extra != self.nonce {
            return Err(EnrolError::Nonce);
        }
        if quote.selection != selection_of(request.pcr) {
            return Err(EnrolError::Quote(TpmFault::Selection));
        }
        let certificate = request.endorsement_certificate().map(sha256).unwrap_or_default();
        let mut endorsement_key = [0; 32];
        endorsement_key.copy_from_slice(&sha256(&endorsement_area(&request.endorsement_key.into())));
        Ok(Enrolment {
            pcr: request.pcr,
            firmware: quote.firmware.to_be_bytes(),
            endorsement_key,
            endorsement_certificate: certificate,
            approval: Vec::new(),
            key: request.key,
            platform: request.platform,
        })
    }
}

impl Answer {
    /// Has a chip answer a challenge. On the replica's host.
    ///
    /// # Errors
    /// [`TpmError`]; a refusal when the challenge is for another chip.
    pub fn to(chip: &mut Chip, challenge: &Challenge) -> Result<Self, TpmError> {
        let (key, _) = chip.attestation_key()?;
        let answered = chip.with_primary(ENDORSEMENT, &endorsement_template(), |chip, endorsement_key| {
            let secret =
                chip.activate(key, endorsement_key.handle, &challenge.credential, &challenge.encrypted_seed)?;
            let quote = chip.quote(key, &challenge.nonce, &selection_of(challenge.pcr))?;
            Ok(Self { secret, quote })
        });
        let flushed = chip.flush(key);
        let answered = answered?;
        flushed.map(|()| answered)
    }
}

impl Enrolment {
    /// The chip, as records of its epochs name it.
    pub fn device(&self) -> TpmDevice {
        TpmDevice { key: self.key.into(), firmware: u64::from_be_bytes(self.firmware), pcr: self.pcr }
    }

    /// Signs it for a replica of a cluster, so that it may take the place of the chip that the cluster is configured with.
    #[must_use]
    pub fn approved(mut self, cluster: Digest, replica: ReplicaId, authority: &SecretKey) -> Self {
        let Approval(r, s) = Approval::of(self.device(), cluster, replica, authority);
        self.approval = [r, s].concat();
        self
    }

    /// What the chip says of itself. Nothing shows that it is true.
    pub fn platform(&self) -> &Platform {
        &self.platform
    }

    /// The authority's signature, if it was signed.
    pub fn approval(&self) -> Option<Approval> {
        let (r, s) = self.approval.split_at_checked(32)?;
        Some(Approval(r.try_into().ok()?, s.try_into().ok()?))
    }

    /// SHA-256 over the endorsement key's public area: the chip's identity, whatever happens to its other keys.
    pub fn endorsement_key(&self) -> &[u8; 32] {
        &self.endorsement_key
    }

    /// SHA-256 over the endorsement key's certificate, if the chip has one. Its chain was not checked.
    pub fn endorsement_certificate(&self) -> Option<&[u8]> {
        Some(self.endorsement_certificate.as_slice()).filter(|certificate| !certificate.is_empty())
    }
}

fn sha256(bytes: &[u8]) -> Vec<u8> {
    digest(&SHA256, bytes).as_ref().to_vec()
}

fn endorsement_area(point: &TpmPoint) -> Vec<u8> {
    [ENDORSEMENT_TEMPLATE.as_slice(), &[0, 32], &point.x, &[0, 32], &point.y].concat()
}

fn endorsement_template() -> Vec<u8> {
    endorsement_area(&TpmPoint { x: [0; 32], y: [0; 32] })
}

fn endorsement_point(key: &Loaded) -> Result<TpmPoint, TpmError> {
    let point = point_of(&key.public, ENDORSEMENT_TEMPLATE.len() + 4);
    point.filter(|point| endorsement_area(point) == key.public).ok_or(TpmError::PublicArea)
}

/// Bytes as hexadecimal digits.
mod hex {
    use serde::{Deserialize, Deserializer, Serializer, de::Error};
    use std::fmt::Write;

    pub(super) fn serialize<S: Serializer>(bytes: &impl AsRef<[u8]>, to: S) -> Result<S::Ok, S::Error> {
        let digits = bytes.as_ref().iter().fold(String::new(), |mut digits, byte| {
            // Writing to a string cannot fail.
            let _ = write!(digits, "{byte:02x}");
            digits
        });
        to.serialize_str(&digits)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>, T: TryFrom<Vec<u8>>>(from: D) -> Result<T, D::Error> {
        let text = String::deserialize(from)?;
        let digits: Option<Vec<u8>> = text.chars().map(|digit| digit.to_digit(16).map(|digit| digit as u8)).collect();
        let digits = digits.filter(|digits| digits.len() % 2 == 0);
        let digits = digits.ok_or_else(|| D::Error::custom("not bytes in hexadecimal digits"))?;
        let bytes: Vec<u8> =
            digits.chunks(2).map(|pair| pair.iter().fold(0, |byte, digit| byte << 4 | digit)).collect();
        T::try_from(bytes).map_err(|_| D::Error::custom("another number of bytes than belongs here"))
    }
}
