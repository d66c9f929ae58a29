//! The helper in a real process of its own: this test binary runs itself again as the helper.
//!
//! The test opens the socket and hands it to the helper as its standard input, so that nobody has to wait for it to appear,
//! and a helper that was killed is followed by another one on the same socket.

use quorate_counter::{
    DeviceError, Epoch, Position, Software, TrustedLog,
    conformance::{Backend, check},
    helper::{Remote, listen, own_user, serve},
};
use quorate_protocol::{digest::Digest, ids::ReplicaId, sign::SecretKey};
use std::{
    env,
    io::{Read, Write},
    os::{
        fd::{AsFd, OwnedFd},
        unix::net::{UnixListener, UnixStream},
    },
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

/// Long: it only ends tests that would hang.
const PATIENCE: Duration = Duration::from_secs(60);
const STATE: &str = "QUORATE_TEST_HELPER_STATE";
const OWNER: &str = "QUORATE_TEST_HELPER_OWNER";
const CLIENT: &str = "QUORATE_TEST_HELPER_CLIENT";

/// Not a test: the helper process. Without its environment it does nothing.
#[test]
fn helper_process() {
    let Ok(state) = env::var(STATE) else { return };
    let (cluster, replica): (Digest, ReplicaId) = read_owner(&env::var(OWNER).expect("set"));
    let client = env::var(CLIENT).expect("set").parse().expect("a user");
    let listener = UnixListener::from(std::io::stdin().as_fd().try_clone_to_owned().expect("the socket"));
    let log = Software::open(Path::new(&state), SecretKey::from_seed([7; 32]), cluster, replica).expect("opens");
    let ended = serve(&listener, Box::new(log), client);
    panic!("the socket failed: {ended:?}");
}

fn owner(cluster: Digest, replica: ReplicaId) -> String {
    format!("{cluster}{}", replica.number())
}

fn read_owner(text: &str) -> (Digest, ReplicaId) {
    let (cluster, replica) = text.split_at(64);
    let byte = |at: usize| u8::from_str_radix(&cluster[2 * at..2 * at + 2], 16).expect("hexadecimal");
    (Digest::from_bytes(std::array::from_fn(byte)), replica.parse().expect("a replica"))
}

/// A helper process, killed at the end.
struct Helper {
    listener: UnixListener,
    socket: PathBuf,
    state: PathBuf,
    owner: String,
    client: u32,
    child: Child,
}

impl Helper {
    fn start(folder: &Path, cluster: Digest, replica: ReplicaId, client: u32) -> Self {
        let (socket, state) = (folder.join("socket"), folder.join("state"));
        let listener = listen(&socket, client).expect("a socket");
        let owner = owner(cluster, replica);
        let child = Self::spawn(&listener, &state, &owner, client);
        Self { listener, socket, state, owner, client, child }
    }

    fn spawn(listener: &UnixListener, state: &Path, owner: &str, client: u32) -> Child {
        let stdin = OwnedFd::from(listener.try_clone().expect("clones"));
        let mut command = Command::new(env::current_exe().expect("this test"));
        command.args(["--exact", "helper_process", "--nocapture"]).stdin(stdin).stdout(Stdio::null());
        command.env(STATE, state).env(OWNER, owner).env(CLIENT, client.to_string());
        command.spawn().expect("starts")
    }

    fn remote(&self) -> Remote {
        Remote::connect(&self.socket, PATIENCE).expect("connects")
    }

    /// `kill -9`, and a new process with the same state.
    fn restart(&mut self) {
        self.child.kill().and_then(|()| self.child.wait()).expect("ends");
        self.child = Self::spawn(&self.listener, &self.state, &self.owner, self.client);
    }
}

impl Drop for Helper {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn helper() -> (tempfile::TempDir, Helper) {
    let folder = tempfile::tempdir().expect("a folder");
    let helper = Helper::start(folder.path(), Digest::of(b"cluster"), ReplicaId::new(1), own_user());
    (folder, helper)
}

#[derive(Default)]
struct Processes(Vec<(tempfile::TempDir, Helper)>);

impl Backend for Processes {
    fn fresh(&mut self, cluster: Digest, replica: ReplicaId) -> Box<dyn TrustedLog> {
        let folder = tempfile::tempdir().expect("a folder");
        let helper = Helper::start(folder.path(), cluster, replica, own_user());
        let remote = helper.remote();
        self.0.push((folder, helper));
        Box::new(remote)
    }
    fn restart(&mut self, device: Box<dyn TrustedLog>) -> Box<dyn TrustedLog> {
        let owner = owner(device.record().cluster, device.record().replica);
        let (_, helper) = self.0.iter_mut().find(|(_, helper)| helper.owner == owner).expect("its helper");
        helper.restart();
        drop(device);
        Box::new(helper.remote())
    }
}

#[test]
fn a_helper_process_conforms() {
    check(&mut Processes::default());
}

#[test]
fn a_client_survives_the_death_of_its_helper_and_appends_nothing_twice() {
    let (_folder, mut helper) = helper();
    let mut remote = helper.remote();
    let record = remote.record().clone();
    let mut head = record.genesis();
    for round in 0u8..4 {
        for digest in [Digest::of(&[round]), Digest::of(&[round, 1])] {
            let attestation = remote.append(&[digest]).expect("works, if need be over a new connection");
            head = record.extend(head, [digest]);
            assert_eq!(attestation.head, head);
            assert_eq!(record.verify(attestation.head, &attestation.certificate), Ok(()));
        }
        helper.restart();
    }
    remote.renew(Epoch(9)).expect("works over a new connection");
    assert_eq!(remote.record().epoch, Epoch(9));
}

/// Stands between client and helper, and cuts the first connection when the helper's second answer is due: the digests
/// were appended and nobody was told.
#[test]
fn an_answer_that_is_lost_is_asked_for_and_the_digests_are_not_appended_again() {
    let (folder, helper) = helper();
    let front = folder.path().join("front");
    let listener = UnixListener::bind(&front).expect("a socket");
    let behind = helper.socket.clone();
    let proxy = std::thread::spawn(move || {
        for answers in [1, usize::MAX] {
            let (mut client, _) = listener.accept().expect("connects");
            let mut helper = UnixStream::connect(&behind).expect("connects");
            for passed in 0.. {
                let Some(request) = frame(&mut client) else { break };
                helper.write_all(&request).expect("passes");
                let answer = frame(&mut helper).expect("answers");
                if passed == answers {
                    break;
                }
                client.write_all(&answer).expect("passes");
            }
        }
    });
    let mut remote = Remote::connect(&front, PATIENCE).expect("connects");
    let record = remote.record().clone();
    let digests = [Digest::of(b"once")];
    let attestation = remote.append(&digests).expect("found out");
    assert_eq!(attestation.head, record.extend(record.genesis(), digests), "appended, and once");
    assert_eq!(remote.append(&[]).expect("works").head.position, Position(1));
    drop(remote);
    proxy.join().expect("no panic");
}

fn frame(stream: &mut UnixStream) -> Option<Vec<u8>> {
    let mut length = [0; 4];
    stream.read_exact(&mut length).ok()?;
    let mut bytes = vec![0; u32::from_le_bytes(length) as usize];
    stream.read_exact(&mut bytes).ok()?;
    Some([length.as_slice(), &bytes].concat())
}

#[test]
fn a_log_that_is_not_where_it_was_is_a_malfunction() {
    let (_folder, mut helper) = helper();
    let mut remote = helper.remote();
    remote.append(&[Digest::of(b"a")]).expect("works");
    // Another process of the same replica: the first client lost its connection, and then its place.
    helper.restart();
    let mut other = helper.remote();
    other.append(&[Digest::of(b"b")]).expect("works");
    drop(other);
    let lost = remote.append(&[Digest::of(b"c")]);
    assert!(
        matches!(lost, Err(DeviceError::Malfunction(ref why)) if why.contains("position 2 of epoch 0")),
        "{lost:?}"
    );
}

#[test]
fn garbage_closes_its_connection_and_no_other() {
    let (_folder, helper) = helper();
    for garbage in [&[0xff; 64][..], &[1, 0, 0, 0, 9], &[3, 0], &[]] {
        let mut stream = UnixStream::connect(&helper.socket).expect("connects");
        stream.set_read_timeout(Some(PATIENCE)).expect("sets");
        stream.write_all(garbage).expect("writes");
        stream.shutdown(std::net::Shutdown::Write).expect("shuts");
        let mut rest = Vec::new();
        // Closed, with or without a reset.
        let _ = stream.read_to_end(&mut rest);
        assert!(rest.is_empty(), "no answer to garbage");
    }
    assert_eq!(helper.remote().append(&[]).expect("works").head.position, Position(0));
}

#[test]
fn another_user_is_turned_away() {
    let folder = tempfile::tempdir().expect("a folder");
    let stranger = own_user() + 1;
    let helper = Helper::start(folder.path(), Digest::of(b"cluster"), ReplicaId::new(1), stranger);
    let refused = Remote::connect(&helper.socket, PATIENCE);
    assert!(matches!(refused, Err(DeviceError::Unreachable(_))), "{refused:?}");
}

#[test]
fn a_helper_that_is_not_there_or_says_nothing_is_unreachable() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("socket");
    assert!(matches!(Remote::connect(&path, PATIENCE), Err(DeviceError::Unreachable(_))));
    let _silent = listen(&path, own_user()).expect("a socket");
    let silent = Remote::connect(&path, Duration::from_millis(20));
    assert!(matches!(silent, Err(DeviceError::Unreachable(_))), "{silent:?}");
}
