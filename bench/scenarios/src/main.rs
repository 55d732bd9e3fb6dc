//! What the regression gate counts instructions and allocations of.
//!
//! `xferd-scenarios NAME TIMES FOLDER` does one thing `TIMES` times, using the empty `FOLDER`, which the caller removes.
//! Whatever does not depend on `TIMES`, above all starting and stopping, disappears when two runs are subtracted.
#![forbid(unsafe_code)]

mod kv;
mod session;
mod transfer;
mod wire;

use std::error::Error;
use std::path::Path;

type Outcome = Result<(), Box<dyn Error>>;

/// Does one thing so many times in a folder.
type Scenario = fn(u32, &Path) -> Outcome;

const SCENARIOS: [(&str, Scenario); 10] = [
    ("wire_encode", wire::encode_all),
    ("wire_decode", wire::decode_all),
    ("session_put", session::put),
    ("kv_set", kv::set),
    ("kv_get", kv::get),
    ("kv_get_pipelined", kv::get_pipelined),
    ("push_64_kib", transfer::push_64_kib),
    ("pull_64_kib", transfer::pull_64_kib),
    ("push_8_mb", transfer::push_8_mb),
    ("push_tree", transfer::push_tree),
];

fn main() -> Outcome {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [name, times, folder] = arguments.as_slice() else {
        return Err("xferd-scenarios NAME TIMES FOLDER".into());
    };
    let scenario = SCENARIOS.iter().find(|(known, _)| known == name);
    let (_, run) =
        scenario.ok_or_else(|| format!("{name} is none of {:?}", SCENARIOS.map(|(name, _)| name)))?;
    run(times.parse()?, Path::new(folder))
}

/// Bytes that are neither all alike nor different from run to run (xorshift, Marsaglia 2003).
fn noise(bytes: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let step = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state as u8
    };
    std::iter::repeat_with(step).take(bytes).collect()
}
