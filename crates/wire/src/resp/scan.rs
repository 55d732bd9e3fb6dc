//! Finds where replies end, and what they are made of.

use memchr::memchr;

use super::ReplyError;
use super::limits::{AGGREGATE_LEN_MAX, BULK_BYTES_MAX, LINE_BYTES_MAX, REPLY_DEPTH_MAX};
use super::number::parse_integer;

/// Finds where replies end, in whatever pieces they come, for who passes them on as bytes.
///
/// It holds them against the rules of RESP3 (and 2), but for what is streamed, and keeps nothing of them: its memory is
/// a number for each level, of which there may be [`REPLY_DEPTH_MAX`].
#[derive(Debug, Default)]
pub struct ReplyScanner {
    /// Everything before is understood.
    at: usize,
    /// No end of the line is before.
    searched: usize,
    /// The string that begins at `at`, and its length.
    bulk: Option<(Bulk, usize)>,
    /// Values that each open aggregate lacks, the outermost first. An attribute counts as an aggregate of what it says
    /// and of the value it says it about.
    missing: [u64; REPLY_DEPTH_MAX],
    depth: usize,
}

impl ReplyScanner {
    /// A scanner that has seen nothing.
    pub fn new() -> Self {
        Self::default()
    }

    /// Goes on with the reply that begins with `bytes`, and gives its length when it is whole.
    ///
    /// As long as it is not, the next call gets the same bytes with more behind them. What was pushed is a reply, too;
    /// it begins with `>`.
    ///
    /// # Errors
    /// [`ReplyError`] if this is no reply. Where the next one would begin is not known: the connection is to be closed.
    pub fn scan(&mut self, bytes: &[u8]) -> Result<Option<usize>, ReplyError> {
        self.visit(bytes, &mut ())
    }

    /// Like [`scan`](Self::scan), and tells what there is.
    pub(super) fn visit(
        &mut self,
        bytes: &[u8],
        visitor: &mut impl Visitor,
    ) -> Result<Option<usize>, ReplyError> {
        loop {
            let is_open = match self.bulk {
                Some((bulk, len)) => {
                    let Some(text) = self.text(bytes, len)? else { return Ok(None) };
                    visitor.leaf(bulk.leaf(text)?);
                    false
                }
                None => {
                    let Some((kind, line)) = self.line(bytes)? else { return Ok(None) };
                    match Head::read(kind, line)? {
                        Head::Leaf(leaf) => {
                            visitor.leaf(leaf);
                            false
                        }
                        Head::Bulk(bulk, len) => {
                            self.bulk = Some((bulk, len));
                            continue;
                        }
                        Head::Aggregate(aggregate, len) => {
                            visitor.open(aggregate);
                            self.open(aggregate.values(len))?
                        }
                    }
                }
            };
            if !is_open && self.close(visitor) {
                return Ok(Some(std::mem::take(&mut self.at)));
            }
        }
    }

    /// The next line and the byte it begins with.
    fn line<'a>(&mut self, bytes: &'a [u8]) -> Result<Option<(u8, &'a [u8])>, ReplyError> {
        let from = self.searched.max(self.at);
        let found = bytes.get(from..).and_then(|rest| memchr(b'\r', rest)).map(|offset| from + offset);
        if found.unwrap_or(bytes.len()).saturating_sub(self.at) > LINE_BYTES_MAX {
            return Err(ReplyError::LineTooLong);
        }
        let Some(end) = found else {
            self.searched = bytes.len();
            return Ok(None);
        };
        self.searched = end;
        match bytes.get(end + 1) {
            None => return Ok(None),
            Some(b'\n') => {}
            Some(_) => return Err(ReplyError::LineEnd),
        }
        let line = bytes.get(self.at..end).and_then(<[u8]>::split_first);
        let (kind, line) = line.ok_or(ReplyError::Kind(b'\r'))?;
        self.at = end + 2;
        self.searched = 0;
        Ok(Some((*kind, line)))
    }

    /// The string of `len` bytes that comes next.
    fn text<'a>(&mut self, bytes: &'a [u8], len: usize) -> Result<Option<&'a [u8]>, ReplyError> {
        let end = self.at + len;
        let Some(line_end) = bytes.get(end..end + 2) else { return Ok(None) };
        if line_end != b"\r\n" {
            return Err(ReplyError::LineEnd);
        }
        let text = bytes.get(self.at..end);
        self.at = end + 2;
        self.bulk = None;
        Ok(text)
    }

    /// Goes down a level, if there is something on it.
    fn open(&mut self, values: u64) -> Result<bool, ReplyError> {
        let missing = self.missing.get_mut(self.depth).ok_or(ReplyError::TooDeep)?;
        *missing = values;
        self.depth += 1;
        Ok(values > 0)
    }

    /// A value is whole, or an aggregate that was opened has none. Says whether that makes the reply whole.
    fn close(&mut self, visitor: &mut impl Visitor) -> bool {
        while let Some(missing) = self.missing[..self.depth].last_mut() {
            *missing = missing.saturating_sub(1);
            if *missing > 0 {
                return false;
            }
            visitor.close();
            self.depth -= 1;
        }
        true
    }
}

