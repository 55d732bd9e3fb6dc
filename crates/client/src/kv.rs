//! The client of a key-value store: requests of RESP in, replies of RESP out, both as bytes.
//!
//! What is called goes over a few connections that are used together, made when they are needed and made again when they
//! break. What has state (WATCH, SUBSCRIBE, MONITOR) leases one for itself.

mod berth;
mod call;
mod client;
mod dialer;
mod framing;
mod greeting;
mod lane;
mod lease;
mod line;
mod pool;
mod quota;
mod session;

pub(crate) use dialer::Way;
pub(crate) use lane::{Lane, Order};

pub use call::{KvCall, KvCut};
pub use client::{KV_CONNECTIONS_MAX, KV_LEASES_MAX, KvClient, KvConfig};
pub use dialer::REPLIES_BYTES_MAX;
pub use greeting::{NAME_BYTES_MAX, PASSWORD_BYTES_MAX};
pub use lease::{KvLine, PUSHES_BYTES_MAX};
pub use quota::{CALLS_MAX, REQUESTS_BYTES_MAX};
