//! Pushes one connection's share of a copy of what is to be pushed.

mod copy;
mod inquiry;

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use xferd_engine::{Content, DiskOutcome, Failure, Opened, Outgoing, Progress, lock, send_small};
use xferd_os::{HashMap, HashSet};
use xferd_store::FileAttributes;
use xferd_wire::{Digest, ErrorCode, ErrorReply, Frame, RemotePath, SetAttributes, Sharing};

pub(crate) use self::copy::{Copy, Manner, Supplies};
use self::inquiry::{Finding, Inquiry};
use crate::job::Ticket;
use crate::sources::{Found, LocalFile, Portion, Supply};
use crate::stripe::{Step, Stripe, Striper};
use crate::task::{Channel, ClientOutcome, Course, Task, TaskEvent, unexpected};

/// Requests of one connection that wait for an answer: several of the batches that a server stores together, so that it
/// finds the next one there when it has answered the last.
const REQUESTS_UNANSWERED_MAX: usize = 1024;

/// Connections in a row that a share of a copy is tried on in vain, some 30 s in all.
const RECONNECTS_MAX: u32 = 10;

/// How long the first of them is waited for, which doubles from one to the next, and at most.
const RECONNECT_PAUSE_MIN: Duration = Duration::from_millis(100);
const RECONNECT_PAUSE_MAX: Duration = Duration::from_secs(5);

/// With fewer supplies than this the next handful is fetched.
const SUPPLIES_LOW: usize = 64;

/// Entries that one connection has found, and not yet found to be there or opened: enough of them to have questions on
/// their way all the time, across continents, too.
const DOUBTFUL_MAX: usize = 1024;

/// One connection's share.
pub(crate) struct Push {
    ticket: Ticket,
    copy: Arc<Copy>,
    supplies: VecDeque<Supply>,
    fetching: bool,
    exhausted: bool,
    /// What may be there already.
    doubtful: Inquiry,
    /// Files that are not there, and are to be opened.
    missing: VecDeque<LocalFile>,
    opening: bool,
    unanswered: HashMap<u32, Asked>,
    sending: Option<(u32, Outgoing)>,
    striper: Option<Striper>,
    /// Requests that were given up, and not answered yet.
    detaching: HashSet<u32>,
    /// Connections that this share was on in vain since something of it was acknowledged.
    attempts: u32,
    /// Nothing is begun any more: it goes on after a while, perhaps on another connection.
    resting: bool,
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
    File {
        bytes: u64,
        digest: Option<Digest>,
    },
    Directory,
    Link,
    Attributes,
    /// The attributes of a file of so many bytes that is there already.
    UnchangedFile(u64),
}

impl Task for Push {
    fn start(&mut self, channel: &mut Channel<'_>) -> Result<Course, Failure> {
        channel.check_digest(self.copy.manner.digest)?;
        self.copy.manner.compare.check(self.copy.manner.digest, channel)?;
        if self.copy.manner.resume && !channel.transfers {
            let message = "the server cannot resume; update it, or push without --resume (resume: true)";
            return Err(Failure::new(ErrorCode::Unsupported, message));
        }
        self.advance(channel)
    }

    fn on_frame(&mut self, request: u32, frame: Frame, channel: &mut Channel<'_>) -> Result<Course, Failure> {
        if let Some(striper) = self.striper.as_mut().filter(|striper| striper.request() == request) {
            let step = match frame {
                Frame::Have(have) => {
                    let step = striper.on_have(have, self.ticket.job(), channel)?;
                    if striper.has_gained() {
                        self.attempts = 0;
                    }
                    step
                }
                Frame::Committed(committed) => striper.on_committed(committed)?,
                Frame::Error(reply) => striper.on_refused(reply.into()),
                _ => return Err(unexpected(&frame)),
            };
            self.on_step(step, channel)?;
            return self.advance(channel);
        }
        if self.doubtful.asks(request) {
            let finding = self.doubtful.on_frame(request, frame, &self.copy, self.ticket.job(), channel)?;
            self.on_finding(finding, channel);
            return self.advance(channel);
        }
        match frame {
            // What was on its way when the request was given up.
            Frame::Have(_) if self.detaching.contains(&request) => {}
            Frame::Error(_) if self.detaching.remove(&request) => {}
            Frame::Committed(committed) => {
                let Some(Asked { path, kind: AskedKind::File { bytes, digest } }) =
                    self.unanswered.remove(&request)
                else {
                    return Err(unexpected(&frame));
                };
                if committed.size != bytes || digest != Some(committed.digest) {
                    return Err(Failure::protocol(format!("{path}: the server acknowledged something else")));
                }
                self.ticket.job().stored_file(committed);
            }
            Frame::Done => match self.unanswered.remove(&request).map(|asked| asked.kind) {
                Some(AskedKind::Directory) => self.ticket.job().stored_directory(),
                Some(AskedKind::Link) => self.ticket.job().stored_link(),
                Some(AskedKind::Attributes) => {}
                Some(AskedKind::UnchangedFile(bytes)) => self.ticket.job().unchanged(bytes),
                Some(AskedKind::File { .. }) | None => return Err(unexpected(&frame)),
            },
            Frame::Error(reply) => self.on_refused(request, reply, channel)?,
            _ => return Err(unexpected(&frame)),
        }
        self.advance(channel)
    }

