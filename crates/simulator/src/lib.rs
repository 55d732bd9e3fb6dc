//! Servers and clients in a world of its own, which is as hard on them as it may be, and a small model that says what
//! must hold all the same.
//!
//! Everything but the kernel is what people use: sessions, shards, stores. It runs in one thread, on simulated time, from
//! one seed. It exists in builds with `--cfg xferd_sim` only; `npm run simulate` makes one.
#![forbid(unsafe_code)]
#![cfg(xferd_sim)]

mod bound;
mod contents;
mod host;
mod hostile;
mod keys;
mod model;
mod plan;
mod run;
mod streams;
mod watch;

pub use run::{Outcome, PROMISES, Run, Violation, run};

/// Counts what servers have.
#[global_allocator]
static ACCOUNTS: xferd_os::sim::heap::Accounts = xferd_os::sim::heap::Accounts;
