//! A server without threads: somebody steps what would have one each.

use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use xferd_engine::{Failure, Stepped};
use xferd_kv::Keyspace;
use xferd_os::{clock, sim};

use super::{Config, KV_TICK, Server, sweep};
use crate::kv::Kv;

/// What comes later than it should, as threads do that have to wait for a processor: as nobody need be there for each of ten
/// times a second, a world in which nothing else happens is soon over.
const LATE: Duration = Duration::from_millis(900);

impl Server {
    /// Starts a server whose shards, and what tends its keys, the caller steps, and that he has [swept](Self::sweep).
    ///
    /// # Errors
    /// As those of [`Server::start`].
    pub fn start_stepped(config: Config) -> Result<(Self, Vec<Box<dyn Stepped>>), Failure> {
        let (server, shards) = Self::assemble(config)?;
        let mut stepped: Vec<Box<dyn Stepped>> =
            shards.into_iter().map(|shard| Box::new(shard) as _).collect();
        if let Some(kv) = server.services.kv.clone() {
            stepped.push(Box::new(Tending { kv, next: clock::now() }));
        }
        Ok((server, stepped))
    }

    /// Has its shards come to their end: after what is under way, or at once. The server has when it is dropped after that.
    pub fn wind_down(&self, patiently: bool) {
        self.tell_to_end(patiently);
    }

    /// Removes what an earlier process left behind. A server that has threads has one for that.
    pub fn sweep(&self) {
        if let Some(files) = &self.services.files {
            sweep(&files.store, &self.running.stopped);
        }
    }

    /// What its keys hold, if it has any.
    pub fn keyspace(&self) -> Option<&Keyspace> {
        self.services.kv.as_ref().map(|kv| &*kv.keyspace)
    }
}

/// What the thread of the key-value store does.
struct Tending {
    kv: Arc<Kv>,
    /// When it has something to do.
    next: Instant,
}

impl Stepped for Tending {
    fn step(&mut self) -> io::Result<bool> {
        if clock::now() >= self.next {
            match self.kv.tick() {
                true => sim::moved(),
                false => self.next = clock::now() + KV_TICK,
            }
        }
        sim::wake_at(self.next + LATE);
        Ok(true)
    }

    fn finish(&mut self) {}

    fn connections(&self) -> usize {
        0
    }
}
