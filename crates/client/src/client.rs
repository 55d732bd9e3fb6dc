//! A client of one server: its threads, and what it can be asked for.

use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use xferd_engine::{AnyShard, Budget, Failure, Shard, check_threads, lock, shards, threads_default};
use xferd_os::net::Address;
use xferd_reactor::{Backend, Chosen, Limits};
use xferd_wire::limits::FILE_BYTES_MAX;
use xferd_wire::{DigestAlgorithm, ErrorCode, Frame, RemotePath};

use crate::ask::{Answer, Ask, Withdrawal};
use crate::dispatcher::Dispatcher;
use crate::job::{Job, Receipt};
use crate::kv::{KvClient, KvConfig, Way};
use crate::push::{Copy, Manner, Push};
use crate::read::{self, Reader};
use crate::same::Compare;
use crate::session::ClientSession;
use crate::sources::{Opener, SOURCES_MAX, Sources, Walk};
use crate::survey::{PullSpec, Survey};
use crate::write::{self, WriteSpec, Writer};

/// Connections of one client at a time; what needs more waits.
pub const CONNECTIONS_MAX: usize = 1024;

/// Copies of one push or pull.
pub const CLIENTS_MAX: usize = 1000;

/// Connections that share out one copy.
pub const STREAMS_MAX: usize = 64;

/// How a client works.
#[derive(Clone, Copy, Debug)]
pub struct Config {
    /// Reactor threads, 1 to [`xferd_engine::THREADS_MAX`]: each has its own connections.
    pub io_threads: usize,
    /// Threads for file work, up to [`xferd_engine::THREADS_MAX`]: taking digests, reading small files. 0 does it on the
    /// client's own thread.
    pub workers: usize,
    /// How long a server may be silent in the middle of something before it is asked for a sign of life; without one it
    /// is given up after as long again. Below the 60 s after which a server gives up a silent client.
    pub patience: Duration,
    /// What waits for sockets.
    pub backend: Backend,
}

impl Default for Config {
    fn default() -> Self {
        let threads = threads_default();
        Self {
            io_threads: threads,
            workers: threads,
            patience: Duration::from_secs(30),
            backend: Backend::Auto,
        }
    }
}

/// A push: sources, and how many connections send them.
#[derive(Clone, Debug)]
pub struct PushSpec {
    /// What goes where.
    pub sources: Sources,
    /// Copies, each under its own name, 1 to [`CLIENTS_MAX`].
    pub clients: usize,
    /// Connections that share out one copy's files, and the extents of its large ones, 1 to [`STREAMS_MAX`].
    pub streams: usize,
    /// Whether an earlier push that was cut off is gone on with, and a later one may go on with this.
    pub resume: bool,
    /// Whether each file is synced before it is acknowledged.
    pub durable: bool,
    /// What is there already, and left out.
    pub compare: Compare,
    /// Find out what would be pushed, and push nothing.
    pub dry_run: bool,
}

/// A client of one server. It connects when there is something to do, and keeps connections for what comes next.
///
/// Dropping it closes it.
pub struct Client {
    dispatcher: Dispatcher,
    chosen: Chosen,
    threads: Mutex<Vec<JoinHandle<()>>>,
}

impl Client {
    /// Starts a client of the server at `address`. Nothing is connected yet.
    ///
    /// # Errors
    /// What the system says to starting threads.
    pub fn open(address: impl Into<Address>, config: Config) -> Result<Self, Failure> {
        let failed = |error: std::io::Error| Failure::io("cannot start the client's threads", &error);
        let (client, shards) = Self::assemble(address.into(), config)?;
        for (index, shard) in shards.into_iter().enumerate() {
            let run = move || {
                if let Err(error) = shard.run() {
                    tracing::error!(%error, "a reactor of the client has failed");
                }
            };
            // Without all of them there is no client, and those that run are ended when it is dropped.
            let name = format!("xferd-client-{index}");
            let thread = thread::Builder::new().name(name).spawn(run).map_err(failed)?;
            lock(&client.threads).push(thread);
        }
        Ok(client)
    }

