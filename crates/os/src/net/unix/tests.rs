use std::io::Write;
use std::os::unix::net::{UnixDatagram, UnixListener, UnixStream};
use std::sync::Barrier;

use super::*;

use crate::net::{Address, BACKLOG, Listener, Socket};

fn folder() -> tempfile::TempDir {
    tempfile::tempdir().unwrap()
}

/// A socket that is left behind by who listened on it.
fn desert(path: &Path) {
    drop(UnixListener::bind(path).unwrap());
}

fn bind(path: &Path) -> io::Result<Listener> {
    Listener::bind(path)
}

#[test]
fn a_connection_is_accepted_and_both_ends_know_who_is_there() {
    let folder = folder();
    let path = folder.path().join("socket");
    let listener = bind(&path).unwrap();
    assert_eq!(listener.local_addr().unwrap(), Address::Unix(path.as_path().into()));
    assert_eq!(listener.accept().unwrap_err().kind(), io::ErrorKind::WouldBlock);
    let connecting = Socket::connect(&listener.local_addr().unwrap()).unwrap();
    assert!(connecting.take_error().unwrap().is_none());
    let (accepted, peer) = listener.accept().unwrap();
    let Peer::Unix { pid, uid, .. } = peer else { panic!("{peer} is on no Unix socket") };
    assert_eq!(pid, std::process::id());
    assert_eq!(uid, fs::metadata(folder.path()).unwrap().uid());
    assert_eq!(accepted.peer().unwrap(), peer);
    assert_eq!(connecting.peer().unwrap(), peer);
    assert_eq!(connecting.send(b"hello", false).unwrap(), 5);
    let mut heard = [0; 8];
    assert_eq!(accepted.recv(&mut heard).unwrap(), 5);
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(b"contents").unwrap();
    assert_eq!(accepted.send_file(&file, 3, 100).unwrap(), 5);
    assert_eq!(connecting.recv(&mut heard).unwrap(), 5);
    assert_eq!(&heard[..5], b"tents");
}

#[test]
fn its_mode_is_what_was_asked_for_whatever_the_umask_and_only_the_owners_unless_it_was() {
    let folder = folder();
    for (name, access, mode) in [
        ("default", Access::default(), 0o600),
        ("open", Access { mode: 0o666, ..Access::default() }, 0o666),
        ("group", Access { mode: 0o660, ..Access::default() }, 0o660),
    ] {
        let path = folder.path().join(name);
        let _listener = Listener::bind_with(&path.as_path().into(), access).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o7777, mode, "{name}");
    }
}

#[test]
fn its_owner_is_who_was_asked_for_and_nothing_is_left_if_that_cannot_be() {
    let folder = folder();
    let path = folder.path().join("socket");
    let access = Access { user: Some(12_345), group: Some(54_321), ..Access::default() };
    match Listener::bind_with(&path.as_path().into(), access) {
        Ok(_listener) => {
            let made = fs::metadata(&path).unwrap();
            assert_eq!((made.uid(), made.gid()), (12_345, 54_321));
        }
        // Only the superuser gives files away.
        Err(error) => {
            assert_eq!(error.kind(), io::ErrorKind::PermissionDenied);
            assert!(!path.exists());
        }
    }
}

/// The kernel refuses who connects to what is bound and does not listen: that is all the time in which its mode is another.
#[test]
fn nobody_gets_in_before_the_mode_is_set() {
    let folder = folder();
    let path = folder.path().join("socket");
    let address = sock_addr(&path).unwrap();
    let bound = stream_socket().unwrap();
    bound.bind(&address).unwrap();
    assert_eq!(UnixStream::connect(&path).unwrap_err().kind(), io::ErrorKind::ConnectionRefused);
    bound.listen(BACKLOG).unwrap();
    UnixStream::connect(&path).unwrap();
}

#[test]
fn a_deserted_socket_is_replaced() {
    let folder = folder();
    let path = folder.path().join("socket");
    desert(&path);
    let listener = bind(&path).unwrap();
    let _peer = UnixStream::connect(&path).unwrap();
    listener.accept().unwrap();
}

#[test]
fn a_socket_on_which_somebody_listens_is_left_to_him() {
    let folder = folder();
    let path = folder.path().join("socket");
    let his = UnixListener::bind(&path).unwrap();
    let error = bind(&path).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
    assert!(error.to_string().contains(path.to_str().unwrap()), "{error}");
    // What asked whether he is there has gone again.
    his.accept().unwrap();
    let _peer = UnixStream::connect(&path).unwrap();
    his.accept().unwrap();
    let datagrams = folder.path().join("datagrams");
    let _his = UnixDatagram::bind(&datagrams).unwrap();
    assert_eq!(bind(&datagrams).unwrap_err().kind(), io::ErrorKind::AddrInUse);
    assert!(datagrams.exists());
}

