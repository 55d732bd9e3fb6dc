//! Commands on hashes.

use xferd_wire::resp::{Replies, parse_integer};

use super::Call;
use super::collections::{change, change_or_begin, read};
use crate::refused::Refused;
use crate::value::Hash;

type Done = Result<(), Refused>;

pub(super) fn hset(call: &mut Call<'_, '_>, replies: &mut Replies<'_>) -> Done {
    let added = set_fields(call, "hset")?;
    replies.integer(added);
    Ok(())
}

pub(super) fn hmset(call: &mut Call<'_, '_>, replies: &mut Replies<'_>) -> Done {
    set_fields(call, "hmset")?;
    replies.simple("OK");
    Ok(())
}

/// How many are new.
fn set_fields(call: &mut Call<'_, '_>, name: &str) -> Result<i64, Refused> {
    let pairs = call.rest(2);
    if pairs.len() % 2 != 0 {
        return Err(Refused::Arity(name.into()));
    }
    change_or_begin(call, |hash: &mut Hash| {
        let (mut args, mut added) = (pairs.iter(), 0);
        while let (Some(field), Some(value)) = (args.next(), args.next()) {
            added += i64::from(hash.set(field, value));
        }
        (added, true)
    })
}

pub(super) fn hsetnx(call: &mut Call<'_, '_>, replies: &mut Replies<'_>) -> Done {
    let (field, value) = (call.arg(2), call.arg(3));
    let is_new = change_or_begin(call, |hash: &mut Hash| {
        let is_new = !hash.items.contains_key(field) && hash.set(field, value);
        (is_new, is_new)
    })?;
    replies.integer(is_new.into());
    Ok(())
}

pub(super) fn hget(call: &mut Call<'_, '_>, replies: &mut Replies<'_>) -> Done {
    let field = call.arg(2);
    let hash = read::<Hash>(call)?;
    tell(hash, field, replies);
    Ok(())
}

pub(super) fn hmget(call: &mut Call<'_, '_>, replies: &mut Replies<'_>) -> Done {
    let fields = call.rest(2);
    let hash = read::<Hash>(call)?;
    replies.array(fields.len());
    fields.iter().for_each(|field| tell(hash, field, replies));
    Ok(())
}

fn tell(hash: Option<&Hash>, field: &[u8], replies: &mut Replies<'_>) {
    match hash.and_then(|hash| hash.items.get(field)) {
        Some(value) => replies.bulk(value),
        None => replies.null(),
    }
}

pub(super) fn hgetall(call: &mut Call<'_, '_>, replies: &mut Replies<'_>) -> Done {
    let hash = read::<Hash>(call)?;
    replies.map(hash.map_or(0, |hash| hash.items.len()));
    for (field, value) in hash.into_iter().flat_map(|hash| &hash.items) {
        replies.bulk(field);
        replies.bulk(value);
    }
    Ok(())
}

pub(super) fn hkeys(call: &mut Call<'_, '_>, replies: &mut Replies<'_>) -> Done {
    let hash = read::<Hash>(call)?;
    replies.array(hash.map_or(0, |hash| hash.items.len()));
    hash.into_iter().flat_map(|hash| hash.items.keys()).for_each(|field| replies.bulk(field));
    Ok(())
}

pub(super) fn hvals(call: &mut Call<'_, '_>, replies: &mut Replies<'_>) -> Done {
    let hash = read::<Hash>(call)?;
    replies.array(hash.map_or(0, |hash| hash.items.len()));
    hash.into_iter().flat_map(|hash| hash.items.values()).for_each(|value| replies.bulk(value));
    Ok(())
}

pub(super) fn hdel(call: &mut Call<'_, '_>, replies: &mut Replies<'_>) -> Done {
    let fields = call.rest(2);
    let removed = change(call, |hash: &mut Hash| {
        let removed = fields.iter().filter(|field| hash.remove(field)).count();
        (removed, removed > 0)
    })?;
    replies.integer(removed.unwrap_or(0) as i64);
    Ok(())
}

pub(super) fn hlen(call: &mut Call<'_, '_>, replies: &mut Replies<'_>) -> Done {
    let hash = read::<Hash>(call)?;
    replies.integer(hash.map_or(0, |hash| hash.items.len()) as i64);
    Ok(())
}

pub(super) fn hexists(call: &mut Call<'_, '_>, replies: &mut Replies<'_>) -> Done {
    let field = call.arg(2);
    let hash = read::<Hash>(call)?;
    replies.integer(hash.is_some_and(|hash| hash.items.contains_key(field)).into());
    Ok(())
}

pub(super) fn hstrlen(call: &mut Call<'_, '_>, replies: &mut Replies<'_>) -> Done {
    let field = call.arg(2);
    let value = read::<Hash>(call)?.and_then(|hash| hash.items.get(field));
    replies.integer(value.map_or(0, |value| value.len()) as i64);
    Ok(())
}

pub(super) fn hincrby(call: &mut Call<'_, '_>, replies: &mut Replies<'_>) -> Done {
    let (field, by) = (call.arg(2), parse_integer(call.arg(3)).ok_or(Refused::NotAnInteger)?);
    let sum = change_or_begin(call, |hash: &mut Hash| {
        let sum = sum(hash, field, by);
        if let Ok(sum) = sum {
            hash.set(field, itoa::Buffer::new().format(sum).as_bytes());
        }
        let changed = sum.is_ok();
        (sum, changed)
    })??;
    replies.integer(sum);
    Ok(())
}

fn sum(hash: &Hash, field: &[u8], by: i64) -> Result<i64, Refused> {
    let number = match hash.items.get(field) {
        Some(value) => parse_integer(value).ok_or(Refused::Other("ERR hash value is not an integer"))?,
        None => 0,
    };
    number.checked_add(by).ok_or(Refused::Other("ERR increment or decrement would overflow"))
}
