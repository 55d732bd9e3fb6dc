//! Pushes one copy of what is to be pushed, or one connection's share of it.

use std::cmp::Reverse;
use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use xferd_engine::{
    Content, DiskOutcome, EXTENT_BYTES, Failure, Opened, Outgoing, Progress, lock, send_small,
};
use xferd_os::{HashMap, HashSet};
use xferd_store::FileAttributes;
use xferd_wire::{
    Digest, DigestAlgorithm, Entry, ErrorCode, ErrorReply, FileHeader, Frame, Identity, Put, RemotePath,
    SetAttributes, Sharing,
};

use crate::dispatcher::Dispatcher;
use crate::job::{FileFailure, Job, Ticket};
use crate::same::{COMPARISONS_MAX, Compare, Comparison, Verdict, has_attributes, is_directory, is_link_to};
use crate::sources::{Found, LocalFile, Opener, Portion, Supply, Walk};
use crate::stripe::{STRIPE_BYTES_MIN, Step, Stripe, Striper};
use crate::task::{Channel, ClientOutcome, Course, Task, TaskEvent, unexpected};

/// Requests of one connection that wait for an answer: several of the batches that a server stores together, so that it
/// finds the next one there when it has answered the last.
const REQUESTS_UNANSWERED_MAX: usize = 1024;

/// Large files of one copy that are open to be sent together; the next one is looked for when there are fewer.
const STRIPES_MAX: usize = 4;

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

/// What is ready to be pushed, or to be asked about.
#[derive(Default)]
pub(crate) struct Supplies {
    ready: Vec<Supply>,
    doubtful: Vec<Found>,
    failures: Vec<FileFailure>,
    /// There is nothing more.
    exhausted: bool,
}

/// One copy of what is pushed, shared by the connections that push it.
pub(crate) struct Copy {
    walk: Mutex<Walk>,
    directories: Mutex<Directories>,
    opener: Opener,
    /// Entries that were found, and neither found to be there nor made ready to be pushed.
    unsettled: AtomicUsize,
    /// The directory that the server is being asked about before its content is looked at.
    doubtful_root: Mutex<Option<RemotePath>>,
    /// Large files that its connections send together.
    stripes: Mutex<Vec<Arc<Stripe>>>,
    /// Connections that still push.
    pushing: AtomicUsize,
    dispatcher: Dispatcher,
    manner: Manner,
}

/// What is known of directories on the server.
#[derive(Default)]
struct Directories {
    /// What they get once everything is in them.
    attributes: Vec<SetAttributes>,
    /// Those that are not there, or were not: nor is what belongs into them.
    new: HashSet<RemotePath>,
    /// Those that have their attributes, unless something was put into them.
    finished: HashSet<RemotePath>,
    /// Those that were there and had something put into them.
    changed: HashSet<RemotePath>,
}

/// How files are pushed.
#[derive(Clone, Copy)]
pub(crate) struct Manner {
    pub(crate) digest: DigestAlgorithm,
    pub(crate) durable: bool,
    pub(crate) streams: usize,
    pub(crate) resume: bool,
    pub(crate) compare: Compare,
    /// Nothing is pushed, only counted.
    pub(crate) dry_run: bool,
}

impl Manner {
    /// Whether a file of `size` bytes is sent as a transfer. One extent is proven as a whole or not at all: there is nothing
    /// to resume in a file of one.
    fn shares(&self, size: u64) -> bool {
        let resumable = self.resume && size > EXTENT_BYTES;
        resumable || (self.streams > 1 && size >= STRIPE_BYTES_MIN)
    }

    fn announce(&self, path: RemotePath, header: &FileHeader, identity: Identity, sharing: Sharing) -> Put {
        Put {
            path,
            size: Some(header.size),
            durable: self.durable,
            digest: self.digest,
            mode: header.mode,
            mtime: header.mtime,
            identity,
            sharing,
        }
    }
}

impl Copy {
    pub(crate) fn new(walk: Walk, opener: Opener, dispatcher: Dispatcher, manner: Manner) -> Arc<Self> {
        Arc::new(Self {
            walk: Mutex::new(walk),
            directories: Mutex::default(),
            opener,
            unsettled: AtomicUsize::new(0),
            doubtful_root: Mutex::default(),
            stripes: Mutex::default(),
            pushing: AtomicUsize::new(manner.streams),
            dispatcher,
            manner,
        })
    }

    /// Finds the next handful, and opens what of it is new. Blocks.
    fn supply(&self, job: &Job, transfers: bool) -> Supplies {
        let handful = {
            let mut walk = lock(&self.walk);
            let mut handful = walk.search(job, |found| self.is_new(found));
            // Before anybody learns that there is no more: who finds nothing to do does not come back.
            self.unsettled.fetch_add(handful.new.len() + handful.doubtful.len(), Ordering::SeqCst);
            lock(&self.directories).attributes.append(&mut handful.directories);
            if handful.doubtful_root.is_some() {
                *lock(&self.doubtful_root) = handful.doubtful_root.take();
            }
            handful
        };
        let mut supplies = self.open(handful.new, job, transfers);
        supplies.failures.extend(handful.failures);
        supplies.doubtful = handful.doubtful;
        supplies.exhausted = handful.exhausted;
        supplies
    }

