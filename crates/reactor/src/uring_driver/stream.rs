use std::io;
use std::mem;
use std::os::fd::AsRawFd;

use xferd_os::net::Socket;

use super::ring::{FlightId, Freight, Landing, Request, Ring};
use super::{NoRoom, Tag};
use crate::buffer::BufferSize;
use crate::driver::uninterrupted;
use crate::op::Key;
use crate::receive::{Inflow, Receive, Windows};
use crate::transmit::Transmit;
use crate::workers::count;
use crate::{BYTES_PER_TURN_MAX, BufferPool, Carried, Done, SockRef, Token};

/// A registered socket, what is asked of it, and what the kernel was asked for because of that.
pub(super) struct Stream {
    pub(super) key: Key,
    pub(super) socket: Socket,
    pub(super) phase: Phase,
    pub(super) receiving: Option<(Token, Receive)>,
    pub(super) inbound: Way,
    pub(super) sending: Option<(Token, Sending)>,
    pub(super) outbound: Way,
    /// Whether the socket is known to be ready: then it is tried, else waited for. A receive that is tried is lent a buffer
    /// first, and one that waits needs none.
    readable: bool,
    writable: bool,
    /// Whether the driver has it in its run queue.
    pub(super) queued: bool,
    /// The size of the buffer that it found none of; the driver has it among those that wait for one.
    pub(super) starved: Option<BufferSize>,
    inflow: Inflow,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    Open,
    /// It closes once the kernel has let go of it, and then somebody may be told.
    Closing(Option<Token>),
}

/// What the kernel was asked for in one direction.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Way {
    Idle,
    /// To tell when it is ready: nothing is lost if nobody wants to know any more.
    Polled(FlightId),
    /// To move bytes: what comes of that counts.
    Taken(FlightId),
    /// The same, and to leave that.
    Cancelled,
}

/// What a sending operation sends, unless the kernel has it.
pub(super) enum Sending {
    Here(Transmit),
    InKernel { offered: usize, more: bool },
}

impl Stream {
    pub(super) fn new(key: Key, socket: Socket, windows: &Windows) -> Stream {
        Stream {
            key,
            socket,
            phase: Phase::Open,
            receiving: None,
            inbound: Way::Idle,
            sending: None,
            outbound: Way::Idle,
            readable: false,
            writable: true,
            queued: false,
            starved: None,
            inflow: Inflow::new(windows),
        }
    }

    /// Takes the operation that connects it.
    pub(super) fn start_connecting(&mut self, token: Token) {
        self.writable = false;
        self.sending = Some((token, Sending::Here(Transmit::Connect)));
    }

    /// Takes a receiving operation; none is in flight.
    pub(super) fn start_receiving(&mut self, token: Token, receive: Receive) {
        self.inflow.begin(&self.socket, receive);
        // The kernel may be waiting for what an operation before this one wanted.
        self.inflow.set_mark(&self.socket, receive);
        self.receiving = Some((token, receive));
    }

    /// Has the kernel report whatever is there: it has not become as much as was expected.
    pub(super) fn hasten(&mut self) {
        self.inflow.slow_down();
        if let Some((_, receive)) = self.receiving {
            self.inflow.set_mark(&self.socket, receive);
        }
    }

    /// Whether there is something to ask the kernel for.
    pub(super) fn is_ready(&self) -> bool {
        let receives = self.receiving.is_some() && self.inbound == Way::Idle && self.starved.is_none();
        let sends = self.sending.is_some() && self.outbound == Way::Idle;
        self.phase == Phase::Open && (receives || sends)
    }

    /// Whether the kernel has let go of it.
    pub(super) fn is_idle(&self) -> bool {
        self.inbound == Way::Idle && self.outbound == Way::Idle
    }

    /// Asks for what is to be received; or it is [`Stream::starved`].
    pub(super) fn receive(
        &mut self,
        tag: Tag,
        ring: &mut Ring<Tag>,
        buffers: &BufferPool,
    ) -> Result<(), NoRoom> {
        let (Some((_, receive)), Way::Idle, None) = (self.receiving, self.inbound, self.starved) else {
            return Ok(());
        };
        let fd = self.socket.as_raw_fd();
        self.inbound = match receive {
            _ if self.readable => {
                let size = receive.buffer_size(buffers);
                let Some(buf) = receive.lend(size, buffers) else {
                    self.starved = Some(size);
                    return Ok(());
                };
                Way::Taken(ring.submit(tag, Request::Receive { fd, buf }).map_err(|_| NoRoom)?)
            }
            Receive::Small { bytes_max } => {
                let bytes_max = count(bytes_max.min(BYTES_PER_TURN_MAX));
                Way::Taken(ring.submit(tag, Request::ReceiveProvided { fd, bytes_max }).map_err(|_| NoRoom)?)
            }
            Receive::Large { .. } => {
                let request = Request::Poll { fd, events: libc::POLLIN | libc::POLLRDHUP };
                Way::Polled(ring.submit(tag, request).map_err(|_| NoRoom)?)
            }
        };
        Ok(())
    }

