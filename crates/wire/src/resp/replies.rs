//! Replies as a server writes them.

use super::double::write_double;
use super::number::write_integer;

/// The version of the protocol that a connection speaks: 2 until the client says `HELLO 3`.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub enum Version {
    /// What every client understands.
    #[default]
    Resp2,
    /// With maps, sets, doubles, booleans, pushes and one null.
    Resp3,
}

/// Writes replies behind what is in a buffer already.
///
/// An aggregate announces how many values follow; then they are written. Where that is known only afterwards, they
/// are written behind a [`mark`](Self::mark), and announced by [`array_at`](Self::array_at).
#[derive(Debug)]
pub struct Replies<'a> {
    out: &'a mut Vec<u8>,
    version: Version,
}

/// A place between two replies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mark(usize);

impl<'a> Replies<'a> {
    /// A writer in this version.
    pub fn new(out: &'a mut Vec<u8>, version: Version) -> Self {
        Self { out, version }
    }

    /// The version that is spoken.
    pub fn version(&self) -> Version {
        self.version
    }

    /// Bytes in the buffer, whoever wrote them.
    pub fn len(&self) -> usize {
        self.out.len()
    }

    /// Whether there is nothing in the buffer.
    pub fn is_empty(&self) -> bool {
        self.out.is_empty()
    }

    /// A status such as `OK`, which holds no line end.
    pub fn simple(&mut self, status: &str) {
        debug_assert!(!status.contains(['\r', '\n']), "a status is one line");
        self.out.push(b'+');
        self.line(status.as_bytes());
    }

    /// An error: its code, a blank, and what is to be said. It may hold what came from a peer, also line ends.
    pub fn error(&mut self, message: impl AsRef<[u8]>) {
        self.out.push(b'-');
        let start = self.out.len();
        self.out.extend_from_slice(trim_line_ends(message.as_ref()));
        for byte in self.out.iter_mut().skip(start).filter(|byte| matches!(byte, b'\r' | b'\n')) {
            *byte = b' ';
        }
        self.out.extend_from_slice(b"\r\n");
    }

    /// A whole number.
    pub fn integer(&mut self, number: i64) {
        self.header(b':', number);
    }

    /// A string of any bytes.
    pub fn bulk(&mut self, bytes: impl AsRef<[u8]>) {
        let bytes = bytes.as_ref();
        self.header(b'$', bytes.len() as i64);
        self.line(bytes);
    }

    /// A whole number, as a string.
    pub fn bulk_integer(&mut self, number: i64) {
        self.bulk_of(|out| write_integer(number, out));
    }

    /// No value, where a string could have been.
    pub fn null(&mut self) {
        self.raw(if self.is_resp3() { b"_\r\n" } else { b"$-1\r\n" });
    }

    /// No value, where an array could have been.
    pub fn null_array(&mut self) {
        self.raw(if self.is_resp3() { b"_\r\n" } else { b"*-1\r\n" });
    }

    /// `len` values follow.
    pub fn array(&mut self, len: usize) {
        self.header(b'*', len as i64);
    }

    /// `pairs` keys and as many values follow, each value behind its key.
    pub fn map(&mut self, pairs: usize) {
        match self.version {
            Version::Resp2 => self.array(2 * pairs),
            Version::Resp3 => self.header(b'%', pairs as i64),
        }
    }

    /// `len` different values follow, in whatever order.
    pub fn set(&mut self, len: usize) {
        self.header(if self.is_resp3() { b'~' } else { b'*' }, len as i64);
    }

    /// `len` values follow that nobody has asked for now.
    pub fn push(&mut self, len: usize) {
        self.header(if self.is_resp3() { b'>' } else { b'*' }, len as i64);
    }

    /// A floating-point number as Redis 7.0 writes it ([`write_double`]).
    pub fn double(&mut self, number: f64) {
        match self.version {
            Version::Resp2 => self.bulk_of(|out| write_double(number, out)),
            Version::Resp3 => {
                self.out.push(b',');
                write_double(number, self.out);
                self.out.extend_from_slice(b"\r\n");
            }
        }
    }

    /// Yes or no.
    pub fn boolean(&mut self, value: bool) {
        self.raw(match (self.version, value) {
            (Version::Resp2, true) => b":1\r\n",
            (Version::Resp2, false) => b":0\r\n",
            (Version::Resp3, true) => b"#t\r\n",
            (Version::Resp3, false) => b"#f\r\n",
        });
    }

    /// A text for people in a format of three letters, `txt` or `mkd`.
    pub fn verbatim(&mut self, format: [u8; 3], text: impl AsRef<[u8]>) {
        let text = text.as_ref();
        if !self.is_resp3() {
            return self.bulk(text);
        }
        self.header(b'=', text.len() as i64 + 4);
        self.out.extend_from_slice(&format);
        self.out.push(b':');
        self.line(text);
    }

    /// Whole replies that were prepared in this version.
    pub fn raw(&mut self, replies: &[u8]) {
        self.out.extend_from_slice(replies);
    }

    /// Where the next reply will begin.
    pub fn mark(&self) -> Mark {
        Mark(self.out.len())
    }

    /// Forgets what was written behind `mark`.
    pub fn truncate(&mut self, mark: Mark) {
        self.out.truncate(mark.0);
    }

    /// What was written behind `mark` are the `len` values of an array. It is moved once by a few bytes, which costs
    /// less than a second pass over what is counted.
    pub fn array_at(&mut self, mark: Mark, len: usize) {
        self.announce(mark, |replies| replies.array(len));
    }

    /// What was written behind `mark` are the `pairs` of a map.
    pub fn map_at(&mut self, mark: Mark, pairs: usize) {
        self.announce(mark, |replies| replies.map(pairs));
    }

    /// What was written behind `mark` are the `len` values of a set.
    pub fn set_at(&mut self, mark: Mark, len: usize) {
        self.announce(mark, |replies| replies.set(len));
    }

    /// Writes `header`, and moves it in front of what was written behind `mark`.
    fn announce(&mut self, mark: Mark, header: impl FnOnce(&mut Self)) {
        let end = self.out.len();
        header(self);
        let header_bytes = self.out.len() - end;
        self.out[mark.0..].rotate_right(header_bytes);
    }

    fn is_resp3(&self) -> bool {
        self.version == Version::Resp3
    }

    fn header(&mut self, kind: u8, number: i64) {
        self.out.push(kind);
        write_integer(number, self.out);
        self.out.extend_from_slice(b"\r\n");
    }

    fn line(&mut self, bytes: &[u8]) {
        self.out.extend_from_slice(bytes);
        self.out.extend_from_slice(b"\r\n");
    }

    /// A string that is written in its place, and announced there.
    fn bulk_of(&mut self, write: impl FnOnce(&mut Vec<u8>)) {
        let mark = self.mark();
        write(self.out);
        let len = self.out.len() - mark.0;
        self.announce(mark, |replies| replies.header(b'$', len as i64));
        self.out.extend_from_slice(b"\r\n");
    }
}

fn trim_line_ends(mut text: &[u8]) -> &[u8] {
    while let [b'\r' | b'\n', rest @ ..] | [rest @ .., b'\r' | b'\n'] = text {
        text = rest;
    }
    text
}

#[cfg(test)]
mod tests;
