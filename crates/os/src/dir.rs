//! Directories that confine: whatever is opened through one lies beneath it.

#[cfg(all(target_os = "linux", not(xferd_portable)))]
mod openat2;
#[cfg(test)]
mod tests;
#[cfg_attr(all(target_os = "linux", not(xferd_portable)), path = "dir/unnamed_linux.rs")]
#[cfg_attr(not(all(target_os = "linux", not(xferd_portable))), path = "dir/unnamed_portable.rs")]
mod unnamed;
mod walk;

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::Path;

use rustix::fs::{AtFlags, Mode, OFlags};
use rustix::io::Errno;

use crate::attributes::{Attributes, Kind, Timestamp};
use crate::file::{mode_of, only_mtime};
use crate::refusal::Refusal;

#[cfg(all(target_os = "linux", not(xferd_portable)))]
use openat2::open_beneath;
#[cfg(not(all(target_os = "linux", not(xferd_portable))))]
use walk::open_beneath;

/// Symbolic links followed on the way to one file, as many as Linux follows (path_resolution(7)).
pub const LINKS_MAX: usize = 40;

const DIRECTORY: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC);

/// An open directory.
///
/// Two kinds of names are given to it. A *path* has any number of components; it is resolved beneath the directory:
/// links that stay inside are followed, and nothing leads out, neither `..` nor an absolute target nor a link that is
/// put in the way meanwhile. A *name* is one component of this very directory; it is never followed if it is a link.
#[derive(Debug)]
pub struct Dir {
    fd: OwnedFd,
}

/// Whether links on the way are followed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Links {
    Follow,
    Refuse,
}

impl Dir {
    /// Opens the directory at `path`, wherever that leads: this is how a root is chosen.
    ///
    /// # Errors
    /// What `open(2)` says.
    pub fn open(path: &Path) -> io::Result<Self> {
        Ok(Self { fd: rustix::fs::open(path, DIRECTORY, Mode::empty())? })
    }

    /// Opens the directory at the path `path`. The empty path is this directory.
    ///
    /// # Errors
    /// What `open(2)` says, or [`Refusal::Outside`].
    pub fn open_dir(&self, path: impl AsRef<OsStr>) -> io::Result<Self> {
        Ok(Self { fd: open_beneath(self.fd.as_fd(), path.as_ref(), DIRECTORY, Links::Follow)? })
    }

    /// Opens the directory at the path `path` if no link leads there.
    ///
    /// # Errors
    /// What `open(2)` says: `ELOOP` or `ENOTDIR` if there is a link on the way.
    pub fn open_dir_unlinked(&self, path: impl AsRef<OsStr>) -> io::Result<Self> {
        Ok(Self { fd: open_beneath(self.fd.as_fd(), path.as_ref(), DIRECTORY, Links::Refuse)? })
    }

    /// Opens the file at the path `path` for reading. A pipe or a device is not waited for.
    ///
    /// # Errors
    /// What `open(2)` says, [`Refusal::Outside`], or [`Refusal::NotAFile`].
    pub fn open_file(&self, path: impl AsRef<OsStr>) -> io::Result<(File, Attributes)> {
        // NONBLOCK is for pipes, which would block the open; regular files ignore it.
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
        let file = match open_beneath(self.fd.as_fd(), path.as_ref(), flags, Links::Follow) {
            Ok(fd) => File::from(fd),
            // What open(2) says of sockets (ENXIO on Linux, EOPNOTSUPP elsewhere) and of devices without a driver.
            Err(error) if is_one_of(&error, &[Errno::NXIO, Errno::NODEV, Errno::OPNOTSUPP]) => {
                return Err(Refusal::NotAFile.into());
            }
            Err(error) => return Err(error),
        };
        let attributes = crate::file::attributes(&file)?;
        if attributes.kind != Kind::File {
            return Err(Refusal::NotAFile.into());
        }
        Ok((file, attributes))
    }

    /// Creates the file `name` for reading and writing. The umask applies to `mode`.
    ///
    /// # Errors
    /// What `open(2)` says: `EEXIST` if there is anything by that name.
    pub fn create_file(&self, name: impl AsRef<OsStr>, mode: u32) -> io::Result<File> {
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        Ok(rustix::fs::openat(&self.fd, component(name.as_ref())?, flags, mode_of(mode))?.into())
    }

