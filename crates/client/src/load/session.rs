//! One connection that generates load.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use xferd_engine::{Effects, End, Event, Failure, Reachable, Session};
use xferd_wire::ErrorCode;
use xferd_wire::resp::encode_request;

use super::keys::Next;
use super::replies::{Replies, Said};
use super::requests::{Expected, Ready};
use super::run::{Run, Stage};
use super::{BATCH_BYTES_MAX, Until};
use crate::unreachable::{SERVE_KEYS, unreachable};

/// Keys that a connection fills, or removes, at a time.
const KEYS_AT_ONCE: usize = 64;

/// Bytes of an error that are shown.
const SHOWN_BYTES_MAX: usize = 200;

pub(super) struct LoadSession {
    index: usize,
    run: Arc<Run>,
    is_connected: bool,
    /// The number of the stage it is at, and whether it is through with it.
    entered: u64,
    is_finished: bool,
    next: Next,
    /// What was asked and not answered, the oldest first.
    asked: VecDeque<Asked>,
    replies: Replies,
    /// Requests of this stage that were sent, if they are sent at a rate.
    sent: u64,
}

struct Asked {
    /// When, or when it should have been, in nanoseconds since the run began.
    at: u64,
    expected: Expected,
}

type Fx = Effects<Infallible>;

impl LoadSession {
    pub(super) fn new(index: usize, run: Arc<Run>) -> Self {
        Self {
            index,
            is_connected: false,
            entered: 0,
            is_finished: false,
            next: run.keys.begin(index, run.load.connections),
            asked: VecDeque::new(),
            replies: Replies::default(),
            sent: 0,
            run,
        }
    }

    /// Does what is to be done in this stage.
    fn go_on(&mut self, now: u64, effects: &mut Fx) {
        let (entered, stage) = self.run.stage();
        let is_new = entered != self.entered;
        if is_new {
            (self.entered, self.is_finished) = (entered, false);
        }
        if self.is_finished {
            return;
        }
        match stage {
            Stage::Connect | Stage::Over => {}
            Stage::Fill => self.work_through(now, effects, |run| run.requests.fill()),
            Stage::Clean => self.work_through(now, effects, |run| run.requests.clean()),
            Stage::WarmUp | Stage::Measured => {
                if is_new {
                    self.sent = 0;
                }
                let is_through = match self.run.load.rate {
                    Some(rate) => self.ask_what_is_due(stage, rate, now, effects),
                    None => self.ask(stage, now, effects),
                };
                if !is_through {
                    return;
                }
            }
            Stage::Rest => {
                if let (true, Some(rate)) = (is_new, self.run.load.rate) {
                    self.give_up_the_rest(rate, now, effects);
                }
            }
        }
        if self.is_connected && self.asked.is_empty() {
            self.is_finished = true;
            self.run.finish(entered);
        }
    }

    /// Does something to the next keys that nobody has taken.
    fn work_through(&mut self, now: u64, effects: &mut Fx, ready: impl FnOnce(&Run) -> Option<&Ready>) {
        let run = &*self.run;
        let Some(ready) = ready(run) else { return };
        if !self.asked.is_empty() {
            return;
        }
        let at_once = (BATCH_BYTES_MAX / ready.len()).clamp(1, KEYS_AT_ONCE);
        let (first, count) = run.take(at_once as u64, run.keys.count().into());
        if count == 0 {
            return;
        }
        let asked = &mut self.asked;
        effects.send_encoded(|out| {
            for key in first..first + count {
                let expected = ready.write(u32::try_from(key).unwrap_or_default(), out);
                asked.push_back(Asked { at: now, expected });
            }
        });
    }

    /// Asks again once all was answered. Whether nothing is left to be asked.
    fn ask(&mut self, stage: Stage, now: u64, effects: &mut Fx) -> bool {
        if !self.asked.is_empty() {
            return false;
        }
        let pipeline = self.run.load.pipeline as u64;
        let count = match self.run.load.until {
            Until::Requests(all) if stage == Stage::Measured => self.run.take(pipeline, all).1,
            _ => pipeline,
        };
        self.send(count, |_| now, effects);
        count == 0
    }

