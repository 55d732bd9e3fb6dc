//! Files of a simulated disk.

use std::io::{self, Read};

use super::disk::{Errno, Ino};
use super::world;
use super::world::{ProcessId, World, error};
use crate::attributes::{Attributes, Timestamp};
use crate::attributes::{Kind, MODE_BITS};

/// What a new file does not get of its mode.
pub(super) const UMASK: u32 = 0o022;

/// An open file.
#[derive(Debug)]
pub struct File {
    process: ProcessId,
    ino: Ino,
    description: u64,
    position: u64,
}

/// Reads and writes by offset, as [`std::os::unix::fs::FileExt`] has them.
pub trait FileExt {
    /// Reads the front of what is at `offset`.
    ///
    /// # Errors
    /// What `pread(2)` says.
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize>;

    /// Fills `buffer` from `offset` on.
    ///
    /// # Errors
    /// What `pread(2)` says; `UnexpectedEof`.
    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()>;

    /// Writes all of `bytes` at `offset`.
    ///
    /// # Errors
    /// What `pwrite(2)` says.
    fn write_all_at(&self, bytes: &[u8], offset: u64) -> io::Result<()>;
}

impl File {
    pub(super) fn open(world: &mut World, process: ProcessId, ino: Ino) -> Self {
        world.disk_of(process).opened(ino);
        Self { process, ino, description: world.new_description(), position: 0 }
    }

    pub(super) fn ino(&self) -> Ino {
        self.ino
    }

    /// Another description of the same file.
    pub(super) fn reopen(&self) -> Self {
        world(|world| Self::open(world, self.process, self.ino))
    }

    /// Bytes that are sent without being read by the process. One of them may not be what was read.
    pub(super) fn bytes_to_send(&self, offset: u64, len: usize) -> io::Result<Vec<u8>> {
        world(|world| {
            let faults = world.faults_of(self.process);
            let all = world.disk_of(self.process).bytes(self.ino).map_err(error)?;
            let mut bytes = part(all, offset, len).to_vec();
            if !bytes.is_empty() && world.dice.chance(faults.flipped_byte) {
                let at = world.dice.below(bytes.len() as u64) as usize;
                bytes[at] ^= 1 << world.dice.below(8);
                world.count("flipped byte");
                world.note(format_args!(
                    "{:?}: byte {} of inode {} flips",
                    self.process,
                    offset + at as u64,
                    self.ino
                ));
            }
            Ok(bytes)
        })
    }

    /// Waits until content and attributes are on disk.
    ///
    /// # Errors
    /// What `fsync(2)` says.
    pub fn sync_all(&self) -> io::Result<()> {
        self.sync_data()?;
        world(|world| world.disk_of(self.process).sync_attributes(self.ino)).map_err(error)
    }

    /// Waits until the content is on disk.
    ///
    /// # Errors
    /// What `fdatasync(2)` says.
    pub fn sync_data(&self) -> io::Result<()> {
        self.change(|world| {
            let faults = world.faults_of(self.process);
            if world.dice.chance(faults.sync_failure) {
                let mut dice = world.dice.clone();
                world.disk_of(self.process).fail_to_sync_file(self.ino, &mut dice)?;
                world.dice = dice;
                world.count("failed sync");
                world.note(format_args!("{:?}: inode {} cannot be synced", self.process, self.ino));
                return Err(libc::EIO);
            }
            world.note(format_args!("{:?}: syncs inode {}", self.process, self.ino));
            world.disk_of(self.process).sync_file(self.ino)
        })
    }

    /// Cuts the file off, or fills it up with zeros.
    ///
    /// # Errors
    /// What `ftruncate(2)` says.
    pub fn set_len(&self, len: u64) -> io::Result<()> {
        let len = usize::try_from(len).map_err(|_| io::ErrorKind::FileTooLarge)?;
        self.change(|world| {
            let now = world.time_for(self.process);
            world.disk_of(self.process).set_len(self.ino, len, now)
        })
    }

    /// Writes the front of `bytes`.
    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<usize> {
        self.change(|world| {
            let faults = world.faults_of(self.process);
            let mut len = bytes.len();
            if len > 1 && world.dice.chance(faults.short_write) {
                len = world.dice.between(1, len as u64 - 1) as usize;
                world.count("short write");
            }
            let now = world.time_for(self.process);
            world.note(format_args!(
                "{:?}: writes {len} bytes at {offset} of inode {}",
                self.process, self.ino
            ));
            world.disk_of(self.process).write(self.ino, &bytes[..len], offset as usize, now)?;
            Ok(len)
        })
    }

