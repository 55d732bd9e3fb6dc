//! Memory to receive into, bounded and reused.

use std::fmt;
use std::ops::Deref;
use std::sync::{Arc, PoisonError};

use xferd_os::{Pages, scaled};

use crate::Waker;
use crate::sync::{Mutex, MutexGuard};

/// How many buffers a [`BufferPool`] lends at most, and how large they are.
#[derive(Clone, Copy, Debug)]
pub struct BufferLimits {
    /// Bytes of a large buffer. Each write costs the file system something beside its bytes: 256 KiB gave 2900 MB/s,
    /// 512 KiB 3470, 1 MiB 3710, 2 MiB 4030 (one flow of 469 MB, loopback to ext4). Six of the usual 1408 KiB take an
    /// extent of 8 MiB (docs/why-receive-path.md).
    pub large_bytes: usize,
    /// Large buffers.
    pub large_max: usize,
    /// Bytes of a small buffer.
    pub small_bytes: usize,
    /// Small buffers.
    pub small_max: usize,
}

impl Default for BufferLimits {
    fn default() -> BufferLimits {
        BufferLimits {
            large_bytes: scaled(1408 * 1024) as usize,
            large_max: 8,
            small_bytes: scaled(64 * 1024) as usize,
            small_max: 128,
        }
    }
}

/// The buffers of one driver: large ones for bulk data, small ones for everything else.
///
/// A buffer is allocated when it is first needed, comes back when it is dropped (on any thread), and is kept for reuse.
/// The one that came back last, which is likely to be in a cache still, is lent first; so those that only a burst needed
/// are the others, and [`BufferPool::trim`] gives them back.
#[derive(Debug)]
pub struct BufferPool {
    large: Arc<Shelf>,
    small: Arc<Shelf>,
}

impl BufferPool {
    pub(crate) fn new(limits: BufferLimits, waker: Waker) -> BufferPool {
        BufferPool {
            large: Shelf::new(limits.large_bytes, limits.large_max, waker.clone()),
            small: Shelf::new(limits.small_bytes, limits.small_max, waker),
        }
    }

    /// An empty large buffer, or `None` while all are lent.
    pub fn take_large(&self) -> Option<PoolBuf> {
        self.large.take()
    }

    /// An empty small buffer, or `None` while all are lent.
    pub fn take_small(&self) -> Option<PoolBuf> {
        self.small.take()
    }

    /// Bytes of a large buffer.
    pub fn large_bytes(&self) -> usize {
        self.large.bytes
    }

    /// Bytes of a small buffer.
    pub fn small_bytes(&self) -> usize {
        self.small.bytes
    }

    /// Gives the kernel back what was free all the time since the last call.
    pub fn trim(&self) {
        self.large.trim();
        self.small.trim();
    }

    /// How many buffers of that size can be taken. If none, the driver is woken when one comes back.
    pub(crate) fn free_or_wakes(&self, size: BufferSize) -> usize {
        let mut stock = match size {
            BufferSize::Large => self.large.stock(),
            BufferSize::Small => self.small.stock(),
        };
        let free = stock.free.len() + stock.unallocated;
        stock.wanted = free == 0;
        free
    }
}

/// Which of the two sizes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum BufferSize {
    Large,
    Small,
}

/// A lent buffer: filled bytes, which it dereferences to, and spare bytes behind them. It returns to its pool on drop.
pub struct PoolBuf {
    bytes: Pages,
    start: usize,
    end: usize,
    limit: usize,
    shelf: Arc<Shelf>,
}

impl PoolBuf {
    /// The bytes to be filled next.
    pub fn spare_mut(&mut self) -> &mut [u8] {
        self.bytes.get_mut(self.end..self.limit).unwrap_or_default()
    }

    /// How many bytes are spare.
    pub fn spare_bytes(&self) -> usize {
        self.limit - self.end
    }

    /// Makes at most `bytes` spare, so that a receive stops exactly where an announced body ends.
    pub fn limit_spare(&mut self, bytes: usize) {
        self.limit = self.limit.min(self.end.saturating_add(bytes));
    }

    /// Counts `bytes` of the spare part as filled, at most all of it.
    pub fn fill(&mut self, bytes: usize) {
        self.end += bytes.min(self.spare_bytes());
    }

    /// Drops `bytes` from the front of what is filled, at most all of it.
    pub fn advance(&mut self, bytes: usize) {
        self.start += bytes.min(self.len());
    }

    /// Keeps the first `bytes` of what is filled.
    pub fn truncate(&mut self, bytes: usize) {
        self.end = self.start + bytes.min(self.len());
    }

