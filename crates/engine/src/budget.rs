//! What a server, or a client, keeps in memory because of its peers, counted together.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use xferd_os::scaled;

use crate::session::Effects;

/// Bytes of small files that may be in memory at a time on all connections, while they come and until they are sent. What
/// finds no room goes the way of a large file, into a staging file as it comes, or out of its file as it is sent: a peer may
/// take as long as it likes for its last byte.
pub const SMALL_FILES_BYTES_MAX: u64 = 4 << 20;

/// Answers that were not sent, what was read and not taken, and what sessions remember of requests: from so many bytes on,
/// on all connections, each has to do with [`CROWDED_BYTES`]. Many peers that ask for much and read nothing would have
/// [`Effects::SEND_QUEUE_HIGH_BYTES`] each.
pub const CROWDED_KEPT_BYTES: u64 = 4 << 20;

/// Bytes kept for one peer past which nothing more is read from it, when much is kept for all of them; as many are read at
/// a time then.
pub const CROWDED_BYTES: u64 = scaled(8 << 10);

/// Whole files that wait for the disk: from so many bytes on, on all connections, nothing more is read from one that has
/// any waiting.
pub const FILES_WAITING_ALL_BYTES: u64 = 16 << 20;

/// The counts. Its clones are one.
#[derive(Clone, Debug, Default)]
pub struct Budget(Arc<Counts>);

#[derive(Debug, Default)]
struct Counts {
    small_files: AtomicU64,
    kept: AtomicU64,
    waiting_files: AtomicU64,
}

/// Which of them.
#[derive(Clone, Copy, Debug)]
enum Count {
    SmallFiles,
    Kept,
    WaitingFiles,
}

impl Budget {
    /// Whether the connections have to do with less.
    pub fn is_crowded(&self) -> bool {
        self.kept_bytes() >= CROWDED_KEPT_BYTES
    }

    /// Room for so much of small files, if there is.
    pub fn take(&self, bytes: u64) -> Option<Share> {
        let with = |taken: u64| taken.checked_add(bytes).filter(|&taken| taken <= SMALL_FILES_BYTES_MAX);
        self.count(Count::SmallFiles).fetch_update(Ordering::Relaxed, Ordering::Relaxed, with).ok()?;
        Some(Share { budget: self.clone(), count: Count::SmallFiles, bytes })
    }

    /// What somebody keeps for whom it cannot be refused: nothing yet.
    pub fn keep(&self) -> Share {
        Share { budget: self.clone(), count: Count::Kept, bytes: 0 }
    }

    /// The files of somebody that wait for the disk: none yet.
    pub(crate) fn wait(&self) -> Share {
        Share { budget: self.clone(), count: Count::WaitingFiles, bytes: 0 }
    }

    pub(crate) fn kept_bytes(&self) -> u64 {
        self.count(Count::Kept).load(Ordering::Relaxed)
    }

    /// Whether so many files wait for the disk that there should not be more of those who have some waiting.
    pub(crate) fn has_many_files(&self) -> bool {
        self.count(Count::WaitingFiles).load(Ordering::Relaxed) >= FILES_WAITING_ALL_BYTES
    }

    /// Past how many bytes nothing more is to be produced for one peer.
    pub(crate) fn high_bytes(&self) -> u64 {
        if self.is_crowded() { CROWDED_BYTES } else { Effects::<()>::SEND_QUEUE_HIGH_BYTES }
    }

    /// Below how many bytes there may be more for it again.
    pub(crate) fn low_bytes(&self) -> u64 {
        if self.is_crowded() { CROWDED_BYTES / 2 } else { Effects::<()>::SEND_QUEUE_LOW_BYTES }
    }

    fn count(&self, count: Count) -> &AtomicU64 {
        match count {
            Count::SmallFiles => &self.0.small_files,
            Count::Kept => &self.0.kept,
            Count::WaitingFiles => &self.0.waiting_files,
        }
    }
}

/// A part of a [`Budget`], given back when it is dropped.
#[derive(Debug)]
pub struct Share {
    budget: Budget,
    count: Count,
    bytes: u64,
}

impl Share {
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }

    pub(crate) fn budget(&self) -> &Budget {
        &self.budget
    }

    /// Takes or gives back what makes it so large, whatever is left.
    pub fn set(&mut self, bytes: u64) {
        let count = self.budget.count(self.count);
        if bytes > self.bytes {
            count.fetch_add(bytes - self.bytes, Ordering::Relaxed);
        } else if bytes < self.bytes {
            count.fetch_sub(self.bytes - bytes, Ordering::Relaxed);
        }
        self.bytes = bytes;
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.set(0);
    }
}

#[cfg(test)]
#[cfg(not(loom))]
mod tests {
    use super::*;

    #[test]
    fn there_is_as_much_room_for_small_files_as_the_limit_and_no_more() {
        let budget = Budget::default();
        let mut most = budget.take(SMALL_FILES_BYTES_MAX - 1).unwrap();
        assert!(budget.take(2).is_none());
        assert!(budget.take(u64::MAX).is_none());
        let last = budget.take(1).unwrap();
        assert!(budget.take(1).is_none() && budget.take(0).is_some());
        most.set(1);
        assert!(budget.take(SMALL_FILES_BYTES_MAX - 1).is_none());
        drop((most, last));
        assert!(budget.take(SMALL_FILES_BYTES_MAX).is_some());
        assert!(!budget.is_crowded() && !budget.has_many_files(), "it is a count of its own");
    }

    #[test]
    fn it_is_crowded_from_the_limit_on_whoever_keeps_it() {
        let budget = Budget::default();
        let (mut one, mut other) = (budget.keep(), budget.keep());
        one.set(1);
        other.set(CROWDED_KEPT_BYTES - 2);
        assert!(!budget.is_crowded());
        other.set(CROWDED_KEPT_BYTES - 1);
        assert!(budget.is_crowded());
        drop(one);
        assert!(!budget.is_crowded());
        other.set(CROWDED_KEPT_BYTES);
        assert!(budget.is_crowded() && !budget.has_many_files());
        drop(other);
        assert_eq!(budget.kept_bytes(), 0);
    }

    #[test]
    fn there_are_many_files_from_the_limit_on() {
        let budget = Budget::default();
        let mut files = budget.wait();
        files.set(FILES_WAITING_ALL_BYTES - 1);
        assert!(!budget.has_many_files());
        files.set(FILES_WAITING_ALL_BYTES);
        assert!(budget.has_many_files() && !budget.is_crowded());
    }
}
