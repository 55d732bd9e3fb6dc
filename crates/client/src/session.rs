//! The client's end of a connection: says hello, then runs one task after the other.

use std::ops::{Deref, DerefMut};
use std::time::Duration;

use xferd_engine::{Effects, End, Event, Failure, Reach, Reachable, Session};
use xferd_os::net::Address;
use xferd_wire::{
    CHECKSUMS, Decoder, DigestAlgorithm, ErrorCode, Frame, Framed, Hello, Item, KV, TRANSFERS, VERSION,
    choose_version,
};

use crate::dispatcher::Counted;
use crate::kv::{Lane, Order};
use crate::task::{Channel, ClientOutcome, Course, Task, TaskEvent, next_number, unexpected};
use crate::unreachable::unreachable;

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
    /// Keys, if they were asked for here.
    lane: Option<Lane>,
    /// Whether the server has any.
    keys: bool,
    reach: Option<Reach>,
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

/// What a connection is wanted for.
pub(crate) enum Errand {
    /// Something to do. One at a time.
    Task(Assignment),
    /// Keys, beside that.
    Keys(Order),
}

type Fx = Effects<ClientOutcome>;

impl Session for ClientSession {
    type Outcome = ClientOutcome;
    type Command = Errand;

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

    fn on_reachable(&mut self, place: &Reachable<'_>) {
        self.reach = Some(place.reach());
    }

