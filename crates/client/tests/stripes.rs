//! Large files over several connections, and pushes that go on where another was cut off.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod common;

use std::fs;
use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use tempfile::TempDir;
use xferd_client::{Client, Compare, PushSpec};
use xferd_server::{Config, Server};
use xferd_wire::{DigestAlgorithm, ErrorCode};

use self::common::{Transfer, begin_push, noise, push};

const MIB: usize = 1 << 20;
/// What a file is cut into.
const EXTENT_BYTES: u64 = 8 << 20;
/// From this size on a file is cut.
const LARGE: usize = 64 * MIB;
/// What the network carries at a time.
const CARRY_BYTES: usize = 256 << 10;
/// More than all frames of a transfer that are not raw bytes.
const FRAMES_BYTES: u64 = 100_000;

/// A network between client and server that counts, and breaks.
struct Relay {
    address: SocketAddr,
    state: Arc<RelayState>,
}

#[derive(Default)]
struct RelayState {
    /// Bytes to the server so far, of each connection.
    carried: Mutex<Vec<Arc<AtomicU64>>>,
    /// A connection that carries more than this breaks.
    breaks_after: AtomicU64,
    /// How many of the next connections do.
    breaking: AtomicU64,
    /// Everything that is there breaks, and what comes is not taken.
    down: AtomicBool,
    /// Once more than this has come to the server in all, it goes down.
    down_after: AtomicU64,
    /// The server seems not to know of transfers and checksums.
    outdated: AtomicBool,
    /// Threads that are carrying.
    carrying: AtomicU64,
}

impl Relay {
    fn to(server: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let state = Arc::new(RelayState::default());
        state.down_after.store(u64::MAX, Ordering::SeqCst);
        let shared = state.clone();
        thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                let Ok(server) = TcpStream::connect(server) else { continue };
                if shared.down.load(Ordering::SeqCst) {
                    continue;
                }
                let breaks = shared
                    .breaking
                    .fetch_update(Ordering::SeqCst, Ordering::SeqCst, |count| count.checked_sub(1))
                    .is_ok();
                let carried = Arc::new(AtomicU64::new(0));
                shared.carried.lock().unwrap().push(carried.clone());
                let (up, down) = (shared.clone(), shared.clone());
                let (client_in, server_in) = (client.try_clone().unwrap(), server.try_clone().unwrap());
                shared.carrying.fetch_add(2, Ordering::SeqCst);
                thread::spawn(move || {
                    carry(client_in, server, |bytes| up.carry_up(&carried, breaks, bytes));
                    up.carrying.fetch_sub(1, Ordering::SeqCst);
                });
                thread::spawn(move || {
                    carry(server_in, client, |bytes| down.carry_down(bytes));
                    down.carrying.fetch_sub(1, Ordering::SeqCst);
                });
            }
        });
        Self { address, state }
    }

    fn carried(&self) -> u64 {
        self.state.total()
    }

    fn forget(&self) {
        self.state.carried.lock().unwrap().clear();
    }

    /// Carries again, whatever comes.
    fn repair(&self) {
        self.state.down_after.store(u64::MAX, Ordering::SeqCst);
        self.state.down.store(false, Ordering::SeqCst);
    }
}

impl RelayState {
    fn total(&self) -> u64 {
        self.carried.lock().unwrap().iter().map(|bytes| bytes.load(Ordering::SeqCst)).sum()
    }

    fn carry_up(&self, carried: &AtomicU64, breaks: bool, bytes: &mut [u8]) -> bool {
        let mine = carried.fetch_add(bytes.len() as u64, Ordering::SeqCst) + bytes.len() as u64;
        if self.total() > self.down_after.load(Ordering::SeqCst) {
            self.down.store(true, Ordering::SeqCst);
        }
        let is_broken = breaks && mine > self.breaks_after.load(Ordering::SeqCst);
        !is_broken && !self.down.load(Ordering::SeqCst)
    }

    fn carry_down(&self, bytes: &mut [u8]) -> bool {
        if self.outdated.load(Ordering::SeqCst) {
            for name in [&b"transfers"[..], b"checksums"] {
                if let Some(at) = bytes.windows(name.len()).position(|window| window == name) {
                    bytes[at] = b'x';
                }
            }
        }
        !self.down.load(Ordering::SeqCst)
    }
}

fn carry(mut from: TcpStream, mut to: TcpStream, mut goes_on: impl FnMut(&mut [u8]) -> bool) {
    let mut room = vec![0; CARRY_BYTES];
    while let Ok(bytes @ 1..) = from.read(&mut room) {
        if !goes_on(&mut room[..bytes]) || to.write_all(&room[..bytes]).is_err() {
            break;
        }
    }
    let _ = from.shutdown(Shutdown::Both);
    let _ = to.shutdown(Shutdown::Both);
}

