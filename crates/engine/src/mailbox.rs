//! The way into a shard from other threads: a bounded queue, three flags and a bell.

use std::sync::Arc;
use std::time::Duration;

use xferd_os::net::{Address, Socket};
use xferd_reactor::Waker;
use xferd_reactor::sync::ArrayQueue;
use xferd_reactor::sync::atomic::{AtomicBool, Ordering, fence};

use crate::reach::Calls;
use crate::session::Session;
use crate::shard::Load;

/// Connections and commands that may wait for one shard: more than arrive between two turns of a reactor. Past it the
/// sender is told and decides.
pub const MAILBOX_MESSAGES_MAX: usize = 4096;

/// Work for a shard. Sessions are boxed: the queue has room for thousands of messages from the start.
pub(crate) enum Message<S: Session> {
    /// Run this session on this connection.
    Adopt(Socket, Box<S>),
    /// Give the command to an idle session, or connect the fresh one and give it to that.
    Dispatch(S::Command, Address, Box<S>),
    /// The same, after a while.
    DispatchAfter(Duration, S::Command, Address, Box<S>),
}

/// Sends messages to one shard. Once that has ended they are dropped.
pub struct Mailbox<S: Session>(Arc<Inner<S>>);

struct Inner<S: Session> {
    queue: ArrayQueue<Message<S>>,
    nudged: AtomicBool,
    draining: AtomicBool,
    stopped: AtomicBool,
    /// The shard has ended: what is posted is dropped.
    closed: AtomicBool,
    calls: Arc<Calls>,
    waker: Waker,
    load: Arc<Load>,
}

impl<S: Session> Clone for Mailbox<S> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<S: Session> Mailbox<S> {
    pub(crate) fn new(waker: Waker, load: Arc<Load>) -> Self {
        Self(Arc::new(Inner {
            queue: ArrayQueue::new(MAILBOX_MESSAGES_MAX),
            nudged: AtomicBool::new(false),
            draining: AtomicBool::new(false),
            stopped: AtomicBool::new(false),
            closed: AtomicBool::new(false),
            calls: Arc::new(Calls::new(waker.clone())),
            waker,
            load,
        }))
    }

    /// Hands over an accepted connection and the session to run on it. False: the shard has too much to do, and the
    /// connection is closed.
    #[must_use]
    pub fn adopt(&self, socket: Socket, session: S) -> bool {
        // Counted before the shard has seen it, so that many who come at once are not all placed alike.
        self.0.load.add_connection();
        let adopted = self.post(Message::Adopt(socket, Box::new(session)));
        if !adopted {
            self.0.load.remove_connection();
        }
        adopted
    }

    /// Gives `command` to a session that is idle, else to `fresh` on a new connection to `address`. False: the shard
    /// has too much to do, and the command is dropped.
    #[must_use]
    pub fn dispatch(&self, command: S::Command, address: Address, fresh: S) -> bool {
        self.post(Message::Dispatch(command, address, Box::new(fresh)))
    }

    /// Does the same once `delay` has passed, unless the command is [not wanted](Session::is_wanted) any more.
    #[must_use]
    pub fn dispatch_after(&self, delay: Duration, command: S::Command, address: Address, fresh: S) -> bool {
        self.post(Message::DispatchAfter(delay, command, address, Box::new(fresh)))
    }

    /// Makes every session look at what it shares with other threads ([`crate::Event::Nudged`]).
    pub fn nudge(&self) {
        self.raise(&self.0.nudged);
    }

    /// Lets the sessions finish what is under way, then ends the shard.
    pub fn drain(&self) {
        self.raise(&self.0.draining);
    }

    /// Ends the shard at once.
    pub fn stop(&self) {
        self.raise(&self.0.stopped);
    }

    pub(crate) fn take(&self) -> Option<Message<S>> {
        self.0.queue.pop()
    }

    /// The sessions that are to be told.
    pub(crate) fn calls(&self) -> &Arc<Calls> {
        &self.0.calls
    }

    /// Whether there was a nudge since the last look.
    pub(crate) fn take_nudge(&self) -> bool {
        self.0.nudged.swap(false, Ordering::SeqCst)
    }

