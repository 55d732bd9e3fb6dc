//! Pulls one copy of what is to be pulled, or one connection's share of it.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use xferd_engine::{DiskOutcome, Failure, Incoming, lock};
use xferd_os::HashMap;
use xferd_store::{FileAttributes, Store, StoreError};
use xferd_wire::{Committed, DigestAlgorithm, EntryKind, FileHeader, Frame, Get, LinkTarget, RemotePath};

use crate::job::Ticket;
use crate::same::{COMPARISONS_MAX, Compare, Comparison};
use crate::task::{Channel, ClientOutcome, Course, Task, TaskEvent, unexpected};

/// Requests of one connection that are under way: several times as many as a server works on before it stops reading, so
/// that it finds the next ones there when it has answered those.
const REQUESTS_UNANSWERED_MAX: usize = 256;

/// One copy of what is pulled, shared by the connections that pull it.
pub(crate) struct Copy {
    wanted: Mutex<VecDeque<Wanted>>,
    directories: Mutex<Vec<(Arc<Store>, RemotePath, FileAttributes)>>,
    pulling: AtomicUsize,
    manner: Manner,
}

/// How files are pulled.
#[derive(Clone, Copy)]
pub(crate) struct Manner {
    pub(crate) digest: DigestAlgorithm,
    pub(crate) durable: bool,
    pub(crate) compare: Compare,
    /// Nothing is pulled, only counted.
    pub(crate) dry_run: bool,
}

/// Something to pull.
pub(crate) struct Wanted {
    /// Where it is on the server.
    pub(crate) remote: RemotePath,
    /// The local tree it goes into, and where in it.
    pub(crate) store: Arc<Store>,
    pub(crate) local: RemotePath,
    pub(crate) kind: WantedKind,
}

pub(crate) enum WantedKind {
    File,
    /// A file that may be there; digests have to tell.
    Doubtful(Unchanged),
    /// A file whose content is there, and not its attributes.
    Unchanged(Unchanged),
    Directory {
        attributes: FileAttributes,
        is_there: bool,
    },
    Link {
        target: LinkTarget,
    },
}

/// What there is to do about a file whose content is there.
#[derive(Clone, Copy)]
pub(crate) struct Unchanged {
    pub(crate) size: u64,
    pub(crate) attributes: FileAttributes,
    pub(crate) has_attributes: bool,
}

impl Copy {
    pub(crate) fn new(wanted: Vec<Wanted>, streams: usize, manner: Manner) -> Arc<Self> {
        Arc::new(Self {
            wanted: Mutex::new(wanted.into()),
            directories: Mutex::default(),
            pulling: AtomicUsize::new(streams),
            manner,
        })
    }

    fn next_wanted(&self) -> Option<Wanted> {
        lock(&self.wanted).pop_front()
    }
}

/// One connection's share.
pub(crate) struct Pull {
    ticket: Ticket,
    copy: Arc<Copy>,
    unanswered: HashMap<u32, Asked>,
    /// The file whose staging file is being made: nothing is read meanwhile.
    staging: Option<u32>,
    /// The file whose extent comes by [`Task::on_raw`].
    gathering: Option<u32>,
    finishing: bool,
}

struct Asked {
    remote: RemotePath,
    state: AskedState,
}

enum AskedState {
    /// A file that was asked for.
    File {
        store: Arc<Store>,
        local: RemotePath,
    },
    /// A file that is arriving.
    Arriving {
        incoming: Box<Incoming>,
        header: FileHeader,
    },
    /// A file that failed here; the server was told.
    GivenUp,
    /// A file that is being stored.
    Committing(Committed),
    /// A file whose content is compared with that of the one that is there.
    Comparing {
        store: Arc<Store>,
        local: RemotePath,
        file: Unchanged,
        comparison: Comparison,
    },
    /// A file of so many bytes whose content is there gets its attributes.
    Unchanged(u64),
    Directory,
    Link,
    Attributes,
}

impl Task for Pull {
    fn start(&mut self, channel: &mut Channel<'_>) -> Result<Course, Failure> {
        channel.check_digest(self.copy.manner.digest)?;
        self.copy.manner.compare.check(self.copy.manner.digest, channel)?;
        self.ticket.job().begin();
        self.advance(channel)
    }

