//! One connection: its session, what was read and not yet taken, what waits to be sent, written or worked off.

use std::io;
use std::mem;
use std::sync::Arc;
use std::time::{Duration, Instant};

use xferd_os::{Sink, scaled, seeded};
use xferd_reactor::{Carried, Driver, Op, PAGE_BYTES, PoolBuf, SockRef, Token};
use xferd_store::Hasher;
use xferd_wire::HEADER_BYTES;

use crate::budget::{Budget, CROWDED_BYTES, Share};
use crate::flights::{ConnKey, Flights, Kind};
use crate::input::Input;
use crate::outbox::{Outbox, Sent};
use crate::reach::{Calls, Reachable};
use crate::session::{Effect, Effects, End, Event, Session};
use crate::work::{Backlog, Batch};

/// File writes of one connection that may be under way while the next bytes are received: one being written while the
/// next buffer fills is all that a single stream can use.
const WRITES_MAX: usize = 2;

/// Bytes of an extent's frame before its raw ones. After an extent most likely another follows: if no more than its
/// header is received together with what is received in between, its content comes straight into large buffers, at the
/// right place in them.
const EXTENT_HEADER_BYTES: usize = HEADER_BYTES + 8;

/// Bytes of an extent that are received at a time where much is kept in memory for all peers: each large buffer is lent to
/// somebody then, and most of it stays untouched. Writing so much at a time is slower by a quarter
/// ([`BufferLimits`](xferd_reactor::BufferLimits)).
const CROWDED_BULK_BYTES: u64 = scaled(256 << 10);

/// How long a receive may wait for more than is there.
const HASTE: Duration = Duration::from_millis(500);

/// How long a closing side waits for its peer to read what was sent last, before the connection is reset.
const LINGER: Duration = Duration::from_secs(2);

pub(crate) struct Conn<S: Session> {
    key: ConnKey,
    session: S,
    effects: Effects<S::Outcome>,
    sock: Option<SockRef>,
    connecting: Option<Token>,
    phase: Phase,
    input: Option<Input>,
    receiving: bool,
    /// What there is has to do: nothing has come for a while.
    hasten: bool,
    /// The last receive brought the session as much as a small buffer holds, and no extent of a file has begun since:
    /// many frames are coming, and are taken by a large buffer at a time.
    brimming: bool,
    /// The peer has ended its stream.
    peer_ended: bool,
    intake: Option<Intake>,
    discard: u64,
    /// An extent has come to its end and nothing after it was received.
    after_extent: bool,
    writes: usize,
    outbox: Outbox,
    works: Backlog<S::Outcome>,
    working: bool,
    /// Bytes of whole files that a worker has.
    working_bytes: u64,
    /// What is kept in memory beside what waits to be sent, and whole files.
    kept: Share,
    /// Whole files that wait for the disk, and those that a worker has.
    waiting_files: Share,
    /// The peer does not read: what is left for it is thrown away.
    deaf: bool,
    /// When something last moved.
    moved: Instant,
    /// The shard looks at it for silence now and then; otherwise it rests.
    pub(crate) is_watched: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Phase {
    Open,
    /// Sends what is queued, takes nothing any more.
    Flushing,
    /// Has ended its stream and waits for the peer to end its own.
    Lingering,
    /// Is to be closed.
    Ending,
    /// The driver closes it.
    Closing,
    Closed,
}

/// An extent on its way into a file.
struct Intake {
    key: u32,
    sink: Arc<Sink>,
    /// Where the next byte to be written goes; what is carried over comes first.
    offset: u64,
    /// Bytes that have not come yet.
    left: u64,
    /// The beginning of a page whose rest has not come: a page is written once, whole, or some ways of writing are slow.
    carry: Vec<u8>,
    hasher: Option<Hasher>,
    result: io::Result<()>,
}

impl Intake {
    /// Puts what was carried over in front of `buf`, and keeps the beginning of a page at its end for the next one,
    /// unless the extent is complete. Where the rest is to be written, if anything is left.
    fn cut_at_page(&mut self, buf: &mut PoolBuf) -> Option<u64> {
        let offset = self.offset;
        if !buf.prepend(&self.carry) {
            // It was received for this very place, so there is room.
            self.result = Err(io::Error::other("a receive buffer does not fit its place in the file"));
        }
        self.carry.clear();
        if self.left > 0 {
            let end = offset + buf.len() as u64;
            let started = usize::try_from(end % PAGE_BYTES as u64).unwrap_or_default().min(buf.len());
            let whole = buf.len() - started;
            self.carry.extend_from_slice(&buf[whole..]);
            buf.truncate(whole);
        }
        self.offset += buf.len() as u64;
        (!buf.is_empty()).then_some(offset)
    }
}

impl<S: Session> Conn<S> {
    /// What it keeps in memory counts in `budget`.
    pub(crate) fn new(key: ConnKey, session: S, budget: &Budget, now: Instant) -> Self {
        Self {
            key,
            session,
            effects: Effects::default(),
            sock: None,
            connecting: None,
            phase: Phase::Open,
            input: None,
            receiving: false,
            hasten: false,
            brimming: false,
            peer_ended: false,
            intake: None,
            discard: 0,
            after_extent: false,
            writes: 0,
            outbox: Outbox::new(budget.keep()),
            works: Backlog::default(),
            working: false,
            working_bytes: 0,
            kept: budget.keep(),
            waiting_files: budget.wait(),
            deaf: false,
            moved: now,
            is_watched: false,
        }
    }

