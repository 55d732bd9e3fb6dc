//! Pushes one copy of what is to be pushed, or one connection's share of it.

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use xferd_engine::{Content, DiskOutcome, Failure, Opened, Outgoing, Progress, send_small};
use xferd_wire::{Digest, DigestAlgorithm, ErrorReply, Frame, Put, RemotePath, SetAttributes, Sharing};

use crate::job::{Job, Ticket};
use crate::sources::{Supplies, Supply, Walk};
use crate::task::{Channel, ClientOutcome, Course, Task, TaskEvent, unexpected};

/// Requests of one connection that wait for an answer. A server takes in fewer at a time; the rest keeps the wire busy.
const REQUESTS_UNANSWERED_MAX: usize = 256;

/// With fewer supplies than this the next handful is fetched.
const SUPPLIES_LOW: usize = 16;

/// One copy of what is pushed, shared by the connections that push it.
pub(crate) struct Copy {
    walk: Mutex<Walk>,
    /// Attributes for directories, once everything is in them.
    directories: Mutex<Vec<SetAttributes>>,
    /// Connections that still push.
    pushing: AtomicUsize,
    digest: DigestAlgorithm,
    durable: bool,
}

impl Copy {
    pub(crate) fn new(walk: Walk, streams: usize, digest: DigestAlgorithm, durable: bool) -> Arc<Self> {
        Arc::new(Self {
            walk: Mutex::new(walk),
            directories: Mutex::default(),
            pushing: AtomicUsize::new(streams),
            digest,
            durable,
        })
    }

    fn supply(&self, job: &Job) -> Supplies {
        let mut supplies = self.walk.lock().unwrap_or_else(PoisonError::into_inner).supply(job);
        self.directories().append(&mut supplies.directories);
        supplies
    }

    fn directories(&self) -> MutexGuard<'_, Vec<SetAttributes>> {
        self.directories.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One connection's share.
pub(crate) struct Push {
    ticket: Ticket,
    copy: Arc<Copy>,
    supplies: VecDeque<Supply>,
    fetching: bool,
    exhausted: bool,
    unanswered: HashMap<u32, Asked>,
    sending: Option<(u32, Outgoing)>,
    /// Its share is pushed.
    finishing: bool,
    /// It was the last to finish, so it gives directories their attributes.
    is_last: bool,
}

/// A request the server has not answered.
struct Asked {
    path: RemotePath,
    kind: AskedKind,
}

enum AskedKind {
    File { bytes: u64, digest: Option<Digest> },
    Directory,
    Link,
    Attributes,
}

impl Task for Push {
    fn start(&mut self, channel: &mut Channel<'_>) -> Result<Course, Failure> {
        channel.check_digest(self.copy.digest)?;
        self.advance(channel)
    }

    fn on_frame(&mut self, request: u32, frame: Frame, channel: &mut Channel<'_>) -> Result<Course, Failure> {
        match frame {
            Frame::Committed(committed) => {
                let Some(Asked { path, kind: AskedKind::File { bytes, digest } }) =
                    self.unanswered.remove(&request)
                else {
                    return Err(unexpected(&frame));
                };
                if committed.size != bytes || digest != Some(committed.digest) {
                    return Err(Failure::protocol(format!("{path}: the server acknowledged something else")));
                }
                self.ticket.job().stored_file(bytes, committed.digest);
            }
            Frame::Done => match self.unanswered.remove(&request).map(|asked| asked.kind) {
                Some(AskedKind::Directory) => self.ticket.job().stored_directory(),
                Some(AskedKind::Link) => self.ticket.job().stored_link(),
                Some(AskedKind::Attributes) => {}
                Some(AskedKind::File { .. }) | None => return Err(unexpected(&frame)),
            },
            Frame::Error(reply) => self.on_refused(request, reply, channel)?,
            _ => return Err(unexpected(&frame)),
        }
        self.advance(channel)
    }

