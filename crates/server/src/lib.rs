//! The daemon: one session per connection, run by shards on reactor threads.
//!
//! ```no_run
//! use xferd_server::{Config, Server};
//!
//! let server = Server::start(Config::new("./inbox"))?;
//! println!("{:?}", server.listening());
//! server.drain(std::time::Duration::from_secs(10));
//! # Ok::<(), xferd_engine::Failure>(())
//! ```
#![forbid(unsafe_code)]

mod connection;
mod kv;
mod listen;
mod log;
mod server;
mod session;
mod transfers;

pub use connection::ServerOutcome;
pub use kv::{
    ADDRESSES_MAX, CALL_REPLIES_BYTES_MAX, CALLS_WAITING_BYTES_MAX, CALLS_WAITING_MAX, CommandMetrics,
    FAILURES_KEPT, FAILURES_MAX, INBOX_BYTES_MAX, Keys, KvConfig, KvMetrics, PENDING_BYTES_MAX, Pushes,
    QUEUED_BYTES_MAX, QUEUED_COMMANDS_MAX, REPLIES_BYTES_MAX, SLOW_COMMANDS_MAX,
};
pub use listen::{KV_DEFAULT_PORT, Listen, Protocol};
pub use log::{HAPPENINGS_MAX, Happening, HappeningKind, Stats};
pub use server::{CONNECTIONS_MAX, Config, DEFAULT_PORT, Server};
#[cfg(fuzzing)]
pub use session::fuzzing;
pub use session::{
    PUTS_ARRIVING_MAX, PUTS_COMMITTING_MAX, Patience, REQUESTS_WAITING_MAX, ServerSession, TransferOutcome,
};
pub use transfers::{ATTACHED_MAX, TRANSFERS_MAX};
