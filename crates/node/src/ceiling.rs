//! The kernel's ceiling as Node sees it.

use std::thread;

use napi::Status;
use napi::threadsafe_function::{ThreadsafeFunction, ThreadsafeFunctionCallMode};
use napi_derive::napi;
use xferd_engine::Failure;
use xferd_load::{Figures, Job, LoadError, Way};
use xferd_wire::ErrorCode;

use crate::calls::attempt;
use crate::raw::RawError;

/// Takes what a measurement came to. It keeps Node alive until then.
type Done = ThreadsafeFunction<RawCeiling, (), RawCeiling, Status, false>;

/// What to measure; the fields are those of [`Job`].
#[napi(object, object_to_js = false)]
#[allow(missing_docs)]
pub struct RawCeilingOptions {
    pub source: String,
    pub folder: String,
    pub clients: u32,
    /// The name of a [`Way`].
    pub way: String,
}

impl TryFrom<RawCeilingOptions> for Job {
    type Error = Failure;

    fn try_from(options: RawCeilingOptions) -> Result<Self, Failure> {
        let way = Way::from_name(&options.way).ok_or_else(|| {
            let names = Way::ALL.map(Way::name).join(", ");
            let message = format!("there is no way {:?}; choose one of {names}", options.way);
            Failure::new(ErrorCode::InvalidArgument, message)
        })?;
        Ok(Self {
            source: options.source.into(),
            folder: options.folder.into(),
            clients: options.clients as usize,
            way,
        })
    }
}

/// An error, or the figures; neither if the file system does not take this way.
#[napi(object, object_from_js = false)]
#[derive(Default)]
#[allow(missing_docs)]
pub struct RawCeiling {
    pub error: Option<RawError>,
    pub bytes: Option<f64>,
    pub seconds: Option<f64>,
    pub cpu_seconds: Option<f64>,
}

impl From<Result<Option<Figures>, Failure>> for RawCeiling {
    fn from(result: Result<Option<Figures>, Failure>) -> Self {
        match result {
            Err(failure) => Self { error: Some(failure.into()), ..Self::default() },
            Ok(None) => Self::default(),
            Ok(Some(Figures { bytes, elapsed, cpu })) => Self {
                error: None,
                bytes: Some(bytes as f64),
                seconds: Some(elapsed.as_secs_f64()),
                cpu_seconds: Some(cpu.as_secs_f64()),
            },
        }
    }
}

/// Measures one way once and calls `done` with what came of it, unless it returns why it could not even begin.
///
/// On a thread of its own, not of Node's pool: a process that is to exit would wait for that one.
#[napi]
pub fn measure_ceiling(options: RawCeilingOptions, done: Done) -> Option<RawError> {
    let measure = move || {
        let result = attempt(|| xferd_load::measure(&options.try_into()?).map_err(failure));
        // It fails only while the environment ends, and then nobody wants to know any more.
        done.call(result.into(), ThreadsafeFunctionCallMode::NonBlocking);
    };
    let thread = thread::Builder::new().name("xferd-ceiling".into()).spawn(measure);
    thread.err().map(|error| Failure::io("cannot start a thread to measure", &error).into())
}

fn failure(error: LoadError) -> Failure {
    let message = error.to_string();
    match error {
        LoadError::Clients(_) => Failure::new(ErrorCode::InvalidArgument, message),
        LoadError::Unsupported => Failure::new(ErrorCode::Unsupported, message),
        LoadError::Io { what, source } => Failure::io(&what, &source),
    }
}