    fn on_event(&mut self, event: TaskEvent, channel: &mut Channel<'_>) -> Result<Course, Failure> {
        match event {
            TaskEvent::Worked(_, ClientOutcome::Supplied(supplies)) => self.on_supplied(supplies)?,
            TaskEvent::Worked(request, ClientOutcome::Disk(outcome)) => {
                let progress = match (self.outgoing(request), outcome) {
                    (Some(outgoing), DiskOutcome::Hashed(result)) => {
                        outgoing.on_hashed(result, channel.effects)
                    }
                    (Some(outgoing), DiskOutcome::Verified(result)) => outgoing.on_verified(result),
                    _ => Progress::Moving,
                };
                self.on_progress(progress, channel)?;
            }
            TaskEvent::Sent(request) => {
                let progress = match self.outgoing(request) {
                    Some(outgoing) => outgoing.on_sent(channel.effects),
                    None => Progress::Moving,
                };
                self.on_progress(progress, channel)?;
            }
            TaskEvent::SourceShort(request) => {
                let progress = match self.outgoing(request) {
                    Some(outgoing) => outgoing.on_source_short(),
                    None => Progress::Moving,
                };
                self.on_progress(progress, channel)?;
            }
            TaskEvent::Worked(..) | TaskEvent::Received(..) | TaskEvent::Drained | TaskEvent::Nudged => {}
        }
        self.advance(channel)
    }

    fn is_cancelled(&self) -> bool {
        self.ticket.job().is_cancelled()
    }

    fn fail(&mut self, failure: Failure) {
        self.ticket.end(Err(failure));
    }
}

impl Push {
    pub(crate) fn new(ticket: Ticket, copy: Arc<Copy>) -> Self {
        Self {
            ticket,
            copy,
            supplies: VecDeque::new(),
            fetching: false,
            exhausted: false,
            unanswered: HashMap::new(),
            sending: None,
            finishing: false,
            is_last: false,
        }
    }

    fn outgoing(&mut self, request: u32) -> Option<&mut Outgoing> {
        self.sending.as_mut().filter(|(sending, _)| *sending == request).map(|(_, outgoing)| outgoing)
    }

    /// Pushes on while the connection takes it.
    fn advance(&mut self, channel: &mut Channel<'_>) -> Result<Course, Failure> {
        while self.sending.is_none()
            && !channel.effects.is_congested()
            && self.unanswered.len() < REQUESTS_UNANSWERED_MAX
        {
            match self.supplies.pop_front() {
                Some(supply) => self.push(supply, channel),
                None => break,
            }
        }
        if self.supplies.len() < SUPPLIES_LOW && !self.exhausted && !self.fetching {
            self.fetching = true;
            let (copy, job) = (self.copy.clone(), self.ticket.job().clone());
            let key = channel.number();
            channel.effects.work(key, move || ClientOutcome::Supplied(copy.supply(&job)));
        }
        let is_quiet = self.exhausted
            && self.supplies.is_empty()
            && self.sending.is_none()
            && self.unanswered.is_empty();
        if !is_quiet {
            return Ok(Course::Running);
        }
        if !std::mem::replace(&mut self.finishing, true) {
            self.is_last = self.copy.pushing.fetch_sub(1, Ordering::SeqCst) == 1;
        }
        if self.is_last && self.set_attributes(channel) {
            return Ok(Course::Running);
        }
        self.ticket.end(Ok(()));
        Ok(Course::Finished)
    }

    /// Gives directories their attributes, the innermost first: what is written into one changes its time. False if all
    /// have theirs.
    fn set_attributes(&mut self, channel: &mut Channel<'_>) -> bool {
        let mut directories = self.copy.directories();
        let first = directories.len().saturating_sub(REQUESTS_UNANSWERED_MAX);
        for attributes in directories.drain(first..).rev() {
            let path = attributes.path.clone();
            let request = channel.request(&Frame::SetAttributes(attributes));
            self.unanswered.insert(request, Asked { path, kind: AskedKind::Attributes });
        }
        !self.unanswered.is_empty()
    }

