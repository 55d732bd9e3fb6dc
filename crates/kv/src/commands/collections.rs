//! What the commands on all kinds of collections have in common.

use xferd_wire::resp::parse_integer;

use super::Call;
use crate::entry::Entry;
use crate::locked::Spot;
use crate::refused::Refused;
use crate::value::Collection;

/// The collection that is read, if there is one.
pub(super) fn read<'a, C: Collection>(call: &'a mut Call<'_, '_>) -> Result<Option<&'a C>, Refused> {
    let spot = call.keys.find_read(call.arg(1));
    spot.map(|spot| call.keys.entry(spot).value().and_then(C::of).ok_or(Refused::WrongType)).transpose()
}

/// Changes a collection that is there. `change` says whether it did; the key goes if that leaves nothing.
pub(super) fn change<C: Collection, T>(
    call: &mut Call<'_, '_>,
    change: impl FnOnce(&mut C) -> (T, bool),
) -> Result<Option<T>, Refused> {
    let spot = call.keys.find_used(call.arg(1));
    spot.map(|spot| change_at(call, spot, change)).transpose()
}

/// The same; one that is not there begins empty, and is put in unless it stays so.
pub(super) fn change_or_begin<C: Collection, T>(
    call: &mut Call<'_, '_>,
    change: impl FnOnce(&mut C) -> (T, bool),
) -> Result<T, Refused> {
    let key = call.arg(1);
    if let Some(spot) = call.keys.find_used(key) {
        return change_at(call, spot, change);
    }
    let mut collection = C::default();
    let (done, _) = change(&mut collection);
    if !collection.is_empty() {
        let entry = Entry::new(call.keys.database(), key, collection.into_value(), None);
        call.keys.insert(key, entry);
    }
    Ok(done)
}

fn change_at<C: Collection, T>(
    call: &mut Call<'_, '_>,
    spot: Spot,
    change: impl FnOnce(&mut C) -> (T, bool),
) -> Result<T, Refused> {
    let key = call.arg(1);
    let (done, is_empty) =
        call.keys.change_if(spot, key, |entry| match entry.value_mut().and_then(C::of_mut) {
            Some(collection) => {
                let (done, changed) = change(collection);
                (Ok((done, collection.is_empty())), changed)
            }
            None => (Err(Refused::WrongType), false),
        })?;
    if is_empty {
        call.keys.discard(spot, key);
    }
    Ok(done)
}

/// How many a command is to take, if it was told.
pub(super) fn count_of(arg: Option<&[u8]>) -> Result<Option<usize>, Refused> {
    let count = |arg| parse_integer(arg).and_then(|count| usize::try_from(count).ok());
    arg.map(|arg| count(arg).ok_or(Refused::NotACount)).transpose()
}

/// The places from `start` to `end`, of so many, both counted from the end if they are negative; empty if there are none.
pub(super) fn part(len: usize, start: i64, end: i64) -> std::ops::Range<usize> {
    let from_start = |index: i64| match usize::try_from(index) {
        Ok(index) => Some(index),
        Err(_) => len.checked_sub(usize::try_from(index.unsigned_abs()).unwrap_or(usize::MAX)),
    };
    let start = from_start(start).unwrap_or(0);
    let end = from_start(end).map_or(0, |end| end.saturating_add(1)).min(len);
    if start < end { start..end } else { 0..0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_counted_from_both_ends_and_end_where_there_is_no_more() {
        for (len, start, end, found) in [
            (3, 0, -1, 0..3),
            (3, 0, 0, 0..1),
            (3, -2, -1, 1..3),
            (3, 1, 99, 1..3),
            (3, -99, 1, 0..2),
            (3, 2, 1, 0..0),
            (3, 3, 3, 0..0),
            (3, 0, -4, 0..0),
            (0, 0, -1, 0..0),
            (3, i64::MIN, i64::MAX, 0..3),
            (3, i64::MAX, i64::MIN, 0..0),
        ] {
            assert_eq!(part(len, start, end), found, "{len} {start} {end}");
        }
    }
}
