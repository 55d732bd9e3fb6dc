//! Makes connections.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use xferd_engine::{Failure, Mailbox, lock};
use xferd_os::clock;
use xferd_os::net::Address;
use xferd_wire::{ErrorCode, resp};

use super::berth::Berth;
use super::greeting::Greeting;
use super::lane::Order;
use super::session::KvSession;
use crate::dispatcher::Dispatcher;

/// Bytes of the replies to one call: as many as a request may have. With more the call fails with LIMIT, and the connection
/// is closed.
pub const REPLIES_BYTES_MAX: usize = resp::limits::REQUEST_BYTES_MAX;

/// How long a server that has refused the password is not asked again: six times a minute at most, so that nobody is locked
/// out as if somebody guessed.
const REFUSED_PAUSE: Duration = Duration::from_secs(10);

pub(crate) struct Dialer {
    way: Way,
    pub(crate) greeting: Greeting,
    pub(crate) patience: Duration,
    pub(crate) replies_bytes_max: usize,
    /// Why we were not let in, and when.
    refused: Mutex<Option<(Failure, Instant)>>,
}

/// Where connections are made.
pub(crate) enum Way {
    /// By a shard of ours, to an address where RESP is spoken.
    Own(Mailbox<KvSession>, Address),
    /// By a client that moves files, in frames.
    Shared(Dispatcher),
}

impl Dialer {
    pub(crate) fn new(way: Way, greeting: Greeting, patience: Duration) -> Self {
        Self { way, greeting, patience, replies_bytes_max: REPLIES_BYTES_MAX, refused: Mutex::default() }
    }

    /// Where the server is, for people.
    pub(crate) fn url(&self) -> String {
        match &self.way {
            Way::Own(_, address) => address.url("kv"),
            Way::Shared(dispatcher) => dispatcher.address().url("xfer"),
        }
    }

    /// Has a connection that nobody uses serve `berth`, or a new one.
    pub(crate) fn dial(self: &Arc<Self>, berth: Berth) {
        self.dial_after(Duration::ZERO, berth);
    }

    /// The same after a while.
    pub(crate) fn dial_after(self: &Arc<Self>, delay: Duration, berth: Berth) {
        let refused = lock(&self.refused).clone();
        match refused {
            Some((failure, at)) if clock::now().saturating_duration_since(at) < REFUSED_PAUSE => {
                return berth.lose(&failure);
            }
            _ => {}
        }
        // If there is no room for it the berth is dropped, and says so.
        let is_dispatched = match &self.way {
            Way::Shared(dispatcher) => dispatcher.keys(delay, Order { berth, dialer: self.clone() }),
            Way::Own(mailbox, address) => {
                let (address, session) = (address.clone(), KvSession::new(self.clone()));
                match delay.is_zero() {
                    true => mailbox.dispatch(berth, address, session),
                    false => mailbox.dispatch_after(delay, berth, address, session),
                }
            }
        };
        if !is_dispatched {
            tracing::debug!("a connection to {} is not made: the client is closed", self.url());
        }
    }

    /// Remembers that we were not let in.
    pub(crate) fn note(&self, failure: &Failure) {
        if failure.code == ErrorCode::Permission {
            *lock(&self.refused) = Some((failure.clone(), clock::now()));
        }
    }

    /// Ends all connections that are made for this alone.
    pub(crate) fn stop(&self) {
        if let Way::Own(mailbox, _) = &self.way {
            mailbox.stop();
        }
    }
}