    /// What the kernel says of receiving.
    pub(super) fn received<J>(&mut self, landing: Landing<Tag>) -> Option<Done<J>> {
        let way = mem::replace(&mut self.inbound, Way::Idle);
        if let Way::Polled(_) = way {
            // Also if it failed: trying says how.
            self.readable = true;
            return None;
        }
        let lacks_buffer = landing.lacks_buffer();
        let (token, receive) = self.receiving.take()?;
        let result = match landing.result {
            Err(error) if way == Way::Cancelled && is_void(&error) => Err(io::ErrorKind::Interrupted.into()),
            Err(error) if is_void(&error) => {
                self.receiving = Some((token, receive));
                self.readable = lacks_buffer;
                self.starved = lacks_buffer.then_some(BufferSize::Small);
                self.inflow.set_mark(&self.socket, receive);
                return None;
            }
            Ok(bytes) => {
                self.inflow.received(bytes as usize);
                // The end can be received as often as it is asked for.
                self.readable = landing.has_more || bytes == 0;
                Ok(bytes)
            }
            failed => failed,
        };
        let carried = match landing.freight {
            Freight::Received(buf) => Carried::Buf(buf),
            _ => Carried::Nothing,
        };
        Some(Done { token, result, carried })
    }

    /// Sends what this thread sends itself, or asks the kernel for the rest.
    pub(super) fn send<J>(&mut self, tag: Tag, ring: &mut Ring<Tag>) -> Result<Option<Done<J>>, NoRoom> {
        let (token, mut transmit) = match (self.outbound, self.sending.take()) {
            (Way::Idle, Some((token, Sending::Here(transmit)))) => (token, transmit),
            (_, sending) => {
                self.sending = sending;
                return Ok(None);
            }
        };
        let fd = self.socket.as_raw_fd();
        if self.writable {
            if let Transmit::Bytes { buf, more } = transmit {
                let offered = buf.remaining().len().min(BYTES_PER_TURN_MAX);
                return match ring.submit(tag, Request::Send { fd, buf, more }) {
                    Ok(flight) => {
                        self.outbound = Way::Taken(flight);
                        self.sending = Some((token, Sending::InKernel { offered, more }));
                        Ok(None)
                    }
                    Err(request) => {
                        if let Request::Send { buf, more, .. } = request {
                            self.sending = Some((token, Sending::Here(Transmit::Bytes { buf, more })));
                        }
                        Err(NoRoom)
                    }
                };
            }
            let offered = transmit.offered();
            match uninterrupted(|| transmit.perform(&self.socket)) {
                Ok(bytes) => {
                    self.writable = bytes == offered;
                    let carried = match transmit {
                        Transmit::Connect => Carried::Sock(SockRef(self.key)),
                        transmit => transmit.into_carried(),
                    };
                    return Ok(Some(Done { token, result: Ok(count(bytes)), carried }));
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.writable = false,
                Err(error) => {
                    return Ok(Some(Done { token, result: Err(error), carried: transmit.into_carried() }));
                }
            }
        }
        self.sending = Some((token, Sending::Here(transmit)));
        let flight = ring.submit(tag, Request::Poll { fd, events: libc::POLLOUT }).map_err(|_| NoRoom)?;
        self.outbound = Way::Polled(flight);
        Ok(None)
    }

    /// What the kernel says of sending.
    pub(super) fn sent<J>(&mut self, landing: Landing<Tag>) -> Option<Done<J>> {
        let way = mem::replace(&mut self.outbound, Way::Idle);
        if let Way::Polled(_) = way {
            self.writable = true;
            return None;
        }
        let (token, Sending::InKernel { offered, more }) = self.sending.take()? else { return None };
        let Freight::Sent(buf) = landing.freight else { return None };
        if self.phase != Phase::Open {
            self.sending = Some((token, Sending::Here(Transmit::Bytes { buf, more })));
            return None;
        }
        let result = match landing.result {
            Err(error) if way == Way::Cancelled && is_void(&error) => Err(io::ErrorKind::Interrupted.into()),
            Err(error) if is_void(&error) => {
                self.writable = false;
                self.sending = Some((token, Sending::Here(Transmit::Bytes { buf, more })));
                return None;
            }
            Ok(bytes) => {
                self.writable = bytes as usize == offered;
                Ok(bytes)
            }
            failed => failed,
        };
        Some(Done { token, result, carried: Carried::Sent(buf) })
    }
}

impl Sending {
    pub(super) fn into_carried<J>(self) -> Carried<J> {
        match self {
            Sending::Here(transmit) => transmit.into_carried(),
            Sending::InKernel { .. } => Carried::Nothing,
        }
    }
}

/// Whether the request has come to nothing, and can be made again.
fn is_void(error: &io::Error) -> bool {
    let codes = [libc::EAGAIN, libc::EINTR, libc::ENOBUFS, libc::ECANCELED];
    error.raw_os_error().is_some_and(|code| codes.contains(&code))
}
