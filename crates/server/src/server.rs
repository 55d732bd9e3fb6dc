//! Starts the threads of a server, places connections on them, and stops it.

#[cfg(xferd_sim)]
mod stepped;

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use xferd_engine::{
    AnyShard, Budget, Failure, Load, Mailbox, Shard, check_threads, lock, shards, threads_default,
};
use xferd_os::net::{Peer, Socket};
use xferd_reactor::{Backend, Chosen, LISTENERS_MAX, Limits};
use xferd_store::{Options, Store, WritePolicy};
use xferd_wire::ErrorCode;

use crate::connection::Connection;
use crate::kv::{Keys, Kv, KvConfig, KvMetrics, KvSession};
use crate::listen::{Listen, Protocol};
use crate::log::{Happening, Log, Stats};
use crate::session::{Patience, ServerSession, Shared};

/// The port a server listens on unless told otherwise.
pub const DEFAULT_PORT: u16 = 7400;

/// Connections a server takes unless told otherwise; each costs a descriptor and about a kilobyte while it is idle.
pub const CONNECTIONS_MAX: usize = 10_000;

/// How often a key-value store looks for keys whose time has come: as Redis does (`hz 10`).
const KV_TICK: Duration = Duration::from_millis(100);

/// Connections beyond the limit that are kept for as long as it takes to tell them so. Further ones are just closed.
const REFUSALS_MAX: usize = 1024;

/// What a server serves, where and how.
#[derive(Clone, Debug)]
pub struct Config {
    /// The directory; nothing outside it is read or changed. Looked at only if files are served.
    pub root: PathBuf,
    /// Where to listen, for what.
    pub listen: Vec<Listen>,
    /// Reactor threads, 1 to [`xferd_engine::THREADS_MAX`].
    pub io_threads: usize,
    /// Worker threads for file work, up to [`xferd_engine::THREADS_MAX`]; 0 does it on the reactors.
    pub workers: usize,
    /// What waits for sockets.
    pub backend: Backend,
    /// Sync every file before it is acknowledged.
    pub durable: bool,
    /// Which way large files take to the disk.
    pub write_policy: WritePolicy,
    /// Refuse every change.
    pub read_only: bool,
    /// Allow addresses that other machines can reach. Nobody is authenticated.
    pub insecure: bool,
    /// Connections at a time; further ones are answered BUSY, or closed if there are very many.
    pub connections_max: usize,
    /// How long peers may be silent that transfer files.
    pub patience: Patience,
    /// How keys are kept. `None`: as they are by default, and only if they are listened for.
    pub kv: Option<KvConfig>,
}

impl Config {
    /// Serves `root` on 127.0.0.1, port [`DEFAULT_PORT`], with a reactor for each of up to four cores and no workers.
    pub fn new(root: impl Into<PathBuf>) -> Self {
        Self {
            root: root.into(),
            listen: vec![Listen::transfer(SocketAddr::from((Ipv4Addr::LOCALHOST, DEFAULT_PORT)))],
            io_threads: threads_default(),
            workers: 0,
            backend: Backend::Auto,
            durable: false,
            write_policy: WritePolicy::Auto,
            read_only: false,
            insecure: false,
            connections_max: CONNECTIONS_MAX,
            patience: Patience::default(),
            kv: None,
        }
    }

    fn serves(&self, protocol: Protocol) -> bool {
        self.listen.iter().any(|listen| listen.protocol == protocol)
    }

    fn check(&self) -> Result<(), Failure> {
        let wrong = |message: String| Err(Failure::new(ErrorCode::InvalidArgument, message));
        if self.listen.is_empty() || self.listen.len() > LISTENERS_MAX {
            return wrong(format!("{} addresses to listen on; give 1 to {LISTENERS_MAX}", self.listen.len()));
        }
        check_threads(self.io_threads, self.workers)?;
        if self.connections_max == 0 {
            return wrong("a server of 0 connections serves nobody; give at least 1".into());
        }
        match self.listen.iter().find(|listen| !listen.address.is_local()) {
            Some(Listen { address, .. }) if !self.insecure => wrong(format!(
                "{address} can be reached from other machines, and xferd neither encrypts nor asks who is there; \
                 listen on 127.0.0.1, or allow it with --insecure (insecure: true)"
            )),
            _ => Ok(()),
        }
    }
}

