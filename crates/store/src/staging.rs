//! Files on their way in: unseen until they are whole.

use std::io;
use std::sync::Arc;

use xferd_os::{Dir, File, FileExt, Kind, Sink, file, seeded};
use xferd_wire::limits::FILE_BYTES_MAX;
use xferd_wire::{RemotePath, WritePath};

use crate::attributes::FileAttributes;
use crate::error::{StoreError, shown};
use crate::journal::Journal;
use crate::names::staging_name;
use crate::store::{Store, split};
use crate::write_path::{Chosen, WritePaths};

/// Before it is complete, nobody but the owner reads a file.
pub(crate) const STAGING_MODE: u32 = 0o600;

/// A random name of 64 bits that is taken is a coincidence; a second one is a broken system.
pub(crate) const NAME_ATTEMPTS_MAX: usize = 8;

/// A file that is being written and has no place in the tree yet.
///
/// It is on the file system of its target but, where the system can do that, without a name, so that a process that is
/// killed leaves nothing behind. Elsewhere it has a name that [`Store::list`] hides and is locked, so that
/// [`Store::sweep`] can tell it from a dead one. Dropping it discards what was written, unless it is
/// [resumable](Store::stage_resumable).
#[derive(Debug)]
pub struct Staging {
    way: Chosen,
    /// Its directory and its hidden name there; `None` for a file without a name, which holds no directory open.
    place: Option<(Arc<Dir>, String)>,
    path: RemotePath,
    size: Option<u64>,
    /// Dropped before its commit it stays, to be resumed.
    kept: bool,
    journal: Option<Box<Journal>>,
    /// A sync has failed: what it would have brought to the disk may be lost, and another one would not say so.
    spoiled: bool,
}

impl Staging {
    fn create(dir: &Arc<Dir>, path: &RemotePath, size: Option<u64>, mode: u32) -> io::Result<Self> {
        let (file, place) = match dir.create_unnamed(mode)? {
            Some(file) => (file, None),
            None => create_locked(dir, mode).map(|(file, name)| (file, Some((Arc::clone(dir), name))))?,
        };
        let way = Chosen::cached(file);
        Ok(Self { way, place, path: path.clone(), size, kept: false, journal: None, spoiled: false })
    }

    /// A file that has the hidden name `name`, and is kept or not when it is dropped.
    pub(crate) fn named(
        file: File,
        dir: Arc<Dir>,
        name: String,
        path: &RemotePath,
        size: u64,
        kept: bool,
    ) -> Self {
        let (way, path) = (Chosen::cached(file), path.clone());
        let place = Some((dir, name));
        Self { way, place, path, size: Some(size), kept, journal: None, spoiled: false }
    }

    /// From now on it is kept when it is dropped.
    pub(crate) fn keep_with(&mut self, journal: Journal) {
        self.kept = true;
        self.journal = Some(Box::new(journal));
    }

    pub(crate) fn journal_mut(&mut self) -> Option<&mut Journal> {
        self.journal.as_deref_mut()
    }

    pub(crate) fn path(&self) -> &RemotePath {
        &self.path
    }

    /// Chooses the way that what is written takes. It is in `dir`.
    pub(crate) fn choose(&mut self, dir: &Dir, write_paths: &WritePaths) -> Result<(), StoreError> {
        let file = self.way.sink.file().clone();
        let failed = |error| StoreError::of(&self.path, error);
        self.way = write_paths.choose(dir, file, self.size).map_err(failed)?;
        Ok(())
    }

    /// Takes room for the announced size.
    pub(crate) fn preallocate(&self) -> Result<(), StoreError> {
        let Some(size_bytes) = self.size else { return Ok(()) };
        file::preallocate(self.file(), size_bytes).map_err(|error| match error.kind() {
            io::ErrorKind::FileTooLarge => StoreError::TooLarge { path: self.path.to_string(), size_bytes },
            _ => StoreError::of(&self.path, error),
        })
    }

    /// Where to write. Its file is open for reading, too.
    pub fn sink(&self) -> Arc<Sink> {
        Arc::clone(&self.way.sink)
    }

    /// The way that what is written there takes to the disk.
    pub fn write_path(&self) -> WritePath {
        self.way.path
    }

