//! What comes back from the blocking work that both ends of a transfer ask for.

use xferd_store::{Staging, StoreError};
use xferd_wire::Digest;

/// The outcome of a step of [`crate::Incoming`] or [`crate::Outgoing`].
#[derive(Debug)]
pub enum DiskOutcome {
    /// A staging file was made.
    Staged(Result<Staging, StoreError>),
    /// A file became visible.
    Committed(Result<(), StoreError>),
    /// A slice of a source was hashed; the digest if that was the last.
    Hashed(Result<Option<Digest>, StoreError>),
    /// A source was compared with what it was when it was opened.
    Verified(Result<(), StoreError>),
    /// Something was dropped where that may take a while.
    Dropped,
}
