//! The software log in a process of its own, behind a Unix socket. Both ends block, and only need the standard library.
//!
//! The helper may belong to another user than the replica, so that a replica which is broken into can neither read the key
//! nor put an older head back. One client is served at a time; others wait. Who connects is known from the
//! kernel, and everybody but the one user for whom the helper works is turned away.
//!
//! A frame is a length of four bytes, little-endian, and as many bytes of canonical encoding. Each answer tells the epoch and the
//! head, so a client whose connection broke finds out whether its digests were appended before.

use crate::{
    chain::{CERTIFICATE_BYTES_MAX, Certificate, Epoch, EpochRecord, Head},
    device::{APPEND_DIGESTS_MAX, Attestation, DeviceError, TrustedLog, above, bounded},
};
use quorate_protocol::{canonical, digest::Digest};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use std::{
    convert::Infallible,
    fs::{self, Permissions},
    io::{self, Read, Write},
    os::unix::{
        fs::{FileTypeExt, PermissionsExt},
        net::{UnixListener, UnixStream},
    },
    path::{Path, PathBuf},
    time::Duration,
};

const REQUEST_BYTES_MAX: usize = 16 + 32 * APPEND_DIGESTS_MAX;
const ANSWER_BYTES_MAX: usize = CERTIFICATE_BYTES_MAX + 1024;
/// Characters of the reason why a device failed.
const REASON_MAX: usize = 128;

#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
enum Request {
    Append(Vec<Digest>),
    Renew(Epoch),
}

#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
enum Answer {
    /// It is done, and the log stands here.
    Done(EpochRecord, Head, Certificate),
    NotAbove {
        asked: Epoch,
        have: Epoch,
    },
    TooMany {
        got: u64,
    },
    Failed(String),
}

/// The number of the user that this process runs as.
pub fn own_user() -> u32 {
    rustix::process::geteuid().as_raw()
}

/// Opens the helper's socket for one user, in place of one that a former helper left.
///
/// # Errors
/// When the socket cannot be made, or its path is taken: by something that is not a socket, or by one that somebody
/// listens to.
pub fn listen(path: &Path, client: u32) -> io::Result<UnixListener> {
    if fs::symlink_metadata(path).is_ok_and(|left| left.file_type().is_socket()) {
        // Only a socket that nobody listens to refuses.
        match UnixStream::connect(path) {
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => fs::remove_file(path)?,
            Ok(_) => return Err(io::ErrorKind::AddrInUse.into()),
            Err(error) => return Err(error),
        }
    }
    let listener = UnixListener::bind(path)?;
    // Another user could not open a socket of ours alone. `serve` asks the kernel who came, whatever the mode.
    let mode = if client == own_user() { 0o600 } else { 0o666 };
    fs::set_permissions(path, Permissions::from_mode(mode))?;
    Ok(listener)
}

/// Serves a log to one user, one connection after the other, until the socket fails.
///
/// # Errors
/// That of the socket. Clients cannot end it.
pub fn serve(listener: &UnixListener, mut log: Box<dyn TrustedLog>, client: u32) -> io::Result<Infallible> {
    loop {
        let (stream, _) = match listener.accept() {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            accepted => accepted?,
        };
        let known = rustix::net::sockopt::socket_peercred(&stream).is_ok_and(|peer| peer.uid.as_raw() == client);
        if known {
            // The connection has ended, by whatever error: there is nobody left to tell.
            let _ = converse(stream, log.as_mut());
        }
    }
}

fn converse(mut stream: UnixStream, log: &mut dyn TrustedLog) -> io::Result<Infallible> {
    loop {
        let request = receive(&mut stream, REQUEST_BYTES_MAX)?;
        send(&mut stream, &answer(request, log))?;
    }
}

fn answer(request: Request, log: &mut dyn TrustedLog) -> Answer {
    let done = match request {
        Request::Append(digests) => log.append(&digests),
        Request::Renew(epoch) => log.renew(epoch).and_then(|()| log.append(&[])),
    };
    match done {
        Ok(Attestation { head, certificate }) => Answer::Done(log.record().clone(), head, certificate),
        Err(DeviceError::NotAbove { asked, have }) => Answer::NotAbove { asked, have },
        Err(DeviceError::TooMany { got }) => Answer::TooMany { got: got as u64 },
        Err(DeviceError::Unreachable(cause) | DeviceError::Storage(cause)) => {
            Answer::Failed(reason(&cause.to_string()))
        }
        Err(DeviceError::Malfunction(what)) => Answer::Failed(reason(&what)),
        Err(lost @ DeviceError::Lost { .. }) => Answer::Failed(reason(&lost.to_string())),
    }
}

