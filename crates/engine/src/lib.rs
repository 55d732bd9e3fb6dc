//! What server and client have in common: sessions that do no I/O, the shard that runs them on a reactor, and the two
//! halves of a file transfer.
#![forbid(unsafe_code)]

mod budget;
mod conn;
mod disk;
mod failure;
mod flights;
#[cfg(fuzzing)]
pub mod fuzzing;
mod incoming;
mod input;
mod lock;
mod mailbox;
mod open;
mod outbox;
mod outgoing;
mod reach;
mod session;
mod shard;
#[cfg(not(loom))]
mod threads;
mod work;

pub use budget::{
    Budget, CROWDED_BYTES, CROWDED_KEPT_BYTES, FILES_WAITING_ALL_BYTES, SMALL_FILES_BYTES_MAX, Share,
};
pub use disk::DiskOutcome;
pub use failure::Failure;
pub use incoming::{GATHERED_BYTES_MAX, Incoming};
pub use lock::lock;
pub use mailbox::{MAILBOX_MESSAGES_MAX, Mailbox};
pub use open::{Content, OPEN_FILES_MAX, OpenFiles, Opened, Wanted, send_small};
pub use outgoing::{EXTENT_BYTES, OpenSource, Outgoing, Progress};
pub use reach::{Reach, Reachable};
pub use session::{Effect, Effects, End, Event, SendSource, Session};
pub use shard::{Load, OnAccept, Shard};
#[cfg(xferd_sim)]
pub use threads::Stepped;
#[cfg(not(loom))]
pub use threads::{AnyShard, Shards, THREADS_MAX, check_threads, shards, threads_default};
pub use work::{Batch, Put, Work};
#[cfg(not(loom))]
pub use xferd_reactor::{Backend, Chosen};