struct Rig {
    server: Server,
    relay: Relay,
    root: TempDir,
    local: TempDir,
}

impl Rig {
    fn new() -> Self {
        let root = tempfile::tempdir().unwrap();
        let server = Server::start(config(root.path())).unwrap();
        let relay = Relay::to(server.listening()[0].address.internet().unwrap());
        Self { server, relay, root, local: tempfile::tempdir().unwrap() }
    }

    fn client(&self) -> Client {
        Client::open(self.relay.address, xferd_client::Config::default()).unwrap()
    }

    fn file(&self, name: &str, bytes: usize) -> PathBuf {
        let path = self.local.path().join(name);
        fs::write(&path, noise(bytes)).unwrap();
        path
    }

    fn has(&self, source: &Path, name: &str) {
        assert!(fs::read(source).unwrap() == fs::read(self.root.path().join(name)).unwrap());
        let mut names: Vec<_> =
            fs::read_dir(self.root.path()).unwrap().map(|it| it.unwrap().file_name()).collect();
        names.retain(|it| it != name);
        assert!(names.is_empty(), "{names:?}");
    }
}

fn config(root: &Path) -> Config {
    Config { io_threads: 2, ..common::config(root) }
}

fn push_of(source: &Path, streams: usize, resume: bool) -> PushSpec {
    PushSpec { streams, resume, ..common::push_of(&[source], "file") }
}

#[test]
fn a_large_file_is_shared_out_over_its_connections_whatever_proves_it() {
    let rig = Rig::new();
    for (bytes, digest, mapped) in [
        (LARGE, DigestAlgorithm::Crc64Nvme, false),
        (LARGE + 1, DigestAlgorithm::Crc64Nvme, true),
        (LARGE + 5 * MIB, DigestAlgorithm::None, false),
    ] {
        let source = rig.file("source", bytes);
        rig.relay.forget();
        let mut spec = push_of(&source, 4, false);
        (spec.sources.digest, spec.sources.mapped) = (digest, mapped);
        let client = rig.client();
        let pushing = begin_push(&client, spec).unwrap();
        let receipt = pushing.end().unwrap();
        assert_eq!((receipt.files, receipt.bytes, receipt.resumed_bytes), (1, bytes as u64, 0));
        assert_eq!(pushing.job.progress().bytes, bytes as u64);
        let whole = xferd_store::digest_of(digest, &fs::read(&source).unwrap());
        assert_eq!(receipt.digest, Some(whole).filter(|_| digest != DigestAlgorithm::None));
        rig.has(&source, "file");
        let carried = rig.relay.state.carried.lock().unwrap();
        let sharing = carried.iter().filter(|bytes| bytes.load(Ordering::SeqCst) > EXTENT_BYTES).count();
        assert!(sharing > 1, "{carried:?}");
        drop(carried);
        assert!(rig.relay.carried() < bytes as u64 + FRAMES_BYTES);
    }
}

#[test]
fn a_file_that_is_too_small_or_whose_digest_does_not_combine_goes_over_one_connection() {
    let rig = Rig::new();
    for (bytes, digest) in [(LARGE - 1, DigestAlgorithm::Crc64Nvme), (LARGE, DigestAlgorithm::Blake3)] {
        let source = rig.file("source", bytes);
        rig.relay.forget();
        let mut spec = push_of(&source, 4, false);
        spec.sources.digest = digest;
        push(&rig.client(), spec).unwrap();
        rig.has(&source, "file");
        let carried = rig.relay.state.carried.lock().unwrap();
        let sharing = carried.iter().filter(|bytes| bytes.load(Ordering::SeqCst) > 10_000).count();
        assert_eq!(sharing, 1);
    }
}

#[test]
fn what_a_broken_connection_did_not_bring_home_goes_over_others() {
    for (streams, resume, breaking) in [(4, false, 1), (4, true, 3), (1, true, 3), (4, true, 4)] {
        let rig = Rig::new();
        let source = rig.file("source", LARGE);
        rig.relay.state.breaks_after.store(EXTENT_BYTES + EXTENT_BYTES / 2, Ordering::SeqCst);
        rig.relay.state.breaking.store(breaking, Ordering::SeqCst);
        let receipt = push(&rig.client(), push_of(&source, streams, resume)).unwrap();
        assert_eq!((receipt.bytes, receipt.resumed_bytes), (LARGE as u64, 0));
        rig.has(&source, "file");
        // Of each that broke, what it had carried; and the extent it was sending, from each of the others that offered
        // it before the server had noticed.
        let offered = (streams - 1).max(1) as u64 * EXTENT_BYTES;
        let lost = breaking * (EXTENT_BYTES + EXTENT_BYTES / 2 + CARRY_BYTES as u64 + offered);
        assert!(rig.relay.carried() < LARGE as u64 + lost + FRAMES_BYTES, "{}", rig.relay.carried());
    }
}

