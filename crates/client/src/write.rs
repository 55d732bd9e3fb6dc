//! Writes a file whose size is not known before it is complete.

use std::sync::{Arc, Mutex};

use xferd_engine::{Failure, lock};
use xferd_store::Hasher;
use xferd_wire::limits::EXTENT_BYTES_MAX;
use xferd_wire::{Digest, DigestAlgorithm, ErrorCode, Frame, Identity, Mtime, Put, RemotePath, Sharing};

use crate::dispatcher::Place;
use crate::session::CLIENT_CLOSED;
use crate::task::{Channel, Course, Task, TaskEvent, unexpected};

type OnAccepted = Box<dyn FnOnce(Result<(), Failure>) + Send>;
type OnCommitted = Box<dyn FnOnce(Result<Written, Failure>) + Send>;

/// What was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Written {
    /// Bytes.
    pub bytes: u64,
    /// Their digest, as the server acknowledged it.
    pub digest: Digest,
}

/// What a file that is written will be.
#[derive(Clone, Debug)]
pub struct WriteSpec {
    /// Where.
    pub path: RemotePath,
    /// Its permission bits.
    pub mode: u32,
    /// Its modification time.
    pub mtime: Mtime,
    /// The digest that checks it.
    pub digest: DigestAlgorithm,
    /// Whether it is synced before it is acknowledged.
    pub durable: bool,
}

/// A file being written.
pub struct Writer {
    shared: Arc<Mutex<State>>,
    place: Place,
}

impl Writer {
    /// Writes on. `on_accepted` is called once the next bytes can be given: one at a time.
    pub fn write(&self, bytes: Vec<u8>, on_accepted: OnAccepted) {
        self.tell(|state| state.chunk = Some((bytes, on_accepted)));
    }

    /// There is no more: has it committed.
    pub fn finish(&self, on_committed: OnCommitted) {
        self.tell(|state| state.on_committed = Some(on_committed));
    }

    /// Ends it early; the server keeps nothing of it.
    pub fn cancel(&self) {
        self.tell(|state| state.cancelled = true);
    }

    fn tell(&self, change: impl FnOnce(&mut State)) {
        let mut state = lock(&self.shared);
        change(&mut state);
        if let Some(failure) = state.failed.clone() {
            state.report(failure);
        } else {
            drop(state);
            self.place.nudge();
        }
    }
}

#[derive(Default)]
struct State {
    on_open: Option<OnAccepted>,
    chunk: Option<(Vec<u8>, OnAccepted)>,
    on_committed: Option<OnCommitted>,
    failed: Option<Failure>,
    cancelled: bool,
}

impl State {
    fn report(&mut self, failure: Failure) {
        if let Some(on_open) = self.on_open.take() {
            on_open(Err(failure.clone()));
        }
        if let Some((_, on_accepted)) = self.chunk.take() {
            on_accepted(Err(failure.clone()));
        }
        if let Some(on_committed) = self.on_committed.take() {
            on_committed(Err(failure.clone()));
        }
        self.failed = Some(failure);
    }
}

pub(crate) struct Write {
    shared: Arc<Mutex<State>>,
    spec: WriteSpec,
    request: u32,
    hasher: Option<Hasher>,
    bytes: u64,
    committed: Option<Digest>,
    is_over: bool,
}

/// A writer, and the task that serves it.
pub(crate) fn write(spec: WriteSpec, place: Place, on_open: OnAccepted) -> (Writer, Write) {
    let shared = Arc::<Mutex<State>>::default();
    lock(&shared).on_open = Some(on_open);
    let hasher = Some(Hasher::new(spec.digest));
    let write =
        Write { shared: shared.clone(), spec, request: 0, hasher, bytes: 0, committed: None, is_over: false };
    (Writer { shared, place }, write)
}

impl Task for Write {
    fn start(&mut self, channel: &mut Channel<'_>) -> Result<Course, Failure> {
        channel.check_digest(self.spec.digest)?;
        self.request = channel.request(&Frame::Put(Put {
            path: self.spec.path.clone(),
            size: None,
            durable: self.spec.durable,
            digest: self.spec.digest,
            mode: self.spec.mode,
            mtime: self.spec.mtime,
            identity: Identity::default(),
            sharing: Sharing::Alone,
        }));
        let on_open = lock(&self.shared).on_open.take();
        if let Some(on_open) = on_open {
            on_open(Ok(()));
        }
        self.advance(channel)
    }

    fn on_frame(&mut self, request: u32, frame: Frame, _: &mut Channel<'_>) -> Result<Course, Failure> {
        if request != self.request {
            return Err(unexpected(&frame));
        }
        match frame {
            Frame::Committed(committed) if self.committed == Some(committed.digest) => {
                self.is_over = true;
                let on_committed = lock(&self.shared).on_committed.take();
                if let Some(on_committed) = on_committed {
                    on_committed(Ok(Written { bytes: self.bytes, digest: committed.digest }));
                }
                Ok(Course::Finished)
            }
            Frame::Error(reply) => {
                self.fail(reply.into());
                // Extents may still be queued; the connection is not worth waiting for them.
                Ok(if self.committed.is_some() { Course::Finished } else { Course::Abandoned })
            }
            other => Err(unexpected(&other)),
        }
    }

    fn on_event(&mut self, _: TaskEvent, channel: &mut Channel<'_>) -> Result<Course, Failure> {
        self.advance(channel)
    }

    fn is_cancelled(&self) -> bool {
        lock(&self.shared).cancelled
    }

    fn fail(&mut self, failure: Failure) {
        if !std::mem::replace(&mut self.is_over, true) {
            lock(&self.shared).report(failure);
        }
    }
}

impl Write {
    fn advance(&mut self, channel: &mut Channel<'_>) -> Result<Course, Failure> {
        if self.committed.is_some() || channel.effects.is_congested() {
            return Ok(Course::Running);
        }
        let chunk = lock(&self.shared).chunk.take();
        if let Some((chunk, on_accepted)) = chunk {
            let extent_bytes = usize::try_from(EXTENT_BYTES_MAX).unwrap_or(usize::MAX);
            for part in chunk.chunks(extent_bytes) {
                channel
                    .effects
                    .send(self.request, &Frame::Extent { offset: self.bytes, len: part.len() as u64 });
                self.bytes += part.len() as u64;
                channel.effects.send_encoded(|out| out.extend_from_slice(part));
            }
            if let Some(hasher) = &mut self.hasher {
                hasher.update(&chunk);
            }
            on_accepted(Ok(()));
        }
        let is_finished = {
            let state = lock(&self.shared);
            state.on_committed.is_some() && state.chunk.is_none()
        };
        if let Some(hasher) = self.hasher.take_if(|_| is_finished) {
            let digest = hasher.finish();
            self.committed = Some(digest);
            channel.effects.send(self.request, &Frame::Digest(digest));
            channel.effects.send(self.request, &Frame::Commit { size: self.bytes });
        }
        Ok(Course::Running)
    }
}

impl Drop for Write {
    fn drop(&mut self) {
        self.fail(Failure::new(ErrorCode::Aborted, CLIENT_CLOSED));
    }
}
