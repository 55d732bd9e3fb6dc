//! The log: what has changed, in the order in which it did, in files that Redis 7 can read.

mod base;
mod batch;
mod directory;
mod load;
mod manifest;
mod reader;
mod replay;

use std::io;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};

use xferd_os::{File, FileExt, scaled, seeded};
use xferd_wire::resp::encode_request;

use crate::clock::Clock;
use crate::keyspace::{Recorded, Recorder};

pub(crate) use base::Base;
pub use directory::LogError;
pub(crate) use directory::{Directory, read_manifest};
pub use load::{Loading, TornTail};
pub(crate) use load::{Source, load_all};
pub(crate) use manifest::{BASE, INCREMENT, Listed, Manifest};
pub(crate) use reader::Reader;
pub(crate) use replay::Replay;

/// Bytes that are gathered before whoever adds to them writes them out. Beyond this a larger write costs no less per byte.
pub const BUFFER_BYTES_MAX: usize = scaled(1 << 20) as usize;

/// When what was recorded is brought to the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
#[repr(u8)]
pub enum Fsync {
    /// Before it is acknowledged.
    Always,
    /// About once a second: a power loss takes what came since.
    #[default]
    EverySecond,
    /// When the system does so by itself.
    No,
}

impl Fsync {
    /// All there are.
    pub const ALL: [Self; 3] = [Self::Always, Self::EverySecond, Self::No];

    /// As `appendfsync` of Redis names it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Always => "always",
            Self::EverySecond => "everysec",
            Self::No => "no",
        }
    }

    /// The one of that name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|fsync| fsync.name().eq_ignore_ascii_case(name))
    }
}

/// Takes what has changed and brings it to a file.
///
/// What is recorded goes into a buffer in memory; [`Log::commit`] has it written, and synced if the policy says so, for
/// everybody who waits for that at the same time. Positions count the bytes that were recorded, whichever file they are in.
///
/// Once a write or a sync has failed nothing more is written: what the disk has of it is not known, and a second sync that
/// succeeds says nothing about what the first has lost (fsync(2)). All commits fail from then on.
///
/// Locks are taken in this order: stripes, `out`, `pending`.
#[derive(Debug)]
pub struct Log {
    fsync: AtomicU8,
    pending: Mutex<Pending>,
    out: Mutex<Out>,
    /// Whether somebody syncs. Who does so does it for all who wait meanwhile.
    is_syncing: Mutex<bool>,
    has_synced: Condvar,
    position: AtomicU64,
    written: AtomicU64,
    synced: AtomicU64,
    /// Bytes of the increments.
    size: AtomicU64,
    has_failed: AtomicBool,
    failure: OnceLock<String>,
    clock: Clock,
}

/// What was recorded and not written yet.
#[derive(Debug)]
struct Pending {
    /// Room for the header of a batch, and then its requests.
    bytes: Vec<u8>,
    /// The database that the last one was for.
    database: Option<u8>,
}

/// The file it goes to.
#[derive(Debug)]
struct Out {
    file: Arc<File>,
    len: u64,
    synced_len: u64,
    /// The file before, which is to be synced before anything is written to this one: what is in a later file is believed
    /// only if the earlier ones are whole.
    retiring: Option<Arc<File>>,
    spare: Vec<u8>,
    /// The second of the last note of the time.
    stamped_s: u64,
}

impl Log {
    /// Goes on at the end of `file`, whose `len` bytes have been synced; `size` bytes are in all increments.
    pub(crate) fn new(file: File, len: u64, size: u64, fsync: Fsync, clock: Clock) -> Self {
        Self {
            fsync: AtomicU8::new(fsync as u8),
            pending: Mutex::new(Pending { bytes: batch::begun(Vec::new()), database: None }),
            out: Mutex::new(Out {
                file: Arc::new(file),
                len,
                synced_len: len,
                retiring: None,
                spare: Vec::new(),
                stamped_s: 0,
            }),
            is_syncing: Mutex::new(false),
            has_synced: Condvar::new(),
            position: AtomicU64::new(0),
            written: AtomicU64::new(0),
            synced: AtomicU64::new(0),
            size: AtomicU64::new(size),
            has_failed: AtomicBool::new(false),
            failure: OnceLock::new(),
            clock,
        }
    }

