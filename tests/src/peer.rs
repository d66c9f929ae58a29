//! A replica's side of a link, made by hand: it says what no honest replica says.
//!
//! Nothing of the handshake's code is used, so what is written here is what other programs must keep to.

use quorate_protocol::{
    canonical,
    cluster::{Cluster, ReplicaMember},
    digest::Digest,
    ids::ReplicaId,
    sign::{SecretKey, Signed, Statement},
};
use serde::{Deserialize, Serialize};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

const MAGIC: &[u8; 8] = b"qrtlink\n";
/// The version of the replicas' protocol.
pub const VERSION: u16 = 2;
/// An X25519 key whose secret half nobody has: frames cannot be sealed with it, but their lengths can be said.
const FRESH: [u8; 32] = [9; 32];

/// Somebody who dials.
#[derive(Clone, Debug)]
pub struct Peer {
    /// Whom it says to be.
    pub from: ReplicaId,
    /// Of which cluster.
    pub cluster: Digest,
    /// With which key.
    pub key: SecretKey,
    /// In which version.
    pub version: u16,
}

#[derive(Clone, Serialize, Deserialize)]
struct Hello {
    cluster: Digest,
    from: ReplicaId,
    to: ReplicaId,
    fresh: [u8; 32],
}

#[derive(Serialize, Deserialize)]
enum Side {
    Dialer,
}

#[derive(Serialize, Deserialize)]
struct Transcript {
    version: u16,
    hello: Hello,
    fresh: [u8; 32],
    by: Side,
}

impl Statement for Transcript {
    const CONTEXT: &'static str = "quorate 2026 replica link v1";
    const BYTES_MAX: usize = 256;
}

#[derive(Serialize, Deserialize)]
enum Step {
    Refused(String),
    Accepted { fresh: [u8; 32], signature: ([u8; 32], [u8; 32]) },
    Confirmed { signature: ([u8; 32], [u8; 32]) },
    Welcome,
}

impl Peer {
    /// A member as it should be.
    pub fn new(cluster: &Cluster, from: ReplicaId, key: SecretKey) -> Self {
        Self { from, cluster: cluster.id(), key, version: VERSION }
    }

    /// Dials until it is welcome.
    ///
    /// # Errors
    /// Why it is refused.
    ///
    /// # Panics
    /// When the other side does not keep to the handshake.
    pub async fn dial(&self, to: &ReplicaMember) -> Result<TcpStream, String> {
        let mut stream = TcpStream::connect(&to.address).await.expect("it listens");
        let hello = Hello { cluster: self.cluster, from: self.from, to: to.id, fresh: FRESH };
        stream.write_all(&[MAGIC.as_slice(), &self.version.to_le_bytes()].concat()).await.expect("written");
        send(&mut stream, &hello).await;
        let fresh = match receive(&mut stream).await {
            Step::Accepted { fresh, .. } => fresh,
            Step::Refused(why) => return Err(why),
            Step::Confirmed { .. } | Step::Welcome => panic!("a step was left out"),
        };
        let said = Transcript { version: self.version, hello, fresh, by: Side::Dialer };
        let signature = Signed::seal(&said, &self.key).signature();
        let half = |half: &[u8]| half.try_into().expect("half of a signature");
        send(&mut stream, &Step::Confirmed { signature: (half(&signature[..32]), half(&signature[32..])) }).await;
        match receive(&mut stream).await {
            Step::Welcome => Ok(stream),
            Step::Refused(why) => Err(why),
            Step::Accepted { .. } | Step::Confirmed { .. } => panic!("a step was said twice"),
        }
    }
}

/// Answers whoever dials with a refusal.
pub async fn refuse(mut stream: TcpStream, why: &str) {
    send(&mut stream, &Step::Refused(why.to_owned())).await;
    // Until the dialer has read it and hangs up.
    let _ = stream.read_to_end(&mut Vec::new()).await;
}

/// What cannot be written is not read by anybody: then the answer tells why.
async fn send<T: Serialize>(stream: &mut TcpStream, message: &T) {
    let bytes = canonical::encode(message);
    let length = u16::try_from(bytes.len()).expect("short").to_le_bytes();
    let _ = stream.write_all(&[length.as_slice(), &bytes].concat()).await;
}

async fn receive(stream: &mut TcpStream) -> Step {
    let length = usize::from(stream.read_u16_le().await.expect("an answer"));
    let mut bytes = vec![0; length];
    stream.read_exact(&mut bytes).await.expect("an answer");
    canonical::decode(&bytes, length).expect("an answer")
}
