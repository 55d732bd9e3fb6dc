//! A server over a directory of its own, and a peer that says what it likes.

#![allow(dead_code, reason = "each test file needs a part of it")]
#![allow(clippy::unwrap_used, clippy::missing_panics_doc)]

use std::fs;
use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::path::Path;
use std::time::{Duration, Instant};

use tempfile::TempDir;
use xferd_server::{Config, Listen, Server};
use xferd_store::WritePolicy;
use xferd_store::digest_of;
use xferd_wire::{
    Committed, Decoder, Digest, DigestAlgorithm, ErrorCode, ErrorReply, Frame, Framed, Get, Hello, Identity,
    Item, KV, Mtime, Put, RemotePath, Sharing, WritePath, encode,
};

/// How long a test waits for what must happen. Only a broken server is this late.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// A size that is staged in a file instead of in memory.
pub(crate) const STAGED_BYTES: usize = 70_000;

pub(crate) struct Site {
    pub(crate) root: TempDir,
    pub(crate) server: Server,
}

impl Site {
    pub(crate) fn new() -> Self {
        Self::with(|_| {})
    }

    pub(crate) fn with(configure: impl FnOnce(&mut Config)) -> Self {
        let root = tempfile::tempdir().unwrap();
        let mut config = config(root.path());
        configure(&mut config);
        Self { root, server: Server::start(config).unwrap() }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.server.listening()[0].address.internet().unwrap()
    }

    pub(crate) fn peer(&self) -> Peer {
        Peer::connect(self.address())
    }

    /// A peer that has not said hello.
    pub(crate) fn stranger(&self) -> Peer {
        Peer::stranger(self.address())
    }

    pub(crate) fn write(&self, path: &str, bytes: &[u8]) {
        fs::write(self.root.path().join(path), bytes).unwrap();
    }

    pub(crate) fn read(&self, path: &str) -> Vec<u8> {
        fs::read(self.root.path().join(path)).unwrap()
    }

    /// The server still stores what a well-behaved client sends, and once all connections are gone it keeps exactly
    /// the names in `expected`, and no unfinished file open.
    pub(crate) fn is_well_and_has(&self, expected: &[&str]) {
        serves(self.address());
        fs::remove_file(self.root.path().join(PROOF)).unwrap();
        self.is_left_alone();
        // What a connection leaves is cleared away by workers, after its end.
        eventually("no unfinished file is left", || unfinished(self.root.path()).is_empty());
        assert_eq!(names(self.root.path()), expected);
    }

    pub(crate) fn is_left_alone(&self) {
        eventually("all connections are gone", || self.server.stats().connections == 0);
    }
}

/// Runs a test without workers, and with two.
pub(crate) fn each_site(test: impl Fn(&Site)) {
    for workers in [0, 2] {
        test(&Site::with(|config| config.workers = workers));
    }
}

pub(crate) fn config(root: &Path) -> Config {
    let mut config = Config::new(root);
    config.listen = vec![Listen::transfer(([127, 0, 0, 1], 0))];
    // What it chooses by itself depends on what else this machine writes.
    config.write_policy = WritePolicy::Always(WritePath::Cached);
    config
}

const PROOF: &str = "proof";

/// Stores a file over a new connection.
pub(crate) fn serves(address: SocketAddr) {
    let mut peer = Peer::connect(address);
    peer.put(1, PROOF, b"served");
    peer.committed(1, b"served");
}