    /// When what was recorded is brought to the disk.
    pub fn fsync(&self) -> Fsync {
        let number = self.fsync.load(Ordering::Relaxed);
        Fsync::ALL.into_iter().find(|fsync| *fsync as u8 == number).unwrap_or_default()
    }

    /// Changes that.
    pub fn set_fsync(&self, fsync: Fsync) {
        self.fsync.store(fsync as u8, Ordering::Relaxed);
    }

    /// Where the log ends: everything that was recorded before this was asked is before it.
    pub fn position(&self) -> u64 {
        self.position.load(Ordering::Acquire)
    }

    /// Whether everything up to `position` is as safe as the policy says.
    pub fn is_committed(&self, position: u64) -> bool {
        let reached = if self.fsync() == Fsync::Always { &self.synced } else { &self.written };
        reached.load(Ordering::Acquire) >= position || seeded!(ReplyBeforeCommit)
    }

    /// Waits until everything up to `position` is written, and synced if the policy is [`Fsync::Always`].
    ///
    /// # Errors
    /// That of the write or sync that failed first, whenever that was.
    pub fn commit(&self, position: u64) -> io::Result<()> {
        match self.fsync() {
            _ if self.is_committed(position) => Ok(()),
            Fsync::Always => self.sync_up_to(position),
            Fsync::EverySecond | Fsync::No => self.write(),
        }
    }

    /// Brings everything that was recorded to the disk, as somebody does about once a second for [`Fsync::EverySecond`].
    ///
    /// # Errors
    /// As [`Log::commit`].
    pub fn sync(&self) -> io::Result<()> {
        self.sync_up_to(self.position())
    }

    /// Why nothing is written any more.
    pub fn failure(&self) -> Option<&str> {
        // Asked by each command that writes.
        if !self.has_failed.load(Ordering::Relaxed) {
            return None;
        }
        self.failure.get().map(String::as_str)
    }

    /// Bytes of the increments.
    pub(crate) fn size(&self) -> u64 {
        self.size.load(Ordering::Relaxed)
    }

    /// Goes on in another file, which is empty. Every stripe is locked, so that whatever is recorded is before or after this.
    pub(crate) fn go_on_in(&self, file: File) -> io::Result<()> {
        let mut out = lock(&self.out);
        self.write_pending(&mut out)?;
        // Had nothing been written since the last time, two files would have to be synced.
        self.settle(&mut out)?;
        out.retiring = Some(std::mem::replace(&mut out.file, Arc::new(file)));
        (out.len, out.synced_len, out.stamped_s) = (0, 0, 0);
        lock(&self.pending).database = None;
        Ok(())
    }

    /// So many bytes of increments are no longer needed.
    pub(crate) fn forget(&self, bytes: u64) {
        self.size.fetch_sub(bytes, Ordering::Relaxed);
    }

    /// Syncs, and notes that everything was: from then on whatever is missing was lost later.
    pub(crate) fn close(&self) -> io::Result<()> {
        self.sync()?;
        let mut out = lock(&self.out);
        if self.failure().is_some() {
            return Ok(());
        }
        if out.len > 0 {
            let mut note = batch::begun(Vec::new());
            let from = batch::finish(&mut note, None, out.synced_len);
            self.append(&mut out, note.get(from..).unwrap_or_default())?;
            out.file.sync_data().map_err(|error| self.fail(&error))?;
        }
        self.failure.get_or_init(|| "the store is closed".into());
        self.has_failed.store(true, Ordering::Release);
        Ok(())
    }

    /// Writes what is in memory.
    fn write(&self) -> io::Result<()> {
        self.write_pending(&mut lock(&self.out))
    }

    fn sync_up_to(&self, position: u64) -> io::Result<()> {
        let mut is_syncing = lock(&self.is_syncing);
        while *is_syncing && self.synced.load(Ordering::Acquire) < position {
            is_syncing = self.has_synced.wait(is_syncing).unwrap_or_else(PoisonError::into_inner);
        }
        if self.synced.load(Ordering::Acquire) >= position {
            return Ok(());
        }
        *is_syncing = true;
        drop(is_syncing);
        let synced = self.sync_all();
        *lock(&self.is_syncing) = false;
        // All at once: one after the other would be overtaken by who comes next, and sync for few.
        self.has_synced.notify_all();
        synced
    }