    /// Puts `bytes` in front of what is filled. False, and nothing happens, if there is no room: there is for what a page
    /// of the file has before the offset that the buffer was [cleared for](Self::clear_for).
    pub fn prepend(&mut self, bytes: &[u8]) -> bool {
        let Some(start) = self.start.checked_sub(bytes.len()) else { return false };
        let Some(room) = self.bytes.get_mut(start..self.start) else { return false };
        room.copy_from_slice(bytes);
        self.start = start;
        true
    }

    /// Empties it: all its bytes are spare again.
    pub fn clear(&mut self) {
        self.clear_for(0);
    }

    /// Empties it for bytes that go to, or come from, `offset` of a file: the first one will lie in its page as it does in
    /// the file, and the end of the buffer at the end of a page. Copies between misaligned pages are slower, which cost a
    /// tenth of a transfer's rate (3650 and 4030 MB/s).
    pub fn clear_for(&mut self, offset: u64) {
        self.start = (offset % PAGE_BYTES as u64) as usize;
        self.end = self.start;
        self.limit = self.bytes.len();
    }
}

impl Deref for PoolBuf {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        self.bytes.get(self.start..self.end).unwrap_or_default()
    }
}

impl fmt::Debug for PoolBuf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PoolBuf({} bytes, {} spare)", self.len(), self.spare_bytes())
    }
}

impl Drop for PoolBuf {
    fn drop(&mut self) {
        self.shelf.put(std::mem::replace(&mut self.bytes, Pages::new(0)));
    }
}

/// Buffers of one size.
#[derive(Debug)]
struct Shelf {
    bytes: usize,
    stock: Mutex<Stock>,
    waker: Waker,
}

#[derive(Debug)]
struct Stock {
    free: Vec<Pages>,
    /// How many were free at least since the last trim: the first ones.
    idle: usize,
    /// How many may still be allocated.
    unallocated: usize,
    /// Whether somebody waits for one to come back.
    wanted: bool,
}

impl Shelf {
    fn new(bytes: usize, max: usize, waker: Waker) -> Arc<Shelf> {
        let stock = Stock { free: Vec::new(), idle: 0, unallocated: max, wanted: false };
        // Whole pages, so that a buffer cleared for any offset has room.
        let bytes = bytes.next_multiple_of(PAGE_BYTES);
        Arc::new(Shelf { bytes, stock: Mutex::new(stock), waker })
    }

    fn take(self: &Arc<Shelf>) -> Option<PoolBuf> {
        let reused = {
            let mut stock = self.stock();
            let reused = stock.free.pop();
            stock.idle = stock.idle.min(stock.free.len());
            if reused.is_none() {
                stock.unallocated = stock.unallocated.checked_sub(1)?;
            }
            reused
        };
        let bytes = reused.unwrap_or_else(|| Pages::new(self.bytes));
        let mut buf = PoolBuf { bytes, start: 0, end: 0, limit: 0, shelf: Arc::clone(self) };
        buf.clear();
        Some(buf)
    }

    fn put(&self, bytes: Pages) {
        let wanted = {
            let mut stock = self.stock();
            stock.free.push(bytes);
            std::mem::take(&mut stock.wanted)
        };
        if wanted {
            self.waker.wake();
        }
    }

    fn trim(&self) {
        let _idle: Vec<Pages> = {
            let mut stock = self.stock();
            let idle = stock.idle;
            stock.unallocated += idle;
            let trimmed = stock.free.drain(..idle).collect();
            stock.idle = stock.free.len();
            trimmed
        };
    }

    fn stock(&self) -> MutexGuard<'_, Stock> {
        self.stock.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The size of a page where it matters: pages that are larger begin at multiples of this too.
pub const PAGE_BYTES: usize = 4096;

#[cfg(test)]
#[cfg(loom)]
mod models {
    use loom::thread;

    use super::*;

    #[test]
    fn who_found_no_buffer_is_woken_when_one_comes_back() {
        loom::model(|| {
            let waker = Waker::model();
            let limits = BufferLimits { large_bytes: 1, large_max: 0, small_bytes: 1, small_max: 1 };
            let pool = BufferPool::new(limits, waker.clone());
            let buf = pool.take_small().unwrap();
            thread::spawn(move || drop(buf));
            while pool.free_or_wakes(BufferSize::Small) == 0 {
                waker.turn();
            }
            assert!(pool.take_small().is_some());
        });
    }
}

#[cfg(test)]
#[cfg(not(loom))]
mod tests {
    use super::*;
    use crate::sync::Bell;

