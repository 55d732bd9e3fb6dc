//! An independent reader of RESP, crate redis-protocol, to hold ours against. Tests use it, and so does `fuzz/`.

use redis_protocol::resp2::decode::decode as decode_resp2;
use redis_protocol::resp2::types::OwnedFrame as Resp2Frame;
use redis_protocol::resp3::decode::complete::decode as decode_resp3;
use redis_protocol::resp3::types::{FrameMap, OwnedFrame as Frame, Resp3Frame as _, VerbatimStringFormat};
use xferd_wire::resp::{Replies, Value, Version, encode_request};

/// What the oracle takes for a request, and its length, if `bytes` begin with one. They were written by us: the oracle calls
/// itself for each level, however many there are.
pub(crate) fn request(bytes: &[u8]) -> Option<(Vec<Vec<u8>>, usize)> {
    let (Resp2Frame::Array(frames), len) = decode_resp2(bytes).ok()?? else { return None };
    let args = frames.into_iter().map(|frame| match frame {
        Resp2Frame::BulkString(arg) => Some(arg),
        _ => None,
    });
    Some((args.collect::<Option<_>>()?, len))
}

/// The same of any bytes, if the request is spelled as everybody spells it: then there is nothing to disagree about.
pub(crate) fn plain_request(bytes: &[u8]) -> Option<(Vec<Vec<u8>>, usize)> {
    if bytes.iter().filter(|byte| **byte == b'*').count() > 64 {
        return None;
    }
    let (args, len) = request(bytes)?;
    let mut plain = Vec::new();
    encode_request(&args, &mut plain);
    (plain == bytes[..len]).then_some((args, len))
}

/// Holds a value against what the oracle makes of it when it is written in RESP3, and when it is taken as it came.
pub(crate) fn check_value(value: &Value, came_as: &[u8]) {
    let mut written = Vec::new();
    write(value, &mut written);
    let decoded = decode_resp3(&written);
    match &decoded {
        Ok(Some((frame, len))) => {
            assert!(*len == written.len() && agrees(value, frame), "{value:?} is {frame:?}");
        }
        _ => assert!(!is_known(value), "{value:?}: {decoded:?}"),
    }
    if let Ok(Some((frame, len))) = decode_resp3(came_as) {
        assert!(len == came_as.len() && agrees(value, &frame), "{value:?} is {frame:?}");
    }
}

/// Appends `value` in RESP3, in one of the ways in which it may have come.
pub(crate) fn write(value: &Value, out: &mut Vec<u8>) {
    let mut replies = Replies::new(out, Version::Resp3);
    match value {
        Value::Null => replies.null(),
        Value::Simple(text) => replies.raw(&[b"+", &text[..], b"\r\n"].concat()),
        Value::Error(text) if text.contains(&b'\r') || std::str::from_utf8(text).is_err() => {
            replies.raw(&[format!("!{}\r\n", text.len()).as_bytes(), text, b"\r\n"].concat());
        }
        Value::Error(text) => replies.raw(&[b"-", &text[..], b"\r\n"].concat()),
        Value::Integer(number) => replies.integer(*number),
        Value::Bulk(text) => replies.bulk(text),
        Value::Double(number) => replies.double(*number),
        Value::Boolean(value) => replies.boolean(*value),
        Value::BigNumber(digits) => replies.raw(&[b"(", &digits[..], b"\r\n"].concat()),
        Value::Verbatim { format, text } => replies.verbatim(*format, text),
        Value::Array(values) => {
            replies.array(values.len());
            values.iter().for_each(|value| write(value, out));
        }
        Value::Set(values) => {
            replies.set(values.len());
            values.iter().for_each(|value| write(value, out));
        }
        Value::Push(values) => {
            replies.push(values.len());
            values.iter().for_each(|value| write(value, out));
        }
        Value::Map(pairs) => {
            replies.map(pairs.len());
            write_pairs(pairs, out);
        }
        Value::Attributed { attributes, value } => {
            replies.raw(format!("|{}\r\n", attributes.len()).as_bytes());
            write_pairs(attributes, out);
            write(value, out);
        }
    }
}

