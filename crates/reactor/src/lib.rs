//! Operations in, completions out: one event loop per thread.
//!
//! A [`Driver`] takes operations ([`Op`]), each named by a [`Token`] of the caller's choice, and gives every token back
//! exactly once, in a [`Done`], from [`Driver::turn`]. What an operation carries (a buffer, a file, a job) belongs to
//! the driver until then. What may block runs on a [`WorkerPool`] that several drivers share. No protocol is known
//! here.

#![forbid(unsafe_code)]

mod buffer;
mod chores;
mod driver;
mod mio_driver;
mod op;
mod receive;
mod timers;
mod transmit;
mod workers;

pub use buffer::{BufferLimits, BufferPool, PAGE_BYTES, PoolBuf};
pub use driver::{BYTES_PER_TURN_MAX, Driver, LISTENERS_MAX, Limits, Wait, Waker};
pub use mio_driver::MioDriver;
pub use op::{Carried, Done, FileRef, Job, ListenerRef, Op, SendBuf, SockRef, Token};
pub use timers::{TimerId, Timers};
pub use workers::WorkerPool;
