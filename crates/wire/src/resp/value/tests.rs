use super::super::limits::{AGGREGATE_LEN_MAX, BULK_BYTES_MAX, LINE_BYTES_MAX, REPLY_DEPTH_MAX};
use super::*;

type Decoded = (Vec<Value>, Option<ReplyError>);

/// The replies in `stream`, of which `piece` bytes come at a time, and whose ends a scanner finds at the same places.
fn replies(stream: &[u8], piece: usize) -> Decoded {
    let mut decoder = ValueDecoder::new();
    let mut scanner = ReplyScanner::new();
    let mut replies = Vec::new();
    let mut begin = 0;
    let mut end = 0;
    loop {
        let decoded = decoder.decode(&stream[begin..end]);
        let scanned = scanner.scan(&stream[begin..end]);
        assert_eq!(
            decoded.as_ref().map(|decoded| decoded.as_ref().map(|(len, _)| *len)),
            scanned.as_ref().map(|len| *len)
        );
        match decoded {
            Err(error) => return (replies, Some(error)),
            Ok(Some((len, value))) => {
                replies.push(value);
                begin += len;
            }
            Ok(None) if end == stream.len() => return (replies, None),
            Ok(None) => end = (end + piece).min(stream.len()),
        }
    }
}

fn decode(stream: impl AsRef<[u8]>) -> Decoded {
    let stream = stream.as_ref();
    let whole = replies(stream, stream.len().max(1));
    for piece in 1..stream.len().min(20) {
        assert_eq!(format!("{:?}", replies(stream, piece)), format!("{whole:?}"), "in pieces of {piece}");
    }
    whole
}

fn bulk(text: &str) -> Value {
    Value::Bulk(text.as_bytes().to_vec())
}

#[track_caller]
fn check(stream: &str, expected: Value) {
    assert_eq!(decode(stream), (vec![expected], None), "{stream:?}");
}

#[track_caller]
fn refused(stream: impl AsRef<[u8]>, expected: ReplyError) {
    assert_eq!(decode(stream), (vec![], Some(expected)));
}

/// All of `stream` at once: what matters is its length.
fn error_at_once(stream: impl AsRef<[u8]>) -> Option<ReplyError> {
    ReplyScanner::new().scan(stream.as_ref()).err()
}

#[test]
fn each_kind_of_reply_is_understood() {
    use Value::{Array, BigNumber, Boolean, Double, Error, Integer, Map, Null, Push, Set, Simple, Verbatim};
    check("+OK\r\n", Simple(b"OK".to_vec()));
    check("+\r\n", Simple(vec![]));
    check("-ERR no\r\n", Error(b"ERR no".to_vec()));
    check("!4\r\na\r\nb\r\n", Error(b"a\r\nb".to_vec()));
    check(":-42\r\n", Integer(-42));
    check("$4\r\na\r\nb\r\n", bulk("a\r\nb"));
    check("$0\r\n\r\n", bulk(""));
    for null in ["$-1\r\n", "*-1\r\n", "_\r\n"] {
        check(null, Null);
    }
    check(",0.10000000000000001\r\n", Double(0.1));
    check(",-1e+17\r\n", Double(-1e17));
    check(",inf\r\n", Double(f64::INFINITY));
    check(",-inf\r\n", Double(f64::NEG_INFINITY));
    assert!(matches!(decode(",nan\r\n").0[..], [Double(number)] if number.is_nan()));
    check("#t\r\n", Boolean(true));
    check("#f\r\n", Boolean(false));
    check("(-1234567999999999999999999\r\n", BigNumber(b"-1234567999999999999999999".to_vec()));
    check("=6\r\ntxt:hi\r\n", Verbatim { format: *b"txt", text: b"hi".to_vec() });
    check("=4\r\nmkd:\r\n", Verbatim { format: *b"mkd", text: vec![] });
    check("*0\r\n", Array(vec![]));
    check("*2\r\n:1\r\n*1\r\n$1\r\na\r\n", Array(vec![Integer(1), Array(vec![bulk("a")])]));
    check("~1\r\n:1\r\n", Set(vec![Integer(1)]));
    check(">1\r\n:1\r\n", Push(vec![Integer(1)]));
    check("%0\r\n", Map(vec![]));
    let empty_and_full = Map(vec![(Integer(1), Array(vec![])), (Set(vec![]), Integer(2))]);
    check("%2\r\n:1\r\n*0\r\n~0\r\n:2\r\n", empty_and_full);
}

#[test]
fn an_attribute_belongs_to_the_value_behind_it() {
    let stream = "*2\r\n|1\r\n+ttl\r\n:9\r\n$1\r\na\r\n|0\r\n*0\r\n";
    let expected = Value::Array(vec![
        Value::Attributed {
            attributes: vec![(Value::Simple(b"ttl".to_vec()), Value::Integer(9))],
            value: Box::new(bulk("a")),
        },
        Value::Attributed { attributes: vec![], value: Box::new(Value::Array(vec![])) },
    ]);
    check(stream, expected);
    assert_eq!(decode("|1\r\n+ttl\r\n:9\r\n"), (vec![], None), "the value is still to come");
}

