//! Keys of a server in this process, reached as those of another one are.

use std::mem;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, Weak};

use xferd_engine::{Failure, lock};
use xferd_server::{Keys, Pushes, Server};
use xferd_wire::ErrorCode;
use xferd_wire::resp::ReplyScanner;

use crate::calls::{Outcome, Reply};

/// The keys of a server. It is called on the thread of JavaScript, where commands are carried out; what waits for the log is
/// answered by the server.
pub(crate) struct Inside {
    server: Weak<Server>,
    /// Whom calls are from that lease nothing.
    shared: Option<Shared>,
    bell: Arc<dyn Fn() + Send + Sync>,
}

struct Shared {
    keys: Keys,
    /// By CLIENT KILL or the like: the next call begins anew.
    has_ended: Arc<AtomicBool>,
}

impl Inside {
    /// Those of `server`. `bell` has JavaScript look what it was told.
    ///
    /// # Errors
    /// UNSUPPORTED if it has none.
    pub(crate) fn open(
        server: &Arc<Server>,
        bell: impl Fn() + Send + Sync + 'static,
    ) -> Result<Self, Failure> {
        let mut inside = Self { server: Arc::downgrade(server), shared: None, bell: Arc::new(bell) };
        inside.shared()?;
        Ok(inside)
    }

    pub(crate) fn call(&mut self, requests: &[u8], reply: Reply) {
        let Shared { keys, has_ended } = match self.shared() {
            Ok(shared) => shared,
            Err(failure) => return reply.send(Err(failure)),
        };
        let has_ended = has_ended.clone();
        keys.call(requests, move |replies, result| {
            if result.as_ref().is_err_and(|failure| failure.code == ErrorCode::ConnectionLost) {
                has_ended.store(true, Ordering::Relaxed);
            }
            // Who listens leases; nobody else is told anything.
            let (replies, _) = parted(replies);
            reply.send(Ok(Outcome::Replies(replies, result.err())));
        });
    }

    /// A client of its own.
    pub(crate) fn lease(&self) -> Result<InsideLine, Failure> {
        let (heard, has_news) = (Arc::<Mutex<Heard>>::default(), Arc::<AtomicBool>::default());
        let (bell, told) = (self.bell.clone(), has_news.clone());
        let keys = self.connect(move || {
            told.store(true, Ordering::Release);
            bell();
        })?;
        Ok(InsideLine { keys, heard, has_news })
    }

    fn shared(&mut self) -> Result<&Shared, Failure> {
        let lives = |shared: &Shared| !shared.has_ended.load(Ordering::Relaxed);
        let shared = match self.shared.take().filter(lives) {
            Some(shared) => shared,
            None => Shared { keys: self.connect(|| {})?, has_ended: Arc::default() },
        };
        Ok(self.shared.insert(shared))
    }

    fn connect(&self, on_push: impl Fn() + Send + Sync + 'static) -> Result<Keys, Failure> {
        let gone = || Failure::new(ErrorCode::ShuttingDown, "the server has stopped");
        let none = || {
            let message = "this server has no keys; give it the options `kv`, or have it listen on kv://";
            Failure::new(ErrorCode::Unsupported, message)
        };
        self.server.upgrade().ok_or_else(gone)?.keys(on_push).ok_or_else(none)
    }
}

/// A client of its own, for what has state. Dropped, it ends.
pub(crate) struct InsideLine {
    keys: Keys,
    heard: Arc<Mutex<Heard>>,
    /// There may be something to fetch from the keys.
    has_news: Arc<AtomicBool>,
}

/// What came unasked, and who waits for that.
#[derive(Default)]
struct Heard {
    values: Vec<u8>,
    end: Option<Failure>,
    wanted: Option<Reply>,
}

impl InsideLine {
    pub(crate) fn call(&self, requests: &[u8], reply: Reply) {
        let heard = self.heard.clone();
        self.keys.call(requests, move |replies, result| {
            let (replies, values) = parted(replies);
            lock(&heard).add(&values, None);
            reply.send(Ok(Outcome::Replies(replies, result.err())));
        });
    }

    /// Answers with what has come unasked, as soon as something has.
    pub(crate) fn next(&self, reply: Reply) {
        lock(&self.heard).wanted = Some(reply);
        self.has_news.store(true, Ordering::Relaxed);
        self.look();
    }

    /// Fetches what has come unasked, if anything has and somebody wants it: until then it is for the server to keep, which has a
    /// limit.
    pub(crate) fn look(&self) {
        let mut heard = lock(&self.heard);
        if heard.wanted.is_some() && self.has_news.swap(false, Ordering::Acquire) {
            let Pushes { values, end } = self.keys.pushes();
            heard.add(&values, end);
        }
    }
}

impl Drop for InsideLine {
    fn drop(&mut self) {
        if let Some(reply) = lock(&self.heard).wanted.take() {
            reply.send(Ok(Outcome::End));
        }
    }
}

impl Heard {
    fn add(&mut self, values: &[u8], end: Option<Failure>) {
        self.values.extend_from_slice(values);
        self.end = self.end.take().or(end);
        let Some(reply) = self.wanted.take() else { return };
        match &self.end {
            _ if !self.values.is_empty() => reply.send(Ok(Outcome::Chunk(mem::take(&mut self.values)))),
            Some(failure) => reply.send(Err(failure.clone())),
            None => self.wanted = Some(reply),
        }
    }
}

/// Replies, and what was pushed between them.
fn parted(all: Vec<u8>) -> (Vec<u8>, Vec<u8>) {
    if !all.contains(&b'>') {
        return (all, Vec::new());
    }
    let (mut replies, mut pushes, mut rest) = (Vec::new(), Vec::new(), all.as_slice());
    while let Ok(Some(len)) = ReplyScanner::new().scan(rest) {
        let (value, behind) = rest.split_at_checked(len).unwrap_or((rest, &[]));
        if value.first() == Some(&b'>') { &mut pushes } else { &mut replies }.extend_from_slice(value);
        rest = behind;
    }
    (replies, pushes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pushes_are_told_from_replies() {
        let all = b"+OK\r\n>2\r\n+a\r\n:1\r\n$1\r\n>\r\n>1\r\n*1\r\n_\r\n-no\r\n";
        let (replies, pushes) = parted(all.to_vec());
        assert_eq!(replies, b"+OK\r\n$1\r\n>\r\n-no\r\n");
        assert_eq!(pushes, b">2\r\n+a\r\n:1\r\n>1\r\n*1\r\n_\r\n");
        assert_eq!(parted(b"$2\r\nab\r\n".to_vec()), (b"$2\r\nab\r\n".to_vec(), Vec::new()));
    }
}
