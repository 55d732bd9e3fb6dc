//! Server and client over Unix sockets.

#![allow(clippy::unwrap_used)]

mod common;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::time::Duration;

use xferd_client::{Client, Compare, PushSpec};
use xferd_os::net::{Access, Address};
use xferd_server::{Listen, Server};
use xferd_wire::ErrorCode;

use self::common::{Pair, config, noise, pull_of, push, push_of};

/// A server that listens on `sockets` alone, and where that is.
fn serve(root: &Path, sockets: &[&Path]) -> Result<Server, xferd_engine::Failure> {
    let mut config = config(root);
    config.listen = sockets.iter().map(|path| Listen::transfer(*path)).collect();
    Server::start(config)
}

#[test]
fn files_of_every_size_go_both_ways_over_a_unix_socket() {
    let folder = tempfile::tempdir().unwrap();
    for (io_threads, workers) in [(1, 0), (2, 2)] {
        let socket = folder.path().join("socket");
        let pair = Pair::with(
            |config| {
                (config.io_threads, config.workers) = (io_threads, workers);
                config.listen = vec![Listen::transfer(socket.as_path())];
            },
            xferd_client::Config { io_threads, workers, ..Default::default() },
        );
        for bytes in [0, 1, 65_536, 65_537, 21 << 20] {
            let source = pair.local.path().join("source");
            fs::write(&source, noise(bytes)).unwrap();
            for mapped in [false, true] {
                let mut spec = push_of(&[&source], "in/copy");
                spec.sources.mapped = mapped;
                spec.compare = Compare::Nothing;
                assert_eq!(pair.push(spec).unwrap().bytes, bytes as u64);
                assert!(fs::read(pair.root.path().join("in/copy")).unwrap() == noise(bytes), "{bytes} bytes");
            }
            let back = pair.local.path().join("back");
            assert_eq!(pair.pull(pull_of(&["in/copy"], &back)).unwrap().bytes, bytes as u64);
            assert!(fs::read(&back).unwrap() == noise(bytes), "{bytes} bytes back");
        }
        let source = pair.local.path().join("large");
        fs::write(&source, noise(70 << 20)).unwrap();
        pair.push(PushSpec { streams: 4, ..push_of(&[&source], "large") }).unwrap();
        assert!(fs::read(pair.root.path().join("large")).unwrap() == noise(70 << 20));
        let happenings: Vec<_> = pair.server.happenings();
        let pid = format!("unix:pid={},", std::process::id());
        assert!(
            happenings
                .iter()
                .all(|happening| happening.peer.is_some_and(|peer| peer.to_string().starts_with(&pid)))
        );
    }
}

#[test]
fn one_server_listens_on_both_families_and_its_sockets_go_when_it_stops() {
    let folder = tempfile::tempdir().unwrap();
    let (mine, everybodys) = (folder.path().join("mine"), folder.path().join("everybody's"));
    let access = Access { mode: 0o666, ..Access::default() };
    let pair = Pair::with(
        |config| {
            config.listen.push(Listen::transfer(mine.as_path()));
            config.listen.push(Listen { access, ..Listen::transfer(everybodys.as_path()) });
        },
        xferd_client::Config::default(),
    );
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode(&mine), mode(&everybodys)), (0o600, 0o666));
    let urls: Vec<String> = pair.server.listening().iter().map(ToString::to_string).collect();
    assert!(urls[0].starts_with("xfer://127.0.0.1:") && !urls[0].ends_with(":0"), "{urls:?}");
    assert_eq!(urls[1], format!("xfer+unix://{}", mine.display()));
    let source = pair.local.path().join("source");
    fs::write(&source, b"contents").unwrap();
    for (number, listen) in pair.server.listening().iter().enumerate() {
        let client = Client::open(listen.address.clone(), xferd_client::Config::default()).unwrap();
        push(&client, push_of(&[&source], &number.to_string())).unwrap();
    }
    pair.server.drain(Duration::ZERO);
    assert!(!mine.exists() && !everybodys.exists());
    let late = Client::open(Address::from(mine.as_path()), xferd_client::Config::default()).unwrap();
    let failure = push(&late, push_of(&[&source], "late")).unwrap_err();
    assert_eq!(failure.code, ErrorCode::ConnectionRefused);
    assert!(failure.message.contains("xfer+unix://"), "{failure}");
}

#[test]
fn a_deserted_socket_is_replaced_and_nothing_else() {
    let (folder, root) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let path = folder.path().join("socket");
    drop(UnixListener::bind(&path).unwrap());
    let first = serve(root.path(), &[&path]).unwrap();
    let named = |failure: xferd_engine::Failure, code: ErrorCode, path: &Path| {
        assert_eq!(failure.code, code, "{failure}");
        assert!(failure.message.contains(path.to_str().unwrap()), "{failure}");
    };
    named(serve(root.path(), &[&path]).err().unwrap(), ErrorCode::Io, &path);
    // Nobody was sent away by that.
    let client = Client::open(Address::from(path.as_path()), xferd_client::Config::default()).unwrap();
    let source = root.path().join("source");
    fs::write(&source, b"contents").unwrap();
    push(&client, push_of(&[&source], "copy")).unwrap();
    first.stop();
    let file = folder.path().join("file");
    fs::write(&file, b"mine").unwrap();
    named(serve(root.path(), &[&path, &file]).err().unwrap(), ErrorCode::Io, &file);
    assert_eq!(fs::read(&file).unwrap(), b"mine");
    assert!(!path.exists(), "a server that does not start leaves no socket");
    let long = folder.path().join("s".repeat(108));
    named(serve(root.path(), &[&long]).err().unwrap(), ErrorCode::InvalidArgument, &long);
}
