//! Requests on their way to a server, and what comes of them.

use std::borrow::Cow;
use std::mem;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Instant;

use xferd_engine::{Failure, lock};
use xferd_wire::ErrorCode;

use super::quota::{Admission, Quota};

/// A call that was not answered whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KvCut {
    /// The replies that came, whole ones, in the order of their requests.
    pub replies: Vec<u8>,
    /// Why the others did not.
    pub failure: Failure,
}

type OnEnd = Box<dyn FnOnce(Result<Vec<u8>, KvCut>) + Send>;

/// A call as the one who made it has it.
#[derive(Clone)]
pub struct KvCall(Arc<Duty>);

impl KvCall {
    /// Takes it back: it is answered with ABORTED at once, unless it has been answered. What was sent of it may be carried
    /// out all the same.
    pub fn withdraw(&self) {
        self.0.end(Err(nothing(Failure::new(ErrorCode::Aborted, "the call was taken back"))));
    }
}

/// To tell somebody what came of a call, once.
struct Duty {
    is_over: AtomicBool,
    on_end: Mutex<Option<OnEnd>>,
}

impl Duty {
    fn end(&self, result: Result<Vec<u8>, KvCut>) {
        let on_end = {
            let mut on_end = lock(&self.on_end);
            // Whoever sees that it is over, and spares itself the replies, must come too late to tell of them.
            self.is_over.store(true, Ordering::Relaxed);
            on_end.take()
        };
        if let Some(on_end) = on_end {
            on_end(result);
        }
    }
}

/// A call as a connection has it. Dropped before it was answered, it is answered with ABORTED.
pub(crate) struct Call {
    requests: Vec<u8>,
    count: usize,
    replies: Vec<u8>,
    came: usize,
    /// Until when it may wait for a connection.
    pub(crate) deadline: Instant,
    admission: Option<Admission>,
    duty: Arc<Duty>,
}

impl Call {
    /// `count` replies are expected to `requests`.
    pub(crate) fn new(
        requests: Vec<u8>,
        count: usize,
        deadline: Instant,
        on_end: impl FnOnce(Result<Vec<u8>, KvCut>) + Send + 'static,
    ) -> (Self, KvCall) {
        let on_end: OnEnd = Box::new(on_end);
        let duty = Arc::new(Duty { is_over: AtomicBool::new(false), on_end: Mutex::new(Some(on_end)) });
        let call = KvCall(duty.clone());
        (Self { requests, count, replies: Vec::new(), came: 0, deadline, admission: None, duty }, call)
    }

    /// One that nobody has made and that nobody hears of.
    pub(crate) fn of_our_own(requests: Vec<u8>, deadline: Instant) -> Self {
        let (call, handle) = Self::new(requests, 1, deadline, |_| {});
        handle.withdraw();
        call
    }

    /// The same, counted among those that are under way. If there is no room for it, it fails and is none.
    pub(crate) fn within(
        quota: &Quota,
        requests: Vec<u8>,
        count: usize,
        deadline: Instant,
        on_end: impl FnOnce(Result<Vec<u8>, KvCut>) + Send + 'static,
    ) -> (Option<Self>, KvCall) {
        let admission = quota.admit(requests.len());
        let (mut call, handle) = Self::new(requests, count, deadline, on_end);
        match admission {
            Ok(admission) => {
                call.admission = Some(admission);
                (Some(call), handle)
            }
            Err(failure) => {
                call.cut(&failure);
                (None, handle)
            }
        }
    }

    /// How much it keeps a connection busy.
    pub(crate) fn weight(&self) -> usize {
        self.count.max(1)
    }

    pub(crate) fn is_withdrawn(&self) -> bool {
        self.duty.is_over.load(Ordering::Relaxed)
    }

    /// Takes what is to be sent of it.
    pub(crate) fn send(&mut self) -> Vec<u8> {
        if let Some(admission) = &mut self.admission {
            admission.sent();
        }
        mem::take(&mut self.requests)
    }

    /// Takes the next reply; false if that makes more than `bytes_max` of replies.
    pub(crate) fn take(&mut self, reply: Cow<'_, [u8]>, bytes_max: usize) -> bool {
        self.came += 1;
        if self.is_withdrawn() {
            self.replies = Vec::new();
            return true;
        }
        if self.replies.len() + reply.len() > bytes_max {
            self.came -= 1;
            return false;
        }
        match reply {
            // A large one was put together in a place of its own.
            Cow::Owned(reply) if self.replies.is_empty() => self.replies = reply,
            reply => self.replies.extend_from_slice(&reply),
        }
        true
    }

    /// Whether all its replies are there.
    pub(crate) fn is_answered(&self) -> bool {
        self.came >= self.count
    }

    pub(crate) fn finish(mut self) {
        let replies = mem::take(&mut self.replies);
        self.end(Ok(replies));
    }

    /// The replies that are missing will not come.
    pub(crate) fn cut(mut self, failure: &Failure) {
        let replies = mem::take(&mut self.replies);
        self.end(Err(KvCut { replies, failure: failure.clone() }));
    }

    /// Makes room for another one before it tells so.
    fn end(&mut self, result: Result<Vec<u8>, KvCut>) {
        self.admission = None;
        self.duty.end(result);
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        self.end(Err(nothing(Failure::new(ErrorCode::Aborted, super::client::CLOSED))));
    }
}

fn nothing(failure: Failure) -> KvCut {
    KvCut { replies: Vec::new(), failure }
}

#[cfg(test)]
mod tests {
    use std::thread;
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_call_that_is_being_taken_back_keeps_its_replies_until_it_has_ended() {
        let (told, end) = std::sync::mpsc::channel();
        let on_end = move |result| told.send(result).unwrap_or_default();
        let (mut call, handle) = Call::new(Vec::new(), 1, xferd_os::clock::now(), on_end);
        thread::scope(|scope| {
            let not_yet = lock(&handle.0.on_end);
            scope.spawn(|| handle.withdraw());
            thread::sleep(Duration::from_millis(20));
            assert!(call.take(Cow::Borrowed(b"+OK\r\n"), 100));
            drop(not_yet);
            call.finish();
        });
        let end = end.recv();
        assert!(
            match &end {
                Ok(Ok(replies)) => replies == b"+OK\r\n",
                Ok(Err(cut)) => cut.failure.code == ErrorCode::Aborted,
                Err(_) => false,
            },
            "{end:?}"
        );
    }
}
