//! Brings tasks to connections.

use std::iter;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use xferd_engine::Mailbox;
use xferd_os::net::Address;

use crate::kv::Order;
use crate::session::{Assignment, ClientSession, Errand};
use crate::task::Task;

/// Knows where connections are made, and to whom.
#[derive(Clone)]
pub(crate) struct Dispatcher {
    first: Place,
    others: Arc<[Place]>,
}

impl Dispatcher {
    /// Has tasks done by the reactors with these mailboxes, on connections to `address` that may be silent for
    /// `patience`.
    pub(crate) fn new(
        first: Mailbox<ClientSession>,
        others: impl Iterator<Item = Mailbox<ClientSession>>,
        address: Address,
        patience: Duration,
    ) -> Self {
        let place = |mailbox| Place { mailbox, tasks: Arc::default(), address: address.clone(), patience };
        Self { first: place(first), others: others.map(place).collect() }
    }

    /// The reactor with the fewest tasks; the first of several such, so that a client that does one thing after the other
    /// needs a single connection.
    pub(crate) fn place(&self) -> &Place {
        self.places().min_by_key(|place| place.tasks.load(Ordering::Relaxed)).unwrap_or(&self.first)
    }

    /// Has `task` done on an idle connection, or a new one. If there is no room for it, it is dropped and says so to
    /// whoever asked for it.
    pub(crate) fn assign(&self, task: impl Task + 'static) {
        self.place().assign(task);
    }

    /// The same once `delay` has passed.
    pub(crate) fn assign_after(&self, delay: Duration, task: impl Task + 'static) {
        let place = self.place();
        let assignment = place.assignment(task);
        warn_unless(place.mailbox.dispatch_after(delay, assignment, place.address.clone(), place.session()));
    }

    /// Has a connection serve whoever wants something of keys, beside whatever else it is used for.
    #[must_use]
    pub(crate) fn keys(&self, delay: Duration, order: Order) -> bool {
        // Where who does one thing after the other has his only one.
        let Place { mailbox, address, .. } = &self.first;
        let session = self.first.session();
        match delay.is_zero() {
            true => mailbox.dispatch(Errand::Keys(order), address.clone(), session),
            false => mailbox.dispatch_after(delay, Errand::Keys(order), address.clone(), session),
        }
    }

    /// Where the server is.
    pub(crate) fn address(&self) -> &Address {
        &self.first.address
    }

    /// Makes every connection look at what it shares with other threads.
    pub(crate) fn nudge(&self) {
        self.places().for_each(Place::nudge);
    }

    /// Ends every connection.
    pub(crate) fn stop(&self) {
        self.places().for_each(|place| place.mailbox.stop());
    }

    fn places(&self) -> impl Iterator<Item = &Place> {
        iter::once(&self.first).chain(self.others.iter())
    }
}

/// One reactor of a client.
#[derive(Clone)]
pub(crate) struct Place {
    mailbox: Mailbox<ClientSession>,
    /// Tasks it has and has not ended.
    tasks: Arc<AtomicUsize>,
    address: Address,
    patience: Duration,
}

impl Place {
    /// Has `task` done here.
    pub(crate) fn assign(&self, task: impl Task + 'static) {
        warn_unless(self.mailbox.dispatch(self.assignment(task), self.address.clone(), self.session()));
    }

    /// Makes the connections here look at what they share with other threads.
    pub(crate) fn nudge(&self) {
        self.mailbox.nudge();
    }

    fn assignment(&self, task: impl Task + 'static) -> Errand {
        self.tasks.fetch_add(1, Ordering::Relaxed);
        let counted = Counted { tasks: self.tasks.clone(), is_lifted: false };
        Errand::Task(Assignment { task: Box::new(task), counted })
    }

    fn session(&self) -> ClientSession {
        ClientSession::new(self.address.clone(), self.patience)
    }
}

/// Counts a task of a reactor, but not while it takes a step: it may be its last, and whoever is told so and goes on
/// with something else finds its place free.
pub(crate) struct Counted {
    tasks: Arc<AtomicUsize>,
    is_lifted: bool,
}

impl Counted {
    /// A step begins.
    pub(crate) fn lift(&mut self) {
        if !std::mem::replace(&mut self.is_lifted, true) {
            self.tasks.fetch_sub(1, Ordering::Relaxed);
        }
    }

    /// It was not the last.
    pub(crate) fn put_back(&mut self) {
        if std::mem::replace(&mut self.is_lifted, false) {
            self.tasks.fetch_add(1, Ordering::Relaxed);
        }
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.lift();
    }
}

fn warn_unless(is_dispatched: bool) {
    if !is_dispatched {
        tracing::warn!("a task was dropped: too many are waiting");
    }
}
