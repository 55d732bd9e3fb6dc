//! Threads for what may block.

use std::any::Any;
use std::fmt;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering, fence};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use crossbeam_queue::{ArrayQueue, SegQueue};
use xferd_os::Sink;

use crate::{Carried, Done, Job, PoolBuf, Token, Waker};

/// Operations that wait for a worker, over all drivers that share a pool. Past it they wait in their driver.
pub(crate) const WORK_QUEUE_MAX: usize = 256;

/// Threads that run what may block, for several drivers.
///
/// Dropping the last reference lets the threads finish what is queued, and joins them.
pub struct WorkerPool<J: Job> {
    shared: Arc<Shared<J>>,
    threads: Vec<JoinHandle<()>>,
}

impl<J: Job> WorkerPool<J> {
    /// Starts `threads` threads.
    ///
    /// # Errors
    /// `InvalidInput` for 0 threads (a driver without a pool does the work itself), else what the system answers to
    /// starting a thread.
    pub fn start(threads: usize) -> io::Result<Arc<WorkerPool<J>>> {
        if threads == 0 {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                "a worker pool needs at least one thread",
            ));
        }
        let shared = Arc::new(Shared {
            queue: ArrayQueue::new(WORK_QUEUE_MAX),
            idle: AtomicUsize::new(0),
            closing: AtomicBool::new(false),
            door: Mutex::new(()),
            bell: Condvar::new(),
        });
        let mut pool = WorkerPool { shared, threads: Vec::with_capacity(threads) };
        for number in 0..threads {
            let shared = Arc::clone(&pool.shared);
            let thread = std::thread::Builder::new().name(format!("xferd-worker-{number}"));
            pool.threads.push(thread.spawn(move || shared.serve())?);
        }
        Ok(Arc::new(pool))
    }

    /// Queues work; it comes back if the queue is full.
    pub(crate) fn push(&self, errand: Errand<J>) -> Result<(), Errand<J>> {
        self.shared.queue.push(errand)?;
        // Pairs with the fence in `next`: either the worker sees the errand, or this sees that it is idle.
        fence(Ordering::SeqCst);
        if self.shared.idle.load(Ordering::Relaxed) > 0 {
            let _door = self.shared.door();
            self.shared.bell.notify_one();
        }
        Ok(())
    }
}

impl<J: Job> Drop for WorkerPool<J> {
    fn drop(&mut self) {
        self.shared.closing.store(true, Ordering::SeqCst);
        {
            let _door = self.shared.door();
            self.shared.bell.notify_all();
        }
        for thread in self.threads.drain(..) {
            // Panics of jobs are caught; a worker that died otherwise has said so on stderr.
            let _ = thread.join();
        }
    }
}

impl<J: Job> fmt::Debug for WorkerPool<J> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "WorkerPool({} threads)", self.threads.len())
    }
}

/// The operations that may block.
pub(crate) enum Work<J> {
    WriteAt { sink: Arc<Sink>, offset: u64, buf: PoolBuf },
    Run(J),
}

impl<J: Job> Work<J> {
    /// Does it, here and now.
    pub(crate) fn perform(self, token: Token) -> Done<J> {
        match self {
            Work::WriteAt { sink, offset, buf } => {
                let result = sink.write_all_at(&buf, offset).map(|()| count(buf.len()));
                Done { token, result, carried: Carried::Buf(buf) }
            }
            Work::Run(mut job) => {
                // A job that panicked half way is dropped, so nobody sees what it left behind.
                match catch_unwind(AssertUnwindSafe(move || {
                    job.run();
                    job
                })) {
                    Ok(job) => Done { token, result: Ok(0), carried: Carried::Job(job) },
                    Err(panic) => Done { token, result: Err(panicked(&*panic)), carried: Carried::Nothing },
                }
            }
        }
    }

    /// What it carries, unperformed.
    pub(crate) fn into_carried(self) -> Carried<J> {
        match self {
            Work::WriteAt { buf, .. } => Carried::Buf(buf),
            Work::Run(job) => Carried::Job(job),
        }
    }
}

