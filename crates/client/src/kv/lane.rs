//! Keys on a connection that moves files: what a session of RESP says and hears, in frames.

use std::collections::VecDeque;
use std::mem;
use std::sync::Arc;

use xferd_engine::{Effect, Effects, Event, Failure, Reach, Session};
use xferd_wire::resp::RequestParser;
use xferd_wire::{ErrorCode, Frame, encode_kv, opcode, write_kv_args};

use super::berth::Berth;
use super::dialer::Dialer;
use super::session::KvSession;

/// Somebody who needs a connection, and how it is to be greeted.
pub(crate) struct Order {
    pub(crate) berth: Berth,
    pub(crate) dialer: Arc<Dialer>,
}

impl Order {
    /// Whether the connection is to be somebody's alone.
    pub(crate) fn is_lease(&self) -> bool {
        self.berth.lease().is_some()
    }
}

/// One conversation about keys. It does no I/O; whoever has the connection calls it.
pub(crate) struct Lane {
    dialer: Arc<Dialer>,
    session: KvSession,
    said: Effects<()>,
    parser: RequestParser,
    /// Requests that are not answered, or whose answer waits for those before it.
    asked: VecDeque<Asked>,
    /// Something pushed whose parts are coming.
    push: Vec<u8>,
    /// Bytes of answers and pushes that are kept here.
    kept_bytes: usize,
    is_over: bool,
}

struct Asked {
    request: u32,
    answer: Vec<u8>,
    is_whole: bool,
}

impl Lane {
    pub(crate) fn new(Order { berth, dialer }: Order) -> Self {
        let mut lane = Self {
            session: KvSession::new(dialer.clone()),
            dialer,
            said: Effects::default(),
            parser: RequestParser::new(),
            asked: VecDeque::new(),
            push: Vec::new(),
            kept_bytes: 0,
            is_over: false,
        };
        lane.parser.set_authenticated(true);
        lane.session.on_event(Event::Command(berth), &mut lane.said);
        lane
    }

    /// The connection is open. `reach` has [`Lane::go_on`] called.
    pub(crate) fn begin(&mut self, reach: Option<Reach>) {
        self.session.set_reach(reach);
        self.session.on_event(Event::Connected, &mut self.said);
    }

    /// Whether it could serve somebody else.
    pub(crate) fn takes(&self, order: &Order) -> bool {
        self.session.is_idle() && Arc::ptr_eq(&self.dialer, &order.dialer)
    }

    pub(crate) fn serve(&mut self, order: Order) {
        self.session.on_event(Event::Command(order.berth), &mut self.said);
    }

    /// Whether the connection is somebody's alone.
    pub(crate) fn is_leased(&self) -> bool {
        self.session.is_leased()
    }

    /// Whether something is expected of the server.
    pub(crate) fn is_busy(&self) -> bool {
        !self.asked.is_empty()
    }

    /// It is of no use any more, and neither is the connection, on which nobody knows how far the conversation has come.
    pub(crate) fn is_over(&self) -> bool {
        self.is_over
    }

    pub(crate) fn wants_bytes(&self) -> bool {
        self.session.wants_bytes()
    }

    /// Looks whether there is something to say.
    pub(crate) fn go_on(&mut self) {
        self.session.on_event(Event::Nudged, &mut self.said);
    }

    /// Takes what the server says about keys.
    ///
    /// # Errors
    /// What it has no business to say.
    pub(crate) fn on_frame(&mut self, request: u32, frame: Frame) -> Result<(), Failure> {
        match frame {
            Frame::KvPush(part) => {
                self.kept_bytes += part.bytes.len();
                self.push.extend_from_slice(&part.bytes);
                if !part.more {
                    let push = mem::take(&mut self.push);
                    self.hear(&push);
                }
            }
            Frame::KvReply(part) => {
                let asked = self.asked.iter_mut().find(|asked| asked.request == request);
                let Some(asked) = asked.filter(|asked| !asked.is_whole) else {
                    return Err(unasked(request));
                };
                self.kept_bytes += part.bytes.len();
                match asked.answer.is_empty() {
                    true => asked.answer = part.bytes,
                    false => asked.answer.extend_from_slice(&part.bytes),
                }
                asked.is_whole = !part.more;
                while self.asked.front().is_some_and(|asked| asked.is_whole) {
                    let answered = self.asked.pop_front();
                    self.hear(&answered.map(|asked| asked.answer).unwrap_or_default());
                }
            }
            Frame::Error(reply) => return Err(reply.into()),
            _ => return Err(unasked(request)),
        }
        if self.kept_bytes > self.dialer.replies_bytes_max {
            let max = self.dialer.replies_bytes_max;
            let message = format!("the server answered by more than {max} bytes; ask for less at once");
            return Err(Failure::new(ErrorCode::Limit, message));
        }
        Ok(())
    }

    /// Whether the request is one about keys.
    pub(crate) fn has_asked(&self, request: u32) -> bool {
        self.asked.iter().any(|asked| asked.request == request)
    }

    fn hear(&mut self, values: &[u8]) {
        self.kept_bytes -= values.len();
        self.session.on_bytes(values, &mut self.said);
    }

    /// Says what is to be said, in requests that `number` numbers.
    ///
    /// # Errors
    /// INVALID_ARGUMENT if that are no requests.
    pub(crate) fn say<O>(
        &mut self,
        mut number: impl FnMut() -> u32,
        effects: &mut Effects<O>,
    ) -> Result<(), Failure> {
        for effect in self.said.take() {
            match effect {
                Effect::Send(bytes) => {
                    let mut result = Ok(());
                    effects.send_encoded(|out| result = self.encode(bytes.remaining(), &mut number, out));
                    result?;
                }
                Effect::Close { .. } => self.is_over = true,
                _ => {}
            }
        }
        Ok(())
    }

    fn encode(
        &mut self,
        mut requests: &[u8],
        number: &mut impl FnMut() -> u32,
        out: &mut Vec<u8>,
    ) -> Result<(), Failure> {
        let wrong = |why: String| Failure::new(ErrorCode::InvalidArgument, why);
        while !requests.is_empty() {
            let len = self.parser.parse(requests).map_err(|error| wrong(error.to_string()))?;
            let len = len.ok_or_else(|| wrong("the last request is not whole".into()))?;
            let (request, rest) = requests.split_at_checked(len).unwrap_or((requests, &[]));
            let args = self.parser.args(request);
            if !args.is_empty() {
                let request = number();
                encode_kv(opcode::KV, request, out, |out| write_kv_args(args.iter(), out));
                self.asked.push_back(Asked { request, answer: Vec::new(), is_whole: false });
            }
            requests = rest;
        }
        Ok(())
    }

    /// The connection cannot go on, or not with this.
    pub(crate) fn fail(&mut self, failure: &Failure) {
        self.is_over = true;
        match failure.code {
            // Some faults are one call's alone: it was sent last, or is being answered.
            ErrorCode::InvalidArgument => self.session.fail_last(failure),
            ErrorCode::Limit => self.session.fail_first(failure),
            _ => self.session.fail(failure),
        }
    }
}

fn unasked(request: u32) -> Failure {
    Failure::protocol(format!("the server answered request {request} about keys, which nobody has asked"))
}

#[cfg(test)]
mod tests;
