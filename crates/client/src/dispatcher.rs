//! Brings tasks to connections.

use std::net::SocketAddr;
use std::time::Duration;

use xferd_engine::Mailbox;

use crate::session::{Assignment, ClientSession};
use crate::task::Task;

/// Knows where connections are made, and to whom.
#[derive(Clone)]
pub(crate) struct Dispatcher {
    pub(crate) mailbox: Mailbox<ClientSession>,
    pub(crate) address: SocketAddr,
    pub(crate) patience: Duration,
}

impl Dispatcher {
    /// Has `task` done on an idle connection, or a new one. If there is no room for it, it is dropped and says so to
    /// whoever asked for it.
    pub(crate) fn assign(&self, task: impl Task + 'static) {
        warn_unless(self.mailbox.dispatch(Assignment(Box::new(task)), self.address, self.session()));
    }

    /// The same once `delay` has passed.
    pub(crate) fn assign_after(&self, delay: Duration, task: impl Task + 'static) {
        let assignment = Assignment(Box::new(task));
        warn_unless(self.mailbox.dispatch_after(delay, assignment, self.address, self.session()));
    }

    fn session(&self) -> ClientSession {
        ClientSession::new(self.address, self.patience)
    }
}

fn warn_unless(is_dispatched: bool) {
    if !is_dispatched {
        tracing::warn!("a task was dropped: too many are waiting");
    }
}
