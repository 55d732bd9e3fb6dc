//! Directories of a simulated disk, which confine as real ones do: whatever is opened through one lies beneath it.

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::Path;

use super::disk::{Change, Disk, Errno, Ino, New, ROOT};
use super::file::{File, UMASK};
use super::world;
use super::world::{ProcessId, World, error};
use crate::attributes::{Attributes, Kind, MODE_BITS, Timestamp};
use crate::refusal::Refusal;

/// Symbolic links followed on the way to one file.
pub const LINKS_MAX: usize = 40;

const NAME_BYTES_MAX: usize = 255;

/// An open directory.
#[derive(Debug)]
pub struct Dir {
    process: ProcessId,
    ino: Ino,
}

/// Why a path is not resolved.
enum Stop {
    Errno(Errno),
    Outside,
}

impl From<Errno> for Stop {
    fn from(errno: Errno) -> Self {
        Self::Errno(errno)
    }
}

impl From<Stop> for io::Error {
    fn from(stop: Stop) -> Self {
        match stop {
            Stop::Errno(errno) => error(errno),
            Stop::Outside => Refusal::Outside.into(),
        }
    }
}

/// Where resolving a path may lead.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Bounds {
    /// Anywhere.
    None,
    /// Beneath where it begins.
    Beneath,
    /// The same, and no link is followed.
    Unlinked,
}

/// What is at `path`, which begins at `base`.
fn resolve(disk: &Disk, base: Ino, path: &OsStr, bounds: Bounds) -> Result<Ino, Stop> {
    let mut ahead = Vec::new();
    let mut behind = vec![base];
    let mut links_left = LINKS_MAX;
    splice(path, &mut ahead);
    if path.as_bytes().first() == Some(&b'/') {
        leave(&mut behind, bounds, ROOT)?;
    }
    while let Some(name) = ahead.pop() {
        let Some(&here) = behind.last() else { return Err(Stop::Outside) };
        if name == "." {
            continue;
        }
        if name == ".." {
            if behind.len() > 1 {
                behind.pop();
            } else {
                leave(&mut behind, bounds, disk.parent(here))?;
            }
            continue;
        }
        if name.len() > NAME_BYTES_MAX {
            return Err(libc::ENAMETOOLONG.into());
        }
        let ino = disk.lookup(here, &name)?;
        if disk.kind(ino)? != Kind::Symlink {
            behind.push(ino);
            continue;
        }
        if bounds == Bounds::Unlinked || links_left == 0 {
            return Err(libc::ELOOP.into());
        }
        links_left -= 1;
        let target = disk.target(ino)?;
        if target.as_bytes().first() == Some(&b'/') {
            leave(&mut behind, bounds, ROOT)?;
        }
        splice(target, &mut ahead);
    }
    behind.pop().ok_or(Stop::Outside)
}

/// Leaves what is confined for `to`, if that is allowed.
fn leave(behind: &mut Vec<Ino>, bounds: Bounds, to: Ino) -> Result<(), Stop> {
    if bounds != Bounds::None && !crate::seeded!(PathCheckSkipped) {
        return Err(Stop::Outside);
    }
    behind.clear();
    behind.push(to);
    Ok(())
}

/// Puts the components of `path` on top of those `ahead`, the first one last.
fn splice(path: &OsStr, ahead: &mut Vec<OsString>) {
    let components = path.as_bytes().split(|&byte| byte == b'/').filter(|name| !name.is_empty());
    ahead.extend(components.rev().map(|name| OsString::from_vec(name.to_vec())));
}

impl Dir {
    /// Opens the directory at `path`, wherever that leads.
    ///
    /// # Errors
    /// What `open(2)` says.
    pub fn open(path: &Path) -> io::Result<Self> {
        let process = world(|world| world.process_here());
        Self { process, ino: ROOT }.open_within(path.as_os_str(), Bounds::None)
    }

    /// Opens the directory at the path `path`. The empty path is this directory.
    ///
    /// # Errors
    /// What `open(2)` says, or [`Refusal::Outside`].
    pub fn open_dir(&self, path: impl AsRef<OsStr>) -> io::Result<Self> {
        self.open_within(path.as_ref(), Bounds::Beneath)
    }

    /// Opens the directory at the path `path` if no link leads there.
    ///
    /// # Errors
    /// What `open(2)` says: `ELOOP` if there is a link on the way.
    pub fn open_dir_unlinked(&self, path: impl AsRef<OsStr>) -> io::Result<Self> {
        self.open_within(path.as_ref(), Bounds::Unlinked)
    }

