//! One connection's blocking work, batched: what a session asked for since the last batch went out runs in order on
//! one worker, so that a pipelined small file costs a share of a hand-over instead of a whole one. Files that follow
//! each other are stored together.

use std::collections::VecDeque;
use std::sync::Arc;

use xferd_reactor::Job;
use xferd_store::{Store, StoreError, WholeFile};

/// Most pieces of work in one batch, and that may wait before nothing more is read: enough to spread the cost of a
/// hand-over thin, few enough that with `--workers 0` a turn of the reactor stays short.
pub(crate) const BATCH_WORKS_MAX: usize = 64;

/// Most files in one batch: what fits into a large receive buffer as files of 4 KiB, and what a store syncs together.
pub(crate) const BATCH_FILES_MAX: usize = 256;

/// Bytes of whole files that may wait on one connection before nothing more is read from it. As many may be on their
/// way into the store.
pub(crate) const FILES_WAITING_BYTES_MAX: usize = 4 << 20;

/// Blocking work, described by a session and run by a worker.
pub enum Work<O> {
    /// Anything.
    Run(Box<dyn FnOnce() -> O + Send>),
    /// A whole file to be stored.
    Put(Put<O>),
}

/// A whole file on its way into a store.
pub struct Put<O> {
    pub(crate) store: Arc<Store>,
    pub(crate) file: WholeFile,
    pub(crate) durable: bool,
    /// Makes the outcome of what the store says.
    pub(crate) outcome: fn(Result<(), StoreError>) -> O,
}

impl<O> Work<O> {
    /// Does it here and now; for tests that play the shard.
    pub fn run(self) -> O {
        match self {
            Self::Run(work) => work(),
            Self::Put(Put { store, file, durable, outcome }) => {
                outcome(store.put_whole(&file.path, &file.bytes, &file.attributes, durable))
            }
        }
    }

    /// Bytes of the file it holds.
    fn file_bytes(&self) -> usize {
        match self {
            Self::Run(_) => 0,
            Self::Put(put) => put.file.bytes.len(),
        }
    }
}

/// Work that waits for its turn.
pub(crate) struct Backlog<O> {
    queue: VecDeque<(u32, Work<O>)>,
    /// How many of it are not files.
    works: usize,
    file_bytes: usize,
}

impl<O> Default for Backlog<O> {
    fn default() -> Self {
        Self { queue: VecDeque::new(), works: 0, file_bytes: 0 }
    }
}

impl<O> Backlog<O> {
    pub(crate) fn push(&mut self, key: u32, work: Work<O>) {
        self.works += usize::from(matches!(work, Work::Run(_)));
        self.file_bytes += work.file_bytes();
        self.queue.push_back((key, work));
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    /// Whether so much waits that nothing should be read that could cause more.
    pub(crate) fn is_full(&self) -> bool {
        self.works >= BATCH_WORKS_MAX || self.file_bytes >= FILES_WAITING_BYTES_MAX
    }

    /// What goes next, in the order it came.
    pub(crate) fn next_batch(&mut self) -> Batch<O> {
        let (mut works, mut files) = (0, 0);
        let mut todo = Vec::new();
        while let Some((_, work)) = self.queue.front() {
            let (count, max) = match work {
                Work::Run(_) => (&mut works, BATCH_WORKS_MAX),
                Work::Put(_) => (&mut files, BATCH_FILES_MAX),
            };
            if *count == max {
                break;
            }
            *count += 1;
            self.file_bytes -= work.file_bytes();
            todo.extend(self.queue.pop_front());
        }
        self.works -= works;
        Batch { done: Vec::with_capacity(todo.len()), todo }
    }
}

/// A batch on its way through the reactor.
pub struct Batch<O> {
    todo: Vec<(u32, Work<O>)>,
    pub(crate) done: Vec<(u32, O)>,
}

impl<O: Send + 'static> Job for Batch<O> {
    fn run(&mut self) {
        let mut todo = std::mem::take(&mut self.todo).into_iter().peekable();
        while let Some((key, work)) = todo.next() {
            let Put { store, file, durable, outcome } = match work {
                Work::Put(put) => put,
                Work::Run(work) => {
                    self.done.push((key, work()));
                    continue;
                }
            };
            let mut answers = vec![(key, outcome)];
            let mut files = vec![file];
            let goes_along = |(_, work): &(u32, Work<O>)| match work {
                Work::Put(put) => Arc::ptr_eq(&put.store, &store) && put.durable == durable,
                Work::Run(_) => false,
            };
            while let Some((key, Work::Put(put))) = todo.next_if(goes_along) {
                answers.push((key, put.outcome));
                files.push(put.file);
            }
            let results = store.put_many(&files, durable);
            self.done.extend(
                answers.into_iter().zip(results).map(|((key, outcome), result)| (key, outcome(result))),
            );
        }
    }
}
