//! The keyspace: what keys hold, the commands on it, until when keys live and which make room for others; and the log that
//! brings it back. Knows no socket.
#![forbid(unsafe_code)]

mod clock;
pub mod commands;
mod deadline;
mod decimal;
mod entry;
mod eviction;
mod glob;
mod hash;
mod import;
mod keyspace;
mod lcs;
mod list;
mod locked;
mod log;
mod number;
mod persistence;
mod rebuild;
mod refused;
mod set;
mod sorted_set;
mod stripe;
mod value;

pub use commands::{Call, Command, Flags, Group, KeyPositions};
pub use eviction::{Policy, UnknownPolicy};
pub use glob::matches;
pub use import::{import, import_into};
pub use keyspace::{EXPECTED_MAX, Keyspace, Limits, Recorded, Recorder, Stats, Watched};
pub use locked::Locked;
pub use log::{BUFFER_BYTES_MAX, Fsync, Loading, Log, LogError, TornTail};
pub use persistence::{Options, Persistence, Report};
pub use refused::{Refused, said};

/// Databases of a keyspace, as SELECT numbers them: as many as Redis has by default.
pub const DATABASES: usize = 16;
/// Bytes of a key. Redis takes 512 MB; whoever has such keys has taken a value for one.
pub const KEY_BYTES_MAX: usize = 1 << 20;
/// Bytes of a string, as in Redis (`proto-max-bulk-len`).
pub const STRING_BYTES_MAX: usize = 512 << 20;
