//! The contract that all of Quorate's processes speak.
//!
//! Everything here is data: ids and amounts, the one canonical encoding of what is hashed or signed, signed
//! statements, the ordered commands with their replies, the limits, and (feature `grpc`) the wire services. No I/O, no
//! clock. The only randomness is key generation, in [`sign::SecretKey::generate`].
//!
//! Two rules hold everywhere:
//!
//! * a value that is hashed or signed has exactly one encoding, [`canonical`]; decoding refuses any other;
//! * bytes from another process are [`sign::Signed`] (unverified) until [`sign::Signed::verify`] has made them
//!   [`sign::Verified`].

pub mod canonical;
pub mod certificate;
pub mod cluster;
pub mod command;
pub mod digest;
pub mod enrolled;
pub mod evidence;
pub mod file;
pub mod fork;
pub mod ids;
pub mod job;
pub mod limits;
pub mod query;
pub mod sign;
pub mod spent;
pub mod vote;

/// The gRPC messages and services, generated from `proto/quorate.proto`.
#[cfg(feature = "grpc")]
#[allow(missing_docs, clippy::all, unreachable_pub, unused_qualifications)]
pub mod wire {
    tonic::include_proto!("quorate.v1");
}
