//! What goes to JavaScript as plain objects, and what it is on this side.
//!
//! Counts and sizes become doubles, which are exact up to 2^53 (9 PB).

use napi::bindgen_prelude::Buffer;
use napi_derive::napi;
use xferd_client::{FileFailure, Receipt, TransferProgress};
use xferd_engine::{Chosen, Failure};
use xferd_server::{CommandMetrics, Happening, HappeningKind, KvMetrics, Stats};
use xferd_wire::{Entry, EntryKind, WritePathCounts};

use crate::calls::{Completion, Outcome};

/// Why something failed.
#[napi(object, object_from_js = false)]
pub struct RawError {
    /// The name of an [`ErrorCode`](xferd_wire::ErrorCode).
    pub code: &'static str,
    /// Names the thing and the remedy.
    pub message: String,
    /// Whether the same may succeed later.
    pub retryable: bool,
}

impl From<Failure> for RawError {
    fn from(Failure { code, message, retryable }: Failure) -> Self {
        Self { code: code.name(), message, retryable }
    }
}

/// What there is under a name on the server.
#[napi(object, object_from_js = false)]
pub struct RawEntry {
    /// From the directory that was listed; the whole path if it was asked for by name.
    pub path: String,
    /// `file`, `directory`, `symlink` or `other`.
    pub kind: &'static str,
    /// Bytes of a file.
    pub size: f64,
    /// Permission bits.
    pub mode: u32,
    /// When it last changed, in milliseconds since 1970.
    pub mtime_ms: f64,
    /// Where a link points, if that is UTF-8.
    pub link_target: Option<String>,
}

impl From<Entry> for RawEntry {
    fn from(entry: Entry) -> Self {
        Self {
            path: entry.path.to_string(),
            kind: match entry.kind {
                EntryKind::File => "file",
                EntryKind::Directory => "directory",
                EntryKind::Symlink => "symlink",
                EntryKind::Other => "other",
            },
            size: entry.size as f64,
            mode: entry.mode,
            mtime_ms: entry.mtime.seconds as f64 * 1e3 + f64::from(entry.mtime.nanoseconds) / 1e6,
            link_target: entry.link_target.map(|target| target.to_string()),
        }
    }
}

/// A file that could not be transferred.
#[napi(object, object_from_js = false)]
pub struct RawFailure {
    /// Which.
    pub path: String,
    /// Why.
    pub error: RawError,
}

impl From<FileFailure> for RawFailure {
    fn from(FileFailure { path, failure }: FileFailure) -> Self {
        Self { path, error: failure.into() }
    }
}

/// What a transfer came to; the fields are those of [`Receipt`].
#[napi(object, object_from_js = false)]
#[derive(Default)]
#[allow(missing_docs)]
pub struct RawReceipt {
    pub files: f64,
    pub unchanged: f64,
    pub unchanged_bytes: f64,
    pub directories: f64,
    pub links: f64,
    pub bytes: f64,
    pub resumed_bytes: f64,
    pub skipped: f64,
    pub digest: Option<String>,
    pub seconds: f64,
    pub write_paths: RawWritePaths,
    pub failed: f64,
    pub failures: Vec<RawFailure>,
}

/// How many files took each way to the disk.
#[napi(object, object_from_js = false)]
#[derive(Default)]
#[allow(missing_docs)]
pub struct RawWritePaths {
    pub cached: f64,
    pub uncached: f64,
    pub direct: f64,
    pub paced: f64,
}

impl From<WritePathCounts> for RawWritePaths {
    fn from(counts: WritePathCounts) -> Self {
        let [cached, uncached, direct, paced] = counts.0.map(|count| count as f64);
        Self { cached, uncached, direct, paced }
    }
}

impl From<Receipt> for RawReceipt {
    fn from(receipt: Receipt) -> Self {
        Self {
            files: receipt.files as f64,
            unchanged: receipt.unchanged as f64,
            unchanged_bytes: receipt.unchanged_bytes as f64,
            directories: receipt.directories as f64,
            links: receipt.links as f64,
            bytes: receipt.bytes as f64,
            resumed_bytes: receipt.resumed_bytes as f64,
            skipped: receipt.skipped as f64,
            digest: receipt.digest.map(|digest| digest.to_string()),
            seconds: receipt.elapsed.as_secs_f64(),
            write_paths: receipt.write_paths.into(),
            failed: receipt.failed as f64,
            failures: receipt.failures.into_iter().map(RawFailure::from).collect(),
        }
    }
}

