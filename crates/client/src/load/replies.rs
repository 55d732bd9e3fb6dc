//! Replies, held against what was expected.

use xferd_engine::Failure;
use xferd_wire::resp::{Replies as Writer, ReplyScanner, Version};

use super::requests::Expected;

/// Bytes of a reply that is none of those expected, or of the beginning of one that is, before it is known.
pub(super) const REPLY_BYTES_MAX: usize = 256 << 10;

/// What a reply says.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Said {
    /// What was expected.
    Right,
    /// That there is no value.
    Missing,
    /// An error, or something else: this.
    Wrong(Vec<u8>),
}

/// Finds replies in what comes on one connection.
#[derive(Debug, Default)]
pub(super) struct Replies {
    /// Bytes left of a value that was recognised by its length.
    left: usize,
    /// The beginning of a reply that was not.
    partial: Vec<u8>,
    scanner: ReplyScanner,
}

/// The reply to a GET, as far as it is always the same.
#[derive(Debug)]
pub(super) struct ValueReply {
    head: Vec<u8>,
    bytes: usize,
}

impl ValueReply {
    pub(super) fn new(value_bytes: usize) -> Self {
        let mut reply = Vec::new();
        Writer::new(&mut reply, Version::Resp2).bulk(vec![b'x'; value_bytes]);
        let bytes = reply.len();
        reply.truncate(bytes - value_bytes - 2);
        Self { head: reply, bytes }
    }
}

impl Replies {
    /// Takes the next reply, which is to be `expected`, or as much of it as has come, off the front of `bytes`.
    ///
    /// # Errors
    /// PROTOCOL if it is none, or too long.
    pub(super) fn next(
        &mut self,
        expected: Expected,
        value: &ValueReply,
        bytes: &mut &[u8],
    ) -> Result<Option<Said>, Failure> {
        if self.left > 0 {
            let taken = self.left.min(bytes.len());
            self.left -= taken;
            *bytes = bytes.get(taken..).unwrap_or_default();
            return Ok((self.left == 0).then_some(Said::Right));
        }
        let known = if self.partial.is_empty() { known(expected, value, bytes) } else { None };
        let Some(len) = known else { return self.scan(expected, value, bytes) };
        let taken = len.min(bytes.len());
        self.left = len - taken;
        *bytes = bytes.get(taken..).unwrap_or_default();
        Ok((self.left == 0).then_some(Said::Right))
    }

    /// The same for what is not known at a glance.
    fn scan(
        &mut self,
        expected: Expected,
        value: &ValueReply,
        bytes: &mut &[u8],
    ) -> Result<Option<Said>, Failure> {
        let before = self.partial.len();
        if before > 0 {
            self.partial.extend_from_slice(bytes);
        }
        let all = if before > 0 { self.partial.as_slice() } else { *bytes };
        let found = self.scanner.scan(all);
        match found.map_err(|error| Failure::protocol(format!("the server does not speak RESP: {error}")))? {
            Some(len) => {
                let said = judge(expected, value, all.get(..len).unwrap_or_default());
                *bytes = bytes.get(len - before..).unwrap_or_default();
                self.partial = Vec::new();
                Ok(Some(said))
            }
            None if all.len() > REPLY_BYTES_MAX => Err(Failure::protocol(format!(
                "the server gives a reply of more than {REPLY_BYTES_MAX} bytes"
            ))),
            None => {
                if before == 0 {
                    self.partial.extend_from_slice(bytes);
                }
                *bytes = &[];
                Ok(None)
            }
        }
    }
}

/// The length of a reply that begins as it should. A value may be longer than what has come of it.
fn known(expected: Expected, value: &ValueReply, bytes: &[u8]) -> Option<usize> {
    match expected {
        Expected::Ok => bytes.starts_with(b"+OK\r\n").then_some(5),
        Expected::Pong => bytes.starts_with(b"+PONG\r\n").then_some(7),
        Expected::Value => bytes.starts_with(&value.head).then_some(value.bytes),
        Expected::Integer => {
            let digits = bytes.strip_prefix(b":")?.iter().take_while(|byte| byte.is_ascii_digit()).count();
            (digits > 0 && bytes.get(1 + digits..3 + digits)? == b"\r\n").then_some(3 + digits)
        }
    }
}

