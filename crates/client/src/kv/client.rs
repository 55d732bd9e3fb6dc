//! A client of one server of keys: its thread, and what it can be asked for.

use std::sync::atomic::AtomicUsize;
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use xferd_engine::{AnyShard, Budget, Failure, lock, shards};
use xferd_os::clock;
use xferd_os::net::Address;
use xferd_reactor::{Backend, Chosen, Limits};
use xferd_wire::ErrorCode;

use super::berth::Berth;
use super::call::{Call, KvCall, KvCut};
use super::dialer::{Dialer, Way};
use super::greeting::Greeting;
use super::lease::{KvLine, Lease, Place};
use super::pool::Pool;
use super::quota::Quota;
use super::session::KvSession;

/// Connections that calls share.
pub const KV_CONNECTIONS_MAX: usize = 256;

/// Connections that are leased at a time, beside those.
pub const KV_LEASES_MAX: usize = 1024;

/// How a client works.
#[derive(Clone, Debug)]
pub struct KvConfig {
    /// Connections that calls share, 1 to [`KV_CONNECTIONS_MAX`]; one is made when all others have something to do.
    pub connections: usize,
    /// What the server asks for.
    pub password: Option<String>,
    /// What the server calls our connections.
    pub name: Option<String>,
    /// Where the keys are.
    pub database: u32,
    /// How long a server may be silent that was asked for something, and how long a call waits for a connection that was
    /// lost.
    pub patience: Duration,
    /// What waits for sockets.
    pub backend: Backend,
}

impl Default for KvConfig {
    fn default() -> Self {
        Self {
            connections: 1,
            password: None,
            name: None,
            database: 0,
            patience: Duration::from_secs(30),
            backend: Backend::Auto,
        }
    }
}

/// A client of one server of keys. It connects when something is asked of it.
///
/// Requests and replies are bytes of RESP3. Dropping it closes it.
pub struct KvClient {
    pool: Arc<Pool>,
    dialer: Arc<Dialer>,
    quota: Quota,
    leases: Arc<AtomicUsize>,
    chosen: Chosen,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl KvClient {
    /// Starts a client of the server at `address`. Nothing is connected yet.
    ///
    /// # Errors
    /// INVALID_ARGUMENT if the configuration makes no sense; what the system says to starting a thread.
    pub fn open(address: impl Into<Address>, config: KvConfig) -> Result<Self, Failure> {
        let (client, shard) = Self::assemble(address.into(), config)?;
        let run = move || {
            if let Err(error) = shard.run() {
                tracing::error!(%error, "the reactor of a client of keys has failed");
            }
        };
        let thread = thread::Builder::new().name("xferd-kv-client".into()).spawn(run);
        let thread =
            thread.map_err(|error| Failure::io("cannot start the thread of a client of keys", &error))?;
        *lock(&client.thread) = Some(thread);
        Ok(client)
    }

    /// What waits for its sockets.
    pub fn backend(&self) -> &Chosen {
        &self.chosen
    }

    /// All of a client but its thread.
    fn assemble(address: Address, config: KvConfig) -> Result<(Self, AnyShard<KvSession>), Failure> {
        let connections_max = KV_CONNECTIONS_MAX + KV_LEASES_MAX;
        let (shards, chosen) =
            shards(config.backend, 1, 0, Limits::default(), connections_max, &Budget::default())?;
        let shard = shards.into_iter().next();
        let shard = shard.ok_or_else(|| Failure::new(ErrorCode::Internal, "there is no reactor"))?;
        Ok((Self::by(Way::Own(shard.mailbox(), address), chosen, config)?, shard))
    }

    /// A client that has its connections made there.
    ///
    /// # Errors
    /// INVALID_ARGUMENT if the configuration makes no sense.
    pub(crate) fn by(way: Way, chosen: Chosen, config: KvConfig) -> Result<Self, Failure> {
        let KvConfig { connections, password, name, database, patience, .. } = config;
        if !(1..=KV_CONNECTIONS_MAX).contains(&connections) {
            let message = format!("{connections} connections; give 1 to {KV_CONNECTIONS_MAX}");
            return Err(Failure::new(ErrorCode::InvalidArgument, message));
        }
        let greeting = Greeting::new(password, name, database)?;
        let dialer = Arc::new(Dialer::new(way, greeting, patience));
        let pool = Arc::new(Pool::new(connections, dialer.clone()));
        let (quota, leases) = (Quota::default(), Arc::default());
        Ok(Self { pool, dialer, quota, leases, chosen, thread: Mutex::default() })
    }

    /// Sends `requests`, encoded one after another, together, and tells of the replies when `count` of them have come: one to
    /// each request, but none to SUBSCRIBE and its kin, which are answered by pushes.
    ///
    /// What was not sent when a connection breaks is sent on the next one, if that can be made before the patience ends. What
    /// was sent fails with CONNECTION_LOST: nobody knows whether it was done.
    pub fn call(
        &self,
        requests: Vec<u8>,
        count: usize,
        on_end: impl FnOnce(Result<Vec<u8>, KvCut>) + Send + 'static,
    ) -> KvCall {
        let deadline = clock::now() + self.dialer.patience;
        let (call, handle) = Call::within(&self.quota, requests, count, deadline, on_end);
        if let Some(call) = call {
            self.pool.call(call);
        }
        handle
    }

    /// Takes a connection for oneself; `on_open` is told once it is there. What is called before that waits for it.
    pub fn lease(&self, on_open: impl FnOnce(Result<(), Failure>) + Send + 'static) -> KvLine {
        let place = Place::take(&self.leases, KV_LEASES_MAX);
        let is_refused = place.is_none();
        let lease = Arc::new(Lease::new(Box::new(on_open), place));
        if is_refused {
            let message = format!("{KV_LEASES_MAX} connections are leased already; give one back first");
            lease.lose(&Failure::new(ErrorCode::Busy, message));
        } else {
            self.dialer.dial(Berth::leased(lease.clone()));
        }
        KvLine::new(lease, self.quota.clone(), self.dialer.patience)
    }

    /// Ends everything that is under way, which is answered with ABORTED, and closes all connections. Blocks until that
    /// has happened.
    pub fn close(&self) {
        self.dialer.stop();
        self.pool.close();
        if let Some(thread) = lock(&self.thread).take() {
            // A thread that panicked has told so already.
            let _ = thread.join();
        }
    }
}

impl Drop for KvClient {
    fn drop(&mut self) {
        self.close();
    }
}

/// Why what a closed client was asked for is not done.
pub(crate) const CLOSED: &str = "the client was closed before this was done";
