use std::fmt;
use std::io;
use std::sync::Arc;
use std::time::Instant;

use xferd_os::net::{Listener, Socket};

#[cfg(not(xferd_sim))]
use crate::sync::Bell;
use crate::sync::atomic::{AtomicBool, Ordering};
use crate::{BufferLimits, BufferPool, Done, Job, ListenerRef, Op, SockRef, Token};

/// Bytes that one operation moves in one turn at most, so that one flow cannot starve the rest.
pub const BYTES_PER_TURN_MAX: usize = 4 * 1024 * 1024;

/// Listeners of one driver: an address each, and few are ever given.
pub const LISTENERS_MAX: usize = 64;

/// What a driver holds at most. No limit may be 0.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Sockets registered or being connected.
    pub sockets_max: usize,
    /// Operations in flight. A socket takes up to three (receive, send, close).
    pub operations_max: usize,
    /// Buffers.
    pub buffers: BufferLimits,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits { sockets_max: 16 * 1024, operations_max: 64 * 1024, buffers: BufferLimits::default() }
    }
}

/// Performs operations for one thread.
///
/// An operation completes in [`turn`](Driver::turn), never inside [`submit`](Driver::submit), and its token comes back
/// exactly once: also when it was cancelled and when its socket was closed. Dropping the driver closes its sockets and
/// drops what is in flight; work that a worker has begun ends before its buffer goes.
pub trait Driver<J: Job>: fmt::Debug {
    /// Takes over a connected socket.
    ///
    /// # Errors
    /// `QuotaExceeded` at the limit of sockets, else what the kernel answers. The socket is closed.
    fn register(&mut self, socket: Socket) -> io::Result<SockRef>;

    /// Takes over a listener.
    ///
    /// # Errors
    /// As for [`register`](Driver::register).
    fn listen(&mut self, listener: Listener) -> io::Result<ListenerRef>;

    /// Closes a listener; an `Accept` in flight on it completes with `ConnectionAborted`.
    fn unlisten(&mut self, listener: ListenerRef);

    /// Starts an operation.
    ///
    /// # Errors
    /// The operation comes back if the driver is full: submit it again after a turn. It also comes back if another one
    /// is under way in the same direction of the same socket, which is a mistake of the caller (asserted in debug
    /// builds).
    fn submit(&mut self, token: Token, op: Op<J>) -> Result<(), Op<J>>;

    /// Ends an operation early if that is still possible. Its [`Done`] follows in any case: cancelled
    /// ([`Done::is_cancelled`]), or as if nothing had been said. An unknown token is ignored.
    fn cancel(&mut self, token: Token);

    /// Ends a wait for more than is there: a `RecvLarge` may wait until a buffer is worth filling, while the peer is fast.
    /// Whoever finds that nothing has come for a while says so here, and gets what there is.
    fn hasten(&mut self, sock: SockRef);

    /// Performs what can be performed, each operation at most once, and appends what has completed to `done`. Waits
    /// only if nothing is ready. May return without a completion.
    ///
    /// # Errors
    /// What the kernel answers to waiting: the driver is of no use then.
    fn turn(&mut self, wait: Wait, done: &mut Vec<Done<J>>) -> io::Result<()>;

    /// Ends the wait of [`turn`](Driver::turn) from any thread.
    fn waker(&self) -> Waker;

    /// The buffers to receive into.
    fn buffers(&self) -> &BufferPool;
}

impl<J: Job, D: Driver<J> + ?Sized> Driver<J> for Box<D> {
    fn register(&mut self, socket: Socket) -> io::Result<SockRef> {
        (**self).register(socket)
    }

    fn listen(&mut self, listener: Listener) -> io::Result<ListenerRef> {
        (**self).listen(listener)
    }

    fn unlisten(&mut self, listener: ListenerRef) {
        (**self).unlisten(listener);
    }

    fn submit(&mut self, token: Token, op: Op<J>) -> Result<(), Op<J>> {
        (**self).submit(token, op)
    }

    fn cancel(&mut self, token: Token) {
        (**self).cancel(token);
    }

    fn hasten(&mut self, sock: SockRef) {
        (**self).hasten(sock);
    }

    fn turn(&mut self, wait: Wait, done: &mut Vec<Done<J>>) -> io::Result<()> {
        (**self).turn(wait, done)
    }

    fn waker(&self) -> Waker {
        (**self).waker()
    }

    fn buffers(&self) -> &BufferPool {
        (**self).buffers()
    }
}

/// How long [`Driver::turn`] may wait for the first completion.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wait {
    /// Not at all.
    Now,
    /// Until then.
    Until(Instant),
    /// Until something happens.
    Forever,
}

/// Makes the driver's current turn return, or its next one if it is not in a turn. Wakes between two turns merge.
#[derive(Clone, Debug)]
pub struct Waker(Arc<Wake>);

#[derive(Debug)]
struct Wake {
    #[cfg(not(xferd_sim))]
    bell: Bell,
    /// Rung and not heard yet: ringing again would only cost a system call.
    rung: AtomicBool,
}

impl Waker {
    #[cfg(not(xferd_sim))]
    pub(crate) fn new(bell: Bell) -> Waker {
        Waker(Arc::new(Wake { bell, rung: AtomicBool::new(false) }))
    }

    /// Nobody waits in a simulated world: whoever plays it hears the bell.
    #[cfg(xferd_sim)]
    pub(crate) fn new() -> Waker {
        Waker(Arc::new(Wake { rung: AtomicBool::new(false) }))
    }

    /// Wakes.
    pub fn wake(&self) {
        if !self.0.rung.swap(true, Ordering::SeqCst) {
            // Writing to an eventfd or a kqueue of our own fails only if its counter is full: then it is rung already.
            #[cfg(not(xferd_sim))]
            let _ = self.0.bell.wake();
            #[cfg(xferd_sim)]
            xferd_os::sim::moved();
        }
    }

    /// To be called when the bell was heard, before looking for the reason.
    pub(crate) fn heard(&self) {
        // Swapped, not stored: whoever found it rung already, and so did not ring, is seen with all that came before.
        self.0.rung.swap(false, Ordering::SeqCst);
    }
}

#[cfg(loom)]
impl Waker {
    /// The waker of a driver that does nothing else.
    pub fn model() -> Waker {
        Waker::new(Bell::default())
    }

    /// That driver's turn.
    pub fn turn(&self) {
        self.0.bell.wait();
        self.heard();
    }
}

#[cfg(test)]
#[cfg(loom)]
mod models {
    use loom::thread;

    use super::*;
    use crate::sync::SegQueue;

    #[test]
    fn wakes_merge_and_none_is_lost() {
        loom::model(|| {
            let waker = Waker::model();
            let reasons = Arc::new(SegQueue::new());
            for _ in 0..2 {
                let (waker, reasons) = (waker.clone(), reasons.clone());
                thread::spawn(move || {
                    reasons.push(());
                    waker.wake();
                });
            }
            let mut found = 0;
            while found < 2 {
                waker.turn();
                found += std::iter::from_fn(|| reasons.pop()).count();
            }
        });
    }
}

/// Calls once more after a signal.
pub(crate) fn uninterrupted<T>(mut call: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    loop {
        match call() {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            answer => return answer,
        }
    }
}
