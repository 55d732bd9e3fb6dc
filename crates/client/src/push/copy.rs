//! One copy of what is pushed, as the connections that push it share it: what is found of it, what is opened, and what is
//! known of the server's directories.

use std::cmp::Reverse;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use xferd_engine::{Content, EXTENT_BYTES, lock};
use xferd_os::HashSet;
use xferd_wire::{DigestAlgorithm, FileHeader, Identity, Put, RemotePath, SetAttributes, Sharing};

use crate::dispatcher::Dispatcher;
use crate::job::{FileFailure, Job};
use crate::same::Compare;
use crate::sources::{Found, Opener, Supply, Walk};
use crate::stripe::{STRIPE_BYTES_MIN, Stripe, Striper};
use crate::task::Channel;

/// Large files of one copy that are open to be sent together; the next one is looked for when there are fewer.
const STRIPES_MAX: usize = 4;

/// One copy of what is pushed, shared by the connections that push it.
pub(crate) struct Copy {
    walk: Mutex<Walk>,
    pub(super) directories: Mutex<Directories>,
    opener: Opener,
    /// Entries that were found, and neither found to be there nor made ready to be pushed.
    unsettled: AtomicUsize,
    /// The directory that the server is being asked about before its content is looked at.
    doubtful_root: Mutex<Option<RemotePath>>,
    /// Large files that its connections send together.
    stripes: Mutex<Vec<Arc<Stripe>>>,
    /// Connections that still push.
    pushing: AtomicUsize,
    pub(super) dispatcher: Dispatcher,
    pub(super) manner: Manner,
}

/// What is ready to be pushed, or to be asked about.
#[derive(Default)]
pub(crate) struct Supplies {
    pub(super) ready: Vec<Supply>,
    pub(super) doubtful: Vec<Found>,
    pub(super) failures: Vec<FileFailure>,
    /// There is nothing more.
    pub(super) exhausted: bool,
}

/// What is known of directories on the server.
#[derive(Default)]
pub(super) struct Directories {
    /// What they get once everything is in them.
    attributes: Vec<SetAttributes>,
    /// Those that are not there, or were not: nor is what belongs into them.
    pub(super) new: HashSet<RemotePath>,
    /// Those that have their attributes, unless something was put into them.
    pub(super) finished: HashSet<RemotePath>,
    /// Those that were there and had something put into them.
    pub(super) changed: HashSet<RemotePath>,
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

    pub(super) fn announce(
        &self,
        path: RemotePath,
        header: &FileHeader,
        identity: Identity,
        sharing: Sharing,
    ) -> Put {
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
    pub(super) fn supply(&self, job: &Job, transfers: bool) -> Supplies {
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
    pub(super) fn open(&self, found: Vec<Found>, job: &Job, transfers: bool) -> Supplies {
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
    pub(super) fn settle(&self, count: usize, job: &Job) {
        let before = self.unsettled.fetch_sub(count, Ordering::SeqCst);
        if count > 0 && before == count && self.manner.streams > 1 {
            job.nudge();
        }
    }

    /// Whether everything that was found is there, or ready to be pushed.
    pub(super) fn is_settled(&self) -> bool {
        self.unsettled.load(Ordering::SeqCst) == 0
    }

    /// Whether nothing more is to be found before the server has answered.
    pub(super) fn awaits_answer(&self) -> bool {
        lock(&self.doubtful_root).is_some()
    }

    /// The question about `found` was answered: if its content waited for that, it can be looked at now.
    pub(super) fn answered(&self, found: &Found, job: &Job) {
        let mut doubtful_root = lock(&self.doubtful_root);
        if doubtful_root.as_ref() == Some(found.remote()) {
            *doubtful_root = None;
            if self.manner.streams > 1 {
                job.nudge();
            }
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
    pub(super) fn join(&self, channel: &mut Channel<'_>) -> Option<Striper> {
        let mut stripes = lock(&self.stripes).clone();
        stripes.sort_by_key(|stripe| Reverse(stripe.size()));
        stripes.iter().find_map(|stripe| stripe.join(channel))
    }

    /// Attributes that directories are still to get, at most `max`, the innermost first.
    pub(super) fn take_attributes(&self, max: usize) -> Vec<SetAttributes> {
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

    pub(super) fn has_stripes(&self) -> bool {
        !lock(&self.stripes).is_empty()
    }

    /// Whether another large file may be opened.
    pub(super) fn wants_stripes(&self) -> bool {
        lock(&self.stripes).len() < STRIPES_MAX
    }

    /// A large file is stored, or has failed.
    pub(super) fn end_stripe(&self, stripe: &Arc<Stripe>) {
        stripe.end();
        lock(&self.stripes).retain(|other| !Arc::ptr_eq(other, stripe));
    }

    /// One of its connections pushes no more. How many others still do.
    pub(super) fn leave(&self) -> usize {
        self.pushing.fetch_sub(1, Ordering::SeqCst) - 1
    }
}
