//! Operations in, completions out: one event loop per thread.
//!
//! A [`Driver`] takes operations ([`Op`]), each named by a [`Token`] of the caller's choice, and gives every token back
//! exactly once, in a [`Done`], from [`Driver::turn`]. What an operation carries (a buffer, a file, a job) belongs to
//! the driver until then. What may block runs on a [`WorkerPool`] that several drivers share. No protocol is known
//! here.

#![forbid(unsafe_code)]
// A simulated world has no workers, and its sockets report nothing.
#![cfg_attr(xferd_sim, allow(dead_code))]

mod buffer;
mod chores;
mod driver;
#[cfg(not(xferd_sim))]
mod mio_driver;
mod op;
mod receive;
#[cfg(xferd_sim)]
mod sim_driver;
mod timers;
mod transmit;
mod workers;

pub use buffer::{BufferLimits, BufferPool, PAGE_BYTES, PoolBuf};
pub use driver::{BYTES_PER_TURN_MAX, Driver, LISTENERS_MAX, Limits, Wait, Waker};
#[cfg(not(xferd_sim))]
pub use mio_driver::MioDriver;
pub use op::{Carried, Done, FileRef, Job, ListenerRef, Op, SendBuf, SockRef, Token};
#[cfg(xferd_sim)]
pub use sim_driver::SimDriver;
pub use timers::{TimerId, Timers};
pub use workers::WorkerPool;
