//! Peers that mean no good: they speak raw bytes, at any pace, and take what they are sent or do not.

mod keys;

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use xferd_os::clock;
use xferd_os::net::Socket;
use xferd_os::sim::{self, Dice, MILLION, once_in};
use xferd_server::Protocol;
use xferd_store::digest_of;
use xferd_wire::limits::EXTENT_BYTES_MAX;
use xferd_wire::{
    Checksum, DigestAlgorithm, Frame, Get, Hello, Identity, List, MAGIC, Mtime, Put, RemotePath, Sharing,
    TransferId, VERSION, encode, opcode,
};

/// Where what they put goes, which nobody else looks at.
pub(crate) const HOSTILE: &str = "hostile";

/// What is announced wherever something can be: 4 GiB.
const ANNOUNCED_BYTES: u64 = 4 << 30;

/// What one of them says after its turn, so that it does not keep the world busy for ever.
const TALK_BYTES: u64 = 2 << 10;

/// What a greedy one says before it draws breath: whoever only throws away what it says would do so without end.
const BREATH_BYTES: u64 = 64 << 10;

/// What they do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Habit {
    /// Says nothing, or no more than a hello.
    Silent,
    /// Says what others do, a byte at a time.
    Dripping,
    /// Announces much wherever something can be announced, and goes on with little.
    Announcing,
    /// Says anything.
    Raving,
    /// Says what others do, up to any byte, and then anything.
    CutOff,
    /// Asks and asks, and takes no answer.
    Greedy,
    /// Ends its direction somewhere, and waits for what comes.
    HalfClosing,
}

const HABITS: [Habit; 6] =
    [Habit::Silent, Habit::Dripping, Habit::Announcing, Habit::Raving, Habit::CutOff, Habit::HalfClosing];

/// One of them. It is to be [had](Peer::take_turn) by its own process.
pub(crate) struct Peer {
    socket: Socket,
    /// What it pretends to speak.
    protocol: Protocol,
    habit: Habit,
    dice: Dice,
    requests: u32,
    /// What it is about to say.
    words: Vec<u8>,
    /// Bytes after which it does what its habit says, and after which it falls silent.
    turns_after: u64,
    ends_after: u64,
    said: u64,
    /// What it will have said when it draws breath.
    breathes_at: u64,
    /// When it goes on.
    pause_until: Instant,
    takes_answers: bool,
    has_ended: bool,
}

impl Peer {
    /// Connects to where a server speaks `protocol`.
    pub(crate) fn connect(protocol: Protocol, address: SocketAddr, mut dice: Dice) -> Option<Self> {
        let socket = Socket::connect(&address.into()).ok()?;
        // What it takes to fill up what waits for it costs the world more than all the others do.
        let is_greedy = dice.chance(once_in(64));
        let habit = if is_greedy { Habit::Greedy } else { *dice.one_of(&HABITS) };
        let mut words = Vec::new();
        // Most are let in.
        if dice.chance(MILLION / 8 * 7) && protocol == Protocol::Transfer {
            Hello::default().encode(&mut words);
        }
        let is_early = dice.chance(once_in(4));
        let span = 1 << dice.between(4, 12);
        let turns_after = dice.below(if is_early { 100 } else { span });
        let takes_answers = habit != Habit::Greedy && dice.chance(MILLION / 2);
        sim::note(format_args!(
            "a hostile peer connects: {protocol:?}, {habit:?}, takes answers: {takes_answers}"
        ));
        sim::count("hostile peer");
        Some(Self {
            socket,
            protocol,
            habit,
            dice,
            requests: 0,
            words,
            turns_after,
            ends_after: if habit == Habit::Greedy { u64::MAX } else { turns_after + TALK_BYTES },
            said: 0,
            breathes_at: BREATH_BYTES,
            pause_until: clock::now(),
            takes_answers,
            has_ended: false,
        })
    }

    /// Does what it does for a moment. False once its connection is over.
    pub(crate) fn take_turn(&mut self) -> bool {
        if !self.socket.can_send() && !self.socket.can_recv() {
            return true;
        }
        match self.socket.peer() {
            Ok(_) => {}
            Err(error) => return error.kind() == std::io::ErrorKind::NotConnected,
        }
        self.listen() && self.speak()
    }

    fn listen(&mut self) -> bool {
        let mut answer = [0; 4096];
        while self.takes_answers && self.socket.can_recv() {
            match self.socket.recv(&mut answer) {
                Ok(0) => return false,
                Ok(_) => {}
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => break,
                Err(_) => return false,
            }
        }
        true
    }

