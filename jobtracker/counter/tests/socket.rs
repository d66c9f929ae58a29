//! The socket that a helper of the trusted log listens on.
//!
//! In a process of its own: a child that another test starts holds a copy of every socket until it becomes its program, so
//! one that was just dropped would still be listened to.

use quorate_counter::helper::{listen, own_user};
use std::{
    fs,
    io::ErrorKind,
    os::unix::{fs::PermissionsExt, net::UnixStream},
};

#[test]
fn the_socket_is_the_owners_and_takes_the_place_of_a_left_one_only() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("socket");
    for _ in 0..2 {
        listen(&path, own_user()).expect("a socket, also where one was left");
        assert_eq!(fs::metadata(&path).expect("there").permissions().mode() & 0o777, 0o600);
    }
    let taken = listen(&path, own_user()).expect("a socket");
    assert_eq!(listen(&path, own_user()).expect_err("it is in use").kind(), ErrorKind::AddrInUse);
    UnixStream::connect(&path).expect("it is still the first one's");
    drop(taken);
    fs::remove_file(&path).and_then(|()| fs::write(&path, "precious")).expect("writes");
    listen(&path, own_user()).expect_err("a file is in its place");
    assert_eq!(fs::read(&path).expect("there"), b"precious");
}
