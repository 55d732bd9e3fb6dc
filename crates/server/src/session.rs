//! The server's end of the transfer protocol, as a state machine that does no I/O.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use xferd_engine::{
    Budget, CROWDED_BYTES, Content, DiskOutcome, Effects, End, Event, Failure, GATHERED_BYTES_MAX, Incoming,
    OpenFiles, Opened, Outgoing, Progress, Reach, Reachable, Session, Share, Wanted, send_small,
};
use xferd_os::net::Peer;
use xferd_os::{HashMap, scaled};
use xferd_store::{FileAttributes, FileDigest, Listed, Listing, Staging, Store, StoreError};
use xferd_wire::{
    Checksum, Committed, Decoder, Digest, DigestAlgorithm, Entries, Entry, ErrorCode, Frame, Framed, Get,
    Have, Hello, Item, KV, KvPart, List, Put, RemotePath, Sharing, TransferId, VERSION, choose_version,
};

use crate::connection::ServerOutcome;
use crate::kv::{Kv, KvFrames};
use crate::log::{HappeningKind, Log};
use crate::transfers::{Attachment, Proven, Transfers};

/// Files of one connection that may be arriving side by side, each with a staging file of its own.
pub const PUTS_ARRIVING_MAX: usize = 16;

/// Requests of one connection that may wait for work or for the peer to read; with that many nothing more is read.
pub const REQUESTS_WAITING_MAX: usize = 64;

/// The same where much is kept in memory for all peers together.
pub(crate) const REQUESTS_WAITING_CROWDED_MAX: usize = 4;

/// Bytes that are remembered of a request, about: its path, what is read or sent, and their places in the maps.
const WAITING_BYTES: u64 = 512;

/// Puts of one connection that may wait to be stored, beside those requests; with that many nothing more is read. It
/// bounds what is remembered of them; what they hold is bounded by the engine.
pub const PUTS_COMMITTING_MAX: usize = 1024;

/// Files up to this size are read before the peer has room for them. It may have asked for [`REQUESTS_WAITING_MAX`].
const READ_AT_ONCE_BYTES_MAX: u64 = scaled(64 << 10);

/// How long a peer that has nothing under way may keep a server waiting that has said goodbye: its request may have
/// crossed the goodbye, and then it is to be told why it is refused.
const GOODBYE_PATIENCE: Duration = Duration::from_secs(1);

/// How long a peer may be silent.
#[derive(Clone, Copy, Debug)]
pub struct Patience {
    /// Before it has said hello.
    pub hello: Duration,
    /// In the middle of a request.
    pub request: Duration,
    /// In the middle of what another connection would send as well, or in its place.
    pub contested: Duration,
    /// Between requests.
    pub idle: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Self {
            hello: Duration::from_secs(10),
            request: Duration::from_secs(60),
            contested: Duration::from_secs(5),
            idle: Duration::from_secs(600),
        }
    }
}

/// What all sessions of a server share.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) store: Arc<Store>,
    pub(crate) patience: Patience,
    pub(crate) log: Arc<Log>,
    pub(crate) transfers: Arc<Transfers>,
    pub(crate) open_files: Arc<OpenFiles>,
    pub(crate) budget: Budget,
    /// Keys, if there are any.
    pub(crate) kv: Option<Arc<Kv>>,
}

/// One connection.
pub struct ServerSession {
    shared: Arc<Shared>,
    peer: Peer,
    decoder: Decoder,
    phase: Phase,
    puts: HashMap<u32, Arriving>,
    /// Requests that are attached to a transfer.
    attached: HashMap<u32, Attachment>,
    /// The put whose extent is being gathered from the stream.
    gathering: Option<u32>,
    /// The put whose staging file is being made: nothing is read meanwhile.
    staging: Option<u32>,
    /// Puts that are whole and being stored.
    committing: HashMap<u32, Committing>,
    /// Requests whose answer is being worked out, other than puts.
    waiting: HashMap<u32, Waiting>,
    /// The large file that is being sent, and those behind it.
    sending: Option<(u32, Outgoing)>,
    unsent: VecDeque<(u32, Opened, Option<Share>)>,
    /// The listing that is being read, and those behind it: each may keep some directories open.
    listing: Option<Reading>,
    unlisted: VecDeque<(u32, List)>,
    /// The large file whose digest a worker is taking, and those behind it.
    hashing: Option<u32>,
    unhashed: VecDeque<(u32, FileDigest)>,
    /// What was said about keys, if anything was. Boxed, because few say something.
    keys: Option<Box<KvFrames>>,
    /// How others reach it who have something to tell about keys.
    reach: Option<Reach>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Phase {
    Hello,
    /// There are too many connections: that is what the hello will be answered with.
    Refusing,
    Open,
    /// Has said goodbye, answers what is open and refuses what is new until the peer ends its stream.
    Draining,
    /// The peer has ended its stream; what is open is answered.
    Ending,
    Closing,
}

/// A listing is read by a worker, or waits, here, for the peer to read what came of it so far.
struct Reading {
    request: u32,
    /// Boxed, because each connection has room for one, and few ever list anything.
    paused: Option<Box<Listing>>,
}

/// A put between its announcement and its commit. One that failed was answered and is forgotten; what still comes of
/// it, as of any request that is not open, is dropped.
struct Arriving {
    put: Put,
    incoming: Incoming,
    /// What it takes while it is gathered.
    _room: Option<Share>,
}

/// A put on its way into the store.
struct Committing {
    path: RemotePath,
    /// What is answered then.
    committed: Committed,
}

/// A request that is being worked on.
enum Waiting {
    /// The staging file of a shared put is being made, or what there is of it looked for.
    Attaching {
        path: RemotePath,
    },
    Get {
        path: RemotePath,
    },
    /// A listing, how many entries had to be left out of it, and why the first.
    List {
        path: RemotePath,
        left_out: u64,
        first: Option<Failure>,
    },
    /// What there is under a name.
    Question {
        path: RemotePath,
    },
    /// The digest of a file.
    Checksum {
        path: RemotePath,
    },
    Tree {
        path: RemotePath,
    },
    /// Given up by the peer, while a worker was busy with it.
    Cancelled {
        path: RemotePath,
    },
}

/// What comes back from the work a session asks for.
pub enum TransferOutcome {
    /// A step of a put or a get.
    Disk(DiskOutcome),
    /// A shared put became a transfer.
    Attached(Result<Attachment, Failure>),
    /// An extent of a transfer counts.
    Recorded(Result<Have, Failure>),
    /// A file to be sent was opened.
    Opened(Result<(Opened, Option<Share>), StoreError>),
    /// The next part of a listing; an empty one is the end.
    Listed(Result<(Listing, Vec<Listed>), StoreError>),
    /// A slice more of a file is in its digest, which is there after the last.
    Hashed(Result<(FileDigest, Option<Digest>), StoreError>),
    /// A request about the tree was carried out; the entry if it asked for one.
    Done(Result<Option<Entry>, StoreError>),
}

type Fx = Effects<ServerOutcome>;

impl Session for ServerSession {
    type Outcome = ServerOutcome;
    type Command = std::convert::Infallible;

