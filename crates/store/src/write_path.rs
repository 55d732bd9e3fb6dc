//! Chooses the way that a large file takes to the disk.

use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError};

use xferd_os::memory::{self, Dirty};
use xferd_os::{Dir, File, Sink, file, sink};
use xferd_wire::WritePath;

/// What was found out about file systems and is remembered. Beyond it, it is found out again for each file.
const RESOLVED_MAX: usize = 64;

const PROBE_MODE: u32 = 0o600;

/// The part of what the kernel lets wait for the disk that may be on its way through the page cache: one file of some
/// hundred megabytes on a machine with 24 GiB. Ten of them were faster with all around it (docs/why-write-paths.md).
const CACHED_SHARE: u64 = 4;

/// For how many bytes of files the kernel's word on what waits for the disk is good: to ask costs as much as it does to
/// write a small file.
const SEEN_BYTES: u64 = 4 << 20;

/// Ways around the page cache, the fastest first (docs/why-write-paths.md).
const AROUND: [WritePath; 3] = [WritePath::Uncached, WritePath::Direct, WritePath::Paced];

/// Which way files take to the disk.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum WritePolicy {
    /// Through the page cache while the kernel lets that much wait for the disk, around it beyond.
    #[default]
    Auto,
    /// This one. Where a file system cannot do it, the next best.
    Always(WritePath),
}

impl WritePolicy {
    /// All there are.
    pub const ALL: [Self; 5] = [
        Self::Auto,
        Self::Always(WritePath::Cached),
        Self::Always(WritePath::Uncached),
        Self::Always(WritePath::Direct),
        Self::Always(WritePath::Paced),
    ];

    /// Its name for users.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Always(path) => path.name(),
        }
    }
}

/// What a store knows about ways to the disk.
#[derive(Debug, Default)]
pub(crate) struct WritePaths {
    policy: WritePolicy,
    resolved: Mutex<Vec<Resolved>>,
    /// Bytes announced by files that are on their way through the page cache.
    announced: Arc<AtomicU64>,
    seen: Mutex<Option<Seen>>,
}

/// What the kernel said last.
#[derive(Debug)]
struct Seen {
    dirty: Option<Dirty>,
    /// For so many more bytes that is good.
    bytes_left: u64,
}

/// One count for all stores of this process: they share the kernel's patience, whichever directory they write to.
static ANNOUNCED: LazyLock<Arc<AtomicU64>> = LazyLock::new(Arc::default);

/// On this device, instead of the first way the second is taken.
type Resolved = (u64, WritePath, WritePath);

/// The way that was chosen for a file.
#[derive(Debug)]
pub(crate) struct Chosen {
    pub(crate) path: WritePath,
    pub(crate) sink: Arc<Sink>,
    /// Counts it for as long as it is written.
    _announced: Option<Announced>,
}

impl Chosen {
    /// Through the page cache, without being counted there: for what is small and written at once.
    pub(crate) fn cached(file: File) -> Self {
        Self { path: WritePath::Cached, sink: Arc::new(Sink::cached(Arc::new(file))), _announced: None }
    }
}

/// Bytes on their way through the page cache.
#[derive(Debug)]
struct Announced {
    total: Arc<AtomicU64>,
    bytes: u64,
}

