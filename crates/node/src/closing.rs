//! How an object that has threads of its own is closed without JavaScript waiting.

use std::thread::{self, JoinHandle};

use crate::calls::{Outcome, Reply};

/// What is being closed, if anything is.
#[derive(Default)]
pub(crate) struct Closing(Option<JoinHandle<()>>);

impl Closing {
    /// Drops `what`, and answers when that is done. Closed twice, both are answered then.
    pub(crate) fn begin(&mut self, what: impl Send + 'static, reply: Reply) {
        let (earlier, on_closed) = (self.0.take(), reply.clone());
        let close = move || {
            drop(what);
            let _ = earlier.map(JoinHandle::join);
            on_closed.send(Ok(Outcome::Done));
        };
        match thread::Builder::new().name("xferd-close".into()).spawn(close) {
            Ok(thread) => self.0 = Some(thread),
            // It was closed by being dropped with the closure.
            Err(_) => reply.send(Ok(Outcome::Done)),
        }
    }

    /// Waits until it is closed.
    pub(crate) fn finish(&mut self) {
        // A panic in the thread has told so already.
        let _ = self.0.take().map(JoinHandle::join);
    }
}
