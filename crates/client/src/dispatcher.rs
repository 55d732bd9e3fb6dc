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
        let fresh = ClientSession::new(self.address, self.patience);
        if !self.mailbox.dispatch(Assignment(Box::new(task)), self.address, fresh) {
            tracing::warn!("a task was dropped: too many are waiting");
        }
    }
}