    pub(crate) fn connect(&mut self, token: Token) {
        self.connecting = Some(token);
    }

    pub(crate) fn connected(&mut self, sock: SockRef, calls: &Arc<Calls>, now: Instant) {
        self.connecting = None;
        self.sock = Some(sock);
        self.moved = now;
        if self.phase == Phase::Closing {
            // It was given up, but too late to be cancelled.
            self.phase = Phase::Ending;
        }
        if self.phase == Phase::Open {
            self.session.on_reachable(&Reachable::new(self.key, calls));
        }
        self.tell(Event::Connected);
    }

    pub(crate) fn connect_failed(&mut self, error: io::Error) {
        self.connecting = None;
        self.end(End::Broken(error));
        self.phase = Phase::Closed;
    }

    pub(crate) fn session(&self) -> &S {
        &self.session
    }

    /// Whether nothing of it is left with the driver or the workers.
    pub(crate) fn is_gone(&self) -> bool {
        self.phase == Phase::Closed && !self.working && self.works.is_empty() && self.writes == 0
    }

    pub(crate) fn is_idle(&self) -> bool {
        self.phase == Phase::Open && self.session.is_idle()
    }

    /// Whether it could take up this command.
    pub(crate) fn takes(&self, command: &S::Command) -> bool {
        self.phase == Phase::Open && self.session.takes(command)
    }

    /// Bulk bytes that are due on it, for placing new connections elsewhere.
    pub(crate) fn bulk_bytes(&self) -> u64 {
        self.intake.as_ref().map_or(0, |intake| intake.left) + self.outbox.queued_bytes()
    }

    pub(crate) fn tell(&mut self, event: Event<S::Outcome, S::Command>) {
        if self.phase != Phase::Open {
            return;
        }
        self.prepare_effects();
        self.session.on_event(event, &mut self.effects);
        self.apply();
    }

    /// The connection is over; what work it asked for is still done, but nobody will hear of it.
    pub(crate) fn end(&mut self, end: End) {
        if matches!(self.phase, Phase::Ending | Phase::Closing | Phase::Closed) {
            return;
        }
        self.session.on_event(Event::Closed(end), &mut self.effects);
        for effect in self.effects.list.drain(..) {
            if let Effect::Work { key, work } = effect {
                self.works.push(key, work);
            }
        }
        self.phase = Phase::Ending;
        self.input = None;
        self.intake = None;
    }

    /// Ends what has been silent for too long.
    pub(crate) fn check_silence(&mut self, now: Instant) {
        self.hasten = self.receiving && now.saturating_duration_since(self.moved) >= HASTE;
        if self.working || self.writes > 0 {
            self.moved = now;
        }
        let silence = now.saturating_duration_since(self.moved);
        let patience = match self.outbox.is_empty() {
            true => self.session.patience(),
            false => self.session.patience_while_sending(),
        };
        match self.phase {
            Phase::Open if silence >= patience => {
                self.moved = now;
                self.tell(Event::Stalled);
            }
            Phase::Flushing | Phase::Lingering if silence >= LINGER => {
                self.deaf = true;
                self.end(End::Closed);
            }
            _ => {}
        }
    }