    /// Asks as much of what is due as may be on its way. Whether nothing is left to be asked.
    fn ask_what_is_due(&mut self, stage: Stage, rate: u64, now: u64, effects: &mut Fx) -> bool {
        let schedule = self.schedule(rate);
        let all = match self.run.load.until {
            Until::Requests(all) if stage == Stage::Measured => schedule.share_of(all),
            Until::Requests(_) => u64::MAX,
            Until::Time(time) => schedule.due_within(time),
        };
        self.send_due(schedule, schedule.due(now).min(all), effects);
        self.sent >= all
    }

    /// Asks what it did not know of to be due, and counts what it did not come to.
    fn give_up_the_rest(&mut self, rate: u64, now: u64, effects: &mut Fx) {
        let Until::Time(time) = self.run.load.until else { return };
        let schedule = self.schedule(rate);
        let due = schedule.due(now).min(schedule.due_within(time));
        self.send_due(schedule, due, effects);
        let unsent = due.saturating_sub(self.sent);
        let mut tally = self.run.tally(self.index);
        tally.unsent += unsent;
        // There may be millions; a thousand of them stand for all.
        let step = unsent.div_ceil(1000).max(1);
        for number in (self.sent..self.sent + unsent).step_by(usize::try_from(step).unwrap_or(usize::MAX)) {
            let times = step.min(self.sent + unsent - number);
            tally.record(now.saturating_sub(schedule.at(number)), times);
        }
    }

    fn send_due(&mut self, schedule: Schedule, due: u64, effects: &mut Fx) {
        let free = (self.run.load.pipeline - self.asked.len().min(self.run.load.pipeline)) as u64;
        let sent = self.sent;
        let count = due.saturating_sub(sent).min(free);
        self.send(count, |number| schedule.at(sent + number), effects);
        self.sent += count;
    }

    fn send(&mut self, count: u64, at: impl Fn(u64) -> u64, effects: &mut Fx) {
        if count == 0 {
            return;
        }
        let (run, next, asked) = (&*self.run, &mut self.next, &mut self.asked);
        effects.send_encoded(|out| {
            out.reserve(usize::try_from(count).unwrap_or_default() * run.requests.bytes());
            for number in 0..count {
                let expected = run.requests.write(&run.keys, next, out);
                asked.push_back(Asked { at: at(number), expected });
            }
        });
    }

    fn schedule(&self, rate: u64) -> Schedule {
        Schedule {
            began: self.run.stage_began(),
            interval: 1e9 / rate as f64,
            index: self.index as u64,
            connections: self.run.load.connections as u64,
        }
    }

    /// Counts what was answered. What is left of `bytes` if it was no answer.
    fn hear(&mut self, mut bytes: &[u8], now: u64) -> Result<(), Failure> {
        let run = &*self.run;
        let mut tally = run.tally(self.index);
        // Most often all were asked at the same time.
        let (mut at, mut times) = (now, 0);
        while !bytes.is_empty() {
            let Some(asked) = self.asked.front() else {
                return Err(Failure::protocol(format!("{}: {}", run.load.address, shown(bytes))));
            };
            let Some(said) = self.replies.next(asked.expected, &run.value, &mut bytes)? else { break };
            if asked.at != at {
                if times > 0 {
                    tally.record(now.saturating_sub(at), times);
                }
                (at, times) = (asked.at, 0);
            }
            times += 1;
            self.asked.pop_front();
            tally.requests += 1;
            match said {
                Said::Right => {}
                Said::Missing => tally.misses += 1,
                Said::Wrong(reply) => {
                    if !matches!(run.stage().1, Stage::WarmUp | Stage::Measured | Stage::Rest) {
                        return Err(refused(&run.load.address.to_string(), &reply));
                    }
                    tally.errors += 1;
                    tally.first_error.get_or_insert_with(|| shown(&reply));
                }
            }
        }
        if times > 0 {
            tally.record(now.saturating_sub(at), times);
            tally.last = now;
        }
        Ok(())
    }

