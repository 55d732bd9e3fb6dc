use std::ffi::c_void;
use std::fs::File;
use std::io;
use std::ptr::NonNull;

use rustix::mm::{MapFlags, ProtFlags};

/// A shared, read-only mapping of a file's front.
///
/// Only the kernel ever reads it, on behalf of [`Socket::send_mapped`](crate::net::Socket::send_mapped): there is no
/// way to get at its bytes from here. A page that the file has lost since is therefore an error of that call, where a
/// load instruction would raise `SIGBUS`.
#[derive(Debug)]
pub struct Mapping {
    start: NonNull<c_void>,
    bytes: usize,
}

// SAFETY: the pages are never written or read by this process, and unmapping them is not bound to a thread.
unsafe impl Send for Mapping {}
// SAFETY: as above; shared access amounts to passing the address to the kernel.
unsafe impl Sync for Mapping {}

impl Mapping {
    /// Maps the first `len` bytes of `file`, which may end earlier.
    ///
    /// # Errors
    /// `InvalidInput` if `len` does not fit the address space, else what `mmap` answers.
    pub fn map(file: &File, len: u64) -> io::Result<Mapping> {
        let bytes = usize::try_from(len).map_err(|_| io::ErrorKind::InvalidInput)?;
        if bytes == 0 {
            return Ok(Mapping { start: NonNull::dangling(), bytes });
        }
        // SAFETY: the kernel chooses the address, so no other mapping is replaced.
        let start = unsafe {
            rustix::mm::mmap(std::ptr::null_mut(), bytes, ProtFlags::READ, MapFlags::SHARED, file, 0)?
        };
        let start = NonNull::new(start).ok_or_else(|| io::Error::other("mmap answered a null address"))?;
        Ok(Mapping { start, bytes })
    }

    /// Bytes mapped.
    pub fn len(&self) -> u64 {
        self.bytes as u64
    }

    /// Whether nothing is mapped.
    pub fn is_empty(&self) -> bool {
        self.bytes == 0
    }

    /// Where `offset` lies in memory, and how many of the `len` bytes from there on are mapped.
    pub(crate) fn range(&self, offset: u64, len: usize) -> (NonNull<c_void>, usize) {
        let offset = usize::try_from(offset).map_or(self.bytes, |offset| offset.min(self.bytes));
        // SAFETY: `offset` is at most the mapping's length.
        let start = unsafe { self.start.byte_add(offset) };
        (start, len.min(self.bytes - offset))
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        if self.bytes > 0 {
            // SAFETY: the range was mapped by `map` and nothing refers to it any more. Should the kernel refuse, the
            // mapping merely stays.
            let _ = unsafe { rustix::mm::munmap(self.start.as_ptr(), self.bytes) };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_range_reaches_past_the_mapping() {
        let file = tempfile::tempfile().unwrap();
        file.set_len(10_000).unwrap();
        let mapping = Mapping::map(&file, 10_000).unwrap();
        let start = mapping.start.as_ptr() as usize;
        let range = |offset, len| {
            let (at, len) = mapping.range(offset, len);
            (at.as_ptr() as usize - start, len)
        };
        assert_eq!(range(0, 10_000), (0, 10_000));
        assert_eq!(range(0, usize::MAX), (0, 10_000));
        assert_eq!(range(9_999, 2), (9_999, 1));
        assert_eq!(range(10_000, 1), (10_000, 0));
        assert_eq!(range(u64::MAX, usize::MAX), (10_000, 0));
    }

    #[test]
    fn an_empty_mapping_has_nothing_to_give() {
        let mapping = Mapping::map(&tempfile::tempfile().unwrap(), 0).unwrap();
        assert!(mapping.is_empty());
        assert_eq!(mapping.range(0, 1).1, 0);
    }
}
