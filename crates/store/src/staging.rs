//! Files on their way in: unseen until they are whole.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use xferd_os::{Dir, Kind, Sink, file};
use xferd_wire::limits::FILE_BYTES_MAX;
use xferd_wire::{RemotePath, WritePath};

use crate::attributes::FileAttributes;
use crate::error::{StoreError, shown};
use crate::names::staging_name;
use crate::store::{Store, split};
use crate::write_path::Chosen;

/// Before it is complete, nobody but the owner reads a file.
const STAGING_MODE: u32 = 0o600;

/// A random name of 64 bits that is taken is a coincidence; a second one is a broken system.
const NAME_ATTEMPTS_MAX: usize = 8;

/// A file that is being written and has no place in the tree yet.
///
/// It is on the file system of its target but, where the system can do that, without a name, so that a process that is
/// killed leaves nothing behind. Elsewhere it has a name that [`Store::list`] hides and is locked, so that
/// [`Store::sweep`] can tell it from a dead one. Dropping it discards what was written.
#[derive(Debug)]
pub struct Staging {
    way: Chosen,
    dir: Arc<Dir>,
    /// `None` for a file without a name.
    name: Option<String>,
    path: RemotePath,
    size: Option<u64>,
}

impl Staging {
    fn create(dir: Arc<Dir>, path: &RemotePath, size: Option<u64>, mode: u32) -> io::Result<Self> {
        let (file, name) = match dir.create_unnamed(mode)? {
            Some(file) => (file, None),
            None => create_locked(&dir, mode).map(|(file, name)| (file, Some(name)))?,
        };
        Ok(Self { way: Chosen::cached(file), dir, name, path: path.clone(), size })
    }

    /// Where to write. Its file is open for reading, too.
    pub fn sink(&self) -> Arc<Sink> {
        Arc::clone(&self.way.sink)
    }

    /// The way that what is written there takes to the disk.
    pub fn write_path(&self) -> WritePath {
        self.way.path
    }

    fn file(&self) -> &File {
        self.way.sink.file()
    }

    /// A file that has all it will have, besides its name.
    pub(crate) fn written(
        dir: &Arc<Dir>,
        path: &RemotePath,
        bytes: &[u8],
        attributes: &FileAttributes,
    ) -> io::Result<Self> {
        let mode = attributes.permissions();
        let staging = Self::create(Arc::clone(dir), path, None, mode)?;
        staging.file().write_all_at(bytes, 0)?;
        if !file::is_mode_kept(mode) {
            file::set_mode(staging.file(), mode)?;
        }
        file::set_mtime(staging.file(), attributes.timestamp())?;
        Ok(staging)
    }

    /// Begins to bring its bytes to the disk.
    pub(crate) fn start_writeback(&self) {
        file::start_writeback(self.file());
    }

    /// Waits until the file is on disk. If that fails, trying again proves nothing.
    pub(crate) fn sync(&self) -> io::Result<()> {
        self.file().sync_all()
    }

    /// Gives it its name, in `dir`, atomically replacing what is there.
    pub(crate) fn publish(mut self, dir: &Arc<Dir>) -> io::Result<()> {
        let name = self.path.file_name().unwrap_or_default();
        if self.name.is_none() {
            match dir.link_unnamed(self.file(), name) {
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                linked => return linked,
            }
            // There is no call that links and replaces. So it gets a name of its own first, and a lock, lest a sweep
            // takes it for the remains of a dead process. Where nothing can be locked, no sweep removes it either.
            let _ = file::try_lock_exclusive(self.file());
            let staging = staging_name();
            dir.link_unnamed(self.file(), &staging)?;
            self.dir = Arc::clone(dir);
            self.name = Some(staging);
        }
        if let Some(staging) = &self.name {
            self.dir.rename(staging, dir, name)?;
            self.name = None;
        }
        Ok(())
    }
}

impl Drop for Staging {
    fn drop(&mut self) {
        if let Some(name) = &self.name {
            // If that fails, a sweep removes it.
            let _ = self.dir.remove_file(name);
        }
    }
}

