//! A client of keys as Node sees it.

use std::collections::HashMap;
use std::thread::{self, JoinHandle};

use napi::Env;
use napi_derive::napi;
use xferd_client::{KvCall, KvClient, KvConfig, KvCut, KvLine};
use xferd_engine::Failure;
use xferd_wire::ErrorCode;

use crate::address;
use crate::calls::{Calls, Outcome, Wake, attempt};
use crate::options::RawKvClientOptions;
use crate::raw::{RawBackend, RawCompletion, RawError};

/// A client of keys, or why there is none.
#[napi(object, object_from_js = false)]
#[allow(missing_docs)]
pub struct OpenedKvClient {
    pub client: Option<NativeKvClient>,
    pub backend: Option<RawBackend>,
    pub error: Option<RawError>,
}

/// Opens a client of the keys at `address`, and connects nothing yet.
#[napi]
pub fn open_kv_client(env: Env, address: String, options: RawKvClientOptions, wake: Wake) -> OpenedKvClient {
    match attempt(|| KvClient::open(address::parse_kv(&address)?, KvConfig::try_from(options)?)) {
        Ok(client) => {
            let backend = client.backend().into();
            let client = NativeKvClient {
                client: Some(client),
                calls: Calls::new(wake, false, &env),
                live: HashMap::new(),
                lines: HashMap::new(),
                closing: None,
            };
            OpenedKvClient { client: Some(client), backend: Some(backend), error: None }
        }
        Err(failure) => OpenedKvClient { client: None, backend: None, error: Some(failure.into()) },
    }
}

/// A client of one server of keys. Collected, or left behind by an environment that ends, it ends everything at once.
#[napi]
pub struct NativeKvClient {
    /// `None` once it is being closed.
    client: Option<KvClient>,
    calls: Calls,
    /// Calls that are not over.
    live: HashMap<i64, KvCall>,
    /// Connections that are leased, by the calls that have leased them.
    lines: HashMap<i64, KvLine>,
    closing: Option<JoinHandle<()>>,
}

#[napi]
impl NativeKvClient {
    /// Sends requests together, by a leased connection or, if `line` is 0, by any; answered by their replies.
    #[napi]
    pub fn call(&mut self, env: Env, line: i64, requests: &[u8], count: u32) -> i64 {
        let reply = self.calls.begin(&env);
        let id = reply.id();
        let on_end = {
            let reply = reply.clone();
            move |result: Result<Vec<u8>, KvCut>| {
                reply.send(Ok(match result {
                    Ok(replies) => Outcome::Replies(replies, None),
                    Err(KvCut { replies, failure }) => Outcome::Replies(replies, Some(failure)),
                }));
            }
        };
        let (requests, count) = (requests.to_vec(), count as usize);
        let begun = match (line, &self.client, self.lines.get(&line)) {
            (0, Some(client), _) => attempt(|| Ok(client.call(requests, count, on_end))),
            (0, None, _) => Err(Failure::new(ErrorCode::Aborted, "the client is closed; connect again")),
            (_, _, Some(line)) => attempt(|| Ok(line.call(requests, count, on_end))),
            (_, _, None) => Err(line_is_over()),
        };
        match begun {
            Ok(call) => {
                self.live.insert(id, call);
            }
            Err(failure) => reply.send(Err(failure)),
        }
        id
    }

    /// Takes a connection for what has state; the number is that of the line, too.
    #[napi]
    pub fn lease(&mut self, env: Env) -> i64 {
        let reply = self.calls.begin(&env);
        let id = reply.id();
        match &self.client {
            Some(client) => match attempt(|| Ok(client.lease(reply.clone().answer_with(|()| Outcome::Done))))
            {
                Ok(line) => {
                    self.lines.insert(id, line);
                }
                Err(failure) => reply.send(Err(failure)),
            },
            None => reply.send(Err(Failure::new(ErrorCode::Aborted, "the client is closed; connect again"))),
        }
        id
    }

    /// Fetches what has come unasked on a leased connection. One at a time.
    #[napi]
    pub fn next_pushes(&mut self, env: Env, line: i64) -> i64 {
        let reply = self.calls.begin(&env);
        let id = reply.id();
        match self.lines.get(&line) {
            Some(line) => {
                let outcome = |pushes: Option<Vec<u8>>| pushes.map_or(Outcome::End, Outcome::Chunk);
                line.next(reply.answer_with(outcome));
            }
            None => reply.send(Ok(Outcome::End)),
        }
        id
    }

    /// Gives a leased connection back.
    #[napi]
    pub fn close_line(&mut self, line: i64) {
        self.lines.remove(&line);
    }

    /// Ends a call early. It is answered with ABORTED; one that leases a connection gives it back.
    #[napi]
    pub fn cancel(&mut self, id: i64) {
        self.lines.remove(&id);
        if let Some(call) = self.live.remove(&id) {
            call.withdraw();
        }
    }

    /// Ends what is under way and closes all connections.
    #[napi]
    pub fn close(&mut self, env: Env) -> i64 {
        let reply = self.calls.begin(&env);
        let id = reply.id();
        self.lines.clear();
        let (client, earlier, on_closed) = (self.client.take(), self.closing.take(), reply.clone());
        let closing = move || {
            drop(client);
            // Closed twice: both are answered when it is.
            let _ = earlier.map(JoinHandle::join);
            on_closed.send(Ok(Outcome::Done));
        };
        match thread::Builder::new().name("xferd-close".into()).spawn(closing) {
            Ok(thread) => self.closing = Some(thread),
            // The client was closed by being dropped with the closure.
            Err(_) => reply.send(Ok(Outcome::Done)),
        }
        id
    }

    /// Takes the answers that have come.
    #[napi]
    pub fn drain(&mut self, env: Env) -> Vec<RawCompletion> {
        let completions = self.calls.drain(&env);
        for completion in &completions {
            self.live.remove(&completion.id);
        }
        completions.into_iter().map(RawCompletion::from).collect()
    }
}

impl Drop for NativeKvClient {
    fn drop(&mut self) {
        // Our thread ends before the queue does; a panic in it has told so already.
        self.lines.clear();
        self.client = None;
        let _ = self.closing.take().map(JoinHandle::join);
    }
}

fn line_is_over() -> Failure {
    Failure::new(ErrorCode::Aborted, "the connection was given back; lease another one")
}
