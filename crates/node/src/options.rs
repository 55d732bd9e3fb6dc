//! What comes from JavaScript as plain objects, and the specifications it becomes.

use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use napi_derive::napi;
use xferd_client::{Compare, PullSpec, PushSpec, Selection, Sources, WriteSpec};
use xferd_engine::{Backend, Failure};
use xferd_kv::{Fsync, Policy, UnknownPolicy};
use xferd_server::{Config, KvConfig};
use xferd_store::WritePolicy;
use xferd_wire::{DigestAlgorithm, ErrorCode, Mtime, RemotePath};

use crate::address;

/// How to serve; what is left out is as [`Config::new`] has it.
#[napi(object, object_to_js = false)]
#[derive(Default)]
#[allow(missing_docs)]
pub struct RawServerOptions {
    pub root: Option<String>,
    pub listen: Vec<String>,
    pub io_threads: Option<u32>,
    pub workers: Option<u32>,
    pub backend: Option<String>,
    pub durable: Option<bool>,
    pub write_path: Option<String>,
    pub read_only: Option<bool>,
    pub insecure: Option<bool>,
    pub max_connections: Option<u32>,
    pub kv: Option<RawKvOptions>,
}

/// How to keep keys; what is left out is as [`KvConfig`] has it.
#[napi(object, object_to_js = false)]
#[derive(Default)]
#[allow(missing_docs)]
pub struct RawKvOptions {
    pub max_memory: Option<f64>,
    pub policy: Option<String>,
    pub password: Option<String>,
    pub idle_ms: Option<f64>,
    pub dir: Option<String>,
    pub fsync: Option<String>,
}

impl TryFrom<RawKvOptions> for KvConfig {
    type Error = Failure;

    fn try_from(options: RawKvOptions) -> Result<Self, Failure> {
        let policy = options.policy.as_deref().map(str::parse).transpose();
        let policy: Option<Policy> = policy
            .map_err(|error: UnknownPolicy| Failure::new(ErrorCode::InvalidArgument, error.to_string()))?;
        let memory_max = options.max_memory.map(|bytes| match bytes {
            bytes if bytes.fract() == 0.0 && (1.0..=WHOLE_NUMBER_MAX).contains(&bytes) => Ok(bytes as u64),
            bytes => Err(Failure::new(
                ErrorCode::InvalidArgument,
                format!("keys cannot take {bytes} bytes of memory; give a whole number of at least 1"),
            )),
        });
        if options.password.as_deref() == Some("") {
            let message = "the password of the key-value store is empty; leave it out or give one";
            return Err(Failure::new(ErrorCode::InvalidArgument, message));
        }
        Ok(Self {
            memory_max: memory_max.transpose()?,
            policy: policy.unwrap_or_default(),
            password: options.password,
            idle: options.idle_ms.map(|ms| duration("kv.idleMs", ms)).transpose()?,
            dir: options.dir.map(PathBuf::from),
            fsync: options.fsync.as_deref().map_or(Ok(Fsync::default()), fsync)?,
            ..Self::default()
        })
    }
}

impl TryFrom<RawServerOptions> for Config {
    type Error = Failure;

    fn try_from(options: RawServerOptions) -> Result<Self, Failure> {
        let config = Config::new(options.root.unwrap_or_default());
        Ok(Config {
            listen: options
                .listen
                .iter()
                .map(|text| address::parse_listen(text))
                .collect::<Result<_, _>>()?,
            io_threads: options.io_threads.map_or(config.io_threads, |threads| threads as usize),
            workers: options.workers.map_or(config.workers, |threads| threads as usize),
            backend: options.backend.as_deref().map_or(Ok(config.backend), backend)?,
            durable: options.durable.unwrap_or(config.durable),
            write_policy: options.write_path.as_deref().map_or(Ok(config.write_policy), write_policy)?,
            read_only: options.read_only.unwrap_or(config.read_only),
            insecure: options.insecure.unwrap_or(config.insecure),
            connections_max: options.max_connections.map_or(config.connections_max, |count| count as usize),
            kv: options.kv.map(KvConfig::try_from).transpose()?,
            ..config
        })
    }
}

fn fsync(name: &str) -> Result<Fsync, Failure> {
    named("time to synchronise", name, Fsync::ALL, Fsync::name)
}

fn write_policy(name: &str) -> Result<WritePolicy, Failure> {
    named("way to write", name, WritePolicy::ALL, WritePolicy::name)
}

pub(crate) fn backend(name: &str) -> Result<Backend, Failure> {
    named("backend", name, Backend::ALL, Backend::name)
}

/// The one of `all` that people call `name`.
fn named<T: Copy, const N: usize>(
    kind: &str,
    name: &str,
    all: [T; N],
    name_of: impl Fn(T) -> &'static str,
) -> Result<T, Failure> {
    let wrong = || {
        let known = all.map(&name_of).join(", ");
        Failure::new(ErrorCode::InvalidArgument, format!("{name} is no {kind}; there are {known}"))
    };
    all.into_iter().find(|&one| name_of(one) == name).ok_or_else(wrong)
}

