//! Whole sessions of a client with a server: any commands, any cuts and orders, connections that break, and a server
//! that says what it should not.

use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use xferd_client::fuzzing::Stage;
use xferd_client::{
    CHUNK_BYTES_MAX, Compare, Job, PullSpec, PushSpec, Reader, Receipt, Selection, Sources, Withdrawal,
    WriteSpec, Writer,
};
use xferd_engine::fuzzing::{Connection, Played};
use xferd_engine::{End, Failure};
use xferd_server::ServerSession;
use xferd_store::{Options, Store, digest_of};
use xferd_wire::{
    Committed, Decoder, DigestAlgorithm, Entries, Entry, EntryKind, ErrorCode, ErrorReply, FileHeader, Frame,
    Framed, Have, Item, List, MakeDir, Mtime, RemotePath, Remove, Rename, Run, TransferId, WritePath, encode,
};

use crate::input::Input;
use crate::place::{LARGE_BYTES, Place};
use crate::wire::{frame_bytes, read_frame};

const STEPS_MAX: usize = 300;
const COMMANDS_MAX: usize = 8;

/// Two extents: one that is not resumed alone.
const HUGE_BYTES: u64 = (8 << 20) + 5000;

/// What a server announces may be preallocated, in memory.
const SIZE_MAX: u64 = 1_000_000;

const PATHS: [&str; 7] = ["", "small", "large", "dir", "dir/inner", "new", "missing"];
const PIECES: [usize; 6] = [1, 13, 300, 5000, 70_000, usize::MAX];
const DIGESTS: [DigestAlgorithm; 3] =
    [DigestAlgorithm::Crc64Nvme, DigestAlgorithm::None, DigestAlgorithm::Blake3];

/// Nothing panics, whoever asked for something is answered once, and what is said to be done is done.
pub fn client(data: &[u8]) {
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
    here: Place,
    there: Place,
    client: Stage,
    server: xferd_server::fuzzing::Stage,
    lines: Vec<Line>,
    commands: Commands,
    /// The server said what it should not, or a connection was left hanging: nobody knows how it ends.
    is_confused: bool,
}

/// What the client was asked for.
#[derive(Default)]
struct Commands {
    count: usize,
    answers_due: usize,
    answers: Arc<AtomicUsize>,
    /// Commands that were carried out.
    done: Arc<Mutex<Vec<Doing>>>,
    jobs: Vec<Arc<Job>>,
    withdrawals: Vec<Withdrawal>,
    reader: Option<Reader>,
    chunk_due: Arc<Mutex<bool>>,
    writer: Option<Writer>,
    write_due: Arc<Mutex<bool>>,
    is_finished: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Doing {
    Push,
    Pull,
}

impl Commands {
    /// What is called with an answer.
    fn answer<T: 'static>(&mut self) -> impl FnOnce(Result<T, Failure>) + Send + 'static {
        self.answers_due += 1;
        let answers = self.answers.clone();
        move |_| _ = answers.fetch_add(1, Ordering::Relaxed)
    }

    /// The same, of what can be seen to be done if nothing was left out.
    fn receipt(&mut self, doing: Doing) -> impl FnOnce(Result<Receipt, Failure>) + Send + 'static {
        self.answers_due += 1;
        let (answers, done) = (self.answers.clone(), self.done.clone());
        move |result| {
            answers.fetch_add(1, Ordering::Relaxed);
            if result.is_ok_and(|receipt| receipt.failed + receipt.skipped == 0) {
                done.lock().unwrap_or_else(PoisonError::into_inner).push(doing);
            }
        }
    }
}

/// The server's end of a connection.
struct Line {
    server: Played<ServerSession>,
    /// Both directions, as they are on the wire.
    asked: Decoded,
    answered: Decoded,
    /// Requests that the client has said something of.
    requests: Vec<u32>,
}

#[derive(Default)]
struct Decoded {
    decoder: Decoder,
    raw_due: u64,
}

