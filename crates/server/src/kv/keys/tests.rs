use std::sync::mpsc;

use xferd_wire::resp::encode_request;

use super::*;

fn request(args: &[&[u8]]) -> Vec<u8> {
    let mut bytes = Vec::new();
    encode_request(args, &mut bytes);
    bytes
}

#[test]
fn replies_wait_for_the_log_and_so_many_of_them() {
    let (kv, _directory) = Kv::uncommitted();
    let keys = Keys::new(kv.clone(), || {});
    let (send, receive) = mpsc::channel();
    let call = || {
        let send = send.clone();
        keys.call(&request(&[b"INCR", b"k"]), move |replies, result| {
            send.send((replies, result.map_err(|failure| failure.code))).expect("the test waits");
        });
    };
    (0..CALLS_WAITING_MAX).for_each(|_| call());
    assert!(receive.try_recv().is_err(), "nobody is answered before the log is safe");
    call();
    assert_eq!(receive.try_recv(), Ok((Vec::new(), Err(ErrorCode::Busy))));
    kv.commit();
    let answers: Vec<_> = receive.try_iter().collect();
    assert_eq!(answers.len(), CALLS_WAITING_MAX);
    assert_eq!(answers.first(), Some(&(b":1\r\n".to_vec(), Ok(()))));
    assert_eq!(answers.last(), Some(&(b":65536\r\n".to_vec(), Ok(()))));
    call();
    kv.commit();
    assert_eq!(receive.try_recv(), Ok((b":65537\r\n".to_vec(), Ok(()))));
}

#[test]
fn replies_that_wait_have_so_many_bytes_and_no_further_call_is_carried_out() {
    let (kv, _directory) = Kv::uncommitted();
    let keys = Keys::new(kv.clone(), || {});
    let (send, receive) = mpsc::channel();
    let call = |args: &[&[u8]]| {
        let send = send.clone();
        keys.call(&request(args), move |replies, result| {
            send.send((replies.len(), result.map_err(|failure| failure.code))).expect("the test waits");
        });
    };
    let part = vec![b'v'; CALLS_WAITING_BYTES_MAX / 4];
    call(&[b"SET", b"k", &part]);
    (0..4).for_each(|_| call(&[b"GET", b"k"]));
    call(&[b"DEL", b"k"]);
    assert_eq!(receive.try_recv(), Ok((0, Err(ErrorCode::Busy))));
    kv.commit();
    assert_eq!(receive.try_iter().filter(|(_, result)| result.is_ok()).count(), 5);
    call(&[b"EXISTS", b"k"]);
    kv.commit();
    assert_eq!(receive.try_recv(), Ok((4, Ok(()))));
}

#[test]
fn what_is_pushed_comes_behind_the_answers_that_wait() {
    let (kv, _directory) = Kv::uncommitted();
    let (ring, bell) = mpsc::channel();
    let keys = Keys::new(kv.clone(), move || ring.send(()).expect("the test waits"));
    let all = [request(&[b"SUBSCRIBE", b"c"]), request(&[b"INCR", b"k"])].concat();
    let (send, receive) = mpsc::channel();
    keys.call(&all, move |replies, _| send.send(replies).expect("the test waits"));
    kv.channels.publish(b"c", b"m");
    assert!(bell.try_recv().is_ok());
    assert_eq!(keys.pushes(), Pushes { values: Vec::new(), end: None });
    kv.commit();
    assert!(receive.try_recv().is_ok_and(|replies| replies.ends_with(b":1\r\n")));
    assert!(bell.try_recv().is_ok());
    assert!(keys.pushes().values.starts_with(b">3\r\n$7\r\nmessage\r\n"));
}
