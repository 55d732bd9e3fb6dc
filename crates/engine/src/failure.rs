//! What went wrong, in the form every border understands: a stable code, whether trying again may help, a message.

use std::io;

use xferd_store::StoreError;
use xferd_wire::{DecodeError, Digest, DigestAlgorithm, ErrorCode, ErrorReply, RemotePath};

/// A failure on its way to a peer or to the caller of the API.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Failure {
    /// Stable code.
    pub code: ErrorCode,
    /// Whether the same request may succeed later.
    pub retryable: bool,
    /// Names the thing and the remedy.
    pub message: String,
}

impl Failure {
    /// A failure that is as retryable as its code says.
    pub fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        Self { code, retryable: code.retryable(), message: message.into() }
    }

    /// What the system said about `what`.
    pub fn io(what: &str, error: &io::Error) -> Self {
        let code = match error.kind() {
            io::ErrorKind::ConnectionRefused => ErrorCode::ConnectionRefused,
            io::ErrorKind::ConnectionReset
            | io::ErrorKind::ConnectionAborted
            | io::ErrorKind::BrokenPipe
            | io::ErrorKind::UnexpectedEof
            | io::ErrorKind::NotConnected
            | io::ErrorKind::HostUnreachable
            | io::ErrorKind::NetworkUnreachable
            | io::ErrorKind::NetworkDown => ErrorCode::ConnectionLost,
            io::ErrorKind::TimedOut => ErrorCode::Timeout,
            io::ErrorKind::NotFound => ErrorCode::NotFound,
            io::ErrorKind::PermissionDenied => ErrorCode::Permission,
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => ErrorCode::DiskFull,
            _ => ErrorCode::Io,
        };
        Self::new(code, format!("{what}: {error}"))
    }

    /// The peer broke the protocol.
    pub fn protocol(message: impl Into<String>) -> Self {
        Self::new(ErrorCode::Protocol, message)
    }

    /// The sender of `path` takes another digest than it announced.
    pub fn other_algorithm(path: &RemotePath, digest: DigestAlgorithm, announced: DigestAlgorithm) -> Self {
        Self::protocol(format!("{path}: digest is {digest}, announced was {announced}"))
    }

    /// The sender of `path` announces an extent beyond its size.
    pub fn too_many_bytes(path: &RemotePath, announced: u64) -> Self {
        Self::new(ErrorCode::SizeMismatch, format!("{path}: more bytes than the {announced} announced"))
    }

    /// The sender of `path` thinks that all of it was sent.
    pub fn too_few_bytes(path: &RemotePath, came: u64, expected: u64) -> Self {
        let message = format!("{path}: {came} of {expected} bytes came; nothing was stored");
        Self::new(ErrorCode::SizeMismatch, message)
    }

    /// What came of `path` is not what was sent.
    pub fn other_bytes(path: &RemotePath, ours: &Digest, theirs: &Digest) -> Self {
        let message = format!(
            "{path}: the bytes that came have digest {ours}, the sender's have {theirs}; nothing was stored, send it again"
        );
        Self::new(ErrorCode::DigestMismatch, message)
    }

    /// As a frame's body.
    pub fn into_reply(self) -> ErrorReply {
        ErrorReply { code: self.code, retryable: self.retryable, message: self.message }
    }
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        Self::new(error.code(), error.to_string())
    }
}

impl From<DecodeError> for Failure {
    fn from(error: DecodeError) -> Self {
        Self::new(error.code(), error.to_string())
    }
}

impl From<ErrorReply> for Failure {
    fn from(reply: ErrorReply) -> Self {
        Self { code: reply.code, retryable: reply.retryable, message: reply.message }
    }
}
