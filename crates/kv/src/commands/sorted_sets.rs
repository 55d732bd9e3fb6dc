//! Commands on sorted sets.

use std::ops::Range;

use xferd_wire::resp::{Replies, Version, parse_integer};

use super::collections::{change, change_or_begin, count_of, part, read};
use super::{Call, is_word};
use crate::number::{parse_c_float, parse_float};
use crate::refused::Refused;
use crate::sorted_set::SortedSet;
use crate::value::Counted;

type Done = Result<(), Refused>;
type Zset = Counted<SortedSet>;

/// What ZADD is told before scores and members.
#[derive(Clone, Copy, Default)]
struct AddOptions {
    only_if_absent: bool,
    only_if_present: bool,
    only_if_greater: bool,
    only_if_less: bool,
    counts_changed: bool,
    increments: bool,
}

impl AddOptions {
    /// They, and how many words they are.
    fn of(call: &Call<'_, '_>, increments: bool) -> (Self, usize) {
        let mut options = Self { increments, ..Self::default() };
        let words = call.rest(2).iter().take_while(|word| {
            let options = [
                ("nx", &mut options.only_if_absent),
                ("xx", &mut options.only_if_present),
                ("gt", &mut options.only_if_greater),
                ("lt", &mut options.only_if_less),
                ("ch", &mut options.counts_changed),
                ("incr", &mut options.increments),
            ];
            let option = options.into_iter().find(|(name, _)| is_word(word, name));
            option.map(|(_, option)| *option = true).is_some()
        });
        let words = words.count();
        (options, words)
    }

    fn check(self, pairs: usize) -> Done {
        let Self { only_if_absent: nx, only_if_present: xx, only_if_greater: gt, only_if_less: lt, .. } =
            self;
        if nx && xx {
            return Err(Refused::Other("ERR XX and NX options at the same time are not compatible"));
        }
        if (gt && lt) || (nx && (gt || lt)) {
            return Err(Refused::Other("ERR GT, LT, and/or NX options at the same time are not compatible"));
        }
        if self.increments && pairs > 1 {
            return Err(Refused::Other("ERR INCR option supports a single increment-element pair"));
        }
        Ok(())
    }

    /// The score that a member gets, unless the options are against it.
    fn score(self, before: Option<f64>, score: f64) -> Result<Option<f64>, Refused> {
        let Some(before) = before else {
            return Ok((!self.only_if_present).then_some(score));
        };
        if self.only_if_absent {
            return Ok(None);
        }
        let score = if self.increments { before + score } else { score };
        if score.is_nan() {
            return Err(Refused::Other("ERR resulting score is not a number (NaN)"));
        }
        let refused = (self.only_if_greater && score <= before) || (self.only_if_less && score >= before);
        Ok((!refused).then_some(score))
    }
}

/// What ZADD did.
#[derive(Default)]
struct Added {
    added: usize,
    updated: usize,
    /// The score that the last member got.
    score: Option<f64>,
}

pub(super) fn zadd(call: &mut Call<'_, '_>, replies: &mut Replies<'_>) -> Done {
    add(call, replies, false)
}

pub(super) fn zincrby(call: &mut Call<'_, '_>, replies: &mut Replies<'_>) -> Done {
    add(call, replies, true)
}

