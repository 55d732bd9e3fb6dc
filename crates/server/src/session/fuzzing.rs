//! What fuzz targets need to see of a server, and nobody else: only there with `--cfg fuzzing`.

use super::*;
use crate::kv::KvConfig;

/// A server without threads and sockets: its connections are played.
pub struct Stage(Arc<Shared>);

impl Stage {
    /// A server of what is in `store`.
    pub fn new(store: Store) -> Self {
        let kv = Kv::open(&KvConfig::default(), usize::MAX, Arc::default()).expect("keys in memory");
        Self(Arc::new(Shared {
            store: Arc::new(store),
            patience: Patience::default(),
            log: Arc::default(),
            transfers: Arc::default(),
            open_files: Arc::default(),
            budget: Budget::default(),
            kv: Some(Arc::new(kv)),
        }))
    }

    /// The session of another connection.
    pub fn session(&self) -> ServerSession {
        ServerSession::new(self.0.clone(), PEER)
    }

    /// Transfers that somebody is attached to.
    pub fn transfers(&self) -> usize {
        self.0.transfers.count()
    }
}

impl ServerSession {
    /// Makes sure that no limit was passed, and that nothing is remembered of requests that are not open.
    pub fn check(&self) {
        assert!(self.puts.len() + self.attached.len() <= PUTS_ARRIVING_MAX, "files side by side");
        assert!(self.waiting.len() <= REQUESTS_WAITING_MAX, "requests waiting");
        assert!(self.committing.len() <= PUTS_COMMITTING_MAX, "puts waiting to be stored");
        let known = self.unsent.iter().map(|(request, ..)| request);
        let known = known.chain(self.unlisted.iter().map(|(request, _)| request));
        let mut known = known.chain(self.unhashed.iter().map(|(request, _)| request));
        assert!(
            known.all(|request| self.waiting.contains_key(request)),
            "something of a request that is over"
        );
        let gathered = self.puts.values().filter(|arriving| arriving.incoming.is_gathered());
        assert!(gathered.count() <= 1, "one file at a time is gathered");
    }
}
