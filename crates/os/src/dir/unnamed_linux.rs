//! Files that have no name until they are whole: `O_TMPFILE`, see open(2).

use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::sync::OnceLock;

use rustix::fs::{AtFlags, CWD, Mode, OFlags};
use rustix::io::Errno;

pub(super) fn create(dir: BorrowedFd<'_>, mode: Mode) -> io::Result<Option<File>> {
    // Without /proc an unprivileged process could never name what it made.
    static PROC_IS_MOUNTED: OnceLock<bool> = OnceLock::new();
    if !PROC_IS_MOUNTED.get_or_init(|| std::fs::exists("/proc/self/fd").unwrap_or(false)) {
        return Ok(None);
    }
    match rustix::fs::openat(dir, c".", OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC, mode) {
        Ok(fd) => Ok(Some(fd.into())),
        // The file system cannot; ISDIR is what kernels before 3.11 say.
        Err(Errno::OPNOTSUPP | Errno::ISDIR | Errno::INVAL) => Ok(None),
        Err(errno) => Err(errno.into()),
    }
}

pub(super) fn link(file: &File, dir: BorrowedFd<'_>, name: &OsStr) -> io::Result<()> {
    match rustix::fs::linkat(file, OsStr::new(""), dir, name, AtFlags::EMPTY_PATH) {
        // Before Linux 6.10 this needs CAP_DAC_READ_SEARCH; the way through /proc does not.
        Err(Errno::NOENT | Errno::PERM) => {
            let path = format!("/proc/self/fd/{}", file.as_raw_fd());
            Ok(rustix::fs::linkat(CWD, OsStr::new(&path), dir, name, AtFlags::SYMLINK_FOLLOW)?)
        }
        linked => Ok(linked?),
    }
}
