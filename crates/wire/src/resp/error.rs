//! Why a request is refused.

/// What is wrong with a request. The connection cannot go on after it: [`write`](Self::write) the reply and close.
///
/// The messages are those of Redis 7.0, but for [`RequestTooBig`](Self::RequestTooBig), at which Redis closes without
/// a word.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum RespError {
    /// A line of more than [`LINE_BYTES_MAX`](super::limits::LINE_BYTES_MAX) bytes.
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
    /// The length of an argument is none, or above [`BULK_BYTES_MAX`](super::limits::BULK_BYTES_MAX).
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