    fn on_bytes(&mut self, bytes: &[u8], effects: &mut Fx) -> usize {
        let mut rest = bytes;
        // They were wanted a moment ago; other threads may have made it crowded since.
        let mut wanted = true;
        while !rest.is_empty() && (std::mem::take(&mut wanted) || self.wants_bytes()) {
            if self.keys.as_ref().is_some_and(|keys| keys.has_enough()) {
                break;
            }
            if let Some(request) = self.gathering {
                let taken = self.gather(request, rest);
                rest = rest.get(taken..).unwrap_or_default();
                continue;
            }
            match self.decoder.decode(rest) {
                Ok((taken, item)) => {
                    rest = rest.get(taken..).unwrap_or_default();
                    let Some(item) = item else { continue };
                    let is_extent = matches!(&item, Item::Frame(Framed { frame: Frame::Extent { .. }, .. }));
                    if let Err(failure) = self.on_item(item, effects) {
                        self.break_off(0, failure, effects);
                    } else if is_extent && self.gathering.is_none() {
                        // The bytes that follow are not the session's.
                        break;
                    }
                }
                Err(error) => self.break_off(error.request, error.into(), effects),
            }
        }
        if let Some(keys) = &mut self.keys {
            keys.answer(effects);
        }
        if self.phase == Phase::Closing { bytes.len() } else { bytes.len() - rest.len() }
    }

    fn on_end(&mut self, effects: &mut Fx) {
        if self.is_before_hello() {
            return effects.abort();
        }
        self.phase = Phase::Ending;
        self.lose_arriving(effects);
        if let Some(keys) = &mut self.keys {
            keys.lose_partial();
        }
        self.close_if_done(effects);
    }

    fn on_reachable(&mut self, place: &Reachable<'_>) {
        self.reach = self.shared.kv.is_some().then(|| place.reach());
    }

    fn on_event(&mut self, event: Event<ServerOutcome, Self::Command>, effects: &mut Fx) {
        match event {
            Event::Connected => self.shared.log.record(self.peer, HappeningKind::Accepted),
            Event::Worked { key, outcome: ServerOutcome::Transfer(outcome) } => {
                self.on_worked(key, outcome, effects);
            }
            // Another protocol's.
            Event::Worked { .. } => {}
            Event::Received { key, hasher, result } => {
                if let Some(attachment) = self.attached.get_mut(&key) {
                    let proven = attachment.on_received(hasher, result);
                    self.on_proven(key, proven, effects);
                } else if let Some(Arriving { incoming, .. }) = self.puts.get_mut(&key) {
                    let received = incoming.on_received(hasher, result);
                    self.refuse_if_failed(key, received, effects);
                }
            }
            Event::Sent { key, bytes } => {
                let progress = match &mut self.sending {
                    Some((request, outgoing)) if *request == key => outgoing.on_sent(bytes, effects),
                    _ => return,
                };
                self.on_progress(progress, effects);
            }
            Event::SourceShort { key } => {
                let progress = match &self.sending {
                    Some((request, outgoing)) if *request == key => outgoing.on_source_short(),
                    // The extents that were queued behind the one that was short come to their end, too.
                    _ => return,
                };
                self.on_progress(progress, effects);
            }
            Event::Drained => {
                if let Some(Reading { request, paused }) = &mut self.listing {
                    if let Some(listing) = paused.take() {
                        list_on(*request, effects, || Ok(*listing));
                    }
                }
                self.on_news(effects);
            }
            Event::Nudged => self.on_news(effects),
            Event::Draining => match self.phase {
                Phase::Hello | Phase::Refusing => self.break_off(0, shutting_down(), effects),
                Phase::Open => {
                    effects.send(0, &Frame::Goodbye);
                    self.phase = Phase::Draining;
                }
                Phase::Draining | Phase::Ending | Phase::Closing => {}
            },
            Event::Stalled if self.phase == Phase::Draining && self.is_quiet() => {
                self.phase = Phase::Closing;
                effects.abort();
            }
            Event::Stalled => {
                let message = "nothing was heard for too long; connect again";
                self.break_off(0, Failure::new(ErrorCode::Timeout, message), effects);
            }
            Event::Closed(end) => {
                self.on_closed(end, effects);
                return;
            }
            Event::Command(never) => match never {},
            Event::Written { .. } => {}
        }
        self.close_if_done(effects);
    }

    fn wants_bytes(&self) -> bool {
        self.phase != Phase::Closing
            && self.staging.is_none()
            && self.waiting.len() < self.requests_waiting_max()
            && self.committing.len() < PUTS_COMMITTING_MAX
            && !self.keys.as_ref().is_some_and(|keys| keys.is_full())
    }

