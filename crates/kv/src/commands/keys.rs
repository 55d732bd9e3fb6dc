//! Commands on keys, whatever they hold.

use xferd_wire::resp::{Replies, parse_integer};

use super::{Call, help, is_word};
use crate::DATABASES;
use crate::deadline::Unit;
use crate::entry::Entry;
use crate::eviction::{Policy, frequency, idle_ms};
use crate::glob::matches;
use crate::keyspace::{STRIPES, stripe_of};
use crate::refused::Refused;

type Done = Result<(), Refused>;

/// Keys that SCAN looks at unless it is told how many.
const SCAN_COUNT: usize = 10;

pub(super) fn del(call: &mut Call<'_, '_>, replies: &mut Replies<'_>) -> Done {
    let mut removed = 0;
    for key in call.rest(1).iter() {
        if let Some(spot) = call.keys.find(key) {
            call.keys.discard(spot, key);
            removed += 1;
        }
    }
    replies.integer(removed);
    Ok(())
}

pub(super) fn exists(call: &mut Call<'_, '_>, replies: &mut Replies<'_>) -> Done {
    let there = call.rest(1).iter().filter(|key| call.keys.find_read(key).is_some()).count();
    replies.integer(there as i64);
    Ok(())
}

pub(super) fn touch(call: &mut Call<'_, '_>, replies: &mut Replies<'_>) -> Done {
    exists(call, replies)
}

pub(super) fn type_of(call: &mut Call<'_, '_>, replies: &mut Replies<'_>) -> Done {
    let spot = call.keys.find(call.arg(1));
    replies.simple(spot.map_or("none", |spot| type_name(call.keys.entry(spot))));
    Ok(())
}

fn type_name(entry: &Entry) -> &'static str {
    entry.value().map_or("string", |value| value.type_name())
}

pub(super) fn rename(call: &mut Call<'_, '_>, replies: &mut Replies<'_>) -> Done {
    move_to(call, true)?;
    replies.simple("OK");
    Ok(())
}

pub(super) fn renamenx(call: &mut Call<'_, '_>, replies: &mut Replies<'_>) -> Done {
    let moved = move_to(call, false)?;
    replies.integer(moved.into());
    Ok(())
}

fn move_to(call: &mut Call<'_, '_>, replaces: bool) -> Result<bool, Refused> {
    let (from, to) = (call.arg(1), call.arg(2));
    let spot = call.keys.find_used(from).ok_or(Refused::NoSuchKey)?;
    if from == to {
        return Ok(false);
    }
    if !replaces && call.keys.find(to).is_some() {
        return Ok(false);
    }
    let entry = call.keys.remove(spot, from).renamed(call.keys.database(), to);
    call.keys.put(to, entry);
    Ok(true)
}

pub(super) fn copy(call: &mut Call<'_, '_>, replies: &mut Replies<'_>) -> Done {
    let (from, to, here) = (call.arg(1), call.arg(2), call.keys.database());
    let (mut there, mut replaces) = (here, false);
    let mut words = call.rest(3).iter();
    while let Some(word) = words.next() {
        if is_word(word, "replace") {
            replaces = true;
        } else if is_word(word, "db") {
            there = parse_database(words.next().ok_or(Refused::Syntax)?)?;
        } else {
            return Err(Refused::Syntax);
        }
    }
    if here == there && from == to {
        return Err(Refused::Other("ERR source and destination objects are the same"));
    }
    let copied = call.keys.find_used(from).map(|spot| call.keys.entry(spot).copied(there, to));
    let Some(entry) = copied else {
        replies.integer(0);
        return Ok(());
    };
    call.keys.select(there);
    let is_free = call.keys.find(to).is_none();
    if is_free || replaces {
        call.keys.put(to, entry);
    }
    call.keys.select(here);
    replies.integer((is_free || replaces).into());
    Ok(())
}

/// The number of a database.
///
/// # Errors
/// It is none, or there is no such database.
pub fn parse_database(word: &[u8]) -> Result<u8, Refused> {
    let number = i32::try_from(parse_integer(word).ok_or(Refused::NotAnInteger)?);
    let database = u8::try_from(number.map_err(|_| Refused::OutOfRange)?).ok();
    let database = database.filter(|number| usize::from(*number) < DATABASES);
    database.ok_or(Refused::Other("ERR DB index is out of range"))
}

