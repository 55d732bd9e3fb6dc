use std::collections::{BTreeMap, BTreeSet, VecDeque};

use tempfile::TempDir;
use xferd_engine::{CROWDED_KEPT_BYTES, Effect, SMALL_FILES_BYTES_MAX, SendSource, Work};
use xferd_os::Sink;
use xferd_store::{Hasher, Options};
use xferd_wire::{
    DigestAlgorithm, Identity, MakeDir, Mtime, Remove, Sharing, encode, encode_kv, opcode, write_kv_args,
};

use super::*;
use crate::kv::{PENDING_BYTES_MAX, REPLIES_BYTES_MAX};

/// A shard played by hand: what a session asked for waits here until it is let happen.
struct Stage {
    _root: TempDir,
    session: ServerSession,
    effects: Fx,
    works: VecDeque<(u32, Work<ServerOutcome>)>,
    outcomes: VecDeque<(u32, ServerOutcome)>,
    leaving: VecDeque<(u32, u64)>,
    intake: Option<Intake>,
    discard: u64,
    closed: bool,
    input: VecDeque<u8>,
    client: Client,
}

struct Intake {
    key: u32,
    sink: Arc<Sink>,
    offset: u64,
    left: u64,
    hasher: Option<Hasher>,
}

/// What a client makes of the answers.
#[derive(Default)]
struct Client {
    decoder: Decoder,
    raw_due: u64,
    open: BTreeSet<u32>,
    ended: BTreeMap<u32, u32>,
    lost: Option<ErrorCode>,
    pongs: Vec<u64>,
    replies: Vec<(u32, Vec<u8>)>,
    pushes: Vec<Vec<u8>>,
}

/// A generator of numbers that only have to be various (xorshift, Marsaglia 2003).
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % sides
    }
}

impl Stage {
    fn new() -> Self {
        Self::with_keys(None)
    }

    fn with_keys(kv: Option<Arc<Kv>>) -> Self {
        let root = tempfile::tempdir().unwrap();
        let store = Arc::new(Store::open(root.path(), Options::default()).unwrap());
        std::fs::write(root.path().join("small"), vec![7; 5000]).unwrap();
        std::fs::write(root.path().join("large"), vec![7; 12_000_000]).unwrap();
        let shared = Arc::new(Shared {
            store,
            patience: Patience::default(),
            log: Arc::default(),
            transfers: Arc::default(),
            open_files: Arc::default(),
            budget: Budget::default(),
            kv,
        });
        let mut stage = Self {
            _root: root,
            session: ServerSession::new(shared, PEER),
            effects: Fx::default(),
            works: VecDeque::new(),
            outcomes: VecDeque::new(),
            leaving: VecDeque::new(),
            intake: None,
            discard: 0,
            closed: false,
            input: VecDeque::new(),
            client: Client::default(),
        };
        let mut hello = Vec::new();
        Hello::default().encode(&mut hello);
        stage.input.extend(hello);
        stage.tell(Event::Connected);
        stage
    }

    fn tell(&mut self, event: Event<ServerOutcome, std::convert::Infallible>) {
        if !self.closed {
            self.session.on_event(event, &mut self.effects);
            self.perform();
        }
    }

    fn perform(&mut self) {
        for effect in self.effects.take() {
            match effect {
                Effect::Send(bytes) => self.client.read(bytes.remaining()),
                Effect::SendExtent { key, len, source, .. } => {
                    assert!(matches!(source, SendSource::File(_)));
                    self.client.raw_due -= len;
                    self.leaving.push_back((key, len));
                }
                Effect::Receive { key, sink, offset, len, hasher } => {
                    assert!(self.intake.is_none() && self.discard == 0, "one extent at a time");
                    self.intake = Some(Intake { key, sink, offset, left: len, hasher });
                }
                Effect::Discard { len } => self.discard += len,
                Effect::Work { key, work } => self.works.push_back((key, work)),
                Effect::Close { .. } => self.closed = true,
            }
        }
    }

