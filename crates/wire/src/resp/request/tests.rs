use super::*;
use crate::resp::encode_request;

type Parsed = (Vec<Vec<Vec<u8>>>, Option<RespError>);

/// The requests in `stream`, of which `piece` bytes come at a time.
fn requests(parser: &mut RequestParser, stream: &[u8], piece: usize) -> Parsed {
    let mut requests = Vec::new();
    let mut begin = 0;
    let mut end = 0;
    loop {
        match parser.parse(&stream[begin..end]) {
            Err(error) => return (requests, Some(error)),
            Ok(Some(len)) => {
                let args = parser.args(&stream[begin..begin + len]);
                requests.push(args.iter().map(<[u8]>::to_vec).collect());
                begin += len;
            }
            Ok(None) if end == stream.len() => return (requests, None),
            Ok(None) => end = (end + piece).min(stream.len()),
        }
    }
}

/// What `stream` is, in whatever pieces it comes.
fn parse(stream: &[u8]) -> Parsed {
    let whole = requests(&mut RequestParser::new(), stream, stream.len().max(1));
    for piece in 1..stream.len().min(20) {
        assert_eq!(requests(&mut RequestParser::new(), stream, piece), whole, "in pieces of {piece}");
    }
    whole
}

fn words(line: &str) -> Vec<String> {
    let (mut requests, error) = parse(format!("{line}\r\n").as_bytes());
    assert_eq!((requests.len(), error), (1, None), "{line}");
    requests.remove(0).into_iter().map(|word| String::from_utf8(word).unwrap()).collect()
}

fn error(stream: impl AsRef<[u8]>) -> Option<RespError> {
    parse(stream.as_ref()).1
}

fn reply(stream: impl AsRef<[u8]>) -> String {
    let mut out = Vec::new();
    error(stream).expect("this is no request").write(&mut out);
    String::from_utf8_lossy(&out).into_owned()
}

/// All of `stream` at once: what matters is its length.
fn error_at_once(stream: impl AsRef<[u8]>) -> Option<RespError> {
    RequestParser::new().parse(stream.as_ref()).err()
}

#[test]
fn requests_are_the_same_in_whatever_pieces_they_come() {
    let stream = b"*3\r\n$3\r\nSET\r\n$1\r\na\r\n$12\r\nb\r\nc*1\r\n$1\r\n\r\n\r\nPING\nset 'a b' \"\\x00\"\r\n*0\r\n\r\n*-1\r\n*1\r\n$0\r\n\r\n";
    let (requests, error) = parse(stream);
    let expected: [&[&[u8]]; 8] = [
        &[b"SET", b"a", b"b\r\nc*1\r\n$1\r\n"],
        &[],
        &[b"PING"],
        &[b"set", b"a b", b"\0"],
        &[],
        &[],
        &[],
        &[b""],
    ];
    assert_eq!((requests.len(), error), (8, None));
    for (request, expected) in requests.iter().zip(expected) {
        assert_eq!(request, expected);
    }
    for split in 0..stream.len() {
        let mut parser = RequestParser::new();
        let mut seen = 0;
        let mut begin = 0;
        for end in [split, stream.len()] {
            while let Some(len) = parser.parse(&stream[begin..end]).unwrap() {
                assert_eq!(parser.args(&stream[begin..begin + len]).len(), expected[seen].len());
                begin += len;
                seen += 1;
            }
        }
        assert_eq!((begin, seen), (stream.len(), 8), "cut at {split}");
    }
}

#[test]
fn a_line_is_words_between_blanks() {
    assert_eq!(words("SET key value"), ["SET", "key", "value"]);
    assert_eq!(words(" \t\x0b\x0c a \t b\rc "), ["a", "b", "c"]);
    assert_eq!(words("ping\x0b"), ["ping\x0b"]);
    assert_eq!(words("a\0b \0"), ["a\0b", "\0"]);
    assert_eq!(words("a\\x41"), ["a\\x41"]);
    assert!(words("").is_empty());
    assert!(words("  \t ").is_empty());
}

