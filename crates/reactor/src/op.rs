//! What a driver is asked for, and what it answers.

use std::io;
use std::sync::Arc;

use xferd_os::net::{Address, Peer, Socket};
use xferd_os::{File, Mapping, Sink};

use crate::PoolBuf;

/// Names one operation in flight: chosen by the caller, given back in its [`Done`].
///
/// A driver never looks inside. The caller keeps its operations in slots and raises a slot's generation each time it is
/// reused, so that a late completion is told from a current one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Token {
    /// Where the caller keeps what it knows of the operation.
    pub slot: u32,
    /// Which use of that slot this is.
    pub generation: u32,
}

/// A file that several operations, sockets and threads read or write by explicit offset.
pub type FileRef = Arc<File>;

/// A socket registered with a driver. It stays valid until [`Op::Close`]; after that its operations complete with
/// `NotConnected`, even if the driver has given the slot to another socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct SockRef(pub(crate) Key);

/// A listener registered with a driver.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ListenerRef(pub(crate) Key);

/// A driver's own slot and generation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Key {
    pub(crate) slot: u32,
    pub(crate) generation: u32,
}

/// Work that may block: open, fsync, rename, list. It carries its own result.
pub trait Job: Send + 'static {
    /// Does the work, once.
    fn run(&mut self);
}

/// An operation. The driver owns what it carries until its [`Done`] comes back.
///
/// On one socket at most one operation receives (`RecvLarge`, `RecvSmall`) and at most one sends (`Send`, `SendFile`,
/// `SendMapped`, `ShutdownWrite`) at a time; on one listener, one `Accept`.
#[derive(Debug)]
pub enum Op<J> {
    /// Takes a connection: [`Carried::Socket`], not registered yet. With the descriptor limit reached it completes with
    /// that error and the connection stays waiting; try again when descriptors are free.
    Accept(ListenerRef),
    /// Connects: [`Carried::Sock`], registered.
    Connect(Address),
    /// Receives as much as there is, at most `bytes_due`, into a large buffer that the driver lends only once bytes are
    /// there: a connection that waits holds none, and connections that take turns share one that is hot in the cache. For
    /// what fits a small one, that has to do. If none is free, it waits until one comes back. A result of 0 is
    /// the end of the stream. Carries [`Carried::Buf`].
    RecvLarge {
        /// From where.
        sock: SockRef,
        /// Where in a file the bytes will go, see [`PoolBuf::clear_for`].
        offset: u64,
        /// How many belong there and are sure to come, so that it can be waited for more of them than there are at the
        /// moment; 0 is `InvalidInput`. If that is not known, whatever there is.
        bytes_due: Option<u64>,
    },
    /// Like `RecvLarge` into a small buffer, at most `bytes_max`.
    RecvSmall {
        /// From where.
        sock: SockRef,
        /// How many at most. None is `InvalidInput`.
        bytes_max: usize,
    },
    /// Sends the front of `buf`'s remaining bytes. Carries [`Carried::Sent`], advanced past what went: submit the rest
    /// again.
    Send {
        /// To where.
        sock: SockRef,
        /// The bytes.
        buf: SendBuf,
        /// Whether more follows at once, so that a frame's header shares a segment with its body.
        more: bool,
    },
    /// Sends up to `len` bytes of `file` from `offset` on. A result below `len` means that the rest has to be submitted
    /// again; `UnexpectedEof`, that the file ends at or before `offset`.
    SendFile {
        /// To where.
        sock: SockRef,
        /// From what.
        file: FileRef,
        /// First byte, counted from the file's start.
        offset: u64,
        /// Bytes.
        len: u32,
    },
    /// Like `SendFile`, from a mapping of the file.
    SendMapped {
        /// To where.
        sock: SockRef,
        /// From what.
        mapping: Arc<Mapping>,
        /// First byte, counted from the mapping's start.
        offset: u64,
        /// Bytes.
        len: u32,
    },
    /// Ends the stream towards the peer, after all that was sent before; receiving goes on. A side that closes while the
    /// peer's bytes are still coming makes the kernel reset the connection, which can destroy what it sent last: to be
    /// heard, end the stream, receive until the peer ends its own, then close.
    ShutdownWrite(SockRef),
    /// Writes all of `buf` at `offset`. Carries [`Carried::Buf`].
    WriteAt {
        /// To where.
        sink: Arc<Sink>,
        /// Where the first byte goes, counted from the file's start.
        offset: u64,
        /// The bytes.
        buf: PoolBuf,
    },
    /// Runs a job. Carries [`Carried::Job`]; a job that panicked is lost ([`Carried::Nothing`]) and reported as an error.
    Offload(J),
    /// Closes a socket: what is in flight on it completes with `ConnectionAborted`, then this does. The kernel goes on
    /// trying to deliver what was sent.
    Close(SockRef),
    /// Like `Close`, but what the peer has not received yet is thrown away and the connection is reset: for a peer that
    /// does not read, lest the kernel keeps megabytes for it.
    Reset(SockRef),
}

