use std::io;
use std::sync::Arc;
use std::time::Instant;

use xferd_os::Mapping;
use xferd_os::net::Socket;

use super::BYTES_PER_TURN_MAX;
use crate::buffer::BufferSize;
use crate::op::Key;
use crate::workers::count;
use crate::{BufferPool, Carried, Done, FileRef, PoolBuf, SendBuf, SockRef, Token};

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
    /// Whether the driver has it in its run queue.
    pub(super) queued: bool,
    /// The size of the buffer that it found none of; the driver has it among those that wait for one.
    pub(super) starved: Option<BufferSize>,
    /// Nothing more will come: readable for good.
    ended: bool,
    /// Whether it has received into a large buffer: large amounts are to be expected.
    bulk: bool,
    /// How many bytes there have to be for the kernel to call it readable.
    mark: u32,
    /// The last receive found much: so much comes while the driver does something else.
    fast: bool,
}

#[derive(Clone, Copy)]
pub(super) enum Receive {
    Large { offset: u64, bytes_due: Option<u64> },
    Small { bytes_max: usize },
}

pub(super) enum Transmit {
    Bytes { buf: SendBuf, more: bool },
    File { file: FileRef, offset: u64, len: u32 },
    Mapped { mapping: Arc<Mapping>, offset: u64, len: u32 },
    End,
    Connect,
}

impl Stream {
    pub(super) fn new(key: Key, socket: Socket) -> Stream {
        Stream {
            key,
            socket,
            readable: true,
            writable: true,
            receiving: None,
            sending: None,
            full: None,
            queued: false,
            starved: None,
            ended: false,
            bulk: false,
            mark: 1,
            fast: false,
        }
    }

    /// Takes a receiving operation; none is in flight.
    pub(super) fn start_receiving(&mut self, token: Token, receive: Receive) {
        if !self.bulk && matches!(receive, Receive::Large { .. }) {
            self.bulk = true;
            // Only a matter of speed.
            let _ = self.socket.widen_receive_window(BULK_WINDOW_BYTES);
        }
        self.receiving = Some((token, receive));
        if !self.readable {
            self.set_mark();
        }
    }

    /// Has the kernel wait for what the receiving operation wants: for a whole buffer if as much is sure to come and it
    /// comes fast, because a buffer that is filled in many parts takes as many calls.
    fn set_mark(&mut self) {
        let mark = match self.receiving {
            Some((_, Receive::Large { bytes_due: Some(due), .. })) if self.fast => {
                u32::try_from(due).unwrap_or(u32::MAX).min(MARK_BYTES_MAX)
            }
            _ => 1,
        };
        if mark != self.mark {
            self.mark = mark;
            // Only a matter of speed.
            let _ = self.socket.set_receive_mark(mark);
        }
    }

    /// Has the kernel report whatever is there: it has not become as much as was expected.
    pub(super) fn hasten(&mut self) {
        self.fast = false;
        if !self.readable && self.receiving.is_some() {
            self.set_mark();
        }
    }

    pub(super) fn note(&mut self, readable: bool, writable: bool, ended: bool) {
        self.readable |= readable;
        self.writable |= writable;
        self.full = self.full.filter(|_| !writable);
        self.ended |= ended;
    }

    /// Whether an operation can be tried.
    pub(super) fn is_ready(&self) -> bool {
        (self.readable && self.receiving.is_some()) || (self.writable && self.sending.is_some())
    }

    /// Tries to receive. `None` while nothing is there, or while [`Stream::starved`].
    pub(super) fn receive<J>(&mut self, buffers: &BufferPool) -> Option<Done<J>> {
        if !self.readable {
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
                    self.fast = bytes >= FAST_BYTES;
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

impl Receive {
    fn buffer_size(self, buffers: &BufferPool) -> BufferSize {
        match self {
            Receive::Large { bytes_due: Some(due), .. } if due <= buffers.small_bytes() as u64 => {
                BufferSize::Small
            }
            Receive::Large { .. } => BufferSize::Large,
            Receive::Small { .. } => BufferSize::Small,
        }
    }

    /// A buffer for it, if one is free.
    fn lend(self, size: BufferSize, buffers: &BufferPool) -> Option<PoolBuf> {
        let mut buf = match size {
            BufferSize::Large => buffers.take_large()?,
            BufferSize::Small => buffers.take_small()?,
        };
        match self {
            Receive::Large { offset, bytes_due } => {
                buf.clear_for(offset);
                let due = bytes_due.and_then(|due| usize::try_from(due).ok());
                buf.limit_spare(due.unwrap_or(usize::MAX));
            }
            Receive::Small { bytes_max } => buf.limit_spare(bytes_max),
        }
        Some(buf)
    }
}

impl Transmit {
    /// Bytes that the socket is offered in one call.
    fn offered(&self) -> usize {
        match self {
            Transmit::Bytes { buf, .. } => buf.remaining().len().min(BYTES_PER_TURN_MAX),
            Transmit::File { len, .. } | Transmit::Mapped { len, .. } => budgeted(*len),
            Transmit::End | Transmit::Connect => 0,
        }
    }

    fn perform(&mut self, socket: &Socket) -> io::Result<usize> {
        match self {
            Transmit::Bytes { buf, more } => {
                let bytes = buf.remaining();
                let sent = socket.send(bytes.get(..BYTES_PER_TURN_MAX).unwrap_or(bytes), *more)?;
                buf.advance(sent);
                Ok(sent)
            }
            Transmit::File { file, offset, len } => socket.send_file(file, *offset, budgeted(*len)),
            Transmit::Mapped { mapping, offset, len } => socket.send_mapped(mapping, *offset, budgeted(*len)),
            Transmit::End => socket.shutdown_write().map(|()| 0),
            Transmit::Connect => connected(socket).map(|()| 0),
        }
    }

    /// What it carries, unperformed or performed in part.
    pub(super) fn into_carried<J>(self) -> Carried<J> {
        match self {
            Transmit::Bytes { buf, .. } => Carried::Sent(buf),
            _ => Carried::Nothing,
        }
    }
}

/// Bytes that a sender may be ahead of a bulk receiver: several of the largest buffers, so that neither waits while the
/// other is busy with its disk. What counts is to leave the kernel's initial 128 KiB; from 1 to 8 MiB the rate over
/// loopback varies by less than a tenth.
const BULK_WINDOW_BYTES: u32 = 4 * 1024 * 1024;

/// Bytes of one receive from which on a flow counts as fast.
const FAST_BYTES: usize = 128 * 1024;

/// Bytes to wait for at most: what a usual large buffer holds. The kernel needs twice as much room, which it has.
const MARK_BYTES_MAX: u32 = 1408 * 1024;

fn budgeted(len: u32) -> usize {
    BYTES_PER_TURN_MAX.min(len as usize)
}

/// A writable socket is connected, or has failed to; or the event was spurious, which `connect(2)` does not rule out.
fn connected(socket: &Socket) -> io::Result<()> {
    if let Some(error) = socket.take_error()? {
        return Err(error);
    }
    match socket.peer_addr() {
        Err(error) if error.kind() == io::ErrorKind::NotConnected => Err(io::ErrorKind::WouldBlock.into()),
        answer => answer.map(|_| ()),
    }
}

fn uninterrupted<T>(mut call: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    loop {
        match call() {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            answer => return answer,
        }
    }
}
