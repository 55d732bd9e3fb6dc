//! The driver on readiness: epoll, or kqueue.
//!
//! Each operation is tried at once in the next turn; one that would block waits for its socket's next edge. A socket is
//! registered once, for both directions, and what it was last known to be ready for is remembered.

mod stream;

use std::collections::VecDeque;
use std::fmt;
use std::io;
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use mio::event::Event;
use mio::unix::SourceFd;
use mio::{Events, Interest, Poll};
use slab::Slab;
use xferd_os::net::{Address, Listener, Socket};

use self::stream::Stream;
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

/// The driver on mio.
pub struct MioDriver<J: Job> {
    poll: Poll,
    events: Events,
    waker: Waker,
    limits: Limits,
    in_flight: usize,
    generation: u32,
    listeners: Slab<Port>,
    streams: Slab<Stream>,
    /// Turns since the kernel was last asked for events.
    turns_unpolled: usize,
    /// Slots of streams on which receiving, or sending, can be tried. A slot may have changed hands since.
    receivable: VecDeque<usize>,
    sendable: VecDeque<usize>,
    /// Slots of streams whose sockets seem full, and since when.
    full: VecDeque<(usize, Instant)>,
    starved: Starved,
    buffers: BufferPool,
    windows: Windows,
    chores: Chores<J>,
    /// What ended outside a turn.
    ended: Vec<Done<J>>,
}

/// A listener, and what is in flight on it.
struct Port {
    key: Key,
    listener: Listener,
    readable: bool,
    accepting: Option<Token>,
}

