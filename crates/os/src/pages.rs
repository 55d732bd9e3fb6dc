use std::alloc::{Layout, handle_alloc_error};
use std::ops::{Deref, DerefMut};
use std::ptr::NonNull;

/// Memory of its own pages, zero at first, which the kernel has back at once when it is dropped.
///
/// An allocator keeps for later what is given back to it, and between what is not; memory that is needed in a burst only
/// would count as used for good.
#[derive(Debug)]
pub struct Pages {
    start: NonNull<u8>,
    bytes: usize,
}

// SAFETY: the pages are owned by this value alone, and unmapping them is not bound to a thread.
unsafe impl Send for Pages {}
// SAFETY: shared access is that to a slice.
unsafe impl Sync for Pages {}

impl Pages {
    /// `bytes` bytes from the start of a page on. A page takes memory once it is written to. Where there is none the process
    /// ends, as it does when an allocation fails.
    pub fn new(bytes: usize) -> Pages {
        if bytes == 0 {
            return Pages { start: NonNull::dangling(), bytes };
        }
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
        // SAFETY: the kernel chooses the address, so no other mapping is replaced.
        let start = unsafe {
            libc::mmap(std::ptr::null_mut(), bytes, libc::PROT_READ | libc::PROT_WRITE, flags, -1, 0)
        };
        match NonNull::new(start.cast()) {
            Some(start) if start.as_ptr() != libc::MAP_FAILED.cast() => Pages { start, bytes },
            _ => handle_alloc_error(Layout::array::<u8>(bytes).unwrap_or(Layout::new::<u8>())),
        }
    }
}

impl Deref for Pages {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        // SAFETY: so many bytes were mapped, are initialized by the kernel, and are borrowed with this value.
        unsafe { std::slice::from_raw_parts(self.start.as_ptr(), self.bytes) }
    }
}

impl DerefMut for Pages {
    fn deref_mut(&mut self) -> &mut [u8] {
        // SAFETY: as above, and nobody else has them meanwhile.
        unsafe { std::slice::from_raw_parts_mut(self.start.as_ptr(), self.bytes) }
    }
}

impl Drop for Pages {
    fn drop(&mut self) {
        if self.bytes > 0 {
            // SAFETY: they were mapped by `new`, and nothing refers to them any more. Should the kernel refuse, they merely
            // stay.
            let _ = unsafe { libc::munmap(self.start.as_ptr().cast(), self.bytes) };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn they_begin_at_a_page_and_keep_what_is_written() {
        let mut pages = Pages::new(10_000);
        assert_eq!((pages.len(), pages.as_ptr() as usize % 4096), (10_000, 0));
        assert!(pages.iter().all(|&byte| byte == 0));
        pages[9_999] = 7;
        assert_eq!(pages[9_999], 7);
        assert!(Pages::new(0).is_empty());
    }
}
