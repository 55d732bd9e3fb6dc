//! The load that xferd is compared with: what this machine's kernel can do for the same job.
//!
//! N senders push one file over loopback TCP to N receivers that store a copy each. No protocol, no digest, no names, no
//! commit: only the system calls. The best of the ways to store is the ceiling of what a program can reach here.
#![forbid(unsafe_code)]

#[cfg(target_os = "linux")]
mod linux;

use std::io;
use std::path::PathBuf;
use std::time::Duration;

#[cfg(target_os = "linux")]
pub use linux::measure;

/// Copies of one run: as many as a push may have. Each costs two threads and a buffer of 1 MiB.
pub const CLIENTS_MAX: usize = 1000;

/// A way for received bytes to the disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// Nowhere: what the network alone can do.
    Discard,
    /// Through the page cache into a file that grows.
    Plain,
    /// Through the page cache into a file of its final size.
    Prealloc,
    /// The same, written back at once and dropped from the page cache (`RWF_DONTCACHE`, Linux 6.14).
    DontCache,
    /// Around the page cache (`O_DIRECT`).
    Direct,
}

impl Way {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::Discard, Self::Plain, Self::Prealloc, Self::DontCache, Self::Direct];

    /// As people and programs spell it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Discard => "discard",
            Self::Plain => "plain",
            Self::Prealloc => "prealloc",
            Self::DontCache => "dontcache",
            Self::Direct => "direct",
        }
    }

    /// The way with this name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|way| way.name() == name)
    }
}

/// What to measure.
#[derive(Debug, Clone)]
pub struct Job {
    /// The file that every sender sends.
    pub source: PathBuf,
    /// The directory that the copies are stored in, as `ceiling.0`, `ceiling.1` …, until the measurement is over.
    pub folder: PathBuf,
    /// Senders, and as many receivers, 1 to [`CLIENTS_MAX`].
    pub clients: usize,
    /// How the receivers store.
    pub way: Way,
}

/// What it took.
#[derive(Debug, Clone, Copy)]
pub struct Figures {
    /// Of all copies together.
    pub bytes: u64,
    /// From the first connection to the last acknowledged copy.
    pub elapsed: Duration,
    /// User and system time of all senders and receivers.
    pub cpu: Duration,
}

/// Why nothing was measured. No copy is left.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// Too many copies, or none.
    #[error("{0} clients; give 1 to {CLIENTS_MAX}")]
    Clients(usize),
    /// The system refused something.
    #[error("{what}: {source}")]
    Io {
        /// What was tried.
        what: String,
        /// What the system said.
        source: io::Error,
    },
    /// This system has other calls.
    #[error("the kernel's ceiling is measured on Linux only; leave it out here")]
    Unsupported,
}

/// Moves the job's copies once, by one thread for each sender and receiver, and removes them. `None` if the file system of
/// the folder does not take this way.
///
/// # Errors
/// Always [`LoadError::Unsupported`]: the calls that are measured are Linux's.
#[cfg(not(target_os = "linux"))]
pub fn measure(_: &Job) -> Result<Option<Figures>, LoadError> {
    Err(LoadError::Unsupported)
}
