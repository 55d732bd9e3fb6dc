//! One transfer as its caller sees it: progress, cancelling, and in the end a receipt.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use xferd_engine::{Failure, lock};
use xferd_os::clock;
use xferd_wire::{Committed, Digest, EntryKind, ErrorCode, WritePathCounts};

use crate::dispatcher::Dispatcher;
use crate::session::CLIENT_CLOSED;

/// Failures of single files that a receipt lists; it counts them all.
pub const FAILURES_LISTED_MAX: usize = 100;

/// What a transfer came to.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Receipt {
    /// Files transferred.
    pub files: u64,
    /// Files left out because they are there already.
    pub unchanged: u64,
    /// Bytes of those.
    pub unchanged_bytes: u64,
    /// Directories made or updated.
    pub directories: u64,
    /// Symbolic links made.
    pub links: u64,
    /// Bytes of those files.
    pub bytes: u64,
    /// The ways those files took to the disk they are on now.
    pub write_paths: WritePathCounts,
    /// How many of them the server had already, from an earlier transfer.
    pub resumed_bytes: u64,
    /// Entries left out because they are neither files nor directories nor links.
    pub skipped: u64,
    /// The digest, if all transferred files are copies of one.
    pub digest: Option<Digest>,
    /// From the first byte sent, or received, to the last file stored.
    pub elapsed: Duration,
    /// Files that could not be transferred.
    pub failed: u64,
    /// The first [`FAILURES_LISTED_MAX`] of them.
    pub failures: Vec<FileFailure>,
}

/// A file that could not be transferred.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileFailure {
    /// Which.
    pub path: String,
    /// Why.
    pub failure: Failure,
}

/// How far a transfer has come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TransferProgress {
    /// Bytes handed to the kernel, or stored, or there already.
    pub bytes: u64,
    /// How many of them the server had already, of files that an earlier transfer began.
    pub resumed_bytes: u64,
    /// How many of them are of files that are left out because they are there already.
    pub unchanged_bytes: u64,
    /// Bytes found so far.
    pub total_bytes: u64,
    /// Files acknowledged, or there already.
    pub files: u64,
    /// Files found so far.
    pub total_files: u64,
    /// Whether everything has been found.
    pub total_known: bool,
}

type OnEnd = Box<dyn FnOnce(Result<Receipt, Failure>) + Send>;

/// What the parts of one transfer share.
pub struct Job {
    cancelled: AtomicBool,
    bytes: AtomicU64,
    resumed_bytes: AtomicU64,
    unchanged_bytes: AtomicU64,
    total_bytes: AtomicU64,
    files: AtomicU64,
    total_files: AtomicU64,
    /// Walks that have not found everything yet.
    searching: AtomicU64,
    tally: Mutex<Tally>,
    dispatcher: Dispatcher,
}

struct Tally {
    parts: usize,
    receipt: Receipt,
    /// The failure that ended it all.
    fatal: Option<Failure>,
    begun: Option<Instant>,
    last_stored: Option<Instant>,
    on_end: Option<OnEnd>,
}

impl Job {
    /// A transfer that calls `on_end` once, when its last part has ended.
    pub(crate) fn new(dispatcher: Dispatcher, on_end: OnEnd) -> Arc<Self> {
        let tally = Tally {
            parts: 0,
            receipt: Receipt::default(),
            fatal: None,
            begun: None,
            last_stored: None,
            on_end: Some(on_end),
        };
        Arc::new(Self {
            cancelled: AtomicBool::new(false),
            bytes: AtomicU64::new(0),
            resumed_bytes: AtomicU64::new(0),
            unchanged_bytes: AtomicU64::new(0),
            total_bytes: AtomicU64::new(0),
            files: AtomicU64::new(0),
            total_files: AtomicU64::new(0),
            searching: AtomicU64::new(0),
            tally: Mutex::new(tally),
            dispatcher,
        })
    }

    /// How far it has come.
    pub fn progress(&self) -> TransferProgress {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        TransferProgress {
            bytes: read(&self.bytes),
            resumed_bytes: read(&self.resumed_bytes),
            unchanged_bytes: read(&self.unchanged_bytes),
            total_bytes: read(&self.total_bytes),
            files: read(&self.files),
            total_files: read(&self.total_files),
            total_known: read(&self.searching) == 0,
        }
    }

    /// Ends it early: its connections are closed, and its end is reported as ABORTED.
    pub fn cancel(&self) {
        self.end_with(Failure::new(ErrorCode::Aborted, "aborted by the caller"));
    }

    /// Whether it is to end early.
    pub(crate) fn is_cancelled(&self) -> bool {
        self.cancelled.load(Ordering::Relaxed)
    }

    /// One more part. The transfer ends when all have.
    pub(crate) fn ticket(self: &Arc<Self>) -> Ticket {
        lock(&self.tally).parts += 1;
        Ticket { job: self.clone(), open: true }
    }

    /// A walk begins that will find more.
    pub(crate) fn search(&self) {
        self.searching.fetch_add(1, Ordering::Relaxed);
    }

    /// A walk has found everything.
    pub(crate) fn searched(&self) {
        self.searching.fetch_sub(1, Ordering::Relaxed);
    }

