//! Files through both sessions, in one process.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc;

use xferd_client::{Client, Compare, Job, PullSpec, PushSpec, Receipt, Selection, Sources};
use xferd_engine::Failure;
use xferd_server::Server;
use xferd_wire::{DigestAlgorithm, RemotePath};

use crate::{Outcome, noise, session};

const TREE_FILES: usize = 200;
const TREE_FILE_BYTES: usize = 4096;

pub(crate) fn push_64_kib(times: u32, folder: &Path) -> Outcome {
    push_file(64 << 10, times, folder)
}

pub(crate) fn push_8_mb(times: u32, folder: &Path) -> Outcome {
    push_file(8_000_000, times, folder)
}

pub(crate) fn push_tree(times: u32, folder: &Path) -> Outcome {
    let pair = Pair::start(folder)?;
    let source = pair.local.join("tree");
    fs::create_dir(&source)?;
    let content = noise(TREE_FILE_BYTES);
    for file in 0..TREE_FILES {
        fs::write(source.join(format!("file-{file}")), &content)?;
    }
    for copy in 0..times {
        let receipt = pair.push(&source, &format!("tree-{copy}"))?;
        prove(receipt.files, TREE_FILES as u64)?;
    }
    Ok(())
}

pub(crate) fn pull_64_kib(times: u32, folder: &Path) -> Outcome {
    const BYTES: usize = 64 << 10;
    let pair = Pair::start(folder)?;
    fs::write(pair.root.join("file"), noise(BYTES))?;
    for copy in 0..times {
        prove(pair.pull("file", &pair.local.join(format!("copy-{copy}")))?.bytes, BYTES as u64)?;
    }
    Ok(())
}

fn push_file(bytes: usize, times: u32, folder: &Path) -> Outcome {
    let pair = Pair::start(folder)?;
    let source = pair.local.join("file");
    fs::write(&source, noise(bytes))?;
    for copy in 0..times {
        prove(pair.push(&source, &format!("copy-{copy}"))?.bytes, bytes as u64)?;
    }
    Ok(())
}

/// A server and a client of it, each with one thread that does everything.
struct Pair {
    // The client goes first, as a user's would.
    client: Client,
    _server: Server,
    root: PathBuf,
    local: PathBuf,
}

impl Pair {
    fn start(folder: &Path) -> Result<Self, Box<dyn std::error::Error>> {
        let (root, local) = (folder.join("root"), folder.join("local"));
        fs::create_dir(&root)?;
        fs::create_dir(&local)?;
        let server = session::start(&root)?;
        let address = session::listens_at(&server)?;
        let config = xferd_client::Config { io_threads: 1, workers: 0, ..Default::default() };
        Ok(Self { client: Client::open(address, config)?, _server: server, root, local })
    }

    fn push(&self, source: &Path, target: &str) -> Result<Receipt, Box<dyn std::error::Error>> {
        let sources = Sources {
            paths: vec![source.into()],
            target: RemotePath::parse(target)?,
            into_target: false,
            selection: Selection::default(),
            digest: DigestAlgorithm::Crc64Nvme,
            mapped: false,
        };
        let spec = PushSpec {
            sources,
            clients: 1,
            streams: 1,
            durable: false,
            resume: false,
            compare: Compare::Nothing,
            dry_run: false,
        };
        wait(|on_end| self.client.push(spec, on_end))
    }

    fn pull(&self, path: &str, destination: &Path) -> Result<Receipt, Box<dyn std::error::Error>> {
        let spec = PullSpec {
            paths: vec![RemotePath::parse(path)?],
            destination: destination.into(),
            selection: Selection::default(),
            clients: 1,
            streams: 1,
            digest: DigestAlgorithm::Crc64Nvme,
            durable: false,
            compare: Compare::Nothing,
            dry_run: false,
        };
        wait(|on_end| self.client.pull(spec, on_end))
    }
}

type OnEnd = Box<dyn FnOnce(Result<Receipt, Failure>) + Send>;

fn wait(
    start: impl FnOnce(OnEnd) -> Result<Arc<Job>, Failure>,
) -> Result<Receipt, Box<dyn std::error::Error>> {
    let (sender, receiver) = mpsc::channel();
    // Nobody listens any more only if this has failed.
    let _job = start(Box::new(move |result| drop(sender.send(result))))?;
    Ok(receiver.recv()??)
}

fn prove(moved: u64, expected: u64) -> Outcome {
    if moved == expected { Ok(()) } else { Err(format!("{moved} instead of {expected} were moved").into()) }
}