#[test]
fn a_transfer_without_resume_starts_over_when_all_its_connections_break() {
    let rig = Rig::new();
    let source = rig.file("source", LARGE);
    rig.relay.state.breaks_after.store(EXTENT_BYTES / 2, Ordering::SeqCst);
    rig.relay.state.breaking.store(4, Ordering::SeqCst);
    let client = rig.client();
    let pushing = begin_push(&client, push_of(&source, 4, false)).unwrap();
    pushing.end().unwrap();
    assert_eq!(pushing.job.progress().bytes, LARGE as u64);
    rig.has(&source, "file");
}

/// A push under way, of which the network has carried about half, and is down.
fn cut_off(rig: &Rig, client: &Client, spec: PushSpec) -> Transfer {
    rig.relay.state.down_after.store(LARGE as u64 / 2, Ordering::SeqCst);
    let pushing = begin_push(client, spec).unwrap();
    while !rig.relay.state.down.load(Ordering::SeqCst) {
        thread::sleep(Duration::from_millis(1));
    }
    pushing
}

/// Pushes about half, and ends. What was carried.
fn push_half(rig: &Rig, spec: PushSpec) -> u64 {
    let client = rig.client();
    let pushing = cut_off(rig, &client, spec);
    client.close();
    assert_eq!(pushing.end().unwrap_err().code, ErrorCode::Aborted);
    // What is still in the network's hands arrives as well.
    while rig.relay.state.carrying.load(Ordering::SeqCst) > 0 {
        thread::sleep(Duration::from_millis(1));
    }
    // And the server takes it: who comes before would be told of less, and send the rest a second time.
    while rig.server.stats().connections > 0 {
        thread::sleep(Duration::from_millis(1));
    }
    let carried = rig.relay.carried();
    rig.relay.forget();
    rig.relay.repair();
    carried
}

#[test]
fn a_later_push_sends_only_what_an_earlier_one_did_not() {
    for (streams, again, durable) in [(1, 1, false), (4, 4, true), (4, 1, false), (1, 4, true)] {
        let rig = Rig::new();
        let source = rig.file("source", LARGE);
        let spec = |streams| PushSpec { durable, ..push_of(&source, streams, true) };
        let carried = push_half(&rig, spec(streams));
        let receipt = push(&rig.client(), spec(again)).unwrap();
        rig.has(&source, "file");
        let resumed = receipt.resumed_bytes;
        assert_eq!(receipt.bytes, LARGE as u64);
        assert!(
            resumed + 2 * streams as u64 * EXTENT_BYTES >= carried - FRAMES_BYTES,
            "{resumed} of {carried}"
        );
        assert!(resumed < carried);
        let carried = rig.relay.carried();
        assert!(carried < LARGE as u64 - resumed + FRAMES_BYTES, "{carried} beside {resumed}");
    }
}

#[test]
fn a_later_push_to_a_later_server_sends_only_what_an_earlier_one_did_not() {
    let rig = Rig::new();
    let source = rig.file("source", LARGE);
    push_half(&rig, push_of(&source, 2, true));
    let Rig { server, root, local, .. } = rig;
    drop(server);
    let server = Server::start(config(root.path())).unwrap();
    let relay = Relay::to(server.listening()[0].address.internet().unwrap());
    let rig = Rig { server, relay, root, local };
    let receipt = push(&rig.client(), push_of(&source, 2, true)).unwrap();
    rig.has(&source, "file");
    assert!(receipt.resumed_bytes > 0);
    assert!(rig.relay.carried() < LARGE as u64 - receipt.resumed_bytes + FRAMES_BYTES);
    assert_eq!(rig.server.stats().files_received, 1);
}

#[test]
fn a_push_goes_on_when_its_server_comes_back() {
    let rig = Rig::new();
    let source = rig.file("source", LARGE);
    let client = rig.client();
    let pushing = cut_off(&rig, &client, push_of(&source, 2, true));
    rig.relay.repair();
    let receipt = pushing.end().unwrap();
    assert_eq!((receipt.bytes, receipt.resumed_bytes), (LARGE as u64, 0));
    rig.has(&source, "file");
    assert!(rig.relay.carried() < LARGE as u64 + 4 * EXTENT_BYTES + FRAMES_BYTES);
}

