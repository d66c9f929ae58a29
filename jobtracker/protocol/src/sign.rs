//! Ed25519 signatures over canonical bytes, and the types that keep the unverified apart from the verified.

use crate::{
    canonical::{self, DecodeError},
    spent,
};
use ed25519_dalek::{Signer, SigningKey};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use std::{fmt, marker::PhantomData, ops::Deref};

/// A public key. Its text form is 64 hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PublicKey([u8; 32]);

impl fmt::Display for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|b| write!(f, "{b:02x}"))
    }
}
impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.to_string()[..8])
    }
}

fn from_hex(text: &str) -> Option<[u8; 32]> {
    let digits: Vec<u8> = text.chars().map(|c| c.to_digit(16).map(|d| d as u8)).collect::<Option<_>>()?;
    let bytes: Vec<u8> = digits.chunks(2).map(|pair| pair.iter().fold(0, |byte, digit| byte << 4 | digit)).collect();
    if digits.len() == 64 { bytes.try_into().ok() } else { None }
}

impl std::str::FromStr for PublicKey {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        from_hex(text).map(Self).ok_or_else(|| "a public key is 64 hexadecimal digits".to_owned())
    }
}

impl Serialize for PublicKey {
    fn serialize<S: serde::Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        if to.is_human_readable() { to.collect_str(self) } else { self.0.serialize(to) }
    }
}

impl<'de> Deserialize<'de> for PublicKey {
    fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        if from.is_human_readable() {
            String::deserialize(from)?.parse().map_err(serde::de::Error::custom)
        } else {
            <[u8; 32]>::deserialize(from).map(Self)
        }
    }
}

/// A secret key. It never travels; its file form is 64 hexadecimal digits.
#[derive(Clone)]
pub struct SecretKey(SigningKey);

impl fmt::Debug for SecretKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SecretKey(of {:?})", self.public())
    }
}

impl SecretKey {
    /// A new key from the operating system's randomness.
    ///
    /// # Errors
    /// When the operating system has none to give.
    pub fn generate() -> Result<Self, getrandom::Error> {
        let mut seed = [0; 32];
        getrandom::fill(&mut seed)?;
        Ok(Self::from_seed(seed))
    }
    /// The key of a seed: tests use fixed ones.
    pub fn from_seed(seed: [u8; 32]) -> Self {
        Self(SigningKey::from_bytes(&seed))
    }
    /// Its public half.
    pub fn public(&self) -> PublicKey {
        PublicKey(self.0.verifying_key().to_bytes())
    }
    /// The form kept in a key file.
    pub fn to_hex(&self) -> String {
        self.0.to_bytes().iter().map(|b| format!("{b:02x}")).collect()
    }
    /// Reads the form kept in a key file; `None` when it is not one.
    pub fn from_hex(text: &str) -> Option<Self> {
        from_hex(text.trim()).map(Self::from_seed)
    }
}

/// A type that is signed, with the context that keeps its signatures from passing for another type's.
pub trait Statement: Serialize + DeserializeOwned {
    /// Unique text, part of what is signed.
    const CONTEXT: &'static str;
    /// The longest encoding, in bytes.
    const BYTES_MAX: usize;
}

/// Why a signed statement was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Rejection {
    /// The bytes are not the statement.
    #[error("the signed bytes are refused: {0}")]
    Decode(#[from] DecodeError),
    /// The signature is not of this key over these bytes.
    #[error("the signature is not of the key {0}")]
    Signature(PublicKey),
}

/// A statement from outside with a signature: nothing is known of it until it is verified.
#[derive(PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(bound = "")]
pub struct Signed<T> {
    bytes: Vec<u8>,
    /// R and s, the two halves of an Ed25519 signature.
    signature: ([u8; 32], [u8; 32]),
    #[serde(skip)]
    of: PhantomData<fn() -> T>,
}

impl<T> Clone for Signed<T> {
    fn clone(&self) -> Self {
        Self { bytes: self.bytes.clone(), signature: self.signature, of: PhantomData }
    }
}
impl<T> fmt::Debug for Signed<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Signed<{}>({} bytes)", std::any::type_name::<T>(), self.bytes.len())
    }
}

fn message(context: &str, bytes: &[u8]) -> [u8; 32] {
    *blake3::Hasher::new_derive_key(context).update(bytes).finalize().as_bytes()
}

impl<T: Statement> Signed<T> {
    /// Signs a statement.
    pub fn seal(value: &T, key: &SecretKey) -> Self {
        Self::seal_bytes(canonical::encode(value), key)
    }

    /// Signs bytes that may be no statement at all. Honest code has no use for it; a liar has.
    pub fn seal_bytes(bytes: Vec<u8>, key: &SecretKey) -> Self {
        spent::signed();
        let signature = key.0.sign(&message(T::CONTEXT, &bytes)).to_bytes();
        Self::from_parts(bytes, &signature)
    }

