//! A client as Node sees it.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Instant;

use napi::Env;
use napi_derive::napi;
use xferd_client::{Client, Config, Job, Reader, Receipt, Withdrawal, Writer, Written};
use xferd_engine::Failure;
use xferd_wire::{ErrorCode, Frame, List, MakeDir, Remove, Rename};

use crate::address;
use crate::calls::{Calls, Outcome, Reply, Wake, attempt};
use crate::closing::Closing;
use crate::kv_client::{self, OpenedKvClient};
use crate::options::{RawClientOptions, RawKvClientOptions, RawTransferOptions, RawWriteOptions, remote};
use crate::raw::{RawBackend, RawCompletion, RawError, RawProgress};

/// A client, or why there is none.
#[napi(object, object_from_js = false)]
#[allow(missing_docs)]
pub struct OpenedClient {
    pub client: Option<NativeClient>,
    pub backend: Option<RawBackend>,
    pub error: Option<RawError>,
}

/// Opens a client of the server at `address`, and connects nothing yet.
#[napi]
pub fn open_client(env: Env, address: String, options: RawClientOptions, wake: Wake) -> OpenedClient {
    match attempt(|| Client::open(address::parse(&address)?, Config::try_from(options)?)) {
        Ok(client) => {
            let backend = client.backend().into();
            let client = NativeClient {
                client: Some(client),
                calls: Calls::new(wake, false, &env),
                live: HashMap::new(),
                closing: Closing::default(),
            };
            OpenedClient { client: Some(client), backend: Some(backend), error: None }
        }
        Err(failure) => OpenedClient { client: None, backend: None, error: Some(failure.into()) },
    }
}

/// A client of one server. Collected, or left behind by an environment that ends, it ends everything at once.
#[napi]
pub struct NativeClient {
    /// `None` once it is being closed.
    client: Option<Client>,
    calls: Calls,
    live: HashMap<i64, Live>,
    closing: Closing,
}

/// What a call that is not over can be asked for.
enum Live {
    Question(Withdrawal),
    Transfer(Arc<Job>),
    Reading(Reader),
    /// Begun with its first bytes.
    Writing {
        writer: Writer,
        begun: Option<Instant>,
    },
}

#[napi]
impl NativeClient {
    /// Sees whether the server is there and speaks our language.
    #[napi]
    pub fn connect(&mut self, env: Env) -> i64 {
        self.begin(&env, |client, reply| {
            Ok(Live::Question(client.ping(reply.answer_with(|()| Outcome::Done))))
        })
    }

    /// A client of the server's keys on the same connections.
    #[napi]
    pub fn open_kv(&self, env: Env, options: RawKvClientOptions, wake: Wake) -> OpenedKvClient {
        kv_client::open_beside(&env, self.client.as_ref(), options, wake)
    }

    /// Pushes files and trees; answered by a receipt.
    #[napi]
    pub fn push(
        &mut self,
        env: Env,
        sources: Vec<String>,
        target: String,
        target_is_directory: bool,
        options: RawTransferOptions,
    ) -> i64 {
        self.begin(&env, |client, reply| {
            let spec = options.push(sources, &target, target_is_directory)?;
            client.push(spec, reply.answer_with(Outcome::Receipt)).map(Live::Transfer)
        })
    }

    /// Pulls files and trees; answered by a receipt.
    #[napi]
    pub fn pull(
        &mut self,
        env: Env,
        paths: Vec<String>,
        destination: String,
        options: RawTransferOptions,
    ) -> i64 {
        self.begin(&env, |client, reply| {
            let spec = options.pull(&paths, destination)?;
            client.pull(spec, reply.answer_with(Outcome::Receipt)).map(Live::Transfer)
        })
    }

    /// How far a push or pull has come, while it is under way.
    #[napi]
    pub fn progress(&self, id: i64) -> Option<RawProgress> {
        match self.live.get(&id) {
            Some(Live::Transfer(job)) => Some(job.progress().into()),
            _ => None,
        }
    }

    /// Ends a call or a stream early. Whatever of it waits for an answer is answered with ABORTED.
    #[napi]
    pub fn cancel(&mut self, id: i64) {
        match self.live.get(&id) {
            None => return,
            Some(Live::Question(withdrawal)) => {
                if let Some(client) = &self.client {
                    client.withdraw(withdrawal);
                }
                return;
            }
            Some(Live::Transfer(job)) => return job.cancel(),
            Some(Live::Reading(reader)) => reader.cancel(),
            Some(Live::Writing { writer, .. }) => writer.cancel(),
        }
        // A stream may have no call under way that could tell its end.
        self.live.remove(&id);
    }

    /// What a directory contains.
    #[napi]
    pub fn list(&mut self, env: Env, path: String, recursive: bool) -> i64 {
        self.ask(&env, || Ok(Frame::List(List { path: remote(&path)?, recursive })))
    }

    /// What there is under a name.
    #[napi]
    pub fn stat(&mut self, env: Env, path: String) -> i64 {
        self.ask(&env, || Ok(Frame::Stat(remote(&path)?)))
    }

    /// Removes a file, a link or a directory.
    #[napi]
    pub fn remove(&mut self, env: Env, path: String, recursive: bool) -> i64 {
        self.ask(&env, || Ok(Frame::Remove(Remove { path: remote(&path)?, recursive })))
    }

    /// Moves a file, a link or a directory.
    #[napi]
    pub fn rename(&mut self, env: Env, from: String, to: String) -> i64 {
        self.ask(&env, || Ok(Frame::Rename(Rename { from: remote(&from)?, to: remote(&to)? })))
    }

