//! A confined directory tree that files move into and out of.
//!
//! A [`Store`] knows no socket and no protocol: it is given a [`RemotePath`](xferd_wire::RemotePath) and does what was
//! asked beneath its root, never outside it. A file comes in through [`Staging`], where nobody sees it, and becomes
//! visible by [`Store::commit`], whole or not at all. It goes out as a [`Source`], whose digest many senders share.
//!
//! All methods block.
//!
//! ```
//! # let directory = tempfile::tempdir()?;
//! use xferd_store::{FileAttributes, Options, Store};
//! use xferd_wire::{Mtime, RemotePath};
//!
//! let store = Store::open(directory.path(), Options::default())?;
//! let path = RemotePath::parse("in/hello.txt")?;
//! let attributes = FileAttributes { mode: 0o644, mtime: Mtime { seconds: 1, nanoseconds: 0 } };
//!
//! let staging = store.stage(&path, Some(5))?;
//! staging.sink().write_all_at(b"hello", 0)?;
//! store.commit(staging, 5, &attributes, false)?;
//!
//! let source = store.open_source(&path)?;
//! let mut bytes = Vec::new();
//! source.read(0, source.size(), &mut bytes)?;
//! assert_eq!(bytes, b"hello");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
#![forbid(unsafe_code)]

mod attributes;
mod digest;
mod error;
#[cfg(fuzzing)]
pub mod fuzzing;
mod journal;
mod listing;
mod many;
mod names;
mod removal;
mod resume;
mod runs;
mod settled;
mod source;
mod staging;
mod store;
mod sweep;
mod walk;
mod write_path;

pub use attributes::FileAttributes;
pub use digest::{FileDigest, Hasher, SourceDigest, digest_of};
pub use error::StoreError;
pub use journal::SourceVersion;
pub use listing::{Listed, Listing};
pub use many::WholeFile;
pub use names::DEPTH_MAX;
pub use runs::{Runs, RunsError};
pub use source::Source;
pub use staging::Staging;
pub use store::{Options, Store};
pub use sweep::RESUME_KEEP;
pub use write_path::WritePolicy;