    fn is_idle(&self) -> bool {
        false
    }

    fn kept_bytes(&self) -> u64 {
        let keys = self.keys.as_ref().map_or(0, |keys| keys.kept_bytes());
        (self.waiting.len() as u64) * WAITING_BYTES + keys
    }

    fn patience(&self) -> Duration {
        let patience = &self.shared.patience;
        match self.phase {
            Phase::Hello | Phase::Refusing => patience.hello,
            Phase::Draining if self.is_quiet() => GOODBYE_PATIENCE,
            _ if self.is_quiet() && self.keys.as_ref().is_some_and(|keys| keys.is_listening()) => {
                Duration::MAX
            }
            _ if self.is_quiet() => patience.idle,
            _ if self.attached.values().any(Attachment::is_contested) => patience.contested,
            _ => patience.request,
        }
    }

    fn patience_while_sending(&self) -> Duration {
        self.shared.patience.request
    }

    fn rest(&mut self) -> bool {
        let is_resting = matches!(self.phase, Phase::Hello | Phase::Open) && self.is_quiet();
        if is_resting {
            self.puts.shrink_to_fit();
            self.attached.shrink_to_fit();
            self.committing.shrink_to_fit();
            self.waiting.shrink_to_fit();
            self.unsent.shrink_to_fit();
            self.unlisted.shrink_to_fit();
            self.unhashed.shrink_to_fit();
            if let Some(keys) = &mut self.keys {
                keys.rest();
            }
        }
        is_resting
    }
}

impl ServerSession {
    /// A session with `peer`.
    pub(crate) fn new(shared: Arc<Shared>, peer: Peer) -> Self {
        Self {
            shared,
            peer,
            decoder: Decoder::new(),
            phase: Phase::Hello,
            puts: HashMap::default(),
            attached: HashMap::default(),
            gathering: None,
            staging: None,
            committing: HashMap::default(),
            waiting: HashMap::default(),
            sending: None,
            unsent: VecDeque::new(),
            listing: None,
            unlisted: VecDeque::new(),
            hashing: None,
            unhashed: VecDeque::new(),
            keys: None,
            reach: None,
        }
    }

    /// A session that answers the hello of `peer` with BUSY.
    pub(crate) fn refusing(shared: Arc<Shared>, peer: Peer) -> Self {
        Self { phase: Phase::Refusing, ..Self::new(shared, peer) }
    }

    fn requests_waiting_max(&self) -> usize {
        if self.shared.budget.is_crowded() { REQUESTS_WAITING_CROWDED_MAX } else { REQUESTS_WAITING_MAX }
    }

    fn is_before_hello(&self) -> bool {
        matches!(self.phase, Phase::Hello | Phase::Refusing)
    }

    fn is_open(&self, request: u32) -> bool {
        self.puts.contains_key(&request)
            || self.attached.contains_key(&request)
            || self.committing.contains_key(&request)
            || self.waiting.contains_key(&request)
    }

    fn is_quiet(&self) -> bool {
        self.puts.is_empty()
            && self.attached.is_empty()
            && self.committing.is_empty()
            && self.waiting.is_empty()
            && self.keys.as_ref().is_none_or(|keys| keys.is_quiet())
    }

    /// What it can do.
    fn hello(&self) -> Hello {
        let mut hello = Hello::default();
        hello.capabilities.extend(self.shared.kv.as_ref().map(|_| KV.to_owned()));
        hello
    }

    /// Files that have a staging file, or are about to.
    fn arriving(&self) -> usize {
        let attaching = self.waiting.values().filter(|waiting| matches!(waiting, Waiting::Attaching { .. }));
        self.puts.len() + self.attached.len() + attaching.count()
    }

    /// Closes once everything that a peer asked for before it ended its stream is answered.
    fn close_if_done(&mut self, effects: &mut Fx) {
        if self.phase == Phase::Ending && self.is_quiet() {
            self.phase = Phase::Closing;
            effects.close();
        }
    }

    fn gather(&mut self, request: u32, bytes: &[u8]) -> usize {
        let Some(Arriving { incoming, .. }) = self.puts.get_mut(&request) else {
            self.gathering = None;
            return 0;
        };
        let taken = incoming.gather(bytes);
        if incoming.gathering() == 0 {
            self.gathering = None;
        }
        taken
    }

    fn on_item(&mut self, item: Item, effects: &mut Fx) -> Result<(), Failure> {
        match item {
            Item::Hello(theirs) => self.on_hello(&theirs, effects),
            Item::Frame(Framed { request, frame }) => self.on_frame(request, frame, effects),
        }
    }

    fn on_hello(&mut self, theirs: &Hello, effects: &mut Fx) -> Result<(), Failure> {
        let ours = self.hello();
        if self.phase == Phase::Refusing {
            let message = "the server has as many connections as it takes; try again later";
            return Err(Failure::new(ErrorCode::Busy, message));
        }
        if choose_version(&ours, theirs).is_none() {
            return Err(Failure::new(
                ErrorCode::Version,
                format!(
                    "this server speaks version {VERSION}, the client {} to {}; update the older of the two",
                    theirs.version_min, theirs.version_max
                ),
            ));
        }
        effects.send_encoded(|out| ours.encode(out));
        self.phase = Phase::Open;
        Ok(())
    }