fn reason(text: &str) -> String {
    text.chars().take(REASON_MAX).collect()
}

fn send<T: Serialize>(stream: &mut UnixStream, value: &T) -> io::Result<()> {
    let bytes = canonical::encode(value);
    let length = u32::try_from(bytes.len()).map_err(io::Error::other)?;
    stream.write_all(&[&length.to_le_bytes(), bytes.as_slice()].concat())
}

fn receive<T: Serialize + DeserializeOwned>(stream: &mut UnixStream, bytes_max: usize) -> io::Result<T> {
    let mut length = [0; 4];
    stream.read_exact(&mut length)?;
    let length = u32::from_le_bytes(length) as usize;
    let invalid = |error| io::Error::new(io::ErrorKind::InvalidData, error);
    if length > bytes_max {
        return Err(invalid(canonical::DecodeError::TooLong { got: length, max: bytes_max }));
    }
    let mut bytes = vec![0; length];
    stream.read_exact(&mut bytes)?;
    canonical::decode(&bytes, bytes_max).map_err(invalid)
}

/// The client's end: a trusted log that is in a helper process.
#[derive(Debug)]
pub struct Remote {
    path: PathBuf,
    /// For each exchange.
    timeout: Duration,
    stream: Option<UnixStream>,
    record: EpochRecord,
    /// As the helper told it last.
    head: Head,
}

impl Remote {
    /// Connects to a helper, and asks where its log stands. Whose log it is, is for the caller to check.
    ///
    /// # Errors
    /// [`DeviceError`].
    pub fn connect(path: &Path, timeout: Duration) -> Result<Self, DeviceError> {
        let mut stream = Some(connect(path, timeout).map_err(DeviceError::Unreachable)?);
        let (record, attestation) = exchange(&mut stream, path, timeout, &Request::Append(Vec::new()))?;
        Ok(Self { path: path.to_owned(), timeout, stream, record, head: attestation.head })
    }

    fn ask(&mut self, request: &Request) -> Result<(EpochRecord, Attestation), DeviceError> {
        exchange(&mut self.stream, &self.path, self.timeout, request)
    }

    /// Has a request done that takes the log to this place. If the connection breaks, it is made once more, and
    /// the request only repeated when the log still stands where it was.
    fn bring(&mut self, request: &Request, record: EpochRecord, head: Head) -> Result<Attestation, DeviceError> {
        let answer = match self.ask(request) {
            Err(DeviceError::Unreachable(_)) => {
                let (there, attestation) = self.ask(&Request::Append(Vec::new()))?;
                if there == self.record && attestation.head == self.head && attestation.head != head {
                    self.ask(request)
                } else {
                    Ok((there, attestation))
                }
            }
            answer => answer,
        };
        let (there, attestation) = answer?;
        if there != record || attestation.head != head {
            return Err(DeviceError::Malfunction(format!(
                "it stands at position {} of epoch {}, and not at position {} of epoch {} as it should",
                attestation.head.position, there.epoch.0, head.position, record.epoch.0
            )));
        }
        (self.record, self.head) = (record, head);
        Ok(attestation)
    }
}

fn connect(path: &Path, timeout: Duration) -> io::Result<UnixStream> {
    let stream = UnixStream::connect(path)?;
    stream.set_read_timeout(Some(timeout))?;
    stream.set_write_timeout(Some(timeout))?;
    Ok(stream)
}

