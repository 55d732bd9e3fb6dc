//! When replies of two servers say the same.

use xferd_wire::resp::Value;

/// How replies are compared. Errors are always to be the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Rule {
    /// To the byte.
    Exact,
    /// Numbers that are at most so far apart, because time passes.
    Near(i64),
    /// The same number but for its last digits: Redis adds binary fractions of 80 bits, we add decimal ones.
    Float,
    /// The same in whatever order.
    Unordered,
    /// The same pairs in whatever order, behind one another.
    Pairs,
    /// A cursor, and the same in whatever order.
    Scanned,
    /// The same pairs behind a cursor.
    ScannedPairs,
    /// Only what kind of value it is.
    Kind,
    /// But for the number of the connection.
    Hello,
}

impl Rule {
    pub(crate) fn of(args: &[Vec<u8>]) -> Self {
        let lower = |index: usize| args.get(index).map(|arg| arg.to_ascii_lowercase()).unwrap_or_default();
        let (name, word) = (lower(0), lower(1));
        match (name.as_slice(), word.as_slice()) {
            (b"ttl" | b"expiretime", _) => Self::Near(1),
            (b"pttl" | b"pexpiretime", _) => Self::Near(2000),
            (
                b"keys" | b"smembers" | b"sinter" | b"sunion" | b"sdiff" | b"spop" | b"srandmember"
                | b"hkeys" | b"hvals",
                _,
            )
            | (b"pubsub", b"channels") => Self::Unordered,
            (b"incrbyfloat", _) => Self::Float,
            // Keys that INCRBYFLOAT has to itself.
            (b"get", [b'f', _]) => Self::Float,
            (b"hgetall", _) => Self::Pairs,
            (b"sscan", _) => Self::Scanned,
            (b"hscan" | b"zscan", _) => Self::ScannedPairs,
            // Which keys it tells of is looked at where nothing else happens.
            (b"scan" | b"randomkey" | b"time", _)
            | (b"client", b"id")
            | (b"memory", b"usage")
            | (b"command", b"" | b"count" | b"info") => Self::Kind,
            (b"hello", _) => Self::Hello,
            _ => Self::Exact,
        }
    }

    pub(crate) fn holds(self, ours: &Value, theirs: &Value) -> bool {
        if ours == theirs {
            return true;
        }
        match (self, ours, theirs) {
            (Self::Near(most), Value::Integer(ours), Value::Integer(theirs)) => {
                // -1 and -2 are no times.
                *ours >= 0 && *theirs >= 0 && ours.abs_diff(*theirs) <= most.unsigned_abs()
            }
            (Self::Float, Value::Bulk(ours), Value::Bulk(theirs)) => {
                let number = |text: &[u8]| std::str::from_utf8(text).ok()?.parse::<f64>().ok();
                let (Some(ours), Some(theirs)) = (number(ours), number(theirs)) else { return false };
                (ours - theirs).abs() <= 1e-9
            }
            (Self::Unordered, Value::Array(ours), Value::Array(theirs))
            | (Self::Unordered, Value::Set(ours), Value::Set(theirs)) => sorted(ours, 1) == sorted(theirs, 1),
            (Self::Pairs, Value::Array(ours), Value::Array(theirs)) => sorted(ours, 2) == sorted(theirs, 2),
            (Self::Pairs, Value::Map(ours), Value::Map(theirs)) => flat(ours) == flat(theirs),
            (Self::Scanned | Self::ScannedPairs, Value::Array(ours), Value::Array(theirs)) => {
                let by = if self == Self::Scanned { 1 } else { 2 };
                match (ours.as_slice(), theirs.as_slice()) {
                    ([_, Value::Array(ours)], [_, Value::Array(theirs)]) => {
                        sorted(ours, by) == sorted(theirs, by)
                    }
                    _ => false,
                }
            }
            (Self::Kind, Value::Error(_), _) | (Self::Kind, _, Value::Error(_)) => false,
            (Self::Kind, ours, theirs) => std::mem::discriminant(ours) == std::mem::discriminant(theirs),
            (Self::Hello, Value::Array(ours), Value::Array(theirs)) => {
                let but_id = |values: &[Value]| [&values[..7], &values[8..]].concat();
                ours.len() == 14 && theirs.len() == 14 && but_id(ours) == but_id(theirs)
            }
            (Self::Hello, Value::Map(ours), Value::Map(theirs)) => {
                let but_id = |pairs: &[(Value, Value)]| [&pairs[..3], &pairs[4..]].concat();
                ours.len() == 7 && theirs.len() == 7 && but_id(ours) == but_id(theirs)
            }
            _ => false,
        }
    }
}

/// In an order that depends on nothing but what they are, by so many at a time.
fn sorted(values: &[Value], by: usize) -> Vec<String> {
    let mut shown: Vec<String> = values.chunks(by).map(|chunk| format!("{chunk:?}")).collect();
    shown.sort();
    shown
}

fn flat(pairs: &[(Value, Value)]) -> Vec<String> {
    let mut shown: Vec<String> = pairs.iter().map(|pair| format!("{pair:?}")).collect();
    shown.sort();
    shown
}
