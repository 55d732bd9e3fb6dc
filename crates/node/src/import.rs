//! Taking keys over from Redis, as Node sees it.

use std::path::Path;
use std::thread;

use napi::Status;
use napi::threadsafe_function::{ThreadsafeFunction, ThreadsafeFunctionCallMode};
use napi_derive::napi;
use xferd_engine::Failure;
use xferd_kv::{Loading, LogError, Report, import_into};
use xferd_wire::ErrorCode;

use crate::calls::attempt;
use crate::raw::RawError;

/// Takes what an import came to. It keeps Node alive until then.
type Done = ThreadsafeFunction<RawImport, (), RawImport, Status, false>;

/// An error, or what was taken over.
#[napi(object, object_from_js = false)]
#[derive(Default)]
#[allow(missing_docs)]
pub struct RawImport {
    pub error: Option<RawError>,
    pub keys: Option<f64>,
    pub bytes: Option<f64>,
    /// What the end of the last file is short of, and was left out.
    pub torn_bytes: Option<f64>,
}

impl From<Result<(Report, u64), Failure>> for RawImport {
    fn from(result: Result<(Report, u64), Failure>) -> Self {
        match result {
            Err(failure) => Self { error: Some(failure.into()), ..Self::default() },
            Ok((Report { bytes, torn, .. }, keys)) => Self {
                error: None,
                keys: Some(keys as f64),
                bytes: Some(bytes as f64),
                torn_bytes: torn.map(|torn| torn.bytes as f64),
            },
        }
    }
}

/// Puts the keys of the file or directory `source` into `dir` and calls `done` with what came of it, unless it returns why it could
/// not even begin.
///
/// On a thread of its own, not of Node's pool: a process that is to exit would wait for that one.
#[napi]
pub fn import_keys(source: String, dir: String, done: Done) -> Option<RawError> {
    let import = move || {
        let imported = || import_into(Path::new(&source), Path::new(&dir), &Loading::default());
        let result = attempt(|| imported().map_err(failure));
        // It fails only while the environment ends, and then nobody wants to know any more.
        done.call(result.into(), ThreadsafeFunctionCallMode::NonBlocking);
    };
    let thread = thread::Builder::new().name("xferd-import".into()).spawn(import);
    thread.err().map(|error| Failure::io("cannot start a thread to import", &error).into())
}

fn failure(error: LogError) -> Failure {
    match &error {
        LogError::Io { file, source } => Failure::io(file, source),
        LogError::InUse(_) => Failure::new(ErrorCode::Busy, error.to_string()),
        _ => Failure::new(ErrorCode::InvalidArgument, error.to_string()),
    }
}
