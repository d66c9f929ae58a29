//! The way to a chip: the kernel's device, or the socket of a TPM in software. One command goes out, one answer comes back.

use crate::error::TpmError;
use std::{
    fmt,
    fs::{File, OpenOptions},
    io::{self, Read, Write},
    net::TcpStream,
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
    str::FromStr,
    time::Duration,
};

/// The longest answer of a chip in bytes: that of the PC profile.
pub(crate) const ANSWER_BYTES_MAX: usize = 4096;
/// Length of a command's and an answer's beginning: tag, length, code.
pub(crate) const HEADER_BYTES: usize = 10;
/// How long a socket may stay silent. A slow chip makes a key in several seconds; a device has its driver's own limit.
const SILENCE_MAX: Duration = Duration::from_secs(60);

/// Where a chip is. Its text form is that of the TPM software stack, as far as it goes.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Tcti {
    /// A device file: `device:/dev/tpmrm0`.
    Device(PathBuf),
    /// A Unix socket: `swtpm:path=/sock`.
    SwtpmPath(PathBuf),
    /// A TCP port: `swtpm:host=127.0.0.1,port=2321`.
    SwtpmHost(String, u16),
}

impl FromStr for Tcti {
    type Err = TpmError;
    fn from_str(text: &str) -> Result<Self, TpmError> {
        read(text).ok_or_else(|| TpmError::Address(text.to_owned()))
    }
}

fn read(text: &str) -> Option<Tcti> {
    let (kind, rest) = text.split_once(':')?;
    if rest.is_empty() {
        return None;
    }
    match kind {
        "device" => Some(Tcti::Device(rest.into())),
        "swtpm" => match rest.split_once(',') {
            None => rest.strip_prefix("path=").filter(|path| !path.is_empty()).map(|path| Tcti::SwtpmPath(path.into())),
            Some((host, port)) => {
                let host = host.strip_prefix("host=").filter(|host| !host.is_empty())?;
                let port = port.strip_prefix("port=")?.parse().ok()?;
                Some(Tcti::SwtpmHost(host.to_owned(), port))
            }
        },
        _ => None,
    }
}

impl fmt::Display for Tcti {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Device(path) => write!(f, "device:{}", path.display()),
            Self::SwtpmPath(path) => write!(f, "swtpm:path={}", path.display()),
            Self::SwtpmHost(host, port) => write!(f, "swtpm:host={host},port={port}"),
        }
    }
}

#[derive(Debug)]
enum Stream {
    Device(File),
    Unix(UnixStream),
    Tcp(TcpStream),
}

/// An open way to a chip. After an error it is closed: its next answer could be the one to an earlier command.
#[derive(Debug)]
pub(crate) struct Transport(Option<Stream>);

impl Transport {
    pub(crate) fn open(tcti: &Tcti) -> Result<Self, TpmError> {
        let stream = match tcti {
            Tcti::Device(path) => {
                let file = OpenOptions::new().read(true).write(true).open(path);
                Stream::Device(file.map_err(|error| explained(path, error))?)
            }
            Tcti::SwtpmPath(path) => {
                let stream = UnixStream::connect(path).map_err(|error| explained(path, error))?;
                let limits = stream.set_read_timeout(Some(SILENCE_MAX));
                limits.and_then(|()| stream.set_write_timeout(Some(SILENCE_MAX))).map_err(TpmError::Io)?;
                Stream::Unix(stream)
            }
            Tcti::SwtpmHost(host, port) => {
                let connect = || {
                    let stream = TcpStream::connect((host.as_str(), *port))?;
                    stream.set_nodelay(true)?;
                    stream.set_read_timeout(Some(SILENCE_MAX))?;
                    stream.set_write_timeout(Some(SILENCE_MAX))?;
                    Ok(stream)
                };
                Stream::Tcp(connect().map_err(TpmError::Io)?)
            }
        };
        Ok(Self(Some(stream)))
    }

    /// Sends a command and waits for its answer.
    pub(crate) fn exchange(&mut self, command: &[u8]) -> io::Result<Vec<u8>> {
        let mut stream = self.0.take().ok_or(io::ErrorKind::NotConnected)?;
        let answer = match &mut stream {
            Stream::Device(file) => once(file, command),
            Stream::Unix(stream) => framed(stream, command).map_err(silent),
            Stream::Tcp(stream) => framed(stream, command).map_err(silent),
        }?;
        self.0 = Some(stream);
        Ok(answer)
    }
}