    /// Lets one thing happen, if it can. False if it cannot.
    fn step(&mut self, which: u64, dice: &mut Dice) -> bool {
        match which {
            0 => self.feed(dice),
            1 => {
                self.works.pop_front().map(|(key, work)| self.outcomes.push_back((key, work.run()))).is_some()
            }
            2 => self
                .outcomes
                .pop_front()
                .map(|(key, outcome)| self.tell(Event::Worked { key, outcome }))
                .is_some(),
            3 => self.leaving.pop_front().map(|(key, bytes)| self.tell(Event::Sent { key, bytes })).is_some(),
            _ => {
                let paused = self.session.listing.as_ref().is_some_and(|listing| listing.paused.is_some());
                self.tell(Event::Drained);
                paused
            }
        }
    }

    fn feed(&mut self, dice: &mut Dice) -> bool {
        let mut bytes: Vec<u8> = self.input.iter().copied().take(1 + dice.roll(40_000) as usize).collect();
        if self.closed || bytes.is_empty() {
            return false;
        }
        if self.discard > 0 {
            bytes.truncate(usize::try_from(self.discard).unwrap());
            self.discard -= bytes.len() as u64;
        } else if let Some(intake) = &mut self.intake {
            bytes.truncate(usize::try_from(intake.left).unwrap());
            intake.sink.write_all_at(&bytes, intake.offset).unwrap();
            intake.hasher.as_mut().unwrap().update(&bytes);
            intake.offset += bytes.len() as u64;
            intake.left -= bytes.len() as u64;
            if intake.left == 0 {
                let Intake { key, hasher, .. } = self.intake.take().unwrap();
                self.tell(Event::Received { key, hasher, result: Ok(()) });
            }
        } else if self.session.wants_bytes() {
            let taken = self.session.on_bytes(&bytes, &mut self.effects);
            assert!(taken > 0, "a session that wants bytes takes some");
            bytes.truncate(taken);
            self.perform();
        } else {
            return false;
        }
        self.input.drain(..bytes.len());
        true
    }

    fn say(&mut self, request: u32, frame: &Frame) {
        let mut bytes = Vec::new();
        encode(request, frame, &mut bytes);
        self.input.extend(bytes);
    }

    /// Until nothing can happen any more.
    fn settle(&mut self, dice: &mut Dice) {
        while (0..5).any(|which| self.step(which, dice)) {}
    }
}

impl Client {
    fn read(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let inline = bytes.len().min(usize::try_from(self.raw_due).unwrap());
            self.raw_due -= inline as u64;
            bytes = &bytes[inline..];
            let (taken, item) = self.decoder.decode(bytes).unwrap();
            bytes = &bytes[taken..];
            let Some(Item::Frame(Framed { request, frame })) = item else { continue };
            match frame {
                Frame::Extent { len, .. } => self.raw_due = len,
                Frame::Error(reply) if request == 0 => self.lost = Some(reply.code),
                Frame::Pong(number) => self.pongs.push(number),
                Frame::KvReply(part) => self.replies.push((request, part.bytes)),
                Frame::KvPush(part) => self.pushes.push(part.bytes),
                Frame::Committed(_) | Frame::End | Frame::Entry(_) | Frame::Done | Frame::Error(_) => {
                    assert!(self.open.remove(&request), "{request} was answered and is not open: {frame:?}");
                    *self.ended.entry(request).or_default() += 1;
                }
                _ => {}
            }
        }
    }
}

/// A put of a new file.
fn put_of(size: Option<u64>, sharing: Sharing) -> Frame {
    Frame::Put(Put {
        path: RemotePath::parse("new").unwrap(),
        size,
        sharing,
        durable: false,
        digest: DigestAlgorithm::Crc64Nvme,
        mode: 0o644,
        mtime: Mtime { seconds: 0, nanoseconds: 0 },
        identity: Identity::default(),
    })
}