/// The answer to one call: an error, or whichever of the other fields the call is about.
#[napi(object, object_from_js = false)]
#[derive(Default)]
#[allow(missing_docs)]
pub struct RawCompletion {
    pub id: i64,
    pub error: Option<RawError>,
    pub receipt: Option<RawReceipt>,
    pub entries: Option<Vec<RawEntry>>,
    pub entry: Option<RawEntry>,
    pub chunk: Option<Buffer>,
    pub end: Option<bool>,
    pub size: Option<f64>,
}

impl From<Completion> for RawCompletion {
    fn from(Completion { id, result, .. }: Completion) -> Self {
        let nothing = Self { id, ..Self::default() };
        match result {
            Err(failure) => Self { error: Some(failure.into()), ..nothing },
            Ok(Outcome::Done | Outcome::Taken) => nothing,
            Ok(Outcome::Entry(entry)) => Self { entry: Some(entry.into()), ..nothing },
            Ok(Outcome::Entries(entries, missing)) => Self {
                entries: Some(entries.into_iter().map(RawEntry::from).collect()),
                error: missing.map(RawError::from),
                ..nothing
            },
            Ok(Outcome::Receipt(receipt)) => Self { receipt: Some(receipt.into()), ..nothing },
            Ok(Outcome::Opened(bytes)) => Self { size: bytes.map(|bytes| bytes as f64), ..nothing },
            Ok(Outcome::Replies(replies, missing)) => {
                Self { chunk: Some(replies.into()), error: missing.map(RawError::from), ..nothing }
            }
            Ok(Outcome::Chunk(bytes)) => Self { chunk: Some(bytes.into()), ..nothing },
            Ok(Outcome::End) => Self { end: Some(true), ..nothing },
        }
    }
}

/// How far a transfer has come; the fields are those of [`TransferProgress`].
#[napi(object, object_from_js = false)]
#[allow(missing_docs)]
pub struct RawProgress {
    pub bytes: f64,
    pub resumed_bytes: f64,
    pub unchanged_bytes: f64,
    pub total_bytes: f64,
    pub files: f64,
    pub total_files: f64,
    pub total_known: bool,
}

impl From<TransferProgress> for RawProgress {
    fn from(progress: TransferProgress) -> Self {
        Self {
            bytes: progress.bytes as f64,
            resumed_bytes: progress.resumed_bytes as f64,
            unchanged_bytes: progress.unchanged_bytes as f64,
            total_bytes: progress.total_bytes as f64,
            files: progress.files as f64,
            total_files: progress.total_files as f64,
            total_known: progress.total_known,
        }
    }
}

/// A server's counters; the fields are those of [`Stats`].
#[napi(object, object_from_js = false)]
#[allow(missing_docs)]
pub struct RawServerStats {
    pub connections: f64,
    pub accepted: f64,
    pub files_received: f64,
    pub files_sent: f64,
    pub bytes_received: f64,
    pub bytes_sent: f64,
    pub errors: f64,
    pub write_paths: RawWritePaths,
}

impl From<Stats> for RawServerStats {
    fn from(stats: Stats) -> Self {
        Self {
            connections: stats.connections as f64,
            accepted: stats.accepted as f64,
            files_received: stats.files_received as f64,
            files_sent: stats.files_sent as f64,
            bytes_received: stats.bytes_received as f64,
            bytes_sent: stats.bytes_sent as f64,
            errors: stats.errors as f64,
            write_paths: stats.write_paths.into(),
        }
    }
}

/// What waits for sockets.
#[napi(object, object_from_js = false)]
pub struct RawBackend {
    /// `mio` or `uring`.
    pub name: &'static str,
    /// Why it is not `uring`, if that was wanted.
    pub reason: Option<String>,
}

impl From<&Chosen> for RawBackend {
    fn from(chosen: &Chosen) -> Self {
        Self { name: chosen.backend.name(), reason: chosen.reason.clone() }
    }
}