    /// Opens what is to be pushed. What several connections can send is shared out. Blocks.
    fn open(&self, found: Vec<Found>, job: &Job, transfers: bool) -> Supplies {
        let mut supplies = Supplies::default();
        let count = found.len();
        for found in found {
            if self.manner.dry_run {
                found.rehearse(job);
                continue;
            }
            let supply = match found {
                Found::Directory(attributes) => Supply::directory(&attributes),
                Found::Link(link) => Supply::Link(link),
                Found::File(file) => match self.opener.open(&file) {
                    Ok(opened) => Supply::File { remote: file.remote, opened },
                    Err(failure) => {
                        supplies.failures.push(failure);
                        continue;
                    }
                },
            };
            if transfers { supplies.ready.extend(self.share(supply)) } else { supplies.ready.push(supply) }
        }
        self.settle(count, job);
        supplies
    }

    /// So many entries are there, or ready to be pushed. Who has found nothing to do may have waited for them.
    fn settle(&self, count: usize, job: &Job) {
        let before = self.unsettled.fetch_sub(count, Ordering::SeqCst);
        if count > 0 && before == count && self.manner.streams > 1 {
            job.nudge();
        }
    }

    /// Whether it is certain that nothing has its name on the server: the directory it belongs into was not there.
    fn is_new(&self, found: &Found) -> bool {
        if self.manner.compare == Compare::Nothing {
            return true;
        }
        let mut directories = lock(&self.directories);
        let is_new = !directories.new.is_empty()
            && found.remote().parent().is_some_and(|parent| directories.new.contains(&parent));
        if let Found::Directory(attributes) = found {
            if is_new {
                directories.new.insert(attributes.path.clone());
            }
        }
        is_new
    }

    /// Takes a file that is sent as a transfer; any other supply comes back.
    fn share(&self, supply: Supply) -> Option<Supply> {
        let Supply::File { remote, opened } = supply else { return Some(supply) };
        if let Content::Large(source) = &opened.content {
            if self.manner.shares(opened.header.size) {
                let sharing = if self.manner.resume { Sharing::Resumable } else { Sharing::Shared };
                let put = self.manner.announce(remote.clone(), &opened.header, opened.identity, sharing);
                if let Some(stripe) = Stripe::new(put, source.clone()) {
                    lock(&self.stripes).push(Arc::new(stripe));
                    return None;
                }
            }
        }
        Some(Supply::File { remote, opened })
    }

    /// The largest file that a connection can help with.
    fn join(&self, channel: &mut Channel<'_>) -> Option<Striper> {
        let mut stripes = lock(&self.stripes).clone();
        stripes.sort_by_key(|stripe| Reverse(stripe.size()));
        stripes.iter().find_map(|stripe| stripe.join(channel))
    }

    /// Attributes that directories are still to get, at most `max`, the innermost first.
    fn take_attributes(&self, max: usize) -> Vec<SetAttributes> {
        let mut directories = lock(&self.directories);
        let mut taken = Vec::new();
        while taken.len() < max {
            let Some(attributes) = directories.attributes.pop() else { break };
            let path = &attributes.path;
            if !directories.finished.contains(path) || directories.changed.contains(path) {
                taken.push(attributes);
            }
        }
        taken
    }

    fn has_stripes(&self) -> bool {
        !lock(&self.stripes).is_empty()
    }
}

