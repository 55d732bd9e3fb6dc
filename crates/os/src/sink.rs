//! Files that are written by offset, and the way their bytes take to the disk.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::{File, FileExt};

/// What direct writes are aligned to, in memory, in the file and in length: no disk in use has larger sectors.
pub const DIRECT_ALIGNMENT: usize = 4096;

/// An open file, and the way its bytes take.
#[derive(Debug)]
pub struct Sink {
    file: Arc<File>,
    way: Way,
    has_lost: AtomicBool,
}

#[derive(Debug)]
enum Way {
    /// Through the page cache, from where the kernel writes it when it sees fit.
    Cached,
    /// Through the page cache, written at once and dropped from it then (`RWF_DONTCACHE`, Linux 6.14).
    Uncached,
    /// Around the page cache (`O_DIRECT`), by a description of its own; what is not aligned goes through it.
    Direct(File),
    /// Through the page cache, which is emptied behind the writer (`sync_file_range(2)`).
    Paced,
}

impl Sink {
    /// Writes to `file` through the page cache.
    pub fn cached(file: Arc<File>) -> Self {
        Self::new(file, Way::Cached)
    }

    /// Writes to `file` and keeps none of it in the page cache. Ask [`takes_uncached`] before.
    pub fn uncached(file: Arc<File>) -> Self {
        Self::new(file, Way::Uncached)
    }

    /// Writes to `file` around the page cache. Ask [`takes_direct`] before.
    ///
    /// # Errors
    /// What the system says to opening it once more.
    pub fn direct(file: Arc<File>) -> io::Result<Self> {
        let direct = kernel::reopen_direct(&file)?;
        Ok(Self::new(file, Way::Direct(direct)))
    }

    /// Writes to `file` through the page cache, and waits for the disk. Ask [`takes_paced`] before.
    pub fn paced(file: Arc<File>) -> Self {
        Self::new(file, Way::Paced)
    }

    fn new(file: Arc<File>, way: Way) -> Self {
        Self { file, way, has_lost: AtomicBool::new(false) }
    }

    /// Whether writing waits for the disk, instead of for memory.
    pub fn waits_for_disk(&self) -> bool {
        matches!(self.way, Way::Direct(..) | Way::Paced)
    }

    /// Whether some of what was written before may be lost, and no sync will say so any more: waiting for the disk has failed, and
    /// the kernel tells of that once (`sync_file_range(2)`, as `fsync(2)`).
    pub fn has_lost(&self) -> bool {
        self.has_lost.load(Ordering::Acquire)
    }

    /// The file, for everything but writing its content.
    pub fn file(&self) -> &Arc<File> {
        &self.file
    }

    /// Writes all of `bytes` at `offset`. Whole pages at a time are best: of a page that is written in two parts the
    /// first may have gone to disk when the second comes, and then has to be read again.
    ///
    /// # Errors
    /// What `pwrite(2)` says.
    pub fn write_all_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        match &self.way {
            Way::Cached => self.file.write_all_at(bytes, offset),
            Way::Uncached => kernel::write_uncached(&self.file, bytes, offset),
            Way::Direct(direct) => {
                let aligned = aligned_bytes(bytes, offset);
                let (aligned, rest) = bytes.split_at(aligned);
                direct.write_all_at(aligned, offset)?;
                self.file.write_all_at(rest, offset + aligned.len() as u64)
            }
            Way::Paced => {
                self.file.write_all_at(bytes, offset)?;
                kernel::pace(&self.file, offset, bytes.len())
                    .inspect_err(|_| self.has_lost.store(true, Ordering::Release))
            }
        }
    }
}

/// Whether this system and the file system of `file` have uncached writes. If so, its first byte was written.
///
/// # Errors
/// What the system says to writing.
pub fn takes_uncached(file: &File) -> io::Result<bool> {
    if_supported(kernel::probe_uncached(file))
}

/// Whether this system and the file system of `file` have direct writes.
///
/// # Errors
/// What the system says to opening it once more.
pub fn takes_direct(file: &File) -> io::Result<bool> {
    if_supported(kernel::reopen_direct(file).map(drop))
}

/// Whether this system and the file system of `file` can be told when to write.
///
/// # Errors
/// What the system says to that.
pub fn takes_paced(file: &File) -> io::Result<bool> {
    if_supported(kernel::probe_paced(file))
}

fn if_supported(answer: io::Result<()>) -> io::Result<bool> {
    match answer {
        Err(error) if error.kind() == io::ErrorKind::Unsupported => Ok(false),
        answer => answer.map(|()| true),
    }
}

