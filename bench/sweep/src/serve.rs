//! The product's server without Node, to be compared with the one made of coroutines, which has none either.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::thread;

use xferd_server::{Config, Listen, Server};

use crate::Outcome;
use crate::flags::Flags;

pub(crate) fn run(flags: &Flags) -> Outcome {
    let mut config = Config::new(flags.required::<PathBuf>("root")?);
    config.listen = vec![Listen::transfer(SocketAddr::from(([127, 0, 0, 1], 0)))];
    if flags.get("kv", 0_u16)? > 0 {
        config.listen.push(Listen::kv(SocketAddr::from(([127, 0, 0, 1], flags.get("kv", 0)?))));
    }
    config.io_threads = flags.get("io-threads", config.io_threads)?;
    config.workers = flags.get("workers", config.workers)?;
    let server = Server::start(config)?;
    let addresses: Vec<_> = server.listening().iter().map(|listen| format!("\"{listen}\"")).collect();
    println!(
        "{{\"event\":\"listening\",\"addresses\":[{}],\"pid\":{}}}",
        addresses.join(","),
        std::process::id()
    );
    loop {
        thread::park();
    }
}