    fn change<T>(&self, change: impl FnOnce(&mut World) -> Result<T, Errno>) -> io::Result<T> {
        world(|world| {
            world.disk_change(self.process)?;
            change(world)
        })
        .map_err(error)
    }
}

impl FileExt for File {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        world(|world| {
            world.disk_call(self.process)?;
            let from = part(world.disk_of(self.process).bytes(self.ino)?, offset, buffer.len());
            buffer[..from.len()].copy_from_slice(from);
            Ok(from.len())
        })
        .map_err(error)
    }

    fn read_exact_at(&self, mut buffer: &mut [u8], mut offset: u64) -> io::Result<()> {
        while !buffer.is_empty() {
            match self.read_at(buffer, offset)? {
                0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                read => {
                    buffer = &mut buffer[read..];
                    offset += read as u64;
                }
            }
        }
        Ok(())
    }

    fn write_all_at(&self, mut bytes: &[u8], mut offset: u64) -> io::Result<()> {
        while !bytes.is_empty() {
            let written = self.write_at(bytes, offset)?;
            bytes = &bytes[written..];
            offset += written as u64;
        }
        Ok(())
    }
}

impl Read for File {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.read_at(buffer, self.position)?;
        self.position += read as u64;
        Ok(read)
    }
}

impl Drop for File {
    fn drop(&mut self) {
        world(|world| world.disk_of(self.process).closed(self.ino, self.description));
    }
}

fn part(bytes: &[u8], offset: u64, len: usize) -> &[u8] {
    let start = usize::try_from(offset).map_or(bytes.len(), |offset| offset.min(bytes.len()));
    &bytes[start..bytes.len().min(start.saturating_add(len))]
}

/// What `stat` tells about `file`.
///
/// # Errors
/// What `fstat(2)` says.
pub fn attributes(file: &File) -> io::Result<Attributes> {
    world(|world| {
        world.disk_call(file.process)?;
        world.disk_of(file.process).attributes(file.ino)
    })
    .map_err(error)
}

/// Appends the `len` bytes of `file` from `offset` on to `bytes`.
///
/// # Errors
/// What `pread(2)` says; `UnexpectedEof` if the file ends before.
pub fn append(file: &File, offset: u64, len: usize, bytes: &mut Vec<u8>) -> io::Result<()> {
    let start = bytes.len();
    bytes.resize(start + len, 0);
    file.read_exact_at(&mut bytes[start..], offset)
}

/// Takes `len` bytes of room on disk for `file`, which may not be there.
///
/// # Errors
/// That the disk is full.
pub fn preallocate(file: &File, _len: u64) -> io::Result<()> {
    file.change(|_| Ok(()))
}

/// Has the content of `file` written to the disk some time, as a power loss has it anyway.
pub fn start_writeback(_file: &File) {}

/// Sets the permission bits of `file`.
///
/// # Errors
/// What `fchmod(2)` says.
pub fn set_mode(file: &File, mode: u32) -> io::Result<()> {
    file.change(|world| {
        let now = world.time_for(file.process);
        world.disk_of(file.process).set_attributes(file.ino, Some(mode & MODE_BITS), None, now)
    })
}

/// Sets when the content of `file` last changed.
///
/// # Errors
/// What `futimens(2)` says.
pub fn set_mtime(file: &File, mtime: Timestamp) -> io::Result<()> {
    file.change(|world| {
        let now = world.time_for(file.process);
        world.disk_of(file.process).set_attributes(file.ino, None, Some(mtime), now)
    })
}

/// Locks `file` against all other open descriptions of it until it is closed. `false` if another has the lock.
///
/// # Errors
/// What `flock(2)` says.
pub fn try_lock_exclusive(file: &File) -> io::Result<bool> {
    world(|world| {
        world.disk_call(file.process)?;
        world.disk_of(file.process).try_lock(file.ino, file.description)
    })
    .map_err(error)
}

/// Whether a file that was created with `mode` really has it.
pub fn is_mode_kept(mode: u32) -> bool {
    mode & UMASK == 0
}

/// What is at a path that somebody names.
#[derive(Debug, Clone, Copy)]
pub struct Metadata(pub(super) Kind);

impl Metadata {
    /// Whether it is a directory.
    pub fn is_dir(&self) -> bool {
        self.0 == Kind::Directory
    }

    /// Whether it is a regular file.
    pub fn is_file(&self) -> bool {
        self.0 == Kind::File
    }
}
