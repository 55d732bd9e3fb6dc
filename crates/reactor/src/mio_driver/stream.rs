use std::io;
use std::time::Instant;

use xferd_os::net::Socket;

use crate::buffer::BufferSize;
use crate::driver::uninterrupted;
use crate::op::Key;
use crate::receive::{Inflow, Receive, Windows};
use crate::transmit::Transmit;
use crate::workers::count;
use crate::{BufferPool, Carried, Done, SockRef, Token};

/// A registered socket: what it is ready for, and what is in flight on it.
pub(super) struct Stream {
    pub(super) key: Key,
    pub(super) socket: Socket,
    /// What the socket is ready for as far as is known: events set it, and only a call that would block clears it,
    /// because an edge that was seen is not reported again.
    pub(super) readable: bool,
    pub(super) writable: bool,
    pub(super) receiving: Option<(Token, Receive)>,
    pub(super) sending: Option<(Token, Transmit)>,
    /// Since when the socket seems full: it took less than it was offered. An event will tell when it takes more; but that
    /// is only very likely, so the driver has it among those that are tried again after a moment.
    pub(super) full: Option<Instant>,
    /// Whether the driver has it among those that can receive, or send.
    pub(super) queued_to_receive: bool,
    pub(super) queued_to_send: bool,
    /// The size of the buffer that it found none of; the driver has it among those that wait for one.
    pub(super) starved: Option<BufferSize>,
    /// Nothing more will come: readable for good.
    ended: bool,
    inflow: Inflow,
}

impl Stream {
    pub(super) fn new(key: Key, socket: Socket, windows: &Windows) -> Stream {
        Stream {
            key,
            socket,
            readable: true,
            writable: true,
            receiving: None,
            sending: None,
            full: None,
            queued_to_receive: false,
            queued_to_send: false,
            starved: None,
            ended: false,
            inflow: Inflow::new(windows),
        }
    }

    /// Takes a receiving operation; none is in flight.
    pub(super) fn start_receiving(&mut self, token: Token, receive: Receive) {
        self.inflow.begin(&self.socket, receive);
        self.receiving = Some((token, receive));
        self.set_mark();
    }

    fn set_mark(&mut self) {
        if let (false, Some((_, receive))) = (self.readable, self.receiving) {
            self.inflow.set_mark(&self.socket, receive);
        }
    }

    /// Has the kernel report whatever is there: it has not become as much as was expected.
    pub(super) fn hasten(&mut self) {
        self.inflow.slow_down();
        self.set_mark();
    }

    pub(super) fn note(&mut self, readable: bool, writable: bool, ended: bool) {
        self.readable |= readable;
        self.writable |= writable;
        self.full = self.full.filter(|_| !writable);
        self.ended |= ended;
    }

    /// Whether receiving can be tried.
    pub(super) fn can_receive(&self) -> bool {
        self.readable && self.receiving.is_some() && self.starved.is_none()
    }

    /// Whether sending can be tried.
    pub(super) fn can_send(&self) -> bool {
        self.writable && self.sending.is_some()
    }

    /// Tries to receive. `None` while nothing is there, or while [`Stream::starved`].
    pub(super) fn receive<J>(&mut self, buffers: &BufferPool) -> Option<Done<J>> {
        if !self.can_receive() {
            return None;
        }
        let (token, receive) = self.receiving?;
        let size = receive.buffer_size(buffers);
        let Some(mut buf) = receive.lend(size, buffers) else {
            self.starved = Some(size);
            return None;
        };
        match uninterrupted(|| self.socket.recv(buf.spare_mut())) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                self.readable = false;
                self.set_mark();
                None
            }
            received => {
                self.receiving = None;
                let result = received.map(|bytes| {
                    self.inflow.received(bytes);
                    // What is there was taken; more is an event. The end is one that may have been seen already.
                    self.readable = self.ended || bytes == 0 || bytes == buf.spare_bytes();
                    buf.fill(bytes);
                    count(bytes)
                });
                Some(Done { token, result, carried: Carried::Buf(buf) })
            }
        }
    }

    /// Tries to send. `None` while the socket takes nothing.
    pub(super) fn send<J>(&mut self) -> Option<Done<J>> {
        if !self.writable {
            return None;
        }
        let (token, mut transmit) = self.sending.take()?;
        let offered = transmit.offered();
        match uninterrupted(|| transmit.perform(&self.socket)) {
            Ok(bytes) => {
                self.full = (bytes < offered).then(Instant::now);
                self.writable = self.full.is_none();
                let carried = match transmit {
                    Transmit::Connect => Carried::Sock(SockRef(self.key)),
                    transmit => transmit.into_carried(),
                };
                Some(Done { token, result: Ok(count(bytes)), carried })
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                self.writable = false;
                self.sending = Some((token, transmit));
                None
            }
            Err(error) => Some(Done { token, result: Err(error), carried: transmit.into_carried() }),
        }
    }
}
