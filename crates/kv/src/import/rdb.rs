//! Dumps of Redis (`rdb.h`, `rdb.c`): versions up to 11, the types of keys that there are here.

use crc_fast::{CrcAlgorithm, Digest};
use xferd_wire::resp::{ArgsBuf, write_double};

use super::lzf::decompress;
use super::packed::{Read, intset, listpack, little, signed, ziplist};
use crate::STRING_BYTES_MAX;
use crate::log::{Loading, LogError, Reader, Replay, Source};

/// What a dump begins with.
pub(crate) const MAGIC: &[u8] = b"REDIS";
/// That of Redis 7.2; 7.0 writes 10.
const VERSION_MAX: u32 = 11;
/// From then on a dump ends with a checksum.
const VERSION_WITH_CHECK: u32 = 5;
/// Arguments of one request that makes a part of a collection, beside command and key. An even number.
const ITEMS_MAX: usize = 128;

const FREQUENCY: u8 = 249;
const IDLE: u8 = 248;
const AUX: u8 = 250;
const RESIZE: u8 = 251;
const EXPIRES_MS: u8 = 252;
const EXPIRES_S: u8 = 253;
const SELECT: u8 = 254;
const END: u8 = 255;

/// Reads a dump up to its end, and has the keys made that have not expired by `now_ms`.
///
/// # Errors
/// [`LogError::Import`], [`LogError::Io`].
pub(crate) fn read_dump(
    reader: &mut Reader,
    replay: &mut Replay<'_>,
    source: &Source<'_>,
    now_ms: u64,
    loading: &Loading,
) -> Result<(), LogError> {
    let mut dump = Dump { reader, digest: Digest::new(CrcAlgorithm::Crc64Redis), name: source.name };
    let version = dump.bytes(9)?;
    let version = std::str::from_utf8(version.get(MAGIC.len()..).unwrap_or_default()).unwrap_or_default();
    let Some(version) = version.parse().ok().filter(|version| (1..=VERSION_MAX).contains(version)) else {
        return Err(dump.wrong(format!("a dump of version {version:?}; those up to {VERSION_MAX} are known")));
    };
    let mut deadline = None;
    loop {
        let start = dump.reader.offset();
        match dump.byte()? {
            AUX => {
                dump.string()?;
                dump.string()?;
            }
            RESIZE => {
                dump.len()?;
                dump.len()?;
            }
            IDLE => drop(dump.len()?),
            FREQUENCY => drop(dump.byte()?),
            EXPIRES_MS => deadline = Some(little(&dump.bytes(8)?)),
            EXPIRES_S => deadline = Some(little(&dump.bytes(4)?).saturating_mul(1000)),
            SELECT => {
                let number = dump.len()?.to_string();
                let args: ArgsBuf = ["SELECT", &number].iter().collect();
                replay.carry_out(args.args()).map_err(|refusal| dump.wrong(refusal.0))?;
            }
            END => break,
            kind => {
                let key = dump.string()?;
                let deadline = deadline.take();
                let is_wanted = deadline.is_none_or(|deadline| deadline > now_ms);
                let mut made = Made { replay, key, args: ArgsBuf::new(), items: 0, member: None, is_wanted };
                dump.value(kind, &mut made)?;
                if let Some(deadline) = deadline {
                    let deadline = deadline.to_string();
                    made.say(&[b"PEXPIREAT", &made.key.clone(), deadline.as_bytes()])
                        .map_err(|what| dump.wrong(what))?;
                }
                loading.bytes.fetch_add(dump.reader.offset() - start, std::sync::atomic::Ordering::Relaxed);
            }
        }
    }
    if version >= VERSION_WITH_CHECK {
        let check = dump.digest.finalize();
        let said = little(&dump.bytes(8)?);
        // Who dumps without a checksum says 0.
        if said != 0 && said != check {
            return Err(dump.wrong("the checksum of the dump differs; copy it anew".into()));
        }
    }
    Ok(())
}

struct Dump<'r> {
    reader: &'r mut Reader,
    digest: Digest,
    name: &'r str,
}

/// A length, or how a string is written instead.
enum Len {
    Plain(u64),
    Encoded(u8),
}