fn write_pairs(pairs: &[(Value, Value)], out: &mut Vec<u8>) {
    for (key, value) in pairs {
        write(key, out);
        write(value, out);
    }
}

/// Whether both say the same. The oracle forgets the order of maps and sets, and what is in them twice.
fn agrees(value: &Value, frame: &Frame) -> bool {
    let (value, attributes) = match value {
        Value::Attributed { attributes, value } => (&**value, Some(attributes)),
        value => (value, None),
    };
    let same_attributes = match (attributes, frame.attributes()) {
        (None, None) => true,
        (Some(ours), Some(theirs)) => agree_pairs(ours, theirs),
        _ => false,
    };
    same_attributes
        && match (value, frame) {
            (Value::Null, Frame::Null) => true,
            (Value::Simple(ours), Frame::SimpleString { data, .. })
            | (Value::Error(ours), Frame::BlobError { data, .. })
            | (Value::BigNumber(ours), Frame::BigNumber { data, .. })
            | (Value::Bulk(ours), Frame::BlobString { data, .. }) => ours == data,
            (Value::Error(ours), Frame::SimpleError { data, .. }) => ours == data.as_bytes(),
            (Value::Integer(ours), Frame::Number { data, .. }) => ours == data,
            (Value::Double(ours), Frame::Double { data, .. }) => {
                ours == data || ours.is_nan() && data.is_nan()
            }
            (Value::Boolean(ours), Frame::Boolean { data, .. }) => ours == data,
            (Value::Verbatim { format: ours, text }, Frame::VerbatimString { data, format, .. }) => {
                let format = match format {
                    VerbatimStringFormat::Text => b"txt",
                    VerbatimStringFormat::Markdown => b"mkd",
                };
                ours == format && text == data
            }
            (Value::Array(ours), Frame::Array { data, .. })
            | (Value::Push(ours), Frame::Push { data, .. }) => {
                ours.len() == data.len() && ours.iter().zip(data).all(|(ours, theirs)| agrees(ours, theirs))
            }
            (Value::Set(ours), Frame::Set { data, .. }) => {
                ours.len() >= data.len()
                    && data.iter().all(|frame| ours.iter().any(|value| agrees(value, frame)))
            }
            (Value::Map(ours), Frame::Map { data, .. }) => agree_pairs(ours, data),
            _ => false,
        }
}

fn agree_pairs(ours: &[(Value, Value)], theirs: &FrameMap<Frame, Frame>) -> bool {
    let has =
        |key: &Frame, value: &Frame| ours.iter().any(|pair| agrees(&pair.0, key) && agrees(&pair.1, value));
    ours.len() >= theirs.len() && theirs.iter().all(|(key, value)| has(key, value))
}

/// Whether the oracle knows all that is in `value`. It has no aggregates as keys or in sets, no attributes of nulls or of
/// attributes, and two formats of texts.
fn is_known(value: &Value) -> bool {
    let known_pairs =
        |pairs: &[(Value, Value)]| pairs.iter().all(|(key, value)| is_known_key(key) && is_known(value));
    match value {
        Value::Verbatim { format, .. } => matches!(format, b"txt" | b"mkd"),
        Value::Array(values) | Value::Push(values) => values.iter().all(is_known),
        Value::Set(values) => values.iter().all(is_known_key),
        Value::Map(pairs) => known_pairs(pairs),
        Value::Attributed { attributes, value } => {
            let can_have_some = !matches!(**value, Value::Null | Value::Attributed { .. });
            can_have_some && known_pairs(attributes) && is_known(value)
        }
        _ => true,
    }
}

fn is_known_key(value: &Value) -> bool {
    let bare = match value {
        Value::Attributed { value, .. } => value,
        value => value,
    };
    let is_aggregate = matches!(bare, Value::Array(_) | Value::Set(_) | Value::Push(_) | Value::Map(_));
    !is_aggregate && is_known(value)
}