/// Something that a client might say, whether it makes sense at this moment or not.
fn say_something(stage: &mut Stage, dice: &mut Dice) {
    let request = 1 + dice.roll(90) as u32;
    let path =
        RemotePath::parse(["small", "large", "new", "dir/new", "missing"][dice.roll(5) as usize]).unwrap();
    let size = [0, 100, 5000, 70_000][dice.roll(4) as usize];
    let frame = match dice.roll(13) {
        0 => Frame::Cancel,
        1 => Frame::Commit { size },
        2 => Frame::Digest(Hasher::new(DigestAlgorithm::Crc64Nvme).finish()),
        3 if size > 0 => {
            stage.say(request, &Frame::Extent { offset: 0, len: size });
            return stage.input.extend(std::iter::repeat_n(7, usize::try_from(size).unwrap()));
        }
        _ if stage.client.open.contains(&request) => return,
        4 | 5 => Frame::Get(Get { path, start: 0, end: None, digest: DigestAlgorithm::None }),
        6 => Frame::List(List { path: RemotePath::ROOT, recursive: true }),
        7 => Frame::Stat(path),
        8 => Frame::Remove(Remove { path: RemotePath::parse("dir").unwrap(), recursive: true }),
        9 => Frame::Checksum(Checksum { path, digest: DigestAlgorithm::Crc64Nvme }),
        10 => Frame::MakeDir(MakeDir { path: RemotePath::parse("dir").unwrap(), mode: 0o755, parents: true }),
        _ => put_of((size != 5000).then_some(size), Sharing::Alone),
    };
    if !matches!(frame, Frame::Cancel | Frame::Commit { .. } | Frame::Digest(_)) {
        stage.client.open.insert(request);
    }
    stage.say(request, &frame);
}

#[test]
fn whatever_is_said_in_whatever_order_things_happen_each_request_gets_one_answer() {
    for seed in 1..=100 {
        let mut dice = Dice(0x9E37_79B9_7F4A_7C15 ^ seed);
        let mut stage = Stage::new();
        for _ in 0..400 {
            let which = dice.roll(8);
            if which < 5 {
                stage.step(which, &mut dice);
            } else {
                say_something(&mut stage, &mut dice);
            }
        }
        stage.settle(&mut dice);
        assert_eq!((stage.client.lost, stage.input.len()), (None, 0), "seed {seed}");
        // Only puts wait for more, and they learn that none will come.
        stage.session.on_end(&mut stage.effects);
        stage.perform();
        assert!(stage.closed, "seed {seed}: {:?}", stage.client.open);
        assert!(stage.client.open.is_empty(), "seed {seed}: {:?} got no answer", stage.client.open);
    }
}

#[test]
fn a_number_is_not_free_while_a_worker_is_busy_with_what_was_cancelled() {
    let mut dice = Dice(1);
    let mut stage = Stage::new();
    let get = |path: &str| {
        let path = RemotePath::parse(path).unwrap();
        Frame::Get(Get { path, start: 0, end: None, digest: DigestAlgorithm::Crc64Nvme })
    };
    stage.client.open.insert(7);
    stage.say(7, &get("small"));
    stage.say(7, &Frame::Cancel);
    while stage.step(0, &mut dice) {}
    assert!(stage.client.ended.is_empty());
    stage.settle(&mut dice);
    assert_eq!(stage.client.ended, [(7, 1)].into());
}