pub(crate) fn eventually(what: &str, mut is_so: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !is_so() {
        assert!(Instant::now() < deadline, "waited in vain until {what}");
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// All that is beneath `root`, hidden names included, sorted.
pub(crate) fn names(root: &Path) -> Vec<String> {
    let mut names = Vec::new();
    let mut ahead = vec![root.to_path_buf()];
    while let Some(directory) = ahead.pop() {
        for entry in fs::read_dir(directory).unwrap() {
            let entry = entry.unwrap();
            names.push(entry.path().strip_prefix(root).unwrap().to_str().unwrap().to_owned());
            if entry.file_type().unwrap().is_dir() {
                ahead.push(entry.path());
            }
        }
    }
    names.sort();
    names
}

/// Files beneath `root` that have a name for the time being, or none and are open in this process.
fn unfinished(root: &Path) -> Vec<String> {
    let named: Vec<String> = names(root).into_iter().filter(|name| name.contains(".xferd-")).collect();
    let Ok(descriptors) = fs::read_dir("/proc/self/fd") else { return named };
    let targets = descriptors.filter_map(|entry| fs::read_link(entry.ok()?.path()).ok());
    let targets = targets.map(|target| target.to_string_lossy().into_owned());
    targets
        .filter(|target| target.starts_with(root.to_str().unwrap()) && target.ends_with("(deleted)"))
        .chain(named)
        .collect()
}

/// Bytes that show when they are misplaced: the period is a prime.
pub(crate) fn pattern(len: usize) -> Vec<u8> {
    (0..len).map(|at| (at % 251) as u8).collect()
}

pub(crate) fn digest(bytes: &[u8]) -> Digest {
    digest_of(DigestAlgorithm::Crc64Nvme, bytes)
}

pub(crate) fn path(path: &str) -> RemotePath {
    RemotePath::parse(path).unwrap()
}

pub(crate) fn hello() -> Vec<u8> {
    let mut bytes = Vec::new();
    Hello::default().encode(&mut bytes);
    bytes
}

pub(crate) fn frame(request: u32, frame: &Frame) -> Vec<u8> {
    let mut bytes = Vec::new();
    encode(request, frame, &mut bytes);
    bytes
}

pub(crate) fn extent(request: u32, offset: u64, raw: &[u8]) -> Vec<u8> {
    let mut bytes = frame(request, &Frame::Extent { offset, len: raw.len() as u64 });
    bytes.extend_from_slice(raw);
    bytes
}

/// The announcement of a file of `size` bytes.
pub(crate) fn announce(at: &str, size: Option<u64>) -> Frame {
    Frame::Put(Put {
        path: path(at),
        size,
        durable: false,
        digest: DigestAlgorithm::Crc64Nvme,
        mode: 0o644,
        mtime: Mtime { seconds: 1_700_000_000, nanoseconds: 0 },
        identity: Identity::default(),
        sharing: Sharing::Alone,
    })
}

/// A whole put.
pub(crate) fn put(request: u32, at: &str, bytes: &[u8]) -> Vec<u8> {
    let mut all = frame(request, &announce(at, Some(bytes.len() as u64)));
    if !bytes.is_empty() {
        all.extend(extent(request, 0, bytes));
    }
    all.extend(frame(request, &Frame::Digest(digest(bytes))));
    all.extend(frame(request, &Frame::Commit { size: bytes.len() as u64 }));
    all
}

/// A put whose path is spelled as no [`RemotePath`] can be.
pub(crate) fn put_spelled(request: u32, spelled: &[u8]) -> Vec<u8> {
    // "x" stands where the path goes: behind the header, two bytes of flags and one for the digest.
    const PATH_AT: usize = 16 + 3;
    let mut bytes = frame(request, &announce("x", Some(0)));
    let mut text = u16::try_from(spelled.len()).unwrap().to_le_bytes().to_vec();
    text.extend_from_slice(spelled);
    bytes.splice(PATH_AT..PATH_AT + 3, text);
    let body_bytes = (bytes.len() - 16) as u64;
    bytes[8..16].copy_from_slice(&body_bytes.to_le_bytes());
    bytes
}

pub(crate) fn get(at: &str) -> Frame {
    Frame::Get(Get { path: path(at), start: 0, end: None, digest: DigestAlgorithm::Crc64Nvme })
}

/// The other end of a connection, with its own idea of what is proper.
pub(crate) struct Peer {
    pub(crate) stream: TcpStream,
    decoder: Decoder,
    input: Vec<u8>,
}

impl Peer {
    pub(crate) fn stranger(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).unwrap();
        stream.set_nodelay(true).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_write_timeout(Some(PATIENCE)).unwrap();
        Self { stream, decoder: Decoder::new(), input: Vec::new() }
    }

    pub(crate) fn connect(address: SocketAddr) -> Self {
        let mut peer = Self::stranger(address);
        peer.say(&hello());
        peer.greeted();
        peer
    }

    /// The server's hello is the next that comes.
    pub(crate) fn greeted(&mut self) {
        match self.next() {
            Some(Item::Hello(mut hello)) => {
                // Some servers keep keys.
                hello.capabilities.retain(|capability| capability != KV);
                assert_eq!(hello, Hello::default());
            }
            other => panic!("a hello was expected, not {other:?}"),
        }
    }

    pub(crate) fn say(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).unwrap();
    }

    pub(crate) fn send(&mut self, request: u32, what: &Frame) {
        self.say(&frame(request, what));
    }

    pub(crate) fn put(&mut self, request: u32, at: &str, bytes: &[u8]) {
        self.say(&put(request, at, bytes));
    }

    /// Ends the stream to the server; it may still answer.
    pub(crate) fn end(&self) {
        self.stream.shutdown(Shutdown::Write).unwrap();
    }

    /// What comes next; `None` is the end of the stream, or its breaking.
    pub(crate) fn next(&mut self) -> Option<Item> {
        loop {
            let (taken, item) = self.decoder.decode(&self.input).unwrap();
            self.input.drain(..taken);
            if item.is_some() {
                return item;
            }
            if !self.read() {
                return None;
            }
        }
    }

    fn read(&mut self) -> bool {
        let mut room = [0; 64 << 10];
        match self.stream.read(&mut room) {
            Ok(0) => false,
            Ok(bytes) => {
                self.input.extend_from_slice(&room[..bytes]);
                true
            }
            Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => false,
            Err(error) => panic!("nothing came from the server: {error}"),
        }
    }

    /// The raw bytes of an extent.
    pub(crate) fn raw(&mut self, len: u64) -> Vec<u8> {
        while (self.input.len() as u64) < len {
            assert!(self.read(), "the stream ended within an extent");
        }
        self.input.drain(..usize::try_from(len).unwrap()).collect()
    }

    /// What the server says next, and about which request.
    pub(crate) fn answer(&mut self) -> (u32, Frame) {
        match self.next() {
            Some(Item::Frame(Framed { request, frame })) => (request, frame),
            other => panic!("a frame was expected, not {other:?}"),
        }
    }

    #[track_caller]
    pub(crate) fn committed(&mut self, request: u32, bytes: &[u8]) {
        let committed =
            Committed { size: bytes.len() as u64, write_path: WritePath::Cached, digest: digest(bytes) };
        assert_eq!(self.answer(), (request, Frame::Committed(committed)));
    }

    #[track_caller]
    pub(crate) fn refused(&mut self, request: u32, code: ErrorCode) {
        match self.answer() {
            (answered, Frame::Error(reply)) => assert_eq!((answered, reply.code), (request, code), "{reply}"),
            (answered, other) => {
                panic!("{request} should be refused with {code}, but {answered} got {other:?}")
            }
        }
    }

    #[track_caller]
    pub(crate) fn closed(&mut self) {
        assert_eq!(self.next(), None);
    }

    /// The whole answer to a get.
    #[track_caller]
    pub(crate) fn file(&mut self, request: u32) -> Vec<u8> {
        self.file_or_refusal(request).unwrap()
    }

    pub(crate) fn file_or_refusal(&mut self, request: u32) -> Result<Vec<u8>, ErrorReply> {
        let mut bytes = Vec::new();
        loop {
            let (answered, frame) = self.answer();
            assert_eq!(answered, request, "{frame:?}");
            match frame {
                Frame::File(_) => {}
                Frame::Extent { offset, len } => {
                    assert_eq!(offset, bytes.len() as u64);
                    bytes.extend(self.raw(len));
                }
                Frame::Digest(theirs) => assert_eq!(theirs, digest(&bytes)),
                Frame::End => return Ok(bytes),
                Frame::Error(reply) => return Err(reply),
                other => panic!("a file was expected, not {other:?}"),
            }
        }
    }
}
