//! One driver's work that may block, wherever it is done: by workers, or in its own turns.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use crate::workers::{Errand, Mailbox, WORK_QUEUE_MAX, Work};
use crate::{Done, Job, Token, Waker, WorkerPool};

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

    /// Does what this thread has to do itself.
    pub(crate) fn perform_own(&mut self, done: &mut Vec<Done<J>>) {
        done.extend(self.own.drain(..).map(|(token, work)| work.perform(token)));
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
