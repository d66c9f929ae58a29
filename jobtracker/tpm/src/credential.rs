//! Makes a credential: a secret that only the chip with a certain endorsement key can open, and only when a key of a certain name is in it too.
//!
//! TPM 2.0 Library, part 1: 11.4.10 (key derivation), 24 (credential protection), C.6 (ECDH). No chip is needed for it.

use crate::wire::Writer;
use aes::{Aes128, cipher::KeyIvInit};
use quorate_counter::TpmPoint;
use ring::{
    agreement::{self, ECDH_P256, EphemeralPrivateKey},
    digest, hmac,
    rand::SystemRandom,
};

/// A secret, encrypted for a chip.
pub(crate) struct Credential {
    /// `TPMS_ID_OBJECT`: a MAC, and the encrypted secret.
    pub(crate) object: Vec<u8>,
    /// What the chip derives the keys from: a point on P-256.
    pub(crate) encrypted_seed: Vec<u8>,
}

/// Encrypts a secret for the chip with this endorsement key and a key of this name. `None` when the point is not on the curve, or there is
/// no randomness.
pub(crate) fn make(endorsement_key: &TpmPoint, name: &[u8], secret: &[u8]) -> Option<Credential> {
    let own = EphemeralPrivateKey::generate(&ECDH_P256, &SystemRandom::new()).ok()?;
    let own_point = own.compute_public_key().ok()?;
    let (x, y) = own_point.as_ref().get(1..)?.split_at_checked(32)?;
    let theirs = [&[4], endorsement_key.x.as_slice(), &endorsement_key.y].concat();
    let theirs = agreement::UnparsedPublicKey::new(&ECDH_P256, theirs);
    let derive = |shared: &[u8]| kdf_e(shared, b"IDENTITY\0", x, &endorsement_key.x);
    let seed = agreement::agree_ephemeral(own, &theirs, derive).ok()?;

    let mut encrypted = Writer::new().sized(secret).done();
    let key: [u8; 16] = kdf_a(&seed, b"STORAGE\0", name, 128).get(..16)?.try_into().ok()?;
    cfb_mode::Encryptor::<Aes128>::new(&key.into(), &[0; 16].into()).encrypt(&mut encrypted);
    let mac = hmac::Key::new(hmac::HMAC_SHA256, &kdf_a(&seed, b"INTEGRITY\0", &[], 256));
    let mac = hmac::sign(&mac, &[&encrypted, name].concat());
    Some(Credential {
        object: Writer::new().sized(mac.as_ref()).bytes(&encrypted).done(),
        encrypted_seed: Writer::new().sized(x).sized(y).done(),
    })
}

/// KDFe: from the shared secret of two points.
fn kdf_e(shared: &[u8], label: &[u8], own: &[u8], theirs: &[u8]) -> Vec<u8> {
    let input = [&1u32.to_be_bytes(), shared, label, own, theirs].concat();
    digest::digest(&digest::SHA256, &input).as_ref().to_vec()
}

/// KDFa: a key of up to 256 bits from a seed.
fn kdf_a(seed: &[u8], label: &[u8], context: &[u8], bits: u32) -> Vec<u8> {
    let input = [&1u32.to_be_bytes(), label, context, &bits.to_be_bytes()].concat();
    hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, seed), &input).as_ref().to_vec()
}
