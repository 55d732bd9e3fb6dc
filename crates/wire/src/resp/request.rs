//! Requests as a server reads them.

use memchr::{memchr, memchr2};

use super::args::{Args, ArgsBuf, Span, slice};
use super::limits::{
    ARGS_KEPT_MAX, ARGS_MAX, BULK_BYTES_MAX, LINE_BYTES_MAX, REQUEST_BYTES_MAX, UNAUTHENTICATED_ARGS_MAX,
    UNAUTHENTICATED_BULK_BYTES_MAX, WANTED_BYTES_MAX, WANTED_BYTES_MIN,
};
use super::number::parse_integer;
use super::{RespError, inline};

/// Finds requests, and their arguments, in the bytes that a client sends: arrays of strings, and lines of words.
///
/// What Redis 7.0 takes is taken, and what it refuses is refused in its words, with these differences: there is a limit
/// to arguments ([`ARGS_MAX`]) and to a whole request ([`REQUEST_BYTES_MAX`]); a byte that can't begin an argument is
/// refused when it comes, not when its line ends; a NUL in a line is a byte like others.
///
/// A request that fits into the receive buffer allocates nothing once the parser is warm. Beside the request itself,
/// which the caller keeps, a parser keeps 8 bytes for each argument that has come.
#[derive(Debug, Default)]
pub struct RequestParser {
    spans: Vec<Span>,
    /// The words of a line with quotes; empty otherwise.
    words: ArgsBuf,
    stage: Stage,
    /// Everything before is understood.
    at: usize,
    /// No end of the line is before.
    searched: usize,
    args_missing: usize,
    is_unauthenticated: bool,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// Nothing of the request has come.
    #[default]
    Start,
    Inline,
    /// The number of arguments comes next.
    Count,
    /// The length of an argument comes next.
    BulkLen,
    /// An argument of this length comes next.
    Bulk(usize),
}

impl RequestParser {
    /// A parser that believes its client authenticated.
    pub fn new() -> Self {
        Self::default()
    }

    /// Whether the client has said who it is, if it has to. Until then requests are kept small.
    pub fn set_authenticated(&mut self, is_authenticated: bool) {
        self.is_unauthenticated = !is_authenticated;
    }

    /// Goes on with the request that begins with `bytes`, and gives its length when it is whole.
    ///
    /// As long as it is not, the next call gets the same bytes with more behind them. Then [`args`](Self::args) has its
    /// arguments; there are none in an empty line or array, which is no command and gets no reply.
    ///
    /// # Errors
    /// [`RespError`] if this is no request. Where the next one would begin is not known: the connection is to be closed.
    pub fn parse(&mut self, bytes: &[u8]) -> Result<Option<usize>, RespError> {
        if self.stage == Stage::Start {
            self.spans.clear();
            self.words.clear();
            self.spans.shrink_to(ARGS_KEPT_MAX);
            self.stage = match bytes.first() {
                None => return Ok(None),
                Some(b'*') => Stage::Count,
                Some(_) => Stage::Inline,
            };
            if self.stage == Stage::Count && !self.is_unauthenticated {
                if let Some(len) = whole(bytes, |span| self.spans.push(span)) {
                    return Ok(Some(self.finish(len)));
                }
                self.spans.clear();
            }
        }
        if self.stage == Stage::Inline {
            return self.parse_inline(bytes);
        }
        if self.stage == Stage::Count {
            let Some((count, next)) = self.number(bytes, RespError::CountTooLong, RespError::Count)? else {
                return Ok(None);
            };
            self.at = next;
            self.args_missing = match usize::try_from(count) {
                Ok(0) | Err(_) => return Ok(Some(self.finish(next))),
                Ok(count) if count > ARGS_MAX => return Err(RespError::Count),
                Ok(count) if count > UNAUTHENTICATED_ARGS_MAX && self.is_unauthenticated => {
                    return Err(RespError::UnauthenticatedCount);
                }
                Ok(count) => count,
            };
            self.stage = Stage::BulkLen;
        }
        loop {
            let len = match self.stage {
                Stage::Bulk(len) => len,
                _ => {
                    let Some(len) = self.bulk_len(bytes)? else { return Ok(None) };
                    len
                }
            };
            let end = self.at + len;
            // Like Redis, nobody looks at the two bytes behind an argument.
            if bytes.len() < end + 2 {
                self.stage = Stage::Bulk(len);
                return Ok(None);
            }
            self.spans.push(Span::new(self.at, end));
            self.at = end + 2;
            self.args_missing -= 1;
            if self.args_missing == 0 {
                return Ok(Some(self.finish(self.at)));
            }
            self.stage = Stage::BulkLen;
        }
    }

