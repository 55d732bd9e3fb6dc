//! Memory that small files of all connections may take together, while they come and until they are sent.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Bytes of small files that may be in memory at a time, whatever connections they belong to. What finds no room goes the way of a
/// large file, into a staging file as it comes, or out of its file as it is read: a peer may take as long as it likes for its
/// last byte.
pub(crate) const SMALL_FILES_BYTES_MAX: u64 = 16 << 20;

/// How much is taken.
#[derive(Debug, Default)]
pub(crate) struct Room {
    taken: AtomicU64,
}

/// A part of the room, given back when it is dropped.
#[derive(Debug)]
pub struct Taken {
    room: Arc<Room>,
    bytes: u64,
}

impl Room {
    /// Takes room for `bytes`, if there is.
    pub(crate) fn take(self: &Arc<Self>, bytes: u64) -> Option<Taken> {
        let with = |taken: u64| taken.checked_add(bytes).filter(|&taken| taken <= SMALL_FILES_BYTES_MAX);
        self.taken.fetch_update(Ordering::Relaxed, Ordering::Relaxed, with).ok()?;
        Some(Taken { room: self.clone(), bytes })
    }
}

impl Drop for Taken {
    fn drop(&mut self) {
        self.room.taken.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_is_as_much_room_as_the_limit_and_no_more() {
        let room = Arc::<Room>::default();
        let most = room.take(SMALL_FILES_BYTES_MAX - 1).unwrap();
        assert!(room.take(2).is_none());
        assert!(room.take(u64::MAX).is_none());
        let last = room.take(1).unwrap();
        assert!(room.take(1).is_none() && room.take(0).is_some());
        drop(most);
        assert!(room.take(SMALL_FILES_BYTES_MAX).is_none());
        drop(last);
        assert!(room.take(SMALL_FILES_BYTES_MAX).is_some());
    }
}
