//! One question and its answer: stat, list, remove, rename, make a directory, ping.

use xferd_engine::Failure;
use xferd_wire::{Entry, ErrorCode, Frame};

use crate::session::CLIENT_CLOSED;
use crate::task::{Channel, Course, Task, TaskEvent, unexpected};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Entries of one listing: past it the caller is asked to list parts. At about 200 bytes each this is 400 MB.
pub const LISTED_ENTRIES_MAX: usize = 2_000_000;

/// What a server answered.
#[derive(Clone, Debug, PartialEq)]
pub enum Answer {
    /// It is done.
    Done,
    /// The entry that was asked for.
    Entry(Entry),
    /// What a directory contains, and why some of it had to be left out, if it had.
    Entries(Vec<Entry>, Option<Failure>),
}

pub(crate) type OnAnswer = Box<dyn FnOnce(Result<Answer, Failure>) + Send>;

/// Lets a caller take a question back.
#[derive(Clone, Debug, Default)]
pub struct Withdrawal(Arc<AtomicBool>);

impl Withdrawal {
    /// Takes the question back: it is answered with ABORTED, unless it has been answered. [`crate::Client::nudge`] makes it
    /// heard.
    pub(crate) fn withdraw(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    pub(crate) fn is_withdrawn(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

pub(crate) struct Ask {
    question: Frame,
    request: u32,
    entries: Vec<Entry>,
    withdrawal: Withdrawal,
    on_answer: Option<OnAnswer>,
}

impl Ask {
    pub(crate) fn new(question: Frame, withdrawal: Withdrawal, on_answer: OnAnswer) -> Self {
        Self { question, request: 0, entries: Vec::new(), withdrawal, on_answer: Some(on_answer) }
    }

    fn answer(&mut self, answer: Result<Answer, Failure>) -> Result<Course, Failure> {
        if let Some(on_answer) = self.on_answer.take() {
            on_answer(answer);
        }
        Ok(Course::Finished)
    }
}

impl Task for Ask {
    fn start(&mut self, channel: &mut Channel<'_>) -> Result<Course, Failure> {
        if matches!(self.question, Frame::Ping(_)) {
            // A ping is about the connection, whose number is 0.
            channel.effects.send(self.request, &self.question);
        } else {
            self.request = channel.request(&self.question);
        }
        Ok(Course::Running)
    }

    fn on_frame(&mut self, request: u32, frame: Frame, _: &mut Channel<'_>) -> Result<Course, Failure> {
        if request != self.request {
            return Err(unexpected(&frame));
        }
        match frame {
            Frame::Done if matches!(self.question, Frame::List(_)) => {
                let entries = std::mem::take(&mut self.entries);
                self.answer(Ok(Answer::Entries(entries, None)))
            }
            Frame::Done | Frame::Pong(_) => self.answer(Ok(Answer::Done)),
            Frame::Entry(entry) => self.answer(Ok(Answer::Entry(entry))),
            Frame::Error(reply) if reply.code == ErrorCode::Partial => {
                let entries = std::mem::take(&mut self.entries);
                self.answer(Ok(Answer::Entries(entries, Some(reply.into()))))
            }
            Frame::Error(reply) => self.answer(Err(reply.into())),
            Frame::Entries(entries) if matches!(self.question, Frame::List(_)) => {
                self.entries.extend(entries);
                if self.entries.len() > LISTED_ENTRIES_MAX {
                    let message = format!(
                        "more than {LISTED_ENTRIES_MAX} entries; take the directories in it one by one"
                    );
                    return Err(Failure::new(ErrorCode::Limit, message));
                }
                Ok(Course::Running)
            }
            other => Err(unexpected(&other)),
        }
    }

    fn on_event(&mut self, _: TaskEvent, _: &mut Channel<'_>) -> Result<Course, Failure> {
        Ok(Course::Running)
    }

    fn is_cancelled(&self) -> bool {
        self.withdrawal.is_withdrawn()
    }

    fn fail(&mut self, failure: Failure) {
        let _ = self.answer(Err(failure));
    }
}

impl Drop for Ask {
    fn drop(&mut self) {
        self.fail(Failure::new(ErrorCode::Aborted, CLIENT_CLOSED));
    }
}