pub(super) fn randomkey(call: &mut Call<'_, '_>, replies: &mut Replies<'_>) -> Done {
    let (database, now_ms) = (call.keys.database(), call.keys.now_ms());
    let dice = call.keys.keyspace().dice();
    for offset in 0..STRIPES {
        let found = call.keys.with_stripe((stripe_of(dice) + offset) % STRIPES, |stripe| {
            if stripe.len(database) == 0 {
                return None;
            }
            let one = stripe.any_from(dice).and_then(|place| stripe.at(place));
            let mut others = one.into_iter().chain(stripe.entries());
            others.find(|entry| is_alive(entry, database, now_ms)).map(|entry| entry.key().to_vec())
        });
        if let Some(key) = found {
            replies.bulk(&key);
            return Ok(());
        }
    }
    replies.null();
    Ok(())
}

fn is_alive(entry: &Entry, database: u8, now_ms: u64) -> bool {
    entry.database() == database && entry.deadline().is_none_or(|deadline| deadline > now_ms)
}

pub(super) fn keys(call: &mut Call<'_, '_>, replies: &mut Replies<'_>) -> Done {
    let (pattern, database, now_ms) = (call.arg(1), call.keys.database(), call.keys.now_ms());
    let mark = replies.mark();
    let mut found = 0;
    call.keys.for_each_stripe(|stripe| {
        for entry in stripe.entries().filter(|entry| is_alive(entry, database, now_ms)) {
            if matches(pattern, entry.key()) {
                replies.bulk(entry.key());
                found += 1;
            }
        }
    });
    replies.array_at(mark, found);
    Ok(())
}

/// A cursor is the number of a stripe, all keys of which are looked at together: so each that is there all the time is told of,
/// however many come and go meanwhile.
pub(super) fn scan(call: &mut Call<'_, '_>, replies: &mut Replies<'_>) -> Done {
    let cursor = std::str::from_utf8(call.arg(1)).ok().and_then(|text| text.parse::<u64>().ok());
    let first = cursor.ok_or(Refused::Other("ERR invalid cursor"))?;
    let first = usize::try_from(first).unwrap_or(usize::MAX).min(STRIPES);
    let (mut pattern, mut count, mut kind) = (&b"*"[..], SCAN_COUNT, None);
    let mut words = call.rest(2).iter();
    while let Some(word) = words.next() {
        let value = words.next().ok_or(Refused::Syntax)?;
        if is_word(word, "match") {
            pattern = value;
        } else if is_word(word, "count") {
            let number = parse_integer(value).ok_or(Refused::NotAnInteger)?;
            count = usize::try_from(number).ok().filter(|number| *number > 0).ok_or(Refused::Syntax)?;
        } else if is_word(word, "type") {
            kind = Some(value);
        } else {
            return Err(Refused::Syntax);
        }
    }
    let (database, now_ms) = (call.keys.database(), call.keys.now_ms());
    let mut keys = Vec::new();
    let mut found = Replies::new(&mut keys, replies.version());
    let (mut next, mut looked_at, mut count_found) = (first, 0, 0);
    while next < STRIPES && looked_at < count {
        call.keys.with_stripe(next, |stripe| {
            looked_at += stripe.len(database);
            for entry in stripe.entries().filter(|entry| is_alive(entry, database, now_ms)) {
                let is_kind = kind.is_none_or(|kind| is_word(kind, type_name(entry)));
                if is_kind && matches(pattern, entry.key()) {
                    found.bulk(entry.key());
                    count_found += 1;
                }
            }
        });
        next += 1;
    }
    replies.array(2);
    replies.bulk_integer(if next >= STRIPES { 0 } else { next as i64 });
    replies.array(count_found);
    replies.raw(&keys);
    Ok(())
}

pub(super) fn dbsize(call: &mut Call<'_, '_>, replies: &mut Replies<'_>) -> Done {
    let (database, mut keys) = (call.keys.database(), 0);
    call.keys.for_each_stripe(|stripe| keys += stripe.len(database));
    replies.integer(keys as i64);
    Ok(())
}

pub(super) fn flushdb(call: &mut Call<'_, '_>, replies: &mut Replies<'_>) -> Done {
    let database = call.keys.database();
    flush(call, replies, |entry| entry.database() == database)
}

pub(super) fn flushall(call: &mut Call<'_, '_>, replies: &mut Replies<'_>) -> Done {
    flush(call, replies, |_| true)
}