impl Decoded {
    fn read(&mut self, mut bytes: &[u8], mut on_frame: impl FnMut(u32, &Frame)) {
        while !bytes.is_empty() {
            let raw = bytes.len().min(usize::try_from(self.raw_due).unwrap_or(usize::MAX));
            self.raw_due -= raw as u64;
            let (taken, item) = self.decoder.decode(&bytes[raw..]).expect("both speak their own protocol");
            bytes = &bytes[raw + taken..];
            if let Some(Item::Frame(Framed { request, frame })) = item {
                if let Frame::Extent { len, .. } = frame {
                    self.raw_due = len;
                }
                on_frame(request, &frame);
            }
        }
    }

    fn is_between_frames(&self) -> bool {
        self.raw_due == 0 && self.decoder.is_between_frames()
    }
}

impl Play {
    fn new() -> Self {
        let (here, there) = (Place::new(), Place::new());
        let huge = fs::File::create(here.root().join("huge")).expect("a new file");
        huge.set_len(HUGE_BYTES).expect("a hole");
        let store = Store::open(&there.root(), Options::default()).expect("the root is there");
        Self {
            here,
            there,
            client: Stage::new().expect("a waker"),
            server: xferd_server::fuzzing::Stage::new(store),
            lines: Vec::new(),
            commands: Commands::default(),
            is_confused: false,
        }
    }

    fn step(&mut self, input: &mut Input<'_>) {
        let which = input.u8();
        if which & 0x1f < 4 {
            if self.commands.count < COMMANDS_MAX {
                self.commands.count += 1;
                self.command(input);
            }
            return self.read_mail();
        }
        self.read_mail();
        if which & 0x1f == 4 {
            return self.settle();
        }
        let Some(index) = usize::from(which >> 5).checked_rem(self.lines.len()) else { return };
        let line = &mut self.lines[index];
        let client = self.client.connection(index);
        match which & 0x1f {
            5..=7 => _ = client.feed(input.pick(&PIECES)),
            8 => _ = client.land(false),
            9..=10 => _ = client.work(),
            11..=12 => _ = client.report(),
            13..=15 => _ = line.ask(client, input.pick(&PIECES)),
            16..=17 => _ = line.server.feed(input.pick(&PIECES)),
            18 => _ = line.server.land(false),
            19 => _ = line.server.work(),
            20 => _ = line.server.report(),
            21..=22 => _ = line.answer(client, input.pick(&PIECES)),
            23 => {
                client.end(End::Broken(std::io::ErrorKind::ConnectionReset.into()));
            }
            24 => {
                let failed = which >= 128;
                _ = if failed { client.land(true) } else { line.server.land(true) };
            }
            25 => line.server.drain(),
            26 => client.stall(),
            27 => client.drain(),
            28..=30 => {
                self.is_confused = true;
                line.say_anything(client, input);
            }
            _ => self.give_up(input),
        }
    }

    fn give_up(&mut self, input: &mut Input<'_>) {
        let which = usize::from(input.u8());
        if let Some(job) = which.checked_rem(self.commands.jobs.len()).map(|at| &self.commands.jobs[at]) {
            job.cancel();
        } else if let Some(withdrawal) = self.commands.withdrawals.pop() {
            self.client.client().withdraw(&withdrawal);
        } else if let Some(reader) = &self.commands.reader {
            reader.cancel();
        } else if let Some(writer) = &self.commands.writer {
            writer.cancel();
        }
    }

