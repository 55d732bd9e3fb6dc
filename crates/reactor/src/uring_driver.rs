//! The driver on io_uring.
//!
//! What is asked of a stream becomes requests in a [`Ring`]; a turn hands over all that have gathered, and fetches all
//! completions, in one system call. A small receive takes its buffer from those that the kernel was provided with, when
//! there is something to receive; a large one is lent its buffer when the kernel has said that there is. Files are sent
//! by the turn itself: there is no request that does it.

mod provided;
mod ring;
mod stream;

use std::collections::VecDeque;
use std::fmt;
use std::io;
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use slab::Slab;
use xferd_os::net::{Address, Listener, Peer, Socket};

use self::ring::{Entries, FlightId, Freight, Landing, Request, Ring};
use self::stream::{Phase, Sending, Stream, Way};
use crate::buffer::BufferSize;
use crate::chores::Chores;
use crate::op::Key;
use crate::performer::Performer;
use crate::receive::{Receive, Windows};
use crate::starved::Starved;
use crate::sync::Bell;
use crate::transmit::Transmit;
use crate::workers::Work;
use crate::{
    BufferPool, Carried, Done, Driver, Job, LISTENERS_MAX, Limits, ListenerRef, Op, SockRef, Token, Wait,
    Waker, WorkerPool,
};

/// The driver on io_uring.
pub struct UringDriver<J: Job> {
    ring: Ring<Tag>,
    bell: Arc<xferd_os::Bell>,
    /// Whether the kernel watches the bell.
    is_listening: bool,
    waker: Waker,
    limits: Limits,
    in_flight: usize,
    generation: u32,
    listeners: Slab<Port>,
    streams: Slab<Stream>,
    /// Slots of streams with something to ask the kernel for. A slot may have changed hands since.
    runnable: VecDeque<usize>,
    /// What was received, or failed to be, and has not been handed on.
    received: VecDeque<(usize, Landing<Tag>)>,
    starved: Starved,
    buffers: BufferPool,
    windows: Windows,
    /// Buffers that the kernel is to have: as many as it once lacked, so that few connections cost few.
    provided_wanted: usize,
    provided_max: usize,
    chores: Chores<J>,
    /// What ended outside a turn.
    ended: Vec<Done<J>>,
}

/// What a completion is about. A slot is not given away before the last.
#[derive(Clone, Copy)]
enum Tag {
    Bell,
    Port(usize),
    Inbound(usize),
    Outbound(usize),
}

/// The ring takes no more requests before the next turn.
struct NoRoom;

/// A listener, and what is in flight on it.
struct Port {
    key: Key,
    listener: Listener,
    accepting: Option<Token>,
    /// The kernel accepts for it.
    flight: Option<FlightId>,
    /// What the kernel has accepted, or said instead, ahead of being asked.
    accepted: VecDeque<io::Result<(Socket, Peer)>>,
    is_closing: bool,
}

impl<J: Job> UringDriver<J> {
    /// A driver without sockets. Without workers, what may block runs in its turns. It belongs to the thread of its first
    /// turn.
    ///
    /// # Errors
    /// What keeps this machine from having such a driver, in words.
    pub fn new(limits: Limits, workers: Option<Arc<WorkerPool<J>>>) -> io::Result<UringDriver<J>> {
        // At least half of the buffers are left to be lent.
        let provided_max = (limits.buffers.small_max / 2).clamp(1, PROVIDED_MAX);
        let buffers =
            if provided_max.is_power_of_two() { provided_max } else { provided_max.next_power_of_two() / 2 };
        let entries = Entries { buffers: buffers as u16, ..ENTRIES };
        let ring = Ring::new(entries)?;
        let bell = Arc::new(xferd_os::Bell::new()?);
        let waker = Waker::new(Bell::Event(Arc::clone(&bell)));
        Ok(UringDriver {
            ring,
            bell,
            is_listening: false,
            limits,
            in_flight: 0,
            generation: 0,
            listeners: Slab::new(),
            streams: Slab::new(),
            runnable: VecDeque::new(),
            received: VecDeque::new(),
            starved: Starved::default(),
            buffers: BufferPool::new(limits.buffers, waker.clone()),
            windows: Windows::default(),
            provided_wanted: 0,
            provided_max: buffers,
            chores: Chores::new(workers, waker.clone()),
            ended: Vec::new(),
            waker,
        })
    }