    /// Checks that `key` signed exactly these bytes, without reading them.
    ///
    /// # Errors
    /// [`Rejection::Signature`].
    pub fn verify_signature(&self, key: &PublicKey) -> Result<(), Rejection> {
        spent::verified();
        let wrong = || Rejection::Signature(*key);
        let verifying = ed25519_dalek::VerifyingKey::from_bytes(&key.0).map_err(|_| wrong())?;
        let signature = ed25519_dalek::Signature::from_bytes(&self.signature());
        verifying.verify_strict(&message(T::CONTEXT, &self.bytes), &signature).map_err(|_| wrong())
    }

    /// Checks that `key` signed it, and reads it.
    ///
    /// # Errors
    /// [`Rejection`] when the signature is of another key or other bytes, or the bytes are not the statement.
    pub fn verify(&self, key: &PublicKey) -> Result<Verified<T>, Rejection> {
        self.verify_signature(key)?;
        Ok(Verified(self.peek()?))
    }

    /// Reads what it *claims*, to find out whose key to verify it with.
    ///
    /// # Errors
    /// [`DecodeError`] when the bytes are not the statement.
    pub fn peek(&self) -> Result<T, DecodeError> {
        canonical::decode(&self.bytes, T::BYTES_MAX)
    }

    /// The signature alone: R and s of Ed25519. For whoever knows the bytes without being told.
    pub fn signature(&self) -> [u8; 64] {
        let mut signature = [0; 64];
        signature[..32].copy_from_slice(&self.signature.0);
        signature[32..].copy_from_slice(&self.signature.1);
        signature
    }

    /// Joins bytes and a signature that came apart. Nothing is known of them until they are verified.
    pub fn from_parts(bytes: Vec<u8>, signature: &[u8; 64]) -> Self {
        let (mut r, mut s) = ([0; 32], [0; 32]);
        r.copy_from_slice(&signature[..32]);
        s.copy_from_slice(&signature[32..]);
        Self { bytes, signature: (r, s), of: PhantomData }
    }

    /// The signed bytes.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The whole, for the wire.
    pub fn to_wire(&self) -> Vec<u8> {
        canonical::encode(self)
    }

    /// Reads the wire form. The statement inside stays unverified.
    ///
    /// # Errors
    /// [`DecodeError`] when it is no signed statement or too long.
    pub fn from_wire(bytes: &[u8]) -> Result<Self, DecodeError> {
        canonical::decode(bytes, T::BYTES_MAX + 128)
    }
}

/// A statement whose signature was checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verified<T>(T);

impl<T> Verified<T> {
    /// The statement itself.
    pub fn into_inner(self) -> T {
        self.0
    }
}

impl<T> Deref for Verified<T> {
    type Target = T;
    fn deref(&self) -> &T {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Serialize, Deserialize, PartialEq, Debug)]
    struct Note(u64);
    impl Statement for Note {
        const CONTEXT: &'static str = "quorate test note";
        const BYTES_MAX: usize = 16;
    }
    #[derive(Serialize, Deserialize, PartialEq, Debug)]
    struct Other(u64);
    impl Statement for Other {
        const CONTEXT: &'static str = "quorate test other";
        const BYTES_MAX: usize = 16;
    }

    #[test]
    fn a_signature_holds_for_its_key_bytes_and_type_only() {
        let (key, stranger) = (SecretKey::from_seed([1; 32]), SecretKey::from_seed([2; 32]));
        let signed = Signed::seal(&Note(9), &key);
        assert_eq!(signed.verify(&key.public()).map(Verified::into_inner), Ok(Note(9)));
        assert!(matches!(signed.verify(&stranger.public()), Err(Rejection::Signature(_))));
        let wire = signed.to_wire();
        assert!(Signed::<Other>::from_wire(&wire).expect("same shape").verify(&key.public()).is_err());
        for bit in 0..wire.len() * 8 {
            let mut wire = wire.clone();
            wire[bit / 8] ^= 1 << (bit % 8);
            let accepted = Signed::<Note>::from_wire(&wire).is_ok_and(|s| s.verify(&key.public()).is_ok());
            assert!(!accepted, "bit {bit} flipped and still accepted");
        }
    }

    #[test]
    fn keys_survive_their_text_form() {
        let key = SecretKey::from_seed([3; 32]);
        assert_eq!(SecretKey::from_hex(&key.to_hex()).map(|k| k.public()), Some(key.public()));
        assert_eq!(key.public().to_string().parse(), Ok(key.public()));
        assert!("zz".parse::<PublicKey>().is_err());
        assert!("ß".repeat(32).parse::<PublicKey>().is_err());
    }
}
