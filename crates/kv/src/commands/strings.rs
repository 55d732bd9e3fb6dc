//! Commands on strings.

use xferd_wire::resp::{Replies, parse_integer};

use super::{Call, is_word};
use crate::STRING_BYTES_MAX;
use crate::deadline::Unit;
use crate::decimal::Decimal;
use crate::entry::Entry;
use crate::lcs;
use crate::locked::Spot;
use crate::refused::Refused;

type Done = Result<(), Refused>;

/// What SET is told beside key and value.
#[derive(Default)]
struct SetOptions {
    deadline: Option<u64>,
    keeps_deadline: bool,
    only_if_absent: bool,
    only_if_present: bool,
    returns_old: bool,
}

impl SetOptions {
    fn of(call: &Call<'_, '_>) -> Result<Self, Refused> {
        let mut options = Self::default();
        let mut expires: Option<(Unit, &[u8])> = None;
        let mut words = call.rest(3).iter();
        while let Some(word) = words.next() {
            // The same unit may be named again; the last one counts.
            let unit = Unit::of_option(word)
                .filter(|unit| !options.keeps_deadline && expires.is_none_or(|(named, _)| named == *unit));
            if is_word(word, "nx") && !options.only_if_present {
                options.only_if_absent = true;
            } else if is_word(word, "xx") && !options.only_if_absent {
                options.only_if_present = true;
            } else if is_word(word, "get") {
                options.returns_old = true;
            } else if is_word(word, "keepttl") && expires.is_none() {
                options.keeps_deadline = true;
            } else if let Some(unit) = unit {
                expires = Some((unit, words.next().ok_or(Refused::Syntax)?));
            } else {
                return Err(Refused::Syntax);
            }
        }
        if let Some((unit, time)) = expires {
            options.deadline = Some(unit.future_deadline(time, call.keys.now_ms(), "set")?);
        }
        Ok(options)
    }
}

pub(super) fn set(call: &mut Call<'_, '_>, replies: &mut Replies<'_>) -> Done {
    let (key, value) = (call.arg(1), call.arg(2));
    if call.args.len() == 3 {
        store(call, key, value, None, false);
        replies.simple("OK");
        return Ok(());
    }
    let options = SetOptions::of(call)?;
    let spot = call.keys.find(key);
    if options.returns_old {
        let spot = call.keys.find_read(key);
        let old = string_at(call, spot)?;
        match old {
            Some(old) => replies.bulk(old),
            None => replies.null(),
        }
    }
    if (options.only_if_absent && spot.is_some()) || (options.only_if_present && spot.is_none()) {
        if !options.returns_old {
            replies.null();
        }
        return Ok(());
    }
    store(call, key, value, options.deadline, options.keeps_deadline);
    if let Some(deadline) = options.deadline {
        record_set(call, key, value, Some(deadline));
    } else if options.keeps_deadline {
        call.keys.record_as([&b"SET"[..], key, value, b"KEEPTTL"]);
    } else {
        record_set(call, key, value, None);
    }
    if !options.returns_old {
        replies.simple("OK");
    }
    Ok(())
}

/// Has `key` be that string, whatever it was.
fn store(call: &mut Call<'_, '_>, key: &[u8], value: &[u8], deadline: Option<u64>, keeps_deadline: bool) {
    match call.keys.find_used(key) {
        Some(spot) => call.keys.change(spot, key, |entry| {
            let deadline = if keeps_deadline { entry.deadline() } else { deadline };
            entry.set_deadline(deadline);
            entry.set_string(value);
        }),
        None => {
            let entry = Entry::string(call.keys.database(), key, value, deadline);
            call.keys.insert(key, entry);
        }
    }
}

/// Recorded so that it does the same at any other time.
fn record_set(call: &mut Call<'_, '_>, key: &[u8], value: &[u8], deadline: Option<u64>) {
    match deadline {
        Some(deadline) => {
            call.keys.record_as([
                &b"SET"[..],
                key,
                value,
                b"PXAT",
                itoa::Buffer::new().format(deadline).as_bytes(),
            ]);
        }
        None => call.keys.record_as([&b"SET"[..], key, value]),
    }
}

/// The string that is there, if any is.
fn string_at<'a>(call: &'a Call<'_, '_>, spot: Option<Spot>) -> Result<Option<&'a [u8]>, Refused> {
    spot.map(|spot| call.keys.entry(spot).as_string().ok_or(Refused::WrongType)).transpose()
}

