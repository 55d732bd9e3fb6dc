use std::io;

use super::File;

/// A mapping of a file's front, which only sockets ever read.
#[derive(Debug)]
pub struct Mapping {
    file: File,
    bytes: u64,
}

impl Mapping {
    /// Maps the first `len` bytes of `file`, which may end earlier.
    ///
    /// # Errors
    /// None.
    pub fn map(file: &File, len: u64) -> io::Result<Mapping> {
        Ok(Mapping { file: file.reopen(), bytes: len })
    }

    /// Bytes mapped.
    pub fn len(&self) -> u64 {
        self.bytes
    }

    /// Whether nothing is mapped.
    pub fn is_empty(&self) -> bool {
        self.bytes == 0
    }

    pub(super) fn file(&self) -> &File {
        &self.file
    }
}
