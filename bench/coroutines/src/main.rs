//! The small-file part of xferd's server once more, with async/await on tokio: what `docs/why-event-loop.md` compares the
//! event loop with. It speaks the same protocol by the same `wire` crate and serves the same tree by the same `store`; only
//! what is between them is another one. It is no part of the product.
//!
//! `xferd-coroutines ROOT IO-THREADS WORKERS` serves until it is killed.
#![forbid(unsafe_code)]

mod connection;

use std::error::Error;
use std::net::TcpListener as StdListener;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::runtime::Builder;
use tokio::sync::Semaphore;
use xferd_store::{Options, Store};

use crate::connection::Connection;

/// Connections at a time, as the product has them. Further ones wait to be accepted.
const CONNECTIONS_MAX: usize = 10_000;

/// How long to wait before accepting again after that failed.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// What all connections share.
struct Shared {
    store: Store,
    /// File work is done by the threads that do the rest, too.
    inline: bool,
}

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [root, io_threads, workers] = arguments.as_slice() else {
        return Err("xferd-coroutines ROOT IO-THREADS WORKERS".into());
    };
    let (io_threads, workers): (usize, usize) = (io_threads.parse()?, workers.parse()?);
    xferd_os::raise_descriptor_limit()?;
    let store = Store::open(Path::new(root), Options::default())?;
    let shared = Arc::new(Shared { store, inline: workers == 0 });
    // The product's listener, so that both have the same queue and the same congestion control.
    let listener = xferd_os::net::Listener::bind(std::net::SocketAddr::from(([127, 0, 0, 1], 0)))?;
    let listener: OwnedFd = listener.as_fd().try_clone_to_owned()?;
    let runtime = Builder::new_multi_thread()
        .worker_threads(io_threads)
        .max_blocking_threads(workers.max(1))
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let listener = TcpListener::from_std(StdListener::from(listener))?;
        println!(
            "{{\"event\":\"listening\",\"addresses\":[\"xfer://{}\"],\"pid\":{}}}",
            listener.local_addr()?,
            std::process::id()
        );
        // The thread that blocks here is none of the runtime's.
        tokio::spawn(accept(listener, shared)).await?;
        Ok(())
    })
}

async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    while let Ok(place) = places.clone().acquire_owned().await {
        let Ok((stream, _)) = listener.accept().await else {
            tokio::time::sleep(ACCEPT_PAUSE).await;
            continue;
        };
        // Without it everything works as well, only later.
        let _ = stream.set_nodelay(true);
        let shared = shared.clone();
        tokio::spawn(async move {
            // Whatever ended it, the peer was told what there was to be told.
            let _ = Connection::new(stream, shared).serve().await;
            drop(place);
        });
    }
}