    fn on_frame(&mut self, request: u32, frame: Frame, effects: &mut Fx) -> Result<(), Failure> {
        match frame {
            Frame::Ping(number) => {
                effects.send(request, &Frame::Pong(number));
                return Ok(());
            }
            Frame::Goodbye | Frame::Pong(_) => return Ok(()),
            // What a client says of the connection as a whole ends it; there is nobody to answer.
            Frame::Error(reply) => return Err(reply.into()),
            _ if request == 0 => return Err(Failure::protocol("request 0 is the connection itself")),
            Frame::Extent { offset, len } => {
                self.on_extent(request, offset, len, effects);
                return Ok(());
            }
            Frame::Digest(digest) => {
                if let Some(attachment) = self.attached.get_mut(&request) {
                    let announced = attachment.announce(digest);
                    self.refuse_if_failed(request, announced, effects);
                } else if let Some(Arriving { incoming, .. }) = self.puts.get_mut(&request) {
                    let checked = incoming.digest(&digest);
                    self.refuse_if_failed(request, checked, effects);
                }
                return Ok(());
            }
            Frame::Commit { size } => {
                self.on_commit(request, size, effects);
                return Ok(());
            }
            Frame::Cancel => {
                self.on_cancel(request, effects);
                return Ok(());
            }
            Frame::Kv(part) if !self.is_open(request) => {
                self.on_kv(request, part, effects);
                return Ok(());
            }
            _ => {}
        }
        if self.is_open(request) {
            return Err(Failure::protocol(format!(
                "request {request} is still under way; number a new one differently"
            )));
        }
        if self.phase == Phase::Draining {
            self.answer_failure(request, None, shutting_down(), effects);
            return Ok(());
        }
        let store = self.shared.store.clone();
        match frame {
            Frame::Put(put) => self.on_put(request, put, effects),
            Frame::Attach(id) => self.on_attach(request, id, effects),
            Frame::Get(get) => self.on_get(request, get, effects),
            Frame::List(list) => {
                let path = list.path.clone();
                self.waiting.insert(request, Waiting::List { path, left_out: 0, first: None });
                self.unlisted.push_back((request, list));
                self.list_next(effects);
            }
            Frame::Stat(path) => {
                self.waiting.insert(request, Waiting::Question { path: path.clone() });
                effects.work(request, move || TransferOutcome::Done(store.stat(&path).map(Some)).into());
            }
            Frame::Checksum(Checksum { path, digest }) => {
                self.waiting.insert(request, Waiting::Checksum { path: path.clone() });
                effects.work(request, move || {
                    TransferOutcome::Hashed(open_digest(&store, &path, digest)).into()
                });
            }
            Frame::Remove(remove) => {
                self.work_on(request, remove.path.clone(), effects, move || {
                    store.remove(&remove.path, remove.recursive)
                });
            }
            Frame::Rename(rename) => {
                self.work_on(request, rename.from.clone(), effects, move || {
                    store.rename(&rename.from, &rename.to)
                });
            }
            Frame::MakeDir(make) => {
                self.work_on(request, make.path.clone(), effects, move || {
                    store.make_dir(&make.path, make.mode, make.parents)
                });
            }
            Frame::Symlink(link) => {
                self.work_on(request, link.path.clone(), effects, move || {
                    store.symlink(&link.path, &link.target)
                });
            }
            Frame::SetAttributes(set) => {
                self.work_on(request, set.path.clone(), effects, move || {
                    let attributes = FileAttributes { mode: set.mode, mtime: set.mtime };
                    store.set_attributes(&set.path, &attributes)
                });
            }
            answer => {
                return Err(Failure::protocol(format!(
                    "frame {:#04x} is for a server to send",
                    answer.opcode()
                )));
            }
        }
        Ok(())
    }

    /// Has a change of the tree carried out.
    fn work_on(
        &mut self,
        request: u32,
        path: RemotePath,
        effects: &mut Fx,
        work: impl FnOnce() -> Result<(), StoreError> + Send + 'static,
    ) {
        self.waiting.insert(request, Waiting::Tree { path });
        effects.work(request, move || TransferOutcome::Done(work().map(|()| None)).into());
    }

    fn on_put(&mut self, request: u32, put: Put, effects: &mut Fx) {
        if self.arriving() >= PUTS_ARRIVING_MAX {
            let message =
                format!("{}: more than {PUTS_ARRIVING_MAX} files side by side on one connection", put.path);
            self.answer_failure(request, Some(put.path), Failure::new(ErrorCode::Limit, message), effects);
            return;
        }
        if put.sharing != Sharing::Alone {
            let (store, transfers) = (self.shared.store.clone(), self.shared.transfers.clone());
            self.waiting.insert(request, Waiting::Attaching { path: put.path.clone() });
            return effects
                .work(request, move || TransferOutcome::Attached(transfers.open(&store, put)).into());
        }
        let may_gather = !self.puts.values().any(|arriving| arriving.incoming.is_gathered());
        let small = put.size.filter(|&size| may_gather && size <= GATHERED_BYTES_MAX);
        let room = small.and_then(|size| self.shared.budget.take(size));
        let (store, gather) = (self.shared.store.clone(), room.is_some());
        let mut incoming = Incoming::new(request, store, put.path.clone(), put.size, put.digest, gather);
        incoming.start(effects);
        if incoming.is_waiting() {
            self.staging = Some(request);
        }
        self.puts.insert(request, Arriving { put, incoming, _room: room });
    }

    fn on_attach(&mut self, request: u32, id: TransferId, effects: &mut Fx) {
        if self.arriving() >= PUTS_ARRIVING_MAX {
            let message = format!("more than {PUTS_ARRIVING_MAX} files side by side on one connection");
            return self.answer_failure(request, None, Failure::new(ErrorCode::Limit, message), effects);
        }
        match self.shared.transfers.attach(id) {
            Ok(attachment) => self.attach(request, attachment, effects),
            // The client asks whether it is there; that it is not is no failure of a file.
            Err(failure) => effects.send(request, &Frame::Error(failure.into_reply())),
        }
    }

    fn attach(&mut self, request: u32, attachment: Attachment, effects: &mut Fx) {
        effects.send(request, &Frame::Have(attachment.have()));
        self.attached.insert(request, attachment);
        if self.phase == Phase::Ending {
            // The stream has ended while it was being made.
            self.lose_arriving(effects);
        }
    }