/// A running server. Dropping it stops it at once.
pub struct Server {
    listening: Vec<Listen>,
    chosen: Chosen,
    log: Arc<Log>,
    services: Services,
    mailboxes: Vec<Mailbox<Connection>>,
    running: Arc<Running>,
}

/// What a server has for each protocol that it speaks.
#[derive(Clone)]
struct Services {
    files: Option<Arc<Shared>>,
    kv: Option<Arc<Kv>>,
}

/// A server's threads.
#[derive(Default)]
struct Running {
    started: Mutex<Vec<JoinHandle<()>>>,
    /// How many of those that serve have not ended yet.
    serving: Mutex<usize>,
    ended: Condvar,
    /// Nothing more is to be swept up.
    stopped: AtomicBool,
    /// The same for who waits meanwhile.
    is_stopping: Mutex<bool>,
    stopping: Condvar,
}

impl Server {
    /// Starts serving.
    ///
    /// # Errors
    /// INVALID_ARGUMENT if the configuration makes no sense, what the system says about the root directory, or about
    /// listening.
    pub fn start(config: Config) -> Result<Self, Failure> {
        let (server, shards) = Self::assemble(config)?;
        for (index, shard) in shards.into_iter().enumerate() {
            let serve = move || {
                if let Err(error) = shard.run() {
                    tracing::error!(%error, "a reactor has failed");
                }
            };
            server.running.serve(format!("xferd-io-{index}"), serve).map_err(|error| start_failed(&error))?;
        }
        if let Some(files) = server.services.files.clone() {
            let running = server.running.clone();
            let sweep = move || sweep(&files.store, &running.stopped);
            server.running.start("xferd-sweep".into(), sweep).map_err(|error| start_failed(&error))?;
        }
        if let Some(kv) = server.services.kv.clone() {
            kv.start().map_err(|error| start_failed(&error))?;
            let running = server.running.clone();
            let tend = move || running.every(KV_TICK, || kv.tick());
            server.running.start("xferd-kv".into(), tend).map_err(|error| start_failed(&error))?;
        }
        Ok(server)
    }

    /// All of a server but its threads.
    fn assemble(config: Config) -> Result<(Self, Vec<AnyShard<Connection>>), Failure> {
        config.check()?;
        if let Err(error) = xferd_os::raise_descriptor_limit() {
            tracing::warn!(%error, "cannot raise the limit of open files");
        }
        let (log, budget) = (Arc::<Log>::default(), Budget::default());
        let kv = config.kv.clone().or_else(|| config.serves(Protocol::Kv).then(KvConfig::default));
        let kv = kv.map(|kv| Kv::open(&kv, config.connections_max, log.clone()).map(Arc::new)).transpose()?;
        let files = config
            .serves(Protocol::Transfer)
            .then(|| serve_files(&config, &log, &budget, kv.clone()))
            .transpose()?;
        let services = Services { files, kv };
        let bound: Vec<_> = config.listen.iter().map(Listen::bind).collect::<Result<_, _>>()?;
        let (listeners, listening): (Vec<_>, Vec<_>) = bound.into_iter().unzip();
        // All may come to one reactor. Each has at most one receive, one send, one close, one batch of work and two
        // writes under way.
        let sockets_max = config.connections_max.saturating_add(REFUSALS_MAX);
        let limits =
            Limits { sockets_max, operations_max: sockets_max.saturating_mul(6), ..Limits::default() };
        let (mut shards, chosen) = shards(
            config.backend,
            config.io_threads,
            config.workers,
            limits,
            config.connections_max,
            &budget,
        )?;
        let mailboxes: Vec<_> = shards.iter().map(Shard::mailbox).collect();
        let places = shards.iter().map(|shard| (shard.load(), shard.mailbox())).collect();
        let placement = Placement {
            protocols: listening.iter().map(|listen| listen.protocol).collect(),
            places,
            services: services.clone(),
            connections_max: config.connections_max,
        };
        if let Some(first) = shards.first_mut() {
            first
                .accept(
                    listeners,
                    Box::new(move |listener, socket, peer| placement.place(listener, socket, peer)),
                )
                .map_err(|error| start_failed(&error))?;
        }
        let server = Self { listening, chosen, log, services, mailboxes, running: Arc::default() };
        Ok((server, shards))
    }