    fn open_within(&self, path: &OsStr, bounds: Bounds) -> io::Result<Self> {
        let ino = self.look(|disk| resolve(disk, self.ino, path, bounds))?;
        match self.look(|disk| Ok(disk.kind(ino)?))? {
            Kind::Directory => Ok(Self { process: self.process, ino }),
            _ => Err(error(libc::ENOTDIR)),
        }
    }

    /// Opens the file at the path `path` for reading.
    ///
    /// # Errors
    /// What `open(2)` says, [`Refusal::Outside`], or [`Refusal::NotAFile`].
    pub fn open_file(&self, path: impl AsRef<OsStr>) -> io::Result<(File, Attributes)> {
        let ino = self.look(|disk| resolve(disk, self.ino, path.as_ref(), Bounds::Beneath))?;
        self.open_ino(ino)
    }

    fn open_ino(&self, ino: Ino) -> io::Result<(File, Attributes)> {
        let attributes = self.look(|disk| Ok(disk.attributes(ino)?))?;
        if attributes.kind != Kind::File {
            return Err(Refusal::NotAFile.into());
        }
        Ok((world(|world| File::open(world, self.process, ino)), attributes))
    }

    /// Creates the file `name` for reading and writing.
    ///
    /// # Errors
    /// What `open(2)` says: `EEXIST` if there is anything by that name.
    pub fn create_file(&self, name: impl AsRef<OsStr>, mode: u32) -> io::Result<File> {
        let ino = self.add(component(name.as_ref())?, New::File, mode)?;
        Ok(world(|world| File::open(world, self.process, ino)))
    }

    /// Opens the file `name` for reading and writing.
    ///
    /// # Errors
    /// What `open(2)` says: `ELOOP` if it is a link; [`Refusal::NotAFile`].
    pub fn open_file_for_writing(&self, name: impl AsRef<OsStr>) -> io::Result<File> {
        let name = component(name.as_ref())?;
        let ino = self.look(|disk| Ok(disk.lookup(self.ino, name)?))?;
        match self.look(|disk| Ok(disk.kind(ino)?))? {
            Kind::Symlink => Err(error(libc::ELOOP)),
            _ => self.open_ino(ino).map(|(file, _)| file),
        }
    }

    /// Creates a file without a name for reading and writing. `None` where that is not supported.
    ///
    /// # Errors
    /// What `open(2)` says.
    pub fn create_unnamed(&self, mode: u32) -> io::Result<Option<File>> {
        let machine = world(|world| world.process(self.process).machine);
        if !world(|world| world.machine(machine).has_unnamed_files) {
            return Ok(None);
        }
        self.change(|world, now| {
            let ino = world.disk_of(self.process).make(New::File, mode & MODE_BITS & !UMASK, now);
            world.note(format_args!("{:?}: makes inode {ino} without a name", self.process));
            Ok(Some(File::open(world, self.process, ino)))
        })
    }

    /// Names a file that [`Dir::create_unnamed`] made.
    ///
    /// # Errors
    /// What `linkat(2)` says: `EEXIST` if there is anything by that name.
    pub fn link_unnamed(&self, file: &File, name: impl AsRef<OsStr>) -> io::Result<()> {
        let name = component(name.as_ref())?;
        self.change(|world, now| {
            world.note(format_args!(
                "{:?}: links inode {} as {name:?} in {}",
                self.process,
                file.ino(),
                self.ino
            ));
            let disk = world.disk_of(self.process);
            self.admit_new(disk, name)?;
            disk.change(Change(vec![(self.ino, name.to_owned(), Some(file.ino()))]), now)
        })
    }

