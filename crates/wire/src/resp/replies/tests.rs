use super::*;

fn written(version: Version, write: impl FnOnce(&mut Replies<'_>)) -> String {
    let mut out = b"before ".to_vec();
    write(&mut Replies::new(&mut out, version));
    String::from_utf8(out.split_off("before ".len())).unwrap()
}

/// What is written in each version.
#[track_caller]
fn check(resp2: &str, resp3: &str, write: impl Fn(&mut Replies<'_>)) {
    assert_eq!(written(Version::Resp2, &write), resp2);
    assert_eq!(written(Version::Resp3, &write), resp3);
}

#[test]
fn each_kind_of_reply_is_written_as_redis_writes_it() {
    check("+OK\r\n", "+OK\r\n", |replies| replies.simple("OK"));
    check("-ERR no\r\n", "-ERR no\r\n", |replies| replies.error("ERR no"));
    check(":-42\r\n", ":-42\r\n", |replies| replies.integer(-42));
    check("$4\r\na\r\nb\r\n", "$4\r\na\r\nb\r\n", |replies| replies.bulk("a\r\nb"));
    check("$0\r\n\r\n", "$0\r\n\r\n", |replies| replies.bulk(""));
    check("$3\r\n-42\r\n", "$3\r\n-42\r\n", |replies| replies.bulk_integer(-42));
    check("$-1\r\n", "_\r\n", |replies| replies.null());
    check("*-1\r\n", "_\r\n", |replies| replies.null_array());
    check("*2\r\n", "*2\r\n", |replies| replies.array(2));
    check("*4\r\n", "%2\r\n", |replies| replies.map(2));
    check("*2\r\n", "~2\r\n", |replies| replies.set(2));
    check("*2\r\n", ">2\r\n", |replies| replies.push(2));
    check("$3\r\n1.5\r\n", ",1.5\r\n", |replies| replies.double(1.5));
    check("$4\r\n-inf\r\n", ",-inf\r\n", |replies| replies.double(f64::NEG_INFINITY));
    check(":1\r\n", "#t\r\n", |replies| replies.boolean(true));
    check(":0\r\n", "#f\r\n", |replies| replies.boolean(false));
    check("$2\r\nhi\r\n", "=6\r\ntxt:hi\r\n", |replies| replies.verbatim(*b"txt", "hi"));
    check("+QUEUED\r\n", "+QUEUED\r\n", |replies| replies.raw(b"+QUEUED\r\n"));
}

#[test]
fn an_error_stays_one_line_whatever_it_says() {
    check("-ERR a  b c\r\n", "-ERR a  b c\r\n", |replies| replies.error("\r\nERR a\r\nb\nc\r\n\n"));
    check("-\r\n", "-\r\n", |replies| replies.error("\r\n"));
}

#[test]
fn what_was_counted_while_it_was_written_is_announced_in_front() {
    check("*3\r\n:1\r\n*0\r\n*2\r\n:2\r\n:3\r\n", "*3\r\n:1\r\n*0\r\n~2\r\n:2\r\n:3\r\n", |replies| {
        let outer = replies.mark();
        replies.integer(1);
        let empty = replies.mark();
        replies.array_at(empty, 0);
        let inner = replies.mark();
        replies.integer(2);
        replies.integer(3);
        replies.set_at(inner, 2);
        replies.array_at(outer, 3);
    });
    check("*2\r\n:1\r\n:2\r\n", "%1\r\n:1\r\n:2\r\n", |replies| {
        let mark = replies.mark();
        replies.integer(1);
        replies.integer(2);
        replies.map_at(mark, 1);
    });
}

#[test]
fn what_was_written_can_be_taken_back() {
    check("+OK\r\n", "+OK\r\n", |replies| {
        replies.simple("OK");
        let mark = replies.mark();
        replies.integer(1);
        replies.truncate(mark);
    });
}