    /// What waits for its sockets.
    pub fn backend(&self) -> &Chosen {
        &self.chosen
    }

    /// A client whose shards are played.
    #[cfg(fuzzing)]
    pub(crate) fn played(dispatcher: Dispatcher) -> Self {
        let chosen = Chosen { backend: Backend::Mio, reason: None };
        Self { dispatcher, chosen, threads: Mutex::default() }
    }

    /// Opens a client without threads: the caller steps its shards.
    ///
    /// # Errors
    /// As those of [`Client::open`].
    #[cfg(xferd_sim)]
    pub fn open_stepped(
        address: impl Into<Address>,
        config: Config,
    ) -> Result<(Self, Vec<Box<dyn xferd_engine::Stepped>>), Failure> {
        let (client, shards) = Self::assemble(address.into(), config)?;
        Ok((client, shards.into_iter().map(|shard| Box::new(shard) as _).collect()))
    }

    /// All of a client but its threads.
    fn assemble(address: Address, config: Config) -> Result<(Self, Vec<AnyShard<ClientSession>>), Failure> {
        let Config { io_threads, workers, patience, backend } = config;
        check_threads(io_threads, workers)?;
        let connections_max = CONNECTIONS_MAX.div_ceil(io_threads);
        let (shards, chosen) =
            shards(backend, io_threads, workers, Limits::default(), connections_max, &Budget::default())?;
        let mut mailboxes = shards.iter().map(Shard::mailbox);
        let first = mailboxes.next().ok_or_else(|| wrong("no I/O threads; give at least 1".into()))?;
        let dispatcher = Dispatcher::new(first, mailboxes, address, patience);
        Ok((Self { dispatcher, chosen, threads: Mutex::default() }, shards))
    }

    /// Sees whether the server is there and speaks our language.
    pub fn ping(&self, on_answer: impl FnOnce(Result<(), Failure>) + Send + 'static) -> Withdrawal {
        self.ask(Frame::Ping(0), |answer| on_answer(answer.map(|_| ())))
    }

    /// Puts a question to the server: [`Frame::Stat`], [`Frame::List`] or one that changes the tree.
    pub fn ask(
        &self,
        question: Frame,
        on_answer: impl FnOnce(Result<Answer, Failure>) + Send + 'static,
    ) -> Withdrawal {
        let withdrawal = Withdrawal::default();
        self.dispatcher.assign(Ask::new(question, withdrawal.clone(), Box::new(on_answer)));
        withdrawal
    }

    /// Takes a question back; it is answered with ABORTED, unless it has been answered.
    pub fn withdraw(&self, withdrawal: &Withdrawal) {
        withdrawal.withdraw();
        self.dispatcher.nudge();
    }

    /// Pushes files and trees.
    ///
    /// # Errors
    /// INVALID_ARGUMENT if the specification makes no sense. Everything else comes by `on_end`.
    pub fn push(
        &self,
        spec: PushSpec,
        on_end: impl FnOnce(Result<Receipt, Failure>) + Send + 'static,
    ) -> Result<Arc<Job>, Failure> {
        let PushSpec { sources, clients, streams, resume, durable, compare, dry_run } = spec;
        check_counts(sources.paths.len(), clients, streams)?;
        if !sources.into_target && (sources.paths.len() > 1 || (sources.target.is_root() && clients > 1)) {
            return Err(wrong("several sources need a directory as their target; end it with /".into()));
        }
        let digest = sources.digest;
        if resume && digest == DigestAlgorithm::Blake3 {
            let message =
                "a push cannot be resumed with the digest blake3, whose parts do not combine; take crc64nvme";
            return Err(wrong(message.into()));
        }
        let sources = Arc::new(sources);
        let opener = Opener::new(&sources);
        let job = Job::new(self.dispatcher.clone(), Box::new(on_end));
        let tickets: Vec<_> = (0..clients * streams).map(|_| job.ticket()).collect();
        let mut tickets = tickets.into_iter();
        for copy in 0..clients {
            job.search();
            let walk = Walk::new(sources.clone(), (clients > 1).then_some(copy));
            let manner = Manner { digest, durable, streams, resume, compare, dry_run };
            let copy = Copy::new(walk, opener.clone(), self.dispatcher.clone(), manner);
            for ticket in tickets.by_ref().take(streams) {
                self.dispatcher.assign(Push::new(ticket, copy.clone()));
            }
        }
        Ok(job)
    }

