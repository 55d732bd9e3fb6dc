//! Many connections to one server, and what they cost it. `bench/sweep.mjs` runs it.
//!
//! `xferd-sweep load` keeps a request under way on each of N connections for a while, `ask` makes a known number of them,
//! `idle` only keeps connections open, and `serve` is the engine in a process without Node. Each prints a line of JSON.
#![forbid(unsafe_code)]

mod ask;
mod flags;
mod idle;
mod load;
mod peer;
mod process;
mod request;
mod serve;

use std::error::Error;
use std::process::ExitCode;

use crate::flags::Flags;

type Outcome<T = ()> = Result<T, Box<dyn Error + Send + Sync>>;

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Outcome {
    let mut arguments = std::env::args().skip(1);
    let command = arguments.next().unwrap_or_default();
    let flags = Flags::parse(arguments)?;
    xferd_os::raise_descriptor_limit()?;
    match command.as_str() {
        "load" => load::run(&flags),
        "ask" => ask::run(&flags),
        "idle" => idle::run(&flags),
        "serve" => serve::run(&flags),
        other => Err(format!("{other:?} is none of load, ask, idle and serve").into()),
    }
}