impl<J: Job> MioDriver<J> {
    /// A driver without sockets. Without workers, what may block runs in its turns.
    ///
    /// # Errors
    /// What the kernel answers to making an epoll instance or a kqueue.
    pub fn new(limits: Limits, workers: Option<Arc<WorkerPool<J>>>) -> io::Result<MioDriver<J>> {
        let poll = Poll::new()?;
        let waker = Waker::new(Bell::Mio(mio::Waker::new(poll.registry(), BELL)?));
        Ok(MioDriver {
            poll,
            events: Events::with_capacity(EVENTS_PER_TURN_MAX),
            limits,
            in_flight: 0,
            generation: 0,
            listeners: Slab::new(),
            streams: Slab::new(),
            turns_unpolled: 0,
            receivable: VecDeque::new(),
            sendable: VecDeque::new(),
            full: VecDeque::new(),
            starved: Starved::default(),
            buffers: BufferPool::new(limits.buffers, waker.clone()),
            windows: Windows::default(),
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
        self.streams.get_mut(sock.0.slot as usize).filter(|stream| stream.key == sock.0)
    }

    fn port(&mut self, listener: ListenerRef) -> Option<&mut Port> {
        self.listeners.get_mut(listener.0.slot as usize).filter(|port| port.key == listener.0)
    }

    fn add(&mut self, socket: Socket) -> io::Result<&mut Stream> {
        if self.streams.len() >= self.limits.sockets_max {
            return Err(io::ErrorKind::QuotaExceeded.into());
        }
        let slot = self.streams.vacant_key();
        self.poll.registry().register(
            &mut SourceFd(&socket.as_raw_fd()),
            mio::Token(slot),
            Interest::READABLE | Interest::WRITABLE,
        )?;
        let key = self.next_key(slot);
        self.streams.insert(Stream::new(key, socket, &self.windows));
        Ok(&mut self.streams[slot])
    }

    /// Takes a stream out; closing its descriptor also ends its registration, of which no duplicate exists.
    fn remove(&mut self, slot: usize) -> Stream {
        let stream = self.streams.remove(slot);
        if let Some(size) = stream.starved {
            self.starved.remove(size, slot);
        }
        stream
    }

    /// Puts a stream into the queues of what can be tried on it.
    fn schedule(&mut self, slot: usize) {
        let Some(stream) = self.streams.get_mut(slot) else { return };
        if stream.can_send() && !stream.queued_to_send {
            stream.queued_to_send = true;
            self.sendable.push_back(slot);
        }
        if stream.can_receive() && !stream.queued_to_receive {
            stream.queued_to_receive = true;
            self.receivable.push_back(slot);
        }
    }

    fn note(&mut self, readiness: Readiness) {
        let Readiness { token, readable, writable, ended } = readiness;
        if token == BELL {
            self.waker.heard();
        } else if let Some(port) =
            token.0.checked_sub(LISTENER_BASE).and_then(|slot| self.listeners.get_mut(slot))
        {
            port.readable |= readable;
        } else if let Some(stream) = self.streams.get_mut(token.0) {
            stream.note(readable, writable, ended);
            self.schedule(token.0);
        }
    }

    /// Hands over what ended since the last look.
    fn collect(&mut self, done: &mut Vec<Done<J>>) {
        done.append(&mut self.ended);
        self.chores.collect(done);
    }

    /// Lets streams that had no buffer try again if there is one.
    fn revive(&mut self) {
        self.starved.serve(&self.buffers, usize::MAX, |slot| {
            let Some(stream) = self.streams.get_mut(slot) else { return };
            stream.starved = None;
            if stream.can_receive() && !stream.queued_to_receive {
                stream.queued_to_receive = true;
                // Before those who have not waited: they would take the buffer.
                self.receivable.push_front(slot);
            }
        });
    }

    /// Whether a turn has something to do without any event.
    fn is_ready(&self) -> bool {
        !(self.receivable.is_empty() && self.sendable.is_empty())
            || self.chores.has_own()
            || self.listeners.iter().any(|(_, port)| port.is_ready())
    }

    fn poll(&mut self, wait: Wait) -> io::Result<()> {
        let mut timeout = match wait {
            Wait::Now => Some(Duration::ZERO),
            Wait::Until(instant) => Some(instant.saturating_duration_since(Instant::now())),
            Wait::Forever => None,
        };
        if let Some(patience) = self.chores.patience() {
            timeout = Some(timeout.map_or(patience, |timeout| timeout.min(patience)));
        }
        // Of those that an event has come for, and they are most, nothing is left to be waited for.
        while self.full.front().is_some_and(|&(slot, since)| !self.is_full(slot, since)) {
            self.full.pop_front();
        }
        if let Some((_, since)) = self.full.front() {
            let left = FULL_RETRY.saturating_sub(since.elapsed());
            timeout = Some(timeout.map_or(left, |timeout| timeout.min(left)));
        }
        match self.poll.poll(&mut self.events, timeout) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => return Ok(()),
            answer => answer?,
        }
        let events = std::mem::replace(&mut self.events, Events::with_capacity(0));
        events.iter().for_each(|event| self.note(Readiness::from(event)));
        self.events = events;
        Ok(())
    }

    /// Lets streams try again whose sockets were full a while ago, if no event has come since.
    fn retry_full(&mut self) {
        while self.full.front().is_some_and(|(_, since)| since.elapsed() >= FULL_RETRY) {
            let Some((slot, since)) = self.full.pop_front() else { return };
            if let Some(stream) = self.streams.get_mut(slot).filter(|stream| stream.full == Some(since)) {
                stream.writable = true;
                self.schedule(slot);
            }
        }
    }

    fn is_full(&self, slot: usize, since: Instant) -> bool {
        self.streams.get(slot).is_some_and(|stream| stream.full == Some(since))
    }

    fn receive_some(&mut self, done: &mut Vec<Done<J>>) {
        for _ in 0..self.receivable.len().min(self.chores.receives_wanted()) {
            let Some(slot) = self.receivable.pop_front() else { return };
            let Some(stream) = self.streams.get_mut(slot) else { continue };
            stream.queued_to_receive = false;
            let was_starved = stream.starved.is_some();
            done.extend(stream.receive(&self.buffers));
            if let (Some(size), false) = (stream.starved, was_starved) {
                self.starved.push(size, slot);
            }
        }
    }

    fn send_all(&mut self, done: &mut Vec<Done<J>>) {
        for _ in 0..self.sendable.len() {
            let Some(slot) = self.sendable.pop_front() else { return };
            let Some(stream) = self.streams.get_mut(slot) else { continue };
            stream.queued_to_send = false;
            let connecting = matches!(stream.sending, Some((_, Transmit::Connect)));
            let Some(sent) = stream.send() else { continue };
            self.full.extend(stream.full.map(|since| (slot, since)));
            if connecting && sent.result.is_err() {
                self.remove(slot);
            }
            done.push(sent);
        }
    }
}

impl<J: Job> Performer<J> for MioDriver<J> {
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
                stream.writable = false;
                stream.sending = Some((token, Transmit::Connect));
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
                stream.sending = Some((token, transmit));
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
        let stream = self.remove(sock.0.slot as usize);
        if let Some((token, _)) = stream.receiving {
            self.end(token, io::ErrorKind::ConnectionAborted.into(), Carried::Nothing);
        }
        if let Some((token, transmit)) = stream.sending {
            self.end(token, io::ErrorKind::ConnectionAborted.into(), transmit.into_carried());
        }
        self.ended.push(Done { token, result: Ok(0), carried: Carried::Nothing });
    }

    fn end(&mut self, token: Token, error: io::Error, carried: Carried<J>) {
        self.ended.push(Done { token, result: Err(error), carried });
    }
}

