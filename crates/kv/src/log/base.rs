//! A base that is being written: all there was at one instant, in the order in which it is come upon.

use std::io;

use xferd_os::{File, FileExt, scaled, seeded};
use xferd_wire::resp::write_integer;

use crate::entry::Entry;
use crate::rebuild::rebuild;

/// Bytes that are gathered for one write. What is longer is written from where it is.
pub(crate) const BASE_BUFFER_BYTES: usize = scaled(256 << 10) as usize;

/// Bytes after which the disk is asked to begin with them: the sync at the end is the shorter for it.
const WRITEBACK_EVERY_BYTES: u64 = 8 << 20;

/// A file that keys are written to.
#[derive(Debug)]
pub(crate) struct Base {
    file: File,
    len: u64,
    bytes: Vec<u8>,
    database: Option<u8>,
    /// Why nothing more is written.
    failure: Option<io::Error>,
    /// What was removed by a command that had no time to write it.
    deferred: Vec<Vec<Entry>>,
}

impl Base {
    /// Begins one, in seconds since 1970 at `now_s`.
    pub(crate) fn new(file: File, now_s: u64) -> Self {
        let bytes = format!("#TS:{now_s}\r\n").into_bytes();
        Self { file, len: 0, bytes, database: None, failure: None, deferred: Vec::new() }
    }

    /// Writes entries whose time has not come.
    pub(crate) fn save<'a>(&mut self, entries: impl Iterator<Item = &'a Entry>, now_ms: u64) {
        for entry in entries {
            if entry.deadline().is_some_and(|deadline| deadline <= now_ms) {
                continue;
            }
            if self.database != Some(entry.database()) {
                self.database = Some(entry.database());
                self.request(&[b"SELECT", itoa::Buffer::new().format(entry.database()).as_bytes()]);
            }
            rebuild(entry, &mut |args| self.request(args));
        }
    }

    /// Keeps entries to be written when nobody waits for it.
    pub(crate) fn save_later(&mut self, entries: Vec<Entry>) {
        self.deferred.push(entries);
    }

    /// The next ones of those.
    pub(crate) fn take_deferred(&mut self) -> Option<Vec<Entry>> {
        self.deferred.pop()
    }

    /// Whether it goes on.
    pub(crate) fn has_failed(&self) -> bool {
        self.failure.is_some()
    }

    /// Brings it to the disk. How long it is.
    ///
    /// # Errors
    /// That of the write that failed, or of the sync.
    pub(crate) fn finish(mut self) -> io::Result<u64> {
        self.flush();
        match self.failure {
            Some(error) => Err(error),
            None if seeded!(BaseUnsynced) => Ok(self.len),
            None => self.file.sync_all().map(|()| self.len),
        }
    }

    fn request(&mut self, args: &[&[u8]]) {
        self.bytes.push(b'*');
        write_integer(args.len() as i64, &mut self.bytes);
        self.bytes.extend_from_slice(b"\r\n");
        for arg in args {
            self.bytes.push(b'$');
            write_integer(arg.len() as i64, &mut self.bytes);
            self.bytes.extend_from_slice(b"\r\n");
            if arg.len() > BASE_BUFFER_BYTES {
                self.flush();
                self.write(arg);
            } else {
                self.bytes.extend_from_slice(arg);
            }
            self.bytes.extend_from_slice(b"\r\n");
            if self.bytes.len() > BASE_BUFFER_BYTES {
                self.flush();
            }
        }
    }

    fn flush(&mut self) {
        let mut bytes = std::mem::take(&mut self.bytes);
        self.write(&bytes);
        bytes.clear();
        self.bytes = bytes;
    }

    fn write(&mut self, bytes: &[u8]) {
        if self.failure.is_none() {
            self.failure = self.file.write_all_at(bytes, self.len).err();
            let before = self.len;
            self.len += bytes.len() as u64;
            if before / WRITEBACK_EVERY_BYTES != self.len / WRITEBACK_EVERY_BYTES {
                xferd_os::file::start_writeback(&self.file);
            }
        }
    }
}
