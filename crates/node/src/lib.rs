//! The face to Node: three classes, whose calls return a number and are answered by a completion with that number, and functions
//! that measure and import.
//!
//! `src/native.ts` describes the interface and is its only user. Failures come back as data; TypeScript throws them.
//! Nothing is decided here: the crates below do the work, this one translates.
#![deny(unsafe_code)]

mod address;
mod calls;
pub mod ceiling;
pub mod client;
mod closing;
pub mod import;
pub mod kv_client;
mod kv_inside;
pub mod kv_load;
pub mod options;
pub mod raw;
pub mod server;

use napi_derive::napi;

/// The version of the addon, to be compared with that of the package.
#[napi]
pub fn version() -> &'static str {
    env!("CARGO_PKG_VERSION")
}
