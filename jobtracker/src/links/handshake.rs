//! How two replicas come to know that they speak to each other, and to a key that only they have.
//!
//! The dialer says who it is, whom it wants, in which cluster, and gives an X25519 key made for this link. The other side
//! answers with its own and signs all of it; the dialer checks that, and signs all of it too. Both signatures cover both
//! fresh keys, the version, the cluster, both names and the side, so neither can be used anywhere else: the pattern is that
//! of SIGMA without hiding identities (Krawczyk, *SIGMA*, CRYPTO 2003).
//!
//! Where TPMs are trusted logs, the cluster's founding is part of what names the cluster: replicas that were founded differently do not
//! link.
//!
//! Whoever refuses says why, so that the reason stands in the log on both sides. That text is not authentic.

use crate::founding::Founding;
use quorate_protocol::{
    canonical,
    cluster::{Cluster, ReplicaMember},
    digest::Digest,
    ids::ReplicaId,
    sign::{PublicKey, SecretKey, Signed, Statement},
};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use std::{io, sync::Arc, time::Duration};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use x25519_dalek::{X25519_BASEPOINT_BYTES, x25519};

/// What a link begins with: no HTTP/2 connection begins so.
const MAGIC: [u8; 8] = *b"qrtlink\n";
/// The first byte of [`MAGIC`].
pub(crate) const FIRST_BYTE: u8 = MAGIC[0];
/// The version of everything that is said on a link.
const VERSION: u16 = 2;
/// A message of the handshake, in bytes.
const MESSAGE_BYTES_MAX: usize = 512;
/// What is shown of a peer's reason, in characters.
const REASON_CHARS_MAX: usize = 300;
/// How long a handshake may take.
const TIMEOUT: Duration = Duration::from_secs(3);
/// Derives a link's key from what only its ends know and from all that was said.
const KEY_CONTEXT: &str = "quorate 2026 replica link frames v1";

/// Why there is no link.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LinkError {
    /// The connection cannot be made or breaks.
    #[error("the connection fails")]
    Io(#[from] io::Error),
    /// The other side takes too long.
    #[error("the other side does not answer in time")]
    Timeout,
    /// The other side speaks something else.
    #[error("the other side does not speak as a replica does")]
    Garbled,
    /// The other side is of another version.
    #[error("the other side speaks version {got} of the replicas' protocol, and this program speaks version {VERSION}")]
    Version {
        /// Its version.
        got: u16,
    },
    /// The other side is of another cluster.
    #[error("the other side is configured for another cluster")]
    Cluster,
    /// The other side is of another cluster, or one that began otherwise.
    #[error("the other side is configured for another cluster, or started with another founding")]
    Founding,
    /// The other side looks for somebody else.
    #[error("the other side looks for {0} here")]
    Mistaken(ReplicaId),
    /// The other side is no replica that this one speaks to.
    #[error("{0} is not another replica of this cluster")]
    Stranger(ReplicaId),
    /// The other side does not have the key that the configuration has for it.
    #[error("the other side does not have the key that the cluster's configuration has for {0}")]
    Key(ReplicaId),
    /// The other side refuses, and says why.
    #[error("the other side refuses the link: {0:?}")]
    Refused(String),
    /// A frame is longer than any message.
    #[error("a frame of {got} bytes, and at most {max} are allowed")]
    TooLong {
        /// Its length in bytes.
        got: u64,
        /// The limit.
        max: usize,
    },
    /// A frame is not what the peer sent next.
    #[error("a frame was changed on its way")]
    Changed,
}

/// One replica, as it shows itself on links.
pub(crate) struct Identity {
    pub(crate) cluster: Arc<Cluster>,
    /// [`Cluster::id`], with the founding where there is one. Computed once.
    id: Digest,
    founded: bool,
    pub(crate) me: ReplicaId,
    key: SecretKey,
}

#[derive(Clone, Serialize, Deserialize)]
struct Hello {
    cluster: Digest,
    from: ReplicaId,
    to: ReplicaId,
    /// The dialer's key for this link.
    fresh: [u8; 32],
}

/// Which end of a link signs.
#[derive(Clone, Copy, Serialize, Deserialize)]
enum Side {
    Dialer,
    Listener,
}