    fn on_frame(&mut self, request: u32, frame: Frame, channel: &mut Channel<'_>) -> Result<Course, Failure> {
        if matches!(self.unanswered.get(&request), Some(Asked { state: AskedState::GivenUp, .. })) {
            match frame {
                Frame::Extent { len, .. } => channel.effects.discard(len),
                // Either it was cancelled in time, or it had all been sent.
                Frame::Error(_) | Frame::End => {
                    self.unanswered.remove(&request);
                }
                _ => {}
            }
            return self.advance(channel);
        }
        if let Some(Asked { state: AskedState::Comparing { comparison, .. }, .. }) =
            self.unanswered.get_mut(&request)
        {
            comparison.on_frame(frame)?;
            self.on_compared(request, channel);
            return self.advance(channel);
        }
        match frame {
            Frame::File(header) => self.on_file(request, header, channel)?,
            Frame::Extent { offset, len } => {
                let (incoming, start) = self.arriving(request)?;
                let begun = match offset.checked_sub(start) {
                    Some(offset) => incoming.extent(offset, len, channel.effects),
                    None => Err(Failure::protocol("an extent before the range that was asked for")),
                };
                let gathers = begun.is_ok() && incoming.gathering() > 0;
                if gathers {
                    self.gathering = Some(request);
                    self.ticket.job().moved(len);
                } else if begun.is_err() {
                    channel.effects.discard(len);
                }
                self.give_up_if_failed(request, begun, channel)?;
            }
            Frame::Digest(digest) => {
                let checked = self.arriving(request)?.0.digest(&digest);
                self.give_up_if_failed(request, checked, channel)?;
            }
            Frame::End => self.on_end(request, channel)?,
            Frame::Error(reply) => {
                let Some(asked) = self.unanswered.remove(&request) else { return self.advance(channel) };
                self.ticket.job().file_failed(asked.remote.as_str(), reply.into())?;
            }
            _ => return Err(unexpected(&frame)),
        }
        self.advance(channel)
    }

    fn on_event(&mut self, event: TaskEvent, channel: &mut Channel<'_>) -> Result<Course, Failure> {
        match event {
            TaskEvent::Worked(request, ClientOutcome::Disk(DiskOutcome::Staged(result))) => {
                self.staging = None;
                if let Ok((incoming, _)) = self.arriving(request) {
                    let staged = incoming.on_staged(result);
                    self.give_up_if_failed(request, staged, channel)?;
                }
            }
            TaskEvent::Worked(request, ClientOutcome::Hashed(result)) => {
                if let Some(Asked { state: AskedState::Comparing { comparison, .. }, .. }) =
                    self.unanswered.get_mut(&request)
                {
                    comparison.on_hashed(request, result, channel);
                    self.on_compared(request, channel);
                }
            }
            TaskEvent::Written(bytes) => self.ticket.job().moved(bytes),
            TaskEvent::Received(request, hasher, result) => {
                if let Ok((incoming, _)) = self.arriving(request) {
                    let received = incoming.on_received(hasher, result);
                    self.give_up_if_failed(request, received, channel)?;
                }
            }
            TaskEvent::Worked(
                request,
                ClientOutcome::Disk(DiskOutcome::Committed(result)) | ClientOutcome::Done(result),
            ) => {
                self.on_done(request, result)?;
            }
            _ => {}
        }
        self.advance(channel)
    }

    fn raw_due(&self) -> u64 {
        match self.gathering.and_then(|request| self.unanswered.get(&request)) {
            Some(Asked { state: AskedState::Arriving { incoming, .. }, .. }) => incoming.gathering(),
            _ => 0,
        }
    }

    fn on_raw(&mut self, bytes: &[u8]) -> usize {
        let Some(request) = self.gathering else { return 0 };
        let Ok((incoming, _)) = self.arriving(request) else { return 0 };
        let taken = incoming.gather(bytes);
        if incoming.gathering() == 0 {
            self.gathering = None;
        }
        taken
    }

    fn wants_bytes(&self) -> bool {
        self.staging.is_none()
    }