    fn fail(&mut self, failure: Failure, effects: &mut Fx) {
        self.run.fail(failure);
        effects.abort();
    }
}

impl Session for LoadSession {
    type Outcome = Infallible;
    type Command = ();

    fn on_reachable(&mut self, place: &Reachable<'_>) {
        if self.run.load.rate.is_some() {
            self.run.note_place(self.index, place.reach());
        }
    }

    fn on_bytes(&mut self, bytes: &[u8], effects: &mut Fx) -> usize {
        let now = self.run.now();
        match self.hear(bytes, now) {
            Ok(()) => self.go_on(now, effects),
            Err(failure) => self.fail(failure, effects),
        }
        bytes.len()
    }

    fn on_event(&mut self, event: Event<Infallible, ()>, effects: &mut Fx) {
        let now = self.run.now();
        match event {
            Event::Connected => {
                self.is_connected = true;
                if let Some(password) = &self.run.load.password {
                    effects.send_encoded(|out| encode_request(["AUTH", password], out));
                    self.asked.push_back(Asked { at: now, expected: Expected::Ok });
                }
                self.go_on(now, effects);
            }
            Event::Nudged if self.is_connected => self.go_on(now, effects),
            Event::Stalled if !self.is_connected || !self.asked.is_empty() => {
                let (address, seconds) = (&self.run.load.address, self.run.load.patience.as_secs_f64());
                let message = format!("{address}: nothing was heard for {seconds} s");
                self.fail(Failure::new(ErrorCode::Timeout, message), effects);
            }
            Event::Closed(end) => {
                let address = self.run.load.address.to_string();
                self.run.fail(match end {
                    End::Broken(error) if !self.is_connected => {
                        unreachable(&self.run.load.address.url("kv"), SERVE_KEYS, &error)
                    }
                    End::Broken(error) => Failure::io(&address, &error),
                    End::Closed | End::Stopped => {
                        let message = format!("{address}: the server has closed a connection");
                        Failure::new(ErrorCode::ConnectionLost, message)
                    }
                });
            }
            _ => {}
        }
    }

    fn wants_bytes(&self) -> bool {
        true
    }

    fn is_idle(&self) -> bool {
        false
    }

    fn patience(&self) -> Duration {
        if self.is_connected && self.asked.is_empty() { Duration::MAX } else { self.run.load.patience }
    }
}

/// When the requests of one connection are due: those of all take turns.
#[derive(Clone, Copy)]
struct Schedule {
    began: u64,
    /// Nanoseconds between two requests of all connections.
    interval: f64,
    index: u64,
    connections: u64,
}

impl Schedule {
    /// When the request with this number is.
    fn at(self, number: u64) -> u64 {
        let before = self.index + number * self.connections;
        self.began + (before as f64 * self.interval) as u64
    }

    /// How many are until then.
    fn due(self, now: u64) -> u64 {
        let of_all = (now.saturating_sub(self.began) as f64 / self.interval) as u64 + 1;
        self.share_of(of_all)
    }

    /// How many are in so much time from the beginning.
    fn due_within(self, time: Duration) -> u64 {
        self.due(self.began + (time.as_nanos() as u64).saturating_sub(1))
    }

    /// How many of so many requests are its own.
    fn share_of(self, all: u64) -> u64 {
        all.saturating_sub(self.index).div_ceil(self.connections)
    }
}

fn refused(address: &str, reply: &[u8]) -> Failure {
    let is_about_who =
        [&b"-NOAUTH"[..], b"-WRONGPASS", b"-NOPERM"].iter().any(|kind| reply.starts_with(kind));
    let code = if is_about_who { ErrorCode::Permission } else { ErrorCode::Io };
    Failure::new(code, format!("{address}: {}", shown(reply)))
}

/// The beginning of what was said.
fn shown(reply: &[u8]) -> String {
    let line = reply.split(|&byte| byte == b'\r').next().unwrap_or_default();
    let line = line.strip_prefix(b"-").unwrap_or(line);
    String::from_utf8_lossy(line.get(..SHOWN_BYTES_MAX).unwrap_or(line)).into_owned()
}
