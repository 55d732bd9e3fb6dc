//! The client's end of a connection: says hello, then runs one task after the other.

use std::io;
use std::ops::{Deref, DerefMut};
use std::time::Duration;

use xferd_engine::{Effects, End, Event, Failure, Session};
use xferd_os::net::Address;
use xferd_wire::{
    CHECKSUMS, Decoder, DigestAlgorithm, ErrorCode, Frame, Framed, Hello, Item, TRANSFERS, VERSION,
    choose_version,
};

use crate::dispatcher::Counted;
use crate::task::{Channel, ClientOutcome, Course, Task, TaskEvent};

/// How long an idle connection is kept.
const IDLE_PATIENCE: Duration = Duration::from_secs(3600);

/// How long a server may take to connect and say hello, at most.
const HELLO_PATIENCE: Duration = Duration::from_secs(10);

/// The number of the pings by which a session asks whether a silent server is still there.
const SIGN_OF_LIFE: u64 = 1;

/// One connection to a server.
pub(crate) struct ClientSession {
    address: Address,
    patience: Duration,
    decoder: Decoder,
    phase: Phase,
    digests: Vec<DigestAlgorithm>,
    transfers: bool,
    checksums: bool,
    next_request: u32,
    task: Option<Assignment>,
    /// The server was silent and was asked for a sign of life.
    pinged: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// Connecting, or waiting for the server's hello.
    Hello,
    Open,
    /// The server takes no new requests.
    Leaving,
    Closed,
}

/// A task on its way to a connection, or there.
pub(crate) struct Assignment {
    pub(crate) task: Box<dyn Task>,
    pub(crate) counted: Counted,
}

impl Deref for Assignment {
    type Target = dyn Task;

    fn deref(&self) -> &Self::Target {
        self.task.as_ref()
    }
}

impl DerefMut for Assignment {
    fn deref_mut(&mut self) -> &mut Self::Target {
        self.task.as_mut()
    }
}

type Fx = Effects<ClientOutcome>;

impl Session for ClientSession {
    type Outcome = ClientOutcome;
    type Command = Assignment;

    fn on_bytes(&mut self, bytes: &[u8], effects: &mut Fx) -> usize {
        self.pinged = false;
        let mut rest = bytes;
        while !rest.is_empty() && self.wants_bytes() {
            if let Some(task) = self.task.as_mut().filter(|task| task.raw_due() > 0) {
                let due = usize::try_from(task.raw_due()).unwrap_or(usize::MAX).min(rest.len());
                let taken = task.on_raw(rest.get(..due).unwrap_or_default());
                rest = rest.get(taken..).unwrap_or_default();
                continue;
            }
            match self.decoder.decode(rest) {
                Ok((taken, item)) => {
                    rest = rest.get(taken..).unwrap_or_default();
                    match item {
                        None => {}
                        Some(Item::Hello(hello)) => self.on_hello(&hello, effects),
                        Some(Item::Frame(framed)) => {
                            let is_extent = matches!(framed.frame, Frame::Extent { .. });
                            self.on_frame(framed, effects);
                            if is_extent && self.task.as_ref().is_none_or(|task| task.raw_due() == 0) {
                                break;
                            }
                        }
                    }
                }
                Err(error) => {
                    let message = match self.phase {
                        Phase::Hello => {
                            format!("{} does not answer as an xferd server: {error}", self.address)
                        }
                        _ => format!("{}: {error}", self.address),
                    };
                    self.give_up(Failure::new(error.code(), message), effects);
                }
            }
        }
        if self.phase == Phase::Closed { bytes.len() } else { bytes.len() - rest.len() }
    }

    fn on_event(&mut self, event: Event<ClientOutcome, Assignment>, effects: &mut Fx) {
        let event = match event {
            Event::Connected => {
                effects.send_encoded(|out| Hello::default().encode(out));
                return;
            }
            Event::Command(task) => {
                self.task = Some(task);
                if self.phase == Phase::Open {
                    self.drive(effects, |task, channel| task.start(channel));
                }
                return;
            }
            Event::Draining => {
                if self.task.is_none() {
                    self.phase = Phase::Closed;
                    effects.abort();
                } else if self.phase == Phase::Open {
                    self.phase = Phase::Leaving;
                }
                return;
            }
            Event::Stalled => {
                if self.task.is_none() {
                    self.phase = Phase::Closed;
                    return effects.abort();
                }
                // It may be busy with something long, such as syncing a large file; or wait for us.
                if self.phase != Phase::Hello && !std::mem::replace(&mut self.pinged, true) {
                    return effects.send(0, &Frame::Ping(SIGN_OF_LIFE));
                }
                let seconds = self.patience().as_secs_f64();
                let message =
                    format!("xfer://{}: nothing was heard for {seconds} s; try again", self.address);
                return self.give_up(Failure::new(ErrorCode::Timeout, message), effects);
            }
            Event::Closed(end) => return self.on_closed(end),
            Event::Worked { key, outcome } => TaskEvent::Worked(key, outcome),
            Event::Received { key, hasher, result } => TaskEvent::Received(key, hasher, result),
            Event::Written { bytes, .. } => TaskEvent::Written(bytes),
            Event::Sent { key, bytes } => TaskEvent::Sent(key, bytes),
            Event::SourceShort { key } => TaskEvent::SourceShort(key),
            Event::Drained => TaskEvent::Drained,
            Event::Nudged => {
                if self.task.as_ref().is_some_and(|task| task.is_cancelled()) {
                    return self.give_up(Failure::new(ErrorCode::Aborted, "aborted by the caller"), effects);
                }
                TaskEvent::Nudged
            }
        };
        if self.phase != Phase::Hello {
            self.drive(effects, |task, channel| task.on_event(event, channel));
        }
    }

