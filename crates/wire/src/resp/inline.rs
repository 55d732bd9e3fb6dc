//! Requests that people type: words between blanks, quoted where they hold some. Redis's `sdssplitargs`.

use super::RespError;
use super::args::{ArgsBuf, Span};

/// The words of a line without quotes, which are where they are.
pub(super) fn split(line: &[u8], spans: &mut Vec<Span>) {
    let mut rest = line;
    while let Some(blanks) = rest.iter().position(|byte| !is_blank(*byte)) {
        let start = line.len() - rest.len() + blanks;
        let len = line[start..].iter().position(|byte| ends_word(*byte)).unwrap_or(line.len() - start);
        spans.push(Span::new(start, start + len));
        rest = &line[start + len..];
    }
}

/// The words of a line with quotes, free of them.
pub(super) fn split_quoted(line: &[u8], words: &mut ArgsBuf) -> Result<(), RespError> {
    let mut bytes = line.iter().copied().peekable();
    loop {
        while bytes.next_if(|byte| is_blank(*byte)).is_some() {}
        if bytes.peek().is_none() {
            return Ok(());
        }
        let start = words.end();
        while let Some(byte) = bytes.next_if(|byte| !ends_word(*byte)) {
            match byte {
                b'"' => double_quoted(&mut bytes, words)?,
                b'\'' => single_quoted(&mut bytes, words)?,
                _ => {
                    words.byte(byte);
                    continue;
                }
            }
            // A quote that closes ends the word.
            if bytes.peek().is_some_and(|byte| !is_blank(*byte)) {
                return Err(RespError::UnbalancedQuotes);
            }
            break;
        }
        words.finish(start);
    }
}

type Bytes<I> = std::iter::Peekable<I>;

fn double_quoted(
    bytes: &mut Bytes<impl Iterator<Item = u8> + Clone>,
    words: &mut ArgsBuf,
) -> Result<(), RespError> {
    loop {
        match bytes.next().ok_or(RespError::UnbalancedQuotes)? {
            b'"' => return Ok(()),
            b'\\' => {
                let escaped = match bytes.next().ok_or(RespError::UnbalancedQuotes)? {
                    b'n' => b'\n',
                    b'r' => b'\r',
                    b't' => b'\t',
                    b'b' => 0x08,
                    b'a' => 0x07,
                    b'x' => hex(bytes).unwrap_or(b'x'),
                    other => other,
                };
                words.byte(escaped);
            }
            byte => words.byte(byte),
        }
    }
}

fn single_quoted(bytes: &mut Bytes<impl Iterator<Item = u8>>, words: &mut ArgsBuf) -> Result<(), RespError> {
    loop {
        match bytes.next().ok_or(RespError::UnbalancedQuotes)? {
            b'\'' => return Ok(()),
            b'\\' => words.byte(bytes.next_if_eq(&b'\'').unwrap_or(b'\\')),
            byte => words.byte(byte),
        }
    }
}

/// Takes two hexadecimal digits, or nothing.
fn hex<I: Iterator<Item = u8> + Clone>(bytes: &mut Bytes<I>) -> Option<u8> {
    let mut ahead = bytes.clone();
    let mut digit = || ahead.next().and_then(|byte| char::from(byte).to_digit(16));
    let byte = (digit()? << 4 | digit()?) as u8;
    *bytes = ahead;
    Some(byte)
}

/// C's `isspace`.
fn is_blank(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t'..=b'\r')
}

/// A vertical tab or form feed is no word's end, but its beginning isn't one of a word either: that is how Redis does it.
fn ends_word(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\n' | b'\r')
}