    fn next_key(&mut self, slot: usize) -> Key {
        self.generation = self.generation.wrapping_add(1);
        Key { slot: slot as u32, generation: self.generation }
    }

    fn stream(&mut self, sock: SockRef) -> Option<&mut Stream> {
        let stream = self.streams.get_mut(sock.0.slot as usize)?;
        (stream.key == sock.0 && stream.phase == Phase::Open).then_some(stream)
    }

    fn port(&mut self, listener: ListenerRef) -> Option<&mut Port> {
        let port = self.listeners.get_mut(listener.0.slot as usize)?;
        (port.key == listener.0 && !port.is_closing).then_some(port)
    }

    fn add(&mut self, socket: Socket) -> io::Result<&mut Stream> {
        if self.streams.len() >= self.limits.sockets_max {
            return Err(io::ErrorKind::QuotaExceeded.into());
        }
        let slot = self.streams.vacant_key();
        let key = self.next_key(slot);
        self.streams.insert(Stream::new(key, socket, &self.windows));
        Ok(&mut self.streams[slot])
    }

    /// Has the kernel let go of a stream, and closes it then.
    fn start_closing(&mut self, slot: usize, token: Option<Token>) {
        let Some(stream) = self.streams.get_mut(slot) else { return };
        stream.phase = Phase::Closing(token);
        for way in [stream.inbound, stream.outbound] {
            if let Way::Polled(flight) | Way::Taken(flight) = way {
                self.ring.cancel(flight);
            }
        }
        self.finish_closing(slot);
    }

    fn finish_closing(&mut self, slot: usize) {
        let is_over = |stream: &Stream| stream.phase != Phase::Open && stream.is_idle();
        if !self.streams.get(slot).is_some_and(is_over) {
            return;
        }
        let stream = self.streams.remove(slot);
        if let Some(size) = stream.starved {
            self.starved.remove(size, slot);
        }
        if let Some((token, _)) = stream.receiving {
            self.end(token, io::ErrorKind::ConnectionAborted.into(), Carried::Nothing);
        }
        if let Some((token, sending)) = stream.sending {
            self.end(token, io::ErrorKind::ConnectionAborted.into(), sending.into_carried());
        }
        if let Phase::Closing(Some(token)) = stream.phase {
            self.ended.push(Done { token, result: Ok(0), carried: Carried::Nothing });
        }
    }

    /// Puts a stream into the run queue if there is something to ask the kernel for.
    fn schedule(&mut self, slot: usize) {
        let Some(stream) = self.streams.get_mut(slot) else { return };
        if !stream.queued && stream.is_ready() {
            stream.queued = true;
            self.runnable.push_back(slot);
        }
    }

    /// Hands over what ended since the last look.
    fn collect(&mut self, done: &mut Vec<Done<J>>) {
        done.append(&mut self.ended);
        self.chores.collect(done);
    }

    /// Lets streams that had no buffer try again if there is one.
    fn revive(&mut self) {
        // What no turn takes would only hold a buffer.
        let wanted = self.chores.receives_wanted().saturating_sub(self.received.len());
        self.starved.serve(&self.buffers, wanted, |slot| {
            let Some(stream) = self.streams.get_mut(slot) else { return };
            stream.starved = None;
            if stream.is_ready() && !stream.queued {
                stream.queued = true;
                // Before those who have not waited: they would take the buffer.
                self.runnable.push_front(slot);
            }
        });
    }

    /// Gives the kernel the buffers it lacks. Nobody may wait for one: from those whoever is heard first helps himself.
    fn provide(&mut self) {
        while self.ring.provided() < self.provided_wanted && self.starved.is_empty(BufferSize::Small) {
            let Some(buf) = self.buffers.take_small() else { return };
            if self.ring.provide(buf).is_err() {
                return;
            }
        }
    }

