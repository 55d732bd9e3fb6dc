//! The way to one connection from other threads: a place in its shard's queue, and a bell.

use std::fmt;
use std::sync::Arc;

use xferd_reactor::Waker;
use xferd_reactor::sync::SegQueue;
use xferd_reactor::sync::atomic::{AtomicBool, Ordering, fence};

use crate::flights::ConnKey;

/// Has a session told [`Event::Nudged`](crate::Event::Nudged) from any thread.
///
/// What a session is to find then is put where it looks before it is nudged. It is told once for any number of nudges that
/// came before it was, and once more for those that come after.
#[derive(Clone)]
pub struct Reach(Arc<Callee>);

struct Callee {
    key: ConnKey,
    calls: Arc<Calls>,
    /// It is in the queue, where each has one place at most.
    is_called: AtomicBool,
}

impl Reach {
    /// Has its session told soon. A connection that is gone is ignored.
    pub fn nudge(&self) {
        if !self.0.is_called.swap(true, Ordering::SeqCst) {
            self.0.calls.push(self.clone());
        }
    }
}

impl fmt::Debug for Reach {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ConnKey { slot, generation } = self.0.key;
        write!(formatter, "Reach({slot}, {generation})")
    }
}

/// What a session can be reached by, if it wants to.
pub struct Reachable<'a> {
    key: ConnKey,
    calls: &'a Arc<Calls>,
}

impl<'a> Reachable<'a> {
    pub(crate) fn new(key: ConnKey, calls: &'a Arc<Calls>) -> Self {
        Self { key, calls }
    }

    /// A way to it. To be made once: each takes a place in the queue.
    pub fn reach(&self) -> Reach {
        Reach(Arc::new(Callee {
            key: self.key,
            calls: self.calls.clone(),
            is_called: AtomicBool::new(false),
        }))
    }
}

/// Who is to be told, on one shard. Once that has ended nobody is.
pub(crate) struct Calls {
    /// As long as there are connections that can be reached, at most.
    queue: SegQueue<Reach>,
    /// The shard has ended.
    is_closed: AtomicBool,
    waker: Waker,
}

impl Calls {
    pub(crate) fn new(waker: Waker) -> Self {
        Self { queue: SegQueue::new(), is_closed: AtomicBool::new(false), waker }
    }

    fn push(&self, reach: Reach) {
        self.queue.push(reach);
        // As in a mailbox: either the shard finds it when it closes, or it is found here that it has.
        fence(Ordering::SeqCst);
        if self.is_closed.load(Ordering::SeqCst) {
            while self.queue.pop().is_some() {}
        } else {
            // Costs a system call for the first of many only.
            self.waker.wake();
        }
    }

    /// Who is to be told now. From here on another nudge counts anew: whatever came before is found by who looks next.
    pub(crate) fn take(&self) -> Option<ConnKey> {
        let called = self.queue.pop()?;
        called.0.is_called.swap(false, Ordering::SeqCst);
        Some(called.0.key)
    }

    /// Drops what waits, and whatever comes later: it keeps this alive.
    pub(crate) fn close(&self) {
        self.is_closed.store(true, Ordering::SeqCst);
        fence(Ordering::SeqCst);
        while self.queue.pop().is_some() {}
    }
}

#[cfg(test)]
#[cfg(loom)]
mod models {
    use loom::thread;
    use xferd_reactor::sync::atomic::AtomicUsize;

    use super::*;

    const KEY: ConnKey = ConnKey { slot: 1, generation: 2 };

    #[test]
    fn what_was_there_before_a_nudge_is_found_by_who_is_told_of_it() {
        loom::model(|| {
            let waker = Waker::model();
            let calls = Arc::new(Calls::new(waker.clone()));
            let reach = Reachable::new(KEY, &calls).reach();
            let inbox = Arc::new(AtomicUsize::new(0));
            for _ in 0..2 {
                let (reach, inbox) = (reach.clone(), inbox.clone());
                thread::spawn(move || {
                    inbox.fetch_add(1, Ordering::Relaxed);
                    reach.nudge();
                });
            }
            let (mut found, mut told) = (0, 0);
            while found < 2 {
                waker.turn();
                while let Some(key) = calls.take() {
                    assert!(key == KEY);
                    told += 1;
                    found = inbox.load(Ordering::Relaxed);
                }
            }
            assert!(told <= 2);
        });
    }

    #[test]
    fn who_is_nudged_while_the_shard_ends_is_not_kept() {
        loom::model(|| {
            let calls = Arc::new(Calls::new(Waker::model()));
            let reach = Reachable::new(KEY, &calls).reach();
            let nudger = {
                let reach = reach.clone();
                thread::spawn(move || reach.nudge())
            };
            calls.close();
            nudger.join().unwrap();
            assert_eq!(Arc::strong_count(&reach.0), 1);
        });
    }
}