    /// Has it keep only what it needs while nothing happens, if nothing has for a while and nothing is under way. When
    /// its patience will end then; until there it need not be looked at.
    pub(crate) fn rest(&mut self, now: Instant) -> Option<Instant> {
        let is_still = self.phase == Phase::Open
            && self.receiving
            && self.input.is_none()
            && self.intake.is_none()
            && self.discard == 0
            && self.outbox.is_empty()
            && self.works.is_empty()
            && !self.working
            && self.writes == 0
            && now.saturating_duration_since(self.moved) >= HASTE;
        if !is_still || !self.session.rest() {
            return None;
        }
        self.effects.list = Vec::new();
        self.outbox.shrink();
        self.works.shrink();
        self.patient_until()
    }

    /// When its patience ends if nothing happens.
    pub(crate) fn patient_until(&self) -> Option<Instant> {
        self.moved.checked_add(self.session.patience())
    }

    pub(crate) fn on_received(
        &mut self,
        result: io::Result<u32>,
        carried: Carried<Batch<S::Outcome>>,
        now: Instant,
    ) {
        self.receiving = false;
        match result {
            Err(error) => self.end(End::Broken(error)),
            Ok(0) => self.on_peer_end(),
            Ok(_) => {
                // Once it is closing only what is sent counts, or a peer could keep it open by sending for ever.
                if self.phase == Phase::Open {
                    self.moved = now;
                }
                if let Carried::Buf(buf) = carried {
                    self.input = Some(Input::Lent(buf));
                }
            }
        }
    }

    fn on_peer_end(&mut self) {
        self.peer_ended = true;
        match self.phase {
            Phase::Open => {
                self.intake = None;
                self.prepare_effects();
                self.session.on_end(&mut self.effects);
                self.apply();
            }
            Phase::Lingering => self.end(End::Closed),
            Phase::Flushing | Phase::Ending | Phase::Closing | Phase::Closed => {}
        }
    }

    pub(crate) fn on_sent(
        &mut self,
        result: io::Result<u32>,
        carried: Carried<Batch<S::Outcome>>,
        now: Instant,
    ) {
        let rest = match carried {
            Carried::Sent(rest) => Some(rest),
            _ => None,
        };
        self.moved = now;
        match self.outbox.on_done(result, rest) {
            Sent::Part => {}
            Sent::Extent { key, bytes } => self.tell(Event::Sent { key, bytes }),
            Sent::SourceShort(key) => self.tell(Event::SourceShort { key }),
            Sent::Broken(error) => self.end(End::Broken(error)),
        }
        if self.outbox.has_drained() {
            self.tell(Event::Drained);
        }
    }

    pub(crate) fn on_written(&mut self, result: io::Result<u32>, now: Instant) {
        self.writes -= 1;
        self.moved = now;
        if let Some(intake) = &mut self.intake {
            match result {
                Ok(bytes) => {
                    let (key, bytes) = (intake.key, bytes.into());
                    self.tell(Event::Written { key, bytes });
                }
                Err(error) => intake.result = Err(error),
            }
        }
        if self.writes > 0 || self.intake.as_ref().is_none_or(|intake| intake.left > 0) {
            return;
        }
        if let Some(Intake { key, hasher, result, .. }) = self.intake.take() {
            self.after_extent = true;
            self.tell(Event::Received { key, hasher, result });
        }
    }

    pub(crate) fn on_worked(
        &mut self,
        result: io::Result<u32>,
        carried: Carried<Batch<S::Outcome>>,
        now: Instant,
    ) {
        self.working = false;
        self.working_bytes = 0;
        self.moved = now;
        match (result, carried) {
            (Ok(_), Carried::Job(batch)) => {
                for (key, outcome) in batch.done {
                    self.tell(Event::Worked { key, outcome });
                }
            }
            (Err(error), _) => self.end(End::Broken(error)),
            (Ok(_), _) => self.end(End::Broken(io::Error::other("work came back without its outcome"))),
        }
    }

    /// The driver has closed it.
    pub(crate) fn on_closed(&mut self) {
        self.phase = Phase::Closed;
    }

    /// Takes what was read, then starts whatever can be started.
    pub(crate) fn pump<D: Driver<Batch<S::Outcome>>>(&mut self, flights: &mut Flights<S::Outcome, D>) {
        self.start(flights);
        let input = self.input.as_ref().map_or(0, Input::kept_bytes);
        self.kept.set(input + self.session.kept_bytes());
        self.waiting_files.set(self.works.file_bytes() + self.working_bytes);
    }

