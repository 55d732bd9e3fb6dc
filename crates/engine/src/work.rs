//! One connection's blocking work, batched: what a session asked for since the last batch went out runs in order on
//! one worker, so that a pipelined small file costs a share of a hand-over instead of a whole one.

use xferd_reactor::Job;

use crate::session::Work;

/// Most pieces of work in one batch: enough to spread the cost of a hand-over thin, few enough that with `--workers 0`
/// a turn of the reactor stays short.
pub(crate) const BATCH_WORKS_MAX: usize = 64;

/// A batch on its way through the reactor.
pub struct Batch<O> {
    todo: Vec<(u32, Work<O>)>,
    pub(crate) done: Vec<(u32, O)>,
}

impl<O> Batch<O> {
    pub(crate) fn new(todo: Vec<(u32, Work<O>)>) -> Self {
        Self { done: Vec::with_capacity(todo.len()), todo }
    }
}

impl<O: Send + 'static> Job for Batch<O> {
    fn run(&mut self) {
        for (key, work) in self.todo.drain(..) {
            self.done.push((key, work()));
        }
    }
}