    /// Asks the kernel for what is to be done, and does what it cannot be asked for.
    fn ask(&mut self, done: &mut Vec<Done<J>>) {
        if !self.is_listening {
            let request = Request::PollEdges(self.bell.as_raw_fd());
            self.is_listening = self.ring.submit(Tag::Bell, request).is_ok();
        }
        self.accept(done);
        for _ in 0..self.runnable.len() {
            let Some(slot) = self.runnable.pop_front() else { return };
            let Some(stream) = self.streams.get_mut(slot) else { continue };
            stream.queued = false;
            if stream.phase != Phase::Open {
                continue;
            }
            let was_starved = stream.starved.is_some();
            let asked = stream.receive(Tag::Inbound(slot), &mut self.ring, &self.buffers);
            if let (Some(size), false) = (stream.starved, was_starved) {
                self.starved.push(size, slot);
            }
            let connects = matches!(stream.sending, Some((_, Sending::Here(Transmit::Connect))));
            let sent = stream.send(Tag::Outbound(slot), &mut self.ring);
            if asked.is_err() || sent.is_err() {
                self.schedule(slot);
            }
            if let Ok(Some(sent)) = sent {
                if connects && sent.result.is_err() {
                    self.start_closing(slot, None);
                }
                done.push(sent);
            }
        }
    }

    fn accept(&mut self, done: &mut Vec<Done<J>>) {
        for (slot, port) in &mut self.listeners {
            done.extend(port.accept(slot, &mut self.ring));
        }
    }

    fn enter(&mut self, wait: Wait) -> io::Result<()> {
        let timeout = match wait {
            Wait::Now => Some(Duration::ZERO),
            Wait::Until(instant) => Some(instant.saturating_duration_since(Instant::now())),
            Wait::Forever => None,
        };
        let timeouts = timeout.into_iter().chain(self.chores.patience());
        self.ring.enter(timeouts.min())
    }

    /// Takes note of what the kernel has completed.
    fn land(&mut self, done: &mut Vec<Done<J>>) {
        while let Some(landing) = self.ring.land() {
            match landing.tag {
                Tag::Bell => {
                    self.waker.heard();
                    self.is_listening &= !landing.is_last;
                }
                Tag::Port(slot) => self.on_accepted(slot, landing),
                Tag::Inbound(slot) => self.received.push_back((slot, landing)),
                Tag::Outbound(slot) => {
                    let Some(stream) = self.streams.get_mut(slot) else { continue };
                    done.extend(stream.sent(landing));
                    self.schedule(slot);
                    self.finish_closing(slot);
                }
            }
        }
        self.accept(done);
    }

    fn receive_some(&mut self, done: &mut Vec<Done<J>>) {
        for _ in 0..self.chores.receives_wanted() {
            let Some((slot, landing)) = self.received.pop_front() else { return };
            let Some(stream) = self.streams.get_mut(slot) else { continue };
            if stream.phase == Phase::Open {
                done.extend(stream.received(landing));
            } else {
                stream.inbound = Way::Idle;
            }
            if let Some(size) = stream.starved {
                self.provided_wanted = (self.provided_wanted + 1).min(self.provided_max);
                self.starved.push(size, slot);
            }
            self.schedule(slot);
            self.finish_closing(slot);
        }
    }

    fn on_accepted(&mut self, slot: usize, landing: Landing<Tag>) {
        let Some(port) = self.listeners.get_mut(slot) else { return };
        if landing.is_last {
            port.flight = None;
        }
        let accepted = match (landing.result, landing.freight) {
            (Ok(_), Freight::Connection(accepted)) => Some(port.listener.adopt(accepted)),
            (Err(error), _) if error.raw_os_error() != Some(libc::ECANCELED) => Some(Err(error)),
            _ => None,
        };
        port.accepted.extend(accepted);
        if port.accepted.len() >= ACCEPTED_MAX {
            if let Some(flight) = port.flight {
                self.ring.cancel(flight);
            }
        }
        if port.is_closing && port.flight.is_none() {
            self.listeners.remove(slot);
        }
    }
}

impl<J: Job> Performer<J> for UringDriver<J> {
    fn is_accepting(&mut self, listener: ListenerRef) -> bool {
        self.port(listener).is_some_and(|port| port.accepting.is_some())
    }