    fn on_event(&mut self, event: Event<ClientOutcome, Errand>, effects: &mut Fx) {
        let event = match event {
            Event::Connected => {
                effects.send_encoded(|out| Hello::default().encode(out));
                return;
            }
            Event::Command(Errand::Keys(order)) => return self.take_up(order, effects),
            Event::Command(Errand::Task(task)) => {
                self.task = Some(task);
                if self.phase == Phase::Open {
                    self.drive(effects, |task, channel| task.start(channel));
                }
                return;
            }
            Event::Draining => {
                if self.is_unused() {
                    self.phase = Phase::Closed;
                    effects.abort();
                } else if self.phase == Phase::Open {
                    self.phase = Phase::Leaving;
                }
                return;
            }
            Event::Stalled => {
                if self.is_unused() {
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
            Event::Drained => {
                self.go_on_with_keys(effects);
                TaskEvent::Drained
            }
            Event::Nudged => {
                self.go_on_with_keys(effects);
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

    fn is_wanted(errand: &Errand) -> bool {
        match errand {
            Errand::Task(task) => !task.is_cancelled(),
            Errand::Keys(_) => true,
        }
    }

    fn wants_bytes(&self) -> bool {
        self.phase != Phase::Closed
            && self.task.as_ref().is_none_or(|task| task.wants_bytes())
            && self.lane.as_ref().is_none_or(Lane::wants_bytes)
    }

    fn reads_while_sending(&self) -> bool {
        // As whoever asks for keys has to.
        self.lane.as_ref().is_some_and(Lane::is_busy)
    }

    fn is_idle(&self) -> bool {
        // Who leases it may take as long as he likes to read.
        self.phase == Phase::Open && self.task.is_none() && !self.lane.as_ref().is_some_and(Lane::is_leased)
    }

    fn is_beside(errand: &Errand) -> bool {
        matches!(errand, Errand::Keys(order) if !order.is_lease())
    }

    fn takes(&self, errand: &Errand) -> bool {
        match errand {
            Errand::Task(_) => self.is_idle(),
            Errand::Keys(order) => {
                matches!(self.phase, Phase::Hello | Phase::Open)
                    && self.lane.as_ref().is_none_or(|lane| lane.takes(order))
            }
        }
    }

    fn patience(&self) -> Duration {
        match self.phase {
            Phase::Hello => self.patience.min(HELLO_PATIENCE),
            _ if !self.is_unused() => self.patience,
            _ => IDLE_PATIENCE,
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
            lane: None,
            keys: false,
            reach: None,
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
        self.keys = theirs.can(KV);
        self.phase = Phase::Open;
        self.drive(effects, |task, channel| task.start(channel));
        self.begin_keys(effects);
    }

    /// Serves somebody who wants something of keys, now or once the server has said hello.
    fn take_up(&mut self, order: Order, effects: &mut Fx) {
        match &mut self.lane {
            Some(lane) => {
                lane.serve(order);
                self.drive_keys(effects, |_| {});
            }
            None => {
                self.lane = Some(Lane::new(order));
                if self.phase == Phase::Open {
                    self.begin_keys(effects);
                }
            }
        }
    }

    fn begin_keys(&mut self, effects: &mut Fx) {
        if self.keys {
            let reach = self.reach.clone();
            return self.drive_keys(effects, |lane| lane.begin(reach));
        }
        if let Some(mut lane) = self.lane.take() {
            let message = format!(
                "{} keeps no keys; have it listen on kv:// as well, or start it with --kv-dir",
                self.address.url("xfer")
            );
            lane.fail(&Failure::new(ErrorCode::Unsupported, message));
        }
    }

    /// Says what waits to be said about keys, as long as the server takes it.
    fn go_on_with_keys(&mut self, effects: &mut Fx) {
        if self.phase == Phase::Open && !effects.is_congested() {
            self.drive_keys(effects, Lane::go_on);
        }
    }

    /// Lets the lane do something, says what it wants said, and sees what became of it.
    fn drive_keys(&mut self, effects: &mut Fx, step: impl FnOnce(&mut Lane)) {
        let Some(lane) = &mut self.lane else { return };
        step(lane);
        let next_request = &mut self.next_request;
        let said = lane.say(|| next_number(next_request), effects);
        self.judge_keys(said, effects);
    }

    fn on_keys(&mut self, request: u32, frame: Frame, effects: &mut Fx) {
        let Some(lane) = &mut self.lane else {
            let failure = unexpected(&frame);
            return self.give_up(failure, effects);
        };
        let heard = lane.on_frame(request, frame);
        let next_request = &mut self.next_request;
        let said = heard.and_then(|()| lane.say(|| next_number(next_request), effects));
        self.judge_keys(said, effects);
    }

    /// Lets go of the lane if it cannot go on. A task may still be done; then the connection ends, too.
    fn judge_keys(&mut self, result: Result<(), Failure>, effects: &mut Fx) {
        let Some(lane) = &mut self.lane else { return };
        if let Err(mut failure) = result {
            failure.message = format!("{}: {}", self.address.url("xfer"), failure.message);
            lane.fail(&failure);
        }
        if lane.is_over() {
            self.lane = None;
            self.phase = Phase::Leaving;
        }
        self.leave_if_done(effects);
    }

    /// Whether nothing is expected of the server.
    fn is_unused(&self) -> bool {
        self.task.is_none() && self.lane.as_ref().is_none_or(|lane| !lane.is_busy() && !lane.is_leased())
    }

    fn leave_if_done(&mut self, effects: &mut Fx) {
        if self.phase != Phase::Leaving || self.lane.as_ref().is_some_and(Lane::is_busy) {
            return;
        }
        let message = format!("the server at {} has said goodbye; try again", self.address.url("xfer"));
        self.fail_keys(&Failure::new(ErrorCode::ConnectionLost, message));
        if self.task.is_none() {
            self.phase = Phase::Closed;
            effects.abort();
        }
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
                self.phase = Phase::Leaving;
                self.leave_if_done(effects);
            }
            Framed { request, frame: frame @ (Frame::KvReply(_) | Frame::KvPush(_)) } => {
                self.on_keys(request, frame, effects);
            }
            Framed { request, frame: frame @ Frame::Error(_) }
                if self.lane.as_ref().is_some_and(|lane| lane.has_asked(request)) =>
            {
                self.on_keys(request, frame, effects);
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
                self.leave_if_done(effects);
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
        let was = std::mem::replace(&mut self.phase, Phase::Closed);
        if was == Phase::Hello || failure.code == ErrorCode::Timeout {
            self.fail_keys(&failure);
        } else {
            // What a task is given up for is no failure of keys.
            let message = format!(
                "the connection to {} was closed ({failure}); whatever was not answered may have been done or not",
                self.address.url("xfer")
            );
            self.fail_keys(&Failure::new(ErrorCode::ConnectionLost, message));
        }
        if let Some(mut task) = self.task.take() {
            task.counted.lift();
            task.fail(failure);
        }
        effects.abort();
    }

    fn fail_keys(&mut self, failure: &Failure) {
        if let Some(mut lane) = self.lane.take() {
            lane.fail(failure);
        }
    }

    fn on_closed(&mut self, end: End) {
        let was = std::mem::replace(&mut self.phase, Phase::Closed);
        let address = self.address.url("xfer");
        let failure = match end {
            End::Stopped => Failure::new(ErrorCode::Aborted, CLIENT_CLOSED),
            End::Closed => Failure::new(
                ErrorCode::ConnectionLost,
                format!("the server at {address} closed the connection; try again"),
            ),
            End::Broken(error) if was == Phase::Hello => unreachable(&address, "xferd serve", &error),
            End::Broken(error) => {
                Failure::new(ErrorCode::ConnectionLost, format!("connection to {address} lost: {error}"))
            }
        };
        self.fail_keys(&failure);
        if let Some(mut task) = self.task.take() {
            task.counted.lift();
            task.fail(failure);
        }
    }
}

/// Why what a closed client was asked for is not done.
pub(crate) const CLIENT_CLOSED: &str = "the client was closed before this was done";