#[test]
fn what_is_no_socket_is_never_removed() {
    let folder = folder();
    let deserted = folder.path().join("deserted");
    desert(&deserted);
    type Make<'a> = &'a dyn Fn(&Path);
    let make: [(&str, Make<'_>); 4] = [
        ("file", &|path| fs::write(path, b"mine").unwrap()),
        ("folder", &|path| fs::create_dir(path).unwrap()),
        ("link", &|path| std::os::unix::fs::symlink(&deserted, path).unwrap()),
        ("broken link", &|path| std::os::unix::fs::symlink("nowhere", path).unwrap()),
    ];
    for (name, make) in make {
        let path = folder.path().join(name);
        make(&path);
        let error = bind(&path).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::AlreadyExists, "{name}: {error}");
        assert!(error.to_string().contains(path.to_str().unwrap()), "{error}");
        assert!(fs::symlink_metadata(&path).is_ok(), "{name} is gone");
    }
    assert!(deserted.exists());
}

#[test]
fn a_path_may_have_as_many_bytes_as_the_limit_and_not_one_more() {
    let folder = folder();
    let room = UNIX_PATH_BYTES_MAX - folder.path().as_os_str().len() - 1;
    let longest = folder.path().join("s".repeat(room));
    let listener = bind(&longest).unwrap();
    UnixStream::connect(&longest).unwrap();
    drop(listener);
    let longer = folder.path().join("s".repeat(room + 1));
    for error in [bind(&longer).unwrap_err(), Socket::connect(&longer.as_path().into()).unwrap_err()] {
        assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
        assert!(error.to_string().contains(&UNIX_PATH_BYTES_MAX.to_string()), "{error}");
    }
    for nothing in ["", "a\0b"] {
        assert_eq!(bind(Path::new(nothing)).unwrap_err().kind(), io::ErrorKind::InvalidInput);
    }
}

#[test]
fn its_file_goes_with_it_or_when_it_stops_unless_it_is_another_by_then() {
    let folder = folder();
    let path = folder.path().join("socket");
    drop(bind(&path).unwrap());
    assert!(!path.exists());
    let mut stopped = bind(&path).unwrap();
    stopped.stop().unwrap();
    assert!(!path.exists());
    let next = bind(&path).unwrap();
    drop(stopped);
    UnixStream::connect(&path).unwrap();
    fs::remove_file(&path).unwrap();
    let other = bind(&path).unwrap();
    drop(next);
    UnixStream::connect(&path).unwrap();
    drop(other);
    assert!(!path.exists());
}

#[test]
fn of_many_who_want_a_deserted_socket_one_has_it() {
    let folder = folder();
    let path = folder.path().join("socket");
    for _ in 0..50 {
        desert(&path);
        let start = Barrier::new(4);
        let listening = thread::scope(|scope| {
            let bound: Vec<_> = (0..4)
                .map(|_| {
                    scope.spawn(|| {
                        start.wait();
                        bind(&path)
                    })
                })
                .collect();
            let bound = bound.into_iter().map(|thread| thread.join().unwrap());
            let (won, lost): (Vec<_>, Vec<_>) = bound.partition(Result::is_ok);
            for error in lost.into_iter().filter_map(Result::err) {
                assert_eq!(error.kind(), io::ErrorKind::AddrInUse, "{error}");
            }
            won
        });
        assert_eq!(listening.len(), 1);
        let _peer = UnixStream::connect(&path).unwrap();
    }
}

#[test]
fn who_comes_and_goes_removes_nobody_elses_socket() {
    let folder = folder();
    let path = folder.path().join("socket");
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for _ in 0..200 {
                    if let Ok(_listener) = bind(&path) {
                        UnixStream::connect(&path).expect("it is there as long as it listens");
                    }
                }
            });
        }
    });
    assert!(!path.exists());
}

#[test]
fn nobody_at_a_path_is_an_error_and_too_many_who_wait_another() {
    let folder = folder();
    let path = folder.path().join("socket");
    let connect = || Socket::connect(&path.as_path().into());
    assert_eq!(connect().unwrap_err().kind(), io::ErrorKind::NotFound);
    desert(&path);
    assert_eq!(connect().unwrap_err().kind(), io::ErrorKind::ConnectionRefused);
    let (listener, _file) = listen(&path, Access::default(), 0).unwrap();
    let mut waiting = Vec::new();
    let error = loop {
        match connect() {
            Ok(socket) => waiting.push(socket),
            Err(error) => break error,
        }
        assert!(waiting.len() < 10, "any number may wait");
    };
    assert_eq!(error.kind(), io::ErrorKind::ResourceBusy, "{error}");
    drop(listener);
}
