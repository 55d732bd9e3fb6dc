//! The client: connections to one server, and what can be done with them.
//!
//! Everything is asked for from any thread and answered by a callback from the client's own: `push` and `pull` move
//! files and trees, `read` and `write` are streams, `ask` is one question. A [`KvClient`] has keys instead of files.
#![forbid(unsafe_code)]

mod ask;
mod client;
mod dispatcher;
#[cfg(fuzzing)]
pub mod fuzzing;
mod job;
mod kv;
pub mod load;
mod pull;
mod push;
mod read;
mod same;
mod selection;
mod session;
mod sources;
mod stripe;
mod survey;
mod task;
mod unreachable;
mod write;

pub use ask::{Answer, LISTED_ENTRIES_MAX, Withdrawal};
pub use client::{CLIENTS_MAX, CONNECTIONS_MAX, Client, Config, PushSpec, STREAMS_MAX};
pub use job::{FAILURES_LISTED_MAX, FileFailure, Job, Receipt, TransferProgress};
pub use kv::{
    CALLS_MAX, KV_CONNECTIONS_MAX, KV_LEASES_MAX, KvCall, KvClient, KvConfig, KvCut, KvLine, NAME_BYTES_MAX,
    PASSWORD_BYTES_MAX, PUSHES_BYTES_MAX, REPLIES_BYTES_MAX, REQUESTS_BYTES_MAX,
};
pub use read::{CHUNK_BYTES_MAX, READ_AHEAD_BYTES_MAX, Reader};
pub use same::Compare;
pub use selection::{PATTERNS_MAX, Selection};
pub use sources::{SOURCES_MAX, Sources};
pub use survey::PullSpec;
pub use write::{WriteSpec, Writer, Written};