    /// A shared put became a transfer, or did not.
    fn on_attached(&mut self, request: u32, result: Result<Attachment, Failure>, effects: &mut Fx) {
        match (self.waiting.remove(&request), result) {
            (Some(Waiting::Attaching { .. }), Ok(attachment)) => self.attach(request, attachment, effects),
            (Some(waiting @ Waiting::Attaching { .. }), Err(failure)) => {
                self.answer_failure(request, Some(waiting.into_path()), failure, effects);
            }
            (Some(cancelled), result) => {
                self.waiting.insert(request, cancelled);
                self.answer_cancelled(request, effects);
                drop_on_worker(request, result, effects);
            }
            (None, result) => drop_on_worker(request, result, effects),
        }
    }

    /// An extent of a transfer has come, and is right or not.
    fn on_proven(&mut self, request: u32, proven: Result<Proven, Failure>, effects: &mut Fx) {
        match proven {
            Ok(proven) if proven.blocks() => {
                effects.work(request, move || TransferOutcome::Recorded(proven.record()).into());
            }
            Ok(proven) => self.on_recorded(request, proven.record(), effects),
            Err(failure) => self.refuse_if_failed(request, Err(failure), effects),
        }
    }

    fn on_recorded(&mut self, request: u32, result: Result<Have, Failure>, effects: &mut Fx) {
        let Some(attachment) = self.attached.get(&request) else { return };
        match result {
            Ok(have) if attachment.is_about(&have) => effects.send(request, &Frame::Have(have)),
            Ok(_) => {}
            Err(failure) => self.refuse_if_failed(request, Err(failure), effects),
        }
    }

    fn on_extent(&mut self, request: u32, offset: u64, len: u64, effects: &mut Fx) {
        if let Some(attachment) = self.attached.get_mut(&request) {
            let begun = attachment.extent(request, offset, len, effects);
            if !matches!(begun, Ok(None)) {
                effects.discard(len);
            }
            if let Ok(Some(have)) = &begun {
                effects.send(request, &Frame::Have(have.clone()));
            }
            return self.refuse_if_failed(request, begun.map(|_| ()), effects);
        }
        let Some(Arriving { incoming, .. }) = self.puts.get_mut(&request) else {
            return effects.discard(len);
        };
        let begun = incoming.extent(offset, len, effects);
        if begun.is_err() {
            effects.discard(len);
        } else if incoming.gathering() > 0 {
            self.gathering = Some(request);
        }
        self.refuse_if_failed(request, begun, effects);
    }

    fn on_commit(&mut self, request: u32, size: u64, effects: &mut Fx) {
        if let Some(attachment) = self.attached.get_mut(&request) {
            match attachment.commit(size) {
                Ok((staging, committed)) => self.commit_transfer(request, staging, committed, effects),
                Err(failure) => self.refuse_if_failed(request, Err(failure), effects),
            }
            return;
        }
        let Some(Arriving { put, mut incoming, .. }) = self.puts.remove(&request) else { return };
        let attributes = FileAttributes { mode: put.mode, mtime: put.mtime };
        let write_path = incoming.write_path();
        match incoming.commit(size, attributes, put.durable, effects) {
            Ok(digest) => {
                let committed = Committed { size, write_path, digest };
                self.committing.insert(request, Committing { path: put.path, committed });
            }
            Err(failure) => {
                self.answer_failure(request, Some(put.path), failure, effects);
                drop_on_worker(request, incoming, effects);
            }
        }
    }

    fn commit_transfer(&mut self, request: u32, staging: Staging, committed: Committed, effects: &mut Fx) {
        let Some(attachment) = self.attached.remove(&request) else { return };
        let Put { path, mode, mtime, durable, .. } = attachment.put().clone();
        self.committing.insert(request, Committing { path, committed });
        let store = self.shared.store.clone();
        effects.work(request, move || {
            drop(attachment);
            let attributes = FileAttributes { mode, mtime };
            DiskOutcome::Committed(store.commit(staging, committed.size, &attributes, durable)).into()
        });
    }

    fn on_kv(&mut self, request: u32, part: KvPart, effects: &mut Fx) {
        let refused = match &self.shared.kv {
            None => Failure::new(ErrorCode::Unsupported, "this server keeps no keys; start it with some"),
            Some(_) if self.phase == Phase::Draining && !self.has_part_of(request) => shutting_down(),
            Some(kv) => {
                let (peer, reach) = (self.peer, &self.reach);
                let keys =
                    self.keys.get_or_insert_with(|| Box::new(KvFrames::new(kv.clone(), peer, reach.clone())));
                if let Err(failure) = keys.on_part(request, part) {
                    self.break_off(request, failure, effects);
                }
                return;
            }
        };
        if !part.more {
            effects.send(request, &Frame::Error(refused.into_reply()));
        }
    }

    fn has_part_of(&self, request: u32) -> bool {
        self.keys.as_ref().is_some_and(|keys| keys.has_part_of(request))
    }

    /// Looks whether there is something to tell about keys.
    fn on_news(&mut self, effects: &mut Fx) {
        let Some(Err(failure)) = self.keys.as_mut().map(|keys| keys.on_news(effects)) else { return };
        self.break_off(0, failure, effects);
        if effects.is_congested() {
            effects.abort();
        }
    }

    fn on_cancel(&mut self, request: u32, effects: &mut Fx) {
        if self.keys.as_mut().is_some_and(|keys| keys.cancel(request)) {
            let failure =
                Failure::new(ErrorCode::Aborted, "given up by the client before all of it had come");
            return effects.send(request, &Frame::Error(failure.into_reply()));
        }
        if let Some(attachment) = self.attached.remove(&request) {
            // One connection less, which is no failure: others may go on, or a later put.
            let message = format!("{}: detached by the sender", attachment.put().path);
            let failure = Failure::new(ErrorCode::Aborted, message);
            effects.send(request, &Frame::Error(failure.into_reply()));
            detach(request, attachment, effects);
            return;
        }
        let Some(Arriving { put, incoming, .. }) = self.puts.remove(&request) else {
            return self.cancel_waiting(request, effects);
        };
        let failure = Failure::new(ErrorCode::Aborted, format!("{}: cancelled by the sender", put.path));
        self.answer_failure(request, Some(put.path), failure, effects);
        drop_on_worker(request, incoming, effects);
    }