fn explained(path: &Path, error: io::Error) -> TpmError {
    match error.kind() {
        io::ErrorKind::NotFound => TpmError::Absent(path.to_owned()),
        io::ErrorKind::PermissionDenied => TpmError::Permission(path.to_owned()),
        _ => TpmError::Io(error),
    }
}

/// What the operating system calls "would block" is silence.
fn silent(error: io::Error) -> io::Error {
    if error.kind() != io::ErrorKind::WouldBlock {
        return error;
    }
    let words = format!("no answer for {} s: a TPM in software serves one connection at a time", SILENCE_MAX.as_secs());
    io::Error::new(io::ErrorKind::TimedOut, words)
}

/// The driver takes a command in one write, and gives its answer in one read.
fn once(file: &mut File, command: &[u8]) -> io::Result<Vec<u8>> {
    let written = file.write(command)?;
    if written != command.len() {
        return Err(io::ErrorKind::WriteZero.into());
    }
    let mut answer = vec![0; ANSWER_BYTES_MAX];
    let length = file.read(&mut answer)?;
    answer.truncate(length);
    Ok(answer)
}

/// An answer tells its length in its beginning. Nearly always it is all there at the first reading.
fn framed(stream: &mut (impl Read + Write), command: &[u8]) -> io::Result<Vec<u8>> {
    stream.write_all(command)?;
    let mut answer = vec![0; ANSWER_BYTES_MAX];
    let mut have = 0;
    loop {
        have += match stream.read(answer.get_mut(have..).unwrap_or_default()) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => 0,
            read => read?,
        };
        let Some(length) = claimed_length(&answer, have)? else { continue };
        if have > length {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "more than the answer"));
        }
        if have == length {
            answer.truncate(length);
            return Ok(answer);
        }
    }
}

/// What an answer says of its length, once that can be read.
fn claimed_length(answer: &[u8], have: usize) -> io::Result<Option<usize>> {
    if have < HEADER_BYTES {
        return Ok(None);
    }
    let length = answer.get(2..6).and_then(|length| length.try_into().ok()).map(u32::from_be_bytes);
    let length = length.unwrap_or_default() as usize;
    if (HEADER_BYTES..=ANSWER_BYTES_MAX).contains(&length) {
        Ok(Some(length))
    } else {
        Err(io::Error::new(io::ErrorKind::InvalidData, format!("an answer of {length} bytes")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read_or_refused_with_the_forms_that_there_are() {
        for text in ["device:/dev/tpmrm0", "swtpm:path=/run/a socket", "swtpm:host=127.0.0.1,port=2321"] {
            assert_eq!(text.parse::<Tcti>().expect("an address").to_string(), text);
        }
        for text in [
            "",
            "device:",
            "tabrmd:",
            "swtpm:",
            "swtpm:path=",
            "swtpm:host=a",
            "swtpm:host=a,port=x",
            "swtpm:host=,port=1",
        ] {
            let error = text.parse::<Tcti>().expect_err("no address");
            assert!(error.to_string().contains("device:/dev/tpmrm0"), "{error}");
        }
    }

    #[test]
    fn what_is_missing_is_said() {
        let folder = tempfile::tempdir().expect("a folder");
        let nowhere = Tcti::Device(folder.path().join("tpmrm0"));
        assert!(matches!(Transport::open(&nowhere), Err(TpmError::Absent(_))));
        let nobody = Tcti::SwtpmPath(folder.path().join("socket"));
        assert!(matches!(Transport::open(&nobody), Err(TpmError::Absent(_))));
    }

    #[test]
    fn what_is_not_allowed_is_said() {
        let error = explained(Path::new("/dev/tpmrm0"), io::ErrorKind::PermissionDenied.into());
        assert!(error.to_string().contains("group tss"), "{error}");
    }

    #[test]
    fn an_answer_that_claims_too_much_or_too_little_closes_the_way() {
        for length in [0u32, 9, 4097, u32::MAX] {
            let (one, mut other) = UnixStream::pair().expect("a pair");
            let mut transport = Transport(Some(Stream::Unix(one)));
            other.write_all(&[&[0x80, 1], length.to_be_bytes().as_slice(), &[0; 4]].concat()).expect("writes");
            assert_eq!(transport.exchange(b"command").expect_err("refused").kind(), io::ErrorKind::InvalidData);
            assert_eq!(transport.exchange(b"command").expect_err("closed").kind(), io::ErrorKind::NotConnected);
        }
    }
}
