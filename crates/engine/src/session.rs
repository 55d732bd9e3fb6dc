//! The vocabulary between a protocol and the shard that runs it: events in, effects out.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use xferd_os::{Mapping, Sink, scaled};
use xferd_reactor::{FileRef, SendBuf};
use xferd_store::{Hasher, Store, WholeFile};
use xferd_wire::Frame;

use crate::budget::CROWDED_BYTES;
use crate::disk::DiskOutcome;
use crate::reach::Reachable;
use crate::work::{Put, Work};

/// One connection's protocol, as a state machine that does no I/O.
///
/// The shard calls [`Session::on_bytes`] and [`Session::on_event`]; the session answers with [`Effects`], which the
/// shard performs in order. A session never blocks, never touches a descriptor and never looks at a clock: blocking
/// work is described as a closure ([`Effects::work`]) and run elsewhere, and silence is measured by the shard against
/// [`Session::patience`].
pub trait Session: Send + 'static {
    /// What comes back from the blocking work this session asks for.
    type Outcome: Send + 'static;
    /// What a session can be given to do while it is idle, or [beside](Session::is_beside) something else.
    type Command: Send + 'static;

    /// Connections of one reactor are about to be asked, one after the other, to take what has come on them: has the processor
    /// fetch what they will need from memory, for all of them together. Only a matter of speed, by which nothing changes.
    fn look_ahead<'a>(_coming: impl Iterator<Item = (&'a Self, &'a [u8])>)
    where
        Self: Sized,
    {
    }

    /// Takes bytes the peer sent and returns how many were taken.
    ///
    /// Taking fewer than all is allowed after [`Effects::receive`] or [`Effects::discard`] (what follows belongs to
    /// them), after a close, when [`Session::wants_bytes`] has become false, and when so much was answered that it is to be
    /// sent first; the shard keeps the rest. Some are always taken.
    fn on_bytes(&mut self, bytes: &[u8], effects: &mut Effects<Self::Outcome>) -> usize;

    /// The peer has ended its stream: nothing more comes from it, not even the rest of an extent, but it may still be
    /// reading. Unless the session says otherwise, the connection ends.
    fn on_end(&mut self, effects: &mut Effects<Self::Outcome>) {
        effects.abort();
    }

    /// Can be reached by other threads from now on: keeps a [`Reach`](crate::Reach) if it wants to. Just before
    /// [`Event::Connected`].
    fn on_reachable(&mut self, _place: &Reachable<'_>) {}

    /// Learns what happened.
    fn on_event(&mut self, event: Event<Self::Outcome, Self::Command>, effects: &mut Effects<Self::Outcome>);

    /// Whether a command that waits for its time is still to be carried out. Asked after each [`Event::Nudged`].
    fn is_wanted(_command: &Self::Command) -> bool {
        true
    }

    /// Whether bytes would be taken now. While this is false nothing is read, and the peer feels it.
    fn wants_bytes(&self) -> bool;

    /// Whether bytes are taken even while much of what was sent before waits for the peer to read it. One that answers each
    /// request keeps replies no longer than it is read from; one that answers must not read on, or it keeps all its answers.
    fn reads_while_sending(&self) -> bool {
        false
    }

    /// Whether the session could take up a new command: the shard then offers it the next one that is dispatched.
    fn is_idle(&self) -> bool;

    /// Whether the command is for a session that may have something else to do: for any that [takes](Session::takes) it.
    fn is_beside(_command: &Self::Command) -> bool {
        false
    }

    /// Whether it could take up this command: unless told otherwise, any while it is idle.
    fn takes(&self, _command: &Self::Command) -> bool {
        self.is_idle()
    }

    /// How long nothing may move on the connection before [`Event::Stalled`].
    fn patience(&self) -> Duration;

    /// The same while something is queued for the peer, which does not read it.
    fn patience_while_sending(&self) -> Duration {
        self.patience()
    }

    /// Bytes that it remembers of requests, beside what waits to be sent, about.
    fn kept_bytes(&self) -> u64 {
        0
    }

    /// Nothing has happened for a while: gives back memory that is not needed meanwhile, and says whether only bytes or
    /// an event can change how patient it is. Then it is asked no more until one of them comes, or its patience ends.
    fn rest(&mut self) -> bool {
        false
    }
}