#[test]
fn a_push_that_waits_for_its_server_can_be_cancelled() {
    let rig = Rig::new();
    let source = rig.file("source", LARGE);
    let client = rig.client();
    let pushing = cut_off(&rig, &client, push_of(&source, 2, true));
    pushing.job.cancel();
    assert_eq!(pushing.end().unwrap_err().code, ErrorCode::Aborted);
}

#[test]
fn a_source_that_changed_meanwhile_starts_over() {
    let rig = Rig::new();
    let source = rig.file("source", LARGE);
    push_half(&rig, push_of(&source, 2, true));
    let file = fs::File::options().write(true).open(&source).unwrap();
    let modified = file.metadata().unwrap().modified().unwrap();
    std::os::unix::fs::FileExt::write_all_at(&file, b"changed", 0).unwrap();
    // The time of the content can be put back, that of the inode cannot.
    file.set_times(fs::FileTimes::new().set_modified(modified)).unwrap();
    let receipt = push(&rig.client(), push_of(&source, 2, true)).unwrap();
    assert_eq!(receipt.resumed_bytes, 0);
    rig.has(&source, "file");
}

#[test]
fn a_source_that_changes_on_its_way_is_not_stored() {
    let rig = Rig::new();
    let source = rig.file("source", LARGE);
    let client = rig.client();
    let pushing = begin_push(&client, push_of(&source, 4, false)).unwrap();
    while rig.relay.carried() < EXTENT_BYTES {
        thread::sleep(Duration::from_millis(1));
    }
    fs::File::options().write(true).open(&source).unwrap().set_len(LARGE as u64 + 1).unwrap();
    let failure = pushing.end().unwrap_err();
    assert_eq!((failure.code, failure.retryable), (ErrorCode::SourceChanged, true));
    assert!(!rig.root.path().join("file").exists());
    // The client's connections go on to be of use.
    let receipt = push(&client, push_of(&source, 4, false)).unwrap();
    assert_eq!(receipt.bytes, LARGE as u64 + 1);
    rig.has(&source, "file");
}

#[test]
fn a_server_that_knows_no_transfers_gets_whole_files_and_cannot_resume() {
    let rig = Rig::new();
    let source = rig.file("source", LARGE);
    rig.relay.state.outdated.store(true, Ordering::SeqCst);
    push(&rig.client(), push_of(&source, 4, false)).unwrap();
    rig.has(&source, "file");
    let failure = push(&rig.client(), push_of(&source, 1, true)).unwrap_err();
    assert_eq!(failure.code, ErrorCode::Unsupported);
    assert!(failure.message.contains("--resume"), "{failure}");
    let spec = PushSpec { compare: Compare::Contents, ..push_of(&source, 1, false) };
    let failure = push(&rig.client(), spec).unwrap_err();
    assert_eq!(failure.code, ErrorCode::Unsupported);
    assert!(failure.message.contains("--checksum"), "{failure}");
}

#[test]
fn a_digest_that_does_not_combine_cannot_be_resumed() {
    let rig = Rig::new();
    let source = rig.file("source", 10);
    let mut spec = push_of(&source, 1, true);
    spec.sources.digest = DigestAlgorithm::Blake3;
    let failure = push(&rig.client(), spec).unwrap_err();
    assert_eq!(failure.code, ErrorCode::InvalidArgument);
    assert!(failure.message.contains("crc64nvme"), "{failure}");
}

#[test]
fn a_tree_of_small_and_large_files_is_pushed_with_resume_and_streams() {
    let rig = Rig::new();
    let tree = rig.local.path().join("tree");
    fs::create_dir_all(tree.join("d")).unwrap();
    for (number, bytes) in
        [10, 70_000, 9 * MIB, 8 * MIB, 8 * MIB + 1, 0, 20 * MIB, 12 * MIB, 33 * MIB, 11 * MIB]
            .into_iter()
            .enumerate()
    {
        fs::write(tree.join(format!("d/{number}")), noise(bytes)).unwrap();
    }
    for streams in [1, 3] {
        let spec = PushSpec { compare: Compare::Nothing, ..push_of(&tree, streams, true) };
        let receipt = push(&rig.client(), spec).unwrap();
        assert_eq!((receipt.files, receipt.failed), (10, 0));
        for number in 0..10 {
            let name = format!("d/{number}");
            assert!(
                fs::read(tree.join(&name)).unwrap()
                    == fs::read(rig.root.path().join("file").join(&name)).unwrap()
            );
        }
    }
    let names = fs::read_dir(rig.root.path().join("file/d")).unwrap().count();
    assert_eq!(names, 10, "nothing else is left");
}