/// Something that happened on a server.
#[napi(object, object_from_js = false)]
#[derive(Default)]
pub struct RawServerEvent {
    /// `accepted`, `closed`, `stored`, `sent` or `failed`.
    pub event: &'static str,
    /// On whose connection.
    pub peer: Option<String>,
    /// What it was about, if about a path.
    pub path: Option<String>,
    /// Bytes of what was stored or sent.
    pub bytes: Option<f64>,
    /// The way to the disk that what was stored took.
    pub write_path: Option<&'static str>,
    /// Why it failed.
    pub error: Option<RawError>,
}

impl From<Happening> for RawServerEvent {
    fn from(Happening { peer, kind }: Happening) -> Self {
        let mut raw = Self { peer: peer.map(|peer| peer.to_string()), ..Self::default() };
        match kind {
            HappeningKind::Accepted => raw.event = "accepted",
            HappeningKind::Closed => raw.event = "closed",
            HappeningKind::Stored { path, bytes, write_path } => {
                raw.event = "stored";
                (raw.path, raw.bytes) = (Some(path.to_string()), Some(bytes as f64));
                raw.write_path = Some(write_path.name());
            }
            HappeningKind::Sent { path, bytes } => {
                raw.event = "sent";
                (raw.path, raw.bytes) = (Some(path.to_string()), Some(bytes as f64));
            }
            HappeningKind::StopAsked => raw.event = "stop-asked",
            HappeningKind::Failed { path, failure } => {
                raw.event = "failed";
                (raw.path, raw.error) = (path.map(|path| path.to_string()), Some(failure.into()));
            }
        }
        raw
    }
}

/// What a key-value store tells of itself.
#[napi(object, object_from_js = false)]
pub struct RawKvMetrics {
    /// Connections now.
    pub connections: f64,
    /// Connections since the start.
    pub accepted: f64,
    /// Commands since the start.
    pub commands: f64,
    /// Keys in all databases.
    pub keys: f64,
    /// Bytes of memory that they take.
    pub memory: f64,
    /// Keys that were asked for and there.
    pub hits: f64,
    /// Keys that were asked for and not there.
    pub misses: f64,
    /// Keys whose time had come.
    pub expired: f64,
    /// Keys that made room for others.
    pub evicted: f64,
    /// Each command that was carried out.
    pub by_command: Vec<RawCommandMetrics>,
}

/// What a command has cost.
#[napi(object, object_from_js = false)]
pub struct RawCommandMetrics {
    /// In lower case.
    pub name: &'static str,
    /// How often it was carried out.
    pub calls: f64,
    /// How often it answered with an error.
    pub failed: f64,
    /// Milliseconds in all.
    pub total_ms: f64,
    /// Milliseconds that half of the calls took at most.
    pub p50_ms: f64,
    /// Milliseconds that 99 % of the calls took at most.
    pub p99_ms: f64,
    /// Milliseconds that 99.9 % of the calls took at most.
    pub p999_ms: f64,
}

impl From<KvMetrics> for RawKvMetrics {
    fn from(metrics: KvMetrics) -> Self {
        let keyspace = metrics.keyspace;
        Self {
            connections: metrics.connections as f64,
            accepted: metrics.connections_accepted as f64,
            commands: metrics.commands as f64,
            keys: keyspace.keys.iter().sum::<u64>() as f64,
            memory: keyspace.memory as f64,
            hits: keyspace.hits as f64,
            misses: keyspace.misses as f64,
            expired: keyspace.expired as f64,
            evicted: keyspace.evicted as f64,
            by_command: metrics.by_command.into_iter().map(RawCommandMetrics::from).collect(),
        }
    }
}

impl From<CommandMetrics> for RawCommandMetrics {
    fn from(metrics: CommandMetrics) -> Self {
        let [p50_ms, p99_ms, p999_ms] = metrics.percentiles.map(|took| took.as_secs_f64() * 1e3);
        Self {
            name: metrics.name,
            calls: metrics.calls as f64,
            failed: metrics.failed as f64,
            total_ms: metrics.took.as_secs_f64() * 1e3,
            p50_ms,
            p99_ms,
            p999_ms,
        }
    }
}