    pub(crate) fn is_draining(&self) -> bool {
        self.0.draining.load(Ordering::SeqCst)
    }

    pub(crate) fn is_stopped(&self) -> bool {
        self.0.stopped.load(Ordering::SeqCst)
    }

    fn raise(&self, flag: &AtomicBool) {
        // Swapped, not stored: loom lets a blind store get lost beside the swap of `take_nudge`.
        flag.swap(true, Ordering::SeqCst);
        self.0.waker.wake();
    }

    /// Drops what waits, and whatever comes later.
    pub(crate) fn close(&self) {
        self.0.closed.store(true, Ordering::SeqCst);
        fence(Ordering::SeqCst);
        while self.take().is_some() {}
        self.0.calls.close();
    }

    fn post(&self, message: Message<S>) -> bool {
        let posted = self.0.queue.push(message).is_ok();
        // Pushed before looking: either the shard saw it when it closed, or it is seen here that it has. The queue alone
        // does not promise that.
        fence(Ordering::SeqCst);
        if self.0.closed.load(Ordering::SeqCst) {
            while self.take().is_some() {}
            return false;
        }
        self.0.waker.wake();
        posted
    }
}

#[cfg(test)]
#[cfg(loom)]
mod models {
    use loom::thread;

    use super::*;
    use crate::session::{Effects, Event};

    struct Nothing;

    impl Session for Nothing {
        type Outcome = ();
        /// Tells when it is dropped.
        type Command = Arc<()>;

        fn on_bytes(&mut self, bytes: &[u8], _: &mut Effects<()>) -> usize {
            bytes.len()
        }

        fn on_event(&mut self, _: Event<(), Arc<()>>, _: &mut Effects<()>) {}

        fn wants_bytes(&self) -> bool {
            true
        }

        fn is_idle(&self) -> bool {
            true
        }

        fn patience(&self) -> Duration {
            Duration::MAX
        }
    }

    fn dispatch(mailbox: &Mailbox<Nothing>, command: &Arc<()>) -> bool {
        let address = std::net::SocketAddr::from(([127, 0, 0, 1], 1));
        mailbox.dispatch(command.clone(), address.into(), Nothing)
    }

    #[test]
    fn a_message_and_a_nudge_are_found_by_the_turns_that_they_wake() {
        loom::model(|| {
            let waker = Waker::model();
            let mailbox = Mailbox::<Nothing>::new(waker.clone(), Arc::default());
            let (poster, nudger) = (mailbox.clone(), mailbox.clone());
            thread::spawn(move || assert!(dispatch(&poster, &Arc::default())));
            thread::spawn(move || nudger.nudge());
            let (mut messages, mut nudges) = (0, 0);
            while messages + nudges < 2 {
                waker.turn();
                messages += std::iter::from_fn(|| mailbox.take()).count();
                nudges += usize::from(mailbox.take_nudge());
            }
            assert_eq!((messages, nudges), (1, 1));
        });
    }

    #[test]
    fn a_shard_that_sleeps_hears_that_it_is_to_stop() {
        loom::model(|| {
            let waker = Waker::model();
            let mailbox = Mailbox::<Nothing>::new(waker.clone(), Arc::default());
            let (drainer, stopper) = (mailbox.clone(), mailbox.clone());
            thread::spawn(move || drainer.drain());
            thread::spawn(move || stopper.stop());
            while !(mailbox.is_stopped() && mailbox.is_draining()) {
                waker.turn();
            }
        });
    }

    #[test]
    fn what_is_posted_while_the_shard_ends_is_dropped() {
        loom::model(|| {
            let mailbox = Mailbox::<Nothing>::new(Waker::model(), Arc::default());
            let command = Arc::new(());
            let poster = {
                let (mailbox, command) = (mailbox.clone(), command.clone());
                thread::spawn(move || _ = dispatch(&mailbox, &command))
            };
            mailbox.close();
            poster.join().unwrap();
            assert_eq!(Arc::strong_count(&command), 1);
        });
    }
}
