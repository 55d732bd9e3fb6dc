//! Reading a log, and telling what a crash left unfinished from what was damaged.

use std::sync::atomic::{AtomicU64, Ordering};

use xferd_wire::resp::RequestParser;

use super::batch::{self, Note};
use super::{LogError, Manifest, Reader, Replay};
use crate::import::{MAGIC, read_dump};
use crate::persistence::Report;
use xferd_os::Dir;

/// What a disk writes as a whole, at least.
const SECTOR_BYTES: u64 = 512;
/// Places that look like the beginning of a batch and are none, after which no other is looked for.
const GUESSES_MAX: usize = 1000;

/// How far a keyspace was loaded, to be looked at meanwhile.
#[derive(Debug, Default)]
pub struct Loading {
    /// Bytes of all files.
    pub bytes_total: AtomicU64,
    /// Bytes of them that were read.
    pub bytes: AtomicU64,
    /// Requests that were carried out.
    pub requests: AtomicU64,
}

/// What a crash had left unfinished, and was cut off.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TornTail {
    /// The file.
    pub file: String,
    /// Where it ends now.
    pub offset: u64,
    /// How much longer it was.
    pub bytes: u64,
}

/// A file of a log.
#[derive(Debug)]
pub(crate) struct Source<'a> {
    /// Its name, for messages.
    pub(crate) name: &'a str,
    /// Whether a crash may have left it unfinished: nothing was written behind it.
    pub(crate) may_be_torn: bool,
}

/// What was noted in the files.
#[derive(Debug, Default)]
pub(crate) struct Noted {
    /// The newest time, in seconds since 1970.
    pub(crate) newest_s: u64,
    /// How much of the last file that has anything in it had been synced for certain, if that says so.
    pub(crate) synced: Option<u64>,
}

/// What is wrong at some place of a file.
struct Wrong {
    what: String,
    /// Where the damage ends at least, if it is there.
    end: u64,
    /// Something has only begun when the file ends.
    is_unfinished: bool,
}

/// Loads the base and the increments. What there was, and what was noted in it.
pub(crate) fn load_all(
    dir: &Dir,
    shown: &dyn Fn(&str) -> String,
    manifest: &Manifest,
    replay: &mut Replay<'_>,
    loading: &Loading,
) -> Result<(Report, Noted), LogError> {
    let mut files = Vec::new();
    for name in manifest.names() {
        let opened = dir.open_file(name).map_err(|source| LogError::Io { file: shown(name), source });
        let (file, attributes) = opened?;
        loading.bytes_total.fetch_add(attributes.size, Ordering::Relaxed);
        files.push((name, file, attributes.size));
    }
    let (mut report, mut noted) = (Report::default(), Noted::default());
    let last = files.iter().rposition(|(.., size)| *size > 0);
    let first_increment = usize::from(manifest.base.is_some());
    for (index, (name, file, size)) in files.into_iter().enumerate() {
        let file_name = shown(name);
        let source =
            Source { name: &file_name, may_be_torn: last == Some(index) && index >= first_increment };
        let mut reader = Reader::new(file, size);
        replay.begin();
        if size > 0 {
            noted.synced = None;
        }
        reader.fill(MAGIC.len()).map_err(|source| LogError::Io { file: file_name.clone(), source })?;
        if reader.rest().starts_with(MAGIC) {
            let now_ms = replay.keyspace().now_ms();
            read_dump(&mut reader, replay, &source, now_ms, loading)?;
            // What Redis appends to a dump does not count on the database that was selected there.
            replay.begin();
        }
        let torn = load(&mut reader, replay, &source, &mut noted, loading)?;
        report.bytes += size;
        if let Some(offset) = torn {
            let bytes = size - offset;
            report.bytes -= bytes;
            report.torn = Some(TornTail { file: file_name, offset, bytes });
        }
    }
    report.requests = replay.requests;
    loading.bytes.store(report.bytes, Ordering::Relaxed);
    Ok((report, noted))
}

/// Does again what is in a file. Where it is torn off, if it is.
///
/// # Errors
/// [`LogError::Damaged`], [`LogError::Io`].
fn load(
    reader: &mut Reader,
    replay: &mut Replay<'_>,
    source: &Source<'_>,
    noted: &mut Noted,
    loading: &Loading,
) -> Result<Option<u64>, LogError> {
    let io = |error| LogError::Io { file: source.name.into(), source: error };
    let damaged = |offset, what| LogError::Damaged { file: source.name.into(), offset, what };
    let mut parser = RequestParser::new();
    let mut group = 0;
    loop {
        let offset = reader.offset();
        reader.fill(1).map_err(io)?;
        let Some(first) = reader.rest().first().copied() else { break };
        if !replay.is_gathering() {
            group = offset;
        }
        let step = match first {
            b'#' => annotation(reader, noted).map_err(io)?,
            _ => request(reader, &mut parser).map_err(io)?,
        };
        let wrong = match step {
            Ok(Step::Passed) => continue,
            Ok(Step::Request(len)) => {
                let bytes = reader.rest().get(..len).unwrap_or_default();
                let refused = replay.take(parser.args(bytes), bytes);
                reader.take(len);
                refused.map_err(|refusal| damaged(offset, refusal.0))?;
                loading.bytes.fetch_add(reader.offset() - offset, Ordering::Relaxed);
                loading.requests.store(replay.requests, Ordering::Relaxed);
                continue;
            }
            Err(wrong) => wrong,
        };
        if source.may_be_torn && is_torn(reader, offset, &wrong).map_err(io)? {
            return Ok(Some(group));
        }
        return Err(damaged(offset, wrong.what));
    }
    match (replay.is_gathering(), source.may_be_torn) {
        (false, _) => Ok(None),
        (true, true) => Ok(Some(group)),
        (true, false) => Err(damaged(group, "MULTI without EXEC".into())),
    }
}

