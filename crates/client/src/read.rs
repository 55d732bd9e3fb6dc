//! Reads a file, or a part of one, as fast as somebody takes it.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard};

use xferd_engine::{Failure, lock};
use xferd_store::Hasher;
use xferd_wire::{DigestAlgorithm, ErrorCode, Frame, Get, RemotePath};

use crate::dispatcher::Place;
use crate::session::CLIENT_CLOSED;
use crate::task::{Channel, Course, Task, TaskEvent, unexpected};

/// Bytes of a chunk, at most.
pub const CHUNK_BYTES_MAX: usize = 256 << 10;

/// Bytes read ahead of whoever takes them. With as many waiting nothing more is read, and the server feels it.
pub const READ_AHEAD_BYTES_MAX: usize = 1 << 20;

pub(crate) type OnOpen = Box<dyn FnOnce(Result<u64, Failure>) + Send>;
type OnChunk = Box<dyn FnOnce(Result<Option<Vec<u8>>, Failure>) + Send>;

/// A file being read.
pub struct Reader {
    shared: Arc<Shared>,
    place: Place,
}

impl Reader {
    /// Asks for the next chunk: `None` after the last, once the digest was found right. One at a time.
    pub fn next_chunk(&self, on_chunk: OnChunk) {
        let mut state = self.shared.lock();
        let was_full = state.buffered_bytes >= READ_AHEAD_BYTES_MAX;
        state.on_chunk = Some(on_chunk);
        deliver(state);
        if was_full {
            self.place.nudge();
        }
    }

    /// Ends it early.
    pub fn cancel(&self) {
        self.shared.lock().cancelled = true;
        self.place.nudge();
    }
}

#[derive(Default)]
struct Shared(Mutex<State>);

#[derive(Default)]
struct State {
    chunks: VecDeque<Vec<u8>>,
    buffered_bytes: usize,
    on_open: Option<OnOpen>,
    on_chunk: Option<OnChunk>,
    ended: Option<Result<(), Failure>>,
    cancelled: bool,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        lock(&self.0)
    }

    fn end(&self, result: Result<(), Failure>) {
        let mut state = self.lock();
        if state.ended.is_some() {
            return;
        }
        let on_open = state.on_open.take();
        let opened = result.clone().map(|()| 0);
        state.ended = Some(result);
        deliver(state);
        if let Some(on_open) = on_open {
            on_open(opened);
        }
    }
}

/// Hands over what somebody waits for, if it is there. Called back without the lock.
fn deliver(mut state: MutexGuard<'_, State>) {
    let Some(on_chunk) = state.on_chunk.take() else { return };
    let chunk = match (state.chunks.pop_front(), &state.ended) {
        (_, Some(Err(failure))) => Err(failure.clone()),
        (Some(chunk), _) => {
            state.buffered_bytes -= chunk.len();
            Ok(Some(chunk))
        }
        (None, Some(Ok(()))) => Ok(None),
        (None, None) => {
            state.on_chunk = Some(on_chunk);
            return;
        }
    };
    drop(state);
    on_chunk(chunk);
}

pub(crate) struct Read {
    shared: Arc<Shared>,
    get: Get,
    request: u32,
    hasher: Option<Hasher>,
    /// Bytes of the extent that is coming.
    due: u64,
    /// Where the next extent begins, and the end of the range.
    at: u64,
    end: u64,
    verified: bool,
}

/// A reader of `[start, end)` of `path`, and the task that serves it.
pub(crate) fn read(
    path: RemotePath,
    start: u64,
    end: Option<u64>,
    digest: DigestAlgorithm,
    place: Place,
    on_open: OnOpen,
) -> (Reader, Read) {
    let shared = Arc::new(Shared::default());
    shared.lock().on_open = Some(on_open);
    let get = Get { path, start, end, digest };
    let read = Read {
        shared: shared.clone(),
        get,
        request: 0,
        hasher: Some(Hasher::new(digest)),
        due: 0,
        at: 0,
        end: 0,
        verified: false,
    };
    (Reader { shared, place }, read)
}

impl Task for Read {
    fn start(&mut self, channel: &mut Channel<'_>) -> Result<Course, Failure> {
        channel.check_digest(self.get.digest)?;
        self.request = channel.request(&Frame::Get(self.get.clone()));
        Ok(Course::Running)
    }

    fn on_frame(&mut self, request: u32, frame: Frame, _: &mut Channel<'_>) -> Result<Course, Failure> {
        if request != self.request {
            return Err(unexpected(&frame));
        }
        match frame {
            Frame::File(header) => {
                (self.at, self.end) = (header.start, header.end);
                let bytes = header.end.saturating_sub(header.start);
                let on_open = self.shared.lock().on_open.take();
                if let Some(on_open) = on_open {
                    on_open(Ok(bytes));
                }
            }
            Frame::Extent { offset, len } => {
                let end = offset.checked_add(len).filter(|&end| offset == self.at && end <= self.end);
                self.at =
                    end.ok_or_else(|| Failure::protocol("the server sent bytes that were not asked for"))?;
                self.due = len;
            }
            Frame::Digest(theirs) => {
                let ours = self.hasher.take().map(Hasher::finish);
                if ours != Some(theirs) {
                    let message =
                        format!("{}: what came is not what the server read; read it again", self.get.path);
                    return Err(Failure::new(ErrorCode::DigestMismatch, message));
                }
                self.verified = true;
            }
            Frame::End if self.verified && self.at == self.end => {
                self.shared.end(Ok(()));
                return Ok(Course::Finished);
            }
            Frame::Error(reply) => {
                self.shared.end(Err(reply.into()));
                return Ok(Course::Finished);
            }
            other => return Err(unexpected(&other)),
        }
        Ok(Course::Running)
    }

    fn on_event(&mut self, _: TaskEvent, _: &mut Channel<'_>) -> Result<Course, Failure> {
        Ok(Course::Running)
    }

    fn raw_due(&self) -> u64 {
        self.due
    }

    fn on_raw(&mut self, bytes: &[u8]) -> usize {
        self.due -= bytes.len() as u64;
        if let Some(hasher) = &mut self.hasher {
            hasher.update(bytes);
        }
        let mut state = self.shared.lock();
        state.buffered_bytes += bytes.len();
        match state.chunks.back_mut().filter(|last| last.len() + bytes.len() <= CHUNK_BYTES_MAX) {
            Some(last) => last.extend_from_slice(bytes),
            None => state.chunks.push_back(bytes.to_vec()),
        }
        deliver(state);
        bytes.len()
    }

    fn wants_bytes(&self) -> bool {
        self.shared.lock().buffered_bytes < READ_AHEAD_BYTES_MAX
    }

    fn is_cancelled(&self) -> bool {
        self.shared.lock().cancelled
    }

    fn fail(&mut self, failure: Failure) {
        self.shared.end(Err(failure));
    }
}

impl Drop for Read {
    fn drop(&mut self) {
        self.fail(Failure::new(ErrorCode::Aborted, CLIENT_CLOSED));
    }
}
