//! What the connections of one shard keep in memory for peers that have not read it yet, counted together.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::session::Effects;

/// Bytes that all connections of a shard may keep for their peers before each has to do with
/// [`CROWDED_BYTES`]: many peers that ask for much and read nothing would have [`Effects::SEND_QUEUE_HIGH_BYTES`] each.
pub(crate) const HELD_BYTES_MAX: u64 = 8 << 20;

/// Bytes kept for one peer past which nothing more is read from it, when the shard keeps much for all of them. A frame of
/// a listing has about as many.
pub(crate) const CROWDED_BYTES: u64 = 64 << 10;

/// The count. Its clones are one.
#[derive(Clone, Debug, Default)]
pub(crate) struct Held(Arc<AtomicU64>);

impl Held {
    /// Whether the connections have to do with less.
    pub(crate) fn is_crowded(&self) -> bool {
        self.0.load(Ordering::Relaxed) >= HELD_BYTES_MAX
    }

    /// Past how many bytes nothing more is to be produced for one peer.
    pub(crate) fn high_bytes(&self) -> u64 {
        if self.is_crowded() { CROWDED_BYTES } else { Effects::<()>::SEND_QUEUE_HIGH_BYTES }
    }

    /// Below how many bytes there may be more for it again.
    pub(crate) fn low_bytes(&self) -> u64 {
        if self.is_crowded() { CROWDED_BYTES / 2 } else { Effects::<()>::SEND_QUEUE_LOW_BYTES }
    }

    pub(crate) fn add(&self, bytes: u64) {
        self.0.fetch_add(bytes, Ordering::Relaxed);
    }

    pub(crate) fn remove(&self, bytes: u64) {
        self.0.fetch_sub(bytes, Ordering::Relaxed);
    }
}