    /// The length of the request that `bytes` begin with, and its second argument, which most often is a key; for who wants to know
    /// before its turn has come. `None` if that cannot be told at a glance.
    pub fn peek(bytes: &[u8]) -> Option<(usize, &[u8])> {
        let (mut args, mut second) = (0, Span::default());
        let len = whole(bytes, |span| {
            args += 1;
            second = if args == 2 { span } else { second };
        })?;
        Some((len, slice(bytes, second)))
    }

    /// The arguments of the request that the last [`parse`](Self::parse) found whole in `bytes`.
    pub fn args<'a>(&'a self, bytes: &'a [u8]) -> Args<'a> {
        if self.spans.is_empty() { self.words.args() } else { Args::new(bytes, &self.spans) }
    }

    /// How many more bytes to make room for, now that `len` bytes of an incomplete request are there.
    ///
    /// At least 1, and at most what the request still lacks for certain. It grows with what has come, up to
    /// [`WANTED_BYTES_MAX`], and not with what is announced.
    pub fn wants(&self, len: usize) -> usize {
        let Stage::Bulk(bulk_len) = self.stage else { return 1 };
        let lacks = (self.at + bulk_len + 2).saturating_sub(len);
        lacks.clamp(1, len.clamp(WANTED_BYTES_MIN, WANTED_BYTES_MAX))
    }

    /// Gives back the memory that is kept for the next request. A request that has begun goes on.
    pub fn rest(&mut self) {
        if self.stage == Stage::Start {
            self.spans.clear();
        }
        self.spans.shrink_to_fit();
        self.words = ArgsBuf::new();
    }

    fn parse_inline(&mut self, bytes: &[u8]) -> Result<Option<usize>, RespError> {
        let Some(end) = self.find(b'\n', bytes, RespError::InlineTooBig)? else { return Ok(None) };
        // Its end is within the bytes.
        let line = &bytes[..end];
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        match memchr2(b'"', b'\'', line) {
            None => inline::split(line, &mut self.spans),
            Some(_) => inline::split_quoted(line, &mut self.words)?,
        }
        Ok(Some(self.finish(end + 1)))
    }

    /// The length that is told at `at`, after which `at` is where the argument begins.
    fn bulk_len(&mut self, bytes: &[u8]) -> Result<Option<usize>, RespError> {
        match bytes.get(self.at) {
            None => return Ok(None),
            Some(b'$') => {}
            Some(other) => return Err(RespError::ExpectedBulk(*other)),
        }
        let Some((len, next)) = self.number(bytes, RespError::BulkLenTooLong, RespError::BulkLen)? else {
            return Ok(None);
        };
        let Ok(len) = usize::try_from(len) else { return Err(RespError::BulkLen) };
        if len > BULK_BYTES_MAX {
            return Err(RespError::BulkLen);
        }
        if len > UNAUTHENTICATED_BULK_BYTES_MAX && self.is_unauthenticated {
            return Err(RespError::UnauthenticatedBulkLen);
        }
        if next + len + 2 > REQUEST_BYTES_MAX {
            return Err(RespError::RequestTooBig);
        }
        self.at = next;
        Ok(Some(len))
    }