fn add(call: &mut Call<'_, '_>, replies: &mut Replies<'_>, increments: bool) -> Done {
    let (options, words) = AddOptions::of(call, increments);
    let pairs = call.rest(2 + words);
    if pairs.is_empty() || pairs.len() % 2 != 0 {
        return Err(Refused::Syntax);
    }
    options.check(pairs.len() / 2)?;
    let scores = pairs.iter().step_by(2).map(|score| parse_float(score).ok_or(Refused::NotAFloat));
    let scores = scores.collect::<Result<Vec<f64>, _>>()?;
    let members = pairs.skip(1).iter().step_by(2);
    let added = change_or_begin(call, |set: &mut Zset| {
        let mut done = Added::default();
        for (member, score) in members.zip(scores) {
            let before = set.items.score(member);
            done.score = match options.score(before, score) {
                Ok(score) => score,
                Err(refused) => return (Err(refused), false),
            };
            match (before, done.score) {
                (Some(before), Some(score)) if before != score => done.updated += 1,
                (None, Some(_)) => done.added += 1,
                _ => continue,
            }
            set.insert(member, done.score.unwrap_or(score));
        }
        let changed = done.added + done.updated > 0;
        (Ok(done), changed)
    })??;
    match added.score {
        Some(score) if options.increments => replies.double(score),
        None if options.increments => replies.null(),
        _ if options.counts_changed => replies.integer((added.added + added.updated) as i64),
        _ => replies.integer(added.added as i64),
    }
    Ok(())
}

pub(super) fn zrem(call: &mut Call<'_, '_>, replies: &mut Replies<'_>) -> Done {
    let members = call.rest(2);
    let removed = change(call, |set: &mut Zset| {
        let removed = members.iter().filter(|member| set.remove(member).is_some()).count();
        (removed, removed > 0)
    })?;
    replies.integer(removed.unwrap_or(0) as i64);
    Ok(())
}

pub(super) fn zcard(call: &mut Call<'_, '_>, replies: &mut Replies<'_>) -> Done {
    let set = read::<Zset>(call)?;
    replies.integer(set.map_or(0, |set| set.items.len()) as i64);
    Ok(())
}

pub(super) fn zscore(call: &mut Call<'_, '_>, replies: &mut Replies<'_>) -> Done {
    let member = call.arg(2);
    let set = read::<Zset>(call)?;
    tell_score(set, member, replies);
    Ok(())
}

pub(super) fn zmscore(call: &mut Call<'_, '_>, replies: &mut Replies<'_>) -> Done {
    let members = call.rest(2);
    let set = read::<Zset>(call)?;
    replies.array(members.len());
    members.iter().for_each(|member| tell_score(set, member, replies));
    Ok(())
}

fn tell_score(set: Option<&Zset>, member: &[u8], replies: &mut Replies<'_>) {
    match set.and_then(|set| set.items.score(member)) {
        Some(score) => replies.double(score),
        None => replies.null(),
    }
}

pub(super) fn zrank(call: &mut Call<'_, '_>, replies: &mut Replies<'_>) -> Done {
    tell_rank(call, replies, |rank, _| rank)
}

pub(super) fn zrevrank(call: &mut Call<'_, '_>, replies: &mut Replies<'_>) -> Done {
    tell_rank(call, replies, |rank, len| len - 1 - rank)
}

fn tell_rank(call: &mut Call<'_, '_>, replies: &mut Replies<'_>, of: impl Fn(usize, usize) -> usize) -> Done {
    let member = call.arg(2);
    let set = read::<Zset>(call)?.map(|set| &set.items);
    match set.and_then(|set| Some((set, set.score(member)?))) {
        Some((set, score)) => replies.integer(of(set.rank(score, member), set.len()) as i64),
        None => replies.null(),
    }
    Ok(())
}

pub(super) fn zpopmin(call: &mut Call<'_, '_>, replies: &mut Replies<'_>) -> Done {
    pop(call, replies, false)
}

pub(super) fn zpopmax(call: &mut Call<'_, '_>, replies: &mut Replies<'_>) -> Done {
    pop(call, replies, true)
}

fn pop(call: &mut Call<'_, '_>, replies: &mut Replies<'_>, highest: bool) -> Done {
    if call.args.len() > 3 {
        return Err(Refused::Syntax);
    }
    let count = count_of(call.args.get(2))?;
    let popped = change(call, |set: &mut Zset| {
        let taken = count.unwrap_or(1).min(set.items.len());
        let nests = count.is_some() && replies.version() == Version::Resp3;
        replies.array(if nests { taken } else { 2 * taken });
        for (member, score) in (0..taken).filter_map(|_| set.pop(highest)) {
            if nests {
                replies.array(2);
            }
            replies.bulk(member);
            replies.double(score);
        }
        ((), taken > 0)
    })?;
    if popped.is_none() {
        replies.array(0);
    }
    Ok(())
}

