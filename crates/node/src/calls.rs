//! Calls of one object that wait for their answers, and the queue by which the answers come.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use napi::threadsafe_function::{ThreadsafeFunction, ThreadsafeFunctionCallMode};
use napi::{Env, Status};
use xferd_client::{Answer, Receipt};
use xferd_engine::{Failure, lock};
use xferd_wire::{Entry, ErrorCode};

/// Tells JavaScript that something is to be fetched. It takes and returns nothing. It begins as one that keeps Node alive: napi
/// takes one that begins weak for one that does already, and would not let it be told so later.
pub(crate) type Wake = ThreadsafeFunction<(), (), (), Status, false>;

/// What a call came to.
pub(crate) enum Outcome {
    Done,
    Entry(Entry),
    /// What a listing contains, and why some of it is missing, if it is.
    Entries(Vec<Entry>, Option<Failure>),
    Receipt(Receipt),
    /// The replies to what was sent together, and why some are missing, if they are.
    Replies(Vec<u8>, Option<Failure>),
    /// A stream is open. So many bytes will come, if it is for reading.
    Opened(Option<u64>),
    Chunk(Vec<u8>),
    /// A chunk was taken; the next may come.
    Taken,
    End,
}

impl From<Answer> for Outcome {
    fn from(answer: Answer) -> Self {
        match answer {
            Answer::Done => Self::Done,
            Answer::Entry(entry) => Self::Entry(entry),
            Answer::Entries(entries, missing) => Self::Entries(entries, missing),
        }
    }
}

/// One answer.
pub(crate) struct Completion {
    pub(crate) id: i64,
    /// The call that opened the stream this is about, or `id` itself.
    pub(crate) subject: i64,
    pub(crate) result: Result<Outcome, Failure>,
}

impl Completion {
    /// Whether the subject is over with it.
    pub(crate) fn is_last(&self) -> bool {
        !matches!(self.result, Ok(Outcome::Opened(_) | Outcome::Chunk(_) | Outcome::Taken))
    }
}

/// The calls of one object. It lives on the thread of JavaScript.
///
/// Node is kept alive while a call waits for its answer, and while [`Calls::hold`] says so.
pub(crate) struct Calls {
    last_id: i64,
    unanswered: usize,
    held: bool,
    queue: Arc<Queue>,
}

impl Calls {
    /// No calls yet. `wake` is called whenever there is something to fetch, and not again before [`Calls::drain`].
    pub(crate) fn new(wake: Wake, held: bool, env: &Env) -> Self {
        let state = State { completions: Vec::new(), is_rung: false, wake };
        let calls =
            Self { last_id: 0, unanswered: 0, held, queue: Arc::new(Queue { state: Mutex::new(state) }) };
        calls.keep_alive(env);
        calls
    }

    /// Begins a call.
    pub(crate) fn begin(&mut self, env: &Env) -> Reply {
        self.begin_about(self.last_id + 1, env)
    }

    /// Begins a call that is about the stream another call opened.
    pub(crate) fn begin_about(&mut self, subject: i64, env: &Env) -> Reply {
        self.last_id += 1;
        self.unanswered += 1;
        self.keep_alive(env);
        Reply(Arc::new(Duty {
            id: self.last_id,
            subject,
            answered: AtomicBool::new(false),
            queue: self.queue.clone(),
        }))
    }

    /// What has JavaScript fetch other things than answers, from any thread.
    pub(crate) fn bell(&self) -> impl Fn() + Send + Sync + 'static {
        let queue = self.queue.clone();
        move || lock(&queue.state).ring()
    }

    /// Takes the answers that have come.
    pub(crate) fn drain(&mut self, env: &Env) -> Vec<Completion> {
        let mut state = lock(&self.queue.state);
        state.is_rung = false;
        let completions = std::mem::take(&mut state.completions);
        drop(state);
        self.unanswered -= completions.len();
        self.keep_alive(env);
        completions
    }

    /// Whether Node is kept alive even if no call waits.
    pub(crate) fn hold(&mut self, held: bool, env: &Env) {
        self.held = held;
        self.keep_alive(env);
    }

    fn keep_alive(&self, env: &Env) {
        let wake = &mut lock(&self.queue.state).wake;
        // Deprecated as a way to count owners. It is the only one to have Node wait for this function, or not.
        #[allow(deprecated)]
        let told = if self.held || self.unanswered > 0 { wake.refer(env) } else { wake.unref(env) };
        // It fails only while the environment ends, and then nothing is kept alive.
        let _ = told;
    }
}

/// The way to answer one call, from any thread. The first answer counts; if there is none, the call fails with INTERNAL
/// as soon as nobody is left who could answer it.
#[derive(Clone)]
pub(crate) struct Reply(Arc<Duty>);

struct Duty {
    id: i64,
    subject: i64,
    answered: AtomicBool,
    queue: Arc<Queue>,
}

impl Reply {
    pub(crate) fn id(&self) -> i64 {
        self.0.id
    }

    pub(crate) fn send(&self, result: Result<Outcome, Failure>) {
        self.0.answer(result);
    }

    /// A callback that answers, with what `outcome` makes of a success.
    pub(crate) fn answer_with<T>(
        self,
        outcome: impl FnOnce(T) -> Outcome + Send + 'static,
    ) -> impl FnOnce(Result<T, Failure>) + Send + 'static {
        move |result| self.send(result.map(outcome))
    }
}

impl Duty {
    fn answer(&self, result: Result<Outcome, Failure>) {
        if !self.answered.swap(true, Ordering::Relaxed) {
            self.queue.push(Completion { id: self.id, subject: self.subject, result });
        }
    }
}

impl Drop for Duty {
    fn drop(&mut self) {
        self.answer(Err(Failure::new(ErrorCode::Internal, "the call was dropped without an answer")));
    }
}

/// Completions on their way to JavaScript, at most one for each call that waits.
struct Queue {
    state: Mutex<State>,
}

struct State {
    completions: Vec<Completion>,
    /// JavaScript was told, and has not drained since: so at most one call waits in Node's queue, whatever happens here.
    is_rung: bool,
    wake: Wake,
}

impl State {
    fn ring(&mut self) {
        if !std::mem::replace(&mut self.is_rung, true) {
            // Never waits. It fails only while the environment ends, and then nobody wants to know any more.
            self.wake.call((), ThreadsafeFunctionCallMode::NonBlocking);
        }
    }
}

impl Queue {
    fn push(&self, completion: Completion) {
        let mut state = lock(&self.state);
        state.completions.push(completion);
        state.ring();
    }
}

/// Does something, and makes a panic a failure: unwinding into Node would abort the process.
pub(crate) fn attempt<T>(act: impl FnOnce() -> Result<T, Failure>) -> Result<T, Failure> {
    catch_unwind(AssertUnwindSafe(act)).unwrap_or_else(|panic| {
        let reason = panic.downcast_ref::<&str>().copied();
        let reason = reason.or_else(|| panic.downcast_ref::<String>().map(String::as_str));
        let message =
            format!("a mistake in xferd, please report it: {}", reason.unwrap_or("a panic without a reason"));
        Err(Failure::new(ErrorCode::Internal, message))
    })
}