    /// The number between the byte at `at` and the end of its line, and where the next line begins.
    #[inline]
    fn number(
        &mut self,
        bytes: &[u8],
        too_long: RespError,
        invalid: RespError,
    ) -> Result<Option<(i64, usize)>, RespError> {
        if let Some((number, len)) = bytes.get(self.at + 1..).and_then(short_number) {
            return Ok(Some((number, self.at + 1 + len)));
        }
        self.long_number(bytes, too_long, invalid)
    }

    /// Any number, also one that has not come whole.
    #[cold]
    fn long_number(
        &mut self,
        bytes: &[u8],
        too_long: RespError,
        invalid: RespError,
    ) -> Result<Option<(i64, usize)>, RespError> {
        let Some(end) = self.find(b'\r', bytes, too_long)? else { return Ok(None) };
        // Like Redis, nobody looks at what follows the CR.
        if bytes.len() < end + 2 {
            self.searched = end;
            return Ok(None);
        }
        let number = bytes.get(self.at + 1..end).and_then(parse_integer).ok_or(invalid)?;
        Ok(Some((number, end + 2)))
    }

    /// Where the line that begins at `at` ends, if it has.
    fn find(&mut self, end: u8, bytes: &[u8], too_long: RespError) -> Result<Option<usize>, RespError> {
        let from = self.searched.max(self.at);
        let found = bytes.get(from..).and_then(|rest| memchr(end, rest)).map(|offset| from + offset);
        // As many bytes without an end are refused as if the end might yet come, wherever they were cut.
        if found.unwrap_or(bytes.len()).saturating_sub(self.at) > LINE_BYTES_MAX {
            return Err(too_long);
        }
        self.searched = bytes.len();
        Ok(found)
    }

    fn finish(&mut self, len: usize) -> usize {
        self.stage = Stage::Start;
        self.at = 0;
        self.searched = 0;
        len
    }
}

/// Arguments of a request that is parsed in one go.
const WHOLE_ARGS_MAX: i64 = 16;

/// The length of a request of few arguments if all of it is there, without anything that has to be looked at twice, and where its
/// arguments are: the case to be fast in.
#[inline]
fn whole(bytes: &[u8], mut each: impl FnMut(Span)) -> Option<usize> {
    let (count, len) = bytes.strip_prefix(b"*").and_then(short_number)?;
    let mut at = len + 1;
    if !(1..=WHOLE_ARGS_MAX).contains(&count) {
        return None;
    }
    for _ in 0..count {
        let (arg_len, len) = bytes.get(at..)?.strip_prefix(b"$").and_then(short_number)?;
        let start = at + 1 + len;
        let end = start + usize::try_from(arg_len).ok()?;
        // What is here is far shorter than the longest argument and request, so their limits hold.
        if end + 2 > bytes.len().min(BULK_BYTES_MAX) {
            return None;
        }
        each(Span::new(start, end));
        at = end + 2;
    }
    Some(at)
}

/// A number of at most nine digits whose line has ended, and the length of that line: the case to be fast in.
#[inline]
fn short_number(bytes: &[u8]) -> Option<(i64, usize)> {
    const DIGITS_MAX: usize = 9;
    match bytes {
        // Most have one or two digits.
        [ones @ b'0'..=b'9', b'\r', _, ..] => return Some((i64::from(ones - b'0'), 3)),
        [tens @ b'1'..=b'9', ones @ b'0'..=b'9', b'\r', _, ..] => {
            return Some((i64::from((tens - b'0') * 10 + (ones - b'0')), 4));
        }
        _ => {}
    }
    let digit = |index: usize| bytes.get(index).map(|byte| byte.wrapping_sub(b'0'));
    let first = digit(0).filter(|digit| *digit <= 9)?;
    let mut number = i64::from(first);
    let mut len = 1;
    while let Some(digit) = digit(len).filter(|digit| *digit <= 9) {
        number = number * 10 + i64::from(digit);
        len += 1;
        if len > DIGITS_MAX {
            return None;
        }
    }
    let has_leading_zero = first == 0 && len > 1;
    (bytes.get(len) == Some(&b'\r') && bytes.len() > len + 1 && !has_leading_zero)
        .then_some((number, len + 2))
}

#[cfg(test)]
mod tests;