fn flush(call: &mut Call<'_, '_>, replies: &mut Replies<'_>, goes: impl Fn(&Entry) -> bool) -> Done {
    if call.args.len() > 2 || !call.rest(1).iter().all(|word| is_word(word, "async") || is_word(word, "sync"))
    {
        return Err(Refused::Syntax);
    }
    call.keys.remove_everywhere(goes);
    replies.simple("OK");
    Ok(())
}

pub(super) fn expire(call: &mut Call<'_, '_>, replies: &mut Replies<'_>) -> Done {
    set_deadline(call, replies, Unit::Seconds, "expire")
}

pub(super) fn pexpire(call: &mut Call<'_, '_>, replies: &mut Replies<'_>) -> Done {
    set_deadline(call, replies, Unit::Milliseconds, "pexpire")
}

pub(super) fn expireat(call: &mut Call<'_, '_>, replies: &mut Replies<'_>) -> Done {
    set_deadline(call, replies, Unit::AtSeconds, "expireat")
}

pub(super) fn pexpireat(call: &mut Call<'_, '_>, replies: &mut Replies<'_>) -> Done {
    set_deadline(call, replies, Unit::AtMilliseconds, "pexpireat")
}

fn set_deadline(call: &mut Call<'_, '_>, replies: &mut Replies<'_>, unit: Unit, name: &'static str) -> Done {
    let key = call.arg(1);
    let (mut nx, mut xx, mut gt, mut lt) = (false, false, false, false);
    for word in call.rest(3).iter() {
        let option = [("nx", &mut nx), ("xx", &mut xx), ("gt", &mut gt), ("lt", &mut lt)]
            .into_iter()
            .find(|(name, _)| is_word(word, name));
        match option {
            Some((_, option)) => *option = true,
            None => {
                let word = String::from_utf8_lossy(word);
                return Err(Refused::Told(format!("ERR Unsupported option {word}")));
            }
        }
    }
    if nx && (xx || gt || lt) {
        return Err(Refused::Other("ERR NX and XX, GT or LT options at the same time are not compatible"));
    }
    if gt && lt {
        return Err(Refused::Other("ERR GT and LT options at the same time are not compatible"));
    }
    let deadline = unit.deadline(call.arg(2), call.keys.now_ms(), name)?;
    let Some(spot) = call.keys.find(key) else {
        replies.integer(0);
        return Ok(());
    };
    let before = call.keys.entry(spot).deadline();
    let is_later = before.is_some_and(|before| i128::from(deadline) > i128::from(before));
    let is_sooner = before.is_none_or(|before| i128::from(deadline) < i128::from(before));
    if (nx && before.is_some()) || (xx && before.is_none()) || (gt && !is_later) || (lt && !is_sooner) {
        replies.integer(0);
        return Ok(());
    }
    match u64::try_from(deadline).ok().filter(|deadline| *deadline > call.keys.now_ms()) {
        Some(deadline) => {
            call.keys.change(spot, key, |entry| entry.set_deadline(Some(deadline)));
            call.keys.record_as([&b"PEXPIREAT"[..], key, itoa::Buffer::new().format(deadline).as_bytes()]);
        }
        None => {
            call.keys.remove(spot, key);
            call.keys.record_as([&b"DEL"[..], key]);
        }
    }
    replies.integer(1);
    Ok(())
}

pub(super) fn ttl(call: &mut Call<'_, '_>, replies: &mut Replies<'_>) -> Done {
    tell_deadline(call, replies, |deadline, now_ms| (deadline.saturating_sub(now_ms) + 500) / 1000)
}

pub(super) fn pttl(call: &mut Call<'_, '_>, replies: &mut Replies<'_>) -> Done {
    tell_deadline(call, replies, u64::saturating_sub)
}

pub(super) fn expiretime(call: &mut Call<'_, '_>, replies: &mut Replies<'_>) -> Done {
    tell_deadline(call, replies, |deadline, _| deadline.saturating_add(500) / 1000)
}

pub(super) fn pexpiretime(call: &mut Call<'_, '_>, replies: &mut Replies<'_>) -> Done {
    tell_deadline(call, replies, |deadline, _| deadline)
}

