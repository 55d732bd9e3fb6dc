//! Whole sessions of a server: up to three connections, any frames, in any order that things can happen in.

use std::collections::BTreeMap;

use xferd_engine::End;
use xferd_engine::fuzzing::{Connection, Played};
use xferd_server::ServerSession;
use xferd_server::fuzzing::Stage;
use xferd_store::{Hasher, Options, Store, digest_of};
use xferd_wire::resp::ReplyScanner;
use xferd_wire::{
    Checksum, Decoder, Digest, DigestAlgorithm, FileHeader, Frame, Framed, Get, Hello, Identity, Item, KV,
    KvPart, LinkTarget, List, MakeDir, Mtime, Put, RemotePath, Remove, Rename, SetAttributes, Sharing,
    Symlink, TransferId, encode, write_kv_args,
};

use crate::input::Input;
use crate::place::{LARGE_BYTES, Place};
use crate::wire::{frame_bytes, read_frame};

const STEPS_MAX: usize = 400;
const PEERS_MAX: usize = 3;

/// What a peer announces may be preallocated, in memory.
const SIZE_MAX: u64 = 1_000_000;

const PATHS: [&str; 10] =
    ["new", "small", "large", "dir", "dir/inner", "dir/new", "link", "out/canary", "out/new", "missing/new"];
const SIZES: [u64; 7] = [0, 1, 100, 5000, 70_000, LARGE_BYTES as u64, 16];
const LENS: [u64; 6] = [1, 8, 100, 5000, 70_000, LARGE_BYTES as u64];
const PIECES: [usize; 6] = [1, 13, 300, 5000, 70_000, usize::MAX];
const DIGESTS: [DigestAlgorithm; 4] =
    [DigestAlgorithm::Crc64Nvme, DigestAlgorithm::None, DigestAlgorithm::Blake3, DigestAlgorithm::Crc64Nvme];

const COMMANDS: [&str; 20] = [
    "PING",
    "SET k v",
    "GET k",
    "INCR n",
    "APPEND k vv",
    "LPUSH l a b",
    "LRANGE l 0 -1",
    "HGETALL h",
    "HSET h f v",
    "MULTI",
    "EXEC",
    "WATCH k",
    "SUBSCRIBE c d",
    "UNSUBSCRIBE",
    "PUBLISH c m",
    "MONITOR",
    "QUIT",
    "CLIENT KILL TYPE pubsub",
    "RESET",
    "SHUTDOWN",
];

/// Nothing panics, no limit is passed, each request gets one answer and what is answered is true, nothing outside the
/// root is touched and nothing is left behind.
pub fn server(data: &[u8]) {
    let mut input = Input(data);
    let mut play = Play::new();
    for _ in 0..STEPS_MAX {
        if input.is_empty() {
            break;
        }
        play.step(&mut input);
    }
    play.finish();
}

struct Play {
    place: Place,
    stage: Stage,
    peers: Vec<Peer>,
    /// Those that the server has told of.
    transfers: Vec<TransferId>,
}

impl Play {
    fn new() -> Self {
        let place = Place::new();
        let stage = Stage::new(Store::open(&place.root(), Options::default()).expect("the root is there"));
        let peers = vec![Peer::new(&stage)];
        Self { place, stage, peers, transfers: Vec::new() }
    }

    fn step(&mut self, input: &mut Input<'_>) {
        let which = input.u8();
        let peer = usize::from(which >> 6) % self.peers.len();
        let peer = &mut self.peers[peer];
        match which & 0x1f {
            0..=7 => peer.say_something(input, &self.transfers),
            8 => peer.say_anything(input),
            9..=11 => _ = peer.played.feed(input.pick(&PIECES)),
            12 => _ = peer.played.land(false),
            13 => _ = peer.played.land(true),
            14..=16 => _ = peer.played.work(),
            17..=19 => _ = peer.played.report(),
            20..=22 => _ = peer.leave(input.pick(&PIECES), &mut self.transfers),
            23 => self.settle(),
            24 => {
                // Who does not read for so long does not get what waits for it.
                peer.is_lost |= peer.played.queued_bytes() > 0;
                peer.played.stall();
            }
            25 => peer.played.drain(),
            26 => peer.hang_up(),
            27 => {
                peer.is_lost = true;
                peer.played.end(End::Closed);
            }
            28 => peer.played.nudge(),
            _ if self.peers.len() < PEERS_MAX => self.peers.push(Peer::new(&self.stage)),
            _ => {}
        }
        self.peers.iter().for_each(|peer| peer.played.session().check());
    }