enum Step {
    Passed,
    Request(usize),
}

/// Reads an annotation, and looks at the whole of a batch before anything of it is believed.
fn annotation(reader: &mut Reader, noted: &mut Noted) -> std::io::Result<Result<Step, Wrong>> {
    reader.fill(batch::LINE_BYTES_MAX)?;
    let Some((note, len)) = batch::parse(reader.rest()) else {
        let is_unfinished = reader.left() < batch::LINE_BYTES_MAX as u64;
        let end = reader.offset() + reader.left().min(batch::LINE_BYTES_MAX as u64);
        return Ok(Err(Wrong { what: "an annotation does not end".into(), end, is_unfinished }));
    };
    match note {
        Note::Other => {}
        Note::Time(seconds) => noted.newest_s = noted.newest_s.max(seconds),
        Note::Batch(header) => {
            noted.synced = noted.synced.max(Some(header.synced));
            let behind = reader.left() - len as u64;
            if header.len > behind {
                let end = reader.offset() + reader.left();
                let what = format!("a batch has {} bytes less than it says", header.len - behind);
                return Ok(Err(Wrong { what, end, is_unfinished: true }));
            }
            let whole = len + header.len as usize;
            reader.fill(whole)?;
            if !reader.rest().get(len..whole).is_some_and(|bytes| header.fits(bytes)) {
                let end = reader.offset() + whole as u64;
                let what = "a batch is not what was written".into();
                return Ok(Err(Wrong { what, end, is_unfinished: false }));
            }
        }
    }
    reader.take(len);
    Ok(Ok(Step::Passed))
}

fn request(reader: &mut Reader, parser: &mut RequestParser) -> std::io::Result<Result<Step, Wrong>> {
    let offset = reader.offset();
    let nearby = |reader: &Reader| offset + reader.left().min(SECTOR_BYTES);
    if reader.rest().first() != Some(&b'*') {
        let what = "no request begins here".into();
        return Ok(Err(Wrong { what, end: nearby(reader), is_unfinished: false }));
    }
    loop {
        let wrong = match parser.parse(reader.rest()) {
            Ok(Some(len)) if parser.args(reader.rest()).is_empty() => {
                let what = format!("a request of {len} bytes is empty");
                Wrong { what, end: nearby(reader), is_unfinished: false }
            }
            Ok(Some(len)) => return Ok(Ok(Step::Request(len))),
            Ok(None) if reader.is_last() => {
                let what = "a request does not end".into();
                Wrong { what, end: offset + reader.left(), is_unfinished: true }
            }
            Ok(None) => {
                let there = reader.rest().len();
                reader.fill(there + parser.wants(there))?;
                continue;
            }
            Err(error) => {
                Wrong { what: format!("no request: {error}"), end: nearby(reader), is_unfinished: false }
            }
        };
        return Ok(Err(wrong));
    }
}

/// Whether what is wrong at `offset` is how a crash leaves a file.
///
/// A killed process leaves the front of what it wrote last. A machine without power leaves any part of what had not been
/// synced, and zeros in the place of the rest. So it is damage if what follows says that this had been synced; and if
/// there is anything that follows, but no zeros.
fn is_torn(reader: &mut Reader, offset: u64, wrong: &Wrong) -> std::io::Result<bool> {
    let is_lost = has_lost_sector(reader, offset, wrong.end)?;
    reader.seek(offset + 1);
    let (mut guesses, mut has_more) = (0, false);
    loop {
        reader.fill(2 * batch::LINE_BYTES_MAX)?;
        let Some(at) = batch::find(reader.rest()) else {
            if reader.is_last() {
                break;
            }
            // Its beginning may be at the end of what is in memory.
            let len = reader.rest().len();
            reader.take(len - batch::LINE_BYTES_MAX.min(len - 1));
            continue;
        };
        reader.take(at);
        reader.fill(batch::LINE_BYTES_MAX)?;
        if let Some((Note::Batch(header), len)) = batch::parse(reader.rest()) {
            if header.len <= reader.left() - len as u64 {
                let whole = len + header.len as usize;
                reader.fill(whole)?;
                if reader.rest().get(len..whole).is_some_and(|bytes| header.fits(bytes)) {
                    if header.synced > offset {
                        return Ok(false);
                    }
                    has_more = true;
                    reader.take(whole);
                    continue;
                }
            }
        }
        guesses += 1;
        if guesses > GUESSES_MAX {
            break;
        }
        reader.take(1);
    }
    Ok(is_lost || (wrong.is_unfinished && !has_more))
}

/// Whether there are zeros in `[offset, end)` from its beginning or from the beginning of a sector to where the sector ends.
fn has_lost_sector(reader: &mut Reader, offset: u64, end: u64) -> std::io::Result<bool> {
    reader.seek(offset);
    while reader.offset() < end {
        let sector_end = (reader.offset() / SECTOR_BYTES + 1) * SECTOR_BYTES;
        let len = (sector_end - reader.offset()).min(reader.left()) as usize;
        reader.fill(len)?;
        if reader.rest().get(..len).is_some_and(|bytes| bytes.iter().all(|byte| *byte == 0)) {
            return Ok(true);
        }
        reader.take(len);
    }
    Ok(false)
}