/// All that was said, as a side signs it.
#[derive(Serialize, Deserialize)]
struct Transcript {
    version: u16,
    hello: Hello,
    /// The listener's key for this link.
    fresh: [u8; 32],
    by: Side,
}

impl Statement for Transcript {
    const CONTEXT: &'static str = "quorate 2026 replica link v1";
    const BYTES_MAX: usize = 256;
}

type SignatureBytes = ([u8; 32], [u8; 32]);

/// What follows the hello.
#[derive(Serialize, Deserialize)]
enum Step {
    /// The end: why. First, and for ever, so that all versions can read it.
    Refused(String),
    /// The listener's.
    Accepted { fresh: [u8; 32], signature: SignatureBytes },
    /// The dialer's.
    Confirmed { signature: SignatureBytes },
    /// The listener's: frames may come.
    Welcome,
}

impl Identity {
    pub(crate) fn new(cluster: Arc<Cluster>, founding: Option<&Founding>, me: ReplicaId, key: SecretKey) -> Self {
        let id = match founding {
            None => cluster.id(),
            Some(founding) => canonical::digest(&("quorate founded cluster", cluster.id(), founding.digest())),
        };
        Self { id, founded: founding.is_some(), cluster, me, key }
    }

    /// The other replicas.
    pub(crate) fn peers(&self) -> impl Iterator<Item = ReplicaId> {
        self.cluster.replicas.iter().map(|member| member.id).filter(|id| *id != self.me)
    }

    /// Its peer's place in the configuration.
    pub(crate) fn member(&self, peer: ReplicaId) -> Option<&ReplicaMember> {
        self.cluster.replica(peer).filter(|_| peer != self.me)
    }

    /// The dialer's side. Gives the link's key.
    pub(crate) async fn dial<S>(&self, peer: ReplicaId, stream: &mut S) -> Result<[u8; 32], LinkError>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        in_time(async {
            let result = self.dialing(peer, stream).await;
            refuse(result, stream).await
        })
        .await
    }

    async fn dialing<S>(&self, peer: ReplicaId, stream: &mut S) -> Result<[u8; 32], LinkError>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let member = self.member(peer).ok_or(LinkError::Stranger(peer))?;
        let (secret, fresh) = fresh_key()?;
        let hello = Hello { cluster: self.id, from: self.me, to: peer, fresh };
        stream.write_all(&[MAGIC.as_slice(), &VERSION.to_le_bytes()].concat()).await?;
        send(stream, &hello).await?;
        let (theirs, signature) = match receive(stream).await? {
            Step::Accepted { fresh, signature } => (fresh, signature),
            other => return Err(unexpected(other)),
        };
        let said = |by| Transcript { version: VERSION, hello: hello.clone(), fresh: theirs, by };
        verify(&said(Side::Listener), signature, &member.key).ok_or(LinkError::Key(peer))?;
        send(stream, &Step::Confirmed { signature: sign(&said(Side::Dialer), &self.key) }).await?;
        match receive(stream).await? {
            Step::Welcome => agree(secret, theirs, &said(Side::Listener)),
            other => Err(unexpected(other)),
        }
    }

    /// The listener's side. Gives the dialer's name and the link's key.
    pub(crate) async fn accept<S>(&self, stream: &mut S) -> Result<(ReplicaId, [u8; 32]), LinkError>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        in_time(async {
            let result = self.accepting(stream).await;
            refuse(result, stream).await
        })
        .await
    }

    async fn accepting<S>(&self, stream: &mut S) -> Result<(ReplicaId, [u8; 32]), LinkError>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let mut greeting = [0; MAGIC.len() + 2];
        stream.read_exact(&mut greeting).await?;
        let [magic @ .., low, high] = greeting;
        if magic != MAGIC {
            return Err(LinkError::Garbled);
        }
        let version = u16::from_le_bytes([low, high]);
        if version != VERSION {
            return Err(LinkError::Version { got: version });
        }
        let hello: Hello = receive(stream).await?;
        if hello.cluster != self.id {
            return Err(if self.founded { LinkError::Founding } else { LinkError::Cluster });
        }
        if hello.to != self.me {
            return Err(LinkError::Mistaken(hello.to));
        }
        let from = hello.from;
        let member = self.member(from).ok_or(LinkError::Stranger(from))?;
        let (secret, fresh) = fresh_key()?;
        let theirs = hello.fresh;
        let said = |by| Transcript { version: VERSION, hello: hello.clone(), fresh, by };
        send(stream, &Step::Accepted { fresh, signature: sign(&said(Side::Listener), &self.key) }).await?;
        let signature = match receive(stream).await? {
            Step::Confirmed { signature } => signature,
            other => return Err(unexpected(other)),
        };
        verify(&said(Side::Dialer), signature, &member.key).ok_or(LinkError::Key(from))?;
        let key = agree(secret, theirs, &said(Side::Listener))?;
        send(stream, &Step::Welcome).await?;
        Ok((from, key))
    }
}