pub(super) fn zcount(call: &mut Call<'_, '_>, replies: &mut Replies<'_>) -> Done {
    let range = Bounds::scores(call.arg(2), call.arg(3))?;
    let set = read::<Zset>(call)?;
    replies.integer(set.map_or(0, |set| range.ranks(&set.items).len()) as i64);
    Ok(())
}

pub(super) fn zrange(call: &mut Call<'_, '_>, replies: &mut Replies<'_>) -> Done {
    tell_range(call, replies, None)
}

pub(super) fn zrangebyscore(call: &mut Call<'_, '_>, replies: &mut Replies<'_>) -> Done {
    tell_range(call, replies, Some(By::Score))
}

/// What ZRANGE tells a range by, unless by rank.
#[derive(Clone, Copy, PartialEq, Eq)]
enum By {
    Score,
    Bytes,
}

/// `by` is what the name of the command says.
fn tell_range(call: &mut Call<'_, '_>, replies: &mut Replies<'_>, by: Option<By>) -> Done {
    let may_say_how = by.is_none();
    let (mut by, mut is_reverse, mut with_scores, mut limit) = (by, false, false, (0, -1));
    let mut words = call.rest(4);
    while let Some(word) = words.get(0) {
        let may_say_by = may_say_how && by.is_none();
        words = words.skip(1);
        if is_word(word, "withscores") {
            with_scores = true;
        } else if is_word(word, "limit") && words.len() >= 2 {
            let number = |index| words.get(index).and_then(parse_integer).ok_or(Refused::NotAnInteger);
            limit = (number(0)?, number(1)?);
            words = words.skip(2);
        } else if is_word(word, "rev") && may_say_how && !is_reverse {
            is_reverse = true;
        } else if is_word(word, "byscore") && may_say_by {
            by = Some(By::Score);
        } else if is_word(word, "bylex") && may_say_by {
            by = Some(By::Bytes);
        } else {
            return Err(Refused::Syntax);
        }
    }
    if limit.1 != -1 && by.is_none() {
        return Err(Refused::Other(
            "ERR syntax error, LIMIT is only supported in combination with either BYSCORE or BYLEX",
        ));
    }
    if with_scores && by == Some(By::Bytes) {
        return Err(Refused::Other("ERR syntax error, WITHSCORES not supported in combination with BYLEX"));
    }
    let (start, end) = (call.arg(2), call.arg(3));
    let (lowest, highest) = if is_reverse { (end, start) } else { (start, end) };
    let bounds = match by {
        None => {
            let number = |arg| parse_integer(arg).ok_or(Refused::NotAnInteger);
            Bounds::Ranks(number(start)?, number(end)?)
        }
        Some(By::Score) => Bounds::scores(lowest, highest)?,
        Some(By::Bytes) => Bounds::bytes(lowest, highest)?,
    };
    let Some(set) = read::<Zset>(call)?.map(|set| &set.items) else {
        replies.array(0);
        return Ok(());
    };
    let ranks = bounds.ranks(set);
    let ranks = match (by, is_reverse) {
        (None, false) => ranks,
        (None, true) => set.len() - ranks.end..set.len() - ranks.start,
        (Some(_), _) => limited(ranks, limit, is_reverse),
    };
    let nests = with_scores && replies.version() == Version::Resp3;
    replies.array(if with_scores && !nests { 2 * ranks.len() } else { ranks.len() });
    let tell = |(member, score): (&[u8], f64)| {
        if nests {
            replies.array(2);
        }
        replies.bulk(member);
        if with_scores {
            replies.double(score);
        }
    };
    let members = set.range(ranks);
    if is_reverse {
        members.rev().for_each(tell)
    } else {
        members.for_each(tell)
    }
    Ok(())
}

