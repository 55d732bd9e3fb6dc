//! A server as Node sees it.

use std::sync::Arc;
use std::thread::{self, JoinHandle};

use napi::Env;
use napi_derive::napi;
use xferd_engine::Failure;
use xferd_server::{Config, Server};

use crate::calls::{Calls, Outcome, Wake, attempt};
use crate::kv_client::{self, OpenedKvClient};
use crate::options::{RawServerOptions, duration};
use crate::raw::{RawBackend, RawCompletion, RawError, RawKvMetrics, RawServerEvent, RawServerStats};

/// A server, or why there is none.
#[napi(object, object_from_js = false)]
#[allow(missing_docs)]
pub struct StartedServer {
    pub server: Option<NativeServer>,
    pub error: Option<RawError>,
}

/// Starts a server. Until it is closed it keeps Node alive.
#[napi]
pub fn start_server(env: Env, options: RawServerOptions, wake: Wake) -> StartedServer {
    match attempt(|| Server::start(Config::try_from(options)?)) {
        Ok(server) => {
            let calls = Calls::new(wake, true, &env);
            server.on_happening(calls.bell());
            let server = NativeServer { server: Arc::new(server), calls, closing: Vec::new() };
            StartedServer { server: Some(server), error: None }
        }
        Err(failure) => StartedServer { server: None, error: Some(failure.into()) },
    }
}

/// A running server. Collected, or left behind by an environment that ends, it stops at once.
#[napi]
pub struct NativeServer {
    server: Arc<Server>,
    calls: Calls,
    closing: Vec<JoinHandle<()>>,
}

#[napi]
impl NativeServer {
    /// Where it listens.
    #[napi]
    pub fn addresses(&self) -> Vec<String> {
        self.server.listening().iter().map(ToString::to_string).collect()
    }

    /// What waits for its sockets.
    #[napi]
    pub fn backend(&self) -> RawBackend {
        self.server.backend().into()
    }

    /// Counters since the start.
    #[napi]
    pub fn stats(&self) -> RawServerStats {
        self.server.stats().into()
    }

    /// What the key-value store tells of itself, if one is served.
    #[napi]
    pub fn kv_metrics(&self) -> Option<RawKvMetrics> {
        self.server.kv_metrics().map(RawKvMetrics::from)
    }

    /// A client of the server's keys, without a connection.
    #[napi]
    pub fn open_kv(&self, env: Env, wake: Wake) -> OpenedKvClient {
        kv_client::open_inside(&env, &self.server, wake)
    }

    /// What happened since the last call. If that is nothing, `wake` is called once something has.
    #[napi]
    pub fn events(&self) -> Vec<RawServerEvent> {
        self.server.happenings().into_iter().map(RawServerEvent::from).collect()
    }

    /// Stops, once what is under way has ended or `grace_ms` are over. A second call may shorten the grace of the first.
    #[napi]
    pub fn close(&mut self, env: Env, grace_ms: f64) -> i64 {
        let reply = self.calls.begin(&env);
        let id = reply.id();
        let (server, on_closed) = (self.server.clone(), reply.clone());
        let closing = duration("graceMs", grace_ms).and_then(|grace| {
            let closing = move || {
                server.drain(grace);
                on_closed.send(Ok(Outcome::Done));
            };
            let thread = thread::Builder::new().name("xferd-close".into()).spawn(closing);
            thread.map_err(|error| Failure::io("cannot start a thread to close the server", &error))
        });
        match closing {
            Ok(thread) => {
                self.closing.retain(|thread| !thread.is_finished());
                self.closing.push(thread);
                self.calls.hold(false, &env);
            }
            Err(failure) => reply.send(Err(failure)),
        }
        id
    }

    /// Takes the answers that have come.
    #[napi]
    pub fn drain(&mut self, env: Env) -> Vec<RawCompletion> {
        self.calls.drain(&env).into_iter().map(RawCompletion::from).collect()
    }

    /// Keeps Node alive while it listens.
    #[napi(js_name = "ref")]
    pub fn hold(&mut self, env: Env) {
        self.calls.hold(self.closing.is_empty(), &env);
    }

    /// Lets Node exit while it listens.
    #[napi(js_name = "unref")]
    pub fn release(&mut self, env: Env) {
        self.calls.hold(false, &env);
    }
}

impl Drop for NativeServer {
    fn drop(&mut self) {
        self.server.stop();
        for thread in self.closing.drain(..) {
            // Its answer was sent, or nobody waits for it any more.
            let _ = thread.join();
        }
    }
}