    /// Until nothing can happen any more.
    fn settle(&mut self) {
        let mut goes_on = true;
        while goes_on {
            goes_on = false;
            for peer in &mut self.peers {
                goes_on |= peer.played.feed(usize::MAX);
                goes_on |= peer.played.land(false);
                goes_on |= peer.played.work();
                goes_on |= peer.played.report();
                goes_on |= peer.leave(usize::MAX, &mut self.transfers);
            }
        }
    }

    fn finish(mut self) {
        self.settle();
        for peer in &mut self.peers {
            let was_open = !peer.played.is_over();
            assert!(!was_open || peer.played.unheard_bytes() == 0, "bytes that nobody takes");
            peer.hang_up();
        }
        self.settle();
        for peer in &mut self.peers {
            assert!(peer.played.is_over(), "a session does not end with its peer: {:?}", peer.open.keys());
            if !peer.is_lost && !peer.is_confused && peer.played.unheard_bytes() == 0 {
                // Who leaves a transfer to others is not told how it ends.
                let alone = peer.open.iter().filter(|(_, request)| !request.is_shared);
                let open: Vec<_> = alone.map(|(number, _)| number).collect();
                assert!(open.is_empty(), "no answer to {open:?}");
            }
            peer.played.end(End::Closed);
        }
        self.settle();
        assert_eq!(self.stage.transfers(), 0, "a transfer outlives all connections");
        self.peers.clear();
        self.place.check_outside();
        self.place.check_leftovers();
    }
}

/// A client that says anything, and knows what it has said.
struct Peer {
    played: Played<ServerSession>,
    decoder: Decoder,
    /// The request whose raw bytes are coming, and how many still do.
    raw: (u32, u64),
    open: BTreeMap<u32, Request>,
    /// What has come of a reply, or of what came unasked.
    said: Vec<u8>,
    /// The server has given it up, or it has hung up in the middle of something.
    is_lost: bool,
    /// It has said what makes its own account of requests worthless.
    is_confused: bool,
}

/// What was asked for.
#[derive(Default)]
struct Request {
    /// Bytes of the put that were said, and those of the last extent.
    said: u64,
    digest: DigestKind,
    is_shared: bool,
    file: Option<Coming>,
}

#[derive(Clone, Copy)]
struct DigestKind(DigestAlgorithm);

impl Default for DigestKind {
    fn default() -> Self {
        Self(DigestAlgorithm::Crc64Nvme)
    }
}

/// A file that the server sends.
struct Coming {
    header: FileHeader,
    at: u64,
    hasher: Hasher,
    digest: Option<Digest>,
}

impl Peer {
    fn new(stage: &Stage) -> Self {
        let mut played = Played::connected(stage.session());
        let mut hello = Vec::new();
        Hello::default().encode(&mut hello);
        played.hear(&hello);
        Self {
            played,
            decoder: Decoder::new(),
            raw: (0, 0),
            open: BTreeMap::new(),
            said: Vec::new(),
            is_lost: false,
            is_confused: false,
        }
    }

    fn hang_up(&mut self) {
        self.is_lost |= self.played.unheard_bytes() > 0;
        self.played.hang_up();
    }

    fn leave(&mut self, max: usize, transfers: &mut Vec<TransferId>) -> bool {
        let mut wire = Vec::new();
        let left = self.played.leave(max, &mut wire);
        self.read(&wire, transfers);
        left
    }

    fn say(&mut self, request: u32, frame: &Frame) {
        let mut bytes = Vec::new();
        encode(request, frame, &mut bytes);
        if let Frame::Extent { len, .. } = frame {
            bytes.resize(bytes.len() + *len as usize, 7);
        }
        self.played.hear(&bytes);
    }

