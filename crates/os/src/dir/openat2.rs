//! Confined opening by one system call: `openat2(2)`, since Linux 5.6.

use std::ffi::OsStr;
use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};

use rustix::fs::{Mode, OFlags, ResolveFlags};
use rustix::io::Errno;

use super::{Links, walk};
use crate::refusal::Refusal;

/// The kernel answers `EAGAIN` when a rename or a mount anywhere raced with a path that has `..` in it
/// (openat2(2), RESOLVE_BENEATH). A system that renames all the time has to end somewhere.
const RACES_MAX: usize = 128;

/// Opens `path` beneath `root`.
pub(super) fn open_beneath(
    root: BorrowedFd<'_>,
    path: &OsStr,
    flags: OFlags,
    links: Links,
) -> io::Result<OwnedFd> {
    let mut resolve = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
    if links == Links::Refuse {
        resolve |= ResolveFlags::NO_SYMLINKS;
    }
    let path_or_self = if path.is_empty() { OsStr::new(".") } else { path };
    let mut races = 0;
    loop {
        match rustix::fs::openat2(root, path_or_self, flags, Mode::empty(), resolve) {
            Ok(fd) => return Ok(fd),
            Err(Errno::INTR) => {}
            Err(Errno::AGAIN) if races < RACES_MAX => races += 1,
            Err(Errno::XDEV) => return Err(Refusal::Outside.into()),
            // An older kernel, or a seccomp filter that does not know the call.
            Err(Errno::NOSYS | Errno::PERM) => return walk::open_beneath(root, path, flags, links),
            Err(errno) => return Err(errno.into()),
        }
    }
}