/// How many bytes at the front of `bytes` can go to `offset` directly.
fn aligned_bytes(bytes: &[u8], offset: u64) -> usize {
    let is_aligned = bytes.as_ptr().addr() % DIRECT_ALIGNMENT == 0 && offset % DIRECT_ALIGNMENT as u64 == 0;
    if is_aligned { bytes.len() - bytes.len() % DIRECT_ALIGNMENT } else { 0 }
}

#[cfg(all(target_os = "linux", not(any(xferd_portable, xferd_sim))))]
mod kernel {
    use std::fs::{File, OpenOptions};
    use std::io::{self, IoSlice};
    use std::os::fd::AsRawFd;
    use std::os::unix::fs::OpenOptionsExt;

    use rustix::fs::Advice;
    use rustix::io::{Errno, ReadWriteFlags, pwritev2};

    /// `include/uapi/linux/fs.h`.
    const RWF_DONTCACHE: ReadWriteFlags = ReadWriteFlags::from_bits_retain(0x80);

    /// How far pacing lets the disk be behind: enough to keep it busy, and little against any machine's memory.
    const BEHIND_BYTES: u64 = 8 << 20;

    pub(super) fn probe_uncached(file: &File) -> io::Result<()> {
        // Flags are looked at only if there is something to write.
        match pwritev2(file, &[IoSlice::new(&[0])], 0, RWF_DONTCACHE) {
            Err(Errno::OPNOTSUPP | Errno::NOSYS | Errno::INVAL) => Err(io::ErrorKind::Unsupported.into()),
            Err(errno) => Err(errno.into()),
            Ok(_) => Ok(()),
        }
    }

    pub(super) fn write_uncached(file: &File, mut bytes: &[u8], mut offset: u64) -> io::Result<()> {
        while !bytes.is_empty() {
            match pwritev2(file, &[IoSlice::new(bytes)], offset, RWF_DONTCACHE) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(written) => {
                    bytes = bytes.get(written..).unwrap_or_default();
                    offset += written as u64;
                }
                Err(Errno::INTR) => {}
                Err(errno) => return Err(errno.into()),
            }
        }
        Ok(())
    }

    pub(super) fn reopen_direct(file: &File) -> io::Result<File> {
        // A duplicate would share the flag with the original; a file without a name can only be reached like this.
        let path = format!("/proc/self/fd/{}", file.as_raw_fd());
        OpenOptions::new().write(true).custom_flags(libc::O_DIRECT).open(path).map_err(|error| {
            match error.raw_os_error() {
                // The file system has no direct writes; or /proc is not there.
                Some(libc::EINVAL | libc::EOPNOTSUPP | libc::ENOENT) => io::ErrorKind::Unsupported.into(),
                _ => error,
            }
        })
    }

    pub(super) fn probe_paced(file: &File) -> io::Result<()> {
        sync_range(file, 0, 1, libc::SYNC_FILE_RANGE_WRITE).map_err(|error| match error.raw_os_error() {
            Some(libc::ENOSYS | libc::EINVAL | libc::ESPIPE | libc::EOPNOTSUPP) => {
                io::ErrorKind::Unsupported.into()
            }
            _ => error,
        })
    }

    /// Has what was just written go to disk, waits for what was written a while before it, and lets that be forgotten.
    pub(super) fn pace(file: &File, offset: u64, bytes: usize) -> io::Result<()> {
        let len = bytes as u64;
        sync_range(file, offset, len, libc::SYNC_FILE_RANGE_WRITE)?;
        let Some(behind) = offset.checked_sub(BEHIND_BYTES) else { return Ok(()) };
        let all = libc::SYNC_FILE_RANGE_WAIT_BEFORE
            | libc::SYNC_FILE_RANGE_WRITE
            | libc::SYNC_FILE_RANGE_WAIT_AFTER;
        sync_range(file, behind, len, all)?;
        // Only advice; what is left is dropped under memory pressure.
        let _ = rustix::fs::fadvise(file, behind, std::num::NonZeroU64::new(len), Advice::DontNeed);
        Ok(())
    }

    fn sync_range(file: &File, offset: u64, bytes: u64, flags: libc::c_uint) -> io::Result<()> {
        let invalid = |_| io::Error::from(io::ErrorKind::InvalidInput);
        let (offset, bytes) = (offset.try_into().map_err(invalid)?, bytes.try_into().map_err(invalid)?);
        // SAFETY: the descriptor is open, and nothing else is passed but numbers.
        match unsafe { libc::sync_file_range(file.as_raw_fd(), offset, bytes, flags) } {
            0 => Ok(()),
            _ => Err(io::Error::last_os_error()),
        }
    }
}