    /// A frame that makes sense by itself, perhaps not at this moment.
    fn say_something(&mut self, input: &mut Input<'_>, transfers: &[TransferId]) {
        let kind = input.u8();
        let request = 1 + u32::from(input.u8() % 24);
        let path = RemotePath::parse(input.pick(&PATHS)).expect("a path");
        let known = self.open.get(&request).map(|open| (open.said, open.digest.0, open.is_shared));
        let (said, algorithm, is_shared) = known.unwrap_or((0, DigestAlgorithm::Crc64Nvme, false));
        let frame = match kind % 24 {
            0 => Frame::Cancel,
            1 => Frame::Commit { size: said },
            2 => Frame::Commit { size: input.pick(&SIZES) },
            3 => Frame::Digest(digest_of(algorithm, &vec![7; said as usize])),
            4 => Frame::Digest(digest_of(input.pick(&DIGESTS), b"something else")),
            5 | 6 => {
                let len = input.pick(&LENS);
                let offset = if kind >= 128 { u64::from(input.u16()) * 100 } else { said };
                if is_shared {
                    self.say(request, &Frame::Digest(digest_of(algorithm, &vec![7; len as usize])));
                }
                if let Some(open) = self.open.get_mut(&request) {
                    open.said += len;
                }
                Frame::Extent { offset, len }
            }
            7 => Frame::Ping(input.u64()),
            _ if known.is_some() => return,
            8..=10 => {
                let sharing =
                    input.pick(&[Sharing::Alone, Sharing::Alone, Sharing::Shared, Sharing::Resumable]);
                let digest = input.pick(&DIGESTS);
                let size = input.pick(&SIZES);
                let is_sized = kind < 200 || sharing != Sharing::Alone;
                let put = Put {
                    path,
                    size: is_sized.then_some(size),
                    durable: kind & 64 != 0,
                    digest,
                    mode: 0o644,
                    mtime: Mtime { seconds: 1, nanoseconds: 0 },
                    identity: Identity { inode: u64::from(kind >> 7), ..Identity::default() },
                    sharing,
                };
                let is_shared = sharing != Sharing::Alone;
                let opened = Request { digest: DigestKind(digest), is_shared, ..Request::default() };
                self.open.insert(request, opened);
                if kind % 24 == 10 && !is_shared {
                    // All of it at once: what many small files are.
                    self.say(request, &Frame::Put(put));
                    if size > 0 {
                        self.say(request, &Frame::Extent { offset: 0, len: size });
                    }
                    self.say(request, &Frame::Digest(digest_of(digest, &vec![7; size as usize])));
                    Frame::Commit { size }
                } else {
                    Frame::Put(put)
                }
            }
            11 => match transfers.get(usize::from(input.u8()) % transfers.len().max(1)) {
                Some(id) => Frame::Attach(*id),
                None => Frame::Attach(TransferId([1; 16])),
            },
            12..=14 => {
                let start = input.pick(&[0, 1, 4999, 5000, 1 << 40]);
                let end = input.pick(&[None, Some(start), Some(start + 1), Some(start + 100_000)]);
                Frame::Get(Get { path, start, end, digest: input.pick(&DIGESTS) })
            }
            15 => Frame::List(List { path: RemotePath::ROOT, recursive: kind >= 128 }),
            16 => Frame::Stat(path),
            17 => Frame::Remove(Remove { path, recursive: kind >= 128 }),
            18 => Frame::Rename(Rename {
                from: path,
                to: RemotePath::parse(input.pick(&PATHS)).expect("a path"),
            }),
            19 => Frame::MakeDir(MakeDir { path, mode: 0o755, parents: kind >= 128 }),
            20 => {
                let target =
                    input.pick(&["small", "..", "/", "../outside", "dir", "link", "../outside/canary"]);
                Frame::Symlink(Symlink { path, target: LinkTarget::parse(target).expect("a target") })
            }
            21 => Frame::SetAttributes(SetAttributes { path, mode: 0o700, mtime: Mtime::default() }),
            22 => Frame::Checksum(Checksum { path, digest: input.pick(&DIGESTS) }),
            _ => return self.say_command(request, input),
        };
        let is_about_connection = matches!(frame, Frame::Ping(_));
        if known.is_none() && begins(&frame) {
            let digest = match &frame {
                Frame::Get(get) => get.digest,
                _ => DigestAlgorithm::Crc64Nvme,
            };
            let is_shared = matches!(frame, Frame::Attach(_));
            self.open.entry(request).or_insert(Request {
                digest: DigestKind(digest),
                is_shared,
                ..Request::default()
            });
        }
        self.say(if is_about_connection { 0 } else { request }, &frame);
    }

    /// Something about keys, whole or in two parts.
    fn say_command(&mut self, request: u32, input: &mut Input<'_>) {
        self.open.insert(request, Request::default());
        let mut bytes = Vec::new();
        write_kv_args(
            input.pick(&COMMANDS).split(' ').map(str::as_bytes).collect::<Vec<_>>().into_iter(),
            &mut bytes,
        );
        let at = usize::from(input.u8());
        if (1..bytes.len()).contains(&at) {
            self.say(request, &Frame::Kv(KvPart { bytes: bytes.drain(..at).collect(), more: true }));
            self.say(0, &Frame::Ping(1));
        }
        self.say(request, &Frame::Kv(KvPart { bytes, more: false }));
    }

