//! What the kernel knows about an open file, and what it can be told.
//!
//! Files are plain [`std::fs::File`]s; positional reads and writes are those of [`std::os::unix::fs::FileExt`].

use std::fs::File;
use std::io;

use rustix::buffer::spare_capacity;
use rustix::fs::{FlockOperation, Mode, Timespec, Timestamps, UTIME_OMIT};
use rustix::io::Errno;

use crate::attributes::{Attributes, MODE_BITS, Timestamp};

/// What `stat` tells about `file`.
///
/// # Errors
/// What `fstat(2)` says.
pub fn attributes(file: &File) -> io::Result<Attributes> {
    Ok(Attributes::of(&rustix::fs::fstat(file)?))
}

/// Appends the `len` bytes of `file` from `offset` on to `bytes`. Memory is not filled with zeros first: for a small file that
/// takes about as long as reading it.
///
/// # Errors
/// What `pread(2)` says; `UnexpectedEof` if the file ends before. What was read until then is there.
pub fn append(file: &File, offset: u64, len: usize, bytes: &mut Vec<u8>) -> io::Result<()> {
    let end = bytes.len().saturating_add(len);
    bytes.reserve_exact(len);
    let mut at = offset;
    while bytes.len() < end {
        match rustix::io::pread(file, spare_capacity(bytes), at) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(read) => at += read as u64,
            Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
    // There may have been more room, and more in the file.
    bytes.truncate(end);
    Ok(())
}

/// Takes `len` bytes of room on disk for `file`, which must be empty. Its size stays 0 and grows as it is written.
///
/// Where the system or the file system cannot do that, nothing happens: the room is then taken by the writes.
///
/// # Errors
/// What `fallocate(2)` says, above all that the disk is full.
#[cfg(all(target_os = "linux", not(xferd_portable)))]
pub fn preallocate(file: &File, len: u64) -> io::Result<()> {
    if len == 0 {
        return Ok(());
    }
    match rustix::fs::fallocate(file, rustix::fs::FallocateFlags::KEEP_SIZE, 0, len) {
        Err(Errno::OPNOTSUPP | Errno::NOSYS) => Ok(()),
        outcome => Ok(outcome?),
    }
}

/// Takes `len` bytes of room on disk for `file` where that is possible. Here it is not: the writes take the room.
///
/// # Errors
/// None.
#[cfg(not(all(target_os = "linux", not(xferd_portable))))]
pub fn preallocate(_file: &File, _len: u64) -> io::Result<()> {
    Ok(())
}

/// Has the content of `file` written to the disk, without waiting for it: to be followed by a sync, which alone says
/// whether it was. Where the system has no such call, nothing happens.
#[cfg(all(target_os = "linux", not(xferd_portable)))]
pub fn start_writeback(file: &File) {
    use std::os::fd::AsRawFd;
    // SAFETY: takes no pointer, and the descriptor is open for as long as `file` is borrowed.
    // What goes wrong is told by the sync that follows.
    unsafe { libc::sync_file_range(file.as_raw_fd(), 0, 0, libc::SYNC_FILE_RANGE_WRITE) };
}

/// Has the content of `file` written to the disk without waiting for it. Here the sync that follows does that.
#[cfg(not(all(target_os = "linux", not(xferd_portable))))]
pub fn start_writeback(_file: &File) {}

/// Sets the permission bits of `file`, the umask notwithstanding.
///
/// # Errors
/// What `fchmod(2)` says.
pub fn set_mode(file: &File, mode: u32) -> io::Result<()> {
    Ok(rustix::fs::fchmod(file, mode_of(mode))?)
}

/// Sets when the content of `file` last changed. The time of last access stays.
///
/// # Errors
/// What `futimens(2)` says; `EINVAL` if there are more nanoseconds than a second has.
pub fn set_mtime(file: &File, mtime: Timestamp) -> io::Result<()> {
    Ok(rustix::fs::futimens(file, &only_mtime(mtime)?)?)
}

/// Locks `file` against all other open descriptions of it until the last descriptor of this one is closed.
/// `false` if another has the lock.
///
/// # Errors
/// What `flock(2)` says.
pub fn try_lock_exclusive(file: &File) -> io::Result<bool> {
    match rustix::fs::flock(file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(true),
        Err(Errno::WOULDBLOCK) => Ok(false),
        Err(errno) => Err(errno.into()),
    }
}

/// Whether a file that was created with `mode` really has it, because the umask of this process takes nothing away.
///
/// The umask is read once, when this is first asked. (`umask(2)` can only be read by setting it, which would show in
/// the files that other threads create meanwhile.) A default ACL of the directory takes its place and is left to it.
#[cfg(all(target_os = "linux", not(xferd_portable)))]
pub fn is_mode_kept(mode: u32) -> bool {
    static UMASK: std::sync::OnceLock<u32> = std::sync::OnceLock::new();
    let umask = UMASK.get_or_init(|| {
        // proc_pid_status(5): "Umask: 0022", since Linux 4.7.
        let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
        let umask = status.lines().find_map(|line| line.strip_prefix("Umask:"));
        umask.and_then(|octal| u32::from_str_radix(octal.trim(), 8).ok()).unwrap_or(MODE_BITS)
    });
    mode & umask == 0
}

/// Whether a file that was created with `mode` is known to have it. Here it never is.
#[cfg(not(all(target_os = "linux", not(xferd_portable))))]
pub fn is_mode_kept(_mode: u32) -> bool {
    false
}

// The width of `mode_t` differs between systems.
#[allow(clippy::unnecessary_cast)]
pub(crate) fn mode_of(mode: u32) -> Mode {
    Mode::from_raw_mode((mode & MODE_BITS) as rustix::fs::RawMode)
}

pub(crate) fn only_mtime(mtime: Timestamp) -> io::Result<Timestamps> {
    // Larger values would not be refused: UTIME_NOW and UTIME_OMIT are two of them.
    if mtime.nanoseconds >= 1_000_000_000 {
        return Err(Errno::INVAL.into());
    }
    Ok(Timestamps {
        last_access: Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT },
        last_modification: Timespec { tv_sec: mtime.seconds, tv_nsec: mtime.nanoseconds.into() },
    })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{FileExt, OpenOptionsExt};

    use super::*;

    #[test]
    fn what_is_appended_is_the_part_asked_for_and_an_end_before_it_is_an_error() {
        let file = tempfile::tempfile().unwrap();
        file.write_all_at(b"0123456789", 0).unwrap();
        for room in [0, 1, 100] {
            let mut bytes = Vec::with_capacity(1 + room);
            bytes.push(b'.');
            append(&file, 2, 3, &mut bytes).unwrap();
            append(&file, 9, 0, &mut bytes).unwrap();
            append(&file, 8, 2, &mut bytes).unwrap();
            assert_eq!(bytes, b".23489");
            let error = append(&file, 8, 3, &mut bytes).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
        }
    }

    #[test]
    fn room_taken_in_advance_is_not_size() {
        let file = tempfile::tempfile().unwrap();
        preallocate(&file, 1 << 20).unwrap();
        preallocate(&file, 0).unwrap();
        assert_eq!(attributes(&file).unwrap().size, 0);
        file.write_all_at(b"five!", 0).unwrap();
        assert_eq!(attributes(&file).unwrap().size, 5);
    }

    #[test]
    fn a_lock_excludes_others_until_its_file_is_closed() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("f");
        let first = File::create(&path).unwrap();
        let second = File::open(&path).unwrap();
        assert!(try_lock_exclusive(&first).unwrap());
        assert!(!try_lock_exclusive(&second).unwrap());
        drop(first);
        assert!(try_lock_exclusive(&second).unwrap());
    }

    #[test]
    fn a_mode_that_is_said_to_be_kept_is_kept() {
        let directory = tempfile::tempdir().unwrap();
        for mode in [0o600, 0o644, 0o666, 0o777] {
            let path = directory.path().join(format!("{mode:o}"));
            let file = File::options().write(true).create_new(true).mode(mode).open(path).unwrap();
            assert!(!is_mode_kept(mode) || attributes(&file).unwrap().mode == mode, "{mode:o}");
            set_mode(&file, mode).unwrap();
            assert_eq!(attributes(&file).unwrap().mode, mode);
        }
    }

    #[test]
    fn a_time_before_1970_is_kept_to_the_nanosecond() {
        let file = tempfile::tempfile().unwrap();
        let mtime = Timestamp { seconds: -1, nanoseconds: 999_999_999 };
        set_mtime(&file, mtime).unwrap();
        assert_eq!(attributes(&file).unwrap().mtime, mtime);
        assert!(set_mtime(&file, Timestamp { seconds: 0, nanoseconds: 1_000_000_000 }).is_err());
    }

    #[test]
    fn a_removed_file_has_no_links() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("f");
        let file = File::create(&path).unwrap();
        assert_eq!(attributes(&file).unwrap().links, 1);
        std::fs::remove_file(&path).unwrap();
        assert_eq!(attributes(&file).unwrap().links, 0);
    }
}