    fn is_cancelled(&self) -> bool {
        self.ticket.job().is_cancelled()
    }

    fn fail(&mut self, failure: Failure) {
        self.ticket.end(Err(failure));
    }
}

impl Pull {
    pub(crate) fn new(ticket: Ticket, copy: Arc<Copy>) -> Self {
        Self {
            ticket,
            copy,
            unanswered: HashMap::default(),
            staging: None,
            gathering: None,
            finishing: false,
        }
    }

    /// Asks for more while there is more to ask for.
    fn advance(&mut self, channel: &mut Channel<'_>) -> Result<Course, Failure> {
        let max = match self.copy.manner.compare {
            Compare::Contents => COMPARISONS_MAX,
            Compare::Times | Compare::Nothing => REQUESTS_UNANSWERED_MAX,
        };
        while self.unanswered.len() < max {
            let Some(wanted) = self.copy.next_wanted() else { break };
            self.ask(wanted, channel);
        }
        if !self.unanswered.is_empty() {
            return Ok(Course::Running);
        }
        if !std::mem::replace(&mut self.finishing, true)
            && self.copy.pulling.fetch_sub(1, Ordering::SeqCst) == 1
        {
            self.set_attributes(channel);
            if !self.unanswered.is_empty() {
                return Ok(Course::Running);
            }
        }
        self.ticket.end(Ok(()));
        Ok(Course::Finished)
    }

    fn ask(&mut self, wanted: Wanted, channel: &mut Channel<'_>) {
        let Wanted { remote, store, local, kind } = wanted;
        let (request, state) = match kind {
            WantedKind::File => {
                let digest = self.copy.manner.digest;
                let get = Frame::Get(Get { path: remote.clone(), start: 0, end: None, digest });
                (channel.request(&get), AskedState::File { store, local })
            }
            WantedKind::Doubtful(file) => {
                let digest = self.copy.manner.digest;
                let (request, comparison) = Comparison::begin(&remote, &store, &local, digest, channel);
                (request, AskedState::Comparing { store, local, file, comparison })
            }
            WantedKind::Unchanged(Unchanged { size, attributes, .. }) => {
                let request = channel.number();
                channel
                    .effects
                    .work(request, move || ClientOutcome::Done(store.set_attributes(&local, &attributes)));
                (request, AskedState::Unchanged(size))
            }
            WantedKind::Directory { attributes, is_there } => {
                let mode = attributes.mode;
                lock(&self.copy.directories).push((store.clone(), local.clone(), attributes));
                if is_there {
                    return;
                }
                let request = channel.number();
                // Writable for its owner until everything is in it.
                channel
                    .effects
                    .work(request, move || ClientOutcome::Done(store.make_dir(&local, mode | 0o700, true)));
                (request, AskedState::Directory)
            }
            WantedKind::Link { target } => {
                let request = channel.number();
                channel.effects.work(request, move || ClientOutcome::Done(store.symlink(&local, &target)));
                (request, AskedState::Link)
            }
        };
        self.unanswered.insert(request, Asked { remote, state });
    }

    /// One side more of a comparison is done, or not yet.
    fn on_compared(&mut self, request: u32, channel: &mut Channel<'_>) {
        let Some(Asked { remote, state }) = self.unanswered.remove(&request) else { return };
        let AskedState::Comparing { store, local, file, comparison } = state else { return };
        match comparison.is_same() {
            None => {
                let state = AskedState::Comparing { store, local, file, comparison };
                self.unanswered.insert(request, Asked { remote, state });
            }
            Some(true) if file.has_attributes || self.copy.manner.dry_run => {
                self.ticket.job().unchanged(file.size);
            }
            Some(false) if self.copy.manner.dry_run => {
                self.ticket.job().rehearsed(EntryKind::File, file.size);
            }
            Some(is_same) => {
                let kind = if is_same { WantedKind::Unchanged(file) } else { WantedKind::File };
                self.ask(Wanted { remote, store, local, kind }, channel);
            }
        }
    }

