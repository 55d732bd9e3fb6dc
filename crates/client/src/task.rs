//! What a connection to a server is used for: one task at a time.

use xferd_engine::{DiskOutcome, Effects, Failure};
use xferd_store::{FileDigest, StoreError};
use xferd_wire::{Digest, DigestAlgorithm, ErrorCode, Frame};

use crate::push::Supplies;
use crate::survey::Plan;

/// What comes back from the blocking work a task asks for.
pub(crate) enum ClientOutcome {
    /// A step of a file on its way.
    Disk(DiskOutcome),
    /// What is to be pushed next.
    Supplied(Supplies),
    /// What is to be pushed next, of what is not there.
    Opened(Supplies),
    /// What a pull consists of was worked out.
    Planned(Result<Plan, Failure>),
    /// A slice more of a file is in its digest, which is there after the last.
    Hashed(Result<(Box<FileDigest>, Option<Digest>), StoreError>),
    /// Something was done in the local tree.
    Done(Result<(), StoreError>),
}

impl From<DiskOutcome> for ClientOutcome {
    fn from(outcome: DiskOutcome) -> Self {
        Self::Disk(outcome)
    }
}

/// What happens to a task besides frames.
pub(crate) enum TaskEvent {
    /// Work came back.
    Worked(u32, ClientOutcome),
    /// So many more bytes of an extent are in their file.
    Written(u64),
    /// An extent was put into its file.
    Received(u32, Option<xferd_store::Hasher>, std::io::Result<()>),
    /// So many more bytes of an extent have left.
    Sent(u32, u64),
    /// The source of an extent ended early.
    SourceShort(u32),
    /// The peer has read most of what was queued.
    Drained,
    /// Something shared with other threads has changed.
    Nudged,
}

/// Whether a task goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Course {
    /// It does.
    Running,
    /// It is done, and the connection can be used for another.
    Finished,
    /// It was given up: the connection is of no use any more.
    Abandoned,
}

/// Something to do on one connection, as a state machine.
///
/// It is told of everything that concerns it and reports its end itself, to whoever asked for it; dropped before that,
/// it reports that it was aborted.
pub(crate) trait Task: Send {
    /// The connection is ready.
    fn start(&mut self, channel: &mut Channel<'_>) -> Result<Course, Failure>;

    /// The server says something. After an extent whose bytes the task did not pass on by [`Effects::receive`] or
    /// [`Effects::discard`], they come by [`Task::on_raw`].
    fn on_frame(&mut self, request: u32, frame: Frame, channel: &mut Channel<'_>) -> Result<Course, Failure>;

    /// Something else happened.
    fn on_event(&mut self, event: TaskEvent, channel: &mut Channel<'_>) -> Result<Course, Failure>;

    /// Bytes of an extent that are for the task itself: how many are due.
    fn raw_due(&self) -> u64 {
        0
    }

    /// Takes bytes of an extent, at most [`Task::raw_due`]; returns how many.
    fn on_raw(&mut self, _bytes: &[u8]) -> usize {
        0
    }

    /// Whether more can be taken in now.
    fn wants_bytes(&self) -> bool {
        true
    }

    /// Whether whoever asked for it does not want it any more.
    fn is_cancelled(&self) -> bool {
        false
    }

    /// The connection, or the peer, cannot go on; or the task itself returned this failure.
    fn fail(&mut self, failure: Failure);
}

/// What a task has of its connection.
pub(crate) struct Channel<'a> {
    pub(crate) effects: &'a mut Effects<ClientOutcome>,
    pub(crate) next_request: &'a mut u32,
    pub(crate) digests: &'a [DigestAlgorithm],
    /// Whether the server knows of shared and resumable puts.
    pub(crate) transfers: bool,
    /// Whether the server tells digests of files.
    pub(crate) checksums: bool,
}

impl Channel<'_> {
    /// A number for a new request, or for work of one's own.
    pub(crate) fn number(&mut self) -> u32 {
        next_number(self.next_request)
    }

    /// Sends a new request.
    pub(crate) fn request(&mut self, frame: &Frame) -> u32 {
        let request = self.number();
        self.effects.send(request, frame);
        request
    }

    /// Makes sure that the server can take the digest.
    pub(crate) fn check_digest(&self, algorithm: DigestAlgorithm) -> Result<(), Failure> {
        if self.digests.contains(&algorithm) {
            return Ok(());
        }
        let known: Vec<_> = self.digests.iter().map(|digest| digest.name()).collect();
        let message = format!(
            "the server does not know the digest {}; it knows {}",
            algorithm.name(),
            known.join(", ")
        );
        Err(Failure::new(ErrorCode::Unsupported, message))
    }
}

/// The next number of a request on a connection.
pub(crate) fn next_number(next_request: &mut u32) -> u32 {
    let request = *next_request;
    *next_request = request.checked_add(1).unwrap_or(1);
    request
}

/// A frame that has no place here.
pub(crate) fn unexpected(frame: &Frame) -> Failure {
    Failure::protocol(format!("the server sent a frame {:#04x} that nobody asked for", frame.opcode()))
}