impl Dump<'_> {
    fn wrong(&self, what: String) -> LogError {
        LogError::Import { file: self.name.into(), offset: self.reader.offset(), what }
    }

    fn bytes(&mut self, len: usize) -> Result<Vec<u8>, LogError> {
        if len as u64 > self.reader.left() {
            let left = self.reader.left();
            return Err(
                self.wrong(format!("{len} bytes are said to follow, and there are {left}: it is cut off"))
            );
        }
        let filled = self.reader.fill(len);
        filled.map_err(|source| LogError::Io { file: self.name.into(), source })?;
        let bytes = self.reader.rest().get(..len).unwrap_or_default().to_vec();
        self.digest.update(&bytes);
        self.reader.take(len);
        Ok(bytes)
    }

    fn byte(&mut self) -> Result<u8, LogError> {
        Ok(self.bytes(1)?.first().copied().unwrap_or_default())
    }

    fn any_len(&mut self) -> Result<Len, LogError> {
        let first = self.byte()?;
        let big = |bytes: Vec<u8>| bytes.iter().fold(0, |number, byte| number << 8 | u64::from(*byte));
        Ok(match first {
            0x00..=0x3f => Len::Plain(first.into()),
            0x40..=0x7f => Len::Plain(u64::from(first & 0x3f) << 8 | u64::from(self.byte()?)),
            0x80 => Len::Plain(big(self.bytes(4)?)),
            0x81 => Len::Plain(big(self.bytes(8)?)),
            0xc0..=0xff => Len::Encoded(first & 0x3f),
            _ => return Err(self.wrong(format!("{first:#x} is no length"))),
        })
    }

    fn len(&mut self) -> Result<u64, LogError> {
        match self.any_len()? {
            Len::Plain(len) => Ok(len),
            Len::Encoded(_) => Err(self.wrong("a length is written as a string is".into())),
        }
    }

    /// A length of something that is in memory at once.
    fn string_len(&mut self) -> Result<usize, LogError> {
        let len = self.len()?;
        self.admit(len)
    }

    fn admit(&self, len: u64) -> Result<usize, LogError> {
        let admitted = usize::try_from(len).ok().filter(|len| *len <= STRING_BYTES_MAX);
        admitted.ok_or_else(|| {
            self.wrong(format!("a string of {len} bytes; {STRING_BYTES_MAX} is the most there can be"))
        })
    }

    fn string(&mut self) -> Result<Vec<u8>, LogError> {
        let number = |bytes: Vec<u8>| signed(&bytes).to_string().into_bytes();
        match self.any_len()? {
            Len::Plain(len) => {
                let len = self.admit(len)?;
                self.bytes(len)
            }
            Len::Encoded(0) => self.bytes(1).map(number),
            Len::Encoded(1) => self.bytes(2).map(number),
            Len::Encoded(2) => self.bytes(4).map(number),
            Len::Encoded(3) => {
                let (len, whole) = (self.string_len()?, self.string_len()?);
                let bytes = self.bytes(len)?;
                decompress(&bytes, whole).ok_or_else(|| self.wrong("a compressed string is damaged".into()))
            }
            Len::Encoded(other) => Err(self.wrong(format!("{other} is no encoding of a string"))),
        }
    }

    /// What a key holds.
    fn value(&mut self, kind: u8, made: &mut Made<'_, '_>) -> Result<(), LogError> {
        let command = match kind {
            0 => "SET",
            1 | 10 | 14 | 18 => "RPUSH",
            2 | 11 | 20 => "SADD",
            3 | 5 | 12 | 17 => "ZADD",
            4 | 13 | 16 => "HSET",
            _ => return Err(self.wrong(unknown(kind, &made.key))),
        };
        if kind == 0 {
            let value = self.string()?;
            return made.say(&[b"SET", &made.key.clone(), &value]).map_err(|what| self.wrong(what));
        }
        // It may be there already.
        made.say(&[b"DEL", &made.key.clone()]).map_err(|what| self.wrong(what))?;
        made.begin(command);
        match kind {
            1 | 2 | 4 => {
                let strings = if kind == 4 { 2 } else { 1 };
                for _ in 0..self.len()?.saturating_mul(strings) {
                    let item = self.string()?;
                    made.item(&item).map_err(|what| self.wrong(what))?;
                }
            }
            3 | 5 => {
                for _ in 0..self.len()? {
                    let member = self.string()?;
                    let score = if kind == 3 { self.old_score()? } else { self.score()? };
                    made.item(&member).and_then(|()| made.item(&score)).map_err(|what| self.wrong(what))?;
                }
            }
            14 | 18 => {
                for _ in 0..self.len()? {
                    // 1 is an element by itself, 2 a listpack.
                    let form = if kind == 18 { self.len()? } else { 2 };
                    let node = self.string()?;
                    match (form, kind) {
                        (1, _) => made.item(&node).map_err(|what| self.wrong(what))?,
                        (2, 14) => self.unpack(&node, ziplist, made)?,
                        (2, _) => self.unpack(&node, listpack, made)?,
                        _ => return Err(self.wrong(format!("{form} is no form of a part of a list"))),
                    }
                }
            }
            _ => {
                let packed = self.string()?;
                let read = match kind {
                    11 => intset,
                    10 | 12 | 13 => ziplist,
                    _ => listpack,
                };
                self.unpack(&packed, read, made)?;
            }
        }
        made.end().map_err(|what| self.wrong(what))
    }

    fn unpack(&self, packed: &[u8], read: Read, made: &mut Made<'_, '_>) -> Result<(), LogError> {
        let mut refused = None;
        let whole = read(packed, &mut |item| match made.item(item) {
            Ok(()) => true,
            Err(what) => {
                refused = Some(what);
                false
            }
        });
        match (refused, whole) {
            (Some(what), _) => Err(self.wrong(what)),
            (None, None) => Err(self.wrong("a collection in compact form is damaged".into())),
            (None, Some(())) => Ok(()),
        }
    }

    fn score(&mut self) -> Result<Vec<u8>, LogError> {
        let mut text = Vec::new();
        write_double(f64::from_bits(little(&self.bytes(8)?)), &mut text);
        Ok(text)
    }

    /// A score in decimal, as dumps had them before version 8.
    fn old_score(&mut self) -> Result<Vec<u8>, LogError> {
        match self.byte()? {
            253 => Ok(b"nan".to_vec()),
            254 => Ok(b"inf".to_vec()),
            255 => Ok(b"-inf".to_vec()),
            len => self.bytes(len.into()),
        }
    }
}

