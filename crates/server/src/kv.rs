//! The key-value store as a server has it: what its sessions share.

mod auth;
mod channels;
mod clients;
mod commits;
mod config;
mod connection;
mod conversation;
mod documentation;
mod frames;
mod info;
mod keys;
mod metrics;
mod pubsub;
mod session;
mod slowlog;
mod transaction;

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use xferd_engine::Failure;
use xferd_kv::{Fsync, Keyspace, Limits, LogError, Options, Persistence, Policy, Report, TornTail};
use xferd_os::clock;
use xferd_wire::ErrorCode;

pub use auth::{ADDRESSES_MAX, FAILURES_KEPT, FAILURES_MAX};
pub use clients::INBOX_BYTES_MAX;
pub(crate) use frames::KvFrames;
pub use keys::{CALL_REPLIES_BYTES_MAX, CALLS_WAITING_BYTES_MAX, CALLS_WAITING_MAX, Keys, Pushes};
pub use metrics::{CommandMetrics, KvMetrics};
pub(crate) use session::KvSession;
pub use session::{PENDING_BYTES_MAX, REPLIES_BYTES_MAX};
pub use slowlog::SLOW_COMMANDS_MAX;
pub use transaction::{QUEUED_BYTES_MAX, QUEUED_COMMANDS_MAX};

use auth::Auth;
use channels::Channels;
use clients::Clients;
use commits::Commits;
use metrics::Metrics;
use slowlog::Slowlog;

use crate::log::{HappeningKind, Log};

/// How the key-value store of a server is to be.
#[derive(Clone, Debug, Default)]
pub struct KvConfig {
    /// Bytes of memory that keys may take; `None` for as much as there is.
    pub memory_max: Option<u64>,
    /// What happens when they are used up.
    pub policy: Policy,
    /// What a connection has to say before it may do anything.
    pub password: Option<String>,
    /// For how long a connection may say nothing; `None` for ever.
    pub idle: Option<Duration>,
    /// Where changes are recorded, and loaded from at the start; `None` keeps keys for as long as the server runs.
    pub dir: Option<PathBuf>,
    /// When what was recorded is brought to the disk.
    pub fsync: Fsync,
}

/// What the sessions share.
#[derive(Debug)]
pub(crate) struct Kv {
    pub(crate) keyspace: Arc<Keyspace>,
    pub(crate) persistence: Option<Persistence>,
    /// Who waits for what is recorded by [`Kv::persistence`].
    pub(crate) commits: Arc<Commits>,
    pub(crate) clients: Clients,
    pub(crate) channels: Channels,
    pub(crate) auth: Auth,
    pub(crate) metrics: Metrics,
    pub(crate) slowlog: Slowlog,
    pub(crate) started: Instant,
    /// Bytes of requests that are not whole, on all connections.
    pub(crate) pending_bytes: AtomicU64,
    /// Milliseconds; 0 for ever.
    idle_ms: AtomicU64,
    connections_max: usize,
    pub(crate) log: Arc<Log>,
}

impl Kv {
    /// Loads what was recorded, if changes are.
    ///
    /// # Errors
    /// Why that cannot be had.
    pub(crate) fn open(config: &KvConfig, connections_max: usize, log: Arc<Log>) -> Result<Self, Failure> {
        let limits = Limits { memory_max: config.memory_max, policy: config.policy };
        let options = Options { limits, fsync: config.fsync, ..Options::default() };
        let opened = config.dir.as_ref().map(|dir| Persistence::open(dir, &options)).transpose();
        let (persistence, report) = opened.map_err(|error| not_opened(&error))?.unzip();
        if let Some(Report { torn: Some(TornTail { file, offset, bytes }), .. }) = report {
            let message =
                format!("{file} was not whole: the last {bytes} bytes, from offset {offset} on, are cut off");
            log.record(
                None,
                HappeningKind::Failed { path: None, failure: Failure::new(ErrorCode::Io, message) },
            );
        }
        let keyspace = match &persistence {
            Some(persistence) => persistence.keyspace().clone(),
            None => Arc::new(Keyspace::new(limits)),
        };
        let kv = Self {
            keyspace,
            persistence,
            commits: Arc::default(),
            clients: Clients::default(),
            channels: Channels::default(),
            auth: Auth::new(config.password.as_deref()),
            metrics: Metrics::default(),
            slowlog: Slowlog::default(),
            started: clock::now(),
            pending_bytes: AtomicU64::new(0),
            idle_ms: AtomicU64::new(0),
            connections_max,
            log,
        };
        kv.set_idle(config.idle);
        Ok(kv)
    }