fn answer_string(call: &Call<'_, '_>, spot: Option<Spot>, replies: &mut Replies<'_>) -> Done {
    match string_at(call, spot)? {
        Some(value) => replies.bulk(value),
        None => replies.null(),
    }
    Ok(())
}

pub(super) fn get(call: &mut Call<'_, '_>, replies: &mut Replies<'_>) -> Done {
    let spot = call.keys.find_read(call.arg(1));
    answer_string(call, spot, replies)
}

pub(super) fn getdel(call: &mut Call<'_, '_>, replies: &mut Replies<'_>) -> Done {
    let key = call.arg(1);
    let spot = call.keys.find_read(key);
    answer_string(call, spot, replies)?;
    if let Some(spot) = spot {
        call.keys.remove(spot, key);
        call.keys.record_as([&b"DEL"[..], key]);
    }
    Ok(())
}

pub(super) fn getset(call: &mut Call<'_, '_>, replies: &mut Replies<'_>) -> Done {
    let (key, value) = (call.arg(1), call.arg(2));
    let spot = call.keys.find_read(key);
    answer_string(call, spot, replies)?;
    store(call, key, value, None, false);
    record_set(call, key, value, None);
    Ok(())
}

pub(super) fn getex(call: &mut Call<'_, '_>, replies: &mut Replies<'_>) -> Done {
    let key = call.arg(1);
    let mut persists = false;
    let mut expires = None;
    let mut words = call.rest(2).iter();
    while let Some(word) = words.next() {
        if persists || expires.is_some() {
            return Err(Refused::Syntax);
        }
        if is_word(word, "persist") {
            persists = true;
        } else {
            let unit = Unit::of_option(word).ok_or(Refused::Syntax)?;
            expires = Some((unit, words.next().ok_or(Refused::Syntax)?));
        }
    }
    let Some(spot) = call.keys.find_read(key) else {
        replies.null();
        return Ok(());
    };
    string_at(call, Some(spot))?;
    let deadline =
        expires.map(|(unit, time)| unit.future_deadline(time, call.keys.now_ms(), "getex")).transpose()?;
    answer_string(call, Some(spot), replies)?;
    match deadline {
        Some(deadline) if deadline <= call.keys.now_ms() => {
            call.keys.remove(spot, key);
            call.keys.record_as([&b"DEL"[..], key]);
        }
        Some(deadline) => {
            call.keys.change(spot, key, |entry| entry.set_deadline(Some(deadline)));
            call.keys.record_as([&b"PEXPIREAT"[..], key, itoa::Buffer::new().format(deadline).as_bytes()]);
        }
        None if persists && call.keys.entry(spot).deadline().is_some() => {
            call.keys.change(spot, key, |entry| entry.set_deadline(None));
            call.keys.record_as([&b"PERSIST"[..], key]);
        }
        None => {}
    }
    Ok(())
}

pub(super) fn setnx(call: &mut Call<'_, '_>, replies: &mut Replies<'_>) -> Done {
    let (key, value) = (call.arg(1), call.arg(2));
    let is_new = call.keys.find(key).is_none();
    if is_new {
        store(call, key, value, None, false);
    }
    replies.integer(is_new.into());
    Ok(())
}

pub(super) fn setex(call: &mut Call<'_, '_>, replies: &mut Replies<'_>) -> Done {
    set_for(call, replies, Unit::Seconds, "setex")
}

pub(super) fn psetex(call: &mut Call<'_, '_>, replies: &mut Replies<'_>) -> Done {
    set_for(call, replies, Unit::Milliseconds, "psetex")
}

fn set_for(call: &mut Call<'_, '_>, replies: &mut Replies<'_>, unit: Unit, name: &'static str) -> Done {
    let (key, value) = (call.arg(1), call.arg(3));
    let deadline = unit.future_deadline(call.arg(2), call.keys.now_ms(), name)?;
    store(call, key, value, Some(deadline), false);
    record_set(call, key, value, Some(deadline));
    replies.simple("OK");
    Ok(())
}

pub(super) fn mget(call: &mut Call<'_, '_>, replies: &mut Replies<'_>) -> Done {
    replies.array(call.args.len() - 1);
    for key in call.rest(1).iter() {
        match call.keys.find_read(key).and_then(|spot| call.keys.entry(spot).as_string()) {
            Some(value) => replies.bulk(value),
            None => replies.null(),
        }
    }
    Ok(())
}

pub(super) fn mset(call: &mut Call<'_, '_>, replies: &mut Replies<'_>) -> Done {
    set_pairs(call, "mset")?;
    replies.simple("OK");
    Ok(())
}

