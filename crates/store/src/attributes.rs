//! What goes with the bytes of a file.

use xferd_os::{Attributes, Kind, Timestamp};
use xferd_wire::{EntryKind, Mtime};

/// Permission bits that a peer can set. Not setuid, setgid and sticky: a file that comes over the network runs with
/// nobody's rights but those of the one who starts it.
const PERMISSION_BITS: u32 = 0o777;

/// What a file or a directory has besides content.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct FileAttributes {
    /// Permission bits. Anything beyond `0o777` is left out when they are set.
    pub mode: u32,
    /// When the content last changed.
    pub mtime: Mtime,
}

impl FileAttributes {
    pub(crate) fn of(attributes: &Attributes) -> Self {
        Self { mode: permissions(attributes.mode), mtime: mtime_of(attributes) }
    }

    /// What of the mode a peer can set.
    pub fn permissions(&self) -> u32 {
        permissions(self.mode)
    }

    pub(crate) fn timestamp(&self) -> Timestamp {
        Timestamp { seconds: self.mtime.seconds, nanoseconds: self.mtime.nanoseconds }
    }
}

pub(crate) fn permissions(mode: u32) -> u32 {
    mode & PERMISSION_BITS
}

pub(crate) fn mtime_of(attributes: &Attributes) -> Mtime {
    Mtime { seconds: attributes.mtime.seconds, nanoseconds: attributes.mtime.nanoseconds }
}

pub(crate) fn entry_kind(kind: Kind) -> EntryKind {
    match kind {
        Kind::File => EntryKind::File,
        Kind::Directory => EntryKind::Directory,
        Kind::Symlink => EntryKind::Symlink,
        Kind::Other => EntryKind::Other,
    }
}
