//! Generates load for a key-value store and prints one line of JSON.
//!
//! `cargo run --release -p xferd-client --example kv_load -- 127.0.0.1:6390 --command get --pipeline 16 --seconds 5`; the
//! path of a socket in place of HOST:PORT. All options are those of `main`.
#![allow(clippy::unwrap_used)]

use std::error::Error;
use std::path::Path;
use std::time::Duration;

use xferd_client::load::{Command, Distribution, Load, Until};
use xferd_os::net::Address;

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let place = arguments.next().ok_or("kv_load ADDRESS [--OPTION VALUE]…")?;
    let address: Address = if place.starts_with('/') {
        Path::new(&place).into()
    } else {
        place.parse::<std::net::SocketAddr>()?.into()
    };
    let mut load = Load::new(address);
    while let Some(option) = arguments.next() {
        let value = arguments.next().ok_or_else(|| format!("{option} has no value"))?;
        let seconds = || value.parse().map(Duration::from_secs_f64);
        match option.as_str() {
            "--connections" => load.connections = value.parse()?,
            "--pipeline" => load.pipeline = value.parse()?,
            "--threads" => load.threads = value.parse()?,
            "--seconds" => load.until = Until::Time(seconds()?),
            "--requests" => load.until = Until::Requests(value.parse()?),
            "--warm-up" => load.warm_up = seconds()?,
            "--command" => load.command = command(&value)?,
            "--keys" => load.keys = value.parse()?,
            "--value-bytes" => load.value_bytes = value.parse()?,
            "--distribution" => load.distribution = distribution(&value)?,
            "--rate" => load.rate = Some(value.parse()?),
            "--password" => load.password = Some(value),
            _ => return Err(format!("there is no option {option}").into()),
        }
    }
    let report = load.run()?;
    let microseconds = |nanoseconds: u64| nanoseconds as f64 / 1e3;
    let quantile = |quantile| microseconds(report.latencies.value_at_quantile(quantile));
    println!(
        "{{\"requests\":{},\"errors\":{},\"first_error\":{:?},\"misses\":{},\"unsent\":{},\"seconds\":{:.3},\
         \"requests_per_second\":{:.0},\"latency_us\":{{\"mean\":{:.1},\"p50\":{:.1},\"p95\":{:.1},\"p99\":{:.1},\
         \"p99.9\":{:.1},\"max\":{:.1}}}}}",
        report.requests,
        report.errors,
        report.first_error.as_deref().unwrap_or_default(),
        report.misses,
        report.unsent,
        report.elapsed.as_secs_f64(),
        report.requests_per_second(),
        report.latencies.mean() / 1e3,
        quantile(0.5),
        quantile(0.95),
        quantile(0.99),
        quantile(0.999),
        microseconds(report.latencies.max()),
    );
    Ok(())
}

fn command(text: &str) -> Result<Command, Box<dyn Error>> {
    Ok(match text.split_once(':') {
        None if text == "ping" => Command::Ping,
        None if text == "set" => Command::Set,
        None if text == "get" => Command::Get,
        None if text == "incr" => Command::Incr,
        None if text == "lpush" => Command::Lpush,
        Some(("mixed", reads)) => Command::Mixed(reads.parse()?),
        _ => return Err(format!("{text} is none of ping, set, get, mixed:READS, incr, lpush").into()),
    })
}

fn distribution(text: &str) -> Result<Distribution, Box<dyn Error>> {
    Ok(match text.split_once(':') {
        None if text == "uniform" => Distribution::Uniform,
        None if text == "sequential" => Distribution::Sequential,
        Some(("zipf", exponent)) => Distribution::Zipf(exponent.parse()?),
        _ => return Err(format!("{text} is none of uniform, zipf:EXPONENT, sequential").into()),
    })
}