/// Answers what `tell` makes of the deadline and the time; -1 if there is no deadline, -2 if there is no key.
fn tell_deadline(call: &mut Call<'_, '_>, replies: &mut Replies<'_>, tell: impl Fn(u64, u64) -> u64) -> Done {
    let spot = call.keys.find(call.arg(1));
    replies.integer(match spot.map(|spot| call.keys.entry(spot).deadline()) {
        None => -2,
        Some(None) => -1,
        Some(Some(deadline)) => i64::try_from(tell(deadline, call.keys.now_ms())).unwrap_or(i64::MAX),
    });
    Ok(())
}

pub(super) fn persist(call: &mut Call<'_, '_>, replies: &mut Replies<'_>) -> Done {
    let key = call.arg(1);
    let spot = call.keys.find(key).filter(|spot| call.keys.entry(*spot).deadline().is_some());
    if let Some(spot) = spot {
        call.keys.change(spot, key, |entry| entry.set_deadline(None));
    }
    replies.integer(spot.is_some().into());
    Ok(())
}

pub(super) fn object(call: &mut Call<'_, '_>, replies: &mut Replies<'_>) -> Done {
    let word = call.arg(1);
    if is_word(word, "help") {
        help(
            replies,
            "OBJECT",
            &[
                ("ENCODING <key>", "How the value of a key is kept."),
                ("FREQ <key>", "How often a key was asked for, logarithmically."),
                ("IDLETIME <key>", "For how many seconds a key was not asked for."),
                ("REFCOUNT <key>", "How many refer to the value of a key."),
            ],
        );
        return Ok(());
    }
    let Some(question) =
        ["encoding", "freq", "idletime", "refcount"].into_iter().find(|name| is_word(word, name))
    else {
        return Err(Refused::subcommand_arguments("OBJECT", word));
    };
    let (now_ms, policy) = (call.keys.now_ms(), call.keys.keyspace().policy());
    let Some(spot) = call.keys.find(call.arg(2)) else {
        replies.null();
        return Ok(());
    };
    let entry = call.keys.entry(spot);
    match question {
        "encoding" => replies.bulk(encoding(entry)),
        "refcount" => replies.integer(1),
        "freq" if policy == Policy::AllKeysLfu => replies.integer(frequency(entry.access(), now_ms).into()),
        "idletime" if policy != Policy::AllKeysLfu => {
            replies.integer(i64::try_from(idle_ms(entry.access(), now_ms) / 1000).unwrap_or(i64::MAX));
        }
        "freq" => {
            return Err(Refused::Other(
                "ERR An LFU maxmemory policy is not selected, access frequency not tracked. Please note that when switching \
                 between policies at runtime LRU and LFU data will take some time to adjust.",
            ));
        }
        _ => {
            return Err(Refused::Other(
                "ERR An LFU maxmemory policy is selected, idle time not tracked. Please note that when switching between \
                 policies at runtime LRU and LFU data will take some time to adjust.",
            ));
        }
    }
    Ok(())
}

/// As Redis would keep it.
fn encoding(entry: &Entry) -> &'static str {
    /// The longest string that Redis keeps in one allocation with its object (`OBJ_ENCODING_EMBSTR_SIZE_LIMIT`).
    const EMBEDDED_BYTES_MAX: usize = 44;
    match entry.as_string() {
        Some(_) if entry.is_raw() => "raw",
        Some(bytes) if parse_integer(bytes).is_some() => "int",
        Some(bytes) if bytes.len() <= EMBEDDED_BYTES_MAX => "embstr",
        Some(_) => "raw",
        None => entry.value().map_or("raw", |value| value.encoding()),
    }
}

pub(super) fn memory(call: &mut Call<'_, '_>, replies: &mut Replies<'_>) -> Done {
    let word = call.arg(1);
    if is_word(word, "help") {
        let usage = "Bytes of memory that a key and its value take; counted, not sampled.";
        help(replies, "MEMORY", &[("USAGE <key> [SAMPLES <count>]", usage)]);
        return Ok(());
    }
    if !is_word(word, "usage") {
        return Err(Refused::subcommand_arguments("MEMORY", word));
    }
    match call.args.len() {
        3 => {}
        5 if is_word(call.arg(3), "samples") => {
            let samples = parse_integer(call.arg(4)).ok_or(Refused::NotAnInteger)?;
            if samples < 0 {
                return Err(Refused::Syntax);
            }
        }
        _ => return Err(Refused::Syntax),
    }
    match call.keys.find(call.arg(2)) {
        Some(spot) => replies.integer(call.keys.entry(spot).bytes() as i64),
        None => replies.null(),
    }
    Ok(())
}