/// What a session learns.
#[derive(Debug)]
pub enum Event<O, C> {
    /// The connection is up.
    Connected,
    /// The work asked for under `key` is done.
    Worked {
        /// The key it was asked for under.
        key: u32,
        /// What it brought.
        outcome: O,
    },
    /// So many more bytes of the extent are in the file.
    Written {
        /// The key given to [`Effects::receive`].
        key: u32,
        /// How many.
        bytes: u64,
    },
    /// All bytes of the extent are in the file, or could not be written; its bytes were taken off the stream anyway.
    Received {
        /// The key given to [`Effects::receive`].
        key: u32,
        /// The hasher given to [`Effects::receive`], fed with the extent.
        hasher: Option<Hasher>,
        /// Why writing failed, if it did.
        result: io::Result<()>,
    },
    /// So many more bytes of the extent were handed to the kernel.
    Sent {
        /// The key given to [`Effects::send_extent`].
        key: u32,
        /// How many.
        bytes: u64,
    },
    /// The source ended before the extent did; zeros are filling it up, and are not counted by [`Event::Sent`].
    SourceShort {
        /// The key given to [`Effects::send_extent`].
        key: u32,
    },
    /// What was queued for the peer fell below [`Effects::SEND_QUEUE_LOW_BYTES`] after it had been above.
    Drained,
    /// Something to do, given to an idle session.
    Command(C),
    /// Something that it shares with other threads has changed: look. By [`Reach::nudge`](crate::Reach::nudge), or by
    /// [`Mailbox::nudge`](crate::Mailbox::nudge) together with all others.
    Nudged,
    /// The process is about to stop: finish what is under way, take up nothing new.
    Draining,
    /// Nothing moved for as long as the session was willing to wait.
    Stalled,
    /// The connection is gone; the last event a session sees.
    Closed(End),
}

/// How a connection came to its end.
#[derive(Debug)]
pub enum End {
    /// The peer, or the session itself, closed it.
    Closed,
    /// It broke.
    Broken(io::Error),
    /// The shard was stopped.
    Stopped,
}

/// Where the bytes of an outgoing extent come from.
#[derive(Clone, Debug)]
pub enum SendSource {
    /// `sendfile` from a descriptor shared by all senders, by explicit offset.
    File(FileRef),
    /// One mapping shared by all senders.
    Mapping(Arc<Mapping>),
}

/// One thing a session wants done.
pub enum Effect<O> {
    /// Send these bytes.
    Send(SendBuf),
    /// Send a range of a file.
    SendExtent {
        /// Comes back in [`Event::Sent`] or [`Event::SourceShort`].
        key: u32,
        /// Where the bytes are.
        source: SendSource,
        /// First byte.
        offset: u64,
        /// How many.
        len: u64,
    },
    /// The next `len` bytes of the stream belong into a file.
    Receive {
        /// Comes back in [`Event::Received`].
        key: u32,
        /// The file they belong to.
        sink: Arc<Sink>,
        /// Where the first one goes.
        offset: u64,
        /// How many.
        len: u64,
        /// Fed with the bytes while they are hot in the cache.
        hasher: Option<Hasher>,
    },
    /// The next `len` bytes of the stream are of no interest.
    Discard {
        /// How many.
        len: u64,
    },
    /// Blocking work. One connection's work is run in the order it was asked for.
    Work {
        /// Comes back in [`Event::Worked`].
        key: u32,
        /// What to do.
        work: Work<O>,
    },
    /// Close: at once, or once all is sent and the peer had a chance to read it.
    Close {
        /// Whether what is queued is to be sent first.
        flush: bool,
    },
}

/// What a session wants done, in order.
pub struct Effects<O> {
    pub(crate) list: Vec<Effect<O>>,
    /// Bytes queued for the peer and not yet handed to the kernel, extents included.
    pub(crate) queued_bytes: u64,
    /// So much is kept in memory for all peers together that each has to do with less.
    pub(crate) crowded: bool,
}