    /// Gives up a get, a listing, a digest or a shared put. What changes the tree is about to be done, and stays so.
    ///
    /// While a worker is busy with it the request stays open, or its number could be given to another one, which would
    /// get what the worker brings.
    fn cancel_waiting(&mut self, request: u32, effects: &mut Fx) {
        let Some(
            Waiting::Get { path }
            | Waiting::List { path, .. }
            | Waiting::Checksum { path }
            | Waiting::Attaching { path },
        ) = self.waiting.get(&request)
        else {
            return;
        };
        let path = path.clone();
        if self.drop_idle(request) {
            self.answer_cancelled(request, effects);
            self.send_next(effects);
            self.list_next(effects);
        } else {
            self.waiting.insert(request, Waiting::Cancelled { path });
        }
    }

    /// Drops what there is of a get, a listing or a digest. False if a worker has it.
    fn drop_idle(&mut self, request: u32) -> bool {
        let waiting = |session: &Self| session.unsent.len() + session.unlisted.len() + session.unhashed.len();
        let before = waiting(self);
        self.unsent.retain(|(waiting, ..)| *waiting != request);
        self.unlisted.retain(|(waiting, _)| *waiting != request);
        self.unhashed.retain(|(waiting, _)| *waiting != request);
        let sent = self.sending.take_if(|(sending, _)| *sending == request);
        let listed = self.listing.take_if(|listing| listing.request == request && listing.paused.is_some());
        before != waiting(self) || sent.is_some() || listed.is_some()
    }

    fn answer_cancelled(&mut self, request: u32, effects: &mut Fx) {
        let Some(waiting) = self.waiting.remove(&request) else { return };
        let path = waiting.into_path();
        let failure = Failure::new(ErrorCode::Aborted, format!("{path}: cancelled by the receiver"));
        self.answer_failure(request, Some(path), failure, effects);
    }

    fn on_get(&mut self, request: u32, get: Get, effects: &mut Fx) {
        let store = self.shared.store.clone();
        self.waiting.insert(request, Waiting::Get { path: get.path.clone() });
        let Get { start, end, digest, .. } = get;
        let (files, budget) = (self.shared.open_files.clone(), self.shared.budget.clone());
        effects.work(request, move || {
            // Only now: what is asked for and not read yet takes no room.
            let room = if budget.is_crowded() { None } else { budget.take(READ_AT_ONCE_BYTES_MAX) };
            let small_bytes_max = room.as_ref().map_or(0, |_| READ_AT_ONCE_BYTES_MAX);
            let wanted = Wanted { start, end, digest, mapped: false, small_bytes_max };
            let opened = Opened::open(&store, &get.path, &wanted, &files);
            TransferOutcome::Opened(opened.map(|opened| {
                let room = room.zip(opened.content.kept_bytes()).map(|(mut room, bytes)| {
                    room.set(bytes);
                    room
                });
                (opened, room)
            }))
            .into()
        });
    }

    fn on_worked(&mut self, request: u32, outcome: TransferOutcome, effects: &mut Fx) {
        match outcome {
            TransferOutcome::Disk(DiskOutcome::Staged(result)) => {
                self.staging = None;
                if let Some(Arriving { incoming, .. }) = self.puts.get_mut(&request) {
                    let staged = incoming.on_staged(result);
                    self.refuse_if_failed(request, staged, effects);
                }
            }
            TransferOutcome::Disk(DiskOutcome::Committed(result)) => {
                self.on_committed(request, result, effects)
            }
            TransferOutcome::Disk(DiskOutcome::Dropped) => {}
            TransferOutcome::Disk(DiskOutcome::Hashed(result)) => {
                let progress = match &mut self.sending {
                    Some((sending, outgoing)) if *sending == request => outgoing.on_hashed(result, effects),
                    _ => return,
                };
                self.on_progress(progress, effects);
            }
            TransferOutcome::Disk(DiskOutcome::Verified(result)) => {
                let progress = match &mut self.sending {
                    Some((sending, outgoing)) if *sending == request => outgoing.on_verified(result),
                    _ => return,
                };
                self.on_progress(progress, effects);
            }
            TransferOutcome::Attached(result) => self.on_attached(request, result, effects),
            TransferOutcome::Recorded(result) => self.on_recorded(request, result, effects),
            TransferOutcome::Opened(result) => self.on_opened(request, result, effects),
            TransferOutcome::Listed(result) => self.on_listed(request, result, effects),
            TransferOutcome::Hashed(result) => self.on_hashed(request, result, effects),
            TransferOutcome::Done(result) => {
                let Some(waiting) = self.waiting.remove(&request) else { return };
                match result {
                    Ok(Some(entry)) => effects.send(request, &Frame::Entry(entry)),
                    Ok(None) => effects.send(request, &Frame::Done),
                    Err(error) => self.refuse(request, waiting, error, effects),
                }
            }
        }
    }

    fn refuse(&mut self, request: u32, waiting: Waiting, error: StoreError, effects: &mut Fx) {
        let is_question = matches!(waiting, Waiting::Question { .. } | Waiting::Checksum { .. });
        if is_question && matches!(error, StoreError::NotFound { .. }) {
            // Whoever pushes asks what is there already; that nothing is, is no failure.
            effects.send(request, &Frame::Error(Failure::from(error).into_reply()));
        } else {
            self.answer_failure(request, Some(waiting.into_path()), error.into(), effects);
        }
    }

