//! A client of keys as Node sees it.

use std::collections::HashMap;
use std::sync::Arc;

use napi::Env;
use napi_derive::napi;
use xferd_client::{Client, KvCall, KvClient, KvConfig, KvCut, KvLine};
use xferd_engine::Failure;
use xferd_server::Server;
use xferd_wire::ErrorCode;

use crate::address;
use crate::calls::{Calls, Outcome, Reply, Wake, attempt};
use crate::closing::Closing;
use crate::kv_inside::{Inside, InsideLine};
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
    opened(&env, wake, || KvClient::open(address::parse_kv(&address)?, KvConfig::try_from(options)?))
}

/// A client of keys on the connections of one that moves files.
pub(crate) fn open_beside(
    env: &Env,
    files: Option<&Client>,
    options: RawKvClientOptions,
    wake: Wake,
) -> OpenedKvClient {
    opened(env, wake, || files.ok_or_else(closed)?.keys(KvConfig::try_from(options)?))
}

fn opened(env: &Env, wake: Wake, open: impl FnOnce() -> Result<KvClient, Failure>) -> OpenedKvClient {
    match attempt(open) {
        Ok(client) => {
            let backend = client.backend().into();
            let client = NativeKvClient::new(Keys::Remote(client), Calls::new(wake, false, env));
            OpenedKvClient { client: Some(client), backend: Some(backend), error: None }
        }
        Err(failure) => OpenedKvClient { client: None, backend: None, error: Some(failure.into()) },
    }
}

/// A client of the keys of `server`, without a connection.
pub(crate) fn open_inside(env: &Env, server: &Arc<Server>, wake: Wake) -> OpenedKvClient {
    let calls = Calls::new(wake, false, env);
    match attempt(|| Inside::open(server, calls.bell())) {
        Ok(inside) => {
            let client = NativeKvClient::new(Keys::Inside(inside), calls);
            OpenedKvClient { client: Some(client), backend: Some(server.backend().into()), error: None }
        }
        Err(failure) => OpenedKvClient { client: None, backend: None, error: Some(failure.into()) },
    }
}

/// Where keys are.
enum Keys {
    /// On a server that is connected to.
    Remote(KvClient),
    /// On one in this process.
    Inside(Inside),
}

enum Line {
    Remote(KvLine),
    Inside(InsideLine),
}

/// A call that is not over.
enum Live {
    Remote(KvCall),
    /// It is carried out, and to be answered when that is recorded.
    Inside(Reply),
}

/// A client of one server of keys. Collected, or left behind by an environment that ends, it ends everything at once.
#[napi]
pub struct NativeKvClient {
    /// `None` once it is being closed.
    keys: Option<Keys>,
    calls: Calls,
    live: HashMap<i64, Live>,
    /// Connections that are leased, by the calls that have leased them.
    lines: HashMap<i64, Line>,
    closing: Closing,
}

#[napi]
impl NativeKvClient {
    /// Sends requests together, by a leased connection or, if `line` is 0, by any; answered by their replies.
    #[napi]
    pub fn call(&mut self, env: Env, line: i64, requests: &[u8], count: u32) -> i64 {
        let reply = self.calls.begin(&env);
        let (id, count) = (reply.id(), count as usize);
        let on_end = |reply: Reply| {
            move |result: Result<Vec<u8>, KvCut>| {
                reply.send(Ok(match result {
                    Ok(replies) => Outcome::Replies(replies, None),
                    Err(KvCut { replies, failure }) => Outcome::Replies(replies, Some(failure)),
                }));
            }
        };
        let answer = reply.clone();
        let begun = match (line, &mut self.keys, self.lines.get(&line)) {
            (0, Some(Keys::Remote(client)), _) => {
                attempt(|| Ok(Live::Remote(client.call(requests.to_vec(), count, on_end(answer)))))
            }
            (0, Some(Keys::Inside(inside)), _) => attempt(|| {
                inside.call(requests, answer.clone());
                Ok(Live::Inside(answer))
            }),
            (0, None, _) => Err(closed()),
            (_, _, Some(Line::Remote(line))) => {
                attempt(|| Ok(Live::Remote(line.call(requests.to_vec(), count, on_end(answer)))))
            }
            (_, _, Some(Line::Inside(line))) => attempt(|| {
                line.call(requests, answer.clone());
                Ok(Live::Inside(answer))
            }),
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
        let answer = reply.clone();
        let leased = match &self.keys {
            Some(Keys::Remote(client)) => {
                attempt(|| Ok(Line::Remote(client.lease(answer.answer_with(|()| Outcome::Done)))))
            }
            Some(Keys::Inside(inside)) => attempt(|| {
                let line = inside.lease()?;
                answer.send(Ok(Outcome::Done));
                Ok(Line::Inside(line))
            }),
            None => Err(closed()),
        };
        match leased {
            Ok(line) => {
                self.lines.insert(id, line);
            }
            Err(failure) => reply.send(Err(failure)),
        }
        id
    }

    /// Fetches what has come unasked on a leased connection. One at a time.
    #[napi]
    pub fn next_pushes(&mut self, env: Env, line: i64) -> i64 {
        let reply = self.calls.begin(&env);
        let id = reply.id();
        match self.lines.get(&line) {
            Some(Line::Inside(line)) => line.next(reply),
            Some(Line::Remote(line)) => {
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
        match self.live.remove(&id) {
            Some(Live::Remote(call)) => call.withdraw(),
            Some(Live::Inside(reply)) => {
                reply.send(Err(Failure::new(ErrorCode::Aborted, "the call was taken back")));
            }
            None => {}
        }
    }

    /// Ends what is under way and closes all connections.
    #[napi]
    pub fn close(&mut self, env: Env) -> i64 {
        let reply = self.calls.begin(&env);
        let id = reply.id();
        self.lines.clear();
        self.closing.begin(self.keys.take(), reply);
        id
    }

    /// Takes the answers that have come.
    #[napi]
    pub fn drain(&mut self, env: Env) -> Vec<RawCompletion> {
        for line in self.lines.values() {
            if let Line::Inside(line) = line {
                line.look();
            }
        }
        let completions = self.calls.drain(&env);
        for completion in &completions {
            self.live.remove(&completion.id);
            if completion.result.is_err() {
                // One that could not be leased.
                self.lines.remove(&completion.id);
            }
        }
        completions.into_iter().map(RawCompletion::from).collect()
    }
}

impl NativeKvClient {
    fn new(keys: Keys, calls: Calls) -> Self {
        Self {
            keys: Some(keys),
            calls,
            live: HashMap::new(),
            lines: HashMap::new(),
            closing: Closing::default(),
        }
    }
}

impl Drop for NativeKvClient {
    fn drop(&mut self) {
        // Our thread ends before the queue does.
        self.lines.clear();
        self.keys = None;
        self.closing.finish();
    }
}

fn closed() -> Failure {
    Failure::new(ErrorCode::Aborted, "the client is closed; connect again")
}

fn line_is_over() -> Failure {
    Failure::new(ErrorCode::Aborted, "the connection was given back; lease another one")
}
