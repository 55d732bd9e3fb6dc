//! Makes two names change places again and again, each time in one system call: what `npm run path-races` races against.
//!
//! `flip COUNT ONE OTHER [ONE OTHER]…` exchanges each pair in turn, COUNT times in all, and prints how often it did. It ends early
//! when its standard input does, so that it never outlives who started it.
#![forbid(unsafe_code)]

use std::process::ExitCode;

fn main() -> ExitCode {
    match flip(std::env::args().skip(1).collect()) {
        Ok(flipped) => {
            println!("{flipped}");
            ExitCode::SUCCESS
        }
        Err(problem) => {
            eprintln!("flip: {problem}");
            ExitCode::FAILURE
        }
    }
}

#[cfg(target_os = "linux")]
fn flip(args: Vec<String>) -> Result<u64, String> {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::time::Duration;

    use rustix::fs::{CWD, RenameFlags, renameat_with};

    let (count, names) = args.split_first().ok_or("COUNT is missing")?;
    let count: u64 = count.parse().map_err(|error| format!("{count}: {error}"))?;
    let pairs = names.chunks_exact(2).filter_map(|pair| Some((pair.first()?, pair.get(1)?)));
    let stopped = Arc::new(AtomicBool::new(false));
    let stop = stopped.clone();
    std::thread::spawn(move || {
        let _ = std::io::copy(&mut std::io::stdin(), &mut std::io::sink());
        stop.store(true, Ordering::Relaxed);
    });
    let mut flipped = 0;
    for (one, other) in pairs.cycle() {
        if flipped == count || stopped.load(Ordering::Relaxed) {
            break;
        }
        renameat_with(CWD, one, CWD, other, RenameFlags::EXCHANGE)
            .map_err(|error| format!("{one}, {other}: {error}"))?;
        flipped += 1;
        // Now and then a pause, of different lengths, so that a flip meets every moment of a request.
        match flipped % 8 {
            0..4 => {}
            phase => std::thread::sleep(Duration::from_micros(phase * 10)),
        }
    }
    Ok(flipped)
}

#[cfg(not(target_os = "linux"))]
fn flip(_args: Vec<String>) -> Result<u64, String> {
    Err("this system has no call that exchanges two names".into())
}