fn judge(expected: Expected, value: &ValueReply, reply: &[u8]) -> Said {
    let is_missing = matches!(reply, b"$-1\r\n" | b"_\r\n");
    if known(expected, value, reply) == Some(reply.len()) {
        Said::Right
    } else if expected == Expected::Value && is_missing {
        Said::Missing
    } else {
        Said::Wrong(reply.to_vec())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const VALUE: &[u8] = b"$3\r\nxxx\r\n";

    /// What is found in `bytes` that come in pieces of this length.
    fn read(expected: Expected, bytes: &[u8], piece: usize) -> Result<Vec<Said>, Failure> {
        let (mut replies, value) = (Replies::default(), ValueReply::new(3));
        let mut said = Vec::new();
        for mut piece in bytes.chunks(piece) {
            while !piece.is_empty() {
                said.extend(replies.next(expected, &value, &mut piece)?);
            }
        }
        Ok(said)
    }

    fn wrong(reply: &[u8]) -> Said {
        Said::Wrong(reply.to_vec())
    }

    #[test]
    fn replies_are_found_in_whatever_pieces_they_come() {
        let values =
            [VALUE, b"$-1\r\n", VALUE, b"-ERR no\r\n", b"$2\r\nxx\r\n", b"_\r\n", b"*1\r\n:1\r\n", VALUE];
        let integers: [&[u8]; 4] = [b":0\r\n", b":18446744073709\r\n", b"+OK\r\n", b":7\r\n"];
        for piece in 1..100 {
            assert_eq!(
                read(Expected::Value, &values.concat(), piece).unwrap(),
                [
                    Said::Right,
                    Said::Missing,
                    Said::Right,
                    wrong(b"-ERR no\r\n"),
                    wrong(b"$2\r\nxx\r\n"),
                    Said::Missing,
                    wrong(b"*1\r\n:1\r\n"),
                    Said::Right
                ],
                "{piece}"
            );
            assert_eq!(
                read(Expected::Integer, &integers.concat(), piece).unwrap(),
                [Said::Right, Said::Right, wrong(b"+OK\r\n"), Said::Right]
            );
            assert_eq!(
                read(Expected::Ok, b"+OK\r\n$-1\r\n+OKAY\r\n", piece).unwrap(),
                [Said::Right, wrong(b"$-1\r\n"), wrong(b"+OKAY\r\n")]
            );
            assert_eq!(
                read(Expected::Pong, b"+PONG\r\n+OK\r\n", piece).unwrap(),
                [Said::Right, wrong(b"+OK\r\n")]
            );
        }
    }

    #[test]
    fn what_is_no_reply_is_not_waited_for() {
        for bytes in [&b"HTTP/1.1 400 Bad Request\r\n"[..], b":1x\r\n", b"$-2\r\n"] {
            assert!(read(Expected::Value, bytes, 3).is_err());
        }
    }

    #[test]
    fn a_reply_that_nobody_expects_may_have_so_many_bytes_and_no_more() {
        let long = |bytes: usize| {
            let head = format!("${bytes}\r\n");
            let fill = vec![b'y'; REPLY_BYTES_MAX - head.len()];
            read(Expected::Ok, &[head.as_bytes(), &fill].concat(), 1000)
        };
        assert_eq!(long(REPLY_BYTES_MAX).unwrap(), []);
        let (mut replies, value) = (Replies::default(), ValueReply::new(3));
        let endless = [b"$1000000\r\n", &[b'y'; REPLY_BYTES_MAX - 9][..]].concat();
        assert!(replies.next(Expected::Ok, &value, &mut endless.as_slice()).is_err());
    }
}
