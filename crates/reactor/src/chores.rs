//! One driver's work that may block, wherever it is done: by workers, or in its own turns.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use crate::workers::{Errand, Mailbox, WORK_QUEUE_MAX, Work};
use crate::{Done, Job, Token, Waker, WorkerPool};

/// Jobs and writes that one turn does itself where there are no workers; the rest waits for the next. What they bring leaves
/// in between: when 64 connections got a file of 64 KiB each, all at once needed so much memory that it came from the kernel
/// page by page, and went back to it, in each turn (docs/why-event-loop.md).
pub const OWN_WORK_PER_TURN_MAX: usize = 4;

/// Receives of one turn, together with the own work that waits. Whoever is heard later is answered no later for that, and what is
/// known of those who were heard is still in the processor's cache when they are answered (docs/why-event-loop.md).
pub const RECEIVED_AHEAD_MAX: usize = 64;

/// How soon work is offered again to workers that others keep busy.
const RETRY: Duration = Duration::from_millis(1);

/// The work of one driver.
pub(crate) struct Chores<J: Job> {
    workers: Option<Arc<WorkerPool<J>>>,
    mailbox: Arc<Mailbox<J>>,
    /// Errands that workers have, or have left in the mailbox.
    errands: usize,
    /// What no worker had room for.
    waiting: VecDeque<(Token, Work<J>)>,
    /// What the next turn does itself.
    own: VecDeque<(Token, Work<J>)>,
}

impl<J: Job> Chores<J> {
    /// Without workers, everything is done in the driver's turns.
    pub(crate) fn new(workers: Option<Arc<WorkerPool<J>>>, waker: Waker) -> Self {
        let mailbox = Arc::new(Mailbox::new(waker));
        Self { workers, mailbox, errands: 0, waiting: VecDeque::new(), own: VecDeque::new() }
    }

    /// Takes work on.
    pub(crate) fn add(&mut self, token: Token, work: Work<J>) {
        // Into memory is written at once, by the thread in whose processor's cache the bytes are.
        let waits = !matches!(&work, Work::WriteAt { sink, .. } if !sink.waits_for_disk());
        let queue = if waits && self.workers.is_some() { &mut self.waiting } else { &mut self.own };
        queue.push_back((token, work));
    }

    /// Takes work back that nobody has begun.
    pub(crate) fn withdraw(&mut self, token: Token) -> Option<Work<J>> {
        [&mut self.waiting, &mut self.own].into_iter().find_map(|queue| {
            let place = queue.iter().position(|(waiting, _)| *waiting == token)?;
            queue.remove(place).map(|(_, work)| work)
        })
    }

    /// Whether the next turn has some of it to do itself.
    pub(crate) fn has_own(&self) -> bool {
        !self.own.is_empty()
    }

    /// How many receives the next answers can do with: each may bring work for this thread.
    pub(crate) fn receives_wanted(&self) -> usize {
        RECEIVED_AHEAD_MAX.saturating_sub(self.own.len())
    }

    /// Does some of what this thread has to do itself.
    pub(crate) fn perform_own(&mut self, done: &mut Vec<Done<J>>) {
        let some = self.own.len().min(OWN_WORK_PER_TURN_MAX);
        done.extend(self.own.drain(..some).map(|(token, work)| work.perform(token)));
    }

    /// Hands over what workers have done.
    pub(crate) fn collect(&mut self, done: &mut Vec<Done<J>>) {
        while let Some(errand) = self.mailbox.take() {
            self.errands -= 1;
            done.push(errand);
        }
    }

    /// Hands work to the workers as far as there is room, in order.
    pub(crate) fn dispatch(&mut self) {
        let Some(workers) = &self.workers else { return };
        while self.errands < WORK_QUEUE_MAX {
            let Some((token, work)) = self.waiting.pop_front() else { return };
            let mailbox = Arc::clone(&self.mailbox);
            if let Err(Errand { token, work, .. }) = workers.push(Errand { token, work, mailbox }) {
                self.waiting.push_front((token, work));
                return;
            }
            self.errands += 1;
        }
    }

    /// How long to wait for events at most. Other drivers may have filled the workers' queue: then none of ours will come
    /// back to tell when it has room.
    pub(crate) fn patience(&self) -> Option<Duration> {
        (!self.waiting.is_empty() && self.errands == 0).then_some(RETRY)
    }
}