    fn sync_all(&self) -> io::Result<()> {
        let (file, len, written) = {
            let mut out = lock(&self.out);
            self.write_pending(&mut out)?;
            self.settle(&mut out)?;
            (out.file.clone(), out.len, self.written.load(Ordering::Acquire))
        };
        file.sync_data().map_err(|error| self.fail(&error))?;
        let mut out = lock(&self.out);
        if Arc::ptr_eq(&file, &out.file) {
            out.synced_len = len;
        }
        self.synced.fetch_max(written, Ordering::AcqRel);
        Ok(())
    }

    /// Syncs the file before.
    fn settle(&self, out: &mut Out) -> io::Result<()> {
        if let Some(file) = &out.retiring {
            file.sync_data().map_err(|error| self.fail(&error))?;
            out.retiring = None;
        }
        Ok(())
    }

    fn write_pending(&self, out: &mut Out) -> io::Result<()> {
        self.check()?;
        let (mut bytes, position) = {
            let mut pending = lock(&self.pending);
            if batch::is_empty(&pending.bytes) {
                return Ok(());
            }
            let spare = batch::begun(std::mem::take(&mut out.spare));
            (std::mem::replace(&mut pending.bytes, spare), self.position())
        };
        self.settle(out)?;
        let now_s = self.clock.now_ms() / 1000;
        let stamp = (now_s > out.stamped_s).then_some(now_s);
        out.stamped_s = now_s.max(out.stamped_s);
        let from = batch::finish(&mut bytes, stamp, out.synced_len);
        let written = self.append(out, bytes.get(from..).unwrap_or_default());
        bytes.clear();
        bytes.shrink_to(2 * BUFFER_BYTES_MAX);
        out.spare = bytes;
        written?;
        self.written.store(position, Ordering::Release);
        Ok(())
    }

    /// Writes at the end of the file: all of it, or nothing.
    fn append(&self, out: &mut Out, bytes: &[u8]) -> io::Result<()> {
        if let Err(error) = out.file.write_all_at(bytes, out.len) {
            // What came of it is of no use. If it stays, it is what a start finds torn.
            let _ = out.file.set_len(out.len);
            return Err(self.fail(&error));
        }
        out.len += bytes.len() as u64;
        self.size.fetch_add(bytes.len() as u64, Ordering::Relaxed);
        Ok(())
    }

    fn check(&self) -> io::Result<()> {
        self.failure().map_or(Ok(()), |failure| Err(io::Error::other(failure.to_owned())))
    }

    /// It is over.
    fn fail(&self, error: &io::Error) -> io::Error {
        let failure = self.failure.get_or_init(|| {
            tracing::error!(%error, "the log cannot be written: nothing more is accepted");
            error.to_string()
        });
        self.has_failed.store(true, Ordering::Release);
        io::Error::new(error.kind(), failure.clone())
    }
}

impl Recorder for Log {
    fn record(&self, requests: &[Recorded]) {
        let mut pending = lock(&self.pending);
        if self.has_failed.load(Ordering::Relaxed) {
            return;
        }
        let before = pending.bytes.len();
        for (index, Recorded { database, request }) in requests.iter().enumerate() {
            if pending.database != Some(*database) {
                pending.database = Some(*database);
                encode_request(
                    [&b"SELECT"[..], itoa::Buffer::new().format(*database).as_bytes()],
                    &mut pending.bytes,
                );
            }
            if index == 0 && requests.len() > 1 {
                encode_request([b"MULTI"], &mut pending.bytes);
            }
            pending.bytes.extend_from_slice(request);
        }
        if requests.len() > 1 {
            encode_request([b"EXEC"], &mut pending.bytes);
        }
        let len = pending.bytes.len();
        self.position.fetch_add((len - before) as u64, Ordering::AcqRel);
        drop(pending);
        if len > BUFFER_BYTES_MAX {
            // That it failed is told to who commits.
            let _ = self.write();
        }
    }

    fn failure(&self) -> Option<&str> {
        self.failure()
    }
}

/// What panicked left it whole: nothing here panics while a lock is held.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