/// Where the page cache cannot be gone around, or nobody has tried.
#[cfg(not(all(target_os = "linux", not(any(xferd_portable, xferd_sim)))))]
mod kernel {
    use std::io;

    use crate::{File, FileExt};

    pub(super) fn probe_uncached(_: &File) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }

    pub(super) fn write_uncached(file: &File, bytes: &[u8], offset: u64) -> io::Result<()> {
        file.write_all_at(bytes, offset)
    }

    pub(super) fn reopen_direct(_: &File) -> io::Result<File> {
        Err(io::ErrorKind::Unsupported.into())
    }

    pub(super) fn probe_paced(_: &File) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }

    pub(super) fn pace(_: &File, _: u64, _: usize) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Memory that begins at a page.
    fn aligned(memory: &mut Vec<u8>, bytes: usize) -> &mut [u8] {
        memory.resize(bytes + DIRECT_ALIGNMENT, 0);
        let start = memory.as_ptr().align_offset(DIRECT_ALIGNMENT);
        &mut memory[start..start + bytes]
    }

    #[test]
    fn whatever_the_way_and_the_alignment_the_bytes_arrive() {
        // Beside the sources: a temporary directory may be in memory, where some ways are not to be had.
        let directory = tempfile::tempdir_in(env!("CARGO_MANIFEST_DIR")).unwrap();
        let new = |name: &str| {
            let path = directory.path().join(name);
            (Arc::new(File::create_new(&path).unwrap()), path)
        };
        let mut sinks = Vec::new();
        let (file, path) = new("cached");
        sinks.push((Sink::cached(file), path));
        let (file, path) = new("uncached");
        if takes_uncached(&file).unwrap() {
            sinks.push((Sink::uncached(file), path));
        }
        let (file, path) = new("direct");
        if takes_direct(&file).unwrap() {
            sinks.push((Sink::direct(file).unwrap(), path));
        }
        let (file, path) = new("paced");
        if takes_paced(&file).unwrap() {
            sinks.push((Sink::paced(file), path));
        }
        let mut memory = Vec::new();
        let all = aligned(&mut memory, 20 << 20);
        all.iter_mut().enumerate().for_each(|(at, byte)| *byte = (at % 251) as u8);
        for (sink, path) in sinks {
            let cuts = [0, 1 << 20, (1 << 20) + 5, 9 << 20, (9 << 20) + 4096, (20 << 20) - 1, 20 << 20];
            for cut in cuts.windows(2) {
                sink.write_all_at(&all[cut[0]..cut[1]], cut[0] as u64).unwrap();
            }
            assert!(std::fs::read(&path).unwrap() == all, "{}", path.display());
        }
    }

    #[test]
    #[cfg(all(target_os = "linux", not(any(xferd_portable, xferd_sim))))]
    fn waiting_for_the_disk_in_vain_is_remembered_and_writing_in_vain_is_not() {
        let open = |path: &str| Arc::new(File::options().write(true).open(path).unwrap());
        // It takes whatever is written, and there is nothing of it to wait for (ESPIPE).
        let waits = Sink::paced(open("/dev/null"));
        assert!(!waits.has_lost());
        waits.write_all_at(b"bytes", 0).unwrap_err();
        assert!(waits.has_lost());
        let full = Sink::paced(open("/dev/full"));
        full.write_all_at(b"bytes", 0).unwrap_err();
        assert!(!full.has_lost(), "what was not written was not promised either");
    }

    #[test]
    fn only_what_is_aligned_in_memory_in_the_file_and_in_length_goes_directly() {
        let mut memory = Vec::new();
        let bytes = aligned(&mut memory, 3 * DIRECT_ALIGNMENT);
        assert_eq!(aligned_bytes(bytes, 0), 3 * DIRECT_ALIGNMENT);
        assert_eq!(aligned_bytes(bytes, 4096), 3 * DIRECT_ALIGNMENT);
        assert_eq!(aligned_bytes(&bytes[..5000], 4096), 4096);
        assert_eq!(aligned_bytes(&bytes[..4095], 4096), 0);
        assert_eq!(aligned_bytes(bytes, 1), 0);
        assert_eq!(aligned_bytes(&bytes[1..], 0), 0);
    }
}
