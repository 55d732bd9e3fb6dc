//! The arguments of a request: slices of the bytes it came in.

use std::fmt;
use std::ops::Index;

/// Where an argument is. Four bytes each, because a request has at most
/// [`REQUEST_BYTES_MAX`](super::limits::REQUEST_BYTES_MAX).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Span {
    pub(super) start: u32,
    pub(super) len: u32,
}

impl Span {
    /// `[start, end)` of a request, which fits by its limit.
    pub(crate) fn new(start: usize, end: usize) -> Self {
        Self { start: start as u32, len: (end - start) as u32 }
    }
}

/// The arguments of a request, its command first. Cheap to copy.
///
/// `args[n]` panics if there are not as many; a command looks at [`len`](Self::len) before.
#[derive(Clone, Copy)]
pub struct Args<'a> {
    bytes: &'a [u8],
    spans: &'a [Span],
}

impl<'a> Args<'a> {
    pub(crate) fn new(bytes: &'a [u8], spans: &'a [Span]) -> Self {
        Self { bytes, spans }
    }

    /// How many there are.
    pub fn len(self) -> usize {
        self.spans.len()
    }

    /// Whether there are none: an empty line.
    pub fn is_empty(self) -> bool {
        self.spans.is_empty()
    }

    /// The argument at `index`, if there are as many.
    pub fn get(self, index: usize) -> Option<&'a [u8]> {
        self.spans.get(index).map(|span| slice(self.bytes, *span))
    }

    /// All but the first `count`; none if there are not as many.
    pub fn skip(self, count: usize) -> Self {
        Self { spans: self.spans.get(count..).unwrap_or_default(), ..self }
    }

    /// Each of them.
    pub fn iter(self) -> impl DoubleEndedIterator<Item = &'a [u8]> + ExactSizeIterator + Clone {
        self.spans.iter().map(move |span| slice(self.bytes, *span))
    }
}

impl Index<usize> for Args<'_> {
    type Output = [u8];

    fn index(&self, index: usize) -> &[u8] {
        slice(self.bytes, self.spans[index])
    }
}

impl fmt::Debug for Args<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter().map(|arg| arg.escape_ascii().to_string())).finish()
    }
}

/// Arguments that own their bytes, for who has them from elsewhere than a connection, or must keep them.
#[derive(Debug, Default, Clone)]
pub struct ArgsBuf {
    bytes: Vec<u8>,
    spans: Vec<Span>,
}

impl ArgsBuf {
    /// None yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Appends `arg`. All of them together have at most [`REQUEST_BYTES_MAX`](super::limits::REQUEST_BYTES_MAX) bytes.
    pub fn push(&mut self, arg: &[u8]) {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(arg);
        self.finish(start);
    }

    /// Forgets all, and keeps the memory for the next.
    pub fn clear(&mut self) {
        self.bytes.clear();
        self.spans.clear();
    }

    /// What was pushed.
    pub fn args(&self) -> Args<'_> {
        Args::new(&self.bytes, &self.spans)
    }

    /// Appends a byte to the argument that will be [finished](Self::finish).
    pub(super) fn byte(&mut self, byte: u8) {
        self.bytes.push(byte);
    }

    /// Where the next argument begins.
    pub(super) fn end(&self) -> usize {
        self.bytes.len()
    }

    /// What came since `start` is an argument.
    pub(super) fn finish(&mut self, start: usize) {
        self.spans.push(Span::new(start, self.bytes.len()));
    }
}

impl<A: AsRef<[u8]>> FromIterator<A> for ArgsBuf {
    fn from_iter<I: IntoIterator<Item = A>>(args: I) -> Self {
        let mut buf = Self::new();
        for arg in args {
            buf.push(arg.as_ref());
        }
        buf
    }
}

/// Empty only if these are not the bytes that were parsed.
fn slice(bytes: &[u8], span: Span) -> &[u8] {
    let start = span.start as usize;
    let slice = bytes.get(start..start + span.len as usize);
    debug_assert!(slice.is_some(), "arguments are asked for with the bytes that were parsed");
    slice.unwrap_or_default()
}
