//! The requests that make anew what a key holds.

use smallvec::SmallVec;
use xferd_wire::resp::write_double;

use crate::entry::Entry;
use crate::value::Value;

/// Elements of one request, as Redis writes them (`AOF_REWRITE_ITEMS_PER_CMD`).
const ITEMS_MAX: usize = 64;

/// Command, key, and the items, two arguments each at most.
type Request<'a> = SmallVec<[&'a [u8]; 8]>;

/// Tells the arguments of each request that it takes to make `entry` anew, in the database that it is in.
pub(crate) fn rebuild(entry: &Entry, tell: &mut dyn FnMut(&[&[u8]])) {
    let (key, deadline) = (entry.key(), entry.deadline());
    let mut number = itoa::Buffer::new();
    let deadline = deadline.map(|deadline| number.format(deadline).as_bytes());
    if let Some(value) = entry.as_string() {
        return match deadline {
            Some(deadline) => tell(&[b"SET", key, value, b"PXAT", deadline]),
            None => tell(&[b"SET", key, value]),
        };
    }
    match entry.value() {
        Some(Value::List(list)) => batches(b"RPUSH", key, list.items.iter().map(|item| [&**item]), tell),
        Some(Value::Set(set)) => batches(b"SADD", key, set.items.iter().map(|member| [&**member]), tell),
        Some(Value::Hash(hash)) => {
            batches(b"HSET", key, hash.items.iter().map(|(field, value)| [&**field, &**value]), tell);
        }
        Some(Value::SortedSet(set)) => {
            let mut members = set.items.range(0..set.items.len());
            loop {
                let mut scores = Vec::new();
                let batch: SmallVec<[(&[u8], usize); ITEMS_MAX]> = members
                    .by_ref()
                    .take(ITEMS_MAX)
                    .map(|(member, score)| {
                        write_double(score, &mut scores);
                        (member, scores.len())
                    })
                    .collect();
                if batch.is_empty() {
                    break;
                }
                let mut start = 0;
                let pairs = batch.iter().map(|(member, end)| {
                    let score = scores.get(start..*end).unwrap_or_default();
                    start = *end;
                    [score, *member]
                });
                batches(b"ZADD", key, pairs, tell);
            }
        }
        Some(Value::String(_)) | None => {}
    }
    if let Some(deadline) = deadline {
        tell(&[b"PEXPIREAT", key, deadline]);
    }
}

fn batches<'a, const N: usize>(
    command: &'static [u8],
    key: &'a [u8],
    items: impl Iterator<Item = [&'a [u8]; N]>,
    tell: &mut dyn FnMut(&[&[u8]]),
) {
    let mut request: Request<'a> = Request::new();
    for item in items {
        if request.is_empty() {
            request.extend([command, key]);
        }
        request.extend(item);
        if request.len() == 2 + N * ITEMS_MAX {
            tell(&request);
            request.clear();
        }
    }
    if !request.is_empty() {
        tell(&request);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sorted_set::SortedSet;
    use crate::value::{Bytes, Counted};

    fn told(value: Value, deadline: Option<u64>) -> Vec<String> {
        let mut told = Vec::new();
        rebuild(&Entry::new(0, b"k", value, deadline), &mut |args| {
            let words: Vec<_> = args.iter().map(|arg| String::from_utf8_lossy(arg)).collect();
            told.push(words.join(" "));
        });
        told
    }

    fn counted<T: Default>(items: T) -> Counted<T> {
        Counted { items, ..Counted::default() }
    }

    fn bytes(number: usize) -> Bytes {
        number.to_string().into_bytes().into()
    }

    #[test]
    fn each_type_has_its_requests_and_a_deadline_comes_last() {
        assert_eq!(told(Value::String(b"v".to_vec()), None), ["SET k v"]);
        assert_eq!(told(Value::String(b"v".to_vec()), Some(7)), ["SET k v PXAT 7"]);
        let list = Value::List(counted((1..=3).map(bytes).collect()));
        assert_eq!(told(list, Some(7)), ["RPUSH k 1 2 3", "PEXPIREAT k 7"]);
        assert_eq!(told(Value::Set(counted((1..=2).map(bytes).collect())), None), ["SADD k 1 2"]);
        let hash = Value::Hash(counted((1..=2).map(|n| (bytes(n), bytes(n * 10))).collect()));
        assert_eq!(told(hash, None), ["HSET k 1 10 2 20"]);
        let mut set = SortedSet::default();
        for (member, score) in [("a", f64::INFINITY), ("b", 0.1), ("c", -3.0)] {
            set.insert(member.as_bytes(), score);
        }
        assert_eq!(told(Value::SortedSet(counted(set)), None), ["ZADD k -3 c 0.10000000000000001 b inf a"]);
    }

    #[test]
    fn a_request_has_as_many_items_as_the_limit_and_no_more() {
        for (items, requests) in [(0, 0), (1, 1), (ITEMS_MAX, 1), (ITEMS_MAX + 1, 2), (3 * ITEMS_MAX, 3)] {
            let list = Value::List(counted((0..items).map(bytes).collect()));
            let hash = Value::Hash(counted((0..items).map(|n| (bytes(n), bytes(n))).collect()));
            let mut set = SortedSet::default();
            for n in 0..items {
                set.insert(&bytes(n), n as f64);
            }
            for value in [list, hash, Value::SortedSet(counted(set))] {
                assert_eq!(told(value, None).len(), requests, "{items}");
            }
        }
    }
}
