//! What is in a directory, or in a whole tree.

use std::ffi::OsStr;
use std::io;

use xferd_os::{Dir, Kind};
use xferd_wire::limits::ENTRIES_MAX;
use xferd_wire::{Entry, EntryKind, LinkTarget, RemotePath};

use crate::attributes::{entry_kind, mtime_of};
use crate::error::{StoreError, shown};
use crate::names::{DEPTH_MAX, admit, is_reserved_name};
use crate::store::{Store, split};
use crate::walk::{Step, TooManyAhead, Walk};

/// Reads a directory in batches, or a tree, each directory before what is in it. Links are shown, never followed.
///
/// Takes as much memory as the directories it has still to enter need for their names, which is limited, and two or
/// three descriptors. What is added or removed meanwhile may be shown or not.
#[derive(Debug)]
pub struct Listing {
    path: RemotePath,
    walk: Walk,
    recursive: bool,
}

/// One thing that a [`Listing`] came upon.
#[derive(Debug, Clone)]
pub enum Listed {
    /// Its path is from the listed directory.
    Entry(Entry),
    /// A file or directory that has no place in the listing, such as one whose name is not UTF-8, or a directory that
    /// cannot be read. The listing goes on with the others.
    Skipped(StoreError),
}

impl Store {
    /// Lists the directory `path`, with `recursive` all that is beneath it.
    ///
    /// # Errors
    /// [`StoreError::NotFound`], [`StoreError::NotADirectory`], [`StoreError::OutsideRoot`] and the like.
    pub fn list(&self, path: &RemotePath, recursive: bool) -> Result<Listing, StoreError> {
        admit(path)?;
        let walk = self.root.open_dir(path.as_str()).and_then(Walk::new);
        Ok(Listing {
            path: path.clone(),
            walk: walk.map_err(|error| StoreError::of(path, error))?,
            recursive,
        })
    }

    /// What is at `path`; if that is a link, the link.
    ///
    /// # Errors
    /// [`StoreError::NotFound`], [`StoreError::NotADirectory`], [`StoreError::OutsideRoot`] and the like.
    pub fn stat(&self, path: &RemotePath) -> Result<Entry, StoreError> {
        admit(path)?;
        let entry = match split(path) {
            None => self.root.own_attributes().map(|attributes| entry_of(path.clone(), &attributes, None)),
            Some((parent, name)) => self
                .root
                .open_dir(parent.as_str())
                .and_then(|dir| read_entry(&dir, OsStr::new(name), path.clone())),
        };
        entry.map_err(|error| StoreError::of(path, error))
    }
}

impl Listing {
    /// The next entries, at most [`ENTRIES_MAX`], and no more once their names have `names_bytes_max` bytes. None at all is
    /// the end.
    ///
    /// # Errors
    /// [`StoreError::TooManyDirectories`], [`StoreError::TooManyFiles`], [`StoreError::Io`]: the listing ends here.
    pub fn next_batch(&mut self, names_bytes_max: usize) -> Result<Vec<Listed>, StoreError> {
        let mut batch = Vec::new();
        let mut names_bytes = 0;
        while batch.len() < ENTRIES_MAX && names_bytes < names_bytes_max {
            let step = self.walk.step().map_err(|error| StoreError::of(&self.path, error))?;
            match step {
                None => break,
                Some(Step::Unreadable(path, error)) => {
                    batch.push(Listed::Skipped(StoreError::of_shown(
                        self.shown_beneath(path.as_str()),
                        error,
                    )));
                }
                Some(Step::Name(found)) => {
                    names_bytes += found.name.len();
                    batch.extend(self.look_at(&found.name)?);
                }
            }
        }
        Ok(batch)
    }

    /// What `name` in the current directory is, or `None` if it is nothing to be shown.
    fn look_at(&mut self, name: &OsStr) -> Result<Option<Listed>, StoreError> {
        let Some((here, dir)) = self.walk.here() else { return Ok(None) };
        let shown_name = || {
            let name = name.as_encoded_bytes().escape_ascii();
            self.shown_beneath(&if here.is_root() { name.to_string() } else { format!("{here}/{name}") })
        };
        let Some(utf8) = name.to_str() else {
            return Ok(Some(Listed::Skipped(StoreError::NameNotUtf8 { path: shown_name() })));
        };
        if is_reserved_name(utf8) {
            return Ok(None);
        }
        let Ok(path) = here.join(utf8) else {
            return Ok(Some(Listed::Skipped(StoreError::NameTooLong { path: shown_name() })));
        };
        if path.components().count() + self.path.components().count() > DEPTH_MAX {
            return Ok(Some(Listed::Skipped(StoreError::TooDeep { path: shown_name() })));
        }
        let entry = match read_entry(dir, name, path) {
            Ok(entry) => entry,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Ok(Some(Listed::Skipped(StoreError::of_shown(shown_name(), error)))),
        };
        if self.recursive && entry.kind == EntryKind::Directory {
            self.walk
                .enter(entry.path.clone())
                .map_err(|TooManyAhead| StoreError::TooManyDirectories { path: shown(&self.path) })?;
        }
        Ok(Some(Listed::Entry(entry)))
    }

    fn shown_beneath(&self, path: &str) -> String {
        if self.path.is_root() { path.to_owned() } else { format!("{}/{path}", self.path) }
    }
}

fn read_entry(dir: &Dir, name: &OsStr, path: RemotePath) -> io::Result<Entry> {
    let mut looks = 0;
    loop {
        let attributes = dir.attributes(name)?;
        if attributes.kind != Kind::Symlink {
            return Ok(entry_of(path, &attributes, None));
        }
        match dir.read_link(name) {
            // It was a link a moment ago and is none now (readlink(2), EINVAL).
            Err(error) if error.kind() == io::ErrorKind::InvalidInput && looks < LOOKS_MAX => looks += 1,
            target => return Ok(entry_of(path, &attributes, Some(&target?))),
        }
    }
}

/// How often a name is looked at again that somebody else changes at the same time.
const LOOKS_MAX: usize = 64;

fn entry_of(path: RemotePath, attributes: &xferd_os::Attributes, target: Option<&OsStr>) -> Entry {
    let kind = entry_kind(attributes.kind);
    Entry {
        path,
        kind,
        size: if kind == EntryKind::File { attributes.size } else { 0 },
        mode: attributes.mode,
        mtime: mtime_of(attributes),
        link_target: target.and_then(OsStr::to_str).and_then(|target| LinkTarget::parse(target).ok()),
    }
}