    /// Makes a directory and those above it.
    #[napi]
    pub fn make_dir(&mut self, env: Env, path: String) -> i64 {
        self.ask(&env, || {
            Ok(Frame::MakeDir(MakeDir { path: remote(&path)?, mode: DIRECTORY_MODE, parents: true }))
        })
    }

    /// Opens `[start, end)` of a file for reading; -1 is its end. The number is that of the stream, too.
    #[napi]
    pub fn open_read(&mut self, env: Env, path: String, start: i64, end: i64) -> i64 {
        self.begin(&env, |client, reply| {
            let path = remote(&path)?;
            let (start, end) = range(start, end)?;
            let on_open = reply.answer_with(|bytes| Outcome::Opened(Some(bytes)));
            Ok(Live::Reading(client.read(path, start, end, on_open)))
        })
    }

    /// Reads on. One at a time.
    #[napi]
    pub fn read_chunk(&mut self, env: Env, stream: i64) -> i64 {
        let reply = self.calls.begin_about(stream, &env);
        let id = reply.id();
        match self.live.get(&stream) {
            Some(Live::Reading(reader)) => {
                let outcome = |chunk: Option<Vec<u8>>| chunk.map_or(Outcome::End, Outcome::Chunk);
                reader.next_chunk(Box::new(reply.answer_with(outcome)));
            }
            _ => reply.send(Err(stream_is_over())),
        }
        id
    }

    /// Opens a file for writing. The number is that of the stream, too.
    #[napi]
    pub fn open_write(&mut self, env: Env, path: String, options: RawWriteOptions) -> i64 {
        self.begin(&env, |client, reply| {
            let on_open = reply.answer_with(|()| Outcome::Opened(None));
            Ok(Live::Writing { writer: client.write(options.write(&path)?, on_open), begun: None })
        })
    }

    /// Writes on. One at a time.
    #[napi]
    pub fn write_chunk(&mut self, env: Env, stream: i64, data: &[u8]) -> i64 {
        let reply = self.calls.begin_about(stream, &env);
        let id = reply.id();
        match self.live.get_mut(&stream) {
            Some(Live::Writing { writer, begun }) => {
                begun.get_or_insert_with(Instant::now);
                writer.write(data.to_vec(), Box::new(reply.answer_with(|()| Outcome::Taken)));
            }
            _ => reply.send(Err(stream_is_over())),
        }
        id
    }

    /// Ends what was written; answered by a receipt once it is stored.
    #[napi]
    pub fn finish_write(&mut self, env: Env, stream: i64) -> i64 {
        let reply = self.calls.begin_about(stream, &env);
        let id = reply.id();
        match self.live.get(&stream) {
            Some(Live::Writing { writer, begun }) => {
                let begun = *begun;
                writer.finish(Box::new(reply.answer_with(move |written| receipt(written, begun))));
            }
            _ => reply.send(Err(stream_is_over())),
        }
        id
    }

    /// Ends what is under way and closes all connections.
    #[napi]
    pub fn close(&mut self, env: Env) -> i64 {
        let reply = self.calls.begin(&env);
        let id = reply.id();
        self.closing.begin(self.client.take(), reply);
        id
    }

    /// Takes the answers that have come.
    #[napi]
    pub fn drain(&mut self, env: Env) -> Vec<RawCompletion> {
        let completions = self.calls.drain(&env);
        for completion in completions.iter().filter(|completion| completion.is_last()) {
            self.live.remove(&completion.subject);
        }
        completions.into_iter().map(RawCompletion::from).collect()
    }
}

impl NativeClient {
    fn ask(&mut self, env: &Env, question: impl FnOnce() -> Result<Frame, Failure>) -> i64 {
        self.begin(env, |client, reply| {
            Ok(Live::Question(client.ask(question()?, reply.answer_with(Outcome::from))))
        })
    }

    /// Begins a call that can be cancelled. If `start` fails, that is the answer.
    fn begin(&mut self, env: &Env, start: impl FnOnce(&Client, Reply) -> Result<Live, Failure>) -> i64 {
        let reply = self.calls.begin(env);
        let id = reply.id();
        let started = match &self.client {
            Some(client) => attempt(|| start(client, reply.clone())),
            None => Err(Failure::new(ErrorCode::Aborted, "the client is closed; connect again")),
        };
        match started {
            Ok(live) => {
                self.live.insert(id, live);
            }
            Err(failure) => reply.send(Err(failure)),
        }
        id
    }
}

impl Drop for NativeClient {
    fn drop(&mut self) {
        // Our threads end before the queue does.
        self.client = None;
        self.closing.finish();
    }
}

fn receipt(written: Written, begun: Option<Instant>) -> Outcome {
    Outcome::Receipt(Receipt {
        files: 1,
        bytes: written.bytes,
        digest: Some(written.digest).filter(|digest| !digest.as_bytes().is_empty()),
        elapsed: begun.map(|begun| begun.elapsed()).unwrap_or_default(),
        ..Receipt::default()
    })
}

fn range(start: i64, end: i64) -> Result<(u64, Option<u64>), Failure> {
    match (u64::try_from(start), u64::try_from(end)) {
        (Ok(start), Ok(end)) if start <= end => Ok((start, Some(end))),
        (Ok(start), Err(_)) => Ok((start, None)),
        _ => Err(Failure::new(
            ErrorCode::InvalidArgument,
            format!("bytes {start} to {end} are no range of a file"),
        )),
    }
}

fn stream_is_over() -> Failure {
    Failure::new(ErrorCode::Aborted, "the stream is over; open it again")
}

/// What `mkdir(2)` gives a new directory under the usual umask.
const DIRECTORY_MODE: u32 = 0o755;