    const LIMITS: BufferLimits =
        BufferLimits { large_bytes: 8192, large_max: 2, small_bytes: 4096, small_max: 1 };

    fn pool() -> (mio::Poll, BufferPool) {
        let poll = mio::Poll::new().unwrap();
        let bell = mio::Waker::new(poll.registry(), mio::Token(0)).unwrap();
        (poll, BufferPool::new(LIMITS, Waker::new(Bell::Mio(bell))))
    }

    #[test]
    fn as_many_buffers_are_lent_as_the_limit_says_and_no_more() {
        let (_poll, pool) = pool();
        let first = pool.take_large().unwrap();
        let second = pool.take_large().unwrap();
        assert!(pool.take_large().is_none());
        assert!(pool.take_small().is_some(), "sizes have limits of their own");
        drop(second);
        assert!(pool.take_large().is_some());
        drop(first);
    }

    #[test]
    fn the_buffer_that_came_back_last_is_lent_first() {
        let (_poll, pool) = pool();
        let (first, mut second) = (pool.take_large().unwrap(), pool.take_large().unwrap());
        second.spare_mut()[0] = 7;
        drop(first);
        drop(second);
        assert_eq!(pool.take_large().unwrap().spare_mut()[0], 7);
    }

    #[test]
    fn what_only_a_burst_needed_is_given_back_and_can_be_had_again() {
        let (_poll, pool) = pool();
        let mut burst = [pool.take_large().unwrap(), pool.take_large().unwrap()];
        burst.iter_mut().for_each(|buf| buf.spare_mut()[0] = 7);
        pool.trim();
        drop(burst);
        pool.trim();
        let first = |buf: &mut PoolBuf| buf.spare_mut()[0];
        assert_eq!(first(&mut pool.take_large().unwrap()), 7, "they were lent since the trim before");
        pool.trim();
        let mut both = [pool.take_large().unwrap(), pool.take_large().unwrap()];
        assert_eq!(both.each_mut().map(first), [7, 0], "one of them was needed again");
        assert!(pool.take_large().is_none(), "what is given back counts no twice");
    }

    #[test]
    fn a_buffer_is_filled_limited_and_cut_at_both_ends() {
        let (_poll, pool) = pool();
        let mut buf = pool.take_small().unwrap();
        assert_eq!((buf.len(), buf.spare_bytes()), (0, 4096));
        buf.limit_spare(6);
        buf.spare_mut().copy_from_slice(b"abcdef");
        buf.fill(5);
        assert_eq!((&*buf, buf.spare_bytes()), (&b"abcde"[..], 1));
        buf.advance(1);
        buf.truncate(3);
        assert_eq!(&*buf, b"bcd");
        buf.clear();
        assert_eq!((buf.len(), buf.spare_bytes()), (0, 4096));
    }

    #[test]
    fn no_count_reaches_past_the_ends_of_a_buffer() {
        let (_poll, pool) = pool();
        let mut buf = pool.take_small().unwrap();
        buf.limit_spare(usize::MAX);
        buf.fill(usize::MAX);
        assert_eq!((buf.len(), buf.spare_bytes()), (4096, 0));
        buf.truncate(usize::MAX);
        buf.advance(usize::MAX);
        assert!(buf.is_empty());
    }

    #[test]
    fn a_buffer_cleared_for_an_offset_begins_and_ends_as_the_pages_of_the_file_do() {
        let (_poll, pool) = pool();
        let mut buf = pool.take_large().unwrap();
        for offset in [0, 1, 24, 4095, 4096, 5000, u64::MAX] {
            buf.clear_for(offset);
            assert_eq!(buf.spare_bytes(), 8192 - (offset % 4096) as usize);
            assert_eq!(buf.spare_mut().as_ptr() as usize % 4096, (offset % 4096) as usize);
        }
    }

    #[test]
    fn who_waits_for_a_buffer_is_woken_when_one_of_that_size_comes_back() {
        let (mut poll, pool) = pool();
        let mut events = mio::Events::with_capacity(1);
        let buf = pool.take_small().unwrap();
        assert_eq!(pool.free_or_wakes(BufferSize::Small), 0);
        assert_eq!(pool.free_or_wakes(BufferSize::Large), 2);
        std::thread::spawn(move || drop(buf)).join().unwrap();
        poll.poll(&mut events, None).unwrap();
        assert_eq!(pool.free_or_wakes(BufferSize::Small), 1);
    }
}
