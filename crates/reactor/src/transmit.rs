//! Sending operations: what they send, and how.

use std::io;
use std::sync::Arc;

use xferd_os::Mapping;
use xferd_os::net::Socket;

use crate::{BYTES_PER_TURN_MAX, Carried, FileRef, SendBuf};

/// What a sending operation sends.
pub(crate) enum Transmit {
    Bytes { buf: SendBuf, more: bool },
    File { file: FileRef, offset: u64, len: u32 },
    Mapped { mapping: Arc<Mapping>, offset: u64, len: u32 },
    End,
    Connect,
}

impl Transmit {
    /// Bytes that the socket is offered in one call.
    pub(crate) fn offered(&self) -> usize {
        match self {
            Transmit::Bytes { buf, .. } => buf.remaining().len().min(BYTES_PER_TURN_MAX),
            Transmit::File { len, .. } | Transmit::Mapped { len, .. } => budgeted(*len),
            Transmit::End | Transmit::Connect => 0,
        }
    }

    /// Performs as much of it as the socket takes now.
    ///
    /// # Errors
    /// `WouldBlock` if that is nothing.
    pub(crate) fn perform(&mut self, socket: &Socket) -> io::Result<usize> {
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
    pub(crate) fn into_carried<J>(self) -> Carried<J> {
        match self {
            Transmit::Bytes { buf, .. } => Carried::Sent(buf),
            _ => Carried::Nothing,
        }
    }
}

fn budgeted(len: u32) -> usize {
    BYTES_PER_TURN_MAX.min(len as usize)
}

/// A writable socket is connected, or has failed to; or the event was spurious, which `connect(2)` does not rule out.
fn connected(socket: &Socket) -> io::Result<()> {
    if let Some(error) = socket.take_error()? {
        return Err(error);
    }
    match socket.peer() {
        Err(error) if error.kind() == io::ErrorKind::NotConnected => Err(io::ErrorKind::WouldBlock.into()),
        answer => answer.map(|_| ()),
    }
}