impl Drop for Announced {
    fn drop(&mut self) {
        self.total.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

impl WritePaths {
    pub(crate) fn new(policy: WritePolicy) -> Self {
        Self { policy, announced: ANNOUNCED.clone(), ..Self::default() }
    }

    /// The way for `file`, a new one in `dir` that will have `size` bytes.
    ///
    /// # Errors
    /// What the system says to finding out what the file system can do.
    pub(crate) fn choose(&self, dir: &Dir, file: Arc<File>, size: Option<u64>) -> io::Result<Chosen> {
        let bytes = size.unwrap_or_default();
        let wanted = match self.policy {
            WritePolicy::Always(path) => path,
            WritePolicy::Auto if self.has_room(bytes, memory::dirty) => WritePath::Cached,
            WritePolicy::Auto => AROUND[0],
        };
        let path = self.resolve(dir, &file, wanted)?;
        let sink = match path {
            WritePath::Cached => Sink::cached(file),
            WritePath::Uncached => Sink::uncached(file),
            WritePath::Direct => Sink::direct(file)?,
            WritePath::Paced => Sink::paced(file),
        };
        let announced = (path == WritePath::Cached).then(|| {
            self.announced.fetch_add(bytes, Ordering::Relaxed);
            Announced { total: self.announced.clone(), bytes }
        });
        Ok(Chosen { path, sink: Arc::new(sink), _announced: announced })
    }

    /// Whether `bytes` more can wait for the disk and the kernel is far from writing them by itself, let alone from slowing
    /// down those who write.
    fn has_room(&self, bytes: u64, dirty: impl FnOnce() -> Option<Dirty>) -> bool {
        let dirty = {
            let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
            if seen.as_ref().is_none_or(|seen| seen.bytes_left < bytes) {
                *seen = Some(Seen { dirty: dirty(), bytes_left: SEEN_BYTES });
            }
            seen.as_mut().and_then(|seen| {
                seen.bytes_left = seen.bytes_left.saturating_sub(bytes);
                seen.dirty
            })
        };
        let Some(dirty) = dirty else { return true };
        let announced = self.announced.load(Ordering::Relaxed);
        dirty.bytes.saturating_add(announced).saturating_add(bytes) <= dirty.background_bytes / CACHED_SHARE
    }

    /// The way that is taken instead of `wanted` where `file` is: that one, or the first one after it that the file
    /// system has.
    fn resolve(&self, dir: &Dir, file: &File, wanted: WritePath) -> io::Result<WritePath> {
        if wanted == WritePath::Cached {
            return Ok(wanted);
        }
        let device = file::attributes(file)?.device;
        let find =
            |known: &[Resolved]| known.iter().find(|it| (it.0, it.1) == (device, wanted)).map(|it| it.2);
        if let Some(path) = find(&self.lock()) {
            return Ok(path);
        }
        // Finding out writes a byte; the file itself has to do where there is none without a name.
        let unnamed = dir.create_unnamed(PROBE_MODE)?;
        let probe = unnamed.as_ref().unwrap_or(file);
        let mut path = WritePath::Cached;
        for candidate in AROUND.into_iter().skip_while(|candidate| *candidate != wanted) {
            if takes(probe, candidate)? {
                path = candidate;
                break;
            }
        }
        let mut known = self.lock();
        if known.len() < RESOLVED_MAX && find(&known).is_none() {
            known.push((device, wanted, path));
        }
        Ok(path)
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Resolved>> {
        self.resolved.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn takes(probe: &File, path: WritePath) -> io::Result<bool> {
    match path {
        WritePath::Cached => Ok(true),
        WritePath::Uncached => sink::takes_uncached(probe),
        WritePath::Direct => sink::takes_direct(probe),
        WritePath::Paced => sink::takes_paced(probe),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DIRTY: Dirty = Dirty { bytes: 10, background_bytes: 600 };

    fn root() -> (tempfile::TempDir, Dir) {
        // Beside the sources: a temporary directory may be in memory, where there is nothing to go around.
        let directory = tempfile::tempdir_in(env!("CARGO_MANIFEST_DIR")).unwrap();
        let dir = Dir::open(directory.path()).unwrap();
        (directory, dir)
    }

    fn choose(paths: &WritePaths, dir: &Dir, size: u64) -> Chosen {
        let file = dir.create_file(crate::names::staging_name(), 0o600).unwrap();
        paths.choose(dir, Arc::new(file), Some(size)).unwrap()
    }

    #[test]
    fn a_quarter_of_what_the_kernel_lets_wait_goes_through_the_page_cache_and_no_more() {
        let paths = WritePaths::default();
        assert!(paths.has_room(140, || Some(DIRTY)));
        assert!(!paths.has_room(141, || Some(DIRTY)));
        assert!(!paths.has_room(u64::MAX, || Some(DIRTY)));
        assert!(paths.has_room(u64::MAX, || None), "nothing is known, so nothing is feared");
    }

    #[test]
    fn the_kernel_is_asked_again_once_so_many_bytes_have_come() {
        let paths = WritePaths::default();
        let asked = std::cell::Cell::new(0);
        let ask = |bytes| {
            paths.has_room(bytes, || {
                asked.set(asked.get() + 1);
                Some(Dirty { bytes: 0, background_bytes: u64::MAX })
            });
            asked.get()
        };
        assert_eq!(
            [ask(1), ask(SEEN_BYTES - 1), ask(1), ask(SEEN_BYTES), ask(SEEN_BYTES + 1)],
            [1, 1, 2, 3, 4]
        );
    }

    #[test]
    fn what_others_have_announced_counts_until_they_are_done() {
        let paths = WritePaths::default();
        let (_directory, dir) = root();
        assert!(paths.has_room(41, || Some(DIRTY)));
        let chosen = choose(&paths, &dir, 100);
        assert_eq!(chosen.path, WritePath::Cached);
        assert!(!paths.has_room(41, || Some(DIRTY)));
        drop(chosen);
        assert!(paths.has_room(41, || Some(DIRTY)));
    }

    #[test]
    fn a_way_that_was_asked_for_is_taken_or_the_next_best_and_is_found_out_once() {
        let (_directory, dir) = root();
        for wanted in AROUND {
            let paths = WritePaths::new(WritePolicy::Always(wanted));
            let rank = |path| AROUND.iter().position(|it| *it == path).unwrap_or(AROUND.len());
            for _ in 0..2 {
                let chosen = choose(&paths, &dir, 1);
                assert!(rank(chosen.path) >= rank(wanted));
                assert_eq!(chosen._announced.is_some(), chosen.path == WritePath::Cached);
                assert_eq!(paths.lock().len(), 1);
            }
        }
    }
}