/// A key that is being made.
struct Made<'m, 'k> {
    replay: &'m mut Replay<'k>,
    key: Vec<u8>,
    /// The request that its next elements are put into.
    args: ArgsBuf,
    items: usize,
    /// A member whose score comes next, which a request has the other way round.
    member: Option<Vec<u8>>,
    is_wanted: bool,
}

impl Made<'_, '_> {
    fn say(&mut self, words: &[&[u8]]) -> Result<(), String> {
        let args: ArgsBuf = words.iter().collect();
        self.carry_out(&args)
    }

    fn carry_out(&mut self, args: &ArgsBuf) -> Result<(), String> {
        if !self.is_wanted {
            return Ok(());
        }
        let key = self.key.get(..100).unwrap_or(&self.key).escape_ascii();
        self.replay.carry_out(args.args()).map_err(|refusal| format!("key \"{key}\": {}", refusal.0))
    }

    fn begin(&mut self, command: &str) {
        self.items = 0;
        self.args.clear();
        self.args.push(command.as_bytes());
        self.args.push(&self.key);
    }

    fn item(&mut self, item: &[u8]) -> Result<(), String> {
        let command = self.args.args().get(0).unwrap_or_default();
        if command == b"ZADD" {
            match self.member.take() {
                None => {
                    self.member = Some(item.to_vec());
                    return Ok(());
                }
                Some(member) => {
                    self.args.push(item);
                    self.args.push(&member);
                    self.items += 2;
                }
            }
        } else {
            self.args.push(item);
            self.items += 1;
        }
        if self.items >= ITEMS_MAX { self.flush() } else { Ok(()) }
    }

    fn flush(&mut self) -> Result<(), String> {
        let args = std::mem::take(&mut self.args);
        self.carry_out(&args)?;
        let command = args.args().get(0).map(<[u8]>::to_vec).unwrap_or_default();
        self.begin(&String::from_utf8_lossy(&command));
        Ok(())
    }

    fn end(&mut self) -> Result<(), String> {
        if self.member.is_some() {
            return Err("a member has no score".into());
        }
        if self.items > 0 { self.flush() } else { Ok(()) }
    }
}

fn unknown(kind: u8, key: &[u8]) -> String {
    let what = match kind {
        6 | 7 => "a type of a module",
        9 => "a hash as Redis kept it before 2.6",
        15 | 19 | 21 => "a stream",
        245 | 246 => return "it has functions; remove them (FUNCTION FLUSH) and dump anew".into(),
        247 => return "it has what belongs to a module; dump without that module".into(),
        _ => "of a type that is not known",
    };
    let key = key.get(..100).unwrap_or(key).escape_ascii();
    format!("key \"{key}\" is {what} ({kind}), which cannot be taken over; remove it and dump anew")
}