    /// A file was found.
    pub(crate) fn found(&self, bytes: u64) {
        self.total_files.fetch_add(1, Ordering::Relaxed);
        self.total_bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Bytes begin to move.
    pub(crate) fn begin(&self) {
        lock(&self.tally).begun.get_or_insert_with(clock::now);
    }

    /// Bytes have moved.
    pub(crate) fn moved(&self, bytes: u64) {
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Bytes that have moved are not there any more.
    pub(crate) fn unmoved(&self, bytes: u64) {
        self.bytes.fetch_sub(bytes, Ordering::Relaxed);
    }

    /// Bytes were there already.
    pub(crate) fn resumed(&self, bytes: u64) {
        self.resumed_bytes.fetch_add(bytes, Ordering::Relaxed);
        lock(&self.tally).receipt.resumed_bytes += bytes;
    }

    /// Makes its connections look at what they share.
    pub(crate) fn nudge(&self) {
        self.dispatcher.nudge();
    }

    /// A file is stored.
    pub(crate) fn stored_file(&self, stored: Committed) {
        let Committed { size: bytes, write_path, digest } = stored;
        self.files.fetch_add(1, Ordering::Relaxed);
        let mut tally = lock(&self.tally);
        tally.last_stored = Some(clock::now());
        let receipt = &mut tally.receipt;
        let same = receipt.files == 0 || receipt.digest == Some(digest);
        receipt.digest = Some(digest).filter(|digest| same && !digest.as_bytes().is_empty());
        receipt.files += 1;
        receipt.bytes += bytes;
        receipt.write_paths.add(write_path);
    }

    /// A file is there already.
    pub(crate) fn unchanged(&self, bytes: u64) {
        self.moved(bytes);
        self.unchanged_bytes.fetch_add(bytes, Ordering::Relaxed);
        self.files.fetch_add(1, Ordering::Relaxed);
        let mut tally = lock(&self.tally);
        tally.receipt.unchanged += 1;
        tally.receipt.unchanged_bytes += bytes;
    }

    /// A directory is made.
    pub(crate) fn stored_directory(&self) {
        let mut tally = lock(&self.tally);
        tally.last_stored = Some(clock::now());
        tally.receipt.directories += 1;
    }

    /// A link is made.
    pub(crate) fn stored_link(&self) {
        let mut tally = lock(&self.tally);
        tally.last_stored = Some(clock::now());
        tally.receipt.links += 1;
    }

    /// Something would be transferred.
    pub(crate) fn rehearsed(&self, kind: EntryKind, bytes: u64) {
        let mut tally = lock(&self.tally);
        let receipt = &mut tally.receipt;
        match kind {
            EntryKind::File => {
                receipt.files += 1;
                receipt.bytes += bytes;
            }
            EntryKind::Directory => receipt.directories += 1,
            EntryKind::Symlink => receipt.links += 1,
            EntryKind::Other => receipt.skipped += 1,
        }
    }

    /// An entry is nothing to transfer.
    pub(crate) fn skipped(&self) {
        lock(&self.tally).receipt.skipped += 1;
    }

    /// One file cannot be transferred; the others go on, unless they would all fail the same way.
    pub(crate) fn file_failed(&self, path: &str, failure: Failure) -> Result<(), Failure> {
        use ErrorCode::{DiskFull, ReadOnly, ShuttingDown};
        if matches!(failure.code, DiskFull | ReadOnly | ShuttingDown) {
            return Err(failure);
        }
        let mut tally = lock(&self.tally);
        tally.receipt.failed += 1;
        if tally.receipt.failures.len() < FAILURES_LISTED_MAX {
            tally.receipt.failures.push(FileFailure { path: path.to_owned(), failure });
        }
        Ok(())
    }

    fn end_with(&self, failure: Failure) {
        lock(&self.tally).fatal.get_or_insert(failure);
        self.cancelled.store(true, Ordering::Relaxed);
        self.nudge();
    }

    fn end_part(&self, result: Result<(), Failure>) {
        if let Err(failure) = result {
            self.end_with(failure);
        }
        let mut tally = lock(&self.tally);
        tally.parts -= 1;
        if tally.parts > 0 {
            return;
        }
        let Some(on_end) = tally.on_end.take() else { return };
        let result = tally.conclude();
        drop(tally);
        on_end(result);
    }
}

impl Tally {
    /// All or some of it is a receipt, nothing of it a failure.
    fn conclude(&mut self) -> Result<Receipt, Failure> {
        if let Some(failure) = self.fatal.take() {
            return Err(failure);
        }
        let mut receipt = std::mem::take(&mut self.receipt);
        if let (Some(begun), Some(last)) = (self.begun, self.last_stored) {
            receipt.elapsed = last.saturating_duration_since(begun);
        }
        let stored = receipt.files + receipt.links + receipt.directories + receipt.unchanged;
        match receipt.failures.first() {
            Some(first) if stored == 0 => Err(first.failure.clone()),
            _ => Ok(receipt),
        }
    }
}

/// One part's duty to report its end. Dropped without a report, it reports that it was aborted.
pub(crate) struct Ticket {
    job: Arc<Job>,
    open: bool,
}

impl Ticket {
    pub(crate) fn job(&self) -> &Arc<Job> {
        &self.job
    }

    /// The part has ended.
    pub(crate) fn end(&mut self, result: Result<(), Failure>) {
        if std::mem::replace(&mut self.open, false) {
            self.job.end_part(result);
        }
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        self.end(Err(Failure::new(ErrorCode::Aborted, CLIENT_CLOSED)));
    }
}
