//! What is written at once: requests, and in front of them a line that tells whether they are whole.
//!
//! `#XFERD:<bytes>:<check>:<synced>` and CR LF: how many bytes follow and belong to it, their CRC-64/NVME in hexadecimal,
//! and how much of the file had been synced when that was written. Redis and redis-check-aof take a line that begins with
//! `#` for an annotation and skip it.
//!
//! Redis's format alone cannot tell a value from zeros that a power loss put in its place, nor damage done later from
//! the end of what had come to the disk. With this both can be told.

use std::io::Write as _;

use crc_fast::{CrcAlgorithm, checksum};
use xferd_wire::resp::write_integer;

/// Bytes in front of the requests, in which header and time are written at last.
const ROOM: usize = 96;

const NAME: &[u8] = b"#XFERD:";
const TIME: &[u8] = b"#TS:";
/// The longest line that is believed to be one. Redis reads 1,024.
pub(super) const LINE_BYTES_MAX: usize = 1024;

/// An annotation.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Note {
    /// A batch follows.
    Batch(Header),
    /// Seconds since 1970 when what follows was written.
    Time(u64),
    /// Something else, which is nobody's concern.
    Other,
}

/// What is said of a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) len: u64,
    check: u64,
    /// How much of the file had been synced.
    pub(super) synced: u64,
}

impl Header {
    pub(super) fn fits(&self, bytes: &[u8]) -> bool {
        checksum(CrcAlgorithm::Crc64Nvme, bytes) == self.check
    }
}

/// An empty batch in the memory of `bytes`.
pub(super) fn begun(mut bytes: Vec<u8>) -> Vec<u8> {
    bytes.clear();
    bytes.resize(ROOM, b' ');
    bytes
}

pub(super) fn is_empty(batch: &[u8]) -> bool {
    batch.len() <= ROOM
}

/// Puts the time in front of a batch, if it is to be noted, and then its header. Where it begins.
pub(super) fn finish(batch: &mut [u8], stamp_s: Option<u64>, synced: u64) -> usize {
    let mut start = ROOM;
    if let Some(seconds) = stamp_s {
        let mut line = TIME.to_vec();
        write_integer(i64::try_from(seconds).unwrap_or(i64::MAX), &mut line);
        line.extend_from_slice(b"\r\n");
        start = put_before(batch, start, &line);
    }
    let body = batch.get(start..).unwrap_or_default();
    let check = checksum(CrcAlgorithm::Crc64Nvme, body);
    let mut line = NAME.to_vec();
    // A vector takes all that is written to it.
    let _ = write!(line, "{}:{check:016x}:{synced}\r\n", body.len());
    put_before(batch, start, &line)
}

fn put_before(batch: &mut [u8], end: usize, line: &[u8]) -> usize {
    let start = end - line.len();
    batch[start..end].copy_from_slice(line);
    start
}

/// The annotation that `bytes` begin with, and how long it is; `None` if its line does not end.
pub(super) fn parse(bytes: &[u8]) -> Option<(Note, usize)> {
    let line = bytes.get(..bytes.len().min(LINE_BYTES_MAX)).unwrap_or_default();
    let end = line.iter().position(|byte| *byte == b'\n')?;
    let line = line.get(..end)?;
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    let note = match (line.strip_prefix(NAME).and_then(header), line.strip_prefix(TIME).and_then(number)) {
        (Some(header), _) => Note::Batch(header),
        (_, Some(seconds)) => Note::Time(seconds),
        _ => Note::Other,
    };
    Some((note, end + 1))
}

/// Where the next header may begin.
pub(super) fn find(bytes: &[u8]) -> Option<usize> {
    memchr::memmem::find(bytes, NAME)
}

fn header(fields: &[u8]) -> Option<Header> {
    let mut fields = fields.split(|byte| *byte == b':');
    let len = number(fields.next()?)?;
    let check = fields.next().filter(|check| check.len() == 16)?;
    let check = u64::from_str_radix(std::str::from_utf8(check).ok()?, 16).ok()?;
    let header = Header { len, check, synced: number(fields.next()?)? };
    fields.next().is_none().then_some(header)
}

fn number(text: &[u8]) -> Option<u64> {
    let number = xferd_wire::resp::parse_integer(text)?;
    u64::try_from(number).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_finished_is_read_again_and_any_byte_that_differs_is_seen() {
        for stamp in [None, Some(0), Some(i64::MAX as u64)] {
            let mut batch = begun(vec![7; 3]);
            assert!(is_empty(&batch));
            batch.extend_from_slice(b"*1\r\n$8\r\nFLUSHALL\r\n");
            let from = finish(&mut batch, stamp, i64::MAX as u64);
            let bytes = &batch[from..];
            let Some((Note::Batch(header), len)) = parse(bytes) else { panic!("no header") };
            assert_eq!((header.len, header.synced), ((bytes.len() - len) as u64, i64::MAX as u64));
            assert!(header.fits(&bytes[len..]));
            if let Some(seconds) = stamp {
                assert_eq!(parse(&bytes[len..]).map(|(note, _)| note), Some(Note::Time(seconds)));
            }
            for at in len..bytes.len() {
                let mut flipped = bytes.to_vec();
                flipped[at] ^= 1;
                assert!(!header.fits(&flipped[len..]));
            }
        }
    }

    #[test]
    fn other_annotations_are_passed_over_and_lines_without_an_end_are_none() {
        for line in ["#XFERD:1:2:3\r\n", "#XFERD:1:0000000000000002:3:4\r\n", "#TS:x\n", "#\n", "#hello\r\n"]
        {
            assert_eq!(parse(line.as_bytes()), Some((Note::Other, line.len())), "{line:?}");
        }
        assert_eq!(parse(b"#TS:1"), None);
        let mut line = vec![b'#'; LINE_BYTES_MAX - 1];
        line.push(b'\n');
        assert!(parse(&line).is_some());
        line.insert(0, b'#');
        assert!(parse(&line).is_none());
    }
}