    /// Where it listens, for what.
    pub fn listening(&self) -> &[Listen] {
        &self.listening
    }

    /// What waits for its sockets.
    pub fn backend(&self) -> &Chosen {
        &self.chosen
    }

    /// Counters since the start.
    pub fn stats(&self) -> Stats {
        self.log.stats()
    }

    /// What the key-value store tells of itself, if one is served.
    pub fn kv_metrics(&self) -> Option<KvMetrics> {
        self.services.kv.as_ref().map(|kv| kv.metrics())
    }

    /// A client of the key-value store in this process; `None` if no keys are served.
    ///
    /// `on_push` is called when [`Keys::pushes`] has something to tell again, by the thread that has brought it: it must not block,
    /// nor use keys. The store stays open as long as one of its clients lives.
    pub fn keys(&self, on_push: impl Fn() + Send + Sync + 'static) -> Option<Keys> {
        self.services.kv.clone().map(|kv| Keys::new(kv, on_push))
    }

    /// What happened since this was last asked, the newest [`crate::HAPPENINGS_MAX`]. If that is nothing, what was given to
    /// [`Server::on_happening`] is called once something has.
    pub fn happenings(&self) -> Vec<Happening> {
        self.log.drain()
    }

    /// Sets what is called, on a thread of the server, when something happens after [`Server::happenings`] had nothing to tell:
    /// once, however much that is, until it is asked again in vain. It must not block. What was set first stays.
    pub fn on_happening(&self, call: impl Fn() + Send + Sync + 'static) {
        self.log.ring_by(call);
    }

    /// Stops accepting, lets requests under way finish within `grace`, then stops. Blocks until all has ended.
    pub fn drain(&self, grace: Duration) {
        self.tell_to_end(true);
        if self.running.have_ended_by(Instant::now() + grace) { self.end() } else { self.stop() }
    }

    /// Ends everything at once; files that are not whole leave nothing behind. Blocks until all has ended.
    pub fn stop(&self) {
        self.tell_to_end(false);
        self.end();
    }

    /// Has those who serve come to their end: after what is under way, or at once.
    fn tell_to_end(&self, patiently: bool) {
        for mailbox in &self.mailboxes {
            if patiently { mailbox.drain() } else { mailbox.stop() }
        }
    }

    fn end(&self) {
        // Not before: what is still written is to be synced in time.
        self.running.stop();
        self.running.join();
        if let Some(kv) = &self.services.kv {
            kv.close();
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop();
    }
}

impl Running {
    /// Starts one that others are served by.
    fn serve(self: &Arc<Self>, name: String, run: impl FnOnce() + Send + 'static) -> io::Result<()> {
        *lock(&self.serving) += 1;
        let ended = Ended(self.clone());
        self.start(name, move || {
            let _ended = ended;
            run();
        })
    }

    fn start(&self, name: String, run: impl FnOnce() + Send + 'static) -> io::Result<()> {
        let thread = thread::Builder::new().name(name).spawn(run)?;
        lock(&self.started).push(thread);
        Ok(())
    }