async fn in_time<T>(handshake: impl Future<Output = Result<T, LinkError>>) -> Result<T, LinkError> {
    tokio::time::timeout(TIMEOUT, handshake).await.unwrap_or(Err(LinkError::Timeout))
}

/// Tells the other side why it is refused, when it did not say so itself.
async fn refuse<T, S: AsyncWrite + Unpin>(result: Result<T, LinkError>, stream: &mut S) -> Result<T, LinkError> {
    match &result {
        Ok(_)
        | Err(LinkError::Io(_) | LinkError::Timeout | LinkError::Refused(_))
        // Whoever speaks something else would not understand.
        | Err(LinkError::Garbled) => {}
        Err(why) => {
            // It may have hung up already, and the reason is in this side's log in any case.
            let _ = send(stream, &Step::Refused(why.to_string())).await;
        }
    }
    result
}

fn unexpected(step: Step) -> LinkError {
    match step {
        Step::Refused(why) => LinkError::Refused(why.chars().take(REASON_CHARS_MAX).collect()),
        Step::Accepted { .. } | Step::Confirmed { .. } | Step::Welcome => LinkError::Garbled,
    }
}

/// A secret for one link, with its public half.
fn fresh_key() -> Result<([u8; 32], [u8; 32]), LinkError> {
    let mut secret = [0; 32];
    getrandom::fill(&mut secret).map_err(|error| io::Error::other(error.to_string()))?;
    Ok((secret, x25519(secret, X25519_BASEPOINT_BYTES)))
}

/// The link's key: both ends compute the same one, and nobody else can.
fn agree(secret: [u8; 32], theirs: [u8; 32], said: &Transcript) -> Result<[u8; 32], LinkError> {
    let shared = x25519(secret, theirs);
    // A key of low order gives a secret that everybody knows.
    if shared == [0; 32] {
        return Err(LinkError::Garbled);
    }
    Ok(blake3::derive_key(KEY_CONTEXT, &canonical::encode(&(shared, said))))
}

fn sign(said: &Transcript, key: &SecretKey) -> SignatureBytes {
    let signature = Signed::seal(said, key).signature();
    let (mut r, mut s) = ([0; 32], [0; 32]);
    r.copy_from_slice(&signature[..32]);
    s.copy_from_slice(&signature[32..]);
    (r, s)
}

fn verify(said: &Transcript, signature: SignatureBytes, key: &PublicKey) -> Option<()> {
    let mut both = [0; 64];
    both[..32].copy_from_slice(&signature.0);
    both[32..].copy_from_slice(&signature.1);
    Signed::<Transcript>::from_parts(canonical::encode(said), &both).verify_signature(key).ok()
}

async fn send<S: AsyncWrite + Unpin, T: Serialize>(stream: &mut S, message: &T) -> Result<(), LinkError> {
    let bytes = canonical::encode(message);
    assert!(bytes.len() <= MESSAGE_BYTES_MAX, "handshake messages are short");
    let length = (bytes.len() as u16).to_le_bytes();
    stream.write_all(&[length.as_slice(), &bytes].concat()).await?;
    Ok(stream.flush().await?)
}

async fn receive<S: AsyncRead + Unpin, T: Serialize + DeserializeOwned>(stream: &mut S) -> Result<T, LinkError> {
    let length = usize::from(stream.read_u16_le().await?);
    if length > MESSAGE_BYTES_MAX {
        return Err(LinkError::Garbled);
    }
    let mut bytes = vec![0; length];
    stream.read_exact(&mut bytes).await?;
    canonical::decode(&bytes, MESSAGE_BYTES_MAX).map_err(|_| LinkError::Garbled)
}

#[cfg(test)]
mod tests;