    fn is_receiving(&mut self, sock: SockRef) -> bool {
        self.stream(sock).is_some_and(|stream| stream.receiving.is_some())
    }

    fn is_sending(&mut self, sock: SockRef) -> bool {
        self.stream(sock).is_some_and(|stream| stream.sending.is_some())
    }

    fn accept(&mut self, token: Token, listener: ListenerRef) {
        match self.port(listener) {
            Some(port) => port.accepting = Some(token),
            None => self.end(token, io::ErrorKind::NotConnected.into(), Carried::Nothing),
        }
    }

    fn connect(&mut self, token: Token, address: &Address) {
        match Socket::connect(address).and_then(|socket| self.add(socket)) {
            Ok(stream) => {
                stream.start_connecting(token);
                let slot = stream.key.slot as usize;
                self.schedule(slot);
            }
            Err(error) => self.end(token, error, Carried::Nothing),
        }
    }

    fn receive(&mut self, token: Token, sock: SockRef, receive: Receive) {
        match self.stream(sock) {
            Some(stream) => {
                stream.start_receiving(token, receive);
                self.schedule(sock.0.slot as usize);
            }
            None => self.end(token, io::ErrorKind::NotConnected.into(), Carried::Nothing),
        }
    }

    fn transmit(&mut self, token: Token, sock: SockRef, transmit: Transmit) {
        match self.stream(sock) {
            Some(stream) => {
                stream.sending = Some((token, Sending::Here(transmit)));
                self.schedule(sock.0.slot as usize);
            }
            None => self.end(token, io::ErrorKind::NotConnected.into(), transmit.into_carried()),
        }
    }

    fn work(&mut self, token: Token, work: Work<J>) {
        self.chores.add(token, work);
    }

    fn close(&mut self, token: Token, sock: SockRef, discards_unsent: bool) {
        let Some(stream) = self.stream(sock) else {
            return self.end(token, io::ErrorKind::NotConnected.into(), Carried::Nothing);
        };
        if discards_unsent {
            // If it cannot be had, the connection is closed in the ordinary way.
            let _ = stream.socket.discard_unsent();
        }
        self.start_closing(sock.0.slot as usize, Some(token));
    }

    fn end(&mut self, token: Token, error: io::Error, carried: Carried<J>) {
        self.ended.push(Done { token, result: Err(error), carried });
    }
}

impl<J: Job> Driver<J> for UringDriver<J> {
    fn register(&mut self, socket: Socket) -> io::Result<SockRef> {
        self.add(socket).map(|stream| SockRef(stream.key))
    }

    fn listen(&mut self, listener: Listener) -> io::Result<ListenerRef> {
        if self.listeners.len() >= LISTENERS_MAX {
            return Err(io::ErrorKind::QuotaExceeded.into());
        }
        let key = self.next_key(self.listeners.vacant_key());
        self.listeners.insert(Port {
            key,
            listener,
            accepting: None,
            flight: None,
            accepted: VecDeque::new(),
            is_closing: false,
        });
        Ok(ListenerRef(key))
    }

    fn unlisten(&mut self, listener: ListenerRef) {
        let Some(port) = self.port(listener) else { return };
        port.is_closing = true;
        // The kernel holds the listener while it accepts for it.
        let _ = port.listener.stop();
        let (accepting, flight) = (port.accepting.take(), port.flight);
        match flight {
            Some(flight) => self.ring.cancel(flight),
            None => {
                self.listeners.remove(listener.0.slot as usize);
            }
        }
        if let Some(token) = accepting {
            self.end(token, io::ErrorKind::ConnectionAborted.into(), Carried::Nothing);
        }
    }

    fn submit(&mut self, token: Token, op: Op<J>) -> Result<(), Op<J>> {
        let taken = self.is_taken(&op);
        debug_assert!(!taken, "{token:?} asks for a direction in which another operation is under way");
        if taken || self.in_flight >= self.limits.operations_max {
            return Err(op);
        }
        self.in_flight += 1;
        self.start(token, op);
        Ok(())
    }

