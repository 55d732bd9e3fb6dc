//! What connections cost a server on which nothing happens.

use std::thread;
use std::time::Duration;

use crate::Outcome;
use crate::flags::Flags;
use crate::load::Crowd;
use crate::process::{cpu, json, private_bytes};
use crate::request::{Kind, Request};

/// How long what the opening left behind may take to settle.
const SETTLING: Duration = Duration::from_secs(2);

pub(crate) fn run(flags: &Flags) -> Outcome {
    let address = flags.required("address")?;
    let pid: u32 = flags.required("pid")?;
    let connections: usize = flags.required("connections")?;
    let seconds = flags.get("seconds", 10.0)?;
    // Some memory is taken once, with the first connections, and is nobody's in particular.
    drop(Crowd::open(address, 0..100.min(connections), Request::new(Kind::Ping)?)?);
    thread::sleep(SETTLING);
    let before = private_bytes(pid);
    let crowd = Crowd::open(address, 0..connections, Request::new(Kind::Ping)?)?;
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