/// Is told what a reply is made of, in its order.
pub(super) trait Visitor {
    /// A value without others in it.
    fn leaf(&mut self, leaf: Leaf<'_>);
    /// The values that follow belong to an aggregate.
    fn open(&mut self, aggregate: Aggregate);
    /// The aggregate that was opened last and not closed has all its values.
    fn close(&mut self);
}

impl Visitor for () {
    fn leaf(&mut self, _: Leaf<'_>) {}
    fn open(&mut self, _: Aggregate) {}
    fn close(&mut self) {}
}

/// A value without others in it.
#[derive(Debug, Clone, Copy)]
pub(super) enum Leaf<'a> {
    Null,
    Simple(&'a [u8]),
    Error(&'a [u8]),
    Integer(i64),
    Double(f64),
    Boolean(bool),
    BigNumber(&'a [u8]),
    Bulk(&'a [u8]),
    Verbatim([u8; 3], &'a [u8]),
}

#[derive(Debug, Clone, Copy)]
pub(super) enum Aggregate {
    Array,
    Set,
    Push,
    Map,
    Attributes,
}

impl Aggregate {
    /// How many values follow if `len` is announced.
    fn values(self, len: u64) -> u64 {
        match self {
            Self::Array | Self::Set | Self::Push => len,
            Self::Map => 2 * len,
            Self::Attributes => 2 * len + 1,
        }
    }
}

/// The kinds of strings whose length is announced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Bulk {
    Text,
    Error,
    Verbatim,
}

impl Bulk {
    fn leaf(self, text: &[u8]) -> Result<Leaf<'_>, ReplyError> {
        Ok(match self {
            Self::Text => Leaf::Bulk(text),
            Self::Error => Leaf::Error(text),
            Self::Verbatim => match text {
                [a, b, c, b':', text @ ..] => Leaf::Verbatim([*a, *b, *c], text),
                _ => return Err(ReplyError::Value(b'=')),
            },
        })
    }
}

/// What a line says.
enum Head<'a> {
    Leaf(Leaf<'a>),
    Bulk(Bulk, usize),
    Aggregate(Aggregate, u64),
}

impl<'a> Head<'a> {
    fn read(kind: u8, line: &'a [u8]) -> Result<Self, ReplyError> {
        let leaf = match kind {
            b'+' => Leaf::Simple(line),
            b'-' => Leaf::Error(line),
            b'$' | b'*' if line == b"-1" => Leaf::Null,
            b'_' if line.is_empty() => Leaf::Null,
            b':' => Leaf::Integer(parse_integer(line).ok_or(ReplyError::Value(kind))?),
            b',' => Leaf::Double(parse_double(line).ok_or(ReplyError::Value(kind))?),
            b'#' if line == b"t" => Leaf::Boolean(true),
            b'#' if line == b"f" => Leaf::Boolean(false),
            b'(' if is_big_number(line) => Leaf::BigNumber(line),
            b'_' | b'#' | b'(' => return Err(ReplyError::Value(kind)),
            b'$' => return bulk(Bulk::Text, kind, line),
            b'!' => return bulk(Bulk::Error, kind, line),
            b'=' => return bulk(Bulk::Verbatim, kind, line),
            b'*' => return aggregate(Aggregate::Array, kind, line),
            b'~' => return aggregate(Aggregate::Set, kind, line),
            b'>' => return aggregate(Aggregate::Push, kind, line),
            b'%' => return aggregate(Aggregate::Map, kind, line),
            b'|' => return aggregate(Aggregate::Attributes, kind, line),
            _ => return Err(ReplyError::Kind(kind)),
        };
        Ok(Self::Leaf(leaf))
    }
}

fn bulk(bulk: Bulk, kind: u8, line: &[u8]) -> Result<Head<'_>, ReplyError> {
    let len = parse_integer(line).and_then(|len| usize::try_from(len).ok()).ok_or(ReplyError::Value(kind))?;
    if len > BULK_BYTES_MAX {
        return Err(ReplyError::BulkTooLong { bytes: len });
    }
    Ok(Head::Bulk(bulk, len))
}

fn aggregate(aggregate: Aggregate, kind: u8, line: &[u8]) -> Result<Head<'_>, ReplyError> {
    let len = parse_integer(line).and_then(|len| u64::try_from(len).ok()).ok_or(ReplyError::Value(kind))?;
    if len > AGGREGATE_LEN_MAX {
        return Err(ReplyError::AggregateTooLong { len });
    }
    Ok(Head::Aggregate(aggregate, len))
}

/// What Rust reads beside, `infinity` and the like, RESP does not know.
fn parse_double(text: &[u8]) -> Option<f64> {
    match text {
        b"inf" => Some(f64::INFINITY),
        b"-inf" => Some(f64::NEG_INFINITY),
        b"nan" => Some(f64::NAN),
        _ if !text.iter().all(|byte| matches!(byte, b'0'..=b'9' | b'+' | b'-' | b'.' | b'e' | b'E')) => None,
        _ => std::str::from_utf8(text).ok()?.parse().ok(),
    }
}

fn is_big_number(text: &[u8]) -> bool {
    let digits = text.strip_prefix(b"-").or_else(|| text.strip_prefix(b"+")).unwrap_or(text);
    !digits.is_empty() && digits.iter().all(u8::is_ascii_digit)
}