    fn have_ended_by(&self, deadline: Instant) -> bool {
        let mut serving = lock(&self.serving);
        while *serving > 0 {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return false;
            }
            serving = self.ended.wait_timeout(serving, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        true
    }

    /// Does something again and again until the server stops, with a pause unless there is more to be done.
    fn every(&self, pause: Duration, mut call: impl FnMut() -> bool) {
        let mut is_stopping = lock(&self.is_stopping);
        while !*is_stopping {
            drop(is_stopping);
            let goes_on = call();
            is_stopping = lock(&self.is_stopping);
            if !*is_stopping && !goes_on {
                is_stopping =
                    self.stopping.wait_timeout(is_stopping, pause).unwrap_or_else(PoisonError::into_inner).0;
            }
        }
    }

    /// Has what goes on in the background end.
    fn stop(&self) {
        self.stopped.store(true, Ordering::Relaxed);
        *lock(&self.is_stopping) = true;
        self.stopping.notify_all();
    }

    /// Waits for all threads to be gone, not only to have nothing to do: what they ran may be unloaded after that.
    fn join(&self) {
        let mut started = lock(&self.started);
        for thread in started.drain(..) {
            // A thread that panicked has told so already.
            let _ = thread.join();
        }
    }
}

/// Tells that a thread has ended, however it ended.
struct Ended(Arc<Running>);

impl Drop for Ended {
    fn drop(&mut self) {
        *lock(&self.0.serving) -= 1;
        self.0.ended.notify_all();
    }
}

/// Chooses a shard for each accepted connection.
struct Placement {
    /// What is spoken where each listener is.
    protocols: Vec<Protocol>,
    places: Vec<(Arc<Load>, Mailbox<Connection>)>,
    services: Services,
    connections_max: usize,
}

impl Placement {
    /// To the shard with the fewest bulk bytes under way, then the fewest connections.
    fn place(&self, listener: usize, socket: Socket, peer: Peer) {
        let Some(protocol) = self.protocols.get(listener) else { return };
        let connections: usize = self.places.iter().map(|(load, _)| load.connections()).sum();
        let has_room = connections < self.connections_max;
        let Services { files, kv } = self.services.clone();
        let connection = match (protocol, files, kv) {
            (Protocol::Transfer, Some(files), _) if has_room => {
                Connection::Transfer(ServerSession::new(files, peer))
            }
            (Protocol::Transfer, Some(files), _) => {
                Connection::Transfer(ServerSession::refusing(files, peer))
            }
            (Protocol::Kv, _, Some(kv)) if has_room => Connection::Kv(KvSession::new(kv, peer)),
            (Protocol::Kv, _, Some(kv)) => Connection::Kv(KvSession::refusing(kv, peer)),
            // There is a service for each protocol that is listened for.
            (Protocol::Transfer, None, _) | (Protocol::Kv, _, None) => return,
        };
        let freest = self.places.iter().min_by_key(|(load, _)| (load.bulk_bytes(), load.connections()));
        let taken = freest.is_some_and(|(_, mailbox)| mailbox.adopt(socket, connection));
        if !taken {
            tracing::warn!(%peer, "connection closed: too many are waiting to be served");
        }
    }
}

fn serve_files(
    config: &Config,
    log: &Arc<Log>,
    budget: &Budget,
    kv: Option<Arc<Kv>>,
) -> Result<Arc<Shared>, Failure> {
    let options =
        Options { read_only: config.read_only, durable: config.durable, write_policy: config.write_policy };
    Ok(Arc::new(Shared {
        store: Arc::new(Store::open(&config.root, options)?),
        patience: config.patience,
        log: log.clone(),
        transfers: Arc::default(),
        open_files: Arc::default(),
        budget: budget.clone(),
        kv,
    }))
}

fn start_failed(error: &io::Error) -> Failure {
    Failure::io("cannot start the server's threads", error)
}

/// Removes what an earlier process left behind.
fn sweep(store: &Store, stopped: &AtomicBool) {
    match store.sweep(stopped) {
        Ok(0) => {}
        Ok(removed) => tracing::info!(removed, "removed unfinished files of an earlier process"),
        Err(error) => tracing::warn!(%error, "cannot look for what an earlier process left behind"),
    }
}
