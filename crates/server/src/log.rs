//! What the server tells about itself: counters, and a bounded record of what happened last.

use std::fmt;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering, fence};

use crossbeam_queue::ArrayQueue;
use xferd_engine::Failure;
use xferd_os::net::Peer;
use xferd_wire::{RemotePath, WritePath, WritePathCounts};

/// Happenings kept for whoever asks; the oldest give way.
pub const HAPPENINGS_MAX: usize = 1024;

/// Something that happened.
#[derive(Clone, Debug)]
pub struct Happening {
    /// On whose connection, if it was on one.
    pub peer: Option<Peer>,
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
    /// A client of the key-value store has said that the server is to end.
    StopAsked,
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
    bell: Bell,
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
            bell: Bell::default(),
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
    pub(crate) fn record(&self, peer: impl Into<Option<Peer>>, kind: HappeningKind) {
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
            HappeningKind::StopAsked => 0,
            HappeningKind::Failed { .. } => add(&self.errors, 1),
        };
        self.happenings.force_push(Happening { peer: peer.into(), kind });
        self.bell.ring();
    }

    /// What there is. If that is nothing, the bell rings once when there is something again.
    pub(crate) fn drain(&self) -> Vec<Happening> {
        let there = self.take();
        if !there.is_empty() {
            return there;
        }
        self.bell.listen();
        self.take()
    }

    /// Sets what rings; what was set first stays.
    pub(crate) fn ring_by(&self, ring: impl Fn() + Send + Sync + 'static) {
        let _ = self.bell.ring.set(Box::new(ring));
    }

    fn take(&self) -> Vec<Happening> {
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

/// Tells whoever found nothing that there is something. Whoever is busy with what was found is left alone.
#[derive(Default)]
struct Bell {
    is_awaited: AtomicBool,
    ring: OnceLock<Box<dyn Fn() + Send + Sync>>,
}

impl Bell {
    fn listen(&self) {
        self.is_awaited.store(true, Ordering::Relaxed);
        // Pairs with the fence in `ring`: either whoever listens now finds what has happened, or that finds who listens.
        fence(Ordering::SeqCst);
    }

    fn ring(&self) {
        fence(Ordering::SeqCst);
        if self.is_awaited.load(Ordering::Relaxed) && self.is_awaited.swap(false, Ordering::Relaxed) {
            if let Some(ring) = self.ring.get() {
                ring();
            }
        }
    }
}

impl fmt::Debug for Bell {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Bell").field("is_awaited", &self.is_awaited).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::AtomicUsize;

    use super::*;

    const PEER: Peer = Peer::Unix { pid: 1, uid: 1, gid: 1 };

    fn log() -> (Log, Arc<AtomicUsize>) {
        let (log, rings) = (Log::default(), Arc::<AtomicUsize>::default());
        let counted = rings.clone();
        log.ring_by(move || {
            counted.fetch_add(1, Ordering::Relaxed);
        });
        (log, rings)
    }

    #[test]
    fn the_bell_rings_once_for_all_that_happens_until_nothing_was_found() {
        let (log, rings) = log();
        let rung = || rings.load(Ordering::Relaxed);
        log.record(PEER, HappeningKind::Accepted);
        assert_eq!(rung(), 0, "nobody has asked yet");
        assert_eq!(log.drain().len(), 1);
        log.record(PEER, HappeningKind::Accepted);
        assert_eq!(rung(), 0, "whoever was given something asks again");
        assert_eq!(log.drain().len(), 1);
        assert!(log.drain().is_empty());
        for _ in 0..HAPPENINGS_MAX {
            log.record(PEER, HappeningKind::Accepted);
        }
        assert_eq!(rung(), 1);
        assert_eq!(log.drain().len(), HAPPENINGS_MAX);
        assert!(log.drain().is_empty());
        log.record(PEER, HappeningKind::Closed);
        assert_eq!(rung(), 2);
    }

    #[test]
    fn past_the_limit_the_oldest_happenings_give_way() {
        let (log, _) = log();
        log.record(PEER, HappeningKind::Accepted);
        for _ in 0..HAPPENINGS_MAX {
            log.record(PEER, HappeningKind::Closed);
        }
        let kept = log.drain();
        assert_eq!(kept.len(), HAPPENINGS_MAX);
        assert!(kept.iter().all(|happening| matches!(happening.kind, HappeningKind::Closed)));
        assert_eq!(log.stats().accepted, 1);
    }

    #[test]
    fn nothing_happens_unheard_between_two_threads() {
        let log = Arc::new(Log::default());
        let (rung, heard) = std::sync::mpsc::sync_channel(1);
        log.ring_by(move || rung.send(()).unwrap());
        let recording = log.clone();
        let recorder = std::thread::spawn(move || {
            for _ in 0..1000 {
                recording.record(PEER, HappeningKind::Accepted);
                std::thread::yield_now();
            }
        });
        let mut seen = 0;
        while seen < 1000 {
            let there = log.drain();
            seen += there.len();
            if there.is_empty() {
                heard.recv().unwrap();
            }
        }
        recorder.join().unwrap();
    }
}
