//! What was read from a connection and not taken yet.

use std::ops::Deref;

use xferd_reactor::PoolBuf;

/// Bytes in front of a session.
///
/// While they are being taken they stay in the buffer they were read into. Once they have to wait they are copied out
/// of it: there are few buffers, and peers that do not read their answers must not sit on those that others need.
pub(crate) enum Input {
    Lent(PoolBuf),
    Kept { bytes: Vec<u8>, start: usize },
}

impl Input {
    /// Drops `bytes` from the front, at most all.
    pub(crate) fn advance(&mut self, bytes: usize) {
        match self {
            Self::Lent(buf) => buf.advance(bytes),
            Self::Kept { bytes: kept, start } => *start = start.saturating_add(bytes).min(kept.len()),
        }
    }

    /// Bytes of memory of its own.
    pub(crate) fn kept_bytes(&self) -> u64 {
        match self {
            Self::Lent(_) => 0,
            Self::Kept { bytes, .. } => bytes.len() as u64,
        }
    }

    /// The same bytes without the buffer.
    pub(crate) fn keep(self) -> Self {
        match self {
            Self::Lent(buf) => Self::Kept { bytes: buf.to_vec(), start: 0 },
            kept @ Self::Kept { .. } => kept,
        }
    }
}

impl Deref for Input {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            Self::Lent(buf) => buf,
            Self::Kept { bytes, start } => bytes.get(*start..).unwrap_or_default(),
        }
    }
}