pub(super) fn msetnx(call: &mut Call<'_, '_>, replies: &mut Replies<'_>) -> Done {
    check_pairs(call, "msetnx")?;
    if call.rest(1).iter().step_by(2).any(|key| call.keys.find(key).is_some()) {
        replies.integer(0);
        return Ok(());
    }
    set_pairs(call, "msetnx")?;
    replies.integer(1);
    Ok(())
}

fn check_pairs(call: &Call<'_, '_>, name: &str) -> Done {
    if call.rest(1).len() % 2 == 0 { Ok(()) } else { Err(Refused::Arity(name.into())) }
}

fn set_pairs(call: &mut Call<'_, '_>, name: &str) -> Done {
    check_pairs(call, name)?;
    let mut pairs = call.rest(1).iter();
    while let (Some(key), Some(value)) = (pairs.next(), pairs.next()) {
        store(call, key, value, None, false);
    }
    Ok(())
}

pub(super) fn incr(call: &mut Call<'_, '_>, replies: &mut Replies<'_>) -> Done {
    add(call, replies, 1)
}

pub(super) fn decr(call: &mut Call<'_, '_>, replies: &mut Replies<'_>) -> Done {
    add(call, replies, -1)
}

pub(super) fn incrby(call: &mut Call<'_, '_>, replies: &mut Replies<'_>) -> Done {
    let by = parse_integer(call.arg(2)).ok_or(Refused::NotAnInteger)?;
    add(call, replies, by)
}

pub(super) fn decrby(call: &mut Call<'_, '_>, replies: &mut Replies<'_>) -> Done {
    let by = parse_integer(call.arg(2)).ok_or(Refused::NotAnInteger)?;
    let by = by.checked_neg().ok_or(Refused::Other("ERR decrement would overflow"))?;
    add(call, replies, by)
}

fn add(call: &mut Call<'_, '_>, replies: &mut Replies<'_>, by: i64) -> Done {
    let key = call.arg(1);
    let spot = call.keys.find_used(key);
    let number = match string_at(call, spot)? {
        Some(value) => parse_integer(value).ok_or(Refused::NotAnInteger)?,
        None => 0,
    };
    let number = number.checked_add(by).ok_or(Refused::Other("ERR increment or decrement would overflow"))?;
    keep(call, key, spot, itoa::Buffer::new().format(number).as_bytes());
    replies.integer(number);
    Ok(())
}

/// Changes a string, or puts in a new one; the deadline stays.
fn keep(call: &mut Call<'_, '_>, key: &[u8], spot: Option<Spot>, value: &[u8]) {
    match spot {
        Some(spot) => call.keys.change(spot, key, |entry| entry.set_string(value)),
        None => store(call, key, value, None, false),
    }
}

pub(super) fn incrbyfloat(call: &mut Call<'_, '_>, replies: &mut Replies<'_>) -> Done {
    let key = call.arg(1);
    let spot = call.keys.find_used(key);
    let number = match string_at(call, spot)? {
        Some(value) => Decimal::parse(value).ok_or(Refused::NotAFloat)?,
        None => Decimal::default(),
    };
    let by = Decimal::parse(call.arg(2)).ok_or(Refused::NotAFloat)?;
    let sum = number.plus(by).ok_or(Refused::Other("ERR increment would produce NaN or Infinity"))?;
    let text = sum.to_string();
    keep(call, key, spot, text.as_bytes());
    // Who replays it need not come to the same sum.
    call.keys.record_as([&b"SET"[..], key, text.as_bytes(), b"KEEPTTL"]);
    replies.bulk(text.as_bytes());
    Ok(())
}

pub(super) fn append(call: &mut Call<'_, '_>, replies: &mut Replies<'_>) -> Done {
    let (key, more) = (call.arg(1), call.arg(2));
    let spot = call.keys.find_used(key);
    let len = match (string_at(call, spot)?.map(<[u8]>::len), spot) {
        (Some(len), Some(spot)) => {
            check_length(len, more.len())?;
            call.keys.change(spot, key, |entry| entry.change_string(|bytes| bytes.extend_from_slice(more)));
            len + more.len()
        }
        _ => {
            store(call, key, more, None, false);
            more.len()
        }
    };
    replies.integer(len as i64);
    Ok(())
}

fn check_length(offset: usize, more: usize) -> Done {
    match offset.checked_add(more) {
        Some(len) if len <= STRING_BYTES_MAX => Ok(()),
        _ => Err(Refused::StringTooLong),
    }
}

