//! Files on their way out.

use std::sync::Arc;

use xferd_os::{Attributes, File, file};
use xferd_wire::{Identity, RemotePath};

use crate::attributes::FileAttributes;
use crate::error::{StoreError, shown};
use crate::names::admit;
use crate::store::Store;

/// A file that is open for reading, and what it was when it was opened.
///
/// Clones share one descriptor; read by offset.
#[derive(Debug, Clone)]
pub struct Source {
    file: Arc<File>,
    path: RemotePath,
    opened: Attributes,
}

impl Source {
    /// Where to read.
    pub fn file(&self) -> Arc<File> {
        Arc::clone(&self.file)
    }

    /// Bytes it had when it was opened.
    pub fn size(&self) -> u64 {
        self.opened.size
    }

    /// Its mode and time when it was opened.
    pub fn attributes(&self) -> FileAttributes {
        FileAttributes::of(&self.opened)
    }

    /// What tells it from other files, and from itself at another time.
    pub fn identity(&self) -> Identity {
        identity(&self.opened)
    }

    /// Appends `[start, end)`, which has to fit into memory, to `bytes`.
    ///
    /// # Errors
    /// [`StoreError::SourceChanged`] if it was written to since it was opened, or is shorter.
    pub fn read(&self, start: u64, end: u64, bytes: &mut Vec<u8>) -> Result<(), StoreError> {
        let len = usize::try_from(end.saturating_sub(start)).map_err(|_| self.changed())?;
        file::append(&self.file, start, len, bytes).map_err(|error| self.read_failed(error))?;
        self.verify_unchanged()
    }

    /// The error of reading bytes that it had when it was opened: if they are not there, it was changed.
    pub(crate) fn read_failed(&self, error: std::io::Error) -> StoreError {
        match error.kind() {
            std::io::ErrorKind::UnexpectedEof => self.changed(),
            _ => self.failed(error),
        }
    }

    /// The error that says what the system said about it.
    pub fn failed(&self, error: std::io::Error) -> StoreError {
        StoreError::of(&self.path, error)
    }

    /// Looks whether it still is what it was when it was opened.
    ///
    /// That it was replaced by another file, or got another name, is no change: the bytes are those that were opened.
    ///
    /// # Errors
    /// [`StoreError::SourceChanged`].
    pub fn verify_unchanged(&self) -> Result<(), StoreError> {
        let now = file::attributes(&self.file).map_err(|error| self.failed(error))?;
        if is_unchanged(&self.opened, &now) { Ok(()) } else { Err(self.changed()) }
    }

    /// The error that says that it was changed.
    pub fn changed(&self) -> StoreError {
        StoreError::SourceChanged { path: shown(&self.path) }
    }
}

impl Store {
    /// Opens the file at `path` for reading. Links are followed as long as they stay beneath the root.
    ///
    /// # Errors
    /// [`StoreError::NotFound`], [`StoreError::NotAFile`], [`StoreError::OutsideRoot`] and the like.
    pub fn open_source(&self, path: &RemotePath) -> Result<Source, StoreError> {
        admit(path)?;
        let (file, opened) =
            self.root.open_file(path.as_str()).map_err(|error| StoreError::of(path, error))?;
        Ok(Source { file: Arc::new(file), path: path.clone(), opened })
    }
}

fn identity(attributes: &Attributes) -> Identity {
    let Attributes { inode, ctime, .. } = *attributes;
    Identity { inode, ctime_s: ctime.seconds, ctime_ns: ctime.nanoseconds }
}

fn is_unchanged(opened: &Attributes, now: &Attributes) -> bool {
    // Whoever writes can put mtime back, but not ctime. A name more or less also shows in ctime; of that, the count of
    // names tells.
    let same_ctime = opened.ctime == now.ctime || opened.links != now.links;
    opened.size == now.size && opened.mtime == now.mtime && same_ctime
}
