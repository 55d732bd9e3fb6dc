//! Commands on lists.

use xferd_wire::resp::{Replies, parse_integer};

use super::Call;
use super::collections::{change, change_or_begin, count_of, part, read};
use crate::list::End;
use crate::refused::Refused;
use crate::value::List;

type Done = Result<(), Refused>;

pub(super) fn lpush(call: &mut Call<'_, '_>, replies: &mut Replies<'_>) -> Done {
    push(call, replies, End::Front, false)
}

pub(super) fn rpush(call: &mut Call<'_, '_>, replies: &mut Replies<'_>) -> Done {
    push(call, replies, End::Back, false)
}

pub(super) fn lpushx(call: &mut Call<'_, '_>, replies: &mut Replies<'_>) -> Done {
    push(call, replies, End::Front, true)
}

pub(super) fn rpushx(call: &mut Call<'_, '_>, replies: &mut Replies<'_>) -> Done {
    push(call, replies, End::Back, true)
}

fn push(call: &mut Call<'_, '_>, replies: &mut Replies<'_>, end: End, only_if_present: bool) -> Done {
    let elements = call.rest(2);
    let push = |list: &mut List| {
        elements.iter().for_each(|element| list.push(end, element));
        (list.items.len(), true)
    };
    let len = match only_if_present {
        true => change(call, push)?.unwrap_or(0),
        false => change_or_begin(call, push)?,
    };
    replies.integer(len as i64);
    Ok(())
}

pub(super) fn lpop(call: &mut Call<'_, '_>, replies: &mut Replies<'_>) -> Done {
    pop(call, replies, End::Front, "lpop")
}

pub(super) fn rpop(call: &mut Call<'_, '_>, replies: &mut Replies<'_>) -> Done {
    pop(call, replies, End::Back, "rpop")
}

fn pop(call: &mut Call<'_, '_>, replies: &mut Replies<'_>, end: End, name: &str) -> Done {
    if call.args.len() > 3 {
        return Err(Refused::Arity(name.into()));
    }
    let count = count_of(call.args.get(2))?;
    let popped = change(call, |list: &mut List| {
        let taken = count.unwrap_or(1).min(list.items.len());
        if count.is_some() {
            replies.array(taken);
        }
        (0..taken).filter_map(|_| list.pop(end)).for_each(|element| replies.bulk(element));
        ((), taken > 0)
    })?;
    match (popped, count) {
        (Some(()), _) => {}
        (None, Some(_)) => replies.null_array(),
        (None, None) => replies.null(),
    }
    Ok(())
}

pub(super) fn llen(call: &mut Call<'_, '_>, replies: &mut Replies<'_>) -> Done {
    let list = read::<List>(call)?;
    replies.integer(list.map_or(0, |list| list.items.len()) as i64);
    Ok(())
}

pub(super) fn lrange(call: &mut Call<'_, '_>, replies: &mut Replies<'_>) -> Done {
    let (start, end) = start_and_end(call)?;
    let Some(list) = read::<List>(call)? else {
        replies.array(0);
        return Ok(());
    };
    let part = part(list.items.len(), start, end);
    replies.array(part.len());
    list.items.range(part).for_each(|element| replies.bulk(element));
    Ok(())
}

pub(super) fn lindex(call: &mut Call<'_, '_>, replies: &mut Replies<'_>) -> Done {
    let index = call.arg(2);
    let Some(list) = read::<List>(call)? else {
        replies.null();
        return Ok(());
    };
    match place(list, index)?.and_then(|index| list.items.get(index)) {
        Some(element) => replies.bulk(element),
        None => replies.null(),
    }
    Ok(())
}

pub(super) fn lset(call: &mut Call<'_, '_>, replies: &mut Replies<'_>) -> Done {
    let (index, element) = (call.arg(2), call.arg(3));
    let set = change(call, |list: &mut List| {
        let place = place(list, index);
        let set = place.map(|place| place.is_some_and(|place| list.set(place, element)));
        let changed = set == Ok(true);
        (set, changed)
    })?;
    if !set.ok_or(Refused::NoSuchKey)?? {
        return Err(Refused::Other("ERR index out of range"));
    }
    replies.simple("OK");
    Ok(())
}

/// Where an element is whose index may be counted from the end, unless that is before the first.
fn place(list: &List, index: &[u8]) -> Result<Option<usize>, Refused> {
    let index = parse_integer(index).ok_or(Refused::NotAnInteger)?;
    let index = if index < 0 { index.saturating_add(list.items.len() as i64) } else { index };
    Ok(usize::try_from(index).ok())
}

pub(super) fn lrem(call: &mut Call<'_, '_>, replies: &mut Replies<'_>) -> Done {
    let count = parse_integer(call.arg(2)).ok_or(Refused::NotAnInteger)?;
    let element = call.arg(3);
    let removed = change(call, |list: &mut List| {
        let removed = list.remove(count, element);
        (removed, removed > 0)
    })?;
    replies.integer(removed.unwrap_or(0) as i64);
    Ok(())
}

pub(super) fn ltrim(call: &mut Call<'_, '_>, replies: &mut Replies<'_>) -> Done {
    let (start, end) = start_and_end(call)?;
    change(call, |list: &mut List| {
        let removed = list.keep(part(list.items.len(), start, end));
        ((), removed > 0)
    })?;
    replies.simple("OK");
    Ok(())
}

fn start_and_end(call: &Call<'_, '_>) -> Result<(i64, i64), Refused> {
    let number = |index| parse_integer(call.arg(index)).ok_or(Refused::NotAnInteger);
    Ok((number(2)?, number(3)?))
}