/// Asks and waits for the answer, over a new connection when there is none. A connection on which anything went wrong is
/// given up: its next answer could be the one to an earlier request.
fn exchange(
    stream: &mut Option<UnixStream>,
    path: &Path,
    timeout: Duration,
    request: &Request,
) -> Result<(EpochRecord, Attestation), DeviceError> {
    let talk = |stream: &mut UnixStream| {
        send(stream, request)?;
        receive(stream, ANSWER_BYTES_MAX)
    };
    let mut connection = match stream.take() {
        Some(connection) => connection,
        None => connect(path, timeout).map_err(DeviceError::Unreachable)?,
    };
    let answer = match talk(&mut connection) {
        Ok(answer) => answer,
        Err(error) if error.kind() == io::ErrorKind::InvalidData => {
            return Err(DeviceError::Malfunction(format!("its answer cannot be read: {error}")));
        }
        Err(error) => return Err(DeviceError::Unreachable(error)),
    };
    *stream = Some(connection);
    match answer {
        Answer::Done(record, head, certificate) => Ok((record, Attestation { head, certificate })),
        Answer::NotAbove { asked, have } => Err(DeviceError::NotAbove { asked, have }),
        Answer::TooMany { got } => Err(DeviceError::TooMany { got: usize::try_from(got).unwrap_or(usize::MAX) }),
        Answer::Failed(why) => Err(DeviceError::Malfunction(why)),
    }
}

impl TrustedLog for Remote {
    fn record(&self) -> &EpochRecord {
        &self.record
    }

    fn append(&mut self, digests: &[Digest]) -> Result<Attestation, DeviceError> {
        bounded(digests)?;
        let head = self.record.extend(self.head, digests.iter().copied());
        self.bring(&Request::Append(digests.to_vec()), self.record.clone(), head)
    }

    fn renew(&mut self, epoch: Epoch) -> Result<(), DeviceError> {
        above(epoch, self.record.epoch)?;
        let record = EpochRecord { epoch, ..self.record.clone() };
        let genesis = record.genesis();
        self.bring(&Request::Renew(epoch), record, genesis).map(drop)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::software::Software;
    use proptest::prelude::*;
    use quorate_protocol::{ids::ReplicaId, sign::SecretKey};

    fn software() -> Software {
        Software::new(SecretKey::from_seed([9; 32]), Digest::of(b"cluster"), ReplicaId::new(1), Epoch(0))
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        /// Whatever a client sends, the helper neither panics nor does anything but what it was asked.
        #[test]
        fn garbage_ends_the_conversation_and_moves_nothing(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let (mut client, server) = UnixStream::pair().expect("a pair");
            client.write_all(&(bytes.len() as u32).to_le_bytes()).expect("writes");
            client.write_all(&bytes).expect("writes");
            client.shutdown(std::net::Shutdown::Write).expect("shuts");
            let request = canonical::decode::<Request>(&bytes, REQUEST_BYTES_MAX);
            let mut log = software();
            let before = (log.record().clone(), log.append(&[]).expect("attests").head);
            prop_assert!(converse(server, &mut log).is_err());
            let after = (log.record().clone(), log.append(&[]).expect("attests").head);
            prop_assert!(request.is_ok() || before == after);
        }
    }

    #[test]
    fn requests_are_read_at_the_bound_and_refused_one_above() {
        let exchange = |digests: usize| {
            let (mut client, server) = UnixStream::pair().expect("a pair");
            let helper = std::thread::spawn(move || converse(server, &mut software()));
            // The helper may hang up before all is written.
            let _ = send(&mut client, &Request::Append(vec![Digest::of(b"d"); digests]));
            let answer = receive::<Answer>(&mut client, ANSWER_BYTES_MAX);
            drop(client);
            assert!(helper.join().expect("no panic").is_err());
            answer
        };
        assert!(matches!(exchange(APPEND_DIGESTS_MAX), Ok(Answer::Done(..))));
        assert!(exchange(APPEND_DIGESTS_MAX + 1).is_err(), "not even read");
    }

    #[test]
    fn the_longest_answers_fit() {
        let record = EpochRecord { epoch: Epoch(u64::MAX), ..software().record().clone() };
        let head = Head { position: crate::Position(u64::MAX), chain: Digest::of(b"c") };
        let done = Answer::Done(record, head, Certificate(vec![0; CERTIFICATE_BYTES_MAX]));
        let failed = Answer::Failed(reason(&"🦀".repeat(REASON_MAX + 1)));
        for answer in [done, failed] {
            assert!(canonical::encode(&answer).len() <= ANSWER_BYTES_MAX);
        }
    }
}
