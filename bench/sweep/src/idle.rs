//! What connections cost a server on which nothing happens.

use std::net::SocketAddr;
use std::thread;
use std::time::Duration;

use crate::Outcome;
use crate::flags::Flags;
use crate::load::Crowd;
use crate::process::{cpu, json, private_bytes};
use crate::request::Request;

/// How long the server may take to put away what it needed for something.
const SETTLING: Duration = Duration::from_secs(2);

pub(crate) fn run(flags: &Flags) -> Outcome {
    let address = flags.required("address")?;
    let pid: u32 = flags.required("pid")?;
    let connections: usize = flags.required("connections")?;
    let seconds = flags.get("seconds", 10.0)?;
    let request = Request::new(flags.required("request")?)?;
    // The server may just have started.
    thread::sleep(SETTLING);
    let before = private_bytes(pid);
    let crowd = open(address, connections, &request)?;
    thread::sleep(SETTLING);
    let after = private_bytes(pid);
    let grown = before.zip(after).map(|(before, after)| after.saturating_sub(before));
    let each = grown.map(|bytes| bytes / connections.max(1) as u64);
    let busy_before = cpu(pid);
    thread::sleep(Duration::from_secs_f64(seconds));
    let busy = busy_before.zip(cpu(pid)).map(|(before, after)| after.saturating_sub(before));
    let percent = busy.map(|busy| format!("{:.3}", 100.0 * busy.as_secs_f64() / seconds));
    drop(crowd);
    println!(
        "{{\"connections\":{connections},\"bytesPerConnection\":{},\"privateBytes\":{},\"cpuPercent\":{}}}",
        json(each),
        json(after),
        json(percent),
    );
    Ok(())
}

/// Connections on each of which something was asked, so that whatever the server keeps after its answer is there.
fn open(address: SocketAddr, connections: usize, request: &Request) -> Outcome<Crowd> {
    let mut crowd = Crowd::open(address, 0..connections, request.clone())?;
    crowd.ask(1)?;
    Ok(crowd)
}
