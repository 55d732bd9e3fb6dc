//! What a server, or a client, keeps in memory because of its peers, counted together.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use xferd_os::scaled;

use crate::session::Effects;

/// Bytes that all connections may have in memory together: answers that were not sent, what was read and not taken, small
/// files until they are whole and stored, or until they are sent, and what sessions remember of requests. Past it a small
/// file goes the way of a large one, into a staging file as it comes, or out of its file as it is sent: a peer may take as
/// long as it likes for its last byte.
pub const KEPT_BYTES_MAX: u64 = 8 << 20;

/// From so many on each connection has to do with [`CROWDED_BYTES`]: many peers that ask for much and read nothing would
/// have [`Effects::SEND_QUEUE_HIGH_BYTES`] each. The rest is for what was asked for before.
pub const CROWDED_KEPT_BYTES: u64 = KEPT_BYTES_MAX / 2;

/// Bytes kept for one peer past which nothing more is read from it, when much is kept for all of them; as many are read at
/// a time then.
pub const CROWDED_BYTES: u64 = scaled(8 << 10);

/// The count. Its clones are one.
#[derive(Clone, Debug, Default)]
pub struct Budget(Arc<AtomicU64>);

impl Budget {
    /// How many bytes are kept.
    pub(crate) fn kept_bytes(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    /// Whether the connections have to do with less.
    pub fn is_crowded(&self) -> bool {
        self.kept_bytes() >= CROWDED_KEPT_BYTES
    }

    /// A part of it, if so much is left.
    pub fn take(&self, bytes: u64) -> Option<Share> {
        let with = |kept: u64| kept.checked_add(bytes).filter(|&kept| kept <= KEPT_BYTES_MAX);
        self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, with).ok()?;
        Some(Share { budget: self.clone(), bytes })
    }

    /// What somebody keeps for whom it cannot be refused: nothing yet.
    pub(crate) fn share(&self) -> Share {
        Share { budget: self.clone(), bytes: 0 }
    }

    /// Past how many bytes nothing more is to be produced for one peer.
    pub(crate) fn high_bytes(&self) -> u64 {
        if self.is_crowded() { CROWDED_BYTES } else { Effects::<()>::SEND_QUEUE_HIGH_BYTES }
    }

    /// Below how many bytes there may be more for it again.
    pub(crate) fn low_bytes(&self) -> u64 {
        if self.is_crowded() { CROWDED_BYTES / 2 } else { Effects::<()>::SEND_QUEUE_LOW_BYTES }
    }
}

/// A part of a [`Budget`], given back when it is dropped.
#[derive(Debug)]
pub struct Share {
    budget: Budget,
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
    pub(crate) fn set(&mut self, bytes: u64) {
        if bytes > self.bytes {
            self.budget.0.fetch_add(bytes - self.bytes, Ordering::Relaxed);
        } else if bytes < self.bytes {
            self.budget.0.fetch_sub(self.bytes - bytes, Ordering::Relaxed);
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
    fn as_much_can_be_taken_as_the_limit_and_no_more() {
        let budget = Budget::default();
        let most = budget.take(KEPT_BYTES_MAX - 1).unwrap();
        assert!(budget.take(2).is_none());
        assert!(budget.take(u64::MAX).is_none());
        let last = budget.take(1).unwrap();
        assert!(budget.take(1).is_none() && budget.take(0).is_some());
        drop(most);
        assert!(budget.take(KEPT_BYTES_MAX).is_none());
        drop(last);
        assert!(budget.take(KEPT_BYTES_MAX).is_some());
    }

    #[test]
    fn it_is_crowded_from_half_of_it_on_whoever_keeps_it() {
        let budget = Budget::default();
        let (taken, mut kept) = (budget.take(1).unwrap(), budget.share());
        kept.set(CROWDED_KEPT_BYTES - 2);
        assert!(!budget.is_crowded());
        kept.set(CROWDED_KEPT_BYTES - 1);
        assert!(budget.is_crowded());
        drop(taken);
        assert!(!budget.is_crowded());
        kept.set(2 * KEPT_BYTES_MAX);
        assert!(budget.is_crowded() && budget.take(0).is_none());
        drop(kept);
        assert!(budget.take(KEPT_BYTES_MAX).is_some());
    }
}