/// How to work as a client; what is left out is as [`xferd_client::Config`] has it.
#[napi(object, object_to_js = false)]
#[derive(Default)]
#[allow(missing_docs)]
pub struct RawClientOptions {
    pub timeout_ms: Option<f64>,
    pub io_threads: Option<u32>,
    pub workers: Option<u32>,
    pub backend: Option<String>,
}

impl TryFrom<RawClientOptions> for xferd_client::Config {
    type Error = Failure;

    fn try_from(options: RawClientOptions) -> Result<Self, Failure> {
        let config = xferd_client::Config::default();
        Ok(Self {
            io_threads: options.io_threads.map_or(config.io_threads, |threads| threads as usize),
            workers: options.workers.map_or(config.workers, |threads| threads as usize),
            patience: options.timeout_ms.map_or(Ok(config.patience), |ms| duration("timeoutMs", ms))?,
            backend: options.backend.as_deref().map_or(Ok(config.backend), backend)?,
        })
    }
}

/// How to be a client of keys; what is left out is as [`KvConfig`](xferd_client::KvConfig) has it.
#[napi(object, object_to_js = false)]
#[derive(Default)]
#[allow(missing_docs)]
pub struct RawKvClientOptions {
    pub connections: Option<u32>,
    pub password: Option<String>,
    pub name: Option<String>,
    pub database: Option<u32>,
    pub timeout_ms: Option<f64>,
    pub backend: Option<String>,
}

impl TryFrom<RawKvClientOptions> for xferd_client::KvConfig {
    type Error = Failure;

    fn try_from(options: RawKvClientOptions) -> Result<Self, Failure> {
        let config = xferd_client::KvConfig::default();
        Ok(Self {
            connections: options.connections.map_or(config.connections, |count| count as usize),
            password: options.password,
            name: options.name,
            database: options.database.unwrap_or(config.database),
            patience: options.timeout_ms.map_or(Ok(config.patience), |ms| duration("timeoutMs", ms))?,
            backend: options.backend.as_deref().map_or(Ok(config.backend), backend)?,
        })
    }
}

/// How to push or pull; what is left out is one copy by one connection, with the default digest.
#[napi(object, object_to_js = false)]
#[derive(Default)]
#[allow(missing_docs)]
pub struct RawTransferOptions {
    pub clients: Option<u32>,
    pub streams: Option<u32>,
    pub resume: Option<bool>,
    pub mmap: Option<bool>,
    pub digest: Option<String>,
    pub durable: Option<bool>,
    pub include: Option<Vec<String>>,
    pub exclude: Option<Vec<String>>,
    pub checksum: Option<bool>,
    pub ignore_times: Option<bool>,
    pub dry_run: Option<bool>,
}

impl RawTransferOptions {
    pub(crate) fn push(
        self,
        sources: Vec<String>,
        target: &str,
        into_target: bool,
    ) -> Result<PushSpec, Failure> {
        Ok(PushSpec {
            sources: Sources {
                paths: sources.into_iter().map(Into::into).collect(),
                target: remote(target)?,
                into_target,
                selection: self.selection()?,
                digest: digest(self.digest.as_deref())?,
                mapped: self.mmap.unwrap_or(false),
            },
            clients: self.clients.unwrap_or(1) as usize,
            streams: self.streams.unwrap_or(1) as usize,
            resume: self.resume.unwrap_or(false),
            durable: self.durable.unwrap_or(false),
            compare: self.compare()?,
            dry_run: self.dry_run.unwrap_or(false),
        })
    }

    /// To pull `paths`.
    pub(crate) fn pull(self, paths: &[String], destination: String) -> Result<PullSpec, Failure> {
        Ok(PullSpec {
            paths: paths.iter().map(|path| remote(path)).collect::<Result<_, _>>()?,
            destination: destination.into(),
            selection: self.selection()?,
            clients: self.clients.unwrap_or(1) as usize,
            streams: self.streams.unwrap_or(1) as usize,
            digest: digest(self.digest.as_deref())?,
            durable: self.durable.unwrap_or(false),
            compare: self.compare()?,
            dry_run: self.dry_run.unwrap_or(false),
        })
    }

    fn compare(&self) -> Result<Compare, Failure> {
        match (self.checksum.unwrap_or(false), self.ignore_times.unwrap_or(false)) {
            (false, false) => Ok(Compare::Times),
            (true, false) => Ok(Compare::Contents),
            (false, true) => Ok(Compare::Nothing),
            (true, true) => Err(Failure::new(
                ErrorCode::InvalidArgument,
                "checksum compares contents and ignoreTimes compares nothing; take one of them",
            )),
        }
    }

    fn selection(&self) -> Result<Selection, Failure> {
        Selection::new(
            self.include.as_deref().unwrap_or_default(),
            self.exclude.as_deref().unwrap_or_default(),
        )
    }
}

/// How to write a file from a stream.
#[napi(object, object_to_js = false)]
#[derive(Default)]
#[allow(missing_docs)]
pub struct RawWriteOptions {
    pub durable: Option<bool>,
    pub digest: Option<String>,
}