#[test]
fn the_digest_of_a_large_file_lets_others_have_their_turn_and_can_be_given_up() {
    let mut dice = Dice(1);
    let mut stage = Stage::new();
    let checksum = |path: &str| {
        let path = RemotePath::parse(path).unwrap();
        Frame::Checksum(Checksum { path, digest: DigestAlgorithm::Crc64Nvme })
    };
    for (request, path) in [(7, "large"), (8, "large"), (9, "small")] {
        stage.client.open.insert(request);
        stage.say(request, &checksum(path));
    }
    while stage.client.ended.is_empty() {
        (0..3).for_each(|which| _ = stage.step(which, &mut dice));
    }
    assert_eq!(stage.client.ended, [(9, 1)].into(), "the small one is first");
    assert_eq!(stage.session.unhashed.len(), 1, "one large one at a time");
    stage.say(7, &Frame::Cancel);
    stage.say(8, &Frame::Cancel);
    stage.settle(&mut dice);
    assert_eq!(stage.client.ended, [(7, 1), (8, 1), (9, 1)].into());
    assert!(stage.session.hashing.is_none() && stage.session.unhashed.is_empty());
}

#[test]
fn a_source_that_was_short_fails_its_own_get_and_not_the_next() {
    let mut dice = Dice(1);
    let mut stage = Stage::new();
    for request in [7, 8] {
        stage.client.open.insert(request);
        let path = RemotePath::parse("large").unwrap();
        stage.say(request, &Frame::Get(Get { path, start: 0, end: None, digest: DigestAlgorithm::None }));
    }
    while stage.leaving.is_empty() {
        (0..3).for_each(|which| _ = stage.step(which, &mut dice));
    }
    // All but a byte of the first extent leaves, so that the second is queued; both come to the end of the file.
    let (key, bytes) = stage.leaving[0];
    stage.tell(Event::Sent { key, bytes: bytes - 1 });
    for (key, _) in stage.leaving.drain(..2).collect::<Vec<_>>() {
        assert_eq!(key, 7);
        stage.tell(Event::SourceShort { key });
    }
    assert_eq!(stage.client.ended, [(7, 1)].into());
    stage.settle(&mut dice);
    assert_eq!(stage.client.ended, [(7, 1), (8, 1)].into());
}

#[test]
fn nothing_is_read_while_as_many_requests_wait_as_may() {
    let mut dice = Dice(1);
    let mut stage = Stage::new();
    let limit = REQUESTS_WAITING_MAX as u32;
    for request in 1..=limit + 1 {
        stage.client.open.insert(request);
        stage.say(request, &Frame::Stat(RemotePath::ROOT));
    }
    while stage.step(0, &mut dice) {}
    assert_eq!(stage.session.waiting.len(), REQUESTS_WAITING_MAX);
    assert!(!stage.input.is_empty());
    stage.settle(&mut dice);
    assert_eq!(stage.client.ended.len(), REQUESTS_WAITING_MAX + 1);
}

#[test]
fn where_it_is_crowded_fewer_requests_wait_and_all_are_answered() {
    let mut dice = Dice(1);
    for (kept, waiting) in [
        (CROWDED_KEPT_BYTES - 1, REQUESTS_WAITING_CROWDED_MAX + 1),
        (CROWDED_KEPT_BYTES, REQUESTS_WAITING_CROWDED_MAX),
    ] {
        let mut stage = Stage::new();
        let mut others = stage.session.shared.budget.keep();
        others.set(kept);
        let requests = REQUESTS_WAITING_CROWDED_MAX as u32 + 1;
        for request in 1..=requests {
            stage.client.open.insert(request);
            stage.say(request, &Frame::Stat(RemotePath::ROOT));
        }
        while stage.step(0, &mut dice) {}
        assert_eq!(stage.session.waiting.len(), waiting);
        assert_eq!(stage.session.kept_bytes(), waiting as u64 * WAITING_BYTES);
        stage.settle(&mut dice);
        assert_eq!(stage.client.ended.len(), requests as usize);
    }
}

