//! The driver of a simulated world: it performs what it can, when the dice say so, and never waits.
//!
//! Whoever plays the world takes turns with all drivers of it. What may block runs here, a while after it was asked for:
//! as long as workers and disks may take.

use std::fmt;
use std::io;
use std::time::{Duration, Instant};

use slab::Slab;
use xferd_os::net::{Address, Listener, Socket};
use xferd_os::{clock, sim};

use crate::op::Key;
use crate::performer::Performer;
use crate::receive::Receive;
use crate::transmit::Transmit;
use crate::workers::{Work, count};
use crate::{
    BufferPool, Carried, Done, Driver, Job, LISTENERS_MAX, Limits, ListenerRef, Op, SockRef, Token, Wait,
    Waker,
};

/// How often something that could be performed has to wait for another turn.
const HELD_BACK: u32 = sim::once_in(4);

/// How often work takes longer than a moment.
const SLOW: u32 = sim::once_in(8);

/// The driver of a simulated world.
pub struct SimDriver<J: Job> {
    limits: Limits,
    in_flight: usize,
    generation: u32,
    ports: Slab<Port>,
    streams: Slab<Stream>,
    buffers: BufferPool,
    /// What is to be done, and when.
    work: Vec<(Instant, Token, Work<J>)>,
    /// What ended outside a turn.
    ended: Vec<Done<J>>,
    waker: Waker,
}

struct Port {
    key: Key,
    listener: Listener,
    accepting: Option<Token>,
}

struct Stream {
    key: Key,
    socket: Socket,
    receiving: Option<(Token, Receive)>,
    sending: Option<(Token, Transmit)>,
}

impl<J: Job> SimDriver<J> {
    /// A driver without sockets.
    pub fn new(limits: Limits) -> Self {
        let waker = Waker::new();
        Self {
            limits,
            in_flight: 0,
            generation: 0,
            ports: Slab::new(),
            streams: Slab::new(),
            buffers: BufferPool::new(limits.buffers, waker.clone()),
            work: Vec::new(),
            ended: Vec::new(),
            waker,
        }
    }

    fn next_key(&mut self, slot: usize) -> Key {
        self.generation = self.generation.wrapping_add(1);
        Key { slot: slot as u32, generation: self.generation }
    }

    fn add(&mut self, socket: Socket) -> io::Result<&mut Stream> {
        if self.streams.len() >= self.limits.sockets_max {
            return Err(io::ErrorKind::QuotaExceeded.into());
        }
        let key = self.next_key(self.streams.vacant_key());
        let slot = self.streams.insert(Stream { key, socket, receiving: None, sending: None });
        Ok(&mut self.streams[slot])
    }

    fn stream(&mut self, sock: SockRef) -> Option<&mut Stream> {
        self.streams.get_mut(sock.0.slot as usize).filter(|stream| stream.key == sock.0)
    }

    fn port(&mut self, listener: ListenerRef) -> Option<&mut Port> {
        self.ports.get_mut(listener.0.slot as usize).filter(|port| port.key == listener.0)
    }

    fn run_streams(&mut self, done: &mut Vec<Done<J>>) {
        for slot in 0..self.streams.capacity() {
            let Some(stream) = self.streams.get_mut(slot) else { continue };
            if stream.receiving.is_some() && stream.socket.can_recv() && !is_held_back() {
                done.extend(stream.receive(&self.buffers));
            }
            if stream.sending.is_none() || !stream.socket.can_send() || is_held_back() {
                continue;
            }
            let is_connecting = matches!(stream.sending, Some((_, Transmit::Connect)));
            let Some(sent) = stream.send() else { continue };
            if is_connecting && sent.result.is_err() {
                self.streams.remove(slot);
            }
            done.push(sent);
        }
    }

    /// Does what is due, in any order: each connection has asked for one piece at a time.
    fn run_work(&mut self, done: &mut Vec<Done<J>>) {
        let now = clock::now();
        let (mut due, later): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.work).into_iter().partition(|(at, ..)| *at <= now);
        self.work = later;
        while !due.is_empty() {
            let (_, token, work) = due.swap_remove(sim::dice(|dice| dice.below(due.len() as u64)) as usize);
            done.push(work.perform(token));
        }
        self.work.iter().for_each(|(at, ..)| sim::wake_at(*at));
    }
}

/// Whether something waits for another turn, which then comes at once.
fn is_held_back() -> bool {
    let is_held_back = sim::dice(|dice| dice.chance(HELD_BACK));
    if is_held_back {
        sim::moved();
    }
    is_held_back
}

