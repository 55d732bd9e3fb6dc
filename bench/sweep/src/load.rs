//! Connections that each have a request under way all the time: the next one goes out when an answer has come.

use std::net::SocketAddr;
use std::ops::Range;
use std::os::fd::AsRawFd;
use std::sync::atomic::{AtomicU8, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token};

use crate::Outcome;
use crate::flags::Flags;
use crate::peer::Peer;
use crate::process::{cpu, json, private_bytes};
use crate::request::{Kind, Request};

/// Connections of one run: what ephemeral ports towards one address there are, less some.
const CONNECTIONS_MAX: usize = 20_000;

/// Connections that may be on their way into the server's queue of those to accept.
const OPENING_MAX: usize = 256;

/// How long the server may take to answer anything.
const PATIENCE: Duration = Duration::from_secs(30);

/// Events taken at once.
const EVENTS_MAX: usize = 1024;

/// Holds some answers of 64 KiB.
const BUFFER_BYTES: usize = 256 << 10;

/// How long a thread may not look at what is to be done.
const LOOK: Duration = Duration::from_millis(10);

const WARMING_UP: u8 = 0;
const MEASURING: u8 = 1;
const DONE: u8 = 2;

pub(crate) fn run(flags: &Flags) -> Outcome {
    let address = flags.required("address")?;
    let pid: u32 = flags.required("pid")?;
    let connections: usize = flags.required("connections")?;
    let kind: Kind = flags.required("request")?;
    let pipelined = flags.get("pipelined", 1)?;
    let threads = flags.get("threads", 1)?.clamp(1, connections.max(1));
    let warm_up = Duration::from_secs_f64(flags.get("warm-up", 0.5)?);
    let window = Duration::from_secs_f64(flags.get("seconds", 3.0)?);
    if !(1..=CONNECTIONS_MAX).contains(&connections) {
        return Err(format!("{connections} connections; give 1 to {CONNECTIONS_MAX}").into());
    }
    let request = Request::new(kind)?;
    let crowds = (0..threads)
        .map(|thread| {
            let part = thread * connections / threads..(thread + 1) * connections / threads;
            Crowd::open(address, part, request.clone())
        })
        .collect::<Outcome<Vec<_>>>()?;

    let phase = AtomicU8::new(WARMING_UP);
    let own_pid = std::process::id();
    thread::scope(|scope| {
        let crowds: Vec<_> =
            crowds.into_iter().map(|crowd| scope.spawn(|| crowd.keep_asking(pipelined, &phase))).collect();
        thread::sleep(warm_up);
        let (busy, own_busy, start) = (cpu(pid), cpu(own_pid), Instant::now());
        phase.store(MEASURING, Ordering::Relaxed);
        thread::sleep(window);
        let elapsed = start.elapsed();
        let percent = |before: Option<Duration>, pid| {
            let busy = before.zip(cpu(pid)).map(|(before, after)| after.saturating_sub(before))?;
            Some(format!("{:.1}", 100.0 * busy.as_secs_f64() / elapsed.as_secs_f64()))
        };
        let (server, own) = (percent(busy, pid), percent(own_busy, own_pid));
        phase.store(DONE, Ordering::Relaxed);
        let private = private_bytes(pid);
        let mut latencies = histogram()?;
        let mut errors = Vec::new();
        for crowd in crowds {
            let told = crowd.join().map_err(|_| "a thread of the load has panicked")??;
            latencies.add(&told.latencies)?;
            errors.extend(told.errors);
        }
        println!(
            "{{\"requests\":{},\"requestsPerSecond\":{:.1},\"p50Us\":{:.1},\"p99Us\":{:.1},\"errors\":{},\"firstError\":{:?},\
             \"cpuPercent\":{},\"loadCpuPercent\":{},\"privateBytes\":{}}}",
            latencies.len(),
            latencies.len() as f64 / elapsed.as_secs_f64(),
            latencies.value_at_quantile(0.5) as f64 / 1e3,
            latencies.value_at_quantile(0.99) as f64 / 1e3,
            errors.len(),
            errors.first().map_or("", String::as_str),
            json(server),
            json(own),
            json(private),
        );
        Ok(())
    })
}

/// Nanoseconds up to a minute, to three digits.
fn histogram() -> Outcome<Histogram<u64>> {
    Ok(Histogram::new_with_bounds(1, 60_000_000_000, 3)?)
}

/// What a thread has seen.
struct Told {
    latencies: Histogram<u64>,
    errors: Vec<String>,
}

/// The connections of one thread.
pub(crate) struct Crowd {
    poll: Poll,
    peers: Vec<Option<Peer>>,
    request: Request,
    buffer: Vec<u8>,
}

