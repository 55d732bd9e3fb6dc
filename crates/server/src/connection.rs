//! What shards run: a session of whatever is spoken on the connection.

use std::convert::Infallible;
use std::time::Duration;

use xferd_engine::{DiskOutcome, Effects, Event, Reachable, Session};

use crate::kv::KvSession;
use crate::session::{ServerSession, TransferOutcome};

/// One connection, whatever it speaks. Each takes as much room as the largest session does.
#[allow(
    clippy::large_enum_variant,
    reason = "a shard keeps each in a box; one of its own would be a second allocation"
)]
pub(crate) enum Connection {
    Transfer(ServerSession),
    Kv(KvSession),
}

/// What comes back from the work that a connection asks for.
#[allow(clippy::large_enum_variant, reason = "files bring the large one, and they would pay for a box")]
pub enum ServerOutcome {
    /// A [`ServerSession`]'s.
    Transfer(TransferOutcome),
    /// What was said is as safe as it is to be, or why not: of a session of the key-value store.
    Committed(std::io::Result<()>),
}

impl From<TransferOutcome> for ServerOutcome {
    fn from(outcome: TransferOutcome) -> Self {
        Self::Transfer(outcome)
    }
}

impl From<DiskOutcome> for ServerOutcome {
    fn from(outcome: DiskOutcome) -> Self {
        Self::Transfer(TransferOutcome::Disk(outcome))
    }
}

impl Session for Connection {
    type Outcome = ServerOutcome;
    type Command = Infallible;

    fn look_ahead<'a>(coming: impl Iterator<Item = (&'a Self, &'a [u8])>) {
        KvSession::look_ahead(coming.filter_map(|(connection, bytes)| match connection {
            Self::Kv(session) => Some((session, bytes)),
            Self::Transfer(_) => None,
        }));
    }

    fn on_bytes(&mut self, bytes: &[u8], effects: &mut Effects<ServerOutcome>) -> usize {
        match self {
            Self::Transfer(session) => session.on_bytes(bytes, effects),
            Self::Kv(session) => session.on_bytes(bytes, effects),
        }
    }

    fn on_end(&mut self, effects: &mut Effects<ServerOutcome>) {
        match self {
            Self::Transfer(session) => session.on_end(effects),
            Self::Kv(session) => session.on_end(effects),
        }
    }

    fn on_reachable(&mut self, place: &Reachable<'_>) {
        match self {
            Self::Transfer(session) => session.on_reachable(place),
            Self::Kv(session) => session.on_reachable(place),
        }
    }

    fn on_event(&mut self, event: Event<ServerOutcome, Infallible>, effects: &mut Effects<ServerOutcome>) {
        match self {
            Self::Transfer(session) => session.on_event(event, effects),
            Self::Kv(session) => session.on_event(event, effects),
        }
    }

    fn wants_bytes(&self) -> bool {
        match self {
            Self::Transfer(session) => session.wants_bytes(),
            Self::Kv(session) => session.wants_bytes(),
        }
    }

    fn is_idle(&self) -> bool {
        match self {
            Self::Transfer(session) => session.is_idle(),
            Self::Kv(session) => session.is_idle(),
        }
    }

    fn patience(&self) -> Duration {
        match self {
            Self::Transfer(session) => session.patience(),
            Self::Kv(session) => session.patience(),
        }
    }

    fn patience_while_sending(&self) -> Duration {
        match self {
            Self::Transfer(session) => session.patience_while_sending(),
            Self::Kv(session) => session.patience_while_sending(),
        }
    }

    fn kept_bytes(&self) -> u64 {
        match self {
            Self::Transfer(session) => session.kept_bytes(),
            Self::Kv(session) => session.kept_bytes(),
        }
    }

    fn rest(&mut self) -> bool {
        match self {
            Self::Transfer(session) => session.rest(),
            Self::Kv(session) => session.rest(),
        }
    }
}
