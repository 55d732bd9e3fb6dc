//! Bytes into frames, in whatever pieces they come.

use std::borrow::Cow;

use crate::fault::{DecodeError, Fault};
use crate::frame::Framed;
use crate::header::{HEADER_BYTES, Header};
use crate::hello::{HELLO_HEAD_BYTES, Hello, HelloHead, MAGIC};
use crate::opcode;

/// What a peer has said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Item {
    /// Its first words.
    Hello(Hello),
    /// Anything after them.
    Frame(Framed),
}

/// Reads one direction of a connection: first a [`Hello`], then frames.
///
/// It keeps the bytes of one unfinished item at most, never more than
/// [`CONTROL_BODY_BYTES_MAX`](crate::limits::CONTROL_BODY_BYTES_MAX), and nothing between items. An item that is whole
/// in the input is read from there.
#[derive(Debug, Default)]
pub struct Decoder {
    expected: Expected,
    /// The bytes of what is expected that came with earlier inputs.
    partial: Vec<u8>,
    /// Bytes still to come, and to be dropped, of a frame that is not known and need not be.
    skipped_bytes: u64,
}

impl Decoder {
    /// A decoder at the beginning of a connection.
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes what it needs from the front of `input`: the number of bytes taken, and the item they complete.
    ///
    /// Without an item, all of the input was taken and more is needed. With one, call again with the rest of it - but
    /// after [`Frame::Extent`](crate::Frame::Extent) only once exactly `len` bytes were taken out, which are the
    /// extent's own and mean nothing here.
    ///
    /// # Errors
    /// [`DecodeError`] at the first byte that proves the peer wrong. Its connection cannot go on, nor can the decoder.
    pub fn decode(&mut self, input: &[u8]) -> Result<(usize, Option<Item>), DecodeError> {
        let mut rest = input;
        loop {
            self.skip(&mut rest);
            let Some(bytes) = gather(&mut self.partial, self.expected.bytes(), &mut rest) else {
                self.check_magic()?;
                return Ok((input.len(), None));
            };
            if let Some(item) = self.advance(&bytes)? {
                return Ok((input.len() - rest.len(), Some(item)));
            }
        }
    }

    /// Whether the connection may end here without cutting anything off: after the hello, between two frames.
    ///
    /// The raw bytes of an extent are not counted here; whether they are complete is for their taker to know.
    pub fn is_between_frames(&self) -> bool {
        matches!(self.expected, Expected::Header) && self.partial.is_empty() && self.skipped_bytes == 0
    }

    /// Reads the `bytes` that were expected and expects the next.
    fn advance(&mut self, bytes: &[u8]) -> Result<Option<Item>, DecodeError> {
        match self.expected {
            Expected::HelloHead => {
                self.expected = Expected::HelloBody(HelloHead::read(bytes).map_err(|fault| fault.of(0))?);
                Ok(None)
            }
            Expected::HelloBody(head) => {
                let hello = head.read_body(bytes).map_err(|fault| fault.of(0))?;
                self.expected = Expected::Header;
                Ok(Some(Item::Hello(hello)))
            }
            Expected::Header => {
                let header = Header::read(bytes).map_err(|fault| fault.of(0))?;
                header.check().map_err(|fault| fault.of(header.request))?;
                if opcode::is_optional(header.opcode) {
                    self.skipped_bytes = header.body_bytes;
                } else {
                    self.expected = Expected::Body(header);
                }
                Ok(None)
            }
            Expected::Body(header) => {
                let request = header.request;
                let frame = header.read_body(bytes).map_err(|fault| fault.of(request))?;
                self.expected = Expected::Header;
                Ok(Some(Item::Frame(Framed { request, frame })))
            }
        }
    }

    /// Drops from `rest` what belongs to a skipped frame.
    fn skip(&mut self, rest: &mut &[u8]) {
        let skipped = usize::try_from(self.skipped_bytes).unwrap_or(usize::MAX).min(rest.len());
        *rest = rest.get(skipped..).unwrap_or_default();
        self.skipped_bytes -= skipped as u64;
    }

    /// Refuses a stranger at its first wrong byte, for it may wait for an answer before it sends the sixteenth.
    fn check_magic(&self) -> Result<(), DecodeError> {
        let stranger = self.partial.iter().zip(MAGIC).any(|(byte, expected)| *byte != expected);
        if matches!(self.expected, Expected::HelloHead) && stranger {
            return Err(Fault::Magic.of(0));
        }
        Ok(())
    }
}

/// What the next bytes are.
#[derive(Debug, Clone, Copy, Default)]
enum Expected {
    #[default]
    HelloHead,
    HelloBody(HelloHead),
    Header,
    Body(Header),
}

impl Expected {
    /// Bytes that have to be there before any can be read. All have been checked against a limit.
    fn bytes(&self) -> usize {
        match self {
            Self::HelloHead => HELLO_HEAD_BYTES,
            Self::HelloBody(head) => head.body_bytes as usize,
            Self::Header => HEADER_BYTES,
            Self::Body(header) => header.needed_bytes() as usize,
        }
    }
}

/// Exactly `len` bytes, from `rest` alone if they are all there, else from `partial` and `rest`.
///
/// As long as they are not, `partial` grows by what came, so that a peer gets no memory for a promise.
fn gather<'a>(partial: &mut Vec<u8>, len: usize, rest: &mut &'a [u8]) -> Option<Cow<'a, [u8]>> {
    let missing = len.saturating_sub(partial.len());
    let Some((taken, after)) = rest.split_at_checked(missing) else {
        partial.extend_from_slice(rest);
        *rest = &[];
        return None;
    };
    *rest = after;
    if partial.is_empty() {
        return Some(Cow::Borrowed(taken));
    }
    partial.extend_from_slice(taken);
    Some(Cow::Owned(std::mem::take(partial)))
}

#[cfg(test)]
mod tests;
