//! Load for a key-value store: many connections that ask for one kind of thing again and again, and how long the answers took.
//!
//! It costs as little as it can, because it often runs on the processors of the server it measures: requests are copied from
//! ready ones and only their key is written anew, replies are held against the one that is expected, and looked into only if
//! they differ. Any server that speaks RESP can be measured.

mod keys;
mod replies;
mod requests;
mod run;
mod session;

use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use hdrhistogram::Histogram;
use xferd_engine::{Backend, Budget, Failure, Mailbox, Shard, check_threads, shards};
use xferd_os::clock;
use xferd_os::net::Address;
use xferd_reactor::Limits;
use xferd_wire::ErrorCode;

use self::run::{Run, Stage};
use self::session::LoadSession;

/// Connections of one load: each reactor holds somewhat more sockets at most.
pub const CONNECTIONS_MAX: usize = 16_000;

/// Requests on their way on one connection.
pub const PIPELINE_MAX: usize = 4096;

/// Bytes of all requests on their way on one connection, or of the replies to them: less than either side queues before it
/// reads no more, so that both can say all they have to.
pub const BATCH_BYTES_MAX: usize = 1 << 20;

/// Keys of one load.
pub const KEYS_MAX: u32 = 100_000_000;

/// The exponent of a Zipf distribution: with more, nearly all requests are for one key.
pub const EXPONENT_MAX: f64 = 10.0;

/// Requests a second.
pub const RATE_MAX: u64 = 100_000_000;

/// How long a load may take, and its warm-up.
pub const TIME_MAX: Duration = Duration::from_secs(24 * 3600);

/// Connections that may be on their way at a time: fewer than any server has a queue for.
const CONNECTING_MAX: usize = 64;

/// The shortest time for which whoever tells connections that a request is due sleeps; the kernel makes it a little longer.
const PACE: Duration = Duration::from_micros(50);

/// What is asked for.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Command {
    /// PING, which concerns no key.
    Ping,
    /// SET of a value.
    Set,
    /// GET of what was SET before.
    Get,
    /// GET, with this probability, or SET.
    Mixed(f64),
    /// INCR.
    Incr,
    /// LPUSH of a value.
    Lpush,
}

/// Which keys are asked for.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Distribution {
    /// Each as often as any other.
    Uniform,
    /// The n-th as often as 1/n to the power of this; a cache sees 0.7 to 1.1.
    Zipf(f64),
    /// One after the other, each connection beginning at another one.
    Sequential,
}

/// When it is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Until {
    /// After so long. What is on its way then is waited for.
    Time(Duration),
    /// After so many requests.
    Requests(u64),
}

/// What to do to a server.
#[derive(Clone, Debug)]
pub struct Load {
    /// Where it is.
    pub address: Address,
    /// What connections have to say first, if anything.
    pub password: Option<String>,
    /// What is asked for.
    pub command: Command,
    /// How many connections ask, 1 to [`CONNECTIONS_MAX`].
    pub connections: usize,
    /// Requests that a connection sends at once, 1 to [`PIPELINE_MAX`]: the next ones follow when all were answered.
    pub pipeline: usize,
    /// Reactors that generate it, 1 to as many as there are connections.
    pub threads: usize,
    /// How many keys there are, 1 to [`KEYS_MAX`].
    pub keys: u32,
    /// Which of them are asked for.
    pub distribution: Distribution,
    /// Bytes of a value.
    pub value_bytes: usize,
    /// How long load is generated before it counts: caches are cold, and tables grow.
    pub warm_up: Duration,
    /// When it ends.
    pub until: Until,
    /// Requests a second on all connections, each at its time; as many as are answered if there is none.
    pub rate: Option<u64>,
    /// How long a server may owe an answer.
    pub patience: Duration,
    /// What waits for sockets.
    pub backend: Backend,
}

impl Load {
    /// GET over 50 connections, one request at a time, for 5 seconds.
    pub fn new(address: impl Into<Address>) -> Self {
        Self {
            address: address.into(),
            password: None,
            command: Command::Get,
            connections: 50,
            pipeline: 1,
            threads: 1,
            keys: 100_000,
            distribution: Distribution::Uniform,
            value_bytes: 64,
            warm_up: Duration::from_secs(1),
            until: Until::Time(Duration::from_secs(5)),
            rate: None,
            patience: Duration::from_secs(30),
            backend: Backend::Auto,
        }
    }

    /// Generates the load and says what became of it. Blocks.
    ///
    /// Keys begin with `xferd-bench:`. Those that are to be there are written before, and all of them are removed in the
    /// end; neither counts.
    ///
    /// # Errors
    /// INVALID_ARGUMENT for what makes no sense; whatever ends a connection: a server that is not there, refuses the password,
    /// says nothing for too long, or goes away. Nothing is removed then.
    pub fn run(&self) -> Result<Report, Failure> {
        self.check()?;
        // Whoever may have fewer descriptors than connections hears of it when they are used up.
        let _ = xferd_os::raise_descriptor_limit();
        let generator = Generator::start(self)?;
        generator.connect()?;
        generator.work_through(Stage::Fill)?;
        if !self.warm_up.is_zero() {
            generator.ask_for(Stage::WarmUp, Until::Time(self.warm_up))?;
        }
        generator.ask_for(Stage::Measured, self.until)?;
        let report = generator.run.report();
        generator.work_through(Stage::Clean)?;
        Ok(report)
    }

