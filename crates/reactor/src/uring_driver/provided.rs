//! Buffers that the kernel picks from when there is something to receive (io_uring_register_buf_ring(3)).

#![allow(unsafe_code)]

use std::alloc::{Layout, alloc_zeroed, dealloc, handle_alloc_error};
use std::io;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU16, Ordering};

use io_uring::types::BufRingEntry;

use crate::workers::count;
use crate::{PAGE_BYTES, PoolBuf};

/// A ring of buffers shared with the kernel: we add at its tail, the kernel takes from its head.
pub(super) struct Provided {
    entries: NonNull<BufRingEntry>,
    layout: Layout,
    tail: u16,
    /// What the kernel has, by the number it knows it by.
    lent: Vec<Option<PoolBuf>>,
    free: Vec<u16>,
}

// SAFETY: the memory behind `entries` is owned by this value alone, beside the kernel.
unsafe impl Send for Provided {}

impl Provided {
    /// The number by which requests name it.
    pub(super) const GROUP: u16 = 0;

    /// An empty ring of at most `buffers` buffers.
    ///
    /// # Errors
    /// `InvalidInput` unless that is a power of two.
    pub(super) fn new(buffers: u16) -> io::Result<Self> {
        if !buffers.is_power_of_two() {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        let bytes = usize::from(buffers) * size_of::<BufRingEntry>();
        // The kernel wants it to begin at a page.
        let layout = Layout::from_size_align(bytes, PAGE_BYTES).map_err(io::Error::other)?;
        // SAFETY: the size is not 0: no power of two is.
        let memory = unsafe { alloc_zeroed(layout) };
        let Some(entries) = NonNull::new(memory.cast()) else { handle_alloc_error(layout) };
        let lent = (0..buffers).map(|_| None).collect();
        Ok(Self { entries, layout, tail: 0, lent, free: (0..buffers).rev().collect() })
    }

    /// Where the kernel finds it.
    pub(super) fn address(&self) -> u64 {
        self.entries.as_ptr().expose_provenance() as u64
    }

    /// Buffers that the kernel can pick from.
    pub(super) fn len(&self) -> usize {
        self.lent.len() - self.free.len()
    }

    /// Adds an empty buffer. It comes back if there is no room.
    pub(super) fn add(&mut self, mut buf: PoolBuf) -> Result<(), PoolBuf> {
        let Some(number) = self.free.pop() else { return Err(buf) };
        let place = usize::from(self.tail) & (self.lent.len() - 1);
        let spare = buf.spare_mut();
        // SAFETY: `place` is within the ring, and the kernel does not look at entries that the tail has not passed. Of as
        // many buffers as there are places none is in two.
        unsafe {
            let entry = &mut *self.entries.as_ptr().add(place);
            entry.set_addr(spare.as_mut_ptr().expose_provenance() as u64);
            entry.set_len(count(spare.len()));
            entry.set_bid(number);
        }
        self.tail = self.tail.wrapping_add(1);
        // SAFETY: the tail lies within the first entry, and is aligned; only this thread writes it.
        let tail = unsafe { AtomicU16::from_ptr(BufRingEntry::tail(self.entries.as_ptr()).cast_mut()) };
        tail.store(self.tail, Ordering::Release);
        if let Some(lent) = self.lent.get_mut(usize::from(number)) {
            *lent = Some(buf);
        }
        Ok(())
    }

    /// The buffer that the kernel has picked, and will not touch any more.
    pub(super) fn take(&mut self, number: u16) -> Option<PoolBuf> {
        let buf = self.lent.get_mut(usize::from(number))?.take()?;
        self.free.push(number);
        Some(buf)
    }
}

impl Drop for Provided {
    fn drop(&mut self) {
        // SAFETY: it was allocated so, and the kernel has forgotten it: else it is leaked instead.
        unsafe { dealloc(self.entries.as_ptr().cast(), self.layout) };
    }
}