/// Shared ones are announced faster than they are made.
#[test]
fn no_more_files_arrive_side_by_side_than_may_though_all_are_announced_at_once() {
    let mut dice = Dice(1);
    for count in [PUTS_ARRIVING_MAX, PUTS_ARRIVING_MAX + 1] {
        let mut stage = Stage::new();
        for request in 1..=count as u32 {
            stage.client.open.insert(request);
            stage.say(request, &put_of(Some(100), Sharing::Shared));
        }
        while stage.step(0, &mut dice) {}
        stage.settle(&mut dice);
        assert_eq!(stage.session.attached.len(), PUTS_ARRIVING_MAX);
        assert_eq!(stage.client.ended.len(), count - PUTS_ARRIVING_MAX);
    }
}

#[test]
fn nothing_is_read_while_as_many_puts_wait_to_be_stored_as_may() {
    let mut dice = Dice(1);
    let mut stage = Stage::new();
    let limit = PUTS_COMMITTING_MAX as u32;
    for request in 1..=limit + 1 {
        stage.client.open.insert(request);
        stage.say(request, &put_of(Some(0), Sharing::Alone));
        stage.say(request, &Frame::Digest(Hasher::new(DigestAlgorithm::Crc64Nvme).finish()));
        stage.say(request, &Frame::Commit { size: 0 });
    }
    while stage.step(0, &mut dice) {}
    assert_eq!(stage.session.committing.len(), PUTS_COMMITTING_MAX);
    assert!(!stage.input.is_empty());
    stage.settle(&mut dice);
    assert_eq!(stage.client.ended.len(), PUTS_COMMITTING_MAX + 1);
}

#[test]
fn a_small_file_that_finds_no_room_in_memory_is_staged_and_stored_all_the_same() {
    for taken in [SMALL_FILES_BYTES_MAX - 1, SMALL_FILES_BYTES_MAX] {
        let mut dice = Dice(1);
        let mut stage = Stage::new();
        let room = stage.session.shared.budget.clone();
        let _others = room.take(taken).unwrap();
        stage.client.open.insert(7);
        stage.say(7, &put_of(Some(1), Sharing::Alone));
        while stage.step(0, &mut dice) {}
        assert_eq!(stage.session.staging.is_some(), taken == SMALL_FILES_BYTES_MAX);
        assert!(room.take(1).is_none());
        stage.say(7, &Frame::Extent { offset: 0, len: 1 });
        stage.input.extend(b"x");
        stage.say(7, &Frame::Digest(xferd_store::digest_of(DigestAlgorithm::Crc64Nvme, b"x")));
        stage.say(7, &Frame::Commit { size: 1 });
        stage.settle(&mut dice);
        assert_eq!(std::fs::read(stage._root.path().join("new")).unwrap(), b"x");
        assert!(room.take(SMALL_FILES_BYTES_MAX - taken).is_some(), "what it took is given back");
    }
}

impl Stage {
    fn command(&mut self, request: u32, args: &[&[u8]]) {
        let mut bytes = Vec::new();
        encode_kv(opcode::KV, request, &mut bytes, |out| write_kv_args(args.iter().copied(), out));
        self.input.extend(bytes);
    }
}