    /// A slice of a file was hashed. One large file at a time, so that what else the connection asks for has its turn.
    fn on_hashed(
        &mut self,
        request: u32,
        result: Result<(FileDigest, Option<Digest>), StoreError>,
        effects: &mut Fx,
    ) {
        let was_hashing = self.hashing.take_if(|hashing| *hashing == request).is_some();
        match (self.waiting.remove(&request), result) {
            (Some(cancelled @ Waiting::Cancelled { .. }), _) => {
                self.waiting.insert(request, cancelled);
                self.answer_cancelled(request, effects);
            }
            (Some(waiting), Ok((file, None))) => {
                self.waiting.insert(request, waiting);
                if was_hashing {
                    self.unhashed.push_front((request, file));
                } else {
                    self.unhashed.push_back((request, file));
                }
            }
            (_, Ok((_, Some(digest)))) => {
                effects.send(request, &Frame::Digest(digest));
                effects.send(request, &Frame::Done);
            }
            (Some(waiting), Err(error)) => self.refuse(request, waiting, error, effects),
            (None, _) => {}
        }
        self.hash_next(effects);
    }

    /// Has the next slice hashed if none is being.
    fn hash_next(&mut self, effects: &mut Fx) {
        if self.hashing.is_some() {
            return;
        }
        let Some((request, file)) = self.unhashed.pop_front() else { return };
        self.hashing = Some(request);
        effects.work(request, move || {
            TransferOutcome::Hashed(file.advance().map(|digest| (file, digest))).into()
        });
    }

    fn on_committed(&mut self, request: u32, result: Result<(), StoreError>, effects: &mut Fx) {
        let Some(Committing { path, committed }) = self.committing.remove(&request) else { return };
        match result {
            Ok(()) => {
                effects.send(request, &Frame::Committed(committed));
                let Committed { size: bytes, write_path, .. } = committed;
                self.shared.log.record(self.peer, HappeningKind::Stored { path, bytes, write_path });
            }
            Err(error) => self.answer_failure(request, Some(path), error.into(), effects),
        }
    }

    fn on_opened(
        &mut self,
        request: u32,
        result: Result<(Opened, Option<Share>), StoreError>,
        effects: &mut Fx,
    ) {
        if matches!(self.waiting.get(&request), Some(Waiting::Cancelled { .. })) {
            return self.answer_cancelled(request, effects);
        }
        match result {
            Ok((opened, room)) => {
                self.unsent.push_back((request, opened, room));
                self.send_next(effects);
            }
            Err(error) => self.finish_get(request, Err(error.into()), effects),
        }
    }

    /// Sends opened files in the order they were asked for: small ones at once, large ones one after the other.
    fn send_next(&mut self, effects: &mut Fx) {
        while self.sending.is_none() {
            // From here on a small one counts among what waits to be sent.
            let Some((request, opened, _room)) = self.unsent.pop_front() else { return };
            effects.send(request, &Frame::File(opened.header));
            match opened.content {
                Content::Small(bytes, digest) => {
                    let sent = bytes.remaining().len() as u64;
                    send_small(request, opened.header.start, bytes, digest, effects);
                    effects.send(request, &Frame::End);
                    self.finish_get(request, Ok(sent), effects);
                }
                Content::Large(source) => {
                    self.sending = Some((request, Outgoing::start(request, source, effects)))
                }
            }
        }
    }

    fn on_progress(&mut self, progress: Progress, effects: &mut Fx) {
        if matches!(progress, Progress::Moving) {
            return;
        }
        let Some((request, outgoing)) = self.sending.take() else { return };
        let result = match progress {
            Progress::Complete(digest) => {
                effects.send(request, &Frame::Digest(digest));
                effects.send(request, &Frame::End);
                Ok(outgoing.sent_bytes())
            }
            Progress::Failed(failure) => Err(failure),
            Progress::Moving => return,
        };
        self.finish_get(request, result, effects);
        self.send_next(effects);
    }

    fn finish_get(&mut self, request: u32, result: Result<u64, Failure>, effects: &mut Fx) {
        let Some(Waiting::Get { path }) = self.waiting.remove(&request) else { return };
        match result {
            Ok(bytes) => self.shared.log.record(self.peer, HappeningKind::Sent { path, bytes }),
            Err(failure) => self.answer_failure(request, Some(path), failure, effects),
        }
    }

    fn on_listed(
        &mut self,
        request: u32,
        result: Result<(Listing, Vec<Listed>), StoreError>,
        effects: &mut Fx,
    ) {
        let Some(Waiting::List { left_out, first, .. }) = self.waiting.get_mut(&request) else {
            self.listing = None;
            self.answer_cancelled(request, effects);
            return self.list_next(effects);
        };
        let failure = match result {
            Ok((listing, batch)) if !batch.is_empty() => {
                let mut entries = Entries::default();
                for listed in batch {
                    match listed {
                        Listed::Entry(entry) => push_entry(request, &mut entries, entry, effects),
                        Listed::Skipped(error) => {
                            *left_out += 1;
                            first.get_or_insert_with(|| error.into());
                        }
                    }
                }
                if !entries.is_empty() {
                    effects.send(request, &Frame::Entries(entries));
                }
                if effects.is_congested() {
                    self.listing = Some(Reading { request, paused: Some(Box::new(listing)) });
                } else {
                    list_on(request, effects, || Ok(listing));
                }
                return;
            }
            Ok(_) => first.take().map(|first| {
                let message = format!("{left_out} entries had to be left out; the first: {}", first.message);
                Failure::new(ErrorCode::Partial, message)
            }),
            Err(error) => Some(error.into()),
        };
        let Some(waiting) = self.waiting.remove(&request) else { return };
        match failure {
            None => effects.send(request, &Frame::Done),
            Some(failure) => self.answer_failure(request, Some(waiting.into_path()), failure, effects),
        }
        self.listing = None;
        self.list_next(effects);
    }

    /// Begins the next listing if none is being read.
    fn list_next(&mut self, effects: &mut Fx) {
        if self.listing.is_some() {
            return;
        }
        let Some((request, list)) = self.unlisted.pop_front() else { return };
        self.listing = Some(Reading { request, paused: None });
        let store = self.shared.store.clone();
        list_on(request, effects, move || store.list(&list.path, list.recursive));
    }