    fn start<D: Driver<Batch<S::Outcome>>>(&mut self, flights: &mut Flights<S::Outcome, D>) {
        self.feed(flights);
        self.start_work(flights);
        let Some(sock) = self.sock else { return self.give_up_connecting(flights) };
        if mem::take(&mut self.hasten) {
            flights.driver.hasten(sock);
        }
        if matches!(self.phase, Phase::Open | Phase::Flushing) {
            if let Some(op) = self.outbox.next_op(sock) {
                flights.submit(self.key, Kind::Send, op);
            }
        }
        if self.phase == Phase::Flushing && self.outbox.is_empty() {
            if self.peer_ended {
                self.end(End::Closed);
            } else {
                self.phase = Phase::Lingering;
                flights.submit(self.key, Kind::ShutdownWrite, Op::ShutdownWrite(sock));
            }
        }
        match self.phase {
            Phase::Open | Phase::Flushing | Phase::Lingering => self.start_receive(sock, flights),
            Phase::Ending => {
                self.phase = Phase::Closing;
                let op = if self.deaf { Op::Reset(sock) } else { Op::Close(sock) };
                flights.submit(self.key, Kind::Close, op);
            }
            Phase::Closing | Phase::Closed => {}
        }
    }

    fn give_up_connecting<D: Driver<Batch<S::Outcome>>>(&mut self, flights: &mut Flights<S::Outcome, D>) {
        if self.phase != Phase::Ending {
            return;
        }
        match self.connecting {
            Some(token) => {
                self.phase = Phase::Closing;
                flights.cancel(token);
            }
            None => self.phase = Phase::Closed,
        }
    }

    fn feed<D: Driver<Batch<S::Outcome>>>(&mut self, flights: &mut Flights<S::Outcome, D>) {
        while let Some(mut input) = self.input.take() {
            if input.is_empty() {
                return;
            }
            if self.discard > 0 {
                let bytes = input.len().min(usize::try_from(self.discard).unwrap_or(usize::MAX));
                self.discard -= bytes as u64;
                input.advance(bytes);
                self.input = Some(input);
            } else if self.intake.as_ref().is_some_and(|intake| intake.left > 0) {
                if !self.take_in(input, flights) {
                    return;
                }
            } else if self.takes_bytes() {
                self.prepare_effects();
                self.brimming = input.len() as u64 >= flights.small_bytes() && !self.effects.crowded;
                let taken = self.session.on_bytes(&input, &mut self.effects);
                debug_assert!(taken > 0, "a session that wants bytes takes some");
                input.advance(taken);
                self.input = Some(input);
                self.apply();
            } else if self.phase == Phase::Open {
                // A write ends soon; anything else may take the peer as long as it likes.
                self.input = Some(if self.intake.is_some() { input } else { input.keep() });
                return;
            }
            // Once it is closing, what still comes is of no interest.
        }
    }

    fn takes_bytes(&self) -> bool {
        self.phase == Phase::Open
            && self.intake.is_none()
            && (self.session.reads_while_sending() || !self.outbox.is_full())
            && !self.works.is_full(self.kept.budget().has_many_files())
            && self.session.wants_bytes()
    }

    /// Writes the front of `input` to the file it belongs to. False if no buffer is free to cut it off with.
    fn take_in<D: Driver<Batch<S::Outcome>>>(
        &mut self,
        input: Input,
        flights: &mut Flights<S::Outcome, D>,
    ) -> bool {
        let Some(intake) = &mut self.intake else { return true };
        let mine = input.len().min(usize::try_from(intake.left).unwrap_or(usize::MAX));
        let mut buf = match input {
            Input::Lent(buf) if mine == buf.len() => buf,
            mut input => {
                let Some(mut part) = flights.take_buffer(intake.carry.len() + mine) else {
                    self.input = Some(input.keep());
                    flights.retry_soon(self.key);
                    return false;
                };
                part.clear_for(intake.offset + intake.carry.len() as u64);
                // Less than all if it does not begin at a page.
                let mine = mine.min(part.spare_bytes());
                part.spare_mut()[..mine].copy_from_slice(&input[..mine]);
                part.fill(mine);
                input.advance(mine);
                self.input = Some(input);
                part
            }
        };
        intake.left -= buf.len() as u64;
        if let Some(hasher) = &mut intake.hasher {
            hasher.update(&buf);
        }
        if let Some(offset) = intake.cut_at_page(&mut buf) {
            self.writes += 1;
            let sink = intake.sink.clone();
            flights.submit(self.key, Kind::Write, Op::WriteAt { sink, offset, buf });
        }
        true
    }

