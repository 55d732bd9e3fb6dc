//! A known number of requests, to count what the server does for each.

use std::io::stdin;

use crate::Outcome;
use crate::flags::Flags;
use crate::load::Crowd;
use crate::request::Request;

/// Opens the connections, says so, waits for a line of input - by then somebody may be counting - and asks.
pub(crate) fn run(flags: &Flags) -> Outcome {
    let address = flags.required("address")?;
    let connections: usize = flags.required("connections")?;
    let times: u32 = flags.required("times")?;
    let mut crowd = Crowd::open(address, 0..connections, Request::new(flags.required("request")?)?)?;
    println!("open");
    stdin().read_line(&mut String::new())?;
    crowd.ask(times)?;
    println!("{{\"requests\":{}}}", connections * times as usize);
    // Until it was counted, nothing more is to happen.
    stdin().read_line(&mut String::new())?;
    Ok(())
}
