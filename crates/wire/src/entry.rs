//! What a directory contains, as it is told to a client.

use crate::limits::{CONTROL_BODY_BYTES_MAX, ENTRIES_MAX};
use crate::link::LinkTarget;
use crate::path::RemotePath;

/// When the content of a file last changed: seconds since 1970-01-01 00:00 UTC, negative before it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Mtime {
    /// Whole seconds, rounded down.
    pub seconds: i64,
    /// The rest, less than 1,000,000,000.
    pub nanoseconds: u32,
}

/// What a name stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum EntryKind {
    /// A regular file.
    File,
    /// A directory.
    Directory,
    /// A symbolic link, itself, not what it points to.
    Symlink,
    /// A device, a pipe, a socket: named, never transferred.
    Other,
}

impl EntryKind {
    pub(crate) const fn id(self) -> u8 {
        match self {
            Self::File => 1,
            Self::Directory => 2,
            Self::Symlink => 3,
            Self::Other => 4,
        }
    }

    pub(crate) const fn from_id(id: u8) -> Option<Self> {
        match id {
            1 => Some(Self::File),
            2 => Some(Self::Directory),
            3 => Some(Self::Symlink),
            4 => Some(Self::Other),
            _ => None,
        }
    }
}

/// One file, directory or link.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// In a listing, the path from the listed directory; in the answer to `STAT`, the path that was asked for.
    pub path: RemotePath,
    /// What it is.
    pub kind: EntryKind,
    /// Bytes of a file; 0 for anything else.
    pub size: u64,
    /// Permission bits, at most [`MODE_MAX`](crate::limits::MODE_MAX).
    pub mode: u32,
    /// When it last changed.
    pub mtime: Mtime,
    /// Where a symbolic link points. `None` for anything else, and for a target that is not UTF-8.
    pub link_target: Option<LinkTarget>,
}

/// As many entries as one frame can carry.
///
/// ```
/// # use xferd_wire::{Entries, Entry, EntryKind, Mtime, RemotePath};
/// # let entry = Entry { path: RemotePath::parse("a")?, kind: EntryKind::File, size: 0, mode: 0o644,
/// #                     mtime: Mtime::default(), link_target: None };
/// let mut entries = Entries::default();
/// if let Err(entry) = entries.push(entry) {
///     // Full: send these, begin the next frame with the entry that came back.
///     # unreachable!("the first entry always fits: {entry:?}");
/// }
/// # Ok::<(), xferd_wire::PathError>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entries {
    list: Vec<Entry>,
    body_bytes: usize,
}

impl Entries {
    /// Adds `entry`, which always fits into an empty frame.
    ///
    /// # Errors
    /// `entry` itself, if the frame has no room for it.
    pub fn push(&mut self, entry: Entry) -> Result<(), Entry> {
        let body_bytes = self.body_bytes + entry_bytes(&entry);
        if self.list.len() == ENTRIES_MAX || body_bytes > CONTROL_BODY_BYTES_MAX {
            return Err(entry);
        }
        self.list.push(entry);
        self.body_bytes = body_bytes;
        Ok(())
    }
}

impl Default for Entries {
    fn default() -> Self {
        Self { list: Vec::new(), body_bytes: size_of::<u16>() }
    }
}

impl std::ops::Deref for Entries {
    type Target = [Entry];

    fn deref(&self) -> &[Entry] {
        &self.list
    }
}

impl IntoIterator for Entries {
    type Item = Entry;
    type IntoIter = std::vec::IntoIter<Entry>;

    fn into_iter(self) -> Self::IntoIter {
        self.list.into_iter()
    }
}

/// Bytes of `entry` on the wire: its fixed fields, two lengths and two texts.
fn entry_bytes(entry: &Entry) -> usize {
    const FIXED_BYTES: usize = 1 + 2 + 8 + 4 + 8 + 4 + 2;
    FIXED_BYTES + entry.path.as_str().len() + entry.link_target.as_ref().map_or(0, |t| t.as_str().len())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::{COMPONENT_BYTES_MAX, LINK_TARGET_BYTES_MAX, PATH_BYTES_MAX};
    use crate::{Frame, HEADER_BYTES, encode};

    fn entry(path: &str) -> Entry {
        Entry {
            path: RemotePath::parse(path).unwrap(),
            kind: EntryKind::File,
            size: 1,
            mode: 0o644,
            mtime: Mtime::default(),
            link_target: None,
        }
    }

    fn largest_entry() -> Entry {
        let path = "x/".repeat(PATH_BYTES_MAX / 2 - 1) + "xx";
        let link_target = Some(LinkTarget::parse("t".repeat(LINK_TARGET_BYTES_MAX)).unwrap());
        Entry { kind: EntryKind::Symlink, link_target, ..entry(&path) }
    }

    fn fill(entry: &Entry) -> Entries {
        let mut entries = Entries::default();
        while entries.push(entry.clone()).is_ok() {}
        entries
    }

    #[test]
    fn a_frame_takes_256_entries_and_not_257() {
        assert_eq!(fill(&entry("a")).len(), ENTRIES_MAX);
    }

    #[test]
    fn a_frame_takes_no_entry_that_would_make_it_too_long() {
        for entry in [largest_entry(), entry(&"x".repeat(COMPONENT_BYTES_MAX))] {
            let entries = fill(&entry);
            assert!(!entries.is_empty() && entries.len() < ENTRIES_MAX);
            let mut out = Vec::new();
            let one_entry_bytes = entry_bytes(&entry);
            encode(1, &Frame::Entries(entries), &mut out);
            let body_bytes = out.len() - HEADER_BYTES;
            assert!(
                body_bytes <= CONTROL_BODY_BYTES_MAX && body_bytes + one_entry_bytes > CONTROL_BODY_BYTES_MAX
            );
        }
    }

    #[test]
    fn the_entry_that_does_not_fit_comes_back() {
        let mut entries = fill(&entry("a"));
        assert_eq!(entries.push(entry("b")), Err(entry("b")));
        assert_eq!(entries.into_iter().filter(|kept| kept.path.as_str() == "b").count(), 0);
    }
}