    fn on_event(&mut self, event: TaskEvent, channel: &mut Channel<'_>) -> Result<Course, Failure> {
        match event {
            TaskEvent::Worked(_, ClientOutcome::Supplied(supplies)) => {
                self.fetching = false;
                self.exhausted = supplies.exhausted;
                self.on_supplied(supplies)?;
            }
            TaskEvent::Worked(_, ClientOutcome::Opened(supplies)) => {
                self.opening = false;
                self.on_supplied(supplies)?;
            }
            TaskEvent::Worked(request, ClientOutcome::Hashed(result)) => {
                let finding = self.doubtful.on_hashed(request, result, channel);
                self.on_finding(finding, channel);
            }
            TaskEvent::Worked(request, ClientOutcome::Disk(outcome)) if self.stripes(request) => {
                let step = match (&mut self.striper, outcome) {
                    (Some(striper), DiskOutcome::Hashed(result)) => striper.on_hashed(result, channel),
                    (Some(striper), DiskOutcome::Verified(result)) => striper.on_verified(result, channel),
                    _ => Step::Going,
                };
                self.on_step(step, channel)?;
            }
            TaskEvent::SourceShort(request) if self.stripes(request) => {
                if let Some(step) = self.striper.as_ref().map(Striper::on_source_short) {
                    self.on_step(step, channel)?;
                }
            }
            TaskEvent::Nudged if self.striper.as_ref().is_some_and(|it| it.stripe().is_over()) => {
                self.part(true, channel);
            }
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
            TaskEvent::Sent(request, bytes) => {
                let progress = match self.outgoing(request) {
                    Some(outgoing) => {
                        let progress = outgoing.on_sent(bytes, channel.effects);
                        self.ticket.job().moved(bytes);
                        progress
                    }
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
            TaskEvent::Worked(..)
            | TaskEvent::Written(..)
            | TaskEvent::Received(..)
            | TaskEvent::Drained
            | TaskEvent::Nudged => {}
        }
        self.advance(channel)
    }

    fn is_cancelled(&self) -> bool {
        self.ticket.job().is_cancelled()
    }

    fn fail(&mut self, failure: Failure) {
        if let Some(mut striper) = self.striper.take() {
            striper.leave();
            self.ticket.job().nudge();
        }
        let result = self.outlive(failure);
        self.ticket.end(result);
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
            doubtful: Inquiry::default(),
            missing: VecDeque::new(),
            opening: false,
            unanswered: HashMap::default(),
            sending: None,
            striper: None,
            detaching: HashSet::default(),
            attempts: 0,
            resting: false,
            finishing: false,
            is_last: false,
        }
    }

    /// Whether `request` is about the file that it helps with.
    fn stripes(&self, request: u32) -> bool {
        self.striper.as_ref().is_some_and(|striper| striper.request() == request)
    }

    /// What becomes of its share if the connection is gone: another takes it up, unless there was more than extents on it,
    /// which are known to be there or not, or it has been tried too often.
    fn outlive(&mut self, failure: Failure) -> Result<(), Failure> {
        use ErrorCode::{Busy, ConnectionLost, ConnectionRefused, ShuttingDown, Timeout};
        let is_passing =
            matches!(failure.code, Busy | ConnectionLost | ConnectionRefused | ShuttingDown | Timeout);
        self.doubtful.take_back();
        let is_bare = self.unanswered.is_empty() && !self.fetching && !self.opening && !self.finishing;
        if !is_passing || !is_bare || !self.copy.has_stripes() {
            return Err(failure);
        }
        if self.attempts < RECONNECTS_MAX {
            self.hand_on();
            return Ok(());
        }
        if self.copy.leave() > 0 && self.has_nothing() { Ok(()) } else { Err(failure) }
    }

    /// Has its share taken up again after a while.
    fn hand_on(&mut self) {
        let mut heir = Self::new(self.ticket.job().ticket(), self.copy.clone());
        heir.supplies = std::mem::take(&mut self.supplies);
        heir.doubtful = std::mem::take(&mut self.doubtful);
        heir.missing = std::mem::take(&mut self.missing);
        heir.exhausted = self.exhausted;
        heir.attempts = self.attempts + 1;
        let pause = RECONNECT_PAUSE_MIN.saturating_mul(1 << self.attempts.min(16)).min(RECONNECT_PAUSE_MAX);
        self.copy.dispatcher.assign_after(pause, heir);
    }

    /// Whether nothing that was found is left to it.
    fn has_nothing(&self) -> bool {
        self.supplies.is_empty() && self.doubtful.len() == 0 && self.missing.is_empty()
    }

    /// Sees what became of the file it helps with.
    fn on_step(&mut self, step: Step, channel: &mut Channel<'_>) -> Result<(), Failure> {
        let Some(striper) = &self.striper else { return Ok(()) };
        let stripe = striper.stripe().clone();
        match step {
            Step::Going => return Ok(()),
            Step::Idle { is_open } => self.part(is_open, channel),
            Step::Rest => {
                self.part(true, channel);
                self.resting = true;
            }
            Step::Refused(_) if self.attempts < RECONNECTS_MAX => {
                self.part(false, channel);
                self.resting = true;
            }
            Step::Refused(failure) => return self.fail_stripe(&stripe, failure, false, channel),
            Step::Stored(committed) => {
                self.ticket.job().stored_file(committed);
                self.copy.end_stripe(&stripe);
                self.part(false, channel);
            }
            Step::Failed { failure, is_open } => {
                return self.fail_stripe(&stripe, failure, is_open, channel);
            }
        }
        Ok(())
    }

    /// The file cannot be stored. Only the first who finds out tells.
    fn fail_stripe(
        &mut self,
        stripe: &Arc<Stripe>,
        failure: Failure,
        is_open: bool,
        channel: &mut Channel<'_>,
    ) -> Result<(), Failure> {
        let is_first = !stripe.is_over();
        self.copy.end_stripe(stripe);
        self.part(is_open, channel);
        if is_first { self.ticket.job().file_failed(stripe.path().as_str(), failure) } else { Ok(()) }
    }

    /// Helps no more with the file; if the request for it is open, it is given up.
    fn part(&mut self, is_open: bool, channel: &mut Channel<'_>) {
        let Some(mut striper) = self.striper.take() else { return };
        striper.leave();
        self.ticket.job().nudge();
        if is_open {
            channel.effects.send(striper.request(), &Frame::Cancel);
            self.detaching.insert(striper.request());
        }
    }

    fn outgoing(&mut self, request: u32) -> Option<&mut Outgoing> {
        self.sending.as_mut().filter(|(sending, _)| *sending == request).map(|(_, outgoing)| outgoing)
    }

    /// Pushes on while the connection takes it.
    fn advance(&mut self, channel: &mut Channel<'_>) -> Result<Course, Failure> {
        while self.sending.is_none()
            && self.striper.is_none()
            && !self.resting
            && !channel.effects.is_congested()
            && self.unanswered.len() < REQUESTS_UNANSWERED_MAX
        {
            match self.supplies.pop_front() {
                Some(supply) => self.push(supply, channel),
                None => break,
            }
        }
        if !self.resting {
            let room = REQUESTS_UNANSWERED_MAX.saturating_sub(self.unanswered.len());
            self.doubtful.ask(room, self.copy.manner.compare, channel);
        }
        let has_room = self.supplies.len() < SUPPLIES_LOW && self.copy.wants_stripes();
        if has_room && !self.resting {
            self.fetch(channel);
            self.open(channel);
        }
        let is_free = self.sending.is_none() && self.striper.is_none() && self.supplies.is_empty();
        if is_free && !self.resting {
            self.striper = self.copy.join(channel);
            if self.striper.is_some() {
                self.ticket.job().begin();
            }
        }
        let is_bare = self.striper.is_none()
            && self.detaching.is_empty()
            && self.unanswered.is_empty()
            && !self.doubtful.is_waiting();
        if self.resting && is_bare && !self.fetching && !self.opening {
            self.hand_on();
            self.ticket.end(Ok(()));
            return Ok(Course::Finished);
        }
        let is_quiet = self.exhausted
            && !self.opening
            && self.has_nothing()
            && self.sending.is_none()
            && is_bare
            && self.copy.is_settled()
            && !self.copy.has_stripes();
        if !is_quiet {
            return Ok(Course::Running);
        }
        if !std::mem::replace(&mut self.finishing, true) {
            self.is_last = self.copy.leave() == 0;
        }
        if self.is_last && self.set_attributes(channel) {
            return Ok(Course::Running);
        }
        self.ticket.end(Ok(()));
        Ok(Course::Finished)
    }

    /// Has the next handful found.
    fn fetch(&mut self, channel: &mut Channel<'_>) {
        let doubtful = self.doubtful.len() + self.missing.len();
        let must_wait = doubtful >= DOUBTFUL_MAX || self.copy.awaits_answer();
        if self.fetching || self.exhausted || must_wait {
            return;
        }
        self.fetching = true;
        let (copy, job, transfers) = (self.copy.clone(), self.ticket.job().clone(), channel.transfers);
        let key = channel.number();
        channel.effects.work(key, move || ClientOutcome::Supplied(copy.supply(&job, transfers)));
    }

    /// Has some of the files that are not there opened.
    fn open(&mut self, channel: &mut Channel<'_>) {
        if self.opening || self.missing.is_empty() {
            return;
        }
        self.opening = true;
        let mut portion = Portion::default();
        let mut found = Vec::new();
        while !portion.is_full() {
            let Some(file) = self.missing.pop_front() else { break };
            portion.add(file.size);
            found.push(Found::File(file));
        }
        let (copy, job, transfers) = (self.copy.clone(), self.ticket.job().clone(), channel.transfers);
        let key = channel.number();
        channel.effects.work(key, move || ClientOutcome::Opened(copy.open(found, &job, transfers)));
    }

    /// Sees what became of something that may have been there already.
    fn on_finding(&mut self, finding: Option<Finding>, channel: &mut Channel<'_>) {
        match finding {
            Some(Finding::There) => self.copy.settle(1, self.ticket.job()),
            Some(Finding::SameContent { file, has_attributes }) => {
                self.on_same(&file, has_attributes, channel);
            }
            Some(Finding::Differs(found)) => self.on_differing(found),
            None => {}
        }
    }

    /// The content of a file is there: it gets its attributes, unless it has them.
    fn on_same(&mut self, file: &LocalFile, has_attributes: bool, channel: &mut Channel<'_>) {
        let job = self.ticket.job();
        if has_attributes || self.copy.manner.dry_run {
            job.unchanged(file.size);
        } else {
            let (path, FileAttributes { mode, mtime }) = (file.remote.clone(), file.attributes);
            let set = SetAttributes { path: path.clone(), mode, mtime };
            let request = channel.request(&Frame::SetAttributes(set));
            self.unanswered.insert(request, Asked { path, kind: AskedKind::UnchangedFile(file.size) });
        }
        self.copy.settle(1, job);
    }

    /// It is to be pushed, which changes the directory that it goes into.
    fn on_differing(&mut self, found: Found) {
        lock(&self.copy.directories).changed.extend(found.remote().parent());
        match found {
            Found::File(file) => return self.missing.push_back(file),
            found if self.copy.manner.dry_run => found.rehearse(self.ticket.job()),
            Found::Directory(attributes) => self.supplies.push_back(Supply::directory(&attributes)),
            Found::Link(link) => self.supplies.push_back(Supply::Link(link)),
        }
        self.copy.settle(1, self.ticket.job());
    }

    /// Gives directories their attributes, the innermost first: what is written into one changes its time, and one that
    /// nobody may enter is the last to be closed. False if all have theirs.
    fn set_attributes(&mut self, channel: &mut Channel<'_>) -> bool {
        if self.copy.manner.dry_run {
            return false;
        }
        for attributes in self.copy.take_attributes(REQUESTS_UNANSWERED_MAX) {
            let path = attributes.path.clone();
            let request = channel.request(&Frame::SetAttributes(attributes));
            self.unanswered.insert(request, Asked { path, kind: AskedKind::Attributes });
        }
        !self.unanswered.is_empty()
    }

    fn on_supplied(&mut self, supplies: Supplies) -> Result<(), Failure> {
        if self.copy.has_stripes() {
            self.ticket.job().nudge();
        }
        self.supplies.extend(supplies.ready);
        self.doubtful.extend(supplies.doubtful);
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
        let put = self.copy.manner.announce(path.clone(), &header, identity, Sharing::Alone);
        let request = channel.request(&Frame::Put(put));
        let digest = match content {
            Content::Small(content, digest) => {
                send_small(request, 0, content, digest, channel.effects);
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
