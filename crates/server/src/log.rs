//! What the server tells about itself: counters, and a bounded record of what happened last.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};

use crossbeam_queue::ArrayQueue;
use xferd_engine::Failure;
use xferd_wire::{RemotePath, WritePath, WritePathCounts};

/// Happenings kept for whoever asks; the oldest give way.
pub const HAPPENINGS_MAX: usize = 1024;

/// Something that happened.
#[derive(Clone, Debug)]
pub struct Happening {
    /// On whose connection.
    pub peer: SocketAddr,
    /// What it was.
    pub kind: HappeningKind,
}

/// What happened.
#[derive(Clone, Debug)]
pub enum HappeningKind {
    /// A connection was accepted.
    Accepted,
    /// A connection ended.
    Closed,
    /// A file was stored and acknowledged.
    Stored {
        /// Where.
        path: RemotePath,
        /// Its size.
        bytes: u64,
        /// The way it took to the disk.
        write_path: WritePath,
    },
    /// A file was sent.
    Sent {
        /// Which.
        path: RemotePath,
        /// Bytes that were asked for.
        bytes: u64,
    },
    /// A request was refused or failed.
    Failed {
        /// What it was about, if about a path.
        path: Option<RemotePath>,
        /// Why.
        failure: Failure,
    },
}

/// Counters since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Connections now.
    pub connections: u64,
    /// Connections accepted.
    pub accepted: u64,
    /// Files stored and acknowledged.
    pub files_received: u64,
    /// Files sent.
    pub files_sent: u64,
    /// Bytes of stored files.
    pub bytes_received: u64,
    /// Bytes of sent files.
    pub bytes_sent: u64,
    /// Requests and connections that failed.
    pub errors: u64,
    /// The ways that stored files took to the disk.
    pub write_paths: WritePathCounts,
}

/// Collects happenings from all sessions.
#[derive(Debug)]
pub(crate) struct Log {
    happenings: ArrayQueue<Happening>,
    accepted: AtomicU64,
    closed: AtomicU64,
    files_received: AtomicU64,
    files_sent: AtomicU64,
    bytes_received: AtomicU64,
    bytes_sent: AtomicU64,
    errors: AtomicU64,
    write_paths: [AtomicU64; WritePath::ALL.len()],
}

impl Default for Log {
    fn default() -> Self {
        Self {
            happenings: ArrayQueue::new(HAPPENINGS_MAX),
            accepted: AtomicU64::new(0),
            closed: AtomicU64::new(0),
            files_received: AtomicU64::new(0),
            files_sent: AtomicU64::new(0),
            bytes_received: AtomicU64::new(0),
            bytes_sent: AtomicU64::new(0),
            errors: AtomicU64::new(0),
            write_paths: std::array::from_fn(|_| AtomicU64::new(0)),
        }
    }
}

impl Log {
    pub(crate) fn record(&self, peer: SocketAddr, kind: HappeningKind) {
        let add = |counter: &AtomicU64, amount| counter.fetch_add(amount, Ordering::Relaxed);
        match &kind {
            HappeningKind::Accepted => add(&self.accepted, 1),
            HappeningKind::Closed => add(&self.closed, 1),
            HappeningKind::Stored { bytes, write_path, .. } => {
                self.write_paths.get(usize::from(write_path.id())).map(|count| add(count, 1));
                add(&self.files_received, 1);
                add(&self.bytes_received, *bytes)
            }
            HappeningKind::Sent { bytes, .. } => {
                add(&self.files_sent, 1);
                add(&self.bytes_sent, *bytes)
            }
            HappeningKind::Failed { .. } => add(&self.errors, 1),
        };
        self.happenings.force_push(Happening { peer, kind });
    }

    pub(crate) fn drain(&self) -> Vec<Happening> {
        std::iter::from_fn(|| self.happenings.pop()).take(HAPPENINGS_MAX).collect()
    }

    pub(crate) fn stats(&self) -> Stats {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let (accepted, closed) = (read(&self.accepted), read(&self.closed));
        Stats {
            connections: accepted.saturating_sub(closed),
            accepted,
            files_received: read(&self.files_received),
            files_sent: read(&self.files_sent),
            bytes_received: read(&self.bytes_received),
            bytes_sent: read(&self.bytes_sent),
            errors: read(&self.errors),
            write_paths: WritePathCounts(self.write_paths.each_ref().map(read)),
        }
    }
}