    fn check(&self) -> Result<(), Failure> {
        let wrong = |message: String| Err(Failure::new(ErrorCode::InvalidArgument, message));
        check_threads(self.threads, 0)?;
        if !(1..=CONNECTIONS_MAX).contains(&self.connections) {
            return wrong(format!("{} connections; give 1 to {CONNECTIONS_MAX}", self.connections));
        }
        if self.threads > self.connections {
            let (threads, connections) = (self.threads, self.connections);
            return wrong(format!("{threads} threads for {connections} connections; give no more of them"));
        }
        if !(1..=PIPELINE_MAX).contains(&self.pipeline) {
            return wrong(format!("{} requests in a pipeline; give 1 to {PIPELINE_MAX}", self.pipeline));
        }
        if self.pipeline.saturating_mul(self.value_bytes) > BATCH_BYTES_MAX {
            let (pipeline, bytes) = (self.pipeline, self.value_bytes);
            return wrong(format!(
                "{pipeline} values of {bytes} bytes at once; a pipeline may have {BATCH_BYTES_MAX} bytes"
            ));
        }
        if !(1..=KEYS_MAX).contains(&self.keys) {
            return wrong(format!("{} keys; give 1 to {KEYS_MAX}", self.keys));
        }
        match self.distribution {
            Distribution::Zipf(exponent) if !(exponent > 0.0 && exponent <= EXPONENT_MAX) => {
                return wrong(format!(
                    "an exponent of {exponent}; give more than 0, and at most {EXPONENT_MAX}"
                ));
            }
            _ => {}
        }
        match self.command {
            Command::Mixed(reads) if !(0.0..=1.0).contains(&reads) => {
                return wrong(format!("reads are {reads} of all requests; give 0 to 1"));
            }
            _ => {}
        }
        if self.rate.is_some_and(|rate| !(1..=RATE_MAX).contains(&rate)) {
            let rate = self.rate.unwrap_or_default();
            return wrong(format!("{rate} requests a second; give 1 to {RATE_MAX}"));
        }
        match self.until {
            Until::Requests(0) => return wrong("0 requests; give at least 1".into()),
            Until::Time(Duration::ZERO) => return wrong("0 seconds; give more".into()),
            Until::Time(time) if time > TIME_MAX => {
                return wrong(format!("{} seconds; give at most {}", time.as_secs(), TIME_MAX.as_secs()));
            }
            _ if self.warm_up > TIME_MAX => {
                let seconds = self.warm_up.as_secs();
                return wrong(format!("a warm-up of {seconds} seconds; give at most {}", TIME_MAX.as_secs()));
            }
            _ => {}
        }
        Ok(())
    }
}

/// What became of a load.
#[derive(Clone, Debug)]
pub struct Report {
    /// Requests that were answered.
    pub requests: u64,
    /// Those among them that were answered by an error, or by something else than they ask for.
    pub errors: u64,
    /// What the first of these was.
    pub first_error: Option<String>,
    /// Those among the requests that found no value.
    pub misses: u64,
    /// Requests whose time came, and passed, without anybody being free to send them: the rate was too high.
    pub unsent: u64,
    /// How long that took.
    pub elapsed: Duration,
    /// Nanoseconds until the answer came, of all requests; if a rate was given, from when a request was due, and until the end
    /// for those that were never sent.
    ///
    /// A server that stands still for a moment delays one request of each connection, because none of them sends another
    /// meanwhile. Users would have gone on asking. Held against when they would have, those requests were late, too; without
    /// that, the more a server stands still, the fewer requests see it ("coordinated omission", as HdrHistogram's author calls
    /// it, whose wrk2 measures in this way).
    pub latencies: Histogram<u64>,
}

impl Report {
    /// Requests answered in a second.
    pub fn requests_per_second(&self) -> f64 {
        self.requests as f64 / self.elapsed.as_secs_f64()
    }
}

/// The threads, and what they are told.
struct Generator {
    run: Arc<Run>,
    mailboxes: Vec<Mailbox<LoadSession>>,
    threads: Vec<JoinHandle<()>>,
}

impl Generator {
    fn start(load: &Load) -> Result<Self, Failure> {
        let failed = |error: std::io::Error| Failure::io("cannot start threads to generate load", &error);
        let Load { backend, threads, connections, .. } = *load;
        let (shards, _) = shards(backend, threads, 0, Limits::default(), connections, &Budget::default())?;
        let mut generator = Self {
            run: Arc::new(Run::new(load)),
            mailboxes: shards.iter().map(Shard::mailbox).collect(),
            threads: Vec::new(),
        };
        for (index, shard) in shards.into_iter().enumerate() {
            let run = move || {
                if let Err(error) = shard.run() {
                    tracing::error!(%error, "a reactor that generates load has failed");
                }
            };
            let thread = thread::Builder::new().name(format!("xferd-load-{index}")).spawn(run);
            generator.threads.push(thread.map_err(failed)?);
        }
        Ok(generator)
    }

