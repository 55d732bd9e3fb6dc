//! Cuts what a server says into replies.

use std::borrow::Cow;
use std::mem;

use xferd_wire::resp::{ReplyError, ReplyScanner};

/// Bytes that are put behind the beginning of a reply at a time, unless that is longer itself: what belongs to the next ones
/// is copied in vain.
const STEP_BYTES: usize = 4 << 10;

/// What replies begin with.
const KINDS: &[u8] = b"+-:$*_,#(!=~>%|";

/// Keeps the beginning of a reply until the rest has come.
#[derive(Default)]
pub(crate) struct Framing {
    scanner: ReplyScanner,
    partial: Vec<u8>,
}

impl Framing {
    /// Takes the next reply off `bytes`, as soon as it is whole; or all of them. One that came at once is lent, any other
    /// was put together in a place of its own.
    ///
    /// # Errors
    /// This is no reply; nothing that follows can be understood.
    pub(crate) fn next<'a>(&mut self, bytes: &mut &'a [u8]) -> Result<Option<Cow<'a, [u8]>>, ReplyError> {
        let all: &'a [u8] = bytes;
        if self.partial.is_empty() {
            if let Some(len) = self.scanner.scan(all)? {
                let (reply, rest) = all.split_at_checked(len).unwrap_or((all, &[]));
                *bytes = rest;
                return Ok(Some(Cow::Borrowed(reply)));
            }
            // The scanner looks at it when the line has ended, which may never be.
            if let Some(&kind) = all.first().filter(|kind| !KINDS.contains(kind)) {
                return Err(ReplyError::Kind(kind));
            }
            self.partial.extend_from_slice(all);
            *bytes = &[];
            return Ok(None);
        }
        let before = self.partial.len();
        let step = all.len().min(before.max(STEP_BYTES));
        let (more, rest) = all.split_at_checked(step).unwrap_or((all, &[]));
        self.partial.extend_from_slice(more);
        match self.scanner.scan(&self.partial)? {
            None => {
                *bytes = rest;
                Ok(None)
            }
            Some(len) => {
                *bytes = all.get(len.saturating_sub(before)..).unwrap_or_default();
                self.partial.truncate(len);
                Ok(Some(Cow::Owned(mem::take(&mut self.partial))))
            }
        }
    }

    /// Bytes of the reply that has begun.
    pub(crate) fn partial_bytes(&self) -> usize {
        self.partial.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const REPLIES: [&[u8]; 6] = [
        b"+OK\r\n",
        b"$5\r\nhello\r\n",
        b">3\r\n$7\r\nmessage\r\n$1\r\nc\r\n$0\r\n\r\n",
        b"*2\r\n:1\r\n%1\r\n+a\r\n_\r\n",
        b"-ERR no\r\n",
        b":12345\r\n",
    ];

    #[test]
    fn replies_are_found_in_whatever_pieces_they_come() {
        let large = [b"$9000\r\n".as_slice(), &[b'v'; 9000], b"\r\n"].concat();
        let all: Vec<&[u8]> = REPLIES.into_iter().chain([large.as_slice()]).chain(REPLIES).collect();
        let stream = all.concat();
        for size in (1..40).chain([4096, 8191, stream.len()]) {
            let mut framing = Framing::default();
            let mut found = Vec::new();
            for mut piece in stream.chunks(size) {
                while !piece.is_empty() {
                    found.extend(framing.next(&mut piece).unwrap().map(Cow::into_owned));
                }
            }
            assert_eq!(found, all, "in pieces of {size} bytes");
            assert_eq!(framing.partial_bytes(), 0);
        }
    }

    #[test]
    fn what_is_no_reply_is_refused() {
        for nonsense in [b"HTTP/1.1 400 Bad Request\r\n".as_slice(), b"x", b"\0\0", b"$x\r\n"] {
            assert!(Framing::default().next(&mut &*nonsense).is_err());
        }
    }
}
