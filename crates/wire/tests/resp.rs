//! RESP is what others take it for, however it is cut on its way; and no bytes at all make a parser panic.
#![allow(clippy::unwrap_used)]

mod oracle;

use proptest::collection::vec;
use proptest::prelude::*;
use xferd_wire::resp::{ReplyScanner, RequestParser, RespError, Value, ValueDecoder, encode_request};

type Args = Vec<Vec<u8>>;

fn args() -> impl Strategy<Value = Args> {
    vec(vec(any::<u8>(), 0..30), 1..6)
}

/// Bytes that might be RESP.
fn almost_resp() -> impl Strategy<Value = Vec<u8>> {
    let word = prop_oneof![
        6 => "[*$:+,#_(!=~>%|-][0-9]{1,2}\r\n".prop_map(String::into_bytes),
        2 => Just(b"\r\n".to_vec()),
        1 => "[ -~]{0,4}".prop_map(String::into_bytes),
        1 => vec(any::<u8>(), 0..4),
        1 => "(ping|\"a b\"|'c'|set 1 2)\r?\n".prop_map(String::into_bytes),
        2 => "[*>~%|$]1\r\n".prop_map(String::into_bytes),
    ];
    vec(word, 0..24).prop_map(|words| words.concat())
}

fn value() -> impl Strategy<Value = Value> {
    let line = || "[^\r\n]{0,12}".prop_map(String::into_bytes);
    let bytes = || vec(any::<u8>(), 0..20);
    let format = prop::sample::select(vec![*b"txt", *b"mkd", *b"xyz"]);
    let leaf = prop_oneof![
        Just(Value::Null),
        line().prop_map(Value::Simple),
        bytes().prop_map(Value::Error),
        line().prop_map(Value::Error),
        any::<i64>().prop_map(Value::Integer),
        bytes().prop_map(Value::Bulk),
        any::<f64>().prop_map(Value::Double),
        any::<bool>().prop_map(Value::Boolean),
        "-?[1-9][0-9]{20,40}".prop_map(|digits| Value::BigNumber(digits.into_bytes())),
        (format, bytes()).prop_map(|(format, text)| Value::Verbatim { format, text }),
    ];
    leaf.prop_recursive(4, 40, 5, |value| {
        let pairs = vec((value.clone(), value.clone()), 0..4);
        prop_oneof![
            vec(value.clone(), 0..5).prop_map(Value::Array),
            vec(value.clone(), 0..5).prop_map(Value::Set),
            vec(value.clone(), 0..5).prop_map(Value::Push),
            pairs.clone().prop_map(Value::Map),
            (pairs, value)
                .prop_map(|(attributes, value)| Value::Attributed { attributes, value: Box::new(value) }),
        ]
    })
}

/// The requests in `stream`, which comes in pieces of these lengths, over and over, and what is wrong with the next.
fn requests(stream: &[u8], lens: &[usize]) -> (Vec<(usize, Args)>, Option<RespError>) {
    let mut parser = RequestParser::new();
    let mut requests = Vec::new();
    let mut lens = lens.iter().cycle();
    let (mut begin, mut end) = (0, 0);
    loop {
        match parser.parse(&stream[begin..end]) {
            Err(error) => return (requests, Some(error)),
            Ok(Some(len)) => {
                let args = parser.args(&stream[begin..begin + len]).iter().map(<[u8]>::to_vec).collect();
                requests.push((begin, args));
                begin += len;
            }
            Ok(None) if end == stream.len() => return (requests, None),
            Ok(None) => end = (end + lens.next().unwrap()).min(stream.len()),
        }
    }
}

/// The replies in `stream` with where they begin, and whether the next is wrong.
fn replies(stream: &[u8], lens: &[usize]) -> (Vec<(usize, Value)>, usize, bool) {
    let mut decoder = ValueDecoder::new();
    let mut scanner = ReplyScanner::new();
    let mut replies = Vec::new();
    let mut lens = lens.iter().cycle();
    let (mut begin, mut end) = (0, 0);
    loop {
        let decoded = decoder.decode(&stream[begin..end]);
        let scanned = scanner.scan(&stream[begin..end]);
        match (decoded, scanned) {
            (Err(one), Err(other)) if one == other => return (replies, begin, true),
            (Ok(Some((len, value))), Ok(Some(scanned))) if len == scanned => {
                replies.push((begin, value));
                begin += len;
            }
            (Ok(None), Ok(None)) if end == stream.len() => return (replies, begin, false),
            (Ok(None), Ok(None)) => end = (end + lens.next().unwrap()).min(stream.len()),
            (decoded, scanned) => panic!("{decoded:?} is not {scanned:?}"),
        }
    }
}

proptest! {
    #[test]
    fn requests_come_out_as_they_went_in(sent in vec(args(), 0..5), lens in vec(1..40_usize, 1..5)) {
        let mut stream = Vec::new();
        sent.iter().for_each(|args| encode_request(args, &mut stream));
        let (received, error) = requests(&stream, &lens);
        prop_assert_eq!(error, None);
        for (begin, args) in &received {
            let (theirs, _) = oracle::plain_request(&stream[*begin..]).unwrap();
            prop_assert_eq!(args, &theirs);
        }
        prop_assert_eq!(received.into_iter().map(|(_, args)| args).collect::<Vec<_>>(), sent);
    }

    #[test]
    fn any_bytes_are_the_same_requests_for_the_oracle(stream in almost_resp(), lens in vec(1..8_usize, 1..5)) {
        let (received, error) = requests(&stream, &[stream.len().max(1)]);
        prop_assert_eq!(&requests(&stream, &lens), &(received.clone(), error));
        for (begin, args) in &received {
            if let Some((theirs, _)) = oracle::plain_request(&stream[*begin..]) {
                prop_assert_eq!(args, &theirs);
            }
        }
        let parsed = RequestParser::new().parse(&stream);
        if let Some((_, len)) = oracle::plain_request(&stream) {
            prop_assert_eq!(parsed, Ok(Some(len)));
        }
    }

    #[test]
    fn replies_come_out_as_they_went_in(sent in vec(value(), 0..4), lens in vec(1..40_usize, 1..5)) {
        let mut stream = Vec::new();
        sent.iter().for_each(|value| oracle::write(value, &mut stream));
        let (received, end, is_wrong) = replies(&stream, &lens);
        prop_assert!(end == stream.len() && !is_wrong);
        prop_assert_eq!(received.into_iter().map(|(_, value)| value).collect::<Vec<_>>(), sent);
    }

    #[test]
    fn a_value_is_what_the_oracle_takes_it_for(value in value()) {
        oracle::check_value(&value, b"");
    }

    #[test]
    fn any_bytes_are_the_same_replies_for_the_oracle(stream in almost_resp(), lens in vec(1..8_usize, 1..5)) {
        let whole = replies(&stream, &[stream.len().max(1)]);
        prop_assert_eq!(format!("{:?}", replies(&stream, &lens)), format!("{whole:?}"));
        let (received, end, _) = whole;
        let ends = received.iter().skip(1).map(|(begin, _)| *begin).chain([end]);
        for ((begin, value), end) in received.iter().zip(ends) {
            oracle::check_value(value, &stream[*begin..end]);
        }
    }
}
