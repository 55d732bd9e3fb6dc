//! Which driver serves.

use std::env;
use std::error::Error;
use std::fmt;
use std::io;
use std::sync::Arc;

#[cfg(not(xferd_sim))]
use crate::MioDriver;
use crate::{Driver, Job, Limits, WorkerPool};

/// A way to wait for sockets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Backend {
    /// What [`BACKEND_VARIABLE`] says, else the best that this machine has.
    #[default]
    Auto,
    /// Readiness: epoll, or kqueue.
    Mio,
    /// Completions: io_uring.
    Uring,
}

impl Backend {
    /// All there are.
    pub const ALL: [Self; 3] = [Self::Auto, Self::Mio, Self::Uring];

    fn of_environment() -> io::Result<Self> {
        let Ok(name) = env::var(BACKEND_VARIABLE) else { return Ok(Self::Auto) };
        let named = Self::ALL.into_iter().find(|backend| backend.name() == name);
        named.ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, UnknownBackend { name }))
    }

    /// What people call it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Mio => "mio",
            Self::Uring => "uring",
        }
    }
}

/// The environment variable that says which backend [`Backend::Auto`] is, for programs that leave the choice to us.
pub const BACKEND_VARIABLE: &str = "XFERD_BACKEND";

/// The environment names a backend that there is not.
#[derive(Debug)]
pub struct UnknownBackend {
    name: String,
}

impl fmt::Display for UnknownBackend {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let known = Backend::ALL.map(Backend::name).join(", ");
        write!(
            formatter,
            "{BACKEND_VARIABLE} is {:?}, which is no backend; give one of {known}, or leave it out",
            self.name
        )
    }
}

impl Error for UnknownBackend {}

/// A driver of either kind.
pub type AnyDriver<J> = Box<dyn Driver<J> + Send>;

/// Drivers of one kind.
#[derive(Debug)]
pub struct Drivers<J: Job> {
    /// One for each thread.
    pub drivers: Vec<AnyDriver<J>>,
    /// Their kind.
    pub chosen: Chosen,
}

/// What was chosen.
#[derive(Clone, Debug)]
pub struct Chosen {
    /// Not [`Backend::Auto`].
    pub backend: Backend,
    /// Why it is not io_uring, if that was wanted.
    pub reason: Option<String>,
}

/// A simulated world has one thread: there is no work for others.
#[cfg(xferd_sim)]
impl<J: Job> Drivers<J> {
    /// Makes `count` drivers that are to be stepped.
    ///
    /// # Errors
    /// None.
    pub fn new(_: Backend, count: usize, limits: Limits, _: Option<&Arc<WorkerPool<J>>>) -> io::Result<Self> {
        let driver = |_| Box::new(crate::SimDriver::new(limits)) as AnyDriver<J>;
        let chosen = Chosen { backend: Backend::Mio, reason: Some("the world is simulated".into()) };
        Ok(Self { drivers: (0..count).map(driver).collect(), chosen })
    }
}

#[cfg(not(xferd_sim))]
impl<J: Job> Drivers<J> {
    /// Makes `count` drivers that share `workers`. [`Backend::Auto`] makes do with mio where there is no io_uring.
    ///
    /// # Errors
    /// What the system says; `Unsupported` if [`Backend::Uring`] cannot be had; `InvalidInput` with an [`UnknownBackend`]
    /// if the environment names none.
    pub fn new(
        backend: Backend,
        count: usize,
        limits: Limits,
        workers: Option<&Arc<WorkerPool<J>>>,
    ) -> io::Result<Self> {
        let backend = if backend == Backend::Auto { Backend::of_environment()? } else { backend };
        let mut reason = None;
        if backend != Backend::Mio {
            match uring(count, limits, workers) {
                Ok(drivers) => {
                    return Ok(Self { drivers, chosen: Chosen { backend: Backend::Uring, reason: None } });
                }
                Err(error) if backend == Backend::Uring => {
                    let message = format!("{error}; take the backend mio, or auto");
                    return Err(io::Error::new(io::ErrorKind::Unsupported, message));
                }
                Err(error) => reason = Some(error.to_string()),
            }
        }
        let driver = |_| Ok(Box::new(MioDriver::new(limits, workers.cloned())?) as AnyDriver<J>);
        let drivers = (0..count).map(driver).collect::<io::Result<_>>()?;
        Ok(Self { drivers, chosen: Chosen { backend: Backend::Mio, reason } })
    }
}

#[cfg(all(target_os = "linux", not(xferd_sim)))]
fn uring<J: Job>(
    count: usize,
    limits: Limits,
    workers: Option<&Arc<WorkerPool<J>>>,
) -> io::Result<Vec<AnyDriver<J>>> {
    let driver = |_| Ok(Box::new(crate::UringDriver::new(limits, workers.cloned())?) as AnyDriver<J>);
    let make = || (0..count).map(driver).collect();
    // When a ring goes, Linux interrupts the thread that made it, whatever that waits for then (`io_ring_exit_work` in the
    // kernel, seen as EINTR with 6.18). A thread of ours shall not do that to the caller's.
    let made = std::thread::scope(|scope| scope.spawn(make).join());
    made.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

#[cfg(not(any(target_os = "linux", xferd_sim)))]
fn uring<J: Job>(_: usize, _: Limits, _: Option<&Arc<WorkerPool<J>>>) -> io::Result<Vec<AnyDriver<J>>> {
    Err(io::Error::new(io::ErrorKind::Unsupported, "io_uring is Linux's"))
}