    /// Renames `from` to `to` in the directory `to_dir`, atomically replacing what is there.
    ///
    /// # Errors
    /// What `rename(2)` says.
    pub fn rename(&self, from: impl AsRef<OsStr>, to_dir: &Dir, to: impl AsRef<OsStr>) -> io::Result<()> {
        let (from, to) = (component(from.as_ref())?, component(to.as_ref())?);
        self.change(|world, now| {
            world.note(format_args!(
                "{:?}: renames {from:?} in {} to {to:?} in {}",
                self.process, self.ino, to_dir.ino
            ));
            let disk = world.disk_of(self.process);
            let moved = disk.lookup(self.ino, from)?;
            self.admit_names(disk)?;
            to_dir.admit_names(disk)?;
            let is_directory = disk.kind(moved)? == Kind::Directory;
            let mut above = to_dir.ino;
            while is_directory && above != ROOT {
                if above == moved {
                    return Err(libc::EINVAL);
                }
                above = disk.parent(above);
            }
            match disk.lookup(to_dir.ino, to) {
                Err(_) => {}
                Ok(there) if there == moved => return Ok(()),
                Ok(there) => match (is_directory, disk.kind(there)? == Kind::Directory) {
                    (true, true) if !disk.list(there)?.is_empty() => return Err(libc::ENOTEMPTY),
                    (true, false) => return Err(libc::ENOTDIR),
                    (false, true) => return Err(libc::EISDIR),
                    _ => {}
                },
            }
            let parts = vec![(to_dir.ino, to.to_owned(), Some(moved)), (self.ino, from.to_owned(), None)];
            disk.change(Change(parts), now)
        })
    }

    /// Removes `name`, which is no directory.
    ///
    /// # Errors
    /// What `unlink(2)` says.
    pub fn remove_file(&self, name: impl AsRef<OsStr>) -> io::Result<()> {
        self.remove(component(name.as_ref())?, false)
    }

    /// Removes `name`, which is an empty directory.
    ///
    /// # Errors
    /// What `rmdir(2)` says.
    pub fn remove_dir(&self, name: impl AsRef<OsStr>) -> io::Result<()> {
        self.remove(component(name.as_ref())?, true)
    }

    fn remove(&self, name: &OsStr, is_directory: bool) -> io::Result<()> {
        self.change(|world, now| {
            world.note(format_args!("{:?}: removes {name:?} from {}", self.process, self.ino));
            let disk = world.disk_of(self.process);
            let ino = disk.lookup(self.ino, name)?;
            match (disk.kind(ino)? == Kind::Directory, is_directory) {
                (true, false) => return Err(libc::EISDIR),
                (false, true) => return Err(libc::ENOTDIR),
                (true, true) if !disk.list(ino)?.is_empty() => return Err(libc::ENOTEMPTY),
                _ => {}
            }
            disk.change(Change(vec![(self.ino, name.to_owned(), None)]), now)
        })
    }

    /// Makes the directory `name`.
    ///
    /// # Errors
    /// What `mkdir(2)` says.
    pub fn make_dir(&self, name: impl AsRef<OsStr>, mode: u32) -> io::Result<()> {
        self.add(component(name.as_ref())?, New::Directory, mode).map(drop)
    }

    /// Makes the symbolic link `name`.
    ///
    /// # Errors
    /// What `symlink(2)` says.
    pub fn symlink(&self, target: impl AsRef<OsStr>, name: impl AsRef<OsStr>) -> io::Result<()> {
        let target = target.as_ref().to_owned();
        self.add(component(name.as_ref())?, New::Symlink(target), 0o777).map(drop)
    }

    fn add(&self, name: &OsStr, new: New, mode: u32) -> io::Result<Ino> {
        self.change(|world, now| {
            let disk = world.disk_of(self.process);
            self.admit_new(disk, name)?;
            let ino = disk.make(new, mode & MODE_BITS & !UMASK, now);
            disk.change(Change(vec![(self.ino, name.to_owned(), Some(ino))]), now)?;
            world.note(format_args!("{:?}: makes {name:?} in {}: inode {ino}", self.process, self.ino));
            Ok(ino)
        })
    }

    fn admit_new(&self, disk: &Disk, name: &OsStr) -> Result<(), Errno> {
        if name.len() > NAME_BYTES_MAX {
            return Err(libc::ENAMETOOLONG);
        }
        self.admit_names(disk)?;
        if disk.lookup(self.ino, name).is_ok() { Err(libc::EEXIST) } else { Ok(()) }
    }

    /// A directory that was removed takes nothing.
    fn admit_names(&self, disk: &Disk) -> Result<(), Errno> {
        if disk.attributes(self.ino)?.links == 0 { Err(libc::ENOENT) } else { Ok(()) }
    }

    /// The target of the symbolic link `name`.
    ///
    /// # Errors
    /// What `readlink(2)` says: `EINVAL` if it is no link.
    pub fn read_link(&self, name: impl AsRef<OsStr>) -> io::Result<OsString> {
        let name = component(name.as_ref())?;
        self.look(|disk| Ok(disk.target(disk.lookup(self.ino, name)?)?.to_owned()))
    }