    fn is_wanted(task: &Assignment) -> bool {
        !task.is_cancelled()
    }

    fn wants_bytes(&self) -> bool {
        self.phase != Phase::Closed && self.task.as_ref().is_none_or(|task| task.wants_bytes())
    }

    fn is_idle(&self) -> bool {
        self.phase == Phase::Open && self.task.is_none()
    }

    fn patience(&self) -> Duration {
        match (self.phase, &self.task) {
            (Phase::Hello, _) => self.patience.min(HELLO_PATIENCE),
            (_, Some(_)) => self.patience,
            (_, None) => IDLE_PATIENCE,
        }
    }
}

impl ClientSession {
    /// A connection to `address`, which may be silent for `patience` while it has something to do.
    pub(crate) fn new(address: Address, patience: Duration) -> Self {
        Self {
            address,
            patience,
            decoder: Decoder::new(),
            phase: Phase::Hello,
            digests: Vec::new(),
            transfers: false,
            checksums: false,
            next_request: 1,
            task: None,
            pinged: false,
        }
    }

    fn on_hello(&mut self, theirs: &Hello, effects: &mut Fx) {
        // A server that refuses says so in the next frame; it knows better than we why.
        if choose_version(&Hello::default(), theirs).is_none() {
            let message = format!(
                "{} speaks versions {} to {}, this client version {VERSION}; update the older of the two",
                self.address, theirs.version_min, theirs.version_max
            );
            return self.give_up(Failure::new(ErrorCode::Version, message), effects);
        }
        self.digests.clone_from(&theirs.digests);
        self.transfers = theirs.can(TRANSFERS);
        self.checksums = theirs.can(CHECKSUMS);
        self.phase = Phase::Open;
        self.drive(effects, |task, channel| task.start(channel));
    }

    fn on_frame(&mut self, framed: Framed, effects: &mut Fx) {
        match framed {
            Framed { request: 0, frame: Frame::Error(reply) } => {
                let mut failure = Failure::from(reply);
                failure.message = format!("{}: {}", self.address, failure.message);
                self.give_up(failure, effects);
            }
            Framed { request, frame: Frame::Ping(number) } => effects.send(request, &Frame::Pong(number)),
            Framed { frame: Frame::Pong(SIGN_OF_LIFE), .. } => {}
            Framed { frame: Frame::Goodbye, .. } => {
                if self.task.is_none() {
                    self.phase = Phase::Closed;
                    effects.abort();
                } else {
                    self.phase = Phase::Leaving;
                }
            }
            Framed { request, frame } => {
                if let Frame::Extent { len, .. } = frame {
                    if self.task.is_none() {
                        return effects.discard(len);
                    }
                }
                self.drive(effects, |task, channel| task.on_frame(request, frame, channel));
            }
        }
    }

    /// Lets the task do something, and sees what became of it.
    fn drive(
        &mut self,
        effects: &mut Fx,
        step: impl FnOnce(&mut dyn Task, &mut Channel<'_>) -> Result<Course, Failure>,
    ) {
        let Some(task) = &mut self.task else { return };
        let mut channel = Channel {
            effects,
            next_request: &mut self.next_request,
            digests: &self.digests,
            transfers: self.transfers,
            checksums: self.checksums,
        };
        task.counted.lift();
        match step(&mut **task, &mut channel) {
            Ok(Course::Running) => task.counted.put_back(),
            Ok(Course::Finished) => {
                self.task = None;
                if self.phase == Phase::Leaving {
                    self.phase = Phase::Closed;
                    effects.abort();
                }
            }
            Ok(Course::Abandoned) => {
                self.task = None;
                self.phase = Phase::Closed;
                effects.abort();
            }
            Err(failure) => self.give_up(failure, effects),
        }
    }

    fn give_up(&mut self, failure: Failure, effects: &mut Fx) {
        if let Some(mut task) = self.task.take() {
            task.counted.lift();
            task.fail(failure);
        }
        self.phase = Phase::Closed;
        effects.abort();
    }

    fn on_closed(&mut self, end: End) {
        let was = std::mem::replace(&mut self.phase, Phase::Closed);
        let Some(mut task) = self.task.take() else { return };
        task.counted.lift();
        let address = self.address.url("xfer");
        task.fail(match end {
            End::Stopped => Failure::new(ErrorCode::Aborted, CLIENT_CLOSED),
            End::Closed => Failure::new(
                ErrorCode::ConnectionLost,
                format!("the server at {address} closed the connection; try again"),
            ),
            End::Broken(error) if error.kind() == io::ErrorKind::ConnectionRefused => Failure::new(
                ErrorCode::ConnectionRefused,
                format!("cannot reach {address}: connection refused. Is `xferd serve` running there?"),
            ),
            // A socket's file: a server takes its own with it.
            End::Broken(error) if error.kind() == io::ErrorKind::NotFound => Failure::new(
                ErrorCode::ConnectionRefused,
                format!("cannot reach {address}: there is no such socket. Is `xferd serve` running there?"),
            ),
            End::Broken(error) if was == Phase::Hello => {
                Failure::io(&format!("cannot reach {address}"), &error)
            }
            End::Broken(error) => {
                Failure::new(ErrorCode::ConnectionLost, format!("connection to {address} lost: {error}"))
            }
        });
    }
}

/// Why what a closed client was asked for is not done.
pub(crate) const CLIENT_CLOSED: &str = "the client was closed before this was done";