    fn speak(&mut self) -> bool {
        let now = clock::now();
        if now < self.pause_until {
            sim::wake_at(self.pause_until);
            return true;
        }
        while !self.has_ended && self.socket.can_send() {
            if self.words.is_empty() && !self.think() {
                return true;
            }
            let drips = self.habit == Habit::Dripping;
            let most = if drips { 1 } else { self.words.len() };
            match self.socket.send(&self.words[..most], false) {
                Ok(sent) => {
                    self.words.drain(..sent.min(most));
                    self.said += sent as u64;
                }
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => return true,
                Err(_) => return false,
            }
            let is_out_of_breath = self.said >= self.breathes_at;
            if drips || is_out_of_breath {
                self.breathes_at = self.said + BREATH_BYTES;
                let ms_max = if drips { 10_000 } else { 100 };
                self.pause_until = now + Duration::from_millis(self.dice.between(1, ms_max));
                sim::wake_at(self.pause_until);
                return true;
            }
        }
        true
    }

    /// Finds something to say. False if there is nothing more.
    fn think(&mut self) -> bool {
        let turns = self.said >= self.turns_after;
        if self.said >= self.ends_after {
            return false;
        }
        match self.habit {
            Habit::Silent => return false,
            Habit::Announcing if turns => self.words = self.announce(),
            Habit::CutOff | Habit::Raving if turns => self.words = self.rave(),
            Habit::HalfClosing if turns => {
                self.has_ended = true;
                // What is on its way is of no interest to it.
                let _ = self.socket.shutdown_write();
                return false;
            }
            Habit::Greedy => self.words = self.demand(),
            _ => self.words = self.session(),
        }
        if self.habit == Habit::CutOff {
            let left = usize::try_from(self.turns_after.saturating_sub(self.said)).unwrap_or(usize::MAX);
            self.words.truncate(left.max(1));
        }
        true
    }

    fn request(&mut self) -> u32 {
        self.requests += 1;
        self.requests
    }

    fn path(&mut self) -> RemotePath {
        let number = self.dice.below(4);
        RemotePath::parse(&format!("{HOSTILE}/{number}")).unwrap_or(RemotePath::ROOT)
    }

    fn bytes(&mut self, count: u64) -> Vec<u8> {
        (0..count).map(|_| self.dice.number() as u8).collect()
    }

    /// Something that others ask for, too.
    fn session(&mut self) -> Vec<u8> {
        if self.protocol == Protocol::Kv {
            return keys::session(&mut self.dice);
        }
        if self.dice.chance(MILLION / 2) {
            return self.put();
        }
        self.demand()
    }

    /// A file, whole and right.
    fn put(&mut self) -> Vec<u8> {
        let mut words = Vec::new();
        let request = self.request();
        let size = *self.dice.one_of(&[0, 1, 200, 300, 9000, 20_000]);
        let bytes = self.bytes(size);
        let sharing = *self.dice.one_of(&[Sharing::Alone, Sharing::Shared, Sharing::Resumable]);
        let is_sized = sharing != Sharing::Alone || self.dice.chance(MILLION / 2);
        let digest = digest_of(DigestAlgorithm::Crc64Nvme, &bytes);
        encode(request, &self.announcement(is_sized.then_some(size), sharing), &mut words);
        if sharing != Sharing::Alone {
            encode(request, &Frame::Digest(digest), &mut words);
        }
        if size > 0 {
            encode(request, &Frame::Extent { offset: 0, len: size }, &mut words);
            words.extend_from_slice(&bytes);
        }
        encode(request, &Frame::Digest(digest), &mut words);
        encode(request, &Frame::Commit { size }, &mut words);
        words
    }

    fn announcement(&mut self, size: Option<u64>, sharing: Sharing) -> Frame {
        Frame::Put(Put {
            path: self.path(),
            size,
            durable: self.dice.chance(once_in(4)),
            digest: DigestAlgorithm::Crc64Nvme,
            mode: 0o644,
            mtime: Mtime::default(),
            identity: Identity { inode: self.dice.below(4), ..Identity::default() },
            sharing,
        })
    }