/// So many of them, or all if that is negative, behind as many others; none if these are negative.
fn limited(ranks: Range<usize>, (behind, at_most): (i64, i64), is_reverse: bool) -> Range<usize> {
    let behind = usize::try_from(behind).unwrap_or(usize::MAX).min(ranks.len());
    let count = usize::try_from(at_most).unwrap_or(usize::MAX).min(ranks.len() - behind);
    if is_reverse {
        ranks.end - behind - count..ranks.end - behind
    } else {
        ranks.start + behind..ranks.start + behind + count
    }
}

/// From where to where.
enum Bounds<'a> {
    /// From one rank to another, both counted from the end if they are negative.
    Ranks(i64, i64),
    Scores(Bound<f64>, Bound<f64>),
    /// Of a set whose members all have one score: of others it tells any, as Redis.
    Bytes(Edge<'a>, Edge<'a>),
}

#[derive(Clone, Copy)]
struct Bound<T> {
    at: T,
    is_exclusive: bool,
}

#[derive(Clone, Copy)]
enum Edge<'a> {
    Lowest,
    At(Bound<&'a [u8]>),
    Highest,
}

impl<'a> Bounds<'a> {
    fn scores(lowest: &[u8], highest: &[u8]) -> Result<Self, Refused> {
        let bound = |arg: &[u8]| {
            let (arg, is_exclusive) = match arg {
                [b'(', arg @ ..] => (arg, true),
                arg => (arg, false),
            };
            let at = bound_of(arg).ok_or(Refused::Other("ERR min or max is not a float"))?;
            Ok(Bound { at, is_exclusive })
        };
        Ok(Self::Scores(bound(lowest)?, bound(highest)?))
    }

    fn bytes(lowest: &'a [u8], highest: &'a [u8]) -> Result<Self, Refused> {
        let edge = |arg: &'a [u8]| match arg {
            b"-" => Ok(Edge::Lowest),
            b"+" => Ok(Edge::Highest),
            [b'(', at @ ..] => Ok(Edge::At(Bound { at, is_exclusive: true })),
            [b'[', at @ ..] => Ok(Edge::At(Bound { at, is_exclusive: false })),
            _ => Err(Refused::Other("ERR min or max not valid string range item")),
        };
        Ok(Self::Bytes(edge(lowest)?, edge(highest)?))
    }

    /// The ranks of those that are within.
    fn ranks(&self, set: &SortedSet) -> Range<usize> {
        let (start, end) = match self {
            Self::Ranks(start, end) => return part(set.len(), *start, *end),
            Self::Scores(lowest, highest) => (
                set.count_while(|score, _| score < lowest.at || (lowest.is_exclusive && score == lowest.at)),
                set.count_while(|score, _| {
                    score < highest.at || (!highest.is_exclusive && score == highest.at)
                }),
            ),
            Self::Bytes(lowest, highest) => (
                set.count_while(|_, member| lowest.is_behind(member, true)),
                set.count_while(|_, member| highest.is_behind(member, false)),
            ),
        };
        start..end.max(start)
    }
}

impl Edge<'_> {
    /// Whether it is behind a member, or at it and between it and the next: where a range begins, if that excludes it, where one
    /// ends, if that does not.
    fn is_behind(&self, member: &[u8], begins: bool) -> bool {
        match self {
            Self::Lowest => false,
            Self::Highest => true,
            Self::At(Bound { at, is_exclusive }) => {
                member < *at || (member == *at && *is_exclusive == begins)
            }
        }
    }
}

/// A bound as C reads it, if it is a number to the end: none at all is 0, and blanks may be in front of it.
fn bound_of(arg: &[u8]) -> Option<f64> {
    if arg.is_empty() { Some(0.0) } else { parse_c_float(arg.trim_ascii_start()) }
}
