//! A client and a server in one process, over loopback.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc;
use std::time::Duration;

use tempfile::TempDir;
use xferd_client::{Client, Job, PullSpec, PushSpec, Receipt, Selection, Sources};
use xferd_engine::Failure;
use xferd_server::{Config, Server};
use xferd_wire::{DigestAlgorithm, RemotePath};

/// A server over an empty root, a client of it, and a place for local files.
struct Pair {
    server: Server,
    client: Client,
    root: TempDir,
    local: TempDir,
}

impl Pair {
    fn new(io_threads: usize, workers: usize) -> Self {
        let root = tempfile::tempdir().unwrap();
        let mut config = Config::new(root.path());
        config.listen = vec!["127.0.0.1:0".parse().unwrap()];
        (config.io_threads, config.workers) = (io_threads, workers);
        let server = Server::start(config).unwrap();
        let client_config = xferd_client::Config { workers, ..Default::default() };
        let client = Client::open(server.addresses()[0], client_config).unwrap();
        Self { server, client, root, local: tempfile::tempdir().unwrap() }
    }

    fn file(&self, name: &str, bytes: usize) -> PathBuf {
        let path = self.local.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, noise(bytes)).unwrap();
        path
    }

    fn push(&self, spec: PushSpec) -> Result<Receipt, Failure> {
        wait(|on_end| self.client.push(spec, on_end))
    }

    fn pull(&self, spec: PullSpec) -> Result<Receipt, Failure> {
        wait(|on_end| self.client.pull(spec, on_end))
    }
}

fn wait(
    start: impl FnOnce(Box<dyn FnOnce(Result<Receipt, Failure>) + Send>) -> Result<Arc<Job>, Failure>,
) -> Result<Receipt, Failure> {
    let (sender, receiver) = mpsc::channel();
    start(Box::new(move |result| sender.send(result).unwrap()))?;
    receiver.recv_timeout(Duration::from_secs(60)).expect("the transfer ends")
}

/// Bytes that no compression and no accident of alignment makes equal.
fn noise(bytes: usize) -> Vec<u8> {
    let mut state = bytes as u64 ^ 0x9e37_79b9_7f4a_7c15;
    (0..bytes)
        .map(|_| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state as u8
        })
        .collect()
}

fn path(text: &str) -> RemotePath {
    RemotePath::from_user(text).unwrap()
}

fn push_of(sources: &[&Path], target: &str) -> PushSpec {
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
        durable: false,
        dry_run: false,
    }
}

fn pull_of(paths: &[&str], destination: &Path) -> PullSpec {
    PullSpec {
        paths: paths.iter().map(|text| path(text)).collect(),
        destination: destination.to_owned(),
        selection: Selection::default(),
        clients: 1,
        streams: 1,
        digest: DigestAlgorithm::Crc64Nvme,
        durable: false,
        dry_run: false,
    }
}

#[test]
fn files_of_every_size_arrive_as_they_were_with_and_without_workers() {
    for (io_threads, workers) in [(1, 0), (2, 0), (1, 2), (2, 3)] {
        let pair = Pair::new(io_threads, workers);
        for bytes in [0, 1, 4096, 65_535, 65_536, 65_537, 1 << 20, (4 << 20) + 1, 21 << 20] {
            let source = pair.file("source", bytes);
            for mapped in [false, true] {
                let mut spec = push_of(&[&source], "in/copy");
                spec.sources.mapped = mapped;
                let receipt = pair.push(spec).unwrap();
                assert_eq!((receipt.files, receipt.bytes), (1, bytes as u64));
                let stored = fs::read(pair.root.path().join("in/copy")).unwrap();
                assert!(stored == noise(bytes), "{bytes} bytes, workers {workers}, mapped {mapped}");
            }
            let back = pair.local.path().join("back");
            let receipt = pair.pull(pull_of(&["in/copy"], &back)).unwrap();
            assert_eq!(receipt.bytes, bytes as u64);
            assert!(fs::read(&back).unwrap() == noise(bytes), "{bytes} bytes back, workers {workers}");
        }
    }
}
