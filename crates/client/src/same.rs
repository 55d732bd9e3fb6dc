//! What is there already, and need not be transferred again.

use xferd_store::FileAttributes;
use xferd_wire::{Entry, EntryKind, LinkTarget};

/// How a file that is there already is told from one that has to be transferred.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Compare {
    /// By size and modification time, to the nanosecond.
    #[default]
    Times,
    /// Not at all: everything is transferred.
    Nothing,
}

/// What becomes of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// It is transferred.
    Differs,
    /// Its content is there.
    Same,
}

impl Compare {
    /// Compares a file of `size` bytes with what is `there` under its name.
    pub(crate) fn judge(self, size: u64, attributes: &FileAttributes, there: &Entry) -> Verdict {
        let is_alike = there.kind == EntryKind::File && there.size == size;
        match self {
            Self::Times if is_alike && there.mtime == attributes.mtime => Verdict::Same,
            Self::Times | Self::Nothing => Verdict::Differs,
        }
    }
}

/// Whether what is `there` has the attributes that it would be given.
pub(crate) fn has_attributes(there: &Entry, attributes: &FileAttributes) -> bool {
    let theirs = FileAttributes { mode: there.mode, mtime: there.mtime };
    theirs.permissions() == attributes.permissions() && theirs.mtime == attributes.mtime
}

/// Whether the directory that is wanted is `there`, whatever its attributes.
pub(crate) fn is_directory(there: &Entry) -> bool {
    there.kind == EntryKind::Directory
}

/// Whether the link that is wanted is `there`.
pub(crate) fn is_link_to(there: &Entry, target: &LinkTarget) -> bool {
    there.kind == EntryKind::Symlink && there.link_target.as_ref() == Some(target)
}
