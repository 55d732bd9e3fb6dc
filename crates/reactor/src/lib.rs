//! Operations in, completions out: one event loop per thread.
//!
//! A [`Driver`] takes operations ([`Op`]), each named by a [`Token`] of the caller's choice, and gives every token back
//! exactly once, in a [`Done`], from [`Driver::turn`]. What an operation carries (a buffer, a file, a job) belongs to
//! the driver until then. What may block runs on a [`WorkerPool`] that several drivers share. No protocol is known
//! here.

#![deny(unsafe_code)]
// Models run what drivers use, and no driver. A simulated world has no workers, and its sockets report nothing.
#![cfg_attr(loom, allow(dead_code, missing_docs))]
#![cfg_attr(xferd_sim, allow(dead_code))]

#[cfg(not(loom))]
mod backend;
mod buffer;
mod chores;
mod driver;
#[cfg(not(any(loom, xferd_sim)))]
mod mio_driver;
mod op;
mod performer;
mod receive;
#[cfg(xferd_sim)]
mod sim_driver;
mod starved;
pub mod sync;
mod timers;
mod transmit;
#[cfg(all(target_os = "linux", not(any(loom, xferd_sim))))]
mod uring_driver;
mod workers;

#[cfg(not(loom))]
pub use backend::{AnyDriver, BACKEND_VARIABLE, Backend, Chosen, Drivers, UnknownBackend};
pub use buffer::{BufferLimits, BufferPool, PAGE_BYTES, PoolBuf};
pub use chores::{OWN_WORK_PER_TURN_MAX, RECEIVED_AHEAD_MAX};
pub use driver::{BYTES_PER_TURN_MAX, Driver, LISTENERS_MAX, Limits, Wait, Waker};
#[cfg(not(any(loom, xferd_sim)))]
pub use mio_driver::MioDriver;
pub use op::{Carried, Done, FileRef, Job, ListenerRef, Op, SendBuf, SockRef, Token};
#[cfg(xferd_sim)]
pub use sim_driver::SimDriver;
pub use timers::{TimerId, Timers};
#[cfg(all(target_os = "linux", not(any(loom, xferd_sim))))]
pub use uring_driver::UringDriver;
pub use workers::WorkerPool;