    fn command(&mut self, input: &mut Input<'_>) {
        let kind = input.u8();
        let path = RemotePath::parse(input.pick(&PATHS)).expect("a path");
        let client = self.client.client();
        let commands = &mut self.commands;
        let digest = input.pick(&DIGESTS);
        let compare = input.pick(&[Compare::Nothing, Compare::Times, Compare::Contents]);
        let streams = if kind & 64 == 0 { 1 } else { 2 };
        match kind % 12 {
            0..=2 => {
                let local = input.pick(&["dir", "large", "small", "huge", "", "missing"]);
                let answer = commands.receipt(Doing::Push);
                let sources = Sources {
                    paths: vec![self.here.root().join(local)],
                    target: RemotePath::parse("pushed").expect("a path"),
                    into_target: false,
                    selection: Selection::default(),
                    digest,
                    mapped: false,
                };
                let resume = kind & 128 != 0;
                let dry_run = kind & 32 != 0;
                let spec =
                    PushSpec { sources, clients: 1, streams, resume, durable: false, compare, dry_run };
                match client.push(spec, answer) {
                    Ok(job) => commands.jobs.push(job),
                    // It is not called then.
                    Err(_) => commands.answers_due -= 1,
                }
                if dry_run || local == "missing" {
                    commands.count = COMMANDS_MAX;
                }
            }
            3..=5 => {
                let spec = PullSpec {
                    paths: vec![path],
                    destination: self.here.root().join("pulled"),
                    selection: Selection::default(),
                    clients: 1,
                    streams,
                    digest,
                    durable: false,
                    compare,
                    dry_run: false,
                };
                let answer = commands.receipt(Doing::Pull);
                match client.pull(spec, answer) {
                    Ok(job) => commands.jobs.push(job),
                    Err(_) => commands.answers_due -= 1,
                }
            }
            6 if commands.reader.is_none() && !path.is_root() => {
                let end = (kind >= 128).then_some(70_000);
                commands.reader = Some(client.read(path, u64::from(kind & 1), end, commands.answer()));
            }
            6 | 7 => commands.next_chunk(),
            8 if commands.writer.is_none() => {
                let (mode, mtime) = (0o644, Mtime::default());
                let path = RemotePath::parse("written").expect("a path");
                let spec = WriteSpec { path, mode, mtime, digest, durable: false };
                commands.writer = Some(client.write(spec, commands.answer()));
            }
            8 | 9 => commands.write_on(input.u16()),
            _ => {
                let question = match kind / 12 % 6 {
                    0 => Frame::Stat(path),
                    1 => Frame::List(List { path, recursive: true }),
                    2 if !path.is_root() => Frame::Remove(Remove { path, recursive: true }),
                    3 if !path.is_root() => {
                        Frame::Rename(Rename { from: path, to: RemotePath::parse("new").expect("a path") })
                    }
                    4 => Frame::MakeDir(MakeDir { path, mode: 0o755, parents: true }),
                    _ => Frame::Ping(0),
                };
                let answer = commands.answer();
                commands.withdrawals.push(client.ask(question, answer));
            }
        }
    }

    fn read_mail(&mut self) {
        let count = self.client.read_mail();
        while self.lines.len() < count {
            self.lines.push(Line {
                server: Played::connected(self.server.session()),
                asked: Decoded::default(),
                answered: Decoded::default(),
                requests: Vec::new(),
            });
        }
    }

    /// Until nothing can happen any more.
    fn settle(&mut self) {
        let mut goes_on = true;
        while goes_on {
            goes_on = false;
            self.read_mail();
            for (index, line) in self.lines.iter_mut().enumerate() {
                let client = self.client.connection(index);
                goes_on |= line.ask(client, usize::MAX);
                goes_on |= line.answer(client, usize::MAX);
                let server: &mut dyn Connection = &mut line.server;
                for end in [client, server] {
                    goes_on |= end.feed(usize::MAX);
                    goes_on |= end.land(false);
                    goes_on |= end.work();
                    goes_on |= end.report();
                }
            }
        }
    }

    fn finish(mut self) {
        self.settle();
        self.commands.conclude();
        self.settle();
        let answered = self.commands.answers.load(Ordering::Relaxed);
        if !self.is_confused {
            assert_eq!(answered, self.commands.answers_due, "somebody waits in vain");
            let done = self.commands.done.lock().unwrap_or_else(PoisonError::into_inner).clone();
            if self.commands.count == 1 {
                for doing in done {
                    self.check(doing);
                }
            }
        }
        let Self { here, there, client, lines, mut commands, .. } = self;
        client.end();
        (commands.reader, commands.writer) = (None, None);
        commands.jobs.clear();
        let answered = commands.answers.load(Ordering::Relaxed);
        assert_eq!(answered, commands.answers_due, "whoever asked learns that it was given up");
        for mut line in lines {
            line.server.end(End::Closed);
            while line.server.work() | line.server.report() {}
        }
        for place in [here, there] {
            place.check_outside();
        }
    }