    /// Pulls files and trees.
    ///
    /// # Errors
    /// INVALID_ARGUMENT if the specification makes no sense. Everything else comes by `on_end`.
    pub fn pull(
        &self,
        spec: PullSpec,
        on_end: impl FnOnce(Result<Receipt, Failure>) + Send + 'static,
    ) -> Result<Arc<Job>, Failure> {
        check_counts(spec.paths.len(), spec.clients, spec.streams)?;
        let job = Job::new(self.dispatcher.clone(), Box::new(on_end));
        let survey = Survey::new(job.ticket(), Arc::new(spec), self.dispatcher.clone());
        self.dispatcher.assign(survey);
        Ok(job)
    }

    /// Reads `[start, end)` of a file; `on_open` is told how many bytes will come.
    pub fn read(
        &self,
        path: RemotePath,
        start: u64,
        end: Option<u64>,
        on_open: impl FnOnce(Result<u64, Failure>) + Send + 'static,
    ) -> Reader {
        let digest = DigestAlgorithm::Crc64Nvme;
        // Past what any file can have there is nothing more to ask for.
        let end = end.filter(|&end| end <= FILE_BYTES_MAX);
        let place = self.dispatcher.place();
        let (reader, task) = read::read(path, start, end, digest, place.clone(), Box::new(on_open));
        place.assign(task);
        reader
    }

    /// Writes a file; `on_open` is told once its bytes can be given.
    pub fn write(
        &self,
        spec: WriteSpec,
        on_open: impl FnOnce(Result<(), Failure>) + Send + 'static,
    ) -> Writer {
        let place = self.dispatcher.place();
        let (writer, task) = write::write(spec, place.clone(), Box::new(on_open));
        place.assign(task);
        writer
    }

    /// The server's keys, on the connections that move files: one serves both at once. It ends with this client. Whatever of
    /// files is aborted takes its connection with it, and what was called there fails with CONNECTION_LOST. What is leased counts
    /// among [`CONNECTIONS_MAX`].
    ///
    /// # Errors
    /// INVALID_ARGUMENT if the configuration makes no sense; its backend is of no interest.
    pub fn keys(&self, config: KvConfig) -> Result<KvClient, Failure> {
        KvClient::by(Way::Shared(self.dispatcher.clone()), self.chosen.clone(), config)
    }

    /// Ends everything that is under way, which is answered with ABORTED, and closes all connections. Blocks until that
    /// has happened.
    pub fn close(&self) {
        self.dispatcher.stop();
        for thread in std::mem::take(&mut *lock(&self.threads)) {
            // A thread that panicked has told so already.
            let _ = thread.join();
        }
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        self.close();
    }
}

fn check_counts(sources: usize, clients: usize, streams: usize) -> Result<(), Failure> {
    if !(1..=SOURCES_MAX).contains(&sources) {
        return Err(wrong(format!("{sources} sources; give 1 to {SOURCES_MAX}")));
    }
    if !(1..=CLIENTS_MAX).contains(&clients) {
        return Err(wrong(format!("{clients} clients; give 1 to {CLIENTS_MAX}")));
    }
    if !(1..=STREAMS_MAX).contains(&streams) {
        return Err(wrong(format!("{streams} streams; give 1 to {STREAMS_MAX}")));
    }
    if clients * streams > CONNECTIONS_MAX {
        return Err(wrong(format!(
            "{clients} clients of {streams} streams need more than {CONNECTIONS_MAX} connections; take fewer"
        )));
    }
    Ok(())
}

fn wrong(message: String) -> Failure {
    Failure::new(ErrorCode::InvalidArgument, message)
}
