//! Why a request or a reply is refused.

use super::limits::{AGGREGATE_LEN_MAX, BULK_BYTES_MAX, LINE_BYTES_MAX, REPLY_DEPTH_MAX};

/// What is wrong with a request. The connection cannot go on after it: [`write`](Self::write) the reply and close.
///
/// The messages are those of Redis 7.0, but for [`RequestTooBig`](Self::RequestTooBig), at which Redis closes without
/// a word.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum RespError {
    /// A line of more than [`LINE_BYTES_MAX`] bytes.
    #[error("too big inline request")]
    InlineTooBig,
    /// A quote that does not close, or is followed by more of the same word.
    #[error("unbalanced quotes in request")]
    UnbalancedQuotes,
    /// The number of arguments does not end within a line.
    #[error("too big mbulk count string")]
    CountTooLong,
    /// The number of arguments is none, or above [`ARGS_MAX`](super::limits::ARGS_MAX).
    #[error("invalid multibulk length")]
    Count,
    /// The length of an argument does not end within a line.
    #[error("too big bulk count string")]
    BulkLenTooLong,
    /// The length of an argument is none, or above [`BULK_BYTES_MAX`].
    #[error("invalid bulk length")]
    BulkLen,
    /// Something else where the length of an argument has to be.
    #[error("expected '$', got '{}'", char::from(*.0))]
    ExpectedBulk(u8),
    /// More than [`UNAUTHENTICATED_ARGS_MAX`](super::limits::UNAUTHENTICATED_ARGS_MAX) arguments.
    #[error("unauthenticated multibulk length")]
    UnauthenticatedCount,
    /// An argument above [`UNAUTHENTICATED_BULK_BYTES_MAX`](super::limits::UNAUTHENTICATED_BULK_BYTES_MAX).
    #[error("unauthenticated bulk length")]
    UnauthenticatedBulkLen,
    /// A request of more than [`REQUEST_BYTES_MAX`](super::limits::REQUEST_BYTES_MAX) bytes.
    #[error("too big request")]
    RequestTooBig,
}

impl RespError {
    /// Appends the reply to send before the connection is closed.
    pub fn write(self, out: &mut Vec<u8>) {
        out.extend_from_slice(b"-ERR Protocol error: ");
        match self {
            // The byte may be any, and is sent as it came unless it would end the line.
            Self::ExpectedBulk(got) => {
                let got = if matches!(got, b'\r' | b'\n') { b' ' } else { got };
                out.extend_from_slice(b"expected '$', got '");
                out.extend_from_slice(&[got, b'\'']);
            }
            other => out.extend_from_slice(other.to_string().as_bytes()),
        }
        out.extend_from_slice(b"\r\n");
    }
}

/// What is wrong with a reply. The connection cannot go on after it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ReplyError {
    /// A byte that begins no reply.
    #[error("a reply cannot begin with '{}'; check that the server speaks RESP", .0.escape_ascii())]
    Kind(u8),
    /// A value that is none of its kind.
    #[error("the server sent a '{}' that is none", .0.escape_ascii())]
    Value(u8),
    /// A line or string that does not end with CR and LF where it has to.
    #[error("the server sent a reply that does not end with CR and LF where it has to")]
    LineEnd,
    /// A line of more than [`LINE_BYTES_MAX`] bytes.
    #[error("the server sent a line of more than {LINE_BYTES_MAX} bytes")]
    LineTooLong,
    /// A string of more than [`BULK_BYTES_MAX`] bytes.
    #[error("the server announced a string of {bytes} bytes; at most {BULK_BYTES_MAX} are taken")]
    BulkTooLong {
        /// Bytes announced.
        bytes: usize,
    },
    /// An aggregate of more than [`AGGREGATE_LEN_MAX`] values or pairs.
    #[error("the server announced {len} values in a reply; at most {AGGREGATE_LEN_MAX} are taken")]
    AggregateTooLong {
        /// Values or pairs announced.
        len: u64,
    },
    /// Values in each other on more than [`REPLY_DEPTH_MAX`] levels.
    #[error("the server sent values in each other on more than {REPLY_DEPTH_MAX} levels")]
    TooDeep,
}