    /// Opens all connections, some at a time.
    fn connect(&self) -> Result<(), Failure> {
        let Self { run, mailboxes, .. } = self;
        let connections = run.load.connections;
        run.enter(Stage::Connect);
        for (index, mailbox) in (0..connections).zip(mailboxes.iter().cycle()) {
            run.wait_until_busy_are((connections - index + CONNECTING_MAX - 1).min(connections))?;
            let session = LoadSession::new(index, run.clone());
            if !mailbox.dispatch((), run.load.address.clone(), session) {
                return Err(Failure::new(ErrorCode::Busy, "a reactor takes no more connections; try again"));
            }
        }
        run.wait_until_busy_are(0)
    }

    /// Has something done to every key.
    fn work_through(&self, stage: Stage) -> Result<(), Failure> {
        self.enter(stage);
        self.run.wait_until_busy_are(0)
    }

    /// Generates load, and waits for the last answer.
    fn ask_for(&self, stage: Stage, until: Until) -> Result<(), Failure> {
        let Self { run, .. } = self;
        self.enter(stage);
        let end = match until {
            Until::Time(time) => Some(clock::now() + time),
            Until::Requests(_) => None,
        };
        match run.load.rate {
            Some(rate) => run.pace(rate, end)?,
            None => run.wait_until(end)?,
        }
        self.enter(Stage::Rest);
        run.wait_until_busy_are(0)
    }

    fn enter(&self, stage: Stage) {
        self.run.enter(stage);
        self.mailboxes.iter().for_each(Mailbox::nudge);
    }
}

impl Drop for Generator {
    fn drop(&mut self) {
        self.run.enter(Stage::Over);
        self.mailboxes.iter().for_each(Mailbox::stop);
        for thread in self.threads.drain(..) {
            // A thread that panicked has told so already.
            let _ = thread.join();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(change: impl FnOnce(&mut Load)) -> Result<(), Failure> {
        let mut load = Load::new(std::net::SocketAddr::from(([127, 0, 0, 1], 1)));
        change(&mut load);
        load.check()
    }

    /// What is allowed, and what is not.
    fn limit(at: impl FnOnce(&mut Load), past: impl FnOnce(&mut Load)) {
        assert_eq!(load(at), Ok(()));
        assert_eq!(load(past).unwrap_err().code, ErrorCode::InvalidArgument);
    }

    #[test]
    fn everything_has_a_limit_and_nothing_goes_past_it() {
        let fixed = |seconds| Until::Time(Duration::from_secs(seconds));
        limit(|load| load.connections = CONNECTIONS_MAX, |load| load.connections = CONNECTIONS_MAX + 1);
        limit(|load| load.connections = 1, |load| load.connections = 0);
        limit(|load| load.threads = 50, |load| load.threads = 51);
        limit(|load| load.threads = 1, |load| load.threads = 0);
        limit(|load| load.pipeline = PIPELINE_MAX, |load| load.pipeline = PIPELINE_MAX + 1);
        limit(|load| load.pipeline = 1, |load| load.pipeline = 0);
        limit(|load| load.value_bytes = BATCH_BYTES_MAX, |load| load.value_bytes = BATCH_BYTES_MAX + 1);
        limit(
            |load| (load.pipeline, load.value_bytes) = (16, BATCH_BYTES_MAX / 16),
            |load| (load.pipeline, load.value_bytes) = (16, BATCH_BYTES_MAX / 16 + 1),
        );
        limit(|load| load.keys = KEYS_MAX, |load| load.keys = KEYS_MAX + 1);
        limit(|load| load.keys = 1, |load| load.keys = 0);
        limit(
            |load| load.distribution = Distribution::Zipf(EXPONENT_MAX),
            |load| load.distribution = Distribution::Zipf(EXPONENT_MAX + 0.1),
        );
        limit(
            |load| load.distribution = Distribution::Zipf(0.001),
            |load| load.distribution = Distribution::Zipf(0.0),
        );
        limit(|load| load.command = Command::Mixed(1.0), |load| load.command = Command::Mixed(1.01));
        limit(|load| load.command = Command::Mixed(0.0), |load| load.command = Command::Mixed(f64::NAN));
        limit(|load| load.rate = Some(RATE_MAX), |load| load.rate = Some(RATE_MAX + 1));
        limit(|load| load.rate = Some(1), |load| load.rate = Some(0));
        limit(|load| load.until = Until::Requests(u64::MAX), |load| load.until = Until::Requests(0));
        limit(
            |load| load.until = Until::Time(Duration::from_nanos(1)),
            |load| load.until = Until::Time(Duration::ZERO),
        );
        limit(
            |load| load.until = fixed(TIME_MAX.as_secs()),
            |load| load.until = fixed(TIME_MAX.as_secs() + 1),
        );
        limit(|load| load.warm_up = TIME_MAX, |load| load.warm_up = TIME_MAX + Duration::from_nanos(1));
    }
}
