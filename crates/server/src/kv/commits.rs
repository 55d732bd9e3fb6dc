//! Those who wait for the log and can't stand there meanwhile.

use std::fmt;
use std::io;
use std::mem;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::{self, JoinHandle};

use xferd_engine::lock;
use xferd_kv::Log;

/// What is called when the log is as safe as was waited for, or never will be.
type Call = Box<dyn FnOnce(Result<(), String>) + Send>;

/// One thread that commits for all of them: whoever comes while it does is committed for together with the others.
///
/// Whoever waits has one call here at a time, so there are no more than clients.
#[derive(Debug, Default)]
pub(crate) struct Commits {
    queue: Mutex<Queue>,
    has_changed: Condvar,
    thread: Mutex<Option<JoinHandle<()>>>,
}

#[derive(Default)]
struct Queue {
    calls: Vec<Call>,
    /// The furthest of what they wait for.
    position: u64,
    is_closed: bool,
}

impl Commits {
    /// Begins to commit to `log`.
    ///
    /// # Errors
    /// What the system says about a new thread.
    pub(crate) fn start(self: &Arc<Self>, log: Arc<Log>) -> io::Result<()> {
        let commits = self.clone();
        let thread = thread::Builder::new().name("xferd-kv-log".into()).spawn(move || {
            while commits.has_some() {
                commits.carry_out(&log);
            }
        })?;
        *lock(&self.thread) = Some(thread);
        Ok(())
    }

    /// Has `call` told once everything up to `position` is committed; at once, and in vain, if nothing is any more.
    pub(crate) fn wait(&self, position: u64, call: impl FnOnce(Result<(), String>) + Send + 'static) {
        let mut queue = lock(&self.queue);
        if queue.is_closed {
            drop(queue);
            return call(Err("the server has stopped".into()));
        }
        queue.position = queue.position.max(position);
        queue.calls.push(Box::new(call));
        self.has_changed.notify_one();
    }

    /// Commits for those who wait now, and tells them.
    pub(crate) fn carry_out(&self, log: &Log) {
        let (calls, position) = {
            let mut queue = lock(&self.queue);
            (mem::take(&mut queue.calls), queue.position)
        };
        let result = log.commit(position).map_err(|error| error.to_string());
        calls.into_iter().for_each(|call| call(result.clone()));
    }

    pub(crate) fn is_closed(&self) -> bool {
        lock(&self.queue).is_closed
    }

    /// Takes nobody in any more, and returns when everybody was told.
    pub(crate) fn close(&self) {
        lock(&self.queue).is_closed = true;
        self.has_changed.notify_all();
        let thread = lock(&self.thread).take();
        // If it panicked it has told so already.
        let _ = thread.map(JoinHandle::join);
    }

    /// Waits until somebody waits; false once nobody will.
    fn has_some(&self) -> bool {
        let mut queue = lock(&self.queue);
        while queue.calls.is_empty() && !queue.is_closed {
            queue = self.has_changed.wait(queue).unwrap_or_else(PoisonError::into_inner);
        }
        !queue.calls.is_empty()
    }
}

impl fmt::Debug for Queue {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Queue({}, up to {})", self.calls.len(), self.position)
    }
}