    /// Something that is answered.
    fn demand(&mut self) -> Vec<u8> {
        if self.protocol == Protocol::Kv {
            return keys::demand(&mut self.dice);
        }
        let mut words = Vec::new();
        let request = self.request();
        let digest = DigestAlgorithm::Crc64Nvme;
        // A place that others may have put something to.
        let path = if self.dice.chance(MILLION / 2) { self.path() } else { RemotePath::ROOT };
        let kinds = if self.habit == Habit::Greedy { 12 } else { 7 };
        let frame = match self.dice.below(kinds) {
            0 => return [self.ping(), self.ping(), self.ping()].concat(),
            1 => Frame::Stat(path),
            2 => Frame::Get(Get { path: self.path(), start: 0, end: None, digest }),
            3 => Frame::Checksum(Checksum { path: self.path(), digest }),
            4 => Frame::Attach(TransferId([7; 16])),
            5 => Frame::Cancel,
            _ => Frame::List(List { path: RemotePath::ROOT, recursive: true }),
        };
        encode(request, &frame, &mut words);
        words
    }

    fn ping(&mut self) -> Vec<u8> {
        let mut words = Vec::new();
        encode(0, &Frame::Ping(self.dice.number()), &mut words);
        words
    }

    /// Says that more comes than ever will.
    fn announce(&mut self) -> Vec<u8> {
        if self.protocol == Protocol::Kv {
            return keys::announce(&mut self.dice);
        }
        let mut words = Vec::new();
        let request = self.request();
        match self.dice.below(8) {
            0 => {
                words.extend_from_slice(&MAGIC);
                words.extend_from_slice(&VERSION.to_le_bytes());
                words.extend_from_slice(&VERSION.to_le_bytes());
                words.extend_from_slice(&u32::MAX.to_le_bytes());
            }
            // A frame of any kind, of that size or as large as one may be.
            1 | 2 => {
                let kinds = [opcode::PUT, opcode::DIGEST, opcode::HAVE, opcode::GET, opcode::STAT, 0x80];
                let kind = *self.dice.one_of(&kinds);
                let bytes = *self.dice.one_of(&[ANNOUNCED_BYTES, 1 << 20, 64 << 10]);
                words.extend_from_slice(&[kind, 0, 0, 0]);
                words.extend_from_slice(&request.to_le_bytes());
                words.extend_from_slice(&bytes.to_le_bytes());
            }
            // A path of that many bytes, in a frame that has fewer.
            3 => {
                encode(request, &Frame::Stat(self.path()), &mut words);
                let at = words.len().saturating_sub(HOSTILE.len() + 4);
                words[at..at + 2].copy_from_slice(&u16::MAX.to_le_bytes());
            }
            4 => {
                let (start, end) = (0, Some(ANNOUNCED_BYTES));
                let path = self.path();
                let get = Get { path, start, end, digest: DigestAlgorithm::Blake3 };
                encode(request, &Frame::Get(get), &mut words);
            }
            // A file of that size, and an extent as large as one may be, of which a little comes.
            _ => {
                let sharing = *self.dice.one_of(&[Sharing::Alone, Sharing::Shared, Sharing::Resumable]);
                let is_sized = sharing != Sharing::Alone || self.dice.chance(MILLION / 2);
                encode(request, &self.announcement(is_sized.then_some(ANNOUNCED_BYTES), sharing), &mut words);
                if sharing != Sharing::Alone {
                    let digest = digest_of(DigestAlgorithm::Crc64Nvme, b"");
                    encode(request, &Frame::Digest(digest), &mut words);
                }
                let offset = if sharing == Sharing::Alone { 0 } else { self.dice.below(1 << 20) };
                encode(request, &Frame::Extent { offset, len: EXTENT_BYTES_MAX }, &mut words);
                let little = self.dice.below(5000);
                words.extend(self.bytes(little));
            }
        }
        words
    }

    /// Anything.
    fn rave(&mut self) -> Vec<u8> {
        if self.protocol == Protocol::Kv {
            return keys::rave(&mut self.dice);
        }
        let count = self.dice.between(1, 500);
        let mut words = self.bytes(count);
        // Often with a beginning that is worth reading on.
        if self.dice.chance(MILLION / 2) {
            let kind = *self.dice.one_of(&[opcode::PUT, opcode::EXTENT, opcode::LIST, opcode::GET, 0x80]);
            let request = self.request();
            let mut head = vec![kind, 0, 0, 0];
            head.extend_from_slice(&request.to_le_bytes());
            head.extend_from_slice(&(words.len() as u64).to_le_bytes());
            words.splice(0..0, head);
        }
        words
    }
}