/// Work on its way to a worker, with the mailbox of the driver that waits for it.
pub(crate) struct Errand<J> {
    pub(crate) token: Token,
    pub(crate) work: Work<J>,
    pub(crate) mailbox: Arc<Mailbox<J>>,
}

/// Where workers leave what they have done for one driver. It never holds more than the driver has under way.
pub(crate) struct Mailbox<J> {
    done: SegQueue<Done<J>>,
    waker: Waker,
}

impl<J> Mailbox<J> {
    pub(crate) fn new(waker: Waker) -> Mailbox<J> {
        Mailbox { done: SegQueue::new(), waker }
    }

    pub(crate) fn take(&self) -> Option<Done<J>> {
        self.done.pop()
    }

    fn deliver(&self, done: Done<J>) {
        self.done.push(done);
        self.waker.wake();
    }
}

struct Shared<J> {
    queue: ArrayQueue<Errand<J>>,
    idle: AtomicUsize,
    closing: AtomicBool,
    /// Guards nothing but the moment between looking for work and waiting for it.
    door: Mutex<()>,
    bell: Condvar,
}

impl<J: Job> Shared<J> {
    fn serve(&self) {
        while let Some(Errand { token, work, mailbox }) = self.next() {
            mailbox.deliver(work.perform(token));
        }
    }

    /// The next errand, or `None` once the pool closes and the queue is empty.
    fn next(&self) -> Option<Errand<J>> {
        if let Some(errand) = self.queue.pop() {
            return Some(errand);
        }
        let mut door = self.door();
        self.idle.fetch_add(1, Ordering::Relaxed);
        fence(Ordering::SeqCst);
        let errand = loop {
            if let Some(errand) = self.queue.pop() {
                break Some(errand);
            }
            if self.closing.load(Ordering::SeqCst) {
                break None;
            }
            door = self.bell.wait(door).unwrap_or_else(PoisonError::into_inner);
        };
        self.idle.fetch_sub(1, Ordering::Relaxed);
        errand
    }

    fn door(&self) -> MutexGuard<'_, ()> {
        self.door.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Bytes as a completion counts them. No operation moves more than a `u32` holds.
pub(crate) fn count(bytes: usize) -> u32 {
    u32::try_from(bytes).unwrap_or(u32::MAX)
}

fn panicked(panic: &(dyn Any + Send)) -> io::Error {
    let reason = panic.downcast_ref::<&str>().copied();
    let reason = reason.or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    io::Error::other(format!("a job panicked: {}", reason.unwrap_or("no reason given")))
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    struct Gated(mpsc::Receiver<()>);

    impl Job for Gated {
        fn run(&mut self) {
            self.0.recv().unwrap();
        }
    }

    #[test]
    fn a_pool_without_threads_is_refused() {
        assert_eq!(WorkerPool::<Gated>::start(0).unwrap_err().kind(), io::ErrorKind::InvalidInput);
    }

    #[test]
    fn the_queue_takes_as_much_as_its_limit_says_and_is_emptied_before_the_pool_is_gone() {
        let poll = mio::Poll::new().unwrap();
        let waker = Waker::new(mio::Waker::new(poll.registry(), mio::Token(0)).unwrap());
        let mailbox = Arc::new(Mailbox::new(waker));
        let pool = WorkerPool::start(1).unwrap();
        let mut gates = Vec::new();
        let mut errand = || {
            let (gate, opened) = mpsc::channel();
            gates.push(gate);
            let token = Token { slot: gates.len() as u32, generation: 0 };
            Errand { token, work: Work::Run(Gated(opened)), mailbox: Arc::clone(&mailbox) }
        };
        pool.push(errand()).ok().unwrap();
        while !pool.shared.queue.is_empty() {
            std::thread::yield_now();
        }
        for _ in 0..WORK_QUEUE_MAX {
            pool.push(errand()).ok().unwrap();
        }
        assert!(pool.push(errand()).is_err());
        for gate in &gates {
            // Nobody waits at the last one: it came back.
            let _ = gate.send(());
        }
        drop(pool);
        assert_eq!(std::iter::from_fn(|| mailbox.take()).count(), WORK_QUEUE_MAX + 1);
    }
}