#[test]
fn replies_are_the_same_wherever_they_are_cut() {
    let stream = b"+OK\r\n*2\r\n$3\r\na\rb\r\n%1\r\n:1\r\n,1.5\r\n|1\r\n+a\r\n+b\r\n_\r\n>2\r\n+message\r\n$0\r\n\r\n=5\r\ntxt:\n\r\n";
    let whole = replies(stream, stream.len());
    assert_eq!((whole.0.len(), whole.1), (5, None));
    for split in 0..stream.len() {
        let mut decoder = ValueDecoder::new();
        let mut values = Vec::new();
        let mut begin = 0;
        for end in [split, stream.len()] {
            while let Some((len, value)) = decoder.decode(&stream[begin..end]).unwrap() {
                begin += len;
                values.push(value);
            }
        }
        assert_eq!(values, whole.0, "cut at {split}");
    }
}

#[test]
fn what_is_no_reply_is_refused() {
    refused("HTTP/1.1 400 Bad Request\r\n", ReplyError::Kind(b'H'));
    refused("\r\n", ReplyError::Kind(b'\r'));
    refused("*1\r\n;1\r\n", ReplyError::Kind(b';'));
    for line in
        [":", ":a", ":1.5", ":+1", ",", ",a", ",infinity", ",1e", "#", "#true", "_x", "(", "(-", "(1a"]
    {
        refused(format!("{line}\r\n"), ReplyError::Value(line.as_bytes()[0]));
    }
    for line in [
        "$",
        "$-2",
        "$a",
        "$?",
        "!-1",
        "=-1",
        "=3\r\ntxt",
        "=4\r\ntxt-",
        "*-2",
        "*?",
        "~-1",
        "%-1",
        ">-1",
        "|-1",
    ] {
        refused(format!("{line}\r\n"), ReplyError::Value(line.as_bytes()[0]));
    }
    refused("+a\rb\r\n", ReplyError::LineEnd);
    refused("$1\r\nabc\r\n", ReplyError::LineEnd);
}

#[cfg_attr(miri, ignore = "so many bytes take Miri too long")]
#[test]
fn a_line_of_a_reply_may_have_64_kib_and_not_one_more() {
    let line = |len: usize| format!("+{}", "a".repeat(len - 1));
    assert_eq!(error_at_once(line(LINE_BYTES_MAX) + "\r\n"), None);
    assert_eq!(error_at_once(line(LINE_BYTES_MAX + 1) + "\r\n"), Some(ReplyError::LineTooLong));
    assert_eq!(error_at_once(line(LINE_BYTES_MAX)), None);
    assert_eq!(error_at_once(line(LINE_BYTES_MAX + 1)), Some(ReplyError::LineTooLong));
}

#[test]
fn a_string_of_a_reply_may_have_512_mib_and_not_one_more() {
    for kind in ["$", "!", "="] {
        assert_eq!(decode(format!("{kind}{BULK_BYTES_MAX}\r\n")), (vec![], None));
        let bytes = BULK_BYTES_MAX + 1;
        refused(format!("{kind}{bytes}\r\n"), ReplyError::BulkTooLong { bytes });
    }
}

#[test]
fn an_aggregate_may_have_as_many_values_as_redis_announces_and_not_one_more() {
    for kind in ["*", "~", ">", "%", "|"] {
        assert_eq!(decode(format!("{kind}{AGGREGATE_LEN_MAX}\r\n")), (vec![], None));
        let len = AGGREGATE_LEN_MAX + 1;
        refused(format!("{kind}{len}\r\n"), ReplyError::AggregateTooLong { len });
    }
}

#[test]
fn values_may_be_in_each_other_on_32_levels_and_not_one_more() {
    let nested = |depth: usize| "*1\r\n".repeat(depth) + ":1\r\n";
    assert_eq!((decode(nested(REPLY_DEPTH_MAX)).0.len(), decode(nested(REPLY_DEPTH_MAX)).1), (1, None));
    refused(nested(REPLY_DEPTH_MAX + 1), ReplyError::TooDeep);
    refused("*1\r\n".repeat(REPLY_DEPTH_MAX) + "*0\r\n", ReplyError::TooDeep);
    refused("|0\r\n".repeat(REPLY_DEPTH_MAX + 1), ReplyError::TooDeep);
}

#[test]
fn nothing_is_kept_of_a_reply_but_what_has_come() {
    let mut decoder = ValueDecoder::new();
    assert_eq!(decoder.decode(format!("*{AGGREGATE_LEN_MAX}\r\n:1\r\n").as_bytes()), Ok(None));
    let [(_, values)] = &decoder.builder.open[..] else { panic!("an array is open") };
    assert!(values.len() == 1 && values.capacity() < 10);
}
