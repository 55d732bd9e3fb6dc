//! Load for a key-value store as Node sees it.

use std::thread;
use std::time::Duration;

use napi::Status;
use napi::threadsafe_function::{ThreadsafeFunction, ThreadsafeFunctionCallMode};
use napi_derive::napi;
use xferd_client::load::{Command, Distribution, Load, Report, Until};
use xferd_engine::Failure;
use xferd_wire::ErrorCode;

use crate::address;
use crate::calls::attempt;
use crate::options::{backend, duration};
use crate::raw::RawError;

/// Takes what a load came to. It keeps Node alive until then.
type Done = ThreadsafeFunction<RawKvLoad, (), RawKvLoad, Status, false>;

/// What to ask for, how often; what is left out is as [`Load::new`] has it.
#[napi(object, object_to_js = false)]
#[allow(missing_docs)]
pub struct RawKvLoadOptions {
    pub address: String,
    pub password: Option<String>,
    /// `ping`, `set`, `get`, `incr`, `lpush`, or `mixed`, and then how many of all are GET.
    pub command: Option<String>,
    pub reads: Option<f64>,
    pub connections: Option<u32>,
    pub pipeline: Option<u32>,
    pub threads: Option<u32>,
    pub keys: Option<u32>,
    /// `uniform`, `sequential`, or `zipf`, and then its exponent.
    pub distribution: Option<String>,
    pub exponent: Option<f64>,
    pub value_bytes: Option<u32>,
    pub warm_up_ms: Option<f64>,
    /// The one of these two that is given.
    pub time_ms: Option<f64>,
    pub requests: Option<f64>,
    pub rate: Option<f64>,
    pub timeout_ms: Option<f64>,
    pub backend: Option<String>,
}

impl TryFrom<RawKvLoadOptions> for Load {
    type Error = Failure;

    fn try_from(options: RawKvLoadOptions) -> Result<Self, Failure> {
        let load = Self::new(address::parse_kv(&options.address)?);
        let time = |what, ms: Option<f64>| ms.map(|ms| duration(what, ms)).transpose();
        Ok(Self {
            password: options.password,
            command: options.command.map_or(Ok(load.command), |name| command(&name, options.reads))?,
            connections: options.connections.map_or(load.connections, |count| count as usize),
            pipeline: options.pipeline.map_or(load.pipeline, |count| count as usize),
            threads: options.threads.map_or(load.threads, |count| count as usize),
            keys: options.keys.unwrap_or(load.keys),
            distribution: options
                .distribution
                .map_or(Ok(load.distribution), |name| distribution(&name, options.exponent))?,
            value_bytes: options.value_bytes.map_or(load.value_bytes, |bytes| bytes as usize),
            warm_up: time("warmUpMs", options.warm_up_ms)?.unwrap_or(load.warm_up),
            until: match options.requests {
                // What is no whole number, or too large for one, becomes one that is refused or never reached.
                Some(requests) => Until::Requests(requests as u64),
                None => time("timeMs", options.time_ms)?.map_or(load.until, Until::Time),
            },
            rate: options.rate.map(|rate| rate as u64),
            patience: time("timeoutMs", options.timeout_ms)?.unwrap_or(load.patience),
            backend: options.backend.as_deref().map_or(Ok(load.backend), backend)?,
            ..load
        })
    }
}

fn command(name: &str, reads: Option<f64>) -> Result<Command, Failure> {
    Ok(match (name, reads) {
        ("ping", None) => Command::Ping,
        ("set", None) => Command::Set,
        ("get", None) => Command::Get,
        ("incr", None) => Command::Incr,
        ("lpush", None) => Command::Lpush,
        ("mixed", Some(reads)) => Command::Mixed(reads),
        _ => {
            return Err(wrong(format!(
                "no load of {name:?}; there are ping, set, get, incr, lpush and mixed"
            )));
        }
    })
}

fn distribution(name: &str, exponent: Option<f64>) -> Result<Distribution, Failure> {
    Ok(match (name, exponent) {
        ("uniform", None) => Distribution::Uniform,
        ("sequential", None) => Distribution::Sequential,
        ("zipf", Some(exponent)) => Distribution::Zipf(exponent),
        _ => {
            return Err(wrong(format!(
                "keys are not distributed {name:?}; there are uniform, sequential, zipf"
            )));
        }
    })
}

fn wrong(message: String) -> Failure {
    Failure::new(ErrorCode::InvalidArgument, message)
}

/// An error, or the figures; the fields are those of [`Report`].
#[napi(object, object_from_js = false)]
#[derive(Default)]
#[allow(missing_docs)]
pub struct RawKvLoad {
    pub error: Option<RawError>,
    pub requests: f64,
    pub errors: f64,
    pub first_error: Option<String>,
    pub misses: f64,
    pub unsent: f64,
    pub seconds: f64,
    pub mean_ms: f64,
    pub p50_ms: f64,
    pub p95_ms: f64,
    pub p99_ms: f64,
    pub p999_ms: f64,
    pub max_ms: f64,
    pub histogram: Vec<RawLatencies>,
}

/// How many requests took so long, and not less than half of it.
#[napi(object, object_from_js = false)]
#[allow(missing_docs)]
pub struct RawLatencies {
    pub below_ms: f64,
    pub count: f64,
}

impl From<Result<Report, Failure>> for RawKvLoad {
    fn from(result: Result<Report, Failure>) -> Self {
        /// The first step of the histogram: nothing is answered faster.
        const FIRST: Duration = Duration::from_micros(1);
        let report = match result {
            Err(failure) => return Self { error: Some(failure.into()), ..Self::default() },
            Ok(report) => report,
        };
        let latencies = &report.latencies;
        let quantile = |quantile| ms(latencies.value_at_quantile(quantile));
        let steps = latencies.iter_log(FIRST.as_nanos() as u64, 2.0).map(|step| RawLatencies {
            below_ms: ms(step.value_iterated_to() + 1),
            count: step.count_since_last_iteration() as f64,
        });
        Self {
            error: None,
            requests: report.requests as f64,
            errors: report.errors as f64,
            misses: report.misses as f64,
            unsent: report.unsent as f64,
            seconds: report.elapsed.as_secs_f64(),
            mean_ms: latencies.mean() / 1e6,
            p50_ms: quantile(0.5),
            p95_ms: quantile(0.95),
            p99_ms: quantile(0.99),
            p999_ms: quantile(0.999),
            max_ms: ms(latencies.max()),
            histogram: steps.skip_while(|step| step.count == 0.0).collect(),
            first_error: report.first_error,
        }
    }
}

fn ms(nanoseconds: u64) -> f64 {
    nanoseconds as f64 / 1e6
}

/// Generates load once and calls `done` with what came of it, unless it returns why it could not even begin. On a thread of its
/// own, as [`measure_ceiling`](crate::ceiling::measure_ceiling).
#[napi]
pub fn measure_kv(options: RawKvLoadOptions, done: Done) -> Option<RawError> {
    let measure = move || {
        let result = attempt(|| Load::try_from(options)?.run());
        // It fails only while the environment ends, and then nobody wants to know any more.
        done.call(result.into(), ThreadsafeFunctionCallMode::NonBlocking);
    };
    let thread = thread::Builder::new().name("xferd-kv-load".into()).spawn(measure);
    thread.err().map(|error| Failure::io("cannot start a thread to measure", &error).into())
}