impl Store {
    /// Makes a file that will become `path`, with room for `size` bytes if that is known. Missing parents are made.
    ///
    /// What is at `path` stays until [`Store::commit`].
    ///
    /// # Errors
    /// [`StoreError::NotAFile`] if `path` is a directory, [`StoreError::DiskFull`] if there is no room,
    /// [`StoreError::OutsideRoot`], [`StoreError::NotADirectory`], [`StoreError::TooLarge`].
    pub fn stage(&self, path: &RemotePath, size: Option<u64>) -> Result<Staging, StoreError> {
        self.admit_change(path)?;
        let failed = |error| StoreError::of(path, error);
        let (parent, name) = split(path).ok_or_else(|| StoreError::NotAFile { path: shown(path) })?;
        if let Some(size_bytes) = size.filter(|&size| size > FILE_BYTES_MAX) {
            return Err(StoreError::TooLarge { path: path.to_string(), size_bytes });
        }
        let dir = self.open_or_make(&parent).map_err(failed)?;
        match dir.attributes(name) {
            Ok(existing) if existing.kind == Kind::Directory => {
                return Err(StoreError::NotAFile { path: path.to_string() });
            }
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed(error)),
            _ => {}
        }
        let mut staging = Staging::create(Arc::new(dir), path, size, STAGING_MODE).map_err(failed)?;
        let file = staging.way.sink.file().clone();
        staging.way = self.write_paths.choose(&staging.dir, file, size).map_err(failed)?;
        if let Some(size_bytes) = size {
            file::preallocate(staging.file(), size_bytes).map_err(|error| match error.kind() {
                io::ErrorKind::FileTooLarge => StoreError::TooLarge { path: path.to_string(), size_bytes },
                _ => failed(error),
            })?;
        }
        Ok(staging)
    }

    /// Makes a staged file of `size` bytes visible at its path, atomically replacing a file or a link that is there.
    ///
    /// With `durable`, or if the store [is](crate::Options::durable), it survives a power loss once this returns.
    ///
    /// # Errors
    /// [`StoreError::SizeMismatch`] if the file has another size, or another was announced. On any error the staged
    /// file is gone; if the last step fails, syncing the directory, the file may be visible nevertheless, whole.
    pub fn commit(
        &self,
        staging: Staging,
        size: u64,
        attributes: &FileAttributes,
        durable: bool,
    ) -> Result<(), StoreError> {
        let path = staging.path.clone();
        let failed = |error| StoreError::of(&path, error);
        let mismatch = |expected_bytes, actual_bytes| StoreError::SizeMismatch {
            path: path.to_string(),
            expected_bytes,
            actual_bytes,
        };
        if let Some(announced) = staging.size.filter(|&announced| announced != size) {
            return Err(mismatch(announced, size));
        }
        let actual = file::attributes(staging.file()).map_err(failed)?.size;
        if actual != size {
            return Err(mismatch(size, actual));
        }
        file::set_mode(staging.file(), attributes.permissions()).map_err(failed)?;
        file::set_mtime(staging.file(), attributes.timestamp()).map_err(failed)?;
        // The path is resolved again: while the bytes came, somebody may have moved the directory out of the root.
        let (parent, _) = split(&path).ok_or(StoreError::Root)?;
        let dir = self.open_or_make(&parent).map(Arc::new).map_err(failed)?;
        self.publish(staging, dir, &parent, durable).map_err(failed)
    }

    /// Stores `bytes` at `path` in one go: [`Store::stage`], write and [`Store::commit`] with fewer system calls.
    ///
    /// # Errors
    /// As those of both.
    pub fn put_whole(
        &self,
        path: &RemotePath,
        bytes: &[u8],
        attributes: &FileAttributes,
        durable: bool,
    ) -> Result<(), StoreError> {
        self.admit_change(path)?;
        let failed = |error| StoreError::of(path, error);
        let (parent, _) = split(path).ok_or_else(|| StoreError::NotAFile { path: shown(path) })?;
        let dir = self.open_or_make(&parent).map(Arc::new).map_err(failed)?;
        let staging = Staging::written(&dir, path, bytes, attributes).map_err(failed)?;
        self.publish(staging, dir, &parent, durable).map_err(failed)
    }

    /// Gives a complete file its name in `dir`, which is at `parent`.
    fn publish(&self, staging: Staging, dir: Arc<Dir>, parent: &RemotePath, durable: bool) -> io::Result<()> {
        let durable = durable || self.options.durable;
        if durable {
            staging.sync()?;
        }
        staging.publish(&dir)?;
        if durable { self.settled.settle(&self.root, parent, dir) } else { Ok(()) }
    }
}

/// Makes a file with a name that is hidden, locked for as long as it is open.
fn create_locked(dir: &Dir, mode: u32) -> io::Result<(File, String)> {
    for _ in 0..NAME_ATTEMPTS_MAX {
        let name = staging_name();
        let created = match dir.create_file(&name, mode) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => continue,
            created => created?,
        };
        // A sweep may have come between the two calls: then it has the lock, or has removed the file already.
        // Where nothing can be locked, no sweep removes it either.
        if file::try_lock_exclusive(&created).unwrap_or(true) && file::attributes(&created)?.links > 0 {
            return Ok((created, name));
        }
    }
    Err(io::Error::other("no free name for a staging file was found"))
}
