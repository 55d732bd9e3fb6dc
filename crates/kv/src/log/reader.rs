//! A file that is read from front to back, a part of it in memory.

use std::io;

use xferd_os::{File, scaled};

/// Bytes that are read at once.
const CHUNK_BYTES: usize = scaled(1 << 20) as usize;

/// A file and how far it was read.
#[derive(Debug)]
pub(crate) struct Reader {
    file: File,
    size: u64,
    /// A part of the file, which begins at `start`.
    bytes: Vec<u8>,
    start: u64,
    at: usize,
}

impl Reader {
    /// Reads the first `size` bytes of a file.
    pub(crate) fn new(file: File, size: u64) -> Self {
        Self { file, size, bytes: Vec::new(), start: 0, at: 0 }
    }

    /// The same from `offset` on.
    pub(crate) fn seek(&mut self, offset: u64) {
        self.bytes.clear();
        (self.start, self.at) = (offset.min(self.size), 0);
    }

    /// How far it was read.
    pub(crate) fn offset(&self) -> u64 {
        self.start + self.at as u64
    }

    /// How much there is from there on.
    pub(crate) fn left(&self) -> u64 {
        self.size - self.offset()
    }

    /// What of that is in memory.
    pub(crate) fn rest(&self) -> &[u8] {
        self.bytes.get(self.at..).unwrap_or_default()
    }

    /// Whether all of it is.
    pub(crate) fn is_last(&self) -> bool {
        self.rest().len() as u64 == self.left()
    }

    /// Has `len` bytes in memory, or all there are.
    ///
    /// # Errors
    /// What reading says.
    pub(crate) fn fill(&mut self, len: usize) -> io::Result<()> {
        let there = self.rest().len();
        if there >= len || self.is_last() {
            return Ok(());
        }
        self.bytes.drain(..self.at);
        self.start += self.at as u64;
        self.at = 0;
        let missing = (self.left() - there as u64).min((len - there).max(CHUNK_BYTES) as u64);
        // Not more than was asked for, or the size of a chunk.
        xferd_os::file::append(&self.file, self.start + there as u64, missing as usize, &mut self.bytes)
    }

    /// Goes on behind `len` bytes that are in memory.
    pub(crate) fn take(&mut self, len: usize) {
        self.at = (self.at + len).min(self.bytes.len());
    }
}