    fn cancel(&mut self, token: Token) {
        // Rare (a deadline, a shutdown): looking at all that is in flight here is cheaper than an index kept by each
        // operation.
        let cancelled = || io::Error::from(io::ErrorKind::Interrupted);
        if let Some((_, port)) = self.listeners.iter_mut().find(|(_, port)| port.accepting == Some(token)) {
            // The kernel goes on accepting: whoever asks next has it.
            port.accepting = None;
            return self.end(token, cancelled(), Carried::Nothing);
        }
        if let Some(work) = self.chores.withdraw(token) {
            return self.end(token, cancelled(), work.into_carried());
        }
        let found = self.streams.iter_mut().find_map(|(slot, stream)| {
            let receives = stream.receiving.as_ref().is_some_and(|(waiting, _)| *waiting == token);
            let sends = stream.sending.as_ref().is_some_and(|(waiting, _)| *waiting == token);
            (receives || sends).then_some((slot, stream, receives))
        });
        let Some((slot, stream, receives)) = found else { return };
        let way = if receives { &mut stream.inbound } else { &mut stream.outbound };
        match *way {
            Way::Taken(flight) => {
                *way = Way::Cancelled;
                self.ring.cancel(flight);
            }
            Way::Cancelled => {}
            Way::Idle | Way::Polled(_) if receives => {
                stream.receiving = None;
                self.end(token, cancelled(), Carried::Nothing);
            }
            Way::Idle | Way::Polled(_) => {
                let Some((_, sending)) = stream.sending.take() else { return };
                let connects = matches!(sending, Sending::Here(Transmit::Connect));
                self.end(token, cancelled(), sending.into_carried());
                if connects {
                    self.start_closing(slot, None);
                }
            }
        }
    }

    fn hasten(&mut self, sock: SockRef) {
        if let Some(stream) = self.stream(sock) {
            stream.hasten();
        }
    }

    fn turn(&mut self, wait: Wait, done: &mut Vec<Done<J>>) -> io::Result<()> {
        let done_before = done.len();
        self.collect(done);
        self.chores.dispatch();
        self.revive();
        self.ask(done);
        self.provide();
        let has_something = done.len() > done_before
            || self.chores.has_own()
            || !(self.received.is_empty() && self.runnable.is_empty());
        if !has_something || self.ring.has_news() {
            self.enter(if has_something { Wait::Now } else { wait })?;
            self.land(done);
        }
        self.receive_some(done);
        self.chores.perform_own(done);
        self.collect(done);
        self.chores.dispatch();
        self.in_flight -= done.len() - done_before;
        Ok(())
    }

    fn waker(&self) -> Waker {
        self.waker.clone()
    }

    fn buffers(&self) -> &BufferPool {
        &self.buffers
    }
}

impl<J: Job> fmt::Debug for UringDriver<J> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "UringDriver({} sockets, {} operations in flight)", self.streams.len(), self.in_flight)
    }
}

impl Port {
    fn accept<J>(&mut self, slot: usize, ring: &mut Ring<Tag>) -> Option<Done<J>> {
        let token = self.accepting?;
        while let Some(accepted) = self.accepted.pop_front() {
            let (result, carried) = match accepted {
                Ok((socket, peer)) => (Ok(0), Carried::Socket(socket, peer)),
                // The peer gave up while it waited.
                Err(error) if is_of_peer(&error) => continue,
                Err(error) => (Err(error), Carried::Nothing),
            };
            self.accepting = None;
            return Some(Done { token, result, carried });
        }
        if self.flight.is_none() && !self.is_closing {
            self.flight = ring.submit(Tag::Port(slot), Request::Accept(self.listener.as_raw_fd())).ok();
        }
        None
    }
}

fn is_of_peer(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::ConnectionAborted | io::ErrorKind::NotConnected)
}

/// 64 KiB for each queue: what thousands of connections have to say takes a few calls.
const ENTRIES: Entries = Entries { submissions: 1024, completions: 4096, buffers: 1 };

/// Small buffers that the kernel is provided with at most.
const PROVIDED_MAX: usize = 64;

/// Connections that the kernel may have accepted ahead of being asked; what more come wait in the listener.
const ACCEPTED_MAX: usize = 64;