    /// A step of a put went wrong: it is answered, and what still comes of it is dropped.
    fn refuse_if_failed(&mut self, request: u32, result: Result<(), Failure>, effects: &mut Fx) {
        let Err(failure) = result else { return };
        if let Some(attachment) = self.attached.remove(&request) {
            self.answer_failure(request, Some(attachment.put().path.clone()), failure, effects);
            detach(request, attachment, effects);
        } else if let Some(Arriving { put, incoming, .. }) = self.puts.remove(&request) {
            self.answer_failure(request, Some(put.path), failure, effects);
            drop_on_worker(request, incoming, effects);
        }
    }

    fn answer_failure(&mut self, request: u32, path: Option<RemotePath>, failure: Failure, effects: &mut Fx) {
        effects.send(request, &Frame::Error(failure.clone().into_reply()));
        self.shared.log.record(self.peer, HappeningKind::Failed { path, failure });
    }

    /// The connection cannot go on: says why, on account of which request, and closes.
    fn break_off(&mut self, request: u32, failure: Failure, effects: &mut Fx) {
        // A stranger or an old peer gets a hello all the same, so that it can tell its user what answered.
        if self.is_before_hello() {
            let hello = self.hello();
            effects.send_encoded(|out| hello.encode(out));
        }
        self.phase = Phase::Closing;
        if let Some(mut keys) = self.keys.take() {
            keys.answer(effects);
        }
        self.answer_failure(request, None, failure, effects);
        for (request, Arriving { incoming, .. }) in self.puts.drain() {
            drop_on_worker(request, incoming, effects);
        }
        for (request, attachment) in self.attached.drain() {
            detach(request, attachment, effects);
        }
        effects.close();
    }

    fn on_closed(&mut self, end: End, effects: &mut Fx) {
        if let End::Broken(error) = end {
            tracing::debug!(peer = %self.peer, %error, "connection lost");
        }
        self.lose_arriving(effects);
        self.keys = None;
        self.shared.log.record(self.peer, HappeningKind::Closed);
    }

    /// Gives up the files of which no more will come.
    fn lose_arriving(&mut self, effects: &mut Fx) {
        for (request, attachment) in std::mem::take(&mut self.attached) {
            let path = attachment.put().path.clone();
            let message = format!("{path}: the connection ended before the file was whole");
            let failure = Failure::new(ErrorCode::ConnectionLost, message);
            // Each request is answered, and the file has failed once the last of them is gone.
            if detach(request, attachment, effects) {
                self.answer_failure(request, Some(path), failure, effects);
            } else {
                effects.send(request, &Frame::Error(failure.into_reply()));
            }
        }
        for (request, Arriving { put, incoming, .. }) in std::mem::take(&mut self.puts) {
            let message = format!("{}: the connection ended before the file was whole", put.path);
            let failure = Failure::new(ErrorCode::ConnectionLost, message);
            self.answer_failure(request, Some(put.path), failure, effects);
            drop_on_worker(request, incoming, effects);
        }
    }
}

impl Waiting {
    fn into_path(self) -> RemotePath {
        match self {
            Self::Attaching { path }
            | Self::Get { path }
            | Self::List { path, .. }
            | Self::Question { path }
            | Self::Checksum { path }
            | Self::Tree { path }
            | Self::Cancelled { path } => path,
        }
    }
}

fn shutting_down() -> Failure {
    Failure::new(ErrorCode::ShuttingDown, "the server is shutting down; try again later")
}

/// Takes a request from its transfer at once, so that whoever goes next knows whether others are left; the rest is for a worker.
/// Whether nobody is attached any more, and the file is not committed.
fn detach(request: u32, mut attachment: Attachment, effects: &mut Fx) -> bool {
    let is_forsaken = attachment.detach();
    drop_on_worker(request, attachment, effects);
    is_forsaken
}

/// Giving back the blocks of a large staging file takes the kernel a while. What is being written to it is written then.
fn drop_on_worker(request: u32, dropped: impl Send + 'static, effects: &mut Fx) {
    effects.work(request, move || {
        drop(dropped);
        DiskOutcome::Dropped.into()
    });
}

/// Opens a file to take its digest, and takes that of a small one at once.
fn open_digest(
    store: &Store,
    path: &RemotePath,
    algorithm: DigestAlgorithm,
) -> Result<(FileDigest, Option<Digest>), StoreError> {
    let file = store.file_digest(path, algorithm)?;
    let digest = if file.size() <= READ_AT_ONCE_BYTES_MAX { file.advance()? } else { None };
    Ok((file, digest))
}

/// Reads the next part of a listing, which `open` opens or hands on.
fn list_on(
    request: u32,
    effects: &mut Fx,
    open: impl FnOnce() -> Result<Listing, StoreError> + Send + 'static,
) {
    let names_bytes_max = if effects.is_crowded() { CROWDED_BYTES as usize / 4 } else { usize::MAX };
    effects.work(request, move || {
        let next = |mut listing: Listing| Ok((listing.next_batch(names_bytes_max)?, listing));
        let listed = open().and_then(next).map(|(batch, listing)| (listing, batch));
        TransferOutcome::Listed(listed).into()
    });
}

/// Adds an entry to the frame that is being filled; if that is full, sends it and begins another.
fn push_entry(request: u32, entries: &mut Entries, entry: Entry, effects: &mut Fx) {
    if let Err(entry) = entries.push(entry) {
        effects.send(request, &Frame::Entries(std::mem::take(entries)));
        // An empty frame has room for any entry.
        let _ = entries.push(entry);
    }
}

#[cfg(any(test, fuzzing))]
const PEER: Peer = Peer::Unix { pid: 1, uid: 0, gid: 0 };

#[cfg(fuzzing)]
pub mod fuzzing;
#[cfg(test)]
mod tests;
