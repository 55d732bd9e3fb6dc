//! What is fuzzed: each target is a function from bytes, which panics if something is not as it must be.
//!
//! `fuzz_targets/` lets libFuzzer call them, `tests/corpus.rs` replays the inputs that were kept.
#![forbid(unsafe_code)]

mod client;
mod input;
mod journal;
mod log;
#[path = "../../crates/wire/tests/oracle/mod.rs"]
mod oracle;
mod place;
mod resp;
mod server;
mod wire;

pub use client::client;
pub use journal::journal;
pub use log::{aof, rdb};
pub use resp::{resp_reply, resp_request};
pub use server::server;
pub use wire::{frame, hello, path, wire_decode};