impl RawWriteOptions {
    /// To write `path` as of now.
    pub(crate) fn write(self, path: &str) -> Result<WriteSpec, Failure> {
        let since_1970 = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        Ok(WriteSpec {
            path: remote(path)?,
            mode: STREAMED_FILE_MODE,
            mtime: Mtime {
                seconds: i64::try_from(since_1970.as_secs()).unwrap_or(i64::MAX),
                nanoseconds: since_1970.subsec_nanos(),
            },
            digest: digest(self.digest.as_deref())?,
            durable: self.durable.unwrap_or(false),
        })
    }
}

/// Checks a path as people spell it.
pub(crate) fn remote(path: &str) -> Result<RemotePath, Failure> {
    RemotePath::from_user(path).map_err(|error| Failure::new(ErrorCode::BadPath, error.to_string()))
}

/// Checks a time to wait.
pub(crate) fn duration(name: &str, ms: f64) -> Result<Duration, Failure> {
    if (0.0..=DURATION_MS_MAX).contains(&ms) {
        return Ok(Duration::from_secs_f64(ms / 1e3));
    }
    Err(Failure::new(
        ErrorCode::InvalidArgument,
        format!("{name} is {ms}; give milliseconds, 0 to {DURATION_MS_MAX}"),
    ))
}

fn digest(name: Option<&str>) -> Result<DigestAlgorithm, Failure> {
    let Some(name) = name else { return Ok(DigestAlgorithm::Crc64Nvme) };
    DigestAlgorithm::from_name(name).ok_or_else(|| {
        let names = DigestAlgorithm::ALL.map(DigestAlgorithm::name).join(", ");
        Failure::new(
            ErrorCode::InvalidArgument,
            format!("there is no digest {name:?}; choose one of {names}"),
        )
    })
}

/// What `open(2)` gives a new file under the usual umask; a stream has no mode of its own.
const STREAMED_FILE_MODE: u32 = 0o644;

/// The longest delay of a timer in Node, about 25 days.
const DURATION_MS_MAX: f64 = i32::MAX as f64;

/// Up to here every whole number is one in JavaScript.
const WHOLE_NUMBER_MAX: f64 = (1_u64 << 53) as f64;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_out_of_the_options_has_its_default() {
        let config = Config::try_from(RawServerOptions {
            root: Some("r".into()),
            listen: vec!["xfer://127.0.0.1:0".into()],
            workers: Some(3),
            ..RawServerOptions::default()
        });
        let (config, default) = (config.unwrap(), Config::new("r"));
        assert_eq!(
            (config.io_threads, config.connections_max),
            (default.io_threads, default.connections_max)
        );
        assert_eq!(config.workers, 3);

        let push = RawTransferOptions::default().push(vec!["a".into()], "//in/./b/", false).unwrap();
        assert_eq!((push.clients, push.streams, push.durable, push.dry_run), (1, 1, false, false));
        assert_eq!((push.sources.target.as_str(), push.sources.digest), ("in/b", DigestAlgorithm::Crc64Nvme));
    }

    #[test]
    fn an_option_that_makes_no_sense_is_named() {
        let named = |failure: Failure, code: ErrorCode, word: &str| {
            assert_eq!(failure.code, code);
            assert!(failure.message.contains(word), "{}", failure.message);
        };
        let options = || RawTransferOptions { digest: Some("md5".into()), ..RawTransferOptions::default() };
        named(options().push(Vec::new(), "", true).unwrap_err(), ErrorCode::InvalidArgument, "md5");
        let both = RawTransferOptions {
            checksum: Some(true),
            ignore_times: Some(true),
            ..RawTransferOptions::default()
        };
        named(both.push(Vec::new(), "", true).unwrap_err(), ErrorCode::InvalidArgument, "ignoreTimes");
        named(options().pull(&["../x".into()], String::new()).unwrap_err(), ErrorCode::BadPath, "../x");
        let kv = |options: RawKvOptions| KvConfig::try_from(options).unwrap_err();
        for bytes in [0.0, -1.0, 0.5, f64::NAN, WHOLE_NUMBER_MAX + 2.0] {
            let options = RawKvOptions { max_memory: Some(bytes), ..RawKvOptions::default() };
            named(kv(options), ErrorCode::InvalidArgument, "memory");
        }
        let options = RawKvOptions { policy: Some("random".into()), ..RawKvOptions::default() };
        named(kv(options), ErrorCode::InvalidArgument, "allkeys-lru");
        let options = RawKvOptions { password: Some(String::new()), ..RawKvOptions::default() };
        named(kv(options), ErrorCode::InvalidArgument, "password");
        for ms in [-1.0, f64::NAN, f64::INFINITY, DURATION_MS_MAX + 1.0] {
            named(duration("graceMs", ms).unwrap_err(), ErrorCode::InvalidArgument, "graceMs");
        }
        assert_eq!(duration("graceMs", DURATION_MS_MAX).unwrap(), Duration::from_millis(i32::MAX as u64));
    }
}