impl<J: Job> Performer<J> for SimDriver<J> {
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
            Ok(stream) => stream.sending = Some((token, Transmit::Connect)),
            Err(error) => self.end(token, error, Carried::Nothing),
        }
    }

    fn receive(&mut self, token: Token, sock: SockRef, receive: Receive) {
        match self.stream(sock) {
            Some(stream) => stream.receiving = Some((token, receive)),
            None => self.end(token, io::ErrorKind::NotConnected.into(), Carried::Nothing),
        }
    }

    fn transmit(&mut self, token: Token, sock: SockRef, transmit: Transmit) {
        match self.stream(sock) {
            Some(stream) => stream.sending = Some((token, transmit)),
            None => self.end(token, io::ErrorKind::NotConnected.into(), transmit.into_carried()),
        }
    }

    fn work(&mut self, token: Token, work: Work<J>) {
        let us = sim::dice(|dice| if dice.chance(SLOW) { dice.below(50_000) } else { dice.below(200) });
        self.work.push((clock::now() + Duration::from_micros(us), token, work));
    }

    fn close(&mut self, token: Token, sock: SockRef, discards_unsent: bool) {
        let Some(stream) = self.stream(sock) else {
            return self.end(token, io::ErrorKind::NotConnected.into(), Carried::Nothing);
        };
        if discards_unsent {
            // If it cannot be had, the connection is closed in the ordinary way.
            let _ = stream.socket.discard_unsent();
        }
        let stream = self.streams.remove(sock.0.slot as usize);
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

impl<J: Job> Driver<J> for SimDriver<J> {
    fn register(&mut self, socket: Socket) -> io::Result<SockRef> {
        self.add(socket).map(|stream| SockRef(stream.key))
    }

    fn listen(&mut self, listener: Listener) -> io::Result<ListenerRef> {
        if self.ports.len() >= LISTENERS_MAX {
            return Err(io::ErrorKind::QuotaExceeded.into());
        }
        let key = self.next_key(self.ports.vacant_key());
        self.ports.insert(Port { key, listener, accepting: None });
        Ok(ListenerRef(key))
    }

    fn unlisten(&mut self, listener: ListenerRef) {
        if self.port(listener).is_none() {
            return;
        }
        let port = self.ports.remove(listener.0.slot as usize);
        if let Some(token) = port.accepting {
            self.end(token, io::ErrorKind::ConnectionAborted.into(), Carried::Nothing);
        }
    }

    fn submit(&mut self, token: Token, op: Op<J>) -> Result<(), Op<J>> {
        let taken = self.is_taken(&op);
        assert!(!taken, "{token:?} asks for a direction in which another operation is under way");
        if self.in_flight >= self.limits.operations_max {
            return Err(op);
        }
        sim::moved();
        self.in_flight += 1;
        self.start(token, op);
        Ok(())
    }

    fn cancel(&mut self, token: Token) {
        let cancelled = || io::Error::from(io::ErrorKind::Interrupted);
        sim::moved();
        if let Some((_, port)) = self.ports.iter_mut().find(|(_, port)| port.accepting == Some(token)) {
            port.accepting = None;
            return self.end(token, cancelled(), Carried::Nothing);
        }
        if let Some(place) = self.work.iter().position(|(_, waiting, _)| *waiting == token) {
            let (.., work) = self.work.remove(place);
            return self.end(token, cancelled(), work.into_carried());
        }
        let found = self.streams.iter_mut().find_map(|(slot, stream)| {
            if stream.receiving.take_if(|(waiting, _)| *waiting == token).is_some() {
                return Some((slot, false, Carried::Nothing));
            }
            let (_, transmit) = stream.sending.take_if(|(waiting, _)| *waiting == token)?;
            Some((slot, matches!(transmit, Transmit::Connect), transmit.into_carried()))
        });
        let Some((slot, is_connecting, carried)) = found else { return };
        if is_connecting {
            self.streams.remove(slot);
        }
        self.end(token, cancelled(), carried);
    }

    fn hasten(&mut self, _sock: SockRef) {}

    fn turn(&mut self, wait: Wait, done: &mut Vec<Done<J>>) -> io::Result<()> {
        let done_before = done.len();
        self.waker.heard();
        done.append(&mut self.ended);
        for (_, port) in &mut self.ports {
            done.extend(port.accept());
        }
        self.run_streams(done);
        self.run_work(done);
        done.append(&mut self.ended);
        self.in_flight -= done.len() - done_before;
        if done.len() > done_before {
            sim::moved();
        }
        if let Wait::Until(instant) = wait {
            sim::wake_at(instant);
        }
        Ok(())
    }

    fn waker(&self) -> Waker {
        self.waker.clone()
    }

    fn buffers(&self) -> &BufferPool {
        &self.buffers
    }
}

impl<J: Job> fmt::Debug for SimDriver<J> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SimDriver({} sockets, {} operations in flight)", self.streams.len(), self.in_flight)
    }
}

impl Port {
    fn accept<J>(&mut self) -> Option<Done<J>> {
        let token = self.accepting?;
        let (result, carried) = match self.listener.accept() {
            Ok((socket, peer)) => (Ok(0), Carried::Socket(socket, peer)),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return None,
            Err(error) => (Err(error), Carried::Nothing),
        };
        self.accepting = None;
        Some(Done { token, result, carried })
    }
}

impl Stream {
    fn receive<J>(&mut self, buffers: &BufferPool) -> Option<Done<J>> {
        let (token, receive) = self.receiving?;
        let mut buf = receive.lend(receive.buffer_size(buffers), buffers)?;
        let result = self.socket.recv(buf.spare_mut());
        if matches!(&result, Err(error) if error.kind() == io::ErrorKind::WouldBlock) {
            return None;
        }
        self.receiving = None;
        let result = result.map(|bytes| {
            buf.fill(bytes);
            count(bytes)
        });
        Some(Done { token, result, carried: Carried::Buf(buf) })
    }

    fn send<J>(&mut self) -> Option<Done<J>> {
        let (token, mut transmit) = self.sending.take()?;
        match transmit.perform(&self.socket) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                self.sending = Some((token, transmit));
                None
            }
            Err(error) => Some(Done { token, result: Err(error), carried: transmit.into_carried() }),
            Ok(bytes) => {
                let carried = match transmit {
                    Transmit::Connect => Carried::Sock(SockRef(self.key)),
                    transmit => transmit.into_carried(),
                };
                Some(Done { token, result: Ok(count(bytes)), carried })
            }
        }
    }
}