impl<O> Default for Effects<O> {
    fn default() -> Self {
        Self { list: Vec::new(), queued_bytes: 0, crowded: false }
    }
}

impl<O> Effects<O> {
    /// Past this many queued bytes a session should produce no more ([`Effects::is_congested`]): two extents' worth of
    /// small files is ample to keep a socket busy between two turns.
    pub const SEND_QUEUE_HIGH_BYTES: u64 = scaled(1 << 20);
    /// Below this many [`Event::Drained`] asks for more.
    pub const SEND_QUEUE_LOW_BYTES: u64 = scaled(256 << 10);

    /// Whether enough is queued for the peer. [`Event::Drained`] follows once it is not.
    pub fn is_congested(&self) -> bool {
        self.queued_bytes >= if self.crowded { CROWDED_BYTES } else { Self::SEND_QUEUE_HIGH_BYTES }
    }

    /// Whether so much is kept in memory for peers that have not read it that what can be sent from a file should be.
    pub fn is_crowded(&self) -> bool {
        self.crowded
    }

    /// Sends one frame.
    pub fn send(&mut self, request: u32, frame: &Frame) {
        self.send_encoded(|bytes| xferd_wire::encode(request, frame, bytes));
    }

    /// Sends what `write` appends, together with what was queued just before.
    pub fn send_encoded(&mut self, write: impl FnOnce(&mut Vec<u8>)) {
        if !matches!(self.list.last(), Some(Effect::Send(_))) {
            self.list.push(Effect::Send(SendBuf::default()));
        }
        let Some(Effect::Send(bytes)) = self.list.last_mut() else { return };
        let before = bytes.remaining().len();
        bytes.append(write);
        self.queued_bytes += (bytes.remaining().len() - before) as u64;
    }

    /// Sends `bytes`, together with what was queued just before. If they have room for that they need no second place in
    /// memory.
    pub fn send_bytes(&mut self, mut bytes: SendBuf) {
        self.queued_bytes += bytes.remaining().len() as u64;
        match self.list.last_mut() {
            Some(Effect::Send(before)) if bytes.prepend(before.remaining()) => *before = bytes,
            Some(Effect::Send(before)) => before.append(|before| before.extend_from_slice(bytes.remaining())),
            _ => self.list.push(Effect::Send(bytes)),
        }
    }

    /// Sends one extent: its frame, then `len` bytes of `source` from `offset`.
    pub fn send_extent(&mut self, key: u32, source: SendSource, offset: u64, len: u64) {
        self.send(key, &Frame::Extent { offset, len });
        self.queued_bytes += len;
        self.list.push(Effect::SendExtent { key, source, offset, len });
    }

    /// Puts the next `len` bytes of the stream into `sink`.
    pub fn receive(&mut self, key: u32, sink: Arc<Sink>, offset: u64, len: u64, hasher: Option<Hasher>) {
        self.list.push(Effect::Receive { key, sink, offset, len, hasher });
    }

    /// Drops the next `len` bytes of the stream.
    pub fn discard(&mut self, len: u64) {
        self.list.push(Effect::Discard { len });
    }

    /// Has blocking work done.
    pub fn work(&mut self, key: u32, work: impl FnOnce() -> O + Send + 'static) {
        self.list.push(Effect::Work { key, work: Work::Run(Box::new(work)) });
    }

    /// Has a whole file stored, together with those that are asked for just before and after it.
    pub fn put(&mut self, key: u32, store: Arc<Store>, file: WholeFile, durable: bool)
    where
        O: From<DiskOutcome>,
    {
        let outcome = |result| DiskOutcome::Committed(result).into();
        self.list.push(Effect::Work { key, work: Work::Put(Put { store, file, durable, outcome }) });
    }

    /// Sends what is queued, then closes.
    pub fn close(&mut self) {
        self.list.push(Effect::Close { flush: true });
    }

    /// Closes at once; what is queued is lost.
    pub fn abort(&mut self) {
        self.list.push(Effect::Close { flush: false });
    }

    /// Takes what was asked for so far; for tests that play the shard.
    pub fn take(&mut self) -> Vec<Effect<O>> {
        self.queued_bytes = 0;
        std::mem::take(&mut self.list)
    }
}