    fn on_file(
        &mut self,
        request: u32,
        header: FileHeader,
        channel: &mut Channel<'_>,
    ) -> Result<(), Failure> {
        let gather = self.gathering.is_none();
        let Some(asked) = self.unanswered.get_mut(&request) else {
            return Err(unexpected(&Frame::File(header)));
        };
        let AskedState::File { store, local } = &asked.state else {
            return Err(unexpected(&Frame::File(header)));
        };
        let Some(size) = header.end.checked_sub(header.start) else {
            return Err(Failure::protocol("the server announced a file that ends before it begins"));
        };
        let (store, local) = (store.clone(), local.clone());
        let mut incoming =
            Box::new(Incoming::new(request, store, local, Some(size), self.copy.manner.digest, gather));
        incoming.start(channel.effects);
        if incoming.is_waiting() {
            self.staging = Some(request);
        }
        asked.state = AskedState::Arriving { incoming, header };
        Ok(())
    }

    /// The file whose bytes come under `request`, and where the range that was asked for begins.
    fn arriving(&mut self, request: u32) -> Result<(&mut Incoming, u64), Failure> {
        match self.unanswered.get_mut(&request) {
            Some(Asked { state: AskedState::Arriving { incoming, header }, .. }) => {
                Ok((incoming, header.start))
            }
            _ => Err(Failure::protocol(format!(
                "the server sent bytes for request {request}, which asked for none"
            ))),
        }
    }

    fn on_end(&mut self, request: u32, channel: &mut Channel<'_>) -> Result<(), Failure> {
        let durable = self.copy.manner.durable;
        let Some(asked) = self.unanswered.get_mut(&request) else { return Err(unexpected(&Frame::End)) };
        let AskedState::Arriving { incoming, header } = &mut asked.state else {
            return Err(unexpected(&Frame::End));
        };
        let bytes = header.end.saturating_sub(header.start);
        let attributes = FileAttributes { mode: header.mode, mtime: header.mtime };
        let write_path = incoming.write_path();
        match incoming.commit(bytes, attributes, durable, channel.effects) {
            Ok(digest) => {
                asked.state = AskedState::Committing(Committed { size: bytes, write_path, digest });
            }
            Err(failure) => {
                let path = asked.remote.clone();
                self.unanswered.remove(&request);
                self.ticket.job().file_failed(path.as_str(), failure)?;
            }
        }
        Ok(())
    }

    fn on_done(&mut self, request: u32, result: Result<(), StoreError>) -> Result<(), Failure> {
        let Some(asked) = self.unanswered.remove(&request) else { return Ok(()) };
        let job = self.ticket.job();
        match (result, asked.state) {
            (Err(error), _) => job.file_failed(asked.remote.as_str(), error.into())?,
            (Ok(()), AskedState::Committing(stored)) => job.stored_file(stored),
            (Ok(()), AskedState::Unchanged(bytes)) => job.unchanged(bytes),
            (Ok(()), AskedState::Directory) => job.stored_directory(),
            (Ok(()), AskedState::Link) => job.stored_link(),
            (Ok(()), _) => {}
        }
        Ok(())
    }

    /// A step of a file failed here: the server is told to send no more of it.
    fn give_up_if_failed(
        &mut self,
        request: u32,
        result: Result<(), Failure>,
        channel: &mut Channel<'_>,
    ) -> Result<(), Failure> {
        let Err(failure) = result else { return Ok(()) };
        let Some(asked) = self.unanswered.get_mut(&request) else { return Ok(()) };
        asked.state = AskedState::GivenUp;
        let path = asked.remote.clone();
        channel.effects.send(request, &Frame::Cancel);
        self.ticket.job().file_failed(path.as_str(), failure)
    }

    /// Gives directories their attributes, the innermost first: what is written into one changes its time.
    fn set_attributes(&mut self, channel: &mut Channel<'_>) {
        let directories = std::mem::take(&mut *lock(&self.copy.directories));
        for (store, path, attributes) in directories.into_iter().rev() {
            let request = channel.number();
            let remote = path.clone();
            channel
                .effects
                .work(request, move || ClientOutcome::Done(store.set_attributes(&path, &attributes)));
            self.unanswered.insert(request, Asked { remote, state: AskedState::Attributes });
        }
    }
}