    /// Opens the file `name` for reading and writing.
    ///
    /// # Errors
    /// What `open(2)` says: `ELOOP` (`EMLINK` on FreeBSD) if it is a link; [`Refusal::NotAFile`].
    pub fn open_file_for_writing(&self, name: impl AsRef<OsStr>) -> io::Result<File> {
        // NONBLOCK is for pipes, which would block the open; regular files ignore it.
        let flags = OFlags::RDWR | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
        let file = rustix::fs::openat(&self.fd, component(name.as_ref())?, flags, Mode::empty())?.into();
        if crate::file::attributes(&file)?.kind != Kind::File {
            return Err(Refusal::NotAFile.into());
        }
        Ok(file)
    }

    /// Creates a file without a name for reading and writing; it vanishes with its last descriptor unless
    /// [`Dir::link_unnamed`] names it. The umask applies to `mode`. `None` where that is not supported.
    ///
    /// # Errors
    /// What `open(2)` says.
    pub fn create_unnamed(&self, mode: u32) -> io::Result<Option<File>> {
        unnamed::create(self.fd.as_fd(), mode_of(mode))
    }

    /// Names a file that [`Dir::create_unnamed`] made, in this or another directory of the same file system.
    ///
    /// # Errors
    /// What `linkat(2)` says: `EEXIST` if there is anything by that name.
    pub fn link_unnamed(&self, file: &File, name: impl AsRef<OsStr>) -> io::Result<()> {
        unnamed::link(file, self.fd.as_fd(), component(name.as_ref())?)
    }

    /// Renames `from` to `to` in the directory `to_dir`, atomically replacing what is there.
    ///
    /// # Errors
    /// What `rename(2)` says.
    pub fn rename(&self, from: impl AsRef<OsStr>, to_dir: &Dir, to: impl AsRef<OsStr>) -> io::Result<()> {
        let (from, to) = (component(from.as_ref())?, component(to.as_ref())?);
        Ok(rustix::fs::renameat(&self.fd, from, &to_dir.fd, to)?)
    }

    /// Removes `name`, which is no directory.
    ///
    /// # Errors
    /// What `unlink(2)` says.
    pub fn remove_file(&self, name: impl AsRef<OsStr>) -> io::Result<()> {
        Ok(rustix::fs::unlinkat(&self.fd, component(name.as_ref())?, AtFlags::empty())?)
    }

    /// Removes `name`, which is an empty directory.
    ///
    /// # Errors
    /// What `rmdir(2)` says.
    pub fn remove_dir(&self, name: impl AsRef<OsStr>) -> io::Result<()> {
        Ok(rustix::fs::unlinkat(&self.fd, component(name.as_ref())?, AtFlags::REMOVEDIR)?)
    }

    /// Makes the directory `name`. The umask applies to `mode`.
    ///
    /// # Errors
    /// What `mkdir(2)` says.
    pub fn make_dir(&self, name: impl AsRef<OsStr>, mode: u32) -> io::Result<()> {
        Ok(rustix::fs::mkdirat(&self.fd, component(name.as_ref())?, mode_of(mode))?)
    }

    /// Makes the symbolic link `name`. Its target is text: nobody looks where it leads.
    ///
    /// # Errors
    /// What `symlink(2)` says.
    pub fn symlink(&self, target: impl AsRef<OsStr>, name: impl AsRef<OsStr>) -> io::Result<()> {
        Ok(rustix::fs::symlinkat(target.as_ref(), &self.fd, component(name.as_ref())?)?)
    }

    /// The target of the symbolic link `name`.
    ///
    /// # Errors
    /// What `readlink(2)` says: `EINVAL` if it is no link.
    pub fn read_link(&self, name: impl AsRef<OsStr>) -> io::Result<OsString> {
        let target = rustix::fs::readlinkat(&self.fd, component(name.as_ref())?, Vec::new())?;
        Ok(OsString::from_vec(target.into_bytes()))
    }

    /// What `name` is; if it is a symbolic link, that.
    ///
    /// # Errors
    /// What `stat(2)` says.
    pub fn attributes(&self, name: impl AsRef<OsStr>) -> io::Result<Attributes> {
        let stat = rustix::fs::statat(&self.fd, component(name.as_ref())?, AtFlags::SYMLINK_NOFOLLOW)?;
        Ok(Attributes::of(&stat))
    }