#[test]
fn quotes_hold_a_word_together_as_redis_does_it() {
    assert_eq!(words(r#"echo "\x41\n\r\t\b\a\\\"\q\xZZ""#), ["echo", "A\n\r\t\x08\x07\\\"qxZZ"]);
    assert_eq!(words(r#"echo "a\x4""#), ["echo", "ax4"]);
    assert_eq!(words(r"echo 'a\nb' 'a\'b'"), ["echo", r"a\nb", "a'b"]);
    assert_eq!(words(r#"a"b c" ''"#), ["ab c", ""]);
    assert_eq!(words("\"\" ping"), ["", "ping"]);
    assert_eq!(words("echo a'b' "), ["echo", "ab"]);
    assert_eq!(words("\"a\"\x0b\"b\""), ["a", "b"]);
}

#[test]
fn quotes_that_do_not_match_are_refused() {
    for line in
        ["a \"b", "a 'b", "a \"b\"c", "a'b'c", "\"", r"'\\'x", r#"a "\"#, r#""a\""#, "'a\\'", "\"a\"\"b\""]
    {
        assert_eq!(error(format!("{line}\r\n")), Some(RespError::UnbalancedQuotes), "{line}");
    }
    assert_eq!(reply("a \"b\r\n"), "-ERR Protocol error: unbalanced quotes in request\r\n");
}

#[test]
fn what_is_no_number_is_refused_as_redis_does_it() {
    let counts = ["a", "", "01", "+1", " 1", "1 ", "-0", "9223372036854775808", "-9223372036854775809"];
    for count in counts {
        assert_eq!(error(format!("*{count}\r\n")), Some(RespError::Count), "{count}");
    }
    for len in ["a", "", "04", "-1", "-2", "-0", "9223372036854775808", "536870912999999999999999"] {
        assert_eq!(error(format!("*1\r\n${len}\r\n")), Some(RespError::BulkLen), "{len}");
    }
    assert_eq!(error("*1\n$4\r\nPING\r\n"), Some(RespError::Count));
    assert_eq!(reply("*a\r\n"), "-ERR Protocol error: invalid multibulk length\r\n");
    assert_eq!(reply("*1\r\n$a\r\n"), "-ERR Protocol error: invalid bulk length\r\n");
}

#[test]
fn arrays_of_nothing_are_skipped() {
    for count in ["0", "-1", "-5", "-9223372036854775808"] {
        let (requests, error) = parse(format!("*{count}\r\nping\r\n").as_bytes());
        assert_eq!((requests, error), (vec![vec![], vec![b"ping".to_vec()]], None));
    }
}

#[test]
fn something_else_than_a_string_is_named() {
    assert_eq!(reply("*1\r\nping\r\n"), "-ERR Protocol error: expected '$', got 'p'\r\n");
    assert_eq!(reply("*1\r\n:4\r\n"), "-ERR Protocol error: expected '$', got ':'\r\n");
    assert_eq!(reply("*1\r\n*1\r\n"), "-ERR Protocol error: expected '$', got '*'\r\n");
    assert_eq!(reply("*1\r\n\r\n"), "-ERR Protocol error: expected '$', got ' '\r\n");
    let mut out = Vec::new();
    error(b"*1\r\n\xff").unwrap().write(&mut out);
    assert_eq!(out, b"-ERR Protocol error: expected '$', got '\xff'\r\n");
}

#[test]
fn nobody_looks_at_the_bytes_behind_an_argument() {
    let (requests, error) = parse(b"*1\rx$4\rxPINGxx*1\r\n$4\r\nPONG\r\n");
    assert_eq!((requests, error), (vec![vec![b"PING".to_vec()], vec![b"PONG".to_vec()]], None));
}

#[cfg_attr(miri, ignore = "so many bytes take Miri too long")]
#[test]
fn a_line_may_have_64_kib_and_not_one_more() {
    let line = |len: usize| "a".repeat(len);
    for (len, expected) in [
        (LINE_BYTES_MAX, None),
        (LINE_BYTES_MAX + 1, Some(RespError::InlineTooBig)),
        (1 << 20, Some(RespError::InlineTooBig)),
    ] {
        assert_eq!(error_at_once(line(len)), expected, "{len} bytes without an end");
        assert_eq!(error_at_once(line(len) + "\n"), expected, "{len} bytes");
        for piece in [1000, LINE_BYTES_MAX] {
            let mut parser = RequestParser::new();
            assert_eq!(requests(&mut parser, (line(len) + "\n").as_bytes(), piece).1, expected);
        }
    }
    assert_eq!(reply(line(LINE_BYTES_MAX + 1)), "-ERR Protocol error: too big inline request\r\n");
}

#[cfg_attr(miri, ignore = "so many bytes take Miri too long")]
#[test]
fn a_number_may_have_64_kib_and_not_one_more() {
    let count = |len: usize| format!("*{}", "1".repeat(len - 1));
    assert_eq!(error_at_once(count(LINE_BYTES_MAX)), None);
    assert_eq!(error_at_once(count(LINE_BYTES_MAX) + "\r\n"), Some(RespError::Count));
    assert_eq!(error_at_once(count(LINE_BYTES_MAX + 1)), Some(RespError::CountTooLong));
    assert_eq!(error_at_once(count(LINE_BYTES_MAX + 1) + "\r\n"), Some(RespError::CountTooLong));
    assert_eq!(reply(count(LINE_BYTES_MAX + 1)), "-ERR Protocol error: too big mbulk count string\r\n");

    let len = |len: usize| format!("*1\r\n${}", "1".repeat(len - 1));
    assert_eq!(error_at_once(len(LINE_BYTES_MAX)), None);
    assert_eq!(error_at_once(len(LINE_BYTES_MAX) + "\r\n"), Some(RespError::BulkLen));
    assert_eq!(error_at_once(len(LINE_BYTES_MAX + 1)), Some(RespError::BulkLenTooLong));
    assert_eq!(reply(len(LINE_BYTES_MAX + 1)), "-ERR Protocol error: too big bulk count string\r\n");
}

#[cfg_attr(miri, ignore = "a million of anything takes Miri too long")]
#[test]
fn a_request_may_have_1048576_arguments_and_not_one_more() {
    let mut parser = RequestParser::new();
    let mut request = Vec::new();
    encode_request(vec!["x"; ARGS_MAX], &mut request);
    assert_eq!(parser.parse(&request), Ok(Some(request.len())));
    let args = parser.args(&request);
    assert_eq!((args.len(), args.iter().all(|arg| arg == b"x")), (ARGS_MAX, true));
    assert_eq!(error(format!("*{}\r\n", ARGS_MAX + 1)), Some(RespError::Count));
    assert_eq!(error("*2147483648\r\n"), Some(RespError::Count));
}

#[test]
fn an_argument_may_have_512_mib_and_not_one_more() {
    assert_eq!(error(format!("*1\r\n${BULK_BYTES_MAX}\r\n")), None);
    assert_eq!(error(format!("*1\r\n${}\r\n", BULK_BYTES_MAX + 1)), Some(RespError::BulkLen));
}

#[cfg_attr(miri, ignore = "Miri has no room for it")]
#[test]
fn a_request_may_have_1_gib_and_not_one_more() {
    // As if as much had come: a test has no room for it.
    let mut parser = RequestParser { at: 4, stage: Stage::BulkLen, args_missing: 9, ..RequestParser::new() };
    let mut at_end = |at: usize| {
        parser.at = at;
        parser.stage = Stage::BulkLen;
        let mut bytes = vec![0; at];
        bytes.extend_from_slice(b"$100\r\n");
        parser.parse(&bytes)
    };
    let header = "$100\r\n".len();
    assert_eq!(at_end(1000), Ok(None));
    let fits = REQUEST_BYTES_MAX - header - 100 - 2;
    assert_eq!(at_end(fits), Ok(None));
    assert_eq!(at_end(fits + 1), Err(RespError::RequestTooBig));
}

#[test]
fn a_stranger_may_send_10_arguments_of_16_kib_and_not_more() {
    let parse = |stream: String| {
        let mut parser = RequestParser::new();
        parser.set_authenticated(false);
        requests(&mut parser, stream.as_bytes(), 7).1
    };
    assert_eq!(parse(format!("*{UNAUTHENTICATED_ARGS_MAX}\r\n")), None);
    let one_more = parse(format!("*{}\r\n", UNAUTHENTICATED_ARGS_MAX + 1));
    assert_eq!(one_more, Some(RespError::UnauthenticatedCount));
    assert_eq!(parse(format!("*{}\r\n", ARGS_MAX + 1)), Some(RespError::Count));
    assert_eq!(parse(format!("*1\r\n${UNAUTHENTICATED_BULK_BYTES_MAX}\r\n")), None);
    let one_more = parse(format!("*1\r\n${}\r\n", UNAUTHENTICATED_BULK_BYTES_MAX + 1));
    assert_eq!(one_more, Some(RespError::UnauthenticatedBulkLen));
    assert_eq!(RespError::UnauthenticatedCount.to_string(), "unauthenticated multibulk length");
    assert_eq!(RespError::UnauthenticatedBulkLen.to_string(), "unauthenticated bulk length");
}

#[test]
fn nothing_is_kept_for_what_is_only_announced() {
    let mut parser = RequestParser::new();
    assert_eq!(parser.parse(format!("*{ARGS_MAX}\r\n${BULK_BYTES_MAX}\r\n").as_bytes()), Ok(None));
    assert_eq!(parser.spans.capacity(), 0);
    assert_eq!(parser.wants(20), WANTED_BYTES_MIN);
    assert_eq!(parser.wants(100_000), 100_000);
    assert_eq!(parser.wants(WANTED_BYTES_MAX + 1), WANTED_BYTES_MAX);
}

#[test]
fn what_is_wanted_is_what_a_request_lacks() {
    let mut parser = RequestParser::new();
    let request = b"*2\r\n$1000\r\n";
    assert_eq!(parser.wants(0), 1);
    assert_eq!(parser.parse(request), Ok(None));
    assert_eq!(parser.wants(request.len()), 1002);
    assert_eq!(parser.wants(request.len() + 1001), 1);
}

#[test]
fn a_parser_gives_back_its_memory_at_rest_and_goes_on() {
    let mut parser = RequestParser::new();
    let mut request = Vec::new();
    encode_request(vec!["x"; 5000], &mut request);
    parser.parse(&request).unwrap();
    assert!(parser.spans.capacity() >= 5000);
    // Also one that never rests keeps no more than it may.
    parser.parse(b"PING\r\n").unwrap();
    assert!(parser.spans.capacity() <= ARGS_KEPT_MAX);
    parser.parse(b"'a b'\r\n").unwrap();
    parser.rest();
    assert_eq!(parser.spans.capacity(), 0);

    assert_eq!(parser.parse(&request[..request.len() / 2]), Ok(None));
    parser.rest();
    assert_eq!(parser.parse(&request), Ok(Some(request.len())));
    assert_eq!(parser.args(&request).len(), 5000);
}

#[test]
fn arguments_can_be_had_one_by_one_and_from_one_on() {
    let mut parser = RequestParser::new();
    let request = b"*3\r\n$3\r\nDEL\r\n$1\r\na\r\n$1\r\nb\r\n";
    assert_eq!(parser.parse(request), Ok(Some(request.len())));
    let args = parser.args(request);
    assert_eq!((&args[2], args.get(2), args.get(3)), (&b"b"[..], Some(&b"b"[..]), None));
    assert_eq!(args.skip(1).iter().collect::<Vec<_>>(), [b"a", b"b"]);
    assert!(args.skip(3).is_empty() && args.skip(4).is_empty());
    assert_eq!(format!("{args:?}"), r#"["DEL", "a", "b"]"#);
    let kept: ArgsBuf = args.iter().collect();
    assert!(kept.args().iter().eq(args.iter()));
}
