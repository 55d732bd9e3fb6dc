//! A server and a client of it in one process, and transfers between them.

#![allow(dead_code, reason = "each test file needs a part of it")]
#![allow(clippy::unwrap_used)]

use std::path::Path;
use std::sync::{Arc, mpsc};
use std::time::Duration;

use tempfile::TempDir;
use xferd_client::{Client, Compare, Job, PullSpec, PushSpec, Receipt, Selection, Sources};
use xferd_engine::Failure;
use xferd_server::{Config, Listen, Server};
use xferd_wire::{DigestAlgorithm, RemotePath};

/// How long a test waits for the end of a transfer. Only a broken one takes as long.
const PATIENCE: Duration = Duration::from_secs(60);

/// A server over an empty root, a client of it, and a place for local files.
pub(crate) struct Pair {
    pub(crate) server: Server,
    pub(crate) client: Client,
    pub(crate) root: TempDir,
    pub(crate) local: TempDir,
}

/// With as many threads as both have unless told otherwise.
impl Default for Pair {
    fn default() -> Self {
        Self::with(|_| {}, xferd_client::Config::default())
    }
}

impl Pair {
    pub(crate) fn new(io_threads: usize, workers: usize) -> Self {
        Self::with(
            |config| (config.io_threads, config.workers) = (io_threads, workers),
            xferd_client::Config { io_threads, workers, ..Default::default() },
        )
    }

    pub(crate) fn with(configure: impl FnOnce(&mut Config), client: xferd_client::Config) -> Self {
        let root = tempfile::tempdir().unwrap();
        let mut config = config(root.path());
        configure(&mut config);
        let server = Server::start(config).unwrap();
        let client = Client::open(server.listening()[0].address.clone(), client).unwrap();
        Self { server, client, root, local: tempfile::tempdir().unwrap() }
    }

    pub(crate) fn push(&self, spec: PushSpec) -> Result<Receipt, Failure> {
        push(&self.client, spec)
    }

    pub(crate) fn pull(&self, spec: PullSpec) -> Result<Receipt, Failure> {
        begin_pull(&self.client, spec)?.end()
    }
}

/// A server of `root`, on a port of its own.
pub(crate) fn config(root: &Path) -> Config {
    Config { listen: vec![Listen::transfer(([127, 0, 0, 1], 0))], ..Config::new(root) }
}

/// A push or a pull on its way.
pub(crate) struct Transfer {
    pub(crate) job: Arc<Job>,
    pub(crate) ended: mpsc::Receiver<Result<Receipt, Failure>>,
}

impl Transfer {
    /// What it comes to.
    pub(crate) fn end(&self) -> Result<Receipt, Failure> {
        self.ended.recv_timeout(PATIENCE).expect("the transfer ends")
    }
}

pub(crate) fn begin_push(client: &Client, spec: PushSpec) -> Result<Transfer, Failure> {
    let (sender, ended) = mpsc::channel();
    let job = client.push(spec, move |result| sender.send(result).unwrap())?;
    Ok(Transfer { job, ended })
}

pub(crate) fn begin_pull(client: &Client, spec: PullSpec) -> Result<Transfer, Failure> {
    let (sender, ended) = mpsc::channel();
    let job = client.pull(spec, move |result| sender.send(result).unwrap())?;
    Ok(Transfer { job, ended })
}

pub(crate) fn push(client: &Client, spec: PushSpec) -> Result<Receipt, Failure> {
    begin_push(client, spec)?.end()
}

pub(crate) fn push_of(sources: &[&Path], target: &str) -> PushSpec {
    PushSpec {
        sources: Sources {
            paths: sources.iter().map(|path| path.to_path_buf()).collect(),
            target: path(target),
            into_target: target.ends_with('/'),
            selection: Selection::default(),
            digest: DigestAlgorithm::Crc64Nvme,
            mapped: false,
        },
        clients: 1,
        streams: 1,
        resume: false,
        durable: false,
        compare: Compare::default(),
        dry_run: false,
    }
}

pub(crate) fn pull_of(paths: &[&str], destination: &Path) -> PullSpec {
    PullSpec {
        paths: paths.iter().map(|text| path(text)).collect(),
        destination: destination.to_owned(),
        selection: Selection::default(),
        clients: 1,
        streams: 1,
        digest: DigestAlgorithm::Crc64Nvme,
        durable: false,
        compare: Compare::default(),
        dry_run: false,
    }
}

pub(crate) fn path(text: &str) -> RemotePath {
    RemotePath::from_user(text).unwrap()
}

/// Bytes that no compression and no accident of alignment makes equal.
pub(crate) fn noise(bytes: usize) -> Vec<u8> {
    let mut state = bytes as u64 ^ 0x9e37_79b9_7f4a_7c15;
    let mut noise = Vec::with_capacity(bytes + 8);
    while noise.len() < bytes {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        noise.extend_from_slice(&state.to_le_bytes());
    }
    noise.truncate(bytes);
    noise
}