impl<J: Job> Driver<J> for MioDriver<J> {
    fn register(&mut self, socket: Socket) -> io::Result<SockRef> {
        self.add(socket).map(|stream| SockRef(stream.key))
    }

    fn listen(&mut self, listener: Listener) -> io::Result<ListenerRef> {
        if self.listeners.len() >= LISTENERS_MAX {
            return Err(io::ErrorKind::QuotaExceeded.into());
        }
        let slot = self.listeners.vacant_key();
        self.poll.registry().register(
            &mut SourceFd(&listener.as_raw_fd()),
            mio::Token(LISTENER_BASE + slot),
            Interest::READABLE,
        )?;
        let key = self.next_key(slot);
        self.listeners.insert(Port { key, listener, readable: true, accepting: None });
        Ok(ListenerRef(key))
    }

    fn unlisten(&mut self, listener: ListenerRef) {
        if self.port(listener).is_none() {
            return;
        }
        let port = self.listeners.remove(listener.0.slot as usize);
        if let Some(token) = port.accepting {
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
            port.accepting = None;
            return self.end(token, cancelled(), Carried::Nothing);
        }
        if let Some(work) = self.chores.withdraw(token) {
            return self.end(token, cancelled(), work.into_carried());
        }
        let found = self.streams.iter_mut().find_map(|(slot, stream)| {
            if stream.receiving.take_if(|(waiting, _)| *waiting == token).is_some() {
                return Some((slot, false, Carried::Nothing));
            }
            let (_, transmit) = stream.sending.take_if(|(waiting, _)| *waiting == token)?;
            Some((slot, matches!(transmit, Transmit::Connect), transmit.into_carried()))
        });
        let Some((slot, connecting, carried)) = found else { return };
        if connecting {
            self.remove(slot);
        }
        self.end(token, cancelled(), carried);
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
        let has_something = done.len() > done_before || self.is_ready();
        // Now and then also when there is something to do: a flow that is always ready must not hide the others' events.
        if !has_something || self.turns_unpolled == TURNS_UNPOLLED_MAX {
            self.turns_unpolled = 0;
            self.poll(if has_something { Wait::Now } else { wait })?;
        } else {
            self.turns_unpolled += 1;
        }
        self.revive();
        self.retry_full();
        for (_, port) in &mut self.listeners {
            done.extend(port.accept());
        }
        self.send_all(done);
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

impl<J: Job> fmt::Debug for MioDriver<J> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "MioDriver({} sockets, {} operations in flight)", self.streams.len(), self.in_flight)
    }
}

impl Port {
    fn is_ready(&self) -> bool {
        self.readable && self.accepting.is_some()
    }

    fn accept<J>(&mut self) -> Option<Done<J>> {
        if !self.is_ready() {
            return None;
        }
        let (result, carried) = match self.listener.accept() {
            Ok((socket, peer)) => (Ok(0), Carried::Socket(socket, peer)),
            Err(error) => match error.kind() {
                io::ErrorKind::WouldBlock => {
                    self.readable = false;
                    return None;
                }
                // The peer gave up while it waited. The next turn asks again.
                io::ErrorKind::ConnectionAborted | io::ErrorKind::Interrupted => return None,
                _ => (Err(error), Carried::Nothing),
            },
        };
        Some(Done { token: self.accepting.take()?, result, carried })
    }
}

/// What an event says, in the driver's terms: a direction that ended or failed is ready too, for the call that says so.
struct Readiness {
    token: mio::Token,
    readable: bool,
    writable: bool,
    /// Nothing more will come.
    ended: bool,
}

impl From<&Event> for Readiness {
    fn from(event: &Event) -> Readiness {
        let failed = event.is_error();
        Readiness {
            token: event.token(),
            readable: failed || event.is_readable() || event.is_read_closed(),
            writable: failed || event.is_writable() || event.is_write_closed(),
            ended: failed || event.is_read_closed(),
        }
    }
}

/// Events taken from the kernel at once; more come in the next turn.
const EVENTS_PER_TURN_MAX: usize = 1024;

/// Turns in a row without asking for events, while there is something to do. A turn moves up to some megabytes, so the
/// call is a matter of a few milliseconds; asking in each would be a third of all system calls of a single flow.
const TURNS_UNPOLLED_MAX: usize = 3;

/// How soon a socket that seemed full is tried again though no event has come: it may have taken little for another reason.
const FULL_RETRY: Duration = Duration::from_millis(2);

/// Tokens towards mio: a stream's slot, a listener's slot above this, and the waker.
const LISTENER_BASE: usize = usize::MAX / 2;
const BELL: mio::Token = mio::Token(usize::MAX);