/// One connection's share.
pub(crate) struct Push {
    ticket: Ticket,
    copy: Arc<Copy>,
    supplies: VecDeque<Supply>,
    fetching: bool,
    exhausted: bool,
    /// What may be there already, and was not asked about.
    doubtful: VecDeque<Found>,
    /// What was asked about.
    questions: HashMap<u32, Question>,
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

/// What the server was asked about something that was found.
enum Question {
    /// What is there under its name.
    Name(Found),
    /// Whether the file that is there has its content.
    Content { file: LocalFile, has_attributes: bool, comparison: Comparison },
}

impl Question {
    fn into_found(self) -> Found {
        match self {
            Self::Name(found) => found,
            Self::Content { file, .. } => Found::File(file),
        }
    }
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
        match self.questions.remove(&request) {
            Some(Question::Name(found)) => {
                match frame {
                    Frame::Entry(there) => self.on_there(found, &there, channel),
                    // If it is anything worse than that nothing is there, the push will meet it again.
                    Frame::Error(reply) => self.on_missing(found, reply.code),
                    _ => return Err(unexpected(&frame)),
                }
                return self.advance(channel);
            }
            Some(Question::Content { file, has_attributes, mut comparison }) => {
                comparison.on_frame(frame)?;
                self.on_compared(request, file, has_attributes, comparison, channel);
                return self.advance(channel);
            }
            None => {}
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
                if let Some(Question::Content { file, has_attributes, mut comparison }) =
                    self.questions.remove(&request)
                {
                    comparison.on_hashed(request, result, channel);
                    self.on_compared(request, file, has_attributes, comparison, channel);
                }
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
            doubtful: VecDeque::new(),
            questions: HashMap::default(),
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
        // Questions can be asked again.
        self.doubtful.extend(self.questions.drain().map(|(_, question)| question.into_found()));
        let is_bare = self.unanswered.is_empty() && !self.fetching && !self.opening && !self.finishing;
        if !is_passing || !is_bare || !self.copy.has_stripes() {
            return Err(failure);
        }
        if self.attempts < RECONNECTS_MAX {
            self.hand_on();
            return Ok(());
        }
        let others = self.copy.pushing.fetch_sub(1, Ordering::SeqCst) - 1;
        if others > 0 && self.has_nothing() { Ok(()) } else { Err(failure) }
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
        self.supplies.is_empty()
            && self.doubtful.is_empty()
            && self.questions.is_empty()
            && self.missing.is_empty()
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
                self.end_stripe(&stripe);
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
        self.end_stripe(stripe);
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

    fn end_stripe(&self, stripe: &Arc<Stripe>) {
        stripe.end();
        lock(&self.copy.stripes).retain(|other| !Arc::ptr_eq(other, stripe));
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
        self.ask(channel);
        let has_room = self.supplies.len() < SUPPLIES_LOW && lock(&self.copy.stripes).len() < STRIPES_MAX;
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
            && self.questions.is_empty();
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
            && self.copy.unsettled.load(Ordering::SeqCst) == 0
            && !self.copy.has_stripes();
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

    /// Asks about what may be there already.
    fn ask(&mut self, channel: &mut Channel<'_>) {
        let max = match self.copy.manner.compare {
            Compare::Contents => COMPARISONS_MAX,
            Compare::Times | Compare::Nothing => REQUESTS_UNANSWERED_MAX,
        };
        while !self.resting
            && !channel.effects.is_congested()
            && self.questions.len() < max
            && self.questions.len() + self.unanswered.len() < REQUESTS_UNANSWERED_MAX
        {
            let Some(found) = self.doubtful.pop_front() else { return };
            let request = channel.request(&Frame::Stat(found.remote().clone()));
            self.questions.insert(request, Question::Name(found));
        }
    }

    /// Has the next handful found.
    fn fetch(&mut self, channel: &mut Channel<'_>) {
        let doubtful = self.doubtful.len() + self.questions.len() + self.missing.len();
        let must_wait = doubtful >= DOUBTFUL_MAX || lock(&self.copy.doubtful_root).is_some();
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

    /// Something is there under the name of what was found.
    fn on_there(&mut self, found: Found, there: &Entry, channel: &mut Channel<'_>) {
        self.on_answered(&found);
        match found {
            Found::File(file) => {
                let has_attributes = has_attributes(there, &file.attributes);
                match self.copy.manner.compare.judge(file.size, &file.attributes, there) {
                    Verdict::Differs => return self.on_differing(Found::File(file)),
                    Verdict::Same => return self.on_same(&file, has_attributes, channel),
                    Verdict::Doubtful => {}
                }
                let (request, comparison) = file.compare(self.copy.manner.digest, channel);
                self.questions.insert(request, Question::Content { file, has_attributes, comparison });
                return;
            }
            Found::Directory(_) if !is_directory(there) => return self.on_differing(found),
            Found::Directory(SetAttributes { path, mode, mtime }) => {
                if has_attributes(there, &FileAttributes { mode, mtime }) {
                    lock(&self.copy.directories).finished.insert(path);
                }
            }
            Found::Link(ref link) if !is_link_to(there, &link.target) => return self.on_differing(found),
            Found::Link(_) => {}
        }
        self.copy.settle(1, self.ticket.job());
    }

    /// One side more of a comparison is done, or not yet.
    fn on_compared(
        &mut self,
        request: u32,
        file: LocalFile,
        has_attributes: bool,
        comparison: Comparison,
        channel: &mut Channel<'_>,
    ) {
        match comparison.is_same() {
            Some(true) => self.on_same(&file, has_attributes, channel),
            Some(false) => self.on_differing(Found::File(file)),
            None => {
                self.questions.insert(request, Question::Content { file, has_attributes, comparison });
            }
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

    /// Nothing can be said to be there under the name of what was found.
    fn on_missing(&mut self, found: Found, code: ErrorCode) {
        if let Found::Directory(SetAttributes { path, .. }) = &found {
            if code == ErrorCode::NotFound {
                lock(&self.copy.directories).new.insert(path.clone());
            }
        }
        self.on_answered(&found);
        self.on_differing(found);
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

    /// The question about it was answered: if its content waited for that, it can be looked at now.
    fn on_answered(&self, found: &Found) {
        let mut doubtful_root = lock(&self.copy.doubtful_root);
        if doubtful_root.as_ref() == Some(found.remote()) {
            *doubtful_root = None;
            if self.copy.manner.streams > 1 {
                self.ticket.job().nudge();
            }
        }
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