    /// What this directory is.
    ///
    /// # Errors
    /// What `fstat(2)` says.
    pub fn own_attributes(&self) -> io::Result<Attributes> {
        Ok(Attributes::of(&rustix::fs::fstat(&self.fd)?))
    }

    /// Sets the permission bits of this directory, the umask notwithstanding.
    ///
    /// # Errors
    /// What `fchmod(2)` says.
    pub fn set_mode(&self, mode: u32) -> io::Result<()> {
        Ok(rustix::fs::fchmod(&self.fd, mode_of(mode))?)
    }

    /// Sets the permission bits of this directory and when its content last changed.
    ///
    /// # Errors
    /// What `fchmod(2)` and `futimens(2)` say.
    pub fn set_own_attributes(&self, mode: u32, mtime: Timestamp) -> io::Result<()> {
        let times = only_mtime(mtime)?;
        self.set_mode(mode)?;
        Ok(rustix::fs::futimens(&self.fd, &times)?)
    }

    /// Sets the permission bits of `name`, a file or a directory, and when its content last changed. A symbolic link
    /// has no permissions of its own: `mode` is ignored for it.
    ///
    /// # Errors
    /// What `open(2)`, `fchmod(2)` and `utimensat(2)` say.
    pub fn set_attributes(&self, name: impl AsRef<OsStr>, mode: u32, mtime: Timestamp) -> io::Result<()> {
        let name = component(name.as_ref())?;
        let times = only_mtime(mtime)?;
        // Through a descriptor, because fchmodat(2) would follow a link that takes the place of a file meanwhile.
        let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
        let open = |access| rustix::fs::openat(&self.fd, name, flags | access, Mode::empty());
        let fd = match open(OFlags::RDONLY) {
            // Whoever may not read it may still be the one who can change its mode.
            Err(Errno::ACCESS) => open(OFlags::WRONLY)?,
            // A symbolic link; FreeBSD says MLINK.
            Err(Errno::LOOP | Errno::MLINK) => {
                return Ok(rustix::fs::utimensat(&self.fd, name, &times, AtFlags::SYMLINK_NOFOLLOW)?);
            }
            opened => opened?,
        };
        rustix::fs::fchmod(&fd, mode_of(mode))?;
        Ok(rustix::fs::futimens(&fd, &times)?)
    }

    /// Reads the names in this directory, in no order, without `.` and `..`.
    ///
    /// # Errors
    /// What `open(2)` says.
    pub fn entries(&self) -> io::Result<DirEntries> {
        Ok(DirEntries { stream: rustix::fs::Dir::read_from(&self.fd)? })
    }

    /// Waits until the names in this directory are on disk.
    ///
    /// # Errors
    /// What `fsync(2)` says. Trying again then proves nothing.
    pub fn sync(&self) -> io::Result<()> {
        Ok(rustix::fs::fsync(&self.fd)?)
    }
}

impl AsFd for Dir {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// Reads the names in a directory.
#[derive(Debug)]
pub struct DirEntries {
    stream: rustix::fs::Dir,
}

/// One name in a directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DirEntry {
    /// Bytes other than `/` and NUL: not always UTF-8.
    pub name: OsString,
    /// What it stood for when it was read; `None` where the file system does not tell.
    pub kind: Option<Kind>,
}

impl Iterator for DirEntries {
    type Item = io::Result<DirEntry>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let entry = match self.stream.next()? {
                Ok(entry) => entry,
                Err(errno) => return Some(Err(errno.into())),
            };
            let name = entry.file_name().to_bytes();
            if name == b"." || name == b".." {
                continue;
            }
            let kind = match entry.file_type() {
                rustix::fs::FileType::Unknown => None,
                file_type => Some(Kind::of(file_type)),
            };
            return Some(Ok(DirEntry { name: OsStr::from_bytes(name).to_owned(), kind }));
        }
    }
}

/// `name` if it is one component.
fn component(name: &OsStr) -> io::Result<&OsStr> {
    let bytes = name.as_bytes();
    if matches!(bytes, b"" | b"." | b"..") || bytes.contains(&b'/') {
        return Err(Errno::INVAL.into());
    }
    Ok(name)
}

fn is_one_of(error: &io::Error, errnos: &[Errno]) -> bool {
    Errno::from_io_error(error).is_some_and(|errno| errnos.contains(&errno))
}
