//! Commands on sets.

use xferd_os::HashMap;
use xferd_wire::resp::{Replies, parse_integer};

use super::Call;
use super::collections::{change, change_or_begin, count_of, read};
use crate::STRING_BYTES_MAX;
use crate::keyspace::Keyspace;
use crate::refused::Refused;
use crate::value::{Bytes, Set};

type Done = Result<(), Refused>;

/// Members that SRANDMEMBER tells if some may be told again, and so more than there are; all of them together have at most
/// [`STRING_BYTES_MAX`]. Redis has no limit but that of its memory.
const REPEATED_MEMBERS_MAX: usize = 1 << 20;
/// Members of one SREM that records which ones SPOP took, and their bytes, unless it is one.
const RECORDED_MEMBERS_MAX: usize = 1024;
const RECORDED_BYTES_MAX: usize = 1 << 20;

pub(super) fn sadd(call: &mut Call<'_, '_>, replies: &mut Replies<'_>) -> Done {
    let members = call.rest(2);
    let added = change_or_begin(call, |set: &mut Set| {
        let added = members.iter().filter(|member| set.insert(member)).count();
        (added, added > 0)
    })?;
    replies.integer(added as i64);
    Ok(())
}

pub(super) fn srem(call: &mut Call<'_, '_>, replies: &mut Replies<'_>) -> Done {
    let members = call.rest(2);
    let removed = change(call, |set: &mut Set| {
        let removed = members.iter().filter(|member| set.remove(member)).count();
        (removed, removed > 0)
    })?;
    replies.integer(removed.unwrap_or(0) as i64);
    Ok(())
}

pub(super) fn sismember(call: &mut Call<'_, '_>, replies: &mut Replies<'_>) -> Done {
    let member = call.arg(2);
    let set = read::<Set>(call)?;
    replies.integer(set.is_some_and(|set| set.items.contains(member)).into());
    Ok(())
}

pub(super) fn smismember(call: &mut Call<'_, '_>, replies: &mut Replies<'_>) -> Done {
    let members = call.rest(2);
    let set = read::<Set>(call)?;
    replies.array(members.len());
    for member in members.iter() {
        replies.integer(set.is_some_and(|set| set.items.contains(member)).into());
    }
    Ok(())
}

pub(super) fn scard(call: &mut Call<'_, '_>, replies: &mut Replies<'_>) -> Done {
    let set = read::<Set>(call)?;
    replies.integer(set.map_or(0, |set| set.items.len()) as i64);
    Ok(())
}

pub(super) fn smembers(call: &mut Call<'_, '_>, replies: &mut Replies<'_>) -> Done {
    let set = read::<Set>(call)?;
    replies.set(set.map_or(0, |set| set.items.len()));
    if let Some(set) = set {
        each(set, |member| replies.bulk(member));
    }
    Ok(())
}

/// Calls `tell` with each member, few whole numbers in ascending order as in Redis.
fn each(set: &Set, tell: impl FnMut(&Bytes)) {
    if set.is_compact {
        let mut members: Vec<&Bytes> = set.items.iter().collect();
        members.sort_by_key(|member| parse_integer(member));
        members.into_iter().for_each(tell);
    } else {
        set.items.iter().for_each(tell);
    }
}

pub(super) fn spop(call: &mut Call<'_, '_>, replies: &mut Replies<'_>) -> Done {
    if call.args.len() > 3 {
        return Err(Refused::Syntax);
    }
    let (count, keyspace) = (count_of(call.args.get(2))?, call.keys.keyspace());
    let popped = change(call, |set: &mut Set| {
        let taken = count.unwrap_or(1).min(set.items.len());
        let popped: Vec<Bytes> = match taken == set.items.len() {
            true => std::mem::take(set).items.into_iter().collect(),
            false => (0..taken).filter_map(|_| set.take_any(keyspace.dice())).collect(),
        };
        ((popped, set.items.is_empty()), taken > 0)
    })?;
    let (popped, takes_all) = popped.unwrap_or_default();
    if takes_all {
        call.keys.record_as([&b"DEL"[..], call.arg(1)]);
    } else {
        record_removed(call, &popped);
    }
    if count.is_some() {
        replies.set(popped.len());
    } else if popped.is_empty() {
        replies.null();
    }
    popped.iter().for_each(|member| replies.bulk(member));
    Ok(())
}

/// Recorded as what went: it would be others next time.
fn record_removed(call: &mut Call<'_, '_>, members: &[Bytes]) {
    let mut rest = members;
    while !rest.is_empty() {
        let mut bytes = 0;
        let fitting = rest.iter().take(RECORDED_MEMBERS_MAX).take_while(|member| {
            bytes += member.len();
            bytes <= RECORDED_BYTES_MAX
        });
        let (now, later) = rest.split_at(fitting.count().max(1));
        let request: Vec<&[u8]> =
            [b"SREM", call.arg(1)].into_iter().chain(now.iter().map(|member| &**member)).collect();
        call.keys.record_as(request);
        rest = later;
    }
}

pub(super) fn srandmember(call: &mut Call<'_, '_>, replies: &mut Replies<'_>) -> Done {
    if call.args.len() > 3 {
        return Err(Refused::Syntax);
    }
    let count =
        call.args.get(2).map(|count| parse_integer(count).ok_or(Refused::NotAnInteger)).transpose()?;
    let at_most = usize::try_from(count.unwrap_or(1).unsigned_abs()).unwrap_or(usize::MAX);
    if count.is_some_and(|count| count < 0) && at_most > REPEATED_MEMBERS_MAX {
        return Err(Refused::Told(format!(
            "ERR value is out of range, value must be between -{REPEATED_MEMBERS_MAX} and {}",
            i64::MAX
        )));
    }
    let keyspace = call.keys.keyspace();
    let Some(set) = read::<Set>(call)? else {
        match count {
            Some(_) => replies.array(0),
            None => replies.null(),
        }
        return Ok(());
    };
    let mark = replies.mark();
    match count {
        None => tell_at(set, set.any(keyspace.dice()), replies),
        Some(count) if count < 0 => {
            replies.array(at_most);
            let begun = replies.len();
            for _ in 0..at_most {
                tell_at(set, set.any(keyspace.dice()), replies);
                if replies.len() - begun > STRING_BYTES_MAX {
                    replies.truncate(mark);
                    return Err(Refused::Other(
                        "ERR reply exceeds maximum allowed size (proto-max-bulk-len)",
                    ));
                }
            }
        }
        Some(_) if at_most >= set.items.len() => {
            replies.array(set.items.len());
            each(set, |member| replies.bulk(member));
        }
        Some(_) => {
            replies.array(at_most);
            for index in some_of(set.items.len(), at_most, keyspace) {
                tell_at(set, Some(index), replies);
            }
        }
    }
    Ok(())
}

fn tell_at(set: &Set, index: Option<usize>, replies: &mut Replies<'_>) {
    if let Some(member) = index.and_then(|index| set.items.get_index(index)) {
        replies.bulk(member);
    }
}

/// Different numbers below `len`, so many (Floyd's algorithm; Bentley, Programming Pearls, CACM 9/1987).
fn some_of(len: usize, count: usize, keyspace: &Keyspace) -> Vec<usize> {
    let mut chosen = HashMap::default();
    (len - count..len)
        .map(|last| {
            let any = (keyspace.dice() % (last as u64 + 1)) as usize;
            let one = if chosen.contains_key(&any) { last } else { any };
            chosen.insert(one, ());
            one
        })
        .collect()
}