impl Crowd {
    /// Opens connections with these numbers and waits until the server has said hello on each.
    pub(crate) fn open(address: SocketAddr, numbers: Range<usize>, request: Request) -> Outcome<Self> {
        let mut crowd =
            Self { poll: Poll::new()?, peers: Vec::new(), request, buffer: vec![0; BUFFER_BYTES] };
        let mut events = Events::with_capacity(EVENTS_MAX);
        let mut opening = 0;
        let mut numbers = numbers.peekable();
        let mut heard = Instant::now();
        while opening > 0 || numbers.peek().is_some() {
            while opening < OPENING_MAX {
                let Some(number) = numbers.next() else { break };
                let peer = Peer::connect(address, number)?;
                crowd.poll.registry().register(
                    &mut SourceFd(&peer.socket.as_raw_fd()),
                    Token(crowd.peers.len()),
                    Interest::READABLE | Interest::WRITABLE,
                )?;
                crowd.peers.push(Some(peer));
                opening += 1;
            }
            crowd.poll.poll(&mut events, Some(LOOK))?;
            for event in &events {
                let Some(Some(peer)) = crowd.peers.get_mut(event.token().0) else { continue };
                let was_open = peer.is_open();
                peer.flush()?;
                peer.receive(Kind::Ping, &mut crowd.buffer, |_| {})?;
                if peer.is_open() && !was_open {
                    opening -= 1;
                    heard = Instant::now();
                }
            }
            if heard.elapsed() > PATIENCE {
                return Err(format!("{opening} connections were not answered").into());
            }
        }
        Ok(crowd)
    }

    /// Asks so many times on each connection, anew when an answer has come, and waits for all answers.
    pub(crate) fn ask(&mut self, times: u32) -> Outcome {
        let mut left = vec![times; self.peers.len()];
        let mut unanswered = times as usize * left.len();
        for peer in self.peers.iter_mut().flatten() {
            peer.ask(&self.request);
            peer.flush()?;
        }
        let mut events = Events::with_capacity(EVENTS_MAX);
        let mut heard = Instant::now();
        while unanswered > 0 {
            self.poll.poll(&mut events, Some(LOOK))?;
            for event in &events {
                let at = event.token().0;
                let (Some(Some(peer)), Some(left)) = (self.peers.get_mut(at), left.get_mut(at)) else {
                    continue;
                };
                let mut answers = 0;
                peer.flush()?;
                peer.receive(self.request.kind, &mut self.buffer, |_| answers += 1)?;
                if answers == 1 {
                    heard = Instant::now();
                    unanswered -= 1;
                    *left -= 1;
                    if *left > 0 {
                        peer.ask(&self.request);
                        peer.flush()?;
                    }
                }
            }
            if heard.elapsed() > PATIENCE {
                return Err(format!("{unanswered} requests were not answered").into());
            }
        }
        Ok(())
    }

    fn keep_asking(mut self, pipelined: usize, phase: &AtomicU8) -> Outcome<Told> {
        let mut told = Told { latencies: histogram()?, errors: Vec::new() };
        for peer in self.peers.iter_mut().flatten() {
            (0..pipelined).for_each(|_| peer.ask(&self.request));
            peer.flush()?;
        }
        let mut events = Events::with_capacity(EVENTS_MAX);
        let mut heard = Instant::now();
        loop {
            self.poll.poll(&mut events, Some(LOOK))?;
            let now = phase.load(Ordering::Relaxed);
            if now == DONE {
                return Ok(told);
            }
            if events.is_empty() && heard.elapsed() > PATIENCE {
                return Err("the server does not answer any more".into());
            } else if !events.is_empty() {
                heard = Instant::now();
            }
            for event in &events {
                let Some(place) = self.peers.get_mut(event.token().0) else { continue };
                let Some(peer) = place else { continue };
                if let Err(error) = turn(peer, &self.request, &mut self.buffer, |latency| {
                    if now == MEASURING {
                        told.latencies.saturating_record(latency.as_nanos() as u64);
                    }
                }) {
                    told.errors.push(error.to_string());
                    *place = None;
                }
            }
        }
    }
}

/// Takes what has come on one connection and asks anew for each answer.
fn turn(peer: &mut Peer, request: &Request, buffer: &mut [u8], mut record: impl FnMut(Duration)) -> Outcome {
    let mut answers = 0;
    peer.flush()?;
    peer.receive(request.kind, buffer, |sent| {
        record(sent.elapsed());
        answers += 1;
    })?;
    (0..answers).for_each(|_| peer.ask(request));
    peer.flush()
}