/// An operation's end.
#[derive(Debug)]
pub struct Done<J> {
    /// The name it was submitted under.
    pub token: Token,
    /// Bytes moved (0 for what moves none), or what went wrong.
    pub result: io::Result<u32>,
    /// What the operation carried, or yields.
    pub carried: Carried<J>,
}

impl<J> Done<J> {
    /// Whether [`Driver::cancel`](crate::Driver::cancel) ended it. Only cancelled operations report `Interrupted`.
    pub fn is_cancelled(&self) -> bool {
        matches!(&self.result, Err(error) if error.kind() == io::ErrorKind::Interrupted)
    }
}

/// What comes back with a [`Done`], on success and failure alike.
#[derive(Debug)]
pub enum Carried<J> {
    /// Nothing.
    Nothing,
    /// The buffer of `RecvLarge`, `RecvSmall` and `WriteAt`.
    Buf(PoolBuf),
    /// The rest of `Send`'s bytes.
    Sent(SendBuf),
    /// The job of `Offload`.
    Job(J),
    /// What `Accept` took: not registered, so that it can be handed to another reactor.
    Socket(Socket, Peer),
    /// What `Connect` made.
    Sock(SockRef),
}

/// Bytes on their way out, and how far they have come.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SendBuf {
    bytes: Vec<u8>,
    start: usize,
}

impl SendBuf {
    /// All of `bytes` but the first `room`, which are room for what has to come before.
    pub fn with_room(bytes: Vec<u8>, room: usize) -> SendBuf {
        SendBuf { start: room.min(bytes.len()), bytes }
    }

    /// The bytes not sent yet.
    pub fn remaining(&self) -> &[u8] {
        self.bytes.get(self.start..).unwrap_or_default()
    }

    /// Whether all is sent.
    pub fn is_empty(&self) -> bool {
        self.remaining().is_empty()
    }

    /// Counts `bytes` from the front as sent, at most what remains.
    pub fn advance(&mut self, bytes: usize) {
        self.start = self.start.saturating_add(bytes).min(self.bytes.len());
    }

    /// Puts `before` in front of what remains. False if there is no room for it.
    pub fn prepend(&mut self, before: &[u8]) -> bool {
        let Some(start) = self.start.checked_sub(before.len()) else { return false };
        let Some(room) = self.bytes.get_mut(start..self.start) else { return false };
        room.copy_from_slice(before);
        self.start = start;
        true
    }

    /// Adds what `write` appends.
    pub fn append(&mut self, write: impl FnOnce(&mut Vec<u8>)) {
        write(&mut self.bytes);
    }
}

impl From<Vec<u8>> for SendBuf {
    fn from(bytes: Vec<u8>) -> SendBuf {
        SendBuf { bytes, start: 0 }
    }
}