    /// What the only command has done is as it says.
    fn check(&self, doing: Doing) {
        let (here, there) = (self.here.root(), self.there.root());
        match doing {
            Doing::Push => {
                let pushed = there.join("pushed");
                let is_same =
                    ["dir", "large", "small", "huge", ""].iter().any(|it| same(&here.join(it), &pushed));
                assert!(is_same, "what was pushed is not what is there");
            }
            Doing::Pull => {
                let pulled = here.join("pulled");
                let is_same = PATHS.iter().any(|path| same(&there.join(path), &pulled));
                assert!(is_same, "what was pulled is not what was there");
            }
        }
    }
}

impl Commands {
    fn next_chunk(&mut self) {
        let Some(reader) = &self.reader else { return };
        let mut due = self.chunk_due.lock().unwrap_or_else(PoisonError::into_inner);
        if std::mem::replace(&mut *due, true) {
            return;
        }
        drop(due);
        self.answers_due += 1;
        let (answers, due) = (self.answers.clone(), self.chunk_due.clone());
        reader.next_chunk(Box::new(move |result| {
            answers.fetch_add(1, Ordering::Relaxed);
            *due.lock().unwrap_or_else(PoisonError::into_inner) = false;
            if let Ok(Some(chunk)) = result {
                assert!((1..=CHUNK_BYTES_MAX).contains(&chunk.len()), "a chunk of {} bytes", chunk.len());
            }
        }));
    }

    fn write_on(&mut self, bytes: u16) {
        let Some(writer) = &self.writer else { return };
        let mut due = self.write_due.lock().unwrap_or_else(PoisonError::into_inner);
        if self.is_finished || std::mem::replace(&mut *due, true) {
            return;
        }
        drop(due);
        self.answers_due += 1;
        let (answers, due) = (self.answers.clone(), self.write_due.clone());
        let on_accepted = Box::new(move |_| {
            answers.fetch_add(1, Ordering::Relaxed);
            *due.lock().unwrap_or_else(PoisonError::into_inner) = false;
        });
        if bytes == 0 {
            self.is_finished = true;
            writer.finish(Box::new(move |result| on_accepted(result.map(|_| ()))));
        } else {
            writer.write(vec![7; bytes.into()], on_accepted);
        }
    }

    /// Takes what is there to be read, and ends what is being written.
    fn conclude(&mut self) {
        self.next_chunk();
        self.write_on(0);
    }
}

impl Line {
    /// What the client says comes to the server.
    fn ask(&mut self, client: &mut dyn Connection, max: usize) -> bool {
        let mut wire = Vec::new();
        let left = client.leave(max, &mut wire);
        let requests = &mut self.requests;
        self.asked.read(&wire, |request, _| {
            if requests.last() != Some(&request) && requests.len() < 64 {
                requests.push(request);
            }
        });
        self.server.hear(&wire);
        if client.is_over() && !self.server.is_over() {
            self.server.end(End::Closed);
        }
        left
    }

    /// What the server says comes to the client.
    fn answer(&mut self, client: &mut dyn Connection, max: usize) -> bool {
        let mut wire = Vec::new();
        let left = self.server.leave(max, &mut wire);
        self.answered.read(&wire, |_, _| {});
        client.hear(&wire);
        // It has said all: the client hears that, too.
        if !left && self.server.is_over() && !client.is_over() && client.unheard_bytes() == 0 {
            client.hang_up();
        }
        left
    }

