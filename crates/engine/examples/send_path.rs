//! What docs/why-send-path.md tells: how a file of which size is best handed to a socket, and how its digest is best
//! taken. Run it with `cargo run --release -p xferd-engine --example send_path`.
#![allow(clippy::unwrap_used, reason = "a measurement that cannot go on fails")]

use std::fs::File;
use std::io::{self, Read};
use std::net::{Ipv4Addr, TcpListener};
use std::os::unix::fs::FileExt;
use std::thread;
use std::time::Instant;

use rustix::event::{PollFd, PollFlags, poll};
use xferd_os::Mapping;
use xferd_os::net::Socket;
use xferd_store::{Hasher, digest_of};
use xferd_wire::DigestAlgorithm;

/// The source: it stays in the page cache, and not in the processor's.
const SOURCE_BYTES: u64 = 256 << 20;

/// Bytes sent for one figure.
const TURN_BYTES: u64 = 256 << 20;

const ROUNDS: usize = 5;

/// An announcement, an extent's header, a digest and a commit.
const FRAMES_BYTES: usize = 160;

const KIB: usize = 1 << 10;
const FILES_KIB: [usize; 9] = [4, 16, 32, 64, 128, 256, 512, 1024, 4096];
const READS_KIB: [usize; 5] = [64, 128, 256, 1024, 4096];

#[derive(Clone, Copy, Debug)]
enum Way {
    /// `pread` behind the frames, and one `send`.
    Read,
    /// `send` of the frames, `sendfile`.
    SendFile,
    /// `send` of the frames, `send` from a mapping.
    Mapped,
    /// [`Way::Read`], and the digest of what was read.
    ReadAndHash,
    /// `pread` for the digest, `send` of the frames, `sendfile`.
    HashAndSendFile,
}

const WAYS: [(Way, &str); 5] = [
    (Way::Read, "pread+send"),
    (Way::SendFile, "sendfile"),
    (Way::Mapped, "mapped"),
    (Way::ReadAndHash, "pread+hash+send"),
    (Way::HashAndSendFile, "pread+hash, sendfile"),
];

fn main() {
    let mut file = tempfile::tempfile().unwrap();
    io::copy(&mut io::repeat(7).take(SOURCE_BYTES), &mut file).unwrap();
    let mapping = Mapping::map(&file, SOURCE_BYTES).unwrap();

    println!("MB/s over loopback, medians of {ROUNDS} alternating turns");
    print!("{:>10}", "file");
    WAYS.iter().for_each(|(_, name)| print!("  {name:>20}"));
    println!();
    for kib in FILES_KIB {
        let rates = alternate(&WAYS, |(way, _)| {
            send_all(way, &file, &mapping, kib * KIB);
            TURN_BYTES
        });
        print!("{kib:>6} KiB");
        rates.iter().for_each(|rate| print!("  {rate:>20.0}"));
        println!();
    }

    println!("\ncrc64nvme of {} MiB by pread, MB/s", SOURCE_BYTES >> 20);
    let rates = alternate(&READS_KIB, |kib| {
        hash(&file, kib * KIB);
        SOURCE_BYTES
    });
    for (kib, rate) in READS_KIB.iter().zip(rates) {
        println!("{kib:>6} KiB at a time  {rate:>6.0}");
    }
}

/// Has each take its turn, round by round; the median rate of each in MB/s. The first round only warms up.
fn alternate<W: Copy>(ways: &[W], turn: impl Fn(W) -> u64) -> Vec<f64> {
    let mut rates = vec![Vec::new(); ways.len()];
    for round in 0..=ROUNDS {
        for (way, rates) in ways.iter().zip(&mut rates) {
            let begun = Instant::now();
            let bytes = turn(*way);
            if round > 0 {
                rates.push(bytes as f64 / 1e6 / begun.elapsed().as_secs_f64());
            }
        }
    }
    let median = |mut rates: Vec<f64>| {
        rates.sort_by(f64::total_cmp);
        rates[rates.len() / 2]
    };
    rates.into_iter().map(median).collect()
}

fn send_all(way: Way, file: &File, mapping: &Mapping, bytes: usize) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let socket = Socket::connect(&listener.local_addr().unwrap().into()).unwrap();
    let mut peer = listener.accept().unwrap().0;
    let reader = thread::spawn(move || {
        let mut buffer = vec![0; 1 << 20];
        while peer.read(&mut buffer).unwrap() > 0 {}
    });
    let frames = [0; FRAMES_BYTES];
    let mut buffer = vec![0; FRAMES_BYTES + bytes];
    for number in 0..TURN_BYTES / bytes as u64 {
        let offset = number * bytes as u64 % SOURCE_BYTES;
        let read = &mut buffer[FRAMES_BYTES..];
        if !matches!(way, Way::SendFile | Way::Mapped) {
            file.read_exact_at(read, offset).unwrap();
        }
        if matches!(way, Way::ReadAndHash | Way::HashAndSendFile) {
            std::hint::black_box(digest_of(DigestAlgorithm::Crc64Nvme, read));
        }
        if matches!(way, Way::Read | Way::ReadAndHash) {
            all(&socket, buffer.len(), |at| socket.send(&buffer[at..], false));
            continue;
        }
        all(&socket, FRAMES_BYTES, |at| socket.send(&frames[at..], true));
        all(&socket, bytes, |at| match way {
            Way::Mapped => socket.send_mapped(mapping, offset + at as u64, bytes - at),
            _ => socket.send_file(file, offset + at as u64, bytes - at),
        });
    }
    drop(socket);
    reader.join().unwrap();
}

/// Sends until all `bytes` have gone.
fn all(socket: &Socket, bytes: usize, send: impl Fn(usize) -> io::Result<usize>) {
    let mut at = 0;
    while at < bytes {
        match send(at) {
            Ok(sent) => at += sent,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                poll(&mut [PollFd::new(socket, PollFlags::OUT)], None).unwrap();
            }
            Err(error) => panic!("{error}"),
        }
    }
}

fn hash(file: &File, at_a_time: usize) {
    let mut hasher = Hasher::new(DigestAlgorithm::Crc64Nvme);
    let mut buffer = vec![0; at_a_time];
    for offset in (0..SOURCE_BYTES).step_by(at_a_time) {
        file.read_exact_at(&mut buffer, offset).unwrap();
        hasher.update(&buffer);
    }
    std::hint::black_box(hasher.finish());
}