#[test]
fn a_ping_and_a_file_pass_a_change_that_waits_for_the_disk() {
    let (kv, _directory) = Kv::uncommitted();
    let (mut dice, mut stage) = (Dice(1), Stage::with_keys(Some(kv.clone())));
    stage.command(1, &[b"SUBSCRIBE", b"c"]);
    stage.command(2, &[b"SET", b"k", b"v"]);
    stage.command(3, &[b"GET", b"k"]);
    stage.say(0, &Frame::Ping(7));
    let path = RemotePath::parse("small").unwrap();
    stage.client.open = [4, 5].into();
    stage.say(4, &Frame::Get(Get { path, start: 0, end: None, digest: DigestAlgorithm::None }));
    stage.say(5, &put_of(Some(0), Sharing::Alone));
    stage.say(5, &Frame::Digest(Hasher::new(DigestAlgorithm::Crc64Nvme).finish()));
    stage.say(5, &Frame::Commit { size: 0 });
    stage.settle(&mut dice);
    kv.channels.publish(b"c", b"m");
    stage.tell(Event::Nudged);
    assert_eq!((&stage.client.pongs, &stage.client.ended), (&vec![7], &[(4, 1), (5, 1)].into()));
    assert_eq!((stage.client.replies.len(), stage.client.pushes.len()), (0, 0));
    assert!(!stage.session.is_quiet());
    kv.commit();
    stage.tell(Event::Nudged);
    let replies =
        |stage: &Stage| stage.client.replies.iter().map(|(request, _)| *request).collect::<Vec<_>>();
    assert_eq!(replies(&stage), [1, 2, 3]);
    assert_eq!(stage.client.replies[2].1, b"$1\r\nv\r\n");
    assert_eq!(stage.client.pushes.len(), 1, "what is told later comes later");
    assert!(stage.session.is_quiet() && stage.session.patience() == Duration::MAX);
    // Who is gone before is not told, and what he said is done.
    stage.command(6, &[b"SET", b"k", b"w"]);
    stage.settle(&mut dice);
    stage.tell(Event::Closed(End::Closed));
    kv.commit();
    assert_eq!((kv.clients.len(), kv.channels.channels()), (0, 0));
}

#[test]
fn a_connection_that_has_ended_is_closed_once_its_changes_are_on_the_disk() {
    let (kv, _directory) = Kv::uncommitted();
    let (mut dice, mut stage) = (Dice(1), Stage::with_keys(Some(kv.clone())));
    stage.command(1, &[b"SET", b"k", b"v"]);
    stage.settle(&mut dice);
    stage.session.on_end(&mut stage.effects);
    stage.perform();
    assert!(!stage.closed);
    kv.commit();
    stage.tell(Event::Nudged);
    assert!(stage.closed);
    assert_eq!(stage.client.replies, [(1, b"+OK\r\n".to_vec())]);
}

#[test]
fn nothing_is_read_while_as_many_replies_wait_for_the_disk_as_may() {
    let (kv, _directory) = Kv::uncommitted();
    let (mut dice, mut stage) = (Dice(1), Stage::with_keys(Some(kv.clone())));
    stage.command(1, &[b"SET", b"k", &vec![b'v'; REPLIES_BYTES_MAX / 2]]);
    stage.command(2, &[b"GET", b"k"]);
    stage.settle(&mut dice);
    assert!(stage.session.wants_bytes());
    stage.command(3, &[b"GET", b"k"]);
    stage.settle(&mut dice);
    assert!(!stage.session.wants_bytes());
    assert!(stage.session.kept_bytes() as usize >= REPLIES_BYTES_MAX);
    stage.say(0, &Frame::Ping(7));
    stage.settle(&mut dice);
    assert!(stage.client.pongs.is_empty());
    kv.commit();
    stage.tell(Event::Nudged);
    stage.settle(&mut dice);
    assert_eq!(stage.client.pongs, [7]);
}

#[test]
fn requests_that_are_not_whole_may_take_so_much_and_whoever_adds_to_it_is_cut() {
    let (kv, _directory) = Kv::uncommitted();
    for (others, lost) in [(PENDING_BYTES_MAX - 100, false), (PENDING_BYTES_MAX - 99, true)] {
        let (mut dice, mut stage) = (Dice(1), Stage::with_keys(Some(kv.clone())));
        kv.pending_bytes.store(others, std::sync::atomic::Ordering::Relaxed);
        let part = |len: usize| Frame::Kv(KvPart { bytes: vec![1; len], more: true });
        stage.client.open.insert(1);
        stage.say(1, &part(60));
        stage.say(1, &part(40));
        stage.settle(&mut dice);
        assert_eq!(stage.closed, lost);
        stage.tell(Event::Closed(End::Closed));
        drop(stage);
        assert_eq!(kv.pending_bytes.load(std::sync::atomic::Ordering::Relaxed), others, "it is given back");
    }
}
