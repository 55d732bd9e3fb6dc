//! Confined opening one component at a time, for systems without `openat2(2)`.
//!
//! The kernel is never given more than one component and never follows a link. Links are read and their targets walked
//! in turn; `..` goes back to the directory that was walked through, so there is no way above the root.

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};

use rustix::fs::{AtFlags, Mode, OFlags};
use rustix::io::Errno;

use super::{DIRECTORY, LINKS_MAX, Links};
use crate::attributes::{Attributes, Kind};
use crate::refusal::Refusal;

/// Directories that are open during one walk.
const DIRECTORIES_OPEN_MAX: usize = 256;

/// Opens `path` beneath `root`.
pub(super) fn open_beneath(
    root: BorrowedFd<'_>,
    path: &OsStr,
    flags: OFlags,
    links: Links,
) -> io::Result<OwnedFd> {
    let mut ahead = Vec::new();
    splice(path, &mut ahead)?;
    let mut behind: Vec<OwnedFd> = Vec::new();
    let mut links_left = if links == Links::Follow { LINKS_MAX } else { 0 };
    while let Some(name) = ahead.pop() {
        if name == "." {
            continue;
        }
        if name == ".." {
            behind.pop().ok_or(Refusal::Outside)?;
            continue;
        }
        let here = behind.last().map_or(root, AsFd::as_fd);
        let is_last = ahead.is_empty();
        let step = if is_last { flags } else { DIRECTORY };
        match rustix::fs::openat(here, &name, step | OFlags::NOFOLLOW, Mode::empty()) {
            Ok(fd) if is_last => return Ok(fd),
            Ok(_) if behind.len() == DIRECTORIES_OPEN_MAX => return Err(Errno::NAMETOOLONG.into()),
            Ok(fd) => behind.push(fd),
            // What a link is answered with: LOOP, NOTDIR if a directory is asked for, MLINK on FreeBSD.
            Err(errno @ (Errno::LOOP | Errno::NOTDIR | Errno::MLINK)) => {
                let target = match rustix::fs::readlinkat(here, &name, Vec::new()) {
                    Ok(target) => OsString::from_vec(target.into_bytes()),
                    Err(Errno::INVAL) if errno == Errno::NOTDIR && !is_directory(here, &name)? => {
                        return Err(errno.into());
                    }
                    // No longer a link: somebody replaced it meanwhile. Look again; that counts as a link, too.
                    Err(Errno::INVAL) => name,
                    Err(errno) => return Err(errno.into()),
                };
                if links_left == 0 {
                    return Err(Errno::LOOP.into());
                }
                links_left -= 1;
                splice(&target, &mut ahead)?;
            }
            Err(errno) => return Err(errno.into()),
        }
    }
    // The path was empty or ended with `.` or `..`.
    let here = behind.last().map_or(root, AsFd::as_fd);
    Ok(rustix::fs::openat(here, c".", flags, Mode::empty())?)
}

fn is_directory(dir: BorrowedFd<'_>, name: &OsStr) -> io::Result<bool> {
    let stat = rustix::fs::statat(dir, name, AtFlags::SYMLINK_NOFOLLOW)?;
    Ok(Attributes::of(&stat).kind == Kind::Directory)
}

/// Puts the components of `path` on top of those `ahead`, the first one last.
fn splice(path: &OsStr, ahead: &mut Vec<OsString>) -> io::Result<()> {
    let bytes = path.as_bytes();
    if bytes.first() == Some(&b'/') {
        return Err(Refusal::Outside.into());
    }
    // An empty component means the same as `.`: one at the end makes what is before it be a directory.
    let components = bytes.split(|&byte| byte == b'/').map(|name| if name.is_empty() { b"." } else { name });
    ahead.extend(components.rev().map(|name| OsStr::from_bytes(name).to_owned()));
    Ok(())
}
