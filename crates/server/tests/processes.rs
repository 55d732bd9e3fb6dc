//! A server in a process of its own: killed, short of descriptors, watched for its memory.

#![allow(clippy::unwrap_used)]

mod common;

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use common::{Peer, STAGED_BYTES, announce, config, eventually, extent, get, hello, names, pattern, serves};
use xferd_server::{Patience, Server};
use xferd_wire::{ErrorCode, Frame};

const ROOT: &str = "XFERD_TEST_ROOT";

/// What the other tests start: this binary again, with this test alone.
#[test]
#[ignore = "it is a server, not a test"]
fn the_server_process() {
    let Ok(root) = std::env::var(ROOT) else { return };
    let mut config = config(Path::new(&root));
    config.patience = Patience { request: Duration::from_secs(2), ..Patience::default() };
    let server = Server::start(config).unwrap();
    println!("\nlistening {}", server.listening()[0].address);
    std::io::stdout().flush().unwrap();
    // Until whoever started it is gone.
    let _ = std::io::stdin().read(&mut [0]);
}

struct Process {
    child: Child,
    address: SocketAddr,
}

impl Process {
    fn start(root: &Path) -> Self {
        Self::start_with(root, "true")
    }

    /// Runs a line of shell before the server, in its process.
    fn start_with(root: &Path, before: &str) -> Self {
        let mut child = Command::new("sh")
            .args(["-c", &format!("{before}; exec \"$@\""), "sh"])
            .arg(std::env::current_exe().unwrap())
            .args(["--exact", "the_server_process", "--ignored", "--nocapture", "--test-threads=1"])
            .env(ROOT, root)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let address = lines
            .map(|line| line.unwrap())
            .find_map(|line| line.strip_prefix("listening ").map(|address| address.parse().unwrap()))
            .expect("the server starts");
        Self { child, address }
    }

    fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Bytes of memory that are its own.
    #[cfg(target_os = "linux")]
    fn memory_bytes(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).unwrap();
        line.trim().strip_suffix(" kB").unwrap().parse::<u64>().unwrap() << 10
    }

    #[cfg(target_os = "linux")]
    fn descriptors(&self) -> usize {
        fs::read_dir(format!("/proc/{}/fd", self.child.id())).unwrap().count()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn a_server_that_is_killed_leaves_old_files_or_new_ones_and_every_one_it_acknowledged() {
    let root = tempfile::tempdir().unwrap();
    let (old, new) = (pattern(30_000), pattern(STAGED_BYTES));
    for number in 0..10 {
        fs::write(root.path().join(format!("{number}")), &old).unwrap();
    }
    let mut acknowledged = std::collections::HashSet::new();
    for round in 0..5 {
        let server = Process::start(root.path());
        let mut peer = Peer::connect(server.address);
        peer.send(99, &announce("part", Some(STAGED_BYTES as u64)));
        peer.say(&extent(99, 0, &new[..1000]));
        for request in 0..10 {
            peer.put(request + 1, &request.to_string(), &new);
        }
        // It is killed while it has more to store than it has said.
        for _ in 0..round * 2 {
            let (request, Frame::Committed(_)) = peer.answer() else { panic!("a put was refused") };
            acknowledged.insert(request - 1);
        }
        server.kill();
        for number in 0..10 {
            let bytes = fs::read(root.path().join(format!("{number}"))).unwrap();
            assert!(
                bytes == new || bytes == old && !acknowledged.contains(&number),
                "{number} in round {round}"
            );
        }
    }
    let server = Process::start(root.path());
    serves(server.address);
    let mut expected: Vec<String> = (0..10).map(|number| number.to_string()).collect();
    expected.push("proof".into());
    eventually("what was left behind is swept away", || names(root.path()) == expected);
}

#[test]
fn a_server_without_descriptors_says_so_and_serves_again_when_it_has_some() {
    let root = tempfile::tempdir().unwrap();
    fs::write(root.path().join("file"), pattern(STAGED_BYTES)).unwrap();
    let server = Process::start_with(root.path(), "ulimit -n 64");
    let mut peer = Peer::connect(server.address);
    // More than it can accept; the rest waits.
    let crowd: Vec<Peer> = (0..100).map(|_| Peer::stranger(server.address)).collect();
    let mut request = 0;
    eventually("descriptors are short", || {
        request += 1;
        peer.send(request, &get("file"));
        match peer.file_or_refusal(request) {
            Ok(bytes) => bytes.len() != STAGED_BYTES,
            Err(reply) => reply.code == ErrorCode::TooManyFiles && reply.retryable,
        }
    });
    for (size, request) in [(0, 1001), (1000, 1002), (STAGED_BYTES, 1003)] {
        peer.put(request, "new", &pattern(size));
        peer.refused(request, ErrorCode::TooManyFiles);
    }
    drop(crowd);
    serves(server.address);
    peer.put(2000, "new", b"new");
    peer.committed(2000, b"new");
    assert_eq!(names(root.path()), ["file", "new", "proof"]);
}

#[cfg(target_os = "linux")]
#[test]
fn a_connection_that_says_nothing_costs_little_memory() {
    const CONNECTIONS: u64 = 1000;
    xferd_os::raise_descriptor_limit().unwrap();
    let root = tempfile::tempdir().unwrap();
    let server = Process::start(root.path());
    serves(server.address);
    let before = server.memory_bytes();
    let mut silent: Vec<Peer> = (0..CONNECTIONS).map(|_| Peer::connect(server.address)).collect();
    serves(server.address);
    let each = server.memory_bytes().saturating_sub(before) / CONNECTIONS;
    assert!(each < 4 << 10, "{each} bytes for each connection");
    for peer in &mut silent {
        peer.send(0, &Frame::Ping(1));
        assert_eq!(peer.answer(), (0, Frame::Pong(1)));
    }
}

#[cfg(target_os = "linux")]
#[test]
fn a_peer_that_never_reads_costs_a_bounded_amount_of_memory() {
    const PEERS: u64 = 8;
    let root = tempfile::tempdir().unwrap();
    fs::write(root.path().join("file"), pattern(60_000)).unwrap();
    let server = Process::start(root.path());
    serves(server.address);
    let (before, descriptors) = (server.memory_bytes(), server.descriptors());
    let mut peers: Vec<Peer> = (0..PEERS).map(|_| Peer::stranger(server.address)).collect();
    let mut requests = hello();
    (1..=10_000).for_each(|request| requests.extend(common::frame(request, &get("file"))));
    let mut most = 0;
    for peer in &mut peers {
        peer.stream.set_nonblocking(true).unwrap();
        assert!(peer.stream.write(&requests).unwrap() > 0);
    }
    // They are closed once they have not read for long enough; until then others are served.
    eventually("all are closed", || {
        most = most.max(server.memory_bytes().saturating_sub(before));
        serves(server.address);
        server.descriptors() <= descriptors
    });
    // A queue of 1 MiB, 64 requests that bring 64 KiB each, and as much in room that vectors keep in reserve.
    assert!(most < PEERS * (10 << 20), "{most} bytes");
}
