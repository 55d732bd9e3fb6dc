//! Why the kernel, or this crate, refused something that [`std::io::ErrorKind`] has no name for.

use std::fmt;
use std::io;

use rustix::io::Errno;

/// What an [`io::Error`] of this crate means beyond its [kind](io::Error::kind).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// The path leads out of the directory it is confined to.
    Outside,
    /// A regular file is needed, and this is a directory, a device, a pipe or a socket.
    NotAFile,
    /// The path leads through more than [`LINKS_MAX`](crate::dir::LINKS_MAX) links, or through one where none is
    /// followed.
    TooManyLinks,
    /// The path, or one of its names, is longer than the file system can take.
    NameTooLong,
    /// This process or the system has as many descriptors open as it may.
    TooManyFiles,
}

impl Refusal {
    /// What `error` means, if it is one of these.
    pub fn of(error: &io::Error) -> Option<Self> {
        match Errno::from_io_error(error) {
            Some(Errno::LOOP) => Some(Self::TooManyLinks),
            Some(Errno::NAMETOOLONG) => Some(Self::NameTooLong),
            Some(Errno::MFILE | Errno::NFILE) => Some(Self::TooManyFiles),
            Some(_) => None,
            None => error.get_ref()?.downcast_ref().copied(),
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Outside => "the path leads out of the directory it is confined to",
            Self::NotAFile => "not a regular file",
            Self::TooManyLinks => "too many links on the path",
            Self::NameTooLong => "the path is too long",
            Self::TooManyFiles => "too many open files",
        })
    }
}

impl std::error::Error for Refusal {}

impl From<Refusal> for io::Error {
    fn from(refusal: Refusal) -> Self {
        Self::new(io::ErrorKind::InvalidInput, refusal)
    }
}