    fn start_receive<D: Driver<Batch<S::Outcome>>>(
        &mut self,
        sock: SockRef,
        flights: &mut Flights<S::Outcome, D>,
    ) {
        if self.receiving || self.peer_ended || self.input.is_some() || self.writes >= WRITES_MAX {
            return;
        }
        let (bulk, offset) = match &self.intake {
            Some(intake) if intake.left > 0 => (intake.left, intake.offset + intake.carry.len() as u64),
            Some(_) => return,
            None => (self.discard, 0),
        };
        if bulk == 0 && self.phase == Phase::Open && !self.takes_bytes() {
            return;
        }
        self.receiving = true;
        let op = if bulk > 0 {
            let bulk = if self.is_crowded() { bulk.min(CROWDED_BULK_BYTES) } else { bulk };
            Op::RecvLarge { sock, offset, bytes_due: Some(bulk) }
        } else if self.brimming {
            Op::RecvLarge { sock, offset, bytes_due: None }
        } else {
            let bytes_max = match mem::take(&mut self.after_extent) {
                true => EXTENT_HEADER_BYTES,
                false if self.is_crowded() => CROWDED_BYTES as usize,
                false => flights.receive_bytes_max,
            };
            Op::RecvSmall { sock, bytes_max }
        };
        flights.submit(self.key, Kind::Receive, op);
    }

    fn start_work<D: Driver<Batch<S::Outcome>>>(&mut self, flights: &mut Flights<S::Outcome, D>) {
        // An extent that was given up in its middle may still be on its way into its file; what is asked for then is to
        // drop that file, or to let others write to it.
        let is_abandoned = self.intake.is_none() && self.writes > 0;
        if self.working || self.works.is_empty() || is_abandoned {
            return;
        }
        self.working = true;
        let waiting_bytes = self.works.file_bytes();
        let batch = self.works.next_batch();
        self.working_bytes = waiting_bytes - self.works.file_bytes();
        flights.submit(self.key, Kind::Work, Op::Offload(batch));
    }

    /// Whether so much is kept in memory for all peers together that this one has to do with less.
    fn is_crowded(&self) -> bool {
        self.kept.budget().is_crowded()
    }

    /// Tells the session what waits for its peer, and for all others.
    fn prepare_effects(&mut self) {
        self.effects.queued_bytes = self.outbox.queued_bytes();
        self.effects.crowded = self.is_crowded();
    }

    fn apply(&mut self) {
        if self.effects.is_congested() {
            self.outbox.note_congestion();
        }
        let mut list = mem::take(&mut self.effects.list);
        for effect in list.drain(..) {
            match effect {
                Effect::Send(bytes) => self.outbox.push_bytes(bytes),
                Effect::SendExtent { key, source, offset, len } => {
                    self.outbox.push_extent(key, source, offset, len)
                }
                Effect::Receive { key, sink, offset, len, hasher } => {
                    debug_assert!(self.intake.is_none() && self.discard == 0, "one extent at a time");
                    self.brimming = false;
                    let mut carry = Vec::new();
                    if seeded!(AnnouncementAllocated) {
                        carry.reserve(usize::try_from(len).unwrap_or_default());
                    }
                    let result = Ok(());
                    self.intake = Some(Intake { key, sink, offset, left: len, carry, hasher, result });
                }
                Effect::Discard { len } => self.discard += len,
                Effect::Work { key, work } => self.works.push(key, work),
                Effect::Close { flush: true } => {
                    if self.phase == Phase::Open {
                        self.phase = Phase::Flushing;
                        self.intake = None;
                        self.discard = 0;
                    }
                }
                Effect::Close { flush: false } => {
                    self.effects.list.clear();
                    self.end(End::Closed);
                }
            }
        }
        // Keeps the vector's memory for the next round.
        if self.effects.list.is_empty() {
            self.effects.list = list;
        }
    }
}