    /// Any frame at all, and what is none.
    fn say_anything(&mut self, input: &mut Input<'_>) {
        let (opcode, request) = (input.u8(), input.u32() % 64);
        let bytes = frame_bytes(opcode, request, input.some_bytes());
        self.is_confused = true;
        let Some(Framed { request, mut frame }) = read_frame(&bytes) else { return self.played.hear(&bytes) };
        match &mut frame {
            Frame::Put(put) => {
                put.size = put.size.map(|size| size.min(SIZE_MAX));
                put.mode |= 0o700;
            }
            Frame::MakeDir(make) => make.mode |= 0o700,
            Frame::SetAttributes(set) => set.mode |= 0o700,
            Frame::Extent { len, .. } => *len = (*len).min(SIZE_MAX),
            _ => {}
        }
        self.say(request, &frame);
    }

    fn read(&mut self, mut bytes: &[u8], transfers: &mut Vec<TransferId>) {
        while !bytes.is_empty() {
            let (request, due) = self.raw;
            let raw = bytes.len().min(usize::try_from(due).unwrap_or(usize::MAX));
            let (content, rest) = bytes.split_at(raw);
            self.raw.1 -= raw as u64;
            if let Some(coming) = self.open.get_mut(&request).and_then(|open| open.file.as_mut()) {
                coming.hasher.update(content);
            }
            let (taken, item) = self.decoder.decode(rest).expect("a server speaks its own protocol");
            bytes = &rest[taken..];
            match item {
                Some(Item::Frame(Framed { request, frame })) => self.on_frame(request, frame, transfers),
                Some(Item::Hello(hello)) => assert!(hello.can(KV)),
                None => {}
            }
        }
    }

    fn on_frame(&mut self, request: u32, frame: Frame, transfers: &mut Vec<TransferId>) {
        if let Frame::Extent { len, .. } = frame {
            self.raw = (request, len);
        }
        if let Frame::Have(have) = &frame {
            if !transfers.contains(&have.transfer) {
                transfers.push(have.transfer);
            }
        }
        if let Frame::KvReply(part) | Frame::KvPush(part) = &frame {
            self.said.extend_from_slice(&part.bytes);
            if !part.more {
                check_values(&std::mem::take(&mut self.said));
            }
        }
        if request == 0 {
            self.is_lost |= matches!(frame, Frame::Error(_));
            return;
        }
        if self.is_confused || self.is_lost {
            return;
        }
        let Some(open) = self.open.get_mut(&request) else { panic!("{request} is not open: {frame:?}") };
        match frame {
            Frame::File(header) => {
                assert!(open.file.is_none() && header.start <= header.end && header.end <= header.size);
                let hasher = Hasher::new(open.digest.0);
                open.file = Some(Coming { header, at: header.start, hasher, digest: None });
            }
            Frame::Extent { offset, len } => {
                let coming = open.file.as_mut().expect("a file has a header");
                assert_eq!(offset, coming.at, "a gap");
                coming.at += len;
                assert!(coming.at <= coming.header.end, "more than was asked for");
            }
            Frame::Digest(digest) => {
                if let Some(coming) = &mut open.file {
                    coming.digest = Some(digest);
                }
            }
            Frame::End => {
                let Some(Coming { header, at, hasher, digest }) =
                    self.open.remove(&request).and_then(|it| it.file)
                else {
                    panic!("the end of what never began");
                };
                assert_eq!(at, header.end, "less than was asked for");
                assert_eq!(digest, Some(hasher.finish()), "not what came");
            }
            Frame::Committed(_) | Frame::Entry(_) | Frame::Done | Frame::Error(_) => {
                self.open.remove(&request);
            }
            Frame::KvReply(KvPart { more: false, .. }) => {
                self.open.remove(&request);
            }
            Frame::Entries(_) | Frame::Have(_) | Frame::KvReply(_) => {}
            other => panic!("{other:?} is not for a server to say"),
        }
    }
}

/// Values of RESP, one after another.
fn check_values(mut bytes: &[u8]) {
    assert!(!bytes.is_empty(), "an empty reply");
    while !bytes.is_empty() {
        let len = ReplyScanner::new().scan(bytes).expect("a reply is RESP");
        bytes = &bytes[len.expect("a reply is whole")..];
    }
}

/// Whether it is the first of a request.
fn begins(frame: &Frame) -> bool {
    !matches!(
        frame,
        Frame::Cancel
            | Frame::Commit { .. }
            | Frame::Digest(_)
            | Frame::Extent { .. }
            | Frame::Ping(_)
            | Frame::Put(_)
    )
}