    pub(crate) fn file(&self) -> &File {
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
        let staging = Self::create(dir, path, None, mode)?;
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

    /// Waits until the file is on disk. If that fails, trying again proves nothing, and nobody goes on with it.
    pub(crate) fn sync(&mut self) -> io::Result<()> {
        let file = self.file();
        let synced = if seeded!(AttributesUnsynced) { file.sync_data() } else { file.sync_all() };
        if synced.is_err() {
            self.distrust();
        }
        synced
    }

    /// Has what is written take another way.
    #[cfg(all(test, target_os = "linux", not(xferd_portable)))]
    pub(crate) fn write_to(&mut self, sink: Sink) {
        self.way.sink = Arc::new(sink);
    }

    /// Whether some of its bytes may be lost without another sync saying so.
    pub(crate) fn is_spoiled(&self) -> bool {
        self.spoiled || self.way.sink.has_lost()
    }

    /// Forgets what is known of its bytes, because a sync of them has failed: the kernel tells of that once and takes what it
    /// could not write for written (fsync(2)), so that a later sync would succeed without them. It goes when it is dropped.
    pub(crate) fn distrust(&mut self) {
        if seeded!(FailedSyncForgotten) {
            return;
        }
        self.spoiled = true;
        self.kept = false;
        if let Some(journal) = self.journal.take() {
            journal.remove();
        }
    }

    /// Gives it its name, in `dir`, atomically replacing what is there.
    pub(crate) fn publish(mut self, dir: &Arc<Dir>) -> io::Result<()> {
        let name = self.path.file_name().unwrap_or_default();
        if self.place.is_none() {
            match dir.link_unnamed(self.file(), name) {
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                linked => return linked,
            }
            // There is no call that links and replaces. So it gets a name of its own first, and a lock, lest a sweep
            // takes it for the remains of a dead process. Where nothing can be locked, no sweep removes it either.
            let _ = file::try_lock_exclusive(self.file());
            let staging = staging_name();
            dir.link_unnamed(self.file(), &staging)?;
            self.place = Some((Arc::clone(dir), staging));
        }
        if let Some((staging_dir, staging)) = &self.place {
            staging_dir.rename(staging, dir, name)?;
            self.place = None;
        }
        Ok(())
    }
}

impl Drop for Staging {
    fn drop(&mut self) {
        if self.is_spoiled() {
            self.distrust();
        }
        if let Some((dir, name)) = self.place.as_ref().filter(|_| !self.kept) {
            // If that fails, a sweep removes it.
            let _ = dir.remove_file(name);
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
        let dir = Arc::new(self.open_for_staging(path, size)?);
        let staging = Staging::create(&dir, path, size, STAGING_MODE);
        let mut staging = staging.map_err(|error| StoreError::of(path, error))?;
        staging.choose(&dir, &self.write_paths)?;
        staging.preallocate()?;
        Ok(staging)
    }

    /// Opens, or makes, the directory that `path` is in, if a file of `size` bytes may become it.
    pub(crate) fn open_for_staging(&self, path: &RemotePath, size: Option<u64>) -> Result<Dir, StoreError> {
        self.admit_change(path)?;
        let failed = |error| StoreError::of(path, error);
        let (parent, name) = split(path).ok_or_else(|| StoreError::NotAFile { path: shown(path) })?;
        if let Some(size_bytes) = size.filter(|&size| size > FILE_BYTES_MAX) {
            return Err(StoreError::TooLarge { path: path.to_string(), size_bytes });
        }
        let dir = self.open_or_make(&parent).map_err(failed)?;
        match dir.attributes(name) {
            Ok(existing) if existing.kind == Kind::Directory => {
                Err(StoreError::NotAFile { path: path.to_string() })
            }
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(failed(error)),
            _ => Ok(dir),
        }
    }

    /// Makes a staged file of `size` bytes visible at its path, atomically replacing a file or a link that is there.
    ///
    /// With `durable`, or if the store [is](crate::Options::durable), it survives a power loss once this returns.
    ///
    /// # Errors
    /// [`StoreError::SizeMismatch`] if the file has another size, or another was announced. On any error the staged
    /// file is gone, unless it is resumable; if the last step fails, syncing the directory, the file may be visible nevertheless, whole.
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
        if staging.is_spoiled() {
            return Err(failed(spoiled()));
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

    /// Gives a complete file its name in `dir`, which is at `parent`.
    fn publish(
        &self,
        mut staging: Staging,
        dir: Arc<Dir>,
        parent: &RemotePath,
        durable: bool,
    ) -> io::Result<()> {
        let durable = durable || self.options.durable;
        if durable && !seeded!(AckBeforeSync) {
            staging.sync()?;
        }
        let journal = staging.journal.take();
        staging.publish(&dir)?;
        if durable {
            self.settled.settle(&self.root, parent, dir)?;
        }
        // Last of all: without it, what a process that is killed here has done would be sent again.
        if let Some(journal) = journal {
            journal.remove();
        }
        Ok(())
    }
}

/// What is said of a file some of whose bytes may be lost.
pub(crate) fn spoiled() -> io::Error {
    io::Error::other("its bytes could not be brought to the disk; send it again")
}

/// Makes a file with a name that is hidden, locked for as long as it is open.
pub(crate) fn create_locked(dir: &Dir, mode: u32) -> io::Result<(File, String)> {
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