    /// The server says what nobody knows whether it should.
    fn say_anything(&mut self, client: &mut dyn Connection, input: &mut Input<'_>) {
        if !self.answered.is_between_frames() {
            return;
        }
        let which = input.u8();
        let request =
            usize::from(which >> 4).checked_rem(self.requests.len()).map_or(1, |at| self.requests[at]);
        let path = RemotePath::parse(input.pick(&PATHS)).expect("a path");
        let size = input.pick(&[0, 1, 5000, LARGE_BYTES as u64, HUGE_BYTES, 1 << 62]);
        let digest = digest_of(input.pick(&DIGESTS), &vec![7; size.min(LARGE_BYTES as u64) as usize]);
        let small = size.min(SIZE_MAX);
        let mtime = Mtime::default();
        let code = ErrorCode::from_u16(input.u16() % 40);
        let frame = match which & 0x0f {
            0 => {
                let header = FileHeader { size: small, start: 0, end: small, mode: 0o600, mtime };
                Frame::File(header)
            }
            1 => Frame::Extent { offset: u64::from(input.u8()), len: small.max(1) },
            2 => Frame::Digest(digest),
            3 => Frame::End,
            4 => Frame::Done,
            5 => Frame::Committed(Committed { size, write_path: WritePath::Cached, digest }),
            6 => {
                let transfer = TransferId([input.u8() % 2; 16]);
                let runs = vec![Run { offset: u64::from(input.u8()), len: small.max(1), crc64: 7 }];
                Frame::Have(Have { transfer, start: 0, end: size, runs })
            }
            7 | 8 => {
                let kind = input.pick(&[
                    EntryKind::File,
                    EntryKind::Directory,
                    EntryKind::Symlink,
                    EntryKind::Other,
                ]);
                let entry = Entry { path, kind, size: small, mode: 0o700, mtime, link_target: None };
                if which & 0x0f == 7 || entry.path.is_root() {
                    Frame::Entry(entry)
                } else {
                    let mut entries = Entries::default();
                    entries.push(entry).expect("the first fits");
                    Frame::Entries(entries)
                }
            }
            9 | 10 => Frame::Error(ErrorReply { code, retryable: which >= 128, message: "so it is".into() }),
            11 => Frame::Goodbye,
            12 => Frame::Pong(1),
            _ => return self.say_raw(client, input),
        };
        let is_about_connection = matches!(frame, Frame::Goodbye | Frame::Pong(_));
        self.say(client, if is_about_connection { 0 } else { request }, &frame);
    }

    fn say_raw(&mut self, client: &mut dyn Connection, input: &mut Input<'_>) {
        let (opcode, request) = (input.u8(), input.u32() % 64);
        let bytes = frame_bytes(opcode, request, input.some_bytes());
        let Some(Framed { request, mut frame }) = read_frame(&bytes) else { return client.hear(&bytes) };
        match &mut frame {
            Frame::File(header) => {
                header.size = header.size.min(SIZE_MAX);
                header.end = header.end.min(header.size);
                header.start = header.start.min(header.end);
                header.mode |= 0o700;
            }
            Frame::Entry(entry) => (entry.size, entry.mode) = (entry.size.min(SIZE_MAX), 0o700),
            Frame::Extent { len, .. } => *len = (*len).min(SIZE_MAX),
            _ => {}
        }
        self.say(client, request, &frame);
    }

    fn say(&mut self, client: &mut dyn Connection, request: u32, frame: &Frame) {
        let mut bytes = Vec::new();
        encode(request, frame, &mut bytes);
        if let Frame::Extent { len, .. } = frame {
            bytes.resize(bytes.len() + *len as usize, 7);
        }
        client.hear(&bytes);
    }
}

/// Whether there is the same at both places, links and what is hidden left out.
fn same(one: &Path, other: &Path) -> bool {
    let (Ok(first), Ok(second)) = (fs::symlink_metadata(one), fs::symlink_metadata(other)) else {
        return false;
    };
    if first.is_file() && second.is_file() {
        return first.len() == second.len() && fs::read(one).ok() == fs::read(other).ok();
    }
    if !first.is_dir() || !second.is_dir() {
        return first.file_type() == second.file_type();
    }
    let Ok(entries) = fs::read_dir(one) else { return false };
    entries.flatten().all(|entry| {
        let name = entry.file_name();
        // What is pulled goes into the tree that may be pushed.
        name == "pulled" || name == "pushed" || same(&entry.path(), &other.join(name))
    })
}