    /// What `name` is; if it is a symbolic link, that.
    ///
    /// # Errors
    /// What `stat(2)` says.
    pub fn attributes(&self, name: impl AsRef<OsStr>) -> io::Result<Attributes> {
        let name = component(name.as_ref())?;
        self.look(|disk| Ok(disk.attributes(disk.lookup(self.ino, name)?)?))
    }

    /// What this directory is.
    ///
    /// # Errors
    /// What `fstat(2)` says.
    pub fn own_attributes(&self) -> io::Result<Attributes> {
        self.look(|disk| Ok(disk.attributes(self.ino)?))
    }

    /// Sets the permission bits of this directory.
    ///
    /// # Errors
    /// What `fchmod(2)` says.
    pub fn set_mode(&self, mode: u32) -> io::Result<()> {
        self.set(self.ino, mode, None)
    }

    /// Sets the permission bits of this directory and when its content last changed.
    ///
    /// # Errors
    /// What `fchmod(2)` and `futimens(2)` say.
    pub fn set_own_attributes(&self, mode: u32, mtime: Timestamp) -> io::Result<()> {
        self.set(self.ino, mode, Some(mtime))
    }

    /// Sets the permission bits of `name` and when its content last changed.
    ///
    /// # Errors
    /// What `fchmod(2)` and `utimensat(2)` say.
    pub fn set_attributes(&self, name: impl AsRef<OsStr>, mode: u32, mtime: Timestamp) -> io::Result<()> {
        let name = component(name.as_ref())?;
        let ino = self.look(|disk| Ok(disk.lookup(self.ino, name)?))?;
        self.set(ino, mode, Some(mtime))
    }

    fn set(&self, ino: Ino, mode: u32, mtime: Option<Timestamp>) -> io::Result<()> {
        self.change(|world, now| {
            world.note(format_args!("{:?}: sets mode and time of inode {ino}", self.process));
            world.disk_of(self.process).set_attributes(ino, Some(mode & MODE_BITS), mtime, now)
        })
    }

    /// Reads the names in this directory, in no order that anybody should rely on.
    ///
    /// # Errors
    /// What `open(2)` says.
    pub fn entries(&self) -> io::Result<DirEntries> {
        let mut names = self.look(|disk| Ok(disk.list(self.ino)?))?;
        let first = world(|world| world.dice.below(names.len() as u64)) as usize;
        names.rotate_left(first);
        Ok(DirEntries(names.into_iter()))
    }

    /// Waits until the names in this directory are on disk.
    ///
    /// # Errors
    /// What `fsync(2)` says.
    pub fn sync(&self) -> io::Result<()> {
        self.change(|world, _| {
            let faults = world.faults_of(self.process);
            // Rarer than of a file: all that comes after it is refused.
            if world.dice.chance(faults.sync_failure / 8) {
                world.count("failed sync of a directory");
                world.note(format_args!("{:?}: directory {} cannot be synced", self.process, self.ino));
                world.disk_of(self.process).has_failed = true;
                return Err(libc::EIO);
            }
            world.note(format_args!("{:?}: syncs directory {}", self.process, self.ino));
            world.disk_of(self.process).sync_directory(self.ino);
            Ok(())
        })
    }

    fn look<T>(&self, look: impl FnOnce(&Disk) -> Result<T, Stop>) -> io::Result<T> {
        Ok(world(|world| {
            world.disk_call(self.process)?;
            look(world.disk_of(self.process))
        })?)
    }

    fn change<T>(&self, change: impl FnOnce(&mut World, Timestamp) -> Result<T, Errno>) -> io::Result<T> {
        world(|world| {
            world.disk_change(self.process)?;
            let now = world.time_for(self.process);
            change(world, now)
        })
        .map_err(error)
    }
}

/// Reads the names in a directory.
#[derive(Debug)]
pub struct DirEntries(std::vec::IntoIter<(OsString, Kind)>);

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
        let (name, kind) = self.0.next()?;
        Some(Ok(DirEntry { name, kind: Some(kind) }))
    }
}

/// `name` if it is one component.
fn component(name: &OsStr) -> io::Result<&OsStr> {
    let bytes = name.as_bytes();
    if matches!(bytes, b"" | b"." | b"..") || bytes.contains(&b'/') {
        return Err(error(libc::EINVAL));
    }
    Ok(name)
}