pub(super) fn strlen(call: &mut Call<'_, '_>, replies: &mut Replies<'_>) -> Done {
    let spot = call.keys.find_read(call.arg(1));
    replies.integer(string_at(call, spot)?.map_or(0, <[u8]>::len) as i64);
    Ok(())
}

pub(super) fn getrange(call: &mut Call<'_, '_>, replies: &mut Replies<'_>) -> Done {
    let start = parse_integer(call.arg(2)).ok_or(Refused::NotAnInteger)?;
    let end = parse_integer(call.arg(3)).ok_or(Refused::NotAnInteger)?;
    let spot = call.keys.find_read(call.arg(1));
    let value = string_at(call, spot)?.unwrap_or_default();
    replies.bulk(part(value, start, end));
    Ok(())
}

/// From `start` to `end`, both counted from the end if they are negative.
fn part(value: &[u8], start: i64, end: i64) -> &[u8] {
    let len = value.len() as i64;
    if start < 0 && end < 0 && start > end {
        return &[];
    }
    let from_start = |index: i64| if index < 0 { index.saturating_add(len).max(0) } else { index };
    let (start, end) = (from_start(start), from_start(end).min(len - 1));
    if start > end || len == 0 {
        return &[];
    }
    value.get(start as usize..=end as usize).unwrap_or_default()
}

pub(super) fn setrange(call: &mut Call<'_, '_>, replies: &mut Replies<'_>) -> Done {
    let (key, patch) = (call.arg(1), call.arg(3));
    let offset = parse_integer(call.arg(2)).ok_or(Refused::NotAnInteger)?;
    let offset = usize::try_from(offset).map_err(|_| Refused::Other("ERR offset is out of range"))?;
    let spot = call.keys.find_used(key);
    let len = string_at(call, spot)?.map_or(0, <[u8]>::len);
    if patch.is_empty() {
        replies.integer(len as i64);
        return Ok(());
    }
    check_length(offset, patch.len())?;
    let write = |bytes: &mut Vec<u8>| {
        let end = offset + patch.len();
        if bytes.len() < end {
            bytes.resize(end, 0);
        }
        bytes[offset..end].copy_from_slice(patch);
    };
    match spot {
        Some(spot) => call.keys.change(spot, key, |entry| entry.change_string(write)),
        None => {
            let mut entry = Entry::string(call.keys.database(), key, b"", None);
            entry.change_string(write);
            call.keys.insert(key, entry);
        }
    }
    replies.integer(len.max(offset + patch.len()) as i64);
    Ok(())
}

pub(super) fn lcs(call: &mut Call<'_, '_>, replies: &mut Replies<'_>) -> Done {
    const NOT_STRINGS: Refused = Refused::Other("ERR The specified keys must contain string values");
    let spots = [call.keys.find_read(call.arg(1)), call.keys.find_read(call.arg(2))];
    let a = string_at(call, spots[0]).map_err(|_| NOT_STRINGS)?.unwrap_or_default();
    let b = string_at(call, spots[1]).map_err(|_| NOT_STRINGS)?.unwrap_or_default();
    let (mut wants_length, mut wants_matches, mut with_lengths, mut least) = (false, false, false, 0);
    let mut words = call.rest(3).iter();
    while let Some(word) = words.next() {
        if is_word(word, "len") {
            wants_length = true;
        } else if is_word(word, "idx") {
            wants_matches = true;
        } else if is_word(word, "withmatchlen") {
            with_lengths = true;
        } else if is_word(word, "minmatchlen") {
            let number = words.next().ok_or(Refused::Syntax)?;
            least = parse_integer(number).ok_or(Refused::NotAnInteger)?;
        } else {
            return Err(Refused::Syntax);
        }
    }
    if wants_length && wants_matches {
        return Err(Refused::Other("ERR If you want both the length and indexes, please just use IDX."));
    }
    let table = lcs::Table::new(a, b)?;
    if wants_matches {
        let least = usize::try_from(least).unwrap_or(0).max(1);
        let matches: Vec<_> = table.matches().filter(|found| found.len >= least).collect();
        replies.map(2);
        replies.bulk(b"matches");
        replies.array(matches.len());
        for found in matches {
            replies.array(if with_lengths { 3 } else { 2 });
            for start in [found.a, found.b] {
                replies.array(2);
                replies.integer(start as i64);
                replies.integer((start + found.len - 1) as i64);
            }
            if with_lengths {
                replies.integer(found.len as i64);
            }
        }
        replies.bulk(b"len");
        replies.integer(table.len() as i64);
    } else if wants_length {
        replies.integer(table.len() as i64);
    } else {
        replies.bulk(table.subsequence());
    }
    Ok(())
}