    /// As many bytes of requests that are not whole are kept now, and were before.
    fn count_pending(&self, before: usize, after: usize) {
        if before != after {
            self.pending_bytes.fetch_add((after as u64).wrapping_sub(before as u64), Ordering::Relaxed);
        }
    }

    /// Starts the thread that commits for those who cannot wait.
    ///
    /// # Errors
    /// What the system says about it.
    pub(crate) fn start(&self) -> std::io::Result<()> {
        self.persistence.as_ref().map_or(Ok(()), |persistence| self.commits.start(persistence.log().clone()))
    }

    /// For how long a connection may say nothing.
    pub(crate) fn idle(&self) -> Option<Duration> {
        let ms = self.idle_ms.load(Ordering::Relaxed);
        (ms > 0).then(|| Duration::from_millis(ms))
    }

    pub(crate) fn set_idle(&self, idle: Option<Duration>) {
        let ms = idle.map_or(0, |idle| u64::try_from(idle.as_millis()).unwrap_or(u64::MAX));
        self.idle_ms.store(ms, Ordering::Relaxed);
    }

    /// Begins to count anew.
    fn reset_stats(&self) {
        self.metrics.reset();
        self.keyspace.reset_stats();
    }

    /// What it tells of itself.
    pub(crate) fn metrics(&self) -> KvMetrics {
        let by_command = self.metrics.by_command();
        KvMetrics {
            connections: self.clients.len() as u64,
            connections_accepted: self.metrics.connections.load(Ordering::Relaxed),
            commands: by_command.iter().map(|command| command.calls).sum(),
            keyspace: self.keyspace.stats(),
            by_command,
        }
    }

    /// Removes some of the keys whose time has come, and brings to the disk what is due. To be called ten times a second, and
    /// again at once if there is more to be done.
    pub(crate) fn tick(&self) -> bool {
        /// A tenth of the stripes: each is looked through once a second.
        const STRIPES: usize = 410;
        /// A quarter of a processor at most (`ACTIVE_EXPIRE_CYCLE_SLOW_TIME_PERC` of Redis).
        const PATIENCE: Duration = Duration::from_millis(25);
        self.keyspace.expire(STRIPES, PATIENCE);
        self.persistence.as_ref().is_some_and(Persistence::tick)
    }

    /// When everything was last saved, in seconds since 1970; if nothing is, when the server started.
    pub(crate) fn saved_s(&self) -> u64 {
        match &self.persistence {
            Some(persistence) => persistence.saved_s(),
            None => {
                let age = clock::now().saturating_duration_since(self.started);
                (self.keyspace.now_ms() / 1000).saturating_sub(age.as_secs())
            }
        }
    }

    /// Brings everything to the disk, once nobody changes anything any more.
    pub(crate) fn close(&self) {
        self.commits.close();
        // Whoever is in this process may wait for messages.
        self.clients.all().iter().for_each(|client| client.nudge());
        if let Some(Err(error)) = self.persistence.as_ref().map(Persistence::close) {
            let failure = Failure::io("the last changes of the key-value store are not on the disk", &error);
            self.log.record(None, HappeningKind::Failed { path: None, failure });
        }
    }
}

fn not_opened(error: &LogError) -> Failure {
    let code = match error {
        LogError::InUse(_) => ErrorCode::Busy,
        _ => ErrorCode::Io,
    };
    Failure::new(code, error.to_string())
}

#[cfg(test)]
impl Kv {
    /// One whose log nobody commits to by himself, and the folder that it is in.
    pub(crate) fn uncommitted() -> (Arc<Self>, tempfile::TempDir) {
        let directory = tempfile::tempdir().expect("a folder");
        let dir = Some(directory.path().to_owned());
        let config = KvConfig { dir, fsync: Fsync::Always, ..KvConfig::default() };
        (Arc::new(Self::open(&config, 1, Arc::default()).expect("an empty store")), directory)
    }

    /// What the thread does that commits.
    pub(crate) fn commit(&self) {
        self.commits.carry_out(self.persistence.as_ref().expect("a log").log());
    }
}
