//! Files that have no name until they are whole: here there are none.

use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::os::fd::BorrowedFd;

use rustix::fs::Mode;

pub(super) fn create(_dir: BorrowedFd<'_>, _mode: Mode) -> io::Result<Option<File>> {
    Ok(None)
}

pub(super) fn link(_file: &File, _dir: BorrowedFd<'_>, _name: &OsStr) -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}
