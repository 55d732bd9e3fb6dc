//! One connection's blocking work, batched: what a session asked for since the last batch went out runs in order on
//! one worker, so that a pipelined small file costs a share of a hand-over instead of a whole one. Files that follow
//! each other are stored together.

use std::collections::VecDeque;
use std::sync::Arc;

use xferd_os::scaled;
use xferd_reactor::Job;
use xferd_store::{Store, StoreError, WholeFile};

/// Most pieces of work in one batch, and that may wait before nothing more is read: enough to spread the cost of a
/// hand-over thin, few enough that with `--workers 0` a turn of the reactor stays short.
pub(crate) const BATCH_WORKS_MAX: usize = 64;

/// Most files in one batch: what fits into a large receive buffer as files of 4 KiB, and what a store syncs together.
pub(crate) const BATCH_FILES_MAX: usize = 256;

/// Bytes of whole files that may wait on one connection before nothing more is read from it. As many may be on their
/// way into the store.
pub(crate) const FILES_WAITING_BYTES_MAX: usize = scaled(4 << 20) as usize;

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
                outcome(store.put_many(&[file], durable).remove(0))
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

    /// Keeps no room for what may come.
    pub(crate) fn shrink(&mut self) {
        self.queue.shrink_to_fit();
    }

    /// Bytes of the files in it.
    pub(crate) fn file_bytes(&self) -> u64 {
        self.file_bytes as u64
    }

    /// Whether so much waits that nothing should be read that could cause more; one file, if there are
    /// many of others.
    pub(crate) fn is_full(&self, many: bool) -> bool {
        let file_bytes_max = if many { 1 } else { FILES_WAITING_BYTES_MAX };
        self.works >= BATCH_WORKS_MAX || self.file_bytes >= file_bytes_max
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

#[cfg(test)]
mod tests {
    use xferd_store::{FileAttributes, Options};
    use xferd_wire::{ErrorCode, RemotePath};

    use super::*;

    type Outcome = Result<(), StoreError>;

    struct Rig {
        root: tempfile::TempDir,
        store: Arc<Store>,
        backlog: Backlog<Outcome>,
        asked: u32,
    }

    impl Rig {
        fn new() -> Self {
            let root = tempfile::tempdir().unwrap();
            let store = Arc::new(Store::open(root.path(), Options::default()).unwrap());
            Self { root, store, backlog: Backlog::default(), asked: 0 }
        }

        fn push(&mut self, work: Work<Outcome>) {
            self.asked += 1;
            self.backlog.push(self.asked, work);
        }

        fn put(&mut self, path: &str, bytes: usize) {
            let path = RemotePath::parse(path).unwrap();
            let file = WholeFile { path, bytes: vec![7; bytes], attributes: FileAttributes::default() };
            let store = Arc::clone(&self.store);
            self.push(Work::Put(Put { store, file, durable: false, outcome: |result| result }));
        }

        fn run(&mut self, work: impl FnOnce(&Store) -> Outcome + Send + 'static) {
            let store = Arc::clone(&self.store);
            self.push(Work::Run(Box::new(move || work(&store))));
        }

        /// Does one batch; says which pieces of work it was.
        fn batch(&mut self) -> Vec<(u32, Outcome)> {
            let mut batch = self.backlog.next_batch();
            batch.run();
            batch.done
        }
    }

    #[test]
    fn files_and_other_work_are_done_in_the_order_they_were_asked_for() {
        let mut rig = Rig::new();
        let directory = RemotePath::parse("d").unwrap();
        rig.put("a", 1);
        rig.put("d", 1);
        rig.run(move |store| store.make_dir(&directory, 0o755, false));
        rig.run(|store| store.remove(&RemotePath::parse("d").unwrap(), false));
        rig.run(|store| store.make_dir(&RemotePath::parse("d").unwrap(), 0o755, false));
        rig.put("d/b", 1);
        rig.put("d", 1);
        rig.put("c", 1);
        let codes: Vec<_> = rig
            .batch()
            .into_iter()
            .map(|(key, outcome)| (key, outcome.err().map(|error| error.code())))
            .collect();
        let failed = [(3, ErrorCode::Exists), (7, ErrorCode::NotAFile)];
        let expected: Vec<_> = (1..=8)
            .map(|key| (key, failed.iter().find(|(failed, _)| *failed == key).map(|(_, code)| *code)))
            .collect();
        assert_eq!(codes, expected);
        assert!(["a", "c", "d/b"].iter().all(|path| rig.root.path().join(path).is_file()));
        assert!(rig.backlog.is_empty());
    }

    #[test]
    fn a_batch_has_as_many_files_and_as_much_other_work_as_may_be_and_no_more() {
        let mut rig = Rig::new();
        (0..=BATCH_FILES_MAX).for_each(|number| rig.put(&format!("d/{number}"), 0));
        (0..=BATCH_WORKS_MAX).for_each(|_| rig.run(|_| Ok(())));
        assert_eq!(rig.batch().len(), BATCH_FILES_MAX);
        assert_eq!(rig.batch().len(), 1 + BATCH_WORKS_MAX);
        assert_eq!(rig.batch().len(), 1);
        assert!(rig.backlog.is_empty());
    }

    #[test]
    fn it_is_full_by_bytes_of_files_or_by_other_work() {
        let mut rig = Rig::new();
        rig.put("a", FILES_WAITING_BYTES_MAX - 1);
        (0..BATCH_FILES_MAX).for_each(|_| rig.put("empty", 0));
        assert!(!rig.backlog.is_full(false));
        rig.put("b", 1);
        assert!(rig.backlog.is_full(false));
        rig.batch();
        assert!(!rig.backlog.is_full(false));

        rig.batch();
        rig.put("c", 1);
        assert_eq!(rig.backlog.file_bytes(), 1);
        assert!(rig.backlog.is_full(true) && !rig.backlog.is_full(false));
        rig.batch();
        (1..BATCH_WORKS_MAX).for_each(|_| rig.run(|_| Ok(())));
        assert!(!rig.backlog.is_full(false));
        rig.run(|_| Ok(()));
        assert!(rig.backlog.is_full(false));
        rig.batch();
        assert!(!rig.backlog.is_full(false));
    }
}