    fn on_supplied(&mut self, supplies: Supplies) -> Result<(), Failure> {
        self.fetching = false;
        self.exhausted = supplies.exhausted;
        self.supplies.extend(supplies.ready);
        for failed in supplies.failures {
            self.ticket.job().file_failed(&failed.path, failed.failure)?;
        }
        Ok(())
    }

    fn push(&mut self, supply: Supply, channel: &mut Channel<'_>) {
        self.ticket.job().begin();
        match supply {
            Supply::Directory(make) => {
                let path = make.path.clone();
                let request = channel.request(&Frame::MakeDir(make));
                self.unanswered.insert(request, Asked { path, kind: AskedKind::Directory });
            }
            Supply::Link(link) => {
                let path = link.path.clone();
                let request = channel.request(&Frame::Symlink(link));
                self.unanswered.insert(request, Asked { path, kind: AskedKind::Link });
            }
            Supply::File { remote, opened } => self.push_file(remote, opened, channel),
        }
    }

    fn push_file(&mut self, path: RemotePath, opened: Opened, channel: &mut Channel<'_>) {
        let Opened { header, identity, content } = opened;
        let bytes = header.size;
        let request = channel.request(&Frame::Put(Put {
            path: path.clone(),
            size: Some(bytes),
            durable: self.copy.durable,
            digest: self.copy.digest,
            mode: header.mode,
            mtime: header.mtime,
            identity,
            sharing: Sharing::Alone,
        }));
        let digest = match content {
            Content::Small(content, digest) => {
                send_small(request, 0, &content, digest, channel.effects);
                channel.effects.send(request, &Frame::Commit { size: bytes });
                self.ticket.job().moved(bytes);
                Some(digest)
            }
            Content::Large(source) => {
                self.sending = Some((request, Outgoing::start(request, source, channel.effects)));
                None
            }
        };
        self.unanswered.insert(request, Asked { path, kind: AskedKind::File { bytes, digest } });
    }

    fn on_progress(&mut self, progress: Progress, channel: &mut Channel<'_>) -> Result<(), Failure> {
        if let Some((_, outgoing)) = &mut self.sending {
            self.ticket.job().moved(outgoing.take_moved_bytes());
        }
        if matches!(progress, Progress::Moving) {
            return Ok(());
        }
        let Some((request, _)) = self.sending.take() else { return Ok(()) };
        match progress {
            Progress::Complete(taken) => {
                if let Some(Asked { kind: AskedKind::File { bytes, digest }, .. }) =
                    self.unanswered.get_mut(&request)
                {
                    *digest = Some(taken);
                    let size = *bytes;
                    channel.effects.send(request, &Frame::Digest(taken));
                    channel.effects.send(request, &Frame::Commit { size });
                }
                Ok(())
            }
            Progress::Failed(failure) => {
                channel.effects.send(request, &Frame::Cancel);
                self.file_failed(request, failure)
            }
            Progress::Moving => Ok(()),
        }
    }

    /// The server refused a request. If its file is still being sent it is told that no more will come.
    fn on_refused(
        &mut self,
        request: u32,
        reply: ErrorReply,
        channel: &mut Channel<'_>,
    ) -> Result<(), Failure> {
        if self.sending.as_ref().is_some_and(|(sending, _)| *sending == request) {
            self.sending = None;
            channel.effects.send(request, &Frame::Cancel);
        }
        self.file_failed(request, reply.into())
    }

    /// Counts the failure; a request that has failed before, and was answered after all, counts no more.
    fn file_failed(&mut self, request: u32, failure: Failure) -> Result<(), Failure> {
        match self.unanswered.remove(&request) {
            Some(asked) => self.ticket.job().file_failed(asked.path.as_str(), failure),
            None => Ok(()),
        }
    }
}
