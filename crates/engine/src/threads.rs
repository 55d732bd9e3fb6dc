//! The threads of a server or a client: how many, and what they run.

use std::io;
use std::thread;

#[cfg(xferd_sim)]
use xferd_reactor::Driver;
use xferd_reactor::{AnyDriver, Backend, Chosen, Drivers, Limits, UnknownBackend, WorkerPool};
use xferd_wire::ErrorCode;

use crate::budget::Budget;
use crate::failure::Failure;
use crate::session::Session;
use crate::shard::Shard;
use crate::work::Batch;

/// Reactors, and workers, of one server or client: more threads than any machine has use for.
pub const THREADS_MAX: usize = 256;

/// How many threads of a kind there are unless told otherwise: one for each of up to four cores.
pub fn threads_default() -> usize {
    thread::available_parallelism().map_or(1, usize::from).min(4)
}

/// Refuses counts that no server or client has: 1 to [`THREADS_MAX`] reactors, up to [`THREADS_MAX`] workers.
///
/// # Errors
/// INVALID_ARGUMENT.
pub fn check_threads(io_threads: usize, workers: usize) -> Result<(), Failure> {
    let wrong = |message: String| Err(Failure::new(ErrorCode::InvalidArgument, message));
    if !(1..=THREADS_MAX).contains(&io_threads) {
        return wrong(format!("{io_threads} I/O threads; give 1 to {THREADS_MAX}"));
    }
    if workers > THREADS_MAX {
        return wrong(format!("{workers} workers; give 0 to {THREADS_MAX}"));
    }
    Ok(())
}

/// A shard that is driven by whatever was chosen.
pub type AnyShard<S> = Shard<S, AnyDriver<Batch<<S as Session>::Outcome>>>;

/// Shards, and what was chosen to drive them.
pub type Shards<S> = (Vec<AnyShard<S>>, Chosen);

/// A shard for each of `io_threads` threads, with `workers` that they share, which are started. Each takes up to
/// `connections_max` connections, its driver holds what `limits` allow, and all of them keep what `budget` allows.
///
/// # Errors
/// INVALID_ARGUMENT if the environment names no backend; what the system says to starting threads and making drivers.
pub fn shards<S: Session>(
    backend: Backend,
    io_threads: usize,
    workers: usize,
    limits: Limits,
    connections_max: usize,
    budget: &Budget,
) -> Result<Shards<S>, Failure> {
    let failed = |error: &io::Error| Failure::io("cannot start the threads", error);
    let pool =
        (workers > 0).then(|| WorkerPool::start(workers)).transpose().map_err(|error| failed(&error))?;
    let drivers = Drivers::new(backend, io_threads, limits, pool.as_ref());
    let Drivers { drivers, chosen } = drivers.map_err(|error| match error.get_ref() {
        Some(unknown) if unknown.is::<UnknownBackend>() => {
            Failure::new(ErrorCode::InvalidArgument, unknown.to_string())
        }
        _ => failed(&error),
    })?;
    if let Some(reason) = &chosen.reason {
        tracing::info!(reason, "waiting for sockets without io_uring");
    }
    Ok((
        drivers.into_iter().map(|driver| Shard::new(driver, connections_max, budget.clone())).collect(),
        chosen,
    ))
}

/// A shard that has no thread: somebody steps it.
#[cfg(xferd_sim)]
pub trait Stepped {
    /// As [`Shard::step`].
    ///
    /// # Errors
    /// As those of [`Shard::step`].
    fn step(&mut self) -> io::Result<bool>;

    /// As [`Shard::finish`].
    fn finish(&mut self);

    /// As [`Load::connections`](crate::Load::connections) of it.
    fn connections(&self) -> usize;
}

#[cfg(xferd_sim)]
impl<S: Session, D: Driver<Batch<S::Outcome>>> Stepped for Shard<S, D> {
    fn step(&mut self) -> io::Result<bool> {
        Self::step(self)
    }

    fn finish(&mut self) {
        Self::finish(self);
    }

    fn connections(&self) -> usize {
        self.load().connections()
    }
}
